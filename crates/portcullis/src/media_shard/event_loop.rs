//! The loop of a shard: wait, take orders, read each ready socket, ask the table, send; then timers, events.
//!
//! Pacing. Waking the thread for one packet costs as much as moving it. So while packets come fast, the
//! thread sleeps after a round for about as long as [`BATCH`] more of them take to come, and finds them
//! waiting; a packet that comes alone is moved at once. The price is a delay of at most [`PAUSE_MAX`], less than
//! a hundredth of a packet's 20 ms, and less the more there is to do.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use media::{
    Action, BindFault, DropReason, Order, RelayEvent, RelayFault, RelayId, RelayTable, SOCKETS_PER_RELAY,
    Verdict,
};
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};
use wire::clock::Instant;
use wire::net::{PrefixSet, Side};

use super::{ShardCounts, Shell, socket, token};

/// The waker's token; socket indexes stay far below.
pub(super) const ORDERS_TOKEN: Token = Token(usize::MAX);

/// How many datagrams one round should find under load: a round's own cost, shared, is then small.
const BATCH: u32 = 8;
/// The longest pause between two rounds.
///
/// Twice as long saves a tenth of the CPU at 20,000 packets a second and nothing from 40,000 on; below that it
/// nearly doubles the delay.
const PAUSE_MAX: Duration = Duration::from_micros(150);
/// A shorter sleep costs more than it saves.
const SLEEP_MIN: Duration = Duration::from_micros(30);
/// By how much the kernel may prolong a sleep; its default of 50 µs would be much of the pause.
const TIMER_SLACK: Option<NonZeroU64> = NonZeroU64::new(5_000);
/// Datagrams read from one socket in one round, so that no relay starves another.
const DATAGRAMS: u32 = 64;
/// Orders taken in one round: each binds four sockets, and media waits meanwhile.
const ORDERS: usize = 8;
/// Sockets that one round can learn to be ready; the rest is learned in the next.
const READY: usize = 1_024;
/// The largest datagram there is.
const DATAGRAM_MAX: usize = 65_535;

/// When the next round should come at the earliest.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// The last round that found datagrams.
    round: Instant,
    pause: Duration,
}

/// A table and its sockets, from a start to a panic.
pub(super) struct EventLoop<'a, C> {
    shell: &'a Shell<C>,
    table: RelayTable,
    /// By index, four for each relay's slot.
    sockets: Vec<Option<UdpSocket>>,
    buffer: Vec<u8>,
    blocks: Cache<&'a ArcSwap<PrefixSet>, Arc<PrefixSet>>,
    hosts_inside: Cache<&'a ArcSwap<PrefixSet>, Arc<PrefixSet>>,
    /// Those that the table has.
    hosts_set: Option<Arc<PrefixSet>>,
    /// The block list that the table has.
    in_force: Arc<PrefixSet>,
    /// Sockets that had more than one round's share.
    backlog: Vec<usize>,
    /// The relay whose order is being handled: a panic loses it too.
    in_hand: Option<RelayId>,
    socket_errors: u64,
    started: Instant,
    now: Instant,
}

impl<'a, C: Fn() -> Instant> EventLoop<'a, C> {
    pub(super) fn new(shell: &'a Shell<C>) -> Self {
        Self {
            shell,
            table: RelayTable::new(shell.config.clone()),
            sockets: Vec::new(),
            buffer: vec![0; DATAGRAM_MAX],
            hosts_inside: Cache::new(&*shell.sets.hosts_inside),
            hosts_set: None,
            blocks: Cache::new(&*shell.sets.blocked),
            in_force: Arc::default(),
            backlog: Vec::new(),
            in_hand: None,
            socket_errors: 0,
            started: Instant::ZERO,
            now: Instant::ZERO,
        }
    }

    /// Runs until told to stop.
    pub(super) fn serve(&mut self, poll: &mut Poll) -> io::Result<()> {
        // without it sleeps are a little longer, no more
        rustix::thread::set_current_timer_slack(TIMER_SLACK).unwrap_or_default();
        self.now = (self.shell.clock)();
        self.started = self.now;
        let mut pace = Pace { round: self.now, pause: Duration::ZERO };
        let mut ready = Events::with_capacity(READY);
        let mut more = true;
        while !self.shell.stop.load(Ordering::Acquire) {
            if !more {
                self.rest(pace);
            }
            let timeout = if more { Some(Duration::ZERO) } else { self.timeout() };
            match poll.poll(&mut ready, timeout) {
                Err(fault) if fault.kind() != io::ErrorKind::Interrupted => return Err(fault),
                Ok(()) | Err(_) => {}
            }
            self.now = (self.shell.clock)();
            self.take_hosts();
            // Orders first: what was said to a phone after an order must not be overtaken by its audio.
            let orders = self.take_orders(poll)?;
            self.take_blocks();
            let datagrams = self.read_ready(&ready);
            more = orders | !self.backlog.is_empty();
            self.run_timers(poll);
            self.hand_up_events();
            pace = pace.after(self.now, datagrams);
        }
        Ok(())
    }

    /// After a panic: what was decided before it is still told, and every relay that is left is lost.
    pub(super) fn give_up(mut self) {
        self.hand_up_events();
        let mut lost: Vec<_> = self.table.relays().collect();
        lost.extend(self.in_hand.filter(|id| !lost.contains(id)));
        // the ports are free again before anybody hears of it
        let Self { shell, sockets, .. } = self;
        drop(sockets);
        for relay in lost {
            (shell.events)(RelayEvent::Failed { relay, fault: RelayFault::ShardLost });
        }
    }

    /// How long this loop has run, by its last round.
    pub(super) fn served_for(&self) -> Duration {
        self.now.since(self.started)
    }

    /// Sleeps for what is left of the pause.
    fn rest(&self, pace: Pace) {
        if pace.pause < SLEEP_MIN {
            return;
        }
        let left = pace.pause.saturating_sub((self.shell.clock)().since(pace.round));
        if left >= SLEEP_MIN {
            std::thread::sleep(left);
        }
    }

    fn timeout(&self) -> Option<Duration> {
        self.table.poll_timeout().map(|due| due.since(self.now))
    }

    /// Reads every socket that is ready or was left with more; returns how many datagrams there were.
    fn read_ready(&mut self, ready: &Events) -> u32 {
        let backlog = std::mem::take(&mut self.backlog);
        let mut datagrams = 0;
        for index in backlog {
            datagrams += self.read(index);
        }
        for event in ready {
            if event.token() != ORDERS_TOKEN {
                datagrams += self.read(event.token().0);
            }
        }
        datagrams
    }

    /// Moves what waits at one socket. Readiness is told once (edge-triggered), so it is read until empty;
    /// the call that finds nothing is not measurable beside the rest.
    fn read(&mut self, index: usize) -> u32 {
        let Self { table, sockets, buffer, now, .. } = self;
        let Some(Some(socket)) = sockets.get(index) else { return 0 };
        for count in 0..DATAGRAMS {
            let (len, from) = match socket.recv_from(buffer) {
                Ok(datagram) => datagram,
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => return count,
                Err(_) => {
                    self.socket_errors += 1;
                    continue;
                }
            };
            let bytes = buffer.get(..len).unwrap_or_default();
            if let Verdict::Forward { socket: out, to } = table.on_datagram(index, from, bytes, *now)
                && let Err(reason) = send(sockets, out, bytes, to)
            {
                table.on_send_failed(index, len, reason);
            }
        }
        self.backlog.push(index);
        DATAGRAMS
    }

    /// Tells the table where the outside must not send to, where that has changed.
    fn take_hosts(&mut self) {
        let hosts = self.hosts_inside.load();
        if !self.hosts_set.as_ref().is_some_and(|set| Arc::ptr_eq(set, hosts)) {
            self.table.set_hosts_inside(PrefixSet::clone(hosts), self.now);
            self.hosts_set = Some(Arc::clone(hosts));
        }
    }

    /// Handles waiting orders; returns whether there may be more.
    fn take_orders(&mut self, poll: &Poll) -> io::Result<bool> {
        for _ in 0..ORDERS {
            let Ok((order, given)) = self.shell.orders.try_recv() else { return Ok(false) };
            self.in_hand = Some(match &order {
                Order::Open { relay, .. } | Order::Update { relay, .. } | Order::Close { relay } => *relay,
            });
            self.table.handle_order(order, given);
            self.carry_out(poll);
            self.in_hand = None;
        }
        Ok(true)
    }

    /// Hands a block list that is new to the table. A list that comes while nothing else does is found with the
    /// next packet, before it is read.
    fn take_blocks(&mut self) {
        let newest = self.blocks.load();
        if !Arc::ptr_eq(newest, &self.in_force) {
            self.in_force = Arc::clone(newest);
            self.table.set_blocked(Arc::clone(newest), self.now);
        }
    }

    fn carry_out(&mut self, poll: &Poll) {
        while let Some(action) = self.table.poll_action() {
            self.act(action, poll);
        }
    }

    fn act(&mut self, action: Action, poll: &Poll) {
        match action {
            Action::Bind { slot, side, port } => {
                let bound = self.bind(slot, side, port, poll);
                self.table.on_bind(slot, side, port, bound, self.now);
            }
            // closing a socket takes it out of the poll
            Action::Release { slot } => {
                let first = slot * SOCKETS_PER_RELAY;
                for socket in self.sockets.iter_mut().skip(first).take(SOCKETS_PER_RELAY) {
                    *socket = None;
                }
                // Where no relay is left, no timer follows.
                self.publish_counts();
            }
        }
    }

    fn bind(&mut self, slot: usize, side: Side, port: u16, poll: &Poll) -> Result<(), BindFault> {
        let [outside, inside] = self.shell.config.faces;
        let face = match side {
            Side::Outside => outside,
            Side::Inside => inside,
        };
        let first = slot * SOCKETS_PER_RELAY + side.index() * 2;
        let mut pair = socket::bind_pair(face, port)?;
        for (index, socket) in (first..).zip(&mut pair) {
            poll.registry()
                .register(socket, token(index), Interest::READABLE)
                .map_err(|_| BindFault::System)?;
        }
        if self.sockets.len() < (slot + 1) * SOCKETS_PER_RELAY {
            self.sockets.resize_with((slot + 1) * SOCKETS_PER_RELAY, || None);
        }
        for (place, socket) in self.sockets.iter_mut().skip(first).zip(pair) {
            *place = Some(socket);
        }
        Ok(())
    }

    fn run_timers(&mut self, poll: &Poll) {
        if self.table.poll_timeout().is_some_and(|due| due <= self.now) {
            self.table.handle_timeout(self.now);
            self.carry_out(poll);
            self.publish_counts();
        }
    }

    fn publish_counts(&self) {
        let counts = ShardCounts { drops: *self.table.drops(), socket_errors: self.socket_errors };
        self.shell.counts.publish(counts);
    }

    fn hand_up_events(&mut self) {
        while let Some(event) = self.table.poll_event() {
            (self.shell.events)(event);
        }
    }
}

impl Pace {
    /// From how many datagrams a round at `now` found. No pause where fewer than two would come in it.
    fn after(self, now: Instant, datagrams: u32) -> Self {
        if datagrams == 0 {
            return self;
        }
        let apart = now.since(self.round) / datagrams;
        let pause = if apart * 2 > PAUSE_MAX { Duration::ZERO } else { (apart * BATCH).min(PAUSE_MAX) };
        Self { round: now, pause }
    }
}

/// Sends, or says why it could not be done.
fn send(sockets: &[Option<UdpSocket>], index: usize, bytes: &[u8], to: SocketAddr) -> Result<(), DropReason> {
    let Some(Some(socket)) = sockets.get(index) else { return Err(DropReason::SendFailed) };
    match socket.send_to(bytes, to) {
        Ok(_) => Ok(()),
        Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => Err(DropReason::SendBufferFull),
        Err(_) => Err(DropReason::SendFailed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_follows_the_load() {
        let at = |us| Instant::ZERO + Duration::from_micros(us);
        for (us, datagrams, pause) in [
            // one call: 10 ms apart
            (10_000, 1, 0),
            (76, 1, 0),
            (75, 1, 150),
            // 30,000 packets a second, one by one and in rounds
            (33, 1, 150),
            (264, 8, 150),
            // 100,000
            (80, 8, 80),
            (1_000, 100, 80),
            // a burst: too short to sleep
            (5, 2, 20),
        ] {
            let pace = Pace { round: at(50), pause: Duration::ZERO }.after(at(50 + us), datagrams);
            assert_eq!(
                (pace.round, pace.pause),
                (at(50 + us), Duration::from_micros(pause)),
                "{datagrams} in {us}"
            );
            let idle = pace.after(at(90_000), 0);
            assert_eq!((idle.round, idle.pause), (pace.round, pace.pause));
        }
    }
}
