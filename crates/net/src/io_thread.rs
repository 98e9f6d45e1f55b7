//! What the tasks of one thread share, and what the network's two threads share with each other.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use wire::net::{FlowId, Transport};

use crate::counters::Counters;
use crate::event::NetEvent;
use crate::flow::{Flow, FlowTable};
use crate::lanes::{Lane, Lanes};
use crate::lists::Lists;
use crate::outgoing;
use crate::registered_sources::RegisteredSources;
use crate::source_rate::{FloodReport, Floods, SourceRates};
use crate::tls::ServerIdentity;
use crate::udp::UdpPort;

/// One buffer for all reads of the thread: no idle connection holds one. The largest datagram fits.
const SCRATCH_BYTES: usize = 64 * 1024;
/// File descriptors that run out again within this time never ceased to be short.
const EXHAUSTED_ONCE: Duration = Duration::from_secs(60);
/// How often rates and floods are looked after.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(1);

/// What the core, its tasks and the doors share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) flows: FlowTable,
    pub(crate) lists: ArcSwap<Lists>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) identity: Option<Arc<ServerIdentity>>,
    pub(crate) udp: Vec<UdpPort>,
    pub(crate) registered_sources: RegisteredSources,
    pub(crate) next_flow: AtomicU64,
}

impl Shared {
    pub(crate) fn next_flow(&self) -> FlowId {
        FlowId(self.next_flow.fetch_add(1, Ordering::Relaxed))
    }
}

/// An order of the core.
#[derive(Debug)]
pub(crate) struct OpenFlow {
    pub(crate) flow: Arc<Flow>,
    pub(crate) transport: Transport,
}

/// What all tasks of one of the network's threads share.
#[derive(Debug)]
pub(crate) struct IoThread<T> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) lanes: Arc<Lanes<T>>,
    pub(crate) rates: SourceRates,
    pub(crate) scratch: RefCell<Box<[u8]>>,
    /// Sources that come too fast.
    floods: RefCell<Floods>,
    /// Sources with as many connections as may be.
    crowding: RefCell<Floods>,
    /// When file descriptors were short last, once that was told.
    exhausted: Cell<Option<Instant>>,
}

impl<T: Send + 'static> IoThread<T> {
    pub(crate) fn new(shared: Arc<Shared>, lanes: Arc<Lanes<T>>) -> Self {
        Self {
            shared,
            lanes,
            rates: SourceRates::new(),
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice()),
            floods: RefCell::default(),
            crowding: RefCell::default(),
            exhausted: Cell::default(),
        }
    }

    /// Counts a refusal for the rate of its source, and reports the source when its second is over.
    pub(crate) fn refuse(&self, source: SocketAddr, transport: Transport, port: u16) {
        let report = self.floods.borrow_mut().refused(source, transport, port, Instant::now());
        self.report(&self.floods, report, flooded);
    }

    /// Counts a refusal for the number of connections that its source has.
    pub(crate) fn refuse_crowded(&self, source: SocketAddr, transport: Transport, port: u16) {
        let report = self.crowding.borrow_mut().refused(source, transport, port, Instant::now());
        self.report(&self.crowding, report, crowded);
    }

    /// A connection could not be accepted for want of a file descriptor.
    pub(crate) fn files_exhausted(&self) {
        let now = Instant::now();
        let told = self.exhausted.get().is_some_and(|last| now - last < EXHAUSTED_ONCE);
        if told || self.lanes.try_push(Lane::Registered, NetEvent::FilesExhausted).is_ok() {
            self.exhausted.set(Some(now));
        }
    }

    /// Carries out the orders of the core.
    pub(crate) async fn serve(self: Rc<Self>, mut orders: mpsc::Receiver<OpenFlow>, inside: Option<IpAddr>) {
        while let Some(order) = orders.recv().await {
            tokio::task::spawn_local(outgoing::open(Rc::clone(&self), order, inside));
        }
    }

    /// Forgets a flow and says so, unless the core closed it itself.
    pub(crate) async fn close(&self, flow: &Flow, lane: Lane, told: bool) {
        self.shared.flows.remove(&flow.id);
        if !told {
            self.lanes.push(lane, NetEvent::FlowClosed { flow: flow.id }).await;
        }
    }

    pub(crate) async fn keep_house(self: Rc<Self>) {
        let mut ticks = interval(HOUSEKEEPING_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = ticks.tick().await;
            self.rates.forget_quiet();
            let due = self.floods.borrow_mut().due(now);
            self.report(&self.floods, due, flooded);
            let due = self.crowding.borrow_mut().due(now);
            self.report(&self.crowding, due, crowded);
        }
    }

    fn report(
        &self,
        refusals: &RefCell<Floods>,
        reports: impl IntoIterator<Item = FloodReport>,
        event: impl Fn(&FloodReport) -> NetEvent<T>,
    ) {
        for report in reports {
            if self.lanes.try_push(Lane::Strangers, event(&report)).is_err() {
                refusals.borrow_mut().take_back(&report);
            }
        }
    }
}

fn flooded<T>(report: &FloodReport) -> NetEvent<T> {
    let FloodReport { source, transport, port, refused } = *report;
    NetEvent::Flood { source, transport, port, refused }
}

fn crowded<T>(report: &FloodReport) -> NetEvent<T> {
    let FloodReport { source, transport, port, refused } = *report;
    NetEvent::SourceLimited { source, transport, port, refused }
}

/// The address without an IPv4-mapped form: one source has one name.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Closes a connection at once and without a byte.
pub(crate) fn reset(connection: tokio::net::TcpStream) {
    // Where the option cannot be set the close is an orderly one: still without a byte.
    let _closed_either_way = connection.set_zero_linger();
    drop(connection);
}
