//! The table of streams that the core can write to, and the bounded queue of each.
//!
//! The core appends and wakes the flow's task; the task alone writes to the socket. A peer that reads
//! too slowly fills its own queue and is closed: nobody else waits for it.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use dashmap::DashMap;
use wire::net::FlowId;

/// Bytes that wait for one slow peer before its flow is closed.
pub(crate) const QUEUE_BYTES_MAX: usize = 256 * 1024;

/// What a chunk counts for at least: it costs a queue place and an allocation, however few bytes it has.
const CHUNK_BYTES_MIN: usize = 128;

/// Every stream, by its number. The one table that two threads write: the doors insert the streams that come
/// in, the core's thread those that the border opens; it looks up and removes.
pub(crate) type FlowTable = DashMap<FlowId, Arc<Flow>>;

/// What the core, the doors and the task of one stream share.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) id: FlowId,
    pub(crate) remote: SocketAddr,
    registered: AtomicBool,
    queue: Mutex<SendQueue>,
}

#[derive(Debug, Default)]
struct SendQueue {
    chunks: VecDeque<Bytes>,
    /// What the chunks count for together.
    bytes: usize,
    end: Option<End>,
    waker: Option<Waker>,
}

/// Why a flow ends from our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The core closes it, after what was sent; it need not hear of it again.
    ByCore,
    /// Its peer reads too slowly.
    Overflow,
    /// It makes room for newer connections.
    Evicted,
}

/// What became of bytes for a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queued {
    /// They wait for the socket.
    Accepted,
    /// The flow is ending already.
    Ended,
    /// They were too many, and the flow ends for it.
    Overflow,
}

/// What the task of a flow has to write next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ToWrite {
    /// These bytes.
    Bytes(Bytes),
    /// Nothing more, ever.
    End(End),
}

impl Flow {
    pub(crate) fn new(id: FlowId, remote: SocketAddr) -> Self {
        Self { id, remote, registered: AtomicBool::new(false), queue: Mutex::default() }
    }

    pub(crate) fn source(&self) -> IpAddr {
        self.remote.ip()
    }

    pub(crate) fn send(&self, bytes: Bytes) -> Queued {
        let mut queue = self.lock();
        if queue.end.is_some() {
            return Queued::Ended;
        }
        let charge = charge(&bytes);
        let outcome = if queue.bytes.saturating_add(charge) > QUEUE_BYTES_MAX {
            queue.end = Some(End::Overflow);
            queue.drop_chunks();
            Queued::Overflow
        } else {
            queue.bytes += charge;
            queue.chunks.push_back(bytes);
            Queued::Accepted
        };
        wake(queue);
        outcome
    }

    /// Ends the flow: at once, but for [`End::ByCore`], which lets go first what was sent. The first end
    /// stands.
    pub(crate) fn end(&self, end: End) {
        let mut queue = self.lock();
        if queue.end.is_none() {
            queue.end = Some(end);
            if end != End::ByCore {
                queue.drop_chunks();
            }
        }
        wake(queue);
    }

    pub(crate) fn ended(&self) -> Option<End> {
        self.lock().end
    }

    /// Its bytes take the lane of registered flows from now on.
    pub(crate) fn register(&self) {
        if !self.registered.swap(true, Ordering::Release) {
            wake(self.lock());
        }
    }

    pub(crate) fn is_registered(&self) -> bool {
        self.registered.load(Ordering::Acquire)
    }

    /// The next bytes for the socket, or the end; wakes the task when there is either.
    pub(crate) fn poll_next(&self, cx: &Context<'_>) -> Poll<ToWrite> {
        let mut queue = self.lock();
        if let Some(bytes) = queue.chunks.pop_front() {
            queue.bytes -= charge(&bytes);
            if queue.chunks.is_empty() {
                // An idle flow holds no buffer.
                queue.chunks = VecDeque::new();
            }
            return Poll::Ready(ToWrite::Bytes(bytes));
        }
        if let Some(end) = queue.end {
            return Poll::Ready(ToWrite::End(end));
        }
        queue.wait(cx);
        Poll::Pending
    }

    /// Ready when the flow is to end, whatever waits to be sent.
    pub(crate) fn poll_end(&self, cx: &Context<'_>) -> Poll<End> {
        let mut queue = self.lock();
        if let Some(end) = queue.end {
            return Poll::Ready(end);
        }
        queue.wait(cx);
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, SendQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SendQueue {
    fn drop_chunks(&mut self) {
        self.chunks = VecDeque::new();
        self.bytes = 0;
    }

    fn wait(&mut self, cx: &Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }
}

/// What a chunk counts for while it waits.
fn charge(chunk: &Bytes) -> usize {
    chunk.len().max(CHUNK_BYTES_MIN)
}

/// Wakes the task after the lock is gone.
fn wake(mut queue: MutexGuard<'_, SendQueue>) {
    let waker = queue.waker.take();
    drop(queue);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn flow() -> Flow {
        Flow::new(FlowId(1), SocketAddr::from((Ipv4Addr::LOCALHOST, 5061)))
    }

    fn next(flow: &Flow) -> Poll<ToWrite> {
        flow.poll_next(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_close_by_the_core_comes_after_what_was_sent() {
        let flow = flow();
        assert!(next(&flow).is_pending());
        assert_eq!(flow.send(Bytes::from_static(b"one")), Queued::Accepted);
        assert_eq!(flow.send(Bytes::from_static(b"two")), Queued::Accepted);
        flow.end(End::ByCore);
        assert_eq!(flow.send(Bytes::from_static(b"late")), Queued::Ended);
        assert_eq!(flow.poll_end(&Context::from_waker(Waker::noop())), Poll::Ready(End::ByCore));
        assert_eq!(next(&flow), Poll::Ready(ToWrite::Bytes(Bytes::from_static(b"one"))));
        assert_eq!(next(&flow), Poll::Ready(ToWrite::Bytes(Bytes::from_static(b"two"))));
        assert_eq!(next(&flow), Poll::Ready(ToWrite::End(End::ByCore)));
    }

    #[test]
    fn too_much_for_a_slow_reader_ends_the_flow() {
        let flow = flow();
        let chunk = Bytes::from(vec![0; 64 * 1024]);
        for _ in 0..4 {
            assert_eq!(flow.send(chunk.clone()), Queued::Accepted);
        }
        assert_eq!(flow.send(Bytes::from_static(b"x")), Queued::Overflow);
        assert_eq!(flow.send(Bytes::from_static(b"x")), Queued::Ended);
        assert_eq!(next(&flow), Poll::Ready(ToWrite::End(End::Overflow)));
        assert_eq!(flow.ended(), Some(End::Overflow));
    }

    #[test]
    fn answers_of_two_bytes_are_bounded_too() {
        let flow = flow();
        let pong = Bytes::from_static(b"\r\n");
        for _ in 0..QUEUE_BYTES_MAX / CHUNK_BYTES_MIN {
            assert_eq!(flow.send(pong.clone()), Queued::Accepted);
        }
        // What is written makes room for as much again.
        assert_eq!(next(&flow), Poll::Ready(ToWrite::Bytes(pong.clone())));
        assert_eq!(flow.send(pong.clone()), Queued::Accepted);
        assert_eq!(flow.send(pong), Queued::Overflow);
        assert_eq!(next(&flow), Poll::Ready(ToWrite::End(End::Overflow)));
    }

    #[test]
    fn an_eviction_drops_what_waits() {
        let flow = flow();
        assert_eq!(flow.send(Bytes::from_static(b"one")), Queued::Accepted);
        flow.end(End::Evicted);
        flow.end(End::ByCore);
        assert_eq!(next(&flow), Poll::Ready(ToWrite::End(End::Evicted)));
    }
}
