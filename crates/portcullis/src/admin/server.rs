//! The process's side of the admin socket: a thread of its own, so that no flood of packets keeps the
//! operator out and no slow terminal keeps a call waiting.
//!
//! Owns the record of events and the questions under way. Never blocks the core: answers and events come by
//! bounded lanes, and what does not fit is lost here, with a sentence for whoever waits.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use border::command::{Answer, Command};
use border::event::Event;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, SocketAddr};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::protocol::{Asked, EventQuery, Request, Response};
use super::socket::AdminSocket;
use super::view::{self, ProcessFacts};
use super::{CONNECTIONS_MAX, REQUEST_BYTES_MAX};
use crate::clock::Clock;
use crate::log::Log;
use crate::media_shard::SharedCounts;

/// Events that are remembered.
pub const EVENTS_MAX: usize = 10_000;

/// How long the core may take for an answer.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// How long a client may take to finish a request.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// Pause after a failure of `accept`.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a client may take to read an answer.
const WRITE_TIME: Duration = Duration::from_secs(10);

/// Events on their way from the core.
const EVENT_LANE: usize = 4096;

/// Events on their way to one client that follows.
const FOLLOWER_LANE: usize = 1024;

/// What the server needs to know of the process.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Of the node.
    pub name: String,
    /// The clock.
    pub clock: Clock,
    /// `tls 127.0.0.2:5061`, …
    pub listeners: Vec<String>,
    /// What the network counts.
    pub net: Arc<net::Counters>,
    /// What the media plane counts.
    pub media: SharedCounts,
    /// The log, which may lose lines.
    pub log: Log,
}

/// The core's end: where its answers and events go.
#[derive(Clone, Debug)]
pub struct AdminFeed {
    answers: mpsc::Sender<(u64, Answer)>,
    events: mpsc::Sender<Event>,
}

impl AdminFeed {
    /// Hands over the answer to the command of that number.
    pub fn answer(&self, id: u64, answer: Answer) {
        if self.answers.try_send((id, answer)).is_err() {
            tracing::debug!(id, "nobody waits for this answer any more");
        }
    }

    /// Records an event; false where the lane is full and it is lost to the record.
    pub fn event(&self, event: Event) -> bool {
        self.events.try_send(event).is_ok()
    }
}

/// The server's end of the lanes.
#[derive(Debug)]
pub struct AdminLanes {
    answers: mpsc::Receiver<(u64, Answer)>,
    events: mpsc::Receiver<Event>,
}

/// Makes the lanes between core and server, before either runs.
pub fn lanes() -> (AdminFeed, AdminLanes) {
    // One answer under way for each connection, and room for those that came too late.
    let (answers, answers_in) = mpsc::channel(4 * CONNECTIONS_MAX);
    let (events, events_in) = mpsc::channel(EVENT_LANE);
    (AdminFeed { answers, events }, AdminLanes { answers: answers_in, events: events_in })
}

/// Hands a command to the core; false where it has no room for one now.
pub type Submit = Box<dyn Fn(u64, Command) -> bool + Send>;

/// Starts the thread. It ends with the process; the file of the socket stays the caller's to take away.
pub fn start(
    socket: &AdminSocket,
    lanes: AdminLanes,
    config: ServerConfig,
    submit: Submit,
) -> io::Result<()> {
    let listener = socket.listener.try_clone()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        let served = LocalSet::new().block_on(&runtime, serve(listener, lanes, config, submit));
        if let Err(error) = served {
            tracing::error!(%error, "the admin socket is closed");
        }
    })?;
    Ok(())
}

struct Server {
    config: ServerConfig,
    submit: Submit,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// The newest last.
    events: VecDeque<Event>,
    followers: Vec<(EventQuery, mpsc::Sender<Value>)>,
    /// Questions under way, by number.
    asked: BTreeMap<u64, oneshot::Sender<Answer>>,
    last_id: u64,
    connections: usize,
    /// A descriptor for the next operator, where no other is left.
    spare: Option<OwnedFd>,
}

async fn serve(
    listener: std::os::unix::net::UnixListener,
    lanes: AdminLanes,
    config: ServerConfig,
    submit: Submit,
) -> io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let state = RefCell::new(State { spare: Some(any_descriptor()?), ..State::default() });
    let server = Rc::new(Server { config, submit, state });
    tokio::task::spawn_local(Rc::clone(&server).take_answers(lanes.answers));
    tokio::task::spawn_local(Rc::clone(&server).record_events(lanes.events));
    loop {
        let accepted = match listener.accept().await {
            Err(error) => server.accept_by_the_spare(&listener).await.ok_or(error),
            accepted => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                tokio::task::spawn_local(Rc::clone(&server).connection(stream));
            }
            // Out of file descriptors, most likely: it passes.
            Err(error) => {
                tracing::debug!(%error, "no operator could be let in");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Server {
    /// Lets in an operator who waits, by the descriptor that is held back. The kernel says that there is none left
    /// before it looks whether somebody waits: where nobody does, it is held back again.
    async fn accept_by_the_spare(&self, listener: &UnixListener) -> Option<(UnixStream, SocketAddr)> {
        drop(self.state.borrow_mut().spare.take()?);
        let waiting = poll_fn(|cx| Poll::Ready(listener.poll_accept(cx))).await;
        if let Poll::Ready(Ok(accepted)) = waiting {
            return Some(accepted);
        }
        self.state.borrow_mut().spare = any_descriptor().ok();
        None
    }

    async fn take_answers(self: Rc<Self>, mut answers: mpsc::Receiver<(u64, Answer)>) {
        while let Some((id, answer)) = answers.recv().await {
            let waiting = self.state.borrow_mut().asked.remove(&id);
            // Whoever asked may have gone.
            if waiting.is_none_or(|waiting| waiting.send(answer).is_err()) {
                tracing::debug!(id, "an answer came too late");
            }
        }
    }

    async fn record_events(self: Rc<Self>, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            let mut state = self.state.borrow_mut();
            // A follower that does not read is let go: its connection ends.
            state.followers.retain(|(query, follower)| {
                !wanted(&event, *query, self.config.clock) || follower.try_send(view::event(&event)).is_ok()
            });
            if state.events.len() == EVENTS_MAX {
                state.events.pop_front();
            }
            state.events.push_back(event);
        }
    }

    async fn connection(self: Rc<Self>, stream: UnixStream) {
        let admitted = {
            let mut state = self.state.borrow_mut();
            state.connections += 1;
            state.connections <= CONNECTIONS_MAX
        };
        let (mut read, mut write) = stream.into_split();
        let ended = if admitted {
            self.converse(&mut read, &mut write).await
        } else {
            let text = format!("{CONNECTIONS_MAX} others are connected already: try again later");
            send(&mut write, &Response::Refused(text)).await
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "an operator's connection ended");
        }
        let mut state = self.state.borrow_mut();
        state.connections -= 1;
        if state.spare.is_none() {
            state.spare = ended_connection(read, write);
        }
    }

    /// Answers one request after the other until the client goes.
    async fn converse(&self, read: &mut OwnedReadHalf, write: &mut OwnedWriteHalf) -> io::Result<()> {
        let mut lines = BufReader::new(read);
        while let Some(line) = timeout(REQUEST_TIME, read_line(&mut lines)).await?? {
            let response = match serde_json::from_slice::<Request>(&line) {
                Err(error) => Response::Refused(format!("this request is not understood: {error}")),
                Ok(request) => {
                    if request.changes() {
                        tracing::info!(?request, "an operator changes the lists");
                    }
                    match request.resolve() {
                        Err(why) => Response::Refused(why),
                        Ok(Asked::Events(query)) if query.follow => return self.follow(query, write).await,
                        Ok(Asked::Events(query)) => Response::Rows(self.recorded(query)),
                        Ok(Asked::Border(command)) => self.ask(command).await,
                    }
                }
            };
            send(write, &response).await?;
        }
        Ok(())
    }

    /// Asks the core and waits for it, but not for ever.
    async fn ask(&self, command: Command) -> Response {
        let (answer, answered) = oneshot::channel();
        let id = {
            let mut state = self.state.borrow_mut();
            state.last_id += 1;
            let id = state.last_id;
            state.asked.insert(id, answer);
            id
        };
        let response = if (self.submit)(id, command) {
            match timeout(ANSWER_TIME, answered).await {
                Ok(Ok(answer)) => self.respond(&answer),
                _ => Response::Refused("the border did not answer within 2 s: it is overloaded".to_owned()),
            }
        } else {
            Response::Refused("the border takes no command now: it is overloaded".to_owned())
        };
        self.state.borrow_mut().asked.remove(&id);
        response
    }

    fn respond(&self, answer: &Answer) -> Response {
        let uptime = Duration::from_nanos(self.config.clock.mono().as_nanos());
        let ServerConfig { name, listeners, net, media, log, .. } = &self.config;
        let (media, log_lines_lost, memory_bytes) = (media.read(), log.lost(), resident_bytes());
        let facts = ProcessFacts { name, uptime, listeners, memory_bytes, net, media, log_lines_lost };
        view::response(answer, facts)
    }

    fn recorded(&self, query: EventQuery) -> Vec<Value> {
        let state = self.state.borrow();
        let recorded = state.events.iter().filter(|event| wanted(event, query, self.config.clock));
        recorded.map(view::event).collect()
    }

    /// Sends what is recorded, then what happens, until the client goes or does not keep up.
    async fn follow(&self, query: EventQuery, write: &mut OwnedWriteHalf) -> io::Result<()> {
        let (follower, mut happening) = mpsc::channel(FOLLOWER_LANE);
        let recorded = self.recorded(query);
        self.state.borrow_mut().followers.push((EventQuery { since: None, ..query }, follower));
        for row in recorded {
            send(write, &Response::Row(row)).await?;
        }
        while let Some(row) = happening.recv().await {
            send(write, &Response::Row(row)).await?;
        }
        Ok(())
    }
}

/// Whether an event is among those asked for.
fn wanted(event: &Event, query: EventQuery, clock: Clock) -> bool {
    let recent = query.since.is_none_or(|since| clock.wall().since(event.time) <= since);
    recent && query.code.is_none_or(|code| code == event.code)
}

/// One line; none at the end. A longer one than allowed is an error.
async fn read_line(lines: &mut BufReader<&mut OwnedReadHalf>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let limit = u64::try_from(REQUEST_BYTES_MAX).unwrap_or(u64::MAX);
    lines.take(limit).read_until(b'\n', &mut line).await?;
    match line.last() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "a request is too long or cut off")),
    }
}

async fn send(write: &mut OwnedWriteHalf, response: &Response) -> io::Result<()> {
    let mut line = serde_json::to_vec(response)?;
    line.push(b'\n');
    timeout(WRITE_TIME, write.write_all(&line)).await?
}

/// Resident memory of this process; 0 where the kernel does not say.
fn resident_bytes() -> u64 {
    // Linux gives pages; 4 KiB is the page of every machine this runs on.
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default().saturating_mul(4096)
}
fn any_descriptor() -> io::Result<OwnedFd> {
    Ok(OwnedFd::from(File::open("/dev/null")?))
}

/// The descriptor of a connection, ended for the other end but not given back: another thread would have it first.
fn ended_connection(read: OwnedReadHalf, write: OwnedWriteHalf) -> Option<OwnedFd> {
    let stream = read.reunite(write).ok()?.into_std().ok()?;
    stream.shutdown(Shutdown::Both).ok()?;
    Some(OwnedFd::from(stream))
}
