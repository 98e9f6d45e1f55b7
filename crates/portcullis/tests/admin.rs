//! The admin socket over a real one: answers, events, and what a client cannot do to the process.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use border::command::{Answer, Command, StatusView};
use border::event::{Code, Event, Severity};
use portcullis::admin::client::{Client, ClientError, ask, running_listeners};
use portcullis::admin::protocol::{Request, Response};
use portcullis::admin::server::{AdminFeed, EVENTS_MAX, ServerConfig, lanes, start};
use portcullis::admin::socket::{AdminSocket, SocketError};
use portcullis::admin::{CONNECTIONS_MAX, REQUEST_BYTES_MAX};
use portcullis::clock::Clock;
use portcullis::config::file::LogFormat;
use portcullis::log::LogThread;

struct Server {
    _socket: AdminSocket,
    path: PathBuf,
    feed: AdminFeed,
    clock: Clock,
    asked: mpsc::Receiver<(u64, Command)>,
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("admin").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    folder
}

/// A server whose core is the test itself.
fn server(name: &str) -> Server {
    let path = folder(name).join("admin.sock");
    let socket = AdminSocket::bind(&path).unwrap();
    let clock = Clock::start();
    let (feed, admin_lanes) = lanes();
    let (asks, asked) = mpsc::channel();
    let log = LogThread::start(std::io::sink(), clock, LogFormat::Text).unwrap().log();
    let config = ServerConfig {
        name: "lab".to_owned(),
        clock,
        listeners: vec!["tls 127.0.0.2:5061".to_owned()],
        net: Default::default(),
        media: Default::default(),
        log,
    };
    let submit = Box::new(move |id, command| asks.send((id, command)).is_ok());
    start(&socket, admin_lanes, config, submit).unwrap();
    Server { _socket: socket, path, feed, clock, asked }
}

impl Server {
    /// Answers the next command as the core would.
    fn answer(&self, answer: Answer) -> Command {
        let (id, command) = self.asked.recv_timeout(Duration::from_secs(10)).unwrap();
        self.feed.answer(id, answer);
        command
    }

    fn event(&self, code: Code, text: &str) -> Event {
        Event {
            time: self.clock.wall(),
            code,
            severity: Severity::Info,
            source: None,
            extension: None,
            hardware_id: None,
            rule: None,
            text: text.to_owned(),
            next_step: String::new(),
        }
    }

    fn events(&self, code: Option<&str>) -> Vec<String> {
        let request = Request::Events { follow: false, since_s: Some(600), code: code.map(str::to_owned) };
        let Response::Rows(rows) = ask(&self.path, &request).unwrap() else { panic!("no rows") };
        rows.iter().map(|row| row["text"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until the record holds that many events.
    fn wait_for_events(&self, count: usize) -> Vec<String> {
        let until = self.clock.mono() + Duration::from_secs(10);
        loop {
            let events = self.events(None);
            if events.len() >= count {
                return events;
            }
            assert!(self.clock.mono() < until, "{} of {count} events came", events.len());
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_question_reaches_the_core_and_its_answer_comes_back() {
    let server = server("question");
    let path = server.path.clone();
    let asking = std::thread::spawn(move || ask(&path, &Request::Status).unwrap());
    let view = StatusView { calls: 3, ..StatusView::default() };
    assert_eq!(server.answer(Answer::Status(view)), Command::Status);
    let Response::Object(status) = asking.join().unwrap() else { panic!("no object") };
    assert_eq!((&status["calls"], &status["name"]), (&3.into(), &"lab".into()));
    assert_eq!(status["listeners"][0], "tls 127.0.0.2:5061");
    assert!(status["memory_bytes"].as_u64().unwrap() > 0);
}

#[test]
fn a_running_instance_names_its_listeners_and_an_absent_one_none() {
    let server = server("listeners");
    let path = server.path.clone();
    let asking = std::thread::spawn(move || running_listeners(&path));
    server.answer(Answer::Status(StatusView::default()));
    assert_eq!(asking.join().unwrap(), Some(vec!["tls 127.0.0.2:5061".to_owned()]));
    assert_eq!(running_listeners(Path::new("none.sock")), Some(Vec::new()));
}

#[test]
fn orders_are_read_before_they_reach_the_core() {
    let server = server("orders");
    let request = |address: &str| Request::BlockAdd {
        address: address.to_owned(),
        for_ms: Some(300_000),
        why: "scan".to_owned(),
        force: false,
    };
    let refused = ask(&server.path, &request("nonsense")).unwrap();
    assert!(matches!(refused, Response::Refused(text) if text.contains("nonsense")));
    let path = server.path.clone();
    let asking = std::thread::spawn(move || ask(&path, &request("192.0.2.0/24")).unwrap());
    let command = server.answer(Answer::Done("done".to_owned()));
    assert_eq!(
        command,
        Command::BlockAdd {
            prefix: "192.0.2.0/24".parse().unwrap(),
            time: Some(Duration::from_secs(300)),
            why: "scan".to_owned(),
            force: false,
        }
    );
    assert_eq!(asking.join().unwrap(), Response::Done("done".to_owned()));
}

#[test]
fn a_core_that_does_not_answer_is_said_to_be_overloaded() {
    let server = server("silent");
    let answer = ask(&server.path, &Request::Calls).unwrap();
    assert!(matches!(answer, Response::Refused(text) if text.contains("within 2 s")));
    // An answer that comes too late goes to nobody: the next question gets its own.
    let (late, _) = server.asked.recv_timeout(Duration::from_secs(10)).unwrap();
    server.feed.answer(late, Answer::Done("late".to_owned()));
    let path = server.path.clone();
    let asking = std::thread::spawn(move || ask(&path, &Request::Calls).unwrap());
    server.answer(Answer::Calls(Vec::new()));
    assert_eq!(asking.join().unwrap(), Response::Rows(Vec::new()));
}

#[test]
fn events_are_kept_in_order_and_found_by_code() {
    let server = server("events");
    for (code, text) in [(Code::Registered, "a"), (Code::Blocked, "b"), (Code::Registered, "c")] {
        assert!(server.feed.event(server.event(code, text)));
    }
    assert_eq!(server.wait_for_events(3), ["a", "b", "c"]);
    assert_eq!(server.events(Some("registered")), ["a", "c"]);
    let typo = Request::Events { follow: false, since_s: None, code: Some("registerd".to_owned()) };
    let refused = ask(&server.path, &typo).unwrap();
    assert!(matches!(refused, Response::Refused(text) if text.contains("did you mean `registered`")));
}

#[test]
fn only_the_last_ten_thousand_events_are_kept() {
    let server = server("ring");
    for number in 0..=EVENTS_MAX {
        let event = server.event(Code::Registered, &number.to_string());
        while !server.feed.event(event.clone()) {
            std::thread::yield_now();
        }
    }
    let until = server.clock.mono() + Duration::from_secs(30);
    let kept = loop {
        let kept = server.wait_for_events(EVENTS_MAX);
        if kept.last().is_some_and(|last| *last == EVENTS_MAX.to_string()) {
            break kept;
        }
        assert!(server.clock.mono() < until, "the last event never came");
    };
    assert_eq!((kept.len(), kept[0].as_str()), (EVENTS_MAX, "1"));
}

#[test]
fn who_follows_hears_what_was_and_what_comes() {
    let server = server("follow");
    assert!(server.feed.event(server.event(Code::Blocked, "before")));
    server.wait_for_events(1);
    let mut client = Client::connect(&server.path).unwrap();
    client.send(&Request::Events { follow: true, since_s: None, code: Some("blocked".to_owned()) }).unwrap();
    let next = |client: &mut Client| match client.receive().unwrap() {
        Some(Response::Row(row)) => row["text"].as_str().unwrap().to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(next(&mut client), "before");
    assert!(server.feed.event(server.event(Code::Registered, "other")));
    assert!(server.feed.event(server.event(Code::Blocked, "after")));
    assert_eq!(next(&mut client), "after");
}

#[test]
fn garbage_and_endless_lines_end_one_connection_and_nothing_else() {
    let server = server("garbage");
    let mut stream = UnixStream::connect(&server.path).unwrap();
    stream.write_all(b"{\"verb\":\"explode\"}\n").unwrap();
    let mut line = String::new();
    BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("is not understood"), "{line}");
    // The server may close in the middle of the line.
    let _refused_or_not = stream.write_all(&vec![b'x'; REQUEST_BYTES_MAX + 1]);
    let mut rest = Vec::new();
    let _reset_or_not = stream.read_to_end(&mut rest);
    assert_eq!(rest, b"");
    assert_eq!(server.events(None), Vec::<String>::new());
}

#[test]
fn one_connection_too_many_is_told_so() {
    let server = server("crowd");
    let held: Vec<Client> = (0..CONNECTIONS_MAX)
        .map(|_| {
            let mut client = Client::connect(&server.path).unwrap();
            client.send(&Request::Events { follow: true, since_s: None, code: None }).unwrap();
            client
        })
        .collect();
    // The server takes connections in their order.
    let refused = ask(&server.path, &Request::Status);
    let told = match &refused {
        Ok(Response::Refused(text)) => text.contains("try again later"),
        // It had closed before the question was written.
        Err(ClientError::Broken { .. }) => true,
        _ => false,
    };
    assert!(told, "{refused:?}");
    drop(held);
}

#[test]
fn the_socket_is_its_owners_alone_and_goes_with_it() {
    let path = folder("mode").join("run").join("admin.sock");
    let socket = AdminSocket::bind(&path).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o750);
    drop(socket);
    assert!(!path.exists());
}

#[test]
fn a_dead_socket_is_replaced_and_everything_else_is_respected() {
    let folder = folder("replaced");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("admin.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a listener that ends leaves its file");
    let socket = AdminSocket::bind(&path).unwrap();
    assert!(matches!(AdminSocket::bind(&path), Err(SocketError::Alive(_))));
    drop(socket);
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(AdminSocket::bind(&path), Err(SocketError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_socket_that_another_instance_put_there_is_not_taken_away() {
    let path = folder("foreign").join("admin.sock");
    let first = AdminSocket::bind(&path).unwrap();
    // Somebody took the file away, and so another instance could start.
    std::fs::remove_file(&path).unwrap();
    let second = AdminSocket::bind(&path).unwrap();
    drop(first);
    UnixStream::connect(&path).unwrap();
    drop(second);
    assert!(!path.exists());
}

#[test]
fn of_two_that_start_at_once_one_is_refused() {
    let path = folder("race").join("admin.sock");
    let start = std::sync::Barrier::new(2);
    for _ in 0..50 {
        let bind = || {
            start.wait();
            AdminSocket::bind(&path)
        };
        let bound = std::thread::scope(|scope| {
            let threads = [scope.spawn(bind), scope.spawn(bind)];
            threads.map(|thread| thread.join().unwrap())
        });
        let refused = bound.iter().filter(|bound| matches!(bound, Err(SocketError::Alive(_)))).count();
        assert_eq!((refused, bound.iter().filter(|bound| bound.is_ok()).count()), (1, 1), "{bound:?}");
    }
}

#[test]
fn a_start_that_was_cut_short_leaves_nothing_in_the_way() {
    let folder = folder("cut_short");
    let path = folder.join("admin.sock");
    let nursery = folder.join("admin.sock.new");
    std::fs::create_dir_all(&nursery).unwrap();
    drop(UnixListener::bind(nursery.join("s")).unwrap());
    let socket = AdminSocket::bind(&path).unwrap();
    assert!(!nursery.exists());
    UnixStream::connect(&path).unwrap();
    drop(socket);
}

#[test]
fn an_absent_instance_is_said_to_be_absent() {
    let path = folder("absent").join("admin.sock");
    let error = ask(&path, &Request::Status).unwrap_err();
    assert!(matches!(error, ClientError::NotRunning(_)));
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
}
