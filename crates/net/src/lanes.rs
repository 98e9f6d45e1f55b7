//! The two bounded lanes to the core: flows already registered first, then strangers.
//!
//! Producers append under a lock held for one append (a batch of datagrams: one append of all); the core
//! takes everything that waits in one swap and wakes at most once for it. A full lane makes a stream wait
//! (it is not read on) and a datagram be dropped. Only what its sender has bounded is appended beyond the limit
//! ([`Lanes::push_over_limit`]). Never an event out of order in its lane.
//! When the core's end is gone, what comes is thrown away and nobody waits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::event::NetEvent;

/// After so many events of the first lane in a row a waiting stranger has its turn: registered flows come
/// first, but cannot keep a new phone out for good.
const REGISTERED_STREAK_MAX: u32 = 256;
/// A stranger's event counts for so many in the core's turn.
const STRANGER_SHARE: u32 = 4;

/// What each lane holds at most.
#[derive(Clone, Copy, Debug)]
pub struct LaneLimits {
    /// Events.
    pub events: usize,
    /// Bytes of messages in them.
    pub bytes: usize,
}

impl Default for LaneLimits {
    fn default() -> Self {
        Self { events: 8192, bytes: 16 << 20 }
    }
}

/// Which lane an event takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Registered phones, the inside face, the shell's own threads.
    Registered,
    /// Everybody else.
    Strangers,
}

/// Where a stream stands among those that wait for room in each lane: it need not wait twice.
#[derive(Debug, Default)]
pub(crate) struct Place {
    registered: u64,
    strangers: u64,
}

impl Place {
    fn lane(&mut self, lane: Lane) -> &mut u64 {
        match lane {
            Lane::Registered => &mut self.registered,
            Lane::Strangers => &mut self.strangers,
        }
    }
}

/// Makes the lanes: one end for any number of producers, one for the core.
pub fn lanes<T>(limits: LaneLimits) -> (Arc<Lanes<T>>, Receiver<T>) {
    let lanes = Arc::new(Lanes {
        limits,
        queues: Mutex::new(Queues {
            registered: Queue::default(),
            strangers: Queue::default(),
            receiver: None,
            threads_wait: false,
            closed: false,
        }),
        space: Condvar::new(),
        registered_waits: AtomicBool::new(false),
        strangers_taken: AtomicU64::new(0),
    });
    let receiver = Receiver {
        lanes: Arc::clone(&lanes),
        registered: VecDeque::new(),
        strangers: VecDeque::new(),
        streak: 0,
    };
    (lanes, receiver)
}

/// The producers' end.
#[derive(Debug)]
pub struct Lanes<T> {
    limits: LaneLimits,
    queues: Mutex<Queues<T>>,
    space: Condvar,
    registered_waits: AtomicBool,
    strangers_taken: AtomicU64,
}

#[derive(Debug)]
struct Queues<T> {
    registered: Queue<T>,
    strangers: Queue<T>,
    /// The core, where it waits.
    receiver: Option<Waker>,
    /// Plain threads that wait for room.
    threads_wait: bool,
    /// The core's end is gone.
    closed: bool,
}

#[derive(Debug)]
struct Queue<T> {
    events: VecDeque<NetEvent<T>>,
    bytes: usize,
    /// Events ever appended.
    appended: u64,
    /// Streams that wait for room, and how often the queue was emptied: a stream that registered since
    /// the last emptying need not do so again.
    waiters: Vec<Waker>,
    emptied: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { events: VecDeque::new(), bytes: 0, appended: 0, waiters: Vec::new(), emptied: 1 }
    }
}

impl<T> Queue<T> {
    fn has_room(&self, limits: LaneLimits) -> bool {
        self.events.len() < limits.events && self.bytes < limits.bytes
    }

    fn append(&mut self, event: NetEvent<T>) {
        self.bytes = self.bytes.saturating_add(event.weight());
        self.appended += 1;
        self.events.push_back(event);
    }

    fn empty_into(&mut self, taken: &mut VecDeque<NetEvent<T>>) -> Vec<Waker> {
        debug_assert!(taken.is_empty(), "a batch is taken only when the one before is used up");
        std::mem::swap(&mut self.events, taken);
        self.bytes = 0;
        self.emptied += 1;
        std::mem::take(&mut self.waiters)
    }
}

impl<T> Queues<T> {
    fn lane(&mut self, lane: Lane) -> &mut Queue<T> {
        match lane {
            Lane::Registered => &mut self.registered,
            Lane::Strangers => &mut self.strangers,
        }
    }

    fn is_empty(&self) -> bool {
        self.registered.events.is_empty() && self.strangers.events.is_empty()
    }
}

impl<T> Lanes<T> {
    /// Hands an event of a plain thread to the core, before all strangers. Waits while the lane is full:
    /// not for the core's thread itself.
    pub fn push_internal(&self, event: T) {
        let mut queues = self.lock();
        while !queues.registered.has_room(self.limits) && !queues.closed {
            queues.threads_wait = true;
            queues = self.space.wait(queues).unwrap_or_else(PoisonError::into_inner);
        }
        self.append(queues, Lane::Registered, NetEvent::Internal(event));
    }

    /// As [`Lanes::push_internal`], but does not wake the core, which finds the event when something else
    /// does. Only for events that nobody waits for, and no more of them than the core itself gave reason to.
    pub fn leave_internal(&self, event: T) {
        let mut queues = self.lock();
        if !queues.closed {
            queues.registered.append(NetEvent::Internal(event));
            self.registered_waits.store(true, Ordering::Release);
        }
    }

    /// As [`Lanes::push_internal`], but gives the event back where the lane is full.
    pub fn try_push_internal(&self, event: T) -> Result<(), T> {
        let queues = self.lock();
        if !queues.registered.has_room(self.limits) {
            return Err(event);
        }
        self.append(queues, Lane::Registered, NetEvent::Internal(event));
        Ok(())
    }

    /// An event that must not be lost, in a full lane too. There are never more of these than listeners, names
    /// in the file, and machines inside to which the border opens a connection.
    pub(crate) fn push_over_limit(&self, lane: Lane, event: NetEvent<T>) {
        self.append(self.lock(), lane, event);
    }

    /// Gives the event back where the lane is full.
    pub(crate) fn try_push(&self, lane: Lane, event: NetEvent<T>) -> Result<(), NetEvent<T>> {
        let mut queues = self.lock();
        if !queues.lane(lane).has_room(self.limits) {
            return Err(event);
        }
        self.append(queues, lane, event);
        Ok(())
    }

    /// Takes what `event` makes as soon as the lane has room, and says how many events the lane has had
    /// with it.
    pub(crate) fn poll_push(
        &self,
        lane: Lane,
        place: &mut Place,
        cx: &Context<'_>,
        event: impl FnOnce() -> Option<NetEvent<T>>,
    ) -> Poll<u64> {
        let mut queues = self.lock();
        let queue = queues.lane(lane);
        if !queue.has_room(self.limits) {
            let seen = place.lane(lane);
            if *seen != queue.emptied {
                *seen = queue.emptied;
                queue.waiters.push(cx.waker().clone());
            }
            return Poll::Pending;
        }
        if let Some(event) = event() {
            queue.append(event);
        }
        let appended = queue.appended;
        self.announce(queues, lane);
        Poll::Ready(appended)
    }

    /// As [`Lanes::poll_push`], for a caller with nothing else to do meanwhile.
    pub(crate) async fn push(&self, lane: Lane, event: NetEvent<T>) {
        let mut event = Some(event);
        let mut place = Place::default();
        std::future::poll_fn(|cx| self.poll_push(lane, &mut place, cx, || event.take())).await;
    }

    /// Appends all of a batch for which there is room; what is left over is dropped, and its number told.
    pub(crate) fn push_batch(&self, lane: Lane, batch: &mut Vec<NetEvent<T>>) -> u64 {
        if batch.is_empty() {
            return 0;
        }
        let mut queues = self.lock();
        let mut dropped = 0;
        for event in batch.drain(..) {
            let queue = queues.lane(lane);
            if queue.has_room(self.limits) { queue.append(event) } else { dropped += 1 }
        }
        self.announce(queues, lane);
        dropped
    }

    /// Events of the second lane that the core has been given, as [`Lanes::poll_push`] counts them.
    pub(crate) fn strangers_taken(&self) -> u64 {
        self.strangers_taken.load(Ordering::Acquire)
    }

    fn append(&self, mut queues: MutexGuard<'_, Queues<T>>, lane: Lane, event: NetEvent<T>) {
        if queues.closed {
            return;
        }
        queues.lane(lane).append(event);
        self.announce(queues, lane);
    }

    fn announce(&self, mut queues: MutexGuard<'_, Queues<T>>, lane: Lane) {
        if lane == Lane::Registered {
            self.registered_waits.store(true, Ordering::Release);
        }
        let receiver = queues.receiver.take();
        drop(queues);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queues<T>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The core's end.
#[derive(Debug)]
pub struct Receiver<T> {
    lanes: Arc<Lanes<T>>,
    registered: VecDeque<NetEvent<T>>,
    strangers: VecDeque<NetEvent<T>>,
    /// Events of the first lane given out since the last stranger.
    streak: u32,
}

impl<T> Receiver<T> {
    /// The next event that is there: of a registered flow, where there is one.
    pub fn try_recv(&mut self) -> Option<NetEvent<T>> {
        if let Some(event) = self.pop() {
            return Some(event);
        }
        self.take(None);
        self.pop()
    }

    /// As [`Receiver::try_recv`], but has the task woken when there is one.
    pub fn poll_recv(&mut self, cx: &Context<'_>) -> Poll<NetEvent<T>> {
        if let Some(event) = self.pop() {
            return Poll::Ready(event);
        }
        self.take(Some(cx));
        self.pop().map_or(Poll::Pending, Poll::Ready)
    }

    /// What the event given out last takes of the core's turn, in events of registered flows: after fewer strangers
    /// the network's tasks have theirs, so that in a flood phones are looked for the more often.
    pub fn share_of_turn(&self) -> u32 {
        if self.streak == 0 { STRANGER_SHARE } else { 1 }
    }

    fn pop(&mut self) -> Option<NetEvent<T>> {
        if self.registered.is_empty() && self.lanes.registered_waits.load(Ordering::Acquire) {
            self.take(None);
        }
        let strangers_turn = self.streak >= REGISTERED_STREAK_MAX && !self.strangers.is_empty();
        if !strangers_turn && let Some(event) = self.registered.pop_front() {
            self.streak = self.streak.saturating_add(1);
            return Some(event);
        }
        let event = self.strangers.pop_front()?;
        self.streak = 0;
        self.lanes.strangers_taken.fetch_add(1, Ordering::Release);
        Some(event)
    }

    /// Swaps in what waits; where nothing does, leaves word whom to wake.
    fn take(&mut self, waiting: Option<&Context<'_>>) {
        let mut queues = self.lanes.lock();
        if queues.is_empty() {
            self.lanes.registered_waits.store(false, Ordering::Release);
            if let Some(cx) = waiting {
                queues.receiver = Some(cx.waker().clone());
            }
            return;
        }
        let mut wakers = Vec::new();
        if self.registered.is_empty() {
            self.lanes.registered_waits.store(false, Ordering::Release);
            wakers = queues.registered.empty_into(&mut self.registered);
        }
        if self.strangers.is_empty() {
            wakers.append(&mut queues.strangers.empty_into(&mut self.strangers));
        }
        // A notice to nobody would still be a system call.
        let threads_wait = std::mem::take(&mut queues.threads_wait);
        drop(queues);
        if threads_wait {
            self.lanes.space.notify_all();
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl<T> Drop for Receiver<T> {
    /// Nobody hears what comes now: whoever waits for room goes on.
    fn drop(&mut self) {
        let mut queues = self.lanes.lock();
        queues.closed = true;
        let mut wakers = queues.registered.empty_into(&mut VecDeque::new());
        wakers.append(&mut queues.strangers.empty_into(&mut VecDeque::new()));
        drop(queues);
        self.lanes.space.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::mpsc;
    use std::task::Wake;
    use std::time::Duration;
    use wire::net::FlowId;

    fn closed(flow: u64) -> NetEvent<u32> {
        NetEvent::FlowClosed { flow: FlowId(flow) }
    }

    fn number(event: &NetEvent<u32>) -> u64 {
        match event {
            NetEvent::FlowClosed { flow } => flow.0,
            NetEvent::Internal(number) => u64::from(*number),
            other => panic!("unexpected {other:?}"),
        }
    }

    fn drain(receiver: &mut Receiver<u32>) -> Vec<u64> {
        std::iter::from_fn(|| receiver.try_recv()).map(|event| number(&event)).collect()
    }

    /// Waits for an event of another thread.
    fn next(receiver: &mut Receiver<u32>) -> NetEvent<u32> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(std::future::poll_fn(|cx| receiver.poll_recv(cx)))
    }

    #[derive(Default)]
    struct Woken(AtomicU64);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn registered_flows_overtake_strangers_even_inside_a_batch() {
        let (lanes, mut receiver) = lanes(LaneLimits::default());
        for flow in [1, 2, 3] {
            lanes.try_push(Lane::Strangers, closed(flow)).unwrap();
        }
        assert_eq!(number(&receiver.try_recv().unwrap()), 1);
        assert_eq!(receiver.share_of_turn(), STRANGER_SHARE);
        lanes.try_push(Lane::Registered, closed(10)).unwrap();
        lanes.push_internal(11);
        assert_eq!(number(&receiver.try_recv().unwrap()), 10);
        assert_eq!(receiver.share_of_turn(), 1);
        assert_eq!(drain(&mut receiver), [11, 2, 3]);
        assert_eq!(lanes.strangers_taken(), 3);
    }

    #[test]
    fn what_is_left_for_the_core_wakes_it_not_and_keeps_its_place() {
        let (lanes, mut receiver) = lanes(LaneLimits::default());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let cx = Context::from_waker(&waker);
        assert!(receiver.poll_recv(&cx).is_pending());
        lanes.leave_internal(1);
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        lanes.push_internal(2);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert_eq!(drain(&mut receiver), [1, 2]);
        drop(receiver);
        lanes.leave_internal(3);
        assert!(lanes.lock().is_empty(), "thrown away");
    }

    #[test]
    fn a_stranger_has_its_turn_after_a_streak() {
        let (lanes, mut receiver) = lanes(LaneLimits::default());
        lanes.try_push(Lane::Strangers, closed(999_999)).unwrap();
        for flow in 0..u64::from(2 * REGISTERED_STREAK_MAX) {
            lanes.try_push(Lane::Registered, closed(flow)).unwrap();
        }
        let order = drain(&mut receiver);
        assert_eq!(order.iter().position(|flow| *flow == 999_999), Some(REGISTERED_STREAK_MAX as usize));
    }

    #[test]
    fn a_full_lane_makes_streams_wait_and_wakes_them_once() {
        let (lanes, mut receiver) = lanes(LaneLimits { events: 2, bytes: 1000 });
        lanes.try_push(Lane::Strangers, closed(1)).unwrap();
        lanes.try_push(Lane::Strangers, closed(2)).unwrap();
        assert!(lanes.try_push(Lane::Strangers, closed(3)).is_err());
        lanes.try_push(Lane::Registered, closed(9)).unwrap();

        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let cx = Context::from_waker(&waker);
        let mut place = Place::default();
        for _ in 0..2 {
            let full = lanes.poll_push(Lane::Strangers, &mut place, &cx, || panic!("there is no room"));
            assert!(full.is_pending());
        }
        assert_eq!(drain(&mut receiver), [9, 1, 2]);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        let pushed = lanes.poll_push(Lane::Strangers, &mut place, &cx, || Some(closed(3)));
        assert_eq!(pushed, Poll::Ready(3));
        assert_eq!(drain(&mut receiver), [3]);
    }

    #[test]
    fn what_must_not_be_lost_is_appended_to_a_full_lane_and_keeps_its_order() {
        let (lanes, mut receiver) = lanes(LaneLimits { events: 1, bytes: 1000 });
        lanes.try_push(Lane::Registered, closed(1)).unwrap();
        assert!(lanes.try_push(Lane::Registered, closed(2)).is_err());
        lanes.push_over_limit(Lane::Registered, closed(3));
        assert!(lanes.try_push(Lane::Registered, closed(4)).is_err(), "the limit holds for all others");
        assert_eq!(drain(&mut receiver), [1, 3]);
    }

    #[test]
    fn bytes_count_as_well_as_events() {
        let (lanes, mut receiver) = lanes::<u32>(LaneLimits { events: 100, bytes: 1000 });
        let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let datagram = |flow| NetEvent::Bytes { flow: FlowId(flow), from, bytes: Bytes::from(vec![0; 600]) };
        let mut batch = vec![datagram(1), datagram(2), datagram(3), datagram(4)];
        assert_eq!(lanes.push_batch(Lane::Strangers, &mut batch), 2);
        assert!(batch.is_empty());
        assert_eq!(std::iter::from_fn(|| receiver.try_recv()).count(), 2);
        assert!(lanes.try_push(Lane::Strangers, datagram(5)).is_ok());
    }

    #[test]
    fn a_plain_thread_waits_for_room() {
        let (lanes, mut receiver) = lanes(LaneLimits { events: 4, bytes: 1000 });
        let (done, finished) = mpsc::channel();
        let producer = {
            let lanes = Arc::clone(&lanes);
            std::thread::spawn(move || {
                (0..1000).for_each(|number| lanes.push_internal(number));
                done.send(()).unwrap();
            })
        };
        let order: Vec<_> = (0..1000).map(|_| number(&next(&mut receiver))).collect();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
        finished.recv_timeout(Duration::from_secs(10)).unwrap();
        producer.join().unwrap();
        for number in 0..4 {
            lanes.try_push_internal(number).unwrap();
        }
        assert_eq!(lanes.try_push_internal(4), Err(4));
    }

    #[test]
    fn the_core_is_woken_once_for_all_that_waits() {
        let (lanes, mut receiver) = lanes::<u32>(LaneLimits::default());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let cx = Context::from_waker(&waker);
        lanes.push_internal(6);
        assert_eq!(woken.0.load(Ordering::SeqCst), 0, "nobody waits");
        assert!(matches!(receiver.poll_recv(&cx), Poll::Ready(NetEvent::Internal(6))));
        assert!(receiver.poll_recv(&cx).is_pending());
        lanes.push_internal(7);
        lanes.push_internal(8);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert_eq!(drain(&mut receiver), [7, 8]);
    }

    #[test]
    fn nobody_waits_for_a_core_that_is_gone() {
        let (lanes, receiver) = lanes(LaneLimits { events: 1, bytes: 1000 });
        lanes.push_internal(1);
        let producer = {
            let lanes = Arc::clone(&lanes);
            std::thread::spawn(move || lanes.push_internal(2))
        };
        drop(receiver);
        producer.join().unwrap();
        lanes.push_internal(3);
        assert!(lanes.lock().is_empty());
    }
}
