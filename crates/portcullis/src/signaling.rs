//! The core: one event in, the border's answers out, again and again.
//!
//! Shares its thread with the network's tasks, so that a message costs no thread a wake-up. Owns the border and hands its outputs to net, media, store and operators. Never waits for any of them:
//! what has no room is refused, counted or kept for the next turn. Decides nothing itself.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use border::Border;
use border::command::Command;
use border::interface::{Input, Output, Record, ResolvedName, Table, Target};
use media::{Order, RelayEvent, RelayFault, RelayId};
use net::{Lists, Net, NetEvent, Receiver};
use store::{Row, StoreThread};
use wire::clock::{Instant, Now};

use crate::admin::server::AdminFeed;
use crate::alarm::Alarm;
use crate::clock::Clock;
use crate::events::EventLog;
use crate::media_shard::{AddressSets, OrderRefused, Shard};

/// How soon orders that found a shard's queue full are tried again.
const ORDER_RETRY: Duration = Duration::from_millis(5);

/// Events after which the network's tasks have their turn, so that no socket waits long for a busy core.
const TURN_EVENTS_MAX: u32 = 64;

/// What other threads of the process tell the core.
#[derive(Debug)]
pub enum ShellEvent {
    /// The media plane reports.
    Media(RelayEvent),
    /// A record is on disk, or is not.
    Stored {
        /// Of the `Persist`.
        ticket: u64,
        /// Whether it is safe.
        ok: bool,
    },
    /// An operator asks.
    Command {
        /// Returned with the answer.
        id: u64,
        /// What.
        command: Command,
    },
    /// A signal: end, and end well.
    Stop,
}

/// Everything that the core thread speaks to.
pub struct Plant {
    /// Reads the time for every event.
    pub clock: Clock,
    /// Sockets.
    pub net: Net<ShellEvent>,
    /// What comes in.
    pub receiver: Receiver<ShellEvent>,
    /// What the network's numbers of names stand for.
    pub names: Vec<ResolvedName>,
    /// The media plane.
    pub shard: Shard,
    /// What the media plane knows of addresses.
    pub media_sets: AddressSets,
    /// The disk.
    pub store: StoreThread,
    /// Operators.
    pub admin: AdminFeed,
    /// Their log.
    pub log: EventLog,
}

/// The core thread's state.
pub struct Signaling {
    border: Border,
    plant: Plant,
    /// Orders for which the shard's queue had no room, oldest first, each with its time.
    orders: VecDeque<(Order, Instant)>,
    /// What the border shall hear after the outputs under way: refusals that came at once.
    refused: VecDeque<Refused>,
}

/// An output that could not be handed on.
enum Refused {
    Persist(u64),
    Relay(RelayEvent),
}

impl Signaling {
    /// Takes over a border and what it already wants done.
    pub fn new(border: Border, plant: Plant, early: Vec<Output>) -> Self {
        let mut signaling = Self { border, plant, orders: VecDeque::new(), refused: VecDeque::new() };
        let now = signaling.plant.clock.now();
        for output in early {
            signaling.carry_out(output, now);
        }
        signaling
    }

    /// Works until told to stop; gives back what it worked with.
    pub async fn serve(mut self) -> Plant {
        let mut alarm = Alarm::new(self.plant.clock);
        loop {
            let mut turn = 0;
            while turn < TURN_EVENTS_MAX {
                if let Some(then) = self.next_timeout() {
                    alarm.set(then);
                }
                let receiver = &mut self.plant.receiver;
                let event = poll_fn(|cx| match receiver.poll_recv(cx) {
                    Poll::Ready(event) => Poll::Ready(Some(event)),
                    Poll::Pending => alarm.poll_ring(cx).map(|()| None),
                });
                let event = event.await;
                let now = self.plant.clock.now();
                turn += if event.is_some() { self.plant.receiver.share_of_turn() } else { 1 };
                match event {
                    Some(NetEvent::Internal(ShellEvent::Stop)) => return self.plant,
                    Some(event) => self.on_event(event, now),
                    None => {}
                }
                if self.border.poll_timeout().is_some_and(|then| then <= now.mono) {
                    self.border.handle_timeout(now);
                }
                self.plant.log.handle_timeout(now.mono);
                self.drain(now);
            }
            tokio::task::yield_now().await;
        }
    }

    /// None: when something happens.
    fn next_timeout(&self) -> Option<Instant> {
        let retry = (!self.orders.is_empty()).then(|| self.plant.clock.mono() + ORDER_RETRY);
        [self.border.poll_timeout(), self.plant.log.poll_timeout(), retry].into_iter().flatten().min()
    }

    fn on_event(&mut self, event: NetEvent<ShellEvent>, now: Now) {
        let border = &mut self.border;
        match event {
            NetEvent::Listening { flow, side, transport, local } => {
                border.handle_input(Input::Listening { flow, side, transport, local }, now);
            }
            NetEvent::FlowOpened { flow, side, tuple, device } => {
                let device = device.map(|device| *device);
                border.handle_input(Input::FlowOpened { flow, side, tuple, device }, now);
            }
            NetEvent::HandshakeFailed { tuple, fault, detail } => {
                border.handle_input(Input::HandshakeFailed { tuple, fault, detail }, now);
            }
            NetEvent::Flood { source, transport, port, refused } => {
                border.handle_input(Input::Flood { source, transport, port, refused }, now);
            }
            NetEvent::SourceLimited { source, refused, .. } => {
                border.handle_input(Input::SourceLimited { source, refused }, now);
            }
            NetEvent::FilesExhausted => border.handle_input(Input::FilesExhausted, now),
            NetEvent::Bytes { flow, from, bytes } => {
                border.handle_input(Input::Bytes { flow, from, bytes: &bytes }, now);
            }
            NetEvent::FlowClosed { flow } => border.handle_input(Input::FlowClosed { flow }, now),
            NetEvent::FlowFailed { flow } => border.handle_input(Input::FlowFailed { flow }, now),
            NetEvent::Resolved { name, targets } => {
                let targets = targets.into_iter();
                let targets = targets.map(|(transport, address)| Target { transport, address }).collect();
                if let Some(name) = self.plant.names.get(name) {
                    border.handle_input(Input::Resolved { name: *name, targets }, now);
                }
            }
            NetEvent::Internal(event) => self.on_shell_event(event, now),
        }
    }

    fn on_shell_event(&mut self, event: ShellEvent, now: Now) {
        let input = match event {
            ShellEvent::Media(event) => Input::Media(event),
            ShellEvent::Stored { ticket, ok } => Input::Stored { ticket, ok },
            ShellEvent::Command { id, command } => Input::Command { id, command },
            // Taken by `serve`, which ends with it.
            ShellEvent::Stop => return,
        };
        self.border.handle_input(input, now);
    }

    /// Hands on everything that the border wants, with what comes of it at once.
    fn drain(&mut self, now: Now) {
        self.retry_orders();
        loop {
            while let Some(output) = self.border.poll_output() {
                self.carry_out(output, now);
            }
            let Some(refused) = self.refused.pop_front() else { return };
            let input = match refused {
                Refused::Persist(ticket) => Input::Stored { ticket, ok: false },
                Refused::Relay(event) => Input::Media(event),
            };
            self.border.handle_input(input, now);
        }
    }

    fn carry_out(&mut self, output: Output, now: Now) {
        let plant = &mut self.plant;
        match output {
            Output::Send { flow, to, bytes } => plant.net.send(flow, to, bytes),
            Output::OpenFlow { flow, transport, to } => plant.net.open_flow(flow, transport, to),
            Output::CloseFlow { flow } => plant.net.close_flow(flow),
            Output::Registered { flow, source } => {
                // One of the two knows the flow: a connection, or a UDP listener.
                plant.net.register_flow(flow);
                plant.net.register_source(flow, source);
            }
            Output::Unregistered { flow, source } => plant.net.unregister_source(flow, source),
            Output::Media(order) => self.order(order, now.mono),
            Output::Persist { ticket, record } => {
                if !plant.store.persist(ticket, row(record)) {
                    self.refused.push_back(Refused::Persist(ticket));
                }
            }
            Output::Event(event) => plant.log.record(event, now.mono),
            Output::Lists { blocked, allowed, spared } => {
                plant.media_sets.blocked.store(Arc::clone(&blocked));
                plant.net.set_lists(Lists::new(blocked, allowed, &spared));
            }
            Output::PbxAddresses(addresses) => plant.media_sets.hosts_inside.store(addresses),
            Output::Answer { id, answer } => plant.admin.answer(id, answer),
            Output::Fault(fault) => {
                tracing::error!(fault, "a fault of ours: one call or message was given up for it");
            }
        }
    }

    fn order(&mut self, order: Order, now: Instant) {
        self.orders.push_back((order, now));
        self.retry_orders();
    }

    /// Hands over what waits, in its order: as much as the shard takes.
    fn retry_orders(&mut self) {
        while let Some((order, given)) = self.orders.pop_front() {
            match self.plant.shard.order(order, given) {
                Ok(()) => {}
                Err(OrderRefused::QueueFull(order)) => {
                    self.orders.push_front((*order, given));
                    return;
                }
                Err(OrderRefused::Gone(order)) => self.refused.push_back(Refused::Relay(shard_lost(&order))),
            }
        }
    }
}

/// What the border hears of an order when there is no shard any more.
fn shard_lost(order: &Order) -> RelayEvent {
    let closed = |relay: RelayId| RelayEvent::Closed { relay, received: Default::default() };
    match order {
        Order::Open { relay, .. } => RelayEvent::Failed { relay: *relay, fault: RelayFault::ShardLost },
        Order::Update { relay, .. } | Order::Close { relay } => closed(*relay),
    }
}

/// The number of a table in the store: never to be changed, a new kind takes a new one.
const TABLES: [(u8, Table); 5] =
    [(1, Table::Node), (2, Table::Bindings), (3, Table::Blocks), (4, Table::Allowed), (5, Table::Realms)];

/// A record as the store keeps it.
fn row(record: Record) -> Row {
    let number = TABLES.iter().find(|(_, table)| *table == record.table).map_or(0, |(number, _)| *number);
    debug_assert_ne!(number, 0, "every table has its number");
    Row { table: number, key: record.key, value: record.value }
}

/// A row as the border knows it; none for a table that this version has not.
pub fn record(row: Row) -> Option<Record> {
    let (_, table) = TABLES.iter().find(|(number, _)| *number == row.table)?;
    Some(Record { table: *table, key: row.key, value: row.value })
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Mutex;

    use border::config::{Config, Inside, Outside, Registration};
    use guard::BlockPolicy;
    use media::TableConfig;
    use net::{LaneLimits, Lanes, NetConfig, NetTasks, lanes};
    use store::Store;

    use super::*;
    use crate::config::file::LogFormat;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// A border with nobody in it.
    fn border(clock: Clock) -> Border {
        let time = Duration::from_secs(60);
        let config = Config {
            outside: Outside {
                address: HERE,
                public_address: HERE,
                server_names: Vec::new(),
                certificate_ends: None,
            },
            inside: Inside { address: HERE, trusted: Vec::new() },
            pbx: Vec::new(),
            extensions: Vec::new(),
            registration: Registration {
                phone_expires: time,
                pbx_expires: time,
                grace: time,
                max_contacts: 1,
            },
            block: BlockPolicy { after: 1, within: time, time, max_time: time, ipv6_prefix: 64 },
            allowed: Vec::new(),
            silence_timeout: time,
            relays_max: 1,
        };
        Border::new(config, [7; 32], Vec::new(), clock.now())
    }

    /// A core whose shard does nothing while the gate is locked; what carries its network is not started.
    fn core(
        folder: &std::path::Path,
        gate: Arc<Mutex<()>>,
    ) -> (Signaling, Arc<Lanes<ShellEvent>>, NetTasks<ShellEvent>) {
        let clock = Clock::start();
        let (to_core, receiver) = lanes(LaneLimits::default());
        let (net, tasks) = Net::bind(NetConfig::default(), Arc::clone(&to_core)).unwrap();
        let media_sets = AddressSets::default();
        let config = TableConfig {
            faces: [HERE, HERE],
            ports: [40_000..=40_019, 50_000..=50_019],
            forbidden: Default::default(),
            seed: 7,
            spare_from: usize::MAX,
        };
        let gated = move || {
            drop(gate.lock());
            clock.mono()
        };
        let shard =
            Shard::spawn("shard".to_owned(), config, gated, media_sets.clone(), Box::new(|_| {})).unwrap();
        let (store, _) = Store::open(folder).unwrap();
        let store = StoreThread::start(store, || Duration::ZERO, |_, _| {}).unwrap();
        let (admin, _) = crate::admin::server::lanes();
        let log = EventLog::new(admin.clone(), LogFormat::Text, "test".to_owned());
        let plant = Plant { clock, net, receiver, names: Vec::new(), shard, media_sets, store, admin, log };
        (Signaling::new(border(clock), plant, Vec::new()), to_core, tasks)
    }

    #[test]
    fn an_order_that_found_no_room_is_tried_again_soon_and_nothing_is_timed_without_one() {
        let folder = std::env::temp_dir().join(format!("portcullis-orders-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let gate = Arc::new(Mutex::new(()));
        let (mut core, _, tasks) = core(&folder, Arc::clone(&gate));
        let closed = gate.lock().unwrap();
        let is_timed_soon = |core: &Signaling| {
            let then = core.next_timeout();
            then.is_some_and(|then| then <= core.plant.clock.mono() + ORDER_RETRY)
        };
        core.border.handle_timeout(core.plant.clock.now());
        for relay in 0.. {
            if !core.orders.is_empty() {
                break;
            }
            assert!(!is_timed_soon(&core), "{relay} orders found room");
            core.order(Order::Close { relay: RelayId(relay) }, core.plant.clock.mono());
        }
        assert!(is_timed_soon(&core));
        drop(closed);
        while !core.orders.is_empty() {
            std::thread::yield_now();
            core.retry_orders();
        }
        assert!(!is_timed_soon(&core));
        drop((core, tasks));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn after_a_turn_the_tasks_of_the_network_have_theirs() {
        let folder = std::env::temp_dir().join(format!("portcullis-turns-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (core, lanes, _tasks) = core(&folder, Arc::default());
        for _ in 0..TURN_EVENTS_MAX + 1 {
            lanes.push_internal(ShellEvent::Stored { ticket: 0, ok: true });
        }
        lanes.push_internal(ShellEvent::Stop);
        let mut served = Box::pin(core.serve());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut turns = 0;
        runtime.block_on(poll_fn(|cx| {
            turns += 1;
            served.as_mut().poll(cx).map(drop)
        }));
        assert_eq!(turns, 2);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn every_table_keeps_its_number() {
        let tables = [Table::Node, Table::Bindings, Table::Blocks, Table::Allowed, Table::Realms];
        for (number, table) in (1..).zip(tables) {
            let kept = Record { table, key: vec![1], value: Some(vec![2]) };
            let row = row(kept.clone());
            assert_eq!(row.table, number);
            assert_eq!(record(row), Some(kept));
        }
        assert_eq!(record(Row { table: 99, key: Vec::new(), value: None }), None);
    }

    #[test]
    fn orders_to_a_lost_shard_are_answered() {
        let relay = RelayId(7);
        assert!(matches!(shard_lost(&Order::Close { relay }), RelayEvent::Closed { relay: RelayId(7), .. }));
    }
}
