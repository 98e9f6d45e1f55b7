//! One open stream: bytes read go to the core, bytes queued by the core go out.
//!
//! Reads go through the one scratch buffer of the thread, so an idle connection holds none. While the core
//! has no room the stream is not read, but still written. A stream on which nobody registered is read in
//! small bites and no faster than its source may speak: the rest waits at its own end. RFC 3261 §18.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::server::TlsStream;
use wire::net::{Side, Transport};

use crate::counters::Count;
use crate::crowd::Slot;
use crate::event::NetEvent;
use crate::flow::{End, Flow, ToWrite};
use crate::io_thread::{IoThread, reset};
use crate::lanes::{Lane, Place};
use crate::one_alert::Socket;

/// Time for what waits to be sent on a flow that the core closed.
const FLUSH_MAX: Duration = Duration::from_secs(5);
/// Time that the other end has to read our last bytes and close too.
const LINGER_MAX: Duration = Duration::from_secs(1);
/// Bytes of it that are thrown away meanwhile.
const LINGER_BYTES_MAX: usize = 64 * 1024;

/// Bytes read at once where nobody registered: what each of many strangers can make us hold.
const STRANGER_READ_MAX: usize = 4 * 1024;

/// The connection itself.
#[derive(Debug)]
pub(crate) enum Connection {
    /// TCP.
    Plain(TcpStream),
    /// TLS over it.
    Tls(Box<TlsStream<Socket>>),
}

impl Connection {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.get_ref().0.0,
        }
    }

    fn transport(&self) -> Transport {
        match self {
            Self::Plain(_) => Transport::Tcp,
            Self::Tls(_) => Transport::Tls,
        }
    }

    fn into_tcp(self) -> TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.into_inner().0.0,
        }
    }

    /// Moves it to the runtime of this thread. Where that fails it stays where it is, and works: each message then
    /// wakes the other thread first. The move needs a second file descriptor for a moment.
    pub(crate) fn rehome(&mut self) {
        if let Err(error) = self.try_rehome() {
            tracing::debug!(%error, "a connection stays with the thread that accepted it");
        }
    }

    fn try_rehome(&mut self) -> io::Result<()> {
        let tcp = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &mut stream.get_mut().0.0,
        };
        let again = std::net::TcpStream::from(tcp.as_fd().try_clone_to_owned()?);
        *tcp = TcpStream::from_std(again)?;
        Ok(())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}

/// How a stream came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// The other end closed, or the network did.
    Theirs,
    /// We end it.
    Ours(End),
    /// Its source was blocked.
    Blocked,
}

/// A stream with what is under way on it.
pub(crate) struct Stream<T> {
    io: Rc<IoThread<T>>,
    connection: Connection,
    flow: Arc<Flow>,
    side: Side,
    /// None on a connection that we opened.
    slot: Option<Slot>,
    read: Bytes,
    /// Bytes of these that its source has not been charged for.
    owed: usize,
    /// Until its source may speak again.
    pause: Option<Pin<Box<Sleep>>>,
    writing: Bytes,
    unflushed: bool,
    place: Place,
    /// How many events the strangers' lane had had with our last one.
    last_as_stranger: u64,
}

impl<T: Send + 'static> Stream<T> {
    pub(crate) fn new(
        io: Rc<IoThread<T>>,
        connection: Connection,
        flow: Arc<Flow>,
        side: Side,
        slot: Option<Slot>,
    ) -> Self {
        Self {
            io,
            connection,
            flow,
            side,
            slot,
            read: Bytes::new(),
            owed: 0,
            pause: None,
            writing: Bytes::new(),
            unflushed: false,
            place: Place::default(),
            last_as_stranger: 0,
        }
    }

    /// Tells the core of the flow, then carries bytes until it ends.
    pub(crate) async fn run(mut self, opened: NetEvent<T>) {
        let mut opened = Some(opened);
        let ending = poll_fn(|cx| self.poll(cx, &mut opened)).await;
        if opened.is_some() {
            // The core never heard of it.
            self.io.shared.flows.remove(&self.flow.id);
            return reset(self.connection.into_tcp());
        }
        match ending {
            Ending::Ours(End::ByCore) => {
                self.io.close(&self.flow, Lane::Strangers, true).await;
                self.say_goodbye().await;
            }
            Ending::Ours(End::Overflow | End::Evicted) | Ending::Blocked => {
                let lane = self.lane();
                let (io, flow) = (self.io, self.flow);
                reset(self.connection.into_tcp());
                drop(self.slot);
                io.close(&flow, lane, false).await;
            }
            Ending::Theirs => self.end_after_them().await,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, opened: &mut Option<NetEvent<T>>) -> Poll<Ending> {
        if self.flow.is_registered()
            && let Some(slot) = &mut self.slot
        {
            slot.registered();
        }
        if let Poll::Ready(ending) = self.poll_out(cx) {
            return Poll::Ready(ending);
        }
        if opened.is_some() {
            ready!(self.poll_hand_on(cx, || opened.take()));
        }
        self.poll_in(cx)
    }

    /// Writes what the core queued; ready only with an end.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        loop {
            match self.poll_write_all(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Ending::Theirs),
                Poll::Pending => return self.flow.poll_end(cx).map(Ending::Ours),
            }
            match self.flow.poll_next(cx) {
                Poll::Ready(ToWrite::Bytes(bytes)) => self.writing = bytes,
                Poll::Ready(ToWrite::End(end)) => return Poll::Ready(Ending::Ours(end)),
                Poll::Pending => {
                    return match self.poll_flush_all(cx) {
                        Poll::Ready(Err(_)) => Poll::Ready(Ending::Theirs),
                        Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }

    fn poll_write_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.writing.has_remaining() {
            match ready!(self.connection.poll_write(cx, &self.writing))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                many => self.writing.advance(many),
            }
            self.unflushed = true;
        }
        self.writing = Bytes::new();
        Poll::Ready(Ok(()))
    }

    fn poll_flush_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(self.connection.poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and hands on; ready only with an end.
    fn poll_in(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        loop {
            ready!(self.poll_charge(cx));
            ready!(self.poll_hand_on_read(cx));
            let io = Rc::clone(&self.io);
            let mut scratch = io.scratch.borrow_mut();
            let stranger = self.is_strangers();
            let most = if stranger { STRANGER_READ_MAX.min(scratch.len()) } else { scratch.len() };
            let mut buffer = ReadBuf::new(scratch.get_mut(..most).unwrap_or_default());
            match ready!(self.connection.poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => return Poll::Ready(Ending::Theirs),
            }
            let lists = io.shared.lists.load();
            if self.side == Side::Outside && lists.is_blocked_flow(self.flow.source(), self.flow.id) {
                io.shared.counters.add(Count::BlockedStream);
                return Poll::Ready(Ending::Blocked);
            }
            self.read = Bytes::copy_from_slice(buffer.filled());
            self.owed = if stranger { self.read.len() } else { 0 };
        }
    }

    /// Whether nobody registered on it, on the outside.
    fn is_strangers(&self) -> bool {
        self.side == Side::Outside && !self.flow.is_registered()
    }

    /// Charges the source for what was read; ready when it goes on to the core.
    fn poll_charge(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.owed > 0 && self.is_strangers() {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let source = self.flow.source();
            let allowed = self.io.shared.lists.load().is_allowed(source);
            match self.io.rates.admit_stream_bytes(source, self.owed, allowed) {
                Ok(()) => self.owed = 0,
                Err(wait) => {
                    self.pause = Some(Box::pin(sleep(wait)));
                    self.report_excess();
                }
            }
        }
        self.owed = 0;
        self.pause = None;
        Poll::Ready(())
    }

    /// A source that has to wait is one that sends too much.
    fn report_excess(&self) {
        let transport = self.connection.transport();
        if let Ok(local) = self.connection.tcp().local_addr() {
            self.io.refuse(self.flow.remote, transport, local.port());
        }
    }

    fn poll_hand_on_read(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.read.is_empty() {
            return Poll::Ready(());
        }
        let (flow, from) = (self.flow.id, self.flow.remote);
        let mut read = std::mem::take(&mut self.read);
        let outcome =
            self.poll_hand_on(cx, || Some(NetEvent::Bytes { flow, from, bytes: std::mem::take(&mut read) }));
        self.read = read;
        outcome
    }

    fn poll_hand_on(&mut self, cx: &Context<'_>, event: impl FnOnce() -> Option<NetEvent<T>>) -> Poll<()> {
        let lane = self.lane();
        let appended = ready!(self.io.lanes.poll_push(lane, &mut self.place, cx, event));
        if lane == Lane::Strangers {
            self.last_as_stranger = appended;
        }
        Poll::Ready(())
    }

    /// The lane of the flow. A flow that has just registered changes lanes only when the core has been
    /// given its last bytes from the other: its bytes never overtake each other.
    fn lane(&self) -> Lane {
        let preferred = match self.side {
            Side::Inside => true,
            Side::Outside => {
                self.flow.is_registered() && self.io.lanes.strangers_taken() >= self.last_as_stranger
            }
        };
        if preferred { Lane::Registered } else { Lane::Strangers }
    }

    /// Their last bytes go to the core before the news that they are gone.
    async fn end_after_them(mut self) {
        self.io.shared.flows.remove(&self.flow.id);
        poll_fn(|cx| self.poll_hand_on_read(cx)).await;
        let lane = self.lane();
        let (io, flow) = (self.io, self.flow);
        drop(self.connection);
        drop(self.slot);
        io.close(&flow, lane, flow.ended() == Some(End::ByCore)).await;
    }

    /// Sends what was queued before the core closed the flow.
    async fn say_goodbye(mut self) {
        let said = timeout(FLUSH_MAX, poll_fn(|cx| self.poll_goodbye(cx))).await;
        if let Ok(Ok(())) = said {
            linger(self.connection.tcp(), &self.io.scratch).await;
        }
    }

    fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_write_all(cx))?;
            match ready!(self.flow.poll_next(cx)) {
                ToWrite::Bytes(bytes) => self.writing = bytes,
                ToWrite::End(_) => break,
            }
        }
        ready!(self.poll_flush_all(cx))?;
        self.connection.poll_shutdown(cx)
    }
}

/// Closes our direction and reads until the other end has closed too, for a bounded time: a close with
/// unread bytes would be a reset, which may overtake our last bytes.
pub(crate) async fn linger(connection: &TcpStream, scratch: &RefCell<Box<[u8]>>) {
    if socket2::SockRef::from(connection).shutdown(std::net::Shutdown::Write).is_err() {
        return;
    }
    let mut left = LINGER_BYTES_MAX;
    let discard = poll_fn(|cx| poll_discard(connection, &mut scratch.borrow_mut(), &mut left, cx));
    // When the time is over the connection is closed all the same.
    let _closed_either_way = timeout(LINGER_MAX, discard).await;
}

/// Ready when the other end has closed, or has sent more than anybody listens to.
fn poll_discard(
    connection: &TcpStream,
    scratch: &mut [u8],
    left: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<()> {
    loop {
        if ready!(connection.poll_read_ready(cx)).is_err() {
            return Poll::Ready(());
        }
        match connection.try_read(scratch) {
            Ok(0) => return Poll::Ready(()),
            Ok(many) if many >= *left => return Poll::Ready(()),
            Ok(many) => *left -= many,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Poll::Ready(()),
        }
    }
}
