//! One thread of the data plane: it owns the sockets, buffers and the [`RelayTable`] of its relays.
//!
//! Orders come down a bounded queue, events go up through a callback; nothing else is shared but the block
//! list, an immutable snapshot replaced whole. On a packet's way there is no allocation, no lock and no log
//! line. Never decides: the table does. A panic here fails the relays of this shard and starts it anew; the
//! rest of the process does not notice.
//!
//! Start reading at [`event_loop`]; `socket.rs` binds the ports.

mod event_loop;
mod socket;

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use media::{DropCounts, Order, RelayEvent, TableConfig};
use mio::{Poll, Token, Waker};
use wire::clock::Instant;
use wire::net::PrefixSet;

use self::event_loop::{EventLoop, ORDERS_TOKEN};

/// Orders that may wait for a shard.
const ORDERS_QUEUED: usize = 1_024;
/// How often a shard is started anew without having served for [`SERVED_WELL`] in between.
const RESTARTS: u32 = 5;
/// After this long without a panic the earlier ones are forgotten.
const SERVED_WELL: Duration = Duration::from_secs(60);

/// A running shard. Dropping it ends the thread, and with it all its relays, without further events.
#[derive(Debug)]
pub struct Shard {
    orders: SyncSender<Dated>,
    waker: Waker,
    stop: Arc<AtomicBool>,
    counts: SharedCounts,
    thread: Option<JoinHandle<()>>,
}

/// What a shard has counted since it was started last; at most a second old while a relay is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardCounts {
    /// Datagrams that were not forwarded, by reason.
    pub drops: DropCounts,
    /// Errors that sockets reported on reading, as for ICMP messages. Each was passed over.
    pub socket_errors: u64,
}

/// Where a shard leaves its counts, for any thread to read.
#[derive(Clone, Debug, Default)]
pub struct SharedCounts(Arc<Mutex<ShardCounts>>);

impl SharedCounts {
    /// What the shard has counted.
    pub fn read(&self) -> ShardCounts {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, counts: ShardCounts) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = counts;
    }
}

/// What a shard knows of addresses beside its orders: sets that are replaced whole, by another thread.
#[derive(Clone, Debug, Default)]
pub struct AddressSets {
    /// The block list.
    pub blocked: Arc<ArcSwap<PrefixSet>>,
    /// Hosts of the inside beside those of the configuration: nothing is sent to them on the outside.
    pub hosts_inside: Arc<ArcSwap<PrefixSet>>,
}

/// Why an order was not taken; it is handed back.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderRefused {
    /// The shard is behind by all the orders that its queue holds.
    #[error("the media shard's order queue is full")]
    QueueFull(Box<Order>),
    /// The shard ended after too many panics.
    #[error("the media shard has ended")]
    Gone(Box<Order>),
}

/// An order, and when it was given: that is when it counts from, however long it waited.
type Dated = (Order, Instant);

/// What the thread has for its whole life. The queue goes before the callback: who hears that the callback
/// is gone knows that orders are handed back.
struct Shell<C> {
    orders: Receiver<Dated>,
    events: Box<dyn Fn(RelayEvent) + Send>,
    config: TableConfig,
    clock: C,
    sets: AddressSets,
    stop: Arc<AtomicBool>,
    counts: SharedCounts,
}

impl Shard {
    /// Starts a thread called `name`. Its ports are bound when relays open, so a shard that starts says
    /// nothing about its ranges. `events` is called from the shard's thread and must not block.
    pub fn spawn(
        name: String,
        config: TableConfig,
        clock: impl Fn() -> Instant + Send + 'static,
        sets: AddressSets,
        events: Box<dyn Fn(RelayEvent) + Send>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), ORDERS_TOKEN)?;
        let (orders, received) = sync_channel(ORDERS_QUEUED);
        let stop = Arc::new(AtomicBool::new(false));
        let counts = SharedCounts::default();
        let shell = Shell {
            config,
            clock,
            sets,
            events,
            orders: received,
            stop: Arc::clone(&stop),
            counts: counts.clone(),
        };
        let thread = std::thread::Builder::new().name(name).spawn(move || shell.run(poll))?;
        Ok(Self { orders, waker, stop, counts, thread: Some(thread) })
    }

    /// Hands an order of `now` to the shard, which answers it by an event. Only an `Open` wakes the thread,
    /// for a call waits for its ports. The others are about open relays: they are carried out before the next
    /// packet is looked at, and within a second where none comes.
    pub fn order(&self, order: Order, now: Instant) -> Result<(), OrderRefused> {
        let waited_for = matches!(order, Order::Open { .. });
        let taken = self.orders.try_send((order, now)).map_err(|refused| match refused {
            TrySendError::Full((order, _)) => OrderRefused::QueueFull(Box::new(order)),
            TrySendError::Disconnected((order, _)) => OrderRefused::Gone(Box::new(order)),
        });
        if waited_for || taken.is_err() {
            // a wake-up that fails costs no order: it is taken with the next packet or timeout
            self.waker.wake().unwrap_or_default();
        }
        taken
    }

    /// Where it leaves its counts.
    pub fn counts(&self) -> &SharedCounts {
        &self.counts
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake().unwrap_or_default();
        if let Some(thread) = self.thread.take() {
            // a shard that ended by panics said so in its events
            thread.join().unwrap_or_default();
        }
    }
}

impl<C: Fn() -> Instant> Shell<C> {
    /// Serves until told to stop; after a panic with a fresh table, fresh sockets and the same queue.
    fn run(self, mut poll: Poll) {
        let mut restarts = 0;
        loop {
            let mut event_loop = EventLoop::new(&self);
            let served = catch_unwind(AssertUnwindSafe(|| event_loop.serve(&mut poll)));
            if matches!(served, Ok(Ok(()))) {
                return;
            }
            // a panic, or a poll that fails for good: the sockets close with the loop
            let well = event_loop.served_for() >= SERVED_WELL;
            catch_unwind(AssertUnwindSafe(|| event_loop.give_up())).unwrap_or_default();
            restarts = if well { 1 } else { restarts + 1 };
            if restarts > RESTARTS {
                return;
            }
        }
    }
}

impl<C> fmt::Debug for Shell<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shell").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The token of the socket with this index; the waker has one that no index reaches.
fn token(index: usize) -> Token {
    debug_assert!(index < ORDERS_TOKEN.0);
    Token(index)
}

#[cfg(test)]
mod tests;
