//! Datagrams: received in batches and sent on the core's thread.
//!
//! Each is judged right after `recv`: block list, rate of its source, length, STUN. STUN is answered at once
//! and never queued. What comes from a source that a phone registered from is handed on before strangers. What the core has no room for is dropped and counted. RFC 3261 §18, RFC 8489 §12.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::rc::Rc;

use bytes::Bytes;
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use wire::net::{FlowId, Side, Transport};
use wire::stun;

use crate::counters::{Count, Counters};
use crate::event::NetEvent;
use crate::io_thread::{IoThread, canonical};
use crate::lanes::Lane;
use crate::lists::Lists;

/// Datagrams that are read before the thread turns to others: about what the core takes of strangers in its turn.
const BATCH_MAX: usize = 16;

/// The longest datagram that is read on the outside face: several times what phones send by UDP, where
/// RFC 3261 §18.1.1 asks for a stream above 1,300 bytes.
const OUTSIDE_MAX: usize = 8 * 1024;

/// What a UDP listener is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UdpDoor {
    pub(crate) flow: FlowId,
    pub(crate) side: Side,
    pub(crate) local: SocketAddr,
    /// Whether STUN is answered here.
    pub(crate) stun: bool,
    /// Whether anything else is read here.
    pub(crate) sip: bool,
}

/// The sending half of a UDP listener, for the core.
#[derive(Debug)]
pub(crate) struct UdpPort {
    pub(crate) flow: FlowId,
    pub(crate) side: Side,
    pub(crate) socket: UdpSocket,
    pub(crate) is_ipv6: bool,
}

impl UdpPort {
    /// Sends one datagram, or drops and counts it: UDP waits for nobody.
    pub(crate) fn send(&self, to: SocketAddr, bytes: &[u8], lists: &Lists, counters: &Counters) {
        if self.side == Side::Outside && lists.is_blocked(to.ip()) {
            return counters.add(Count::BlockedSend);
        }
        match self.socket.send_to(bytes, self.as_sent(to)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => counters.add(Count::SendWouldBlock),
            Err(_) => counters.add(Count::SendFailed),
        }
    }

    /// A socket of both families wants IPv4 addresses mapped.
    fn as_sent(&self, to: SocketAddr) -> SocketAddr {
        match to.ip() {
            IpAddr::V4(ip) if self.is_ipv6 => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
            _ => to,
        }
    }
}

/// What becomes of a datagram.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The core reads it, from this lane.
    Core(Lane),
    /// It is answered with the first bytes of the reply buffer.
    Answer(usize),
    /// It is dropped for this.
    Drop(Count),
}

/// What was read at once, by its lane.
struct Batch<T> {
    registered: Vec<NetEvent<T>>,
    strangers: Vec<NetEvent<T>>,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { registered: Vec::new(), strangers: Vec::new() }
    }
}

impl<T> Batch<T> {
    fn lane(&mut self, lane: Lane) -> &mut Vec<NetEvent<T>> {
        match lane {
            Lane::Registered => &mut self.registered,
            Lane::Strangers => &mut self.strangers,
        }
    }
}

/// A listener that the runtime watches for what comes in, and for nothing else: were it told of room to send
/// as well, each datagram that leaves would wake the thread once more.
pub(crate) type Watched = AsyncFd<UdpSocket>;

/// Has the runtime of this thread watch a listener.
#[expect(
    deprecated,
    reason = "deprecated for types whose descriptor may change; a std socket keeps its own until it is dropped, \
              and the successor is unsafe"
)]
pub(crate) fn watch(socket: UdpSocket) -> io::Result<Watched> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// Reads for as long as the thread runs.
pub(crate) async fn listen<T: Send + 'static>(io: Rc<IoThread<T>>, socket: Watched, door: UdpDoor) {
    let mut batch = Batch::default();
    loop {
        // It fails only where the runtime ends, and this task with it.
        let Ok(mut ready) = socket.readable().await else { return };
        let more = read_batch(&io, &mut ready, door, &mut batch);
        drop(ready);
        let dropped = io.lanes.push_batch(Lane::Registered, &mut batch.registered)
            + io.lanes.push_batch(Lane::Strangers, &mut batch.strangers);
        io.shared.counters.add_many(Count::CoreBusy, dropped);
        if more {
            tokio::task::yield_now().await;
        }
    }
}

/// Whether more may wait.
fn read_batch<T: Send + 'static>(
    io: &IoThread<T>,
    ready: &mut AsyncFdReadyGuard<'_, UdpSocket>,
    door: UdpDoor,
    batch: &mut Batch<T>,
) -> bool {
    let counters = &io.shared.counters;
    let lists = io.shared.lists.load();
    let mut scratch = io.scratch.borrow_mut();
    let mut reply = [0; 64];
    for _ in 0..BATCH_MAX {
        let (length, sent_from) = match ready.try_io(|socket| socket.get_ref().recv_from(&mut scratch)) {
            Ok(Ok(received)) => received,
            // An ICMP error of an earlier datagram: the next may be good.
            Ok(Err(_)) => continue,
            Err(_nothing_waits) => return false,
        };
        let from = canonical(sent_from);
        let Some(datagram) = scratch.get(..length) else { continue };
        match door.judge(io, &lists, from, datagram, &mut reply) {
            Verdict::Core(lane) => {
                let bytes = Bytes::copy_from_slice(datagram);
                batch.lane(lane).push(NetEvent::Bytes { flow: door.flow, from, bytes });
            }
            Verdict::Answer(length) => {
                let socket = ready.get_ref().get_ref();
                let sent = reply.get(..length).map(|reply| socket.send_to(reply, sent_from));
                let sent = matches!(sent, Some(Ok(_)));
                counters.add(if sent { Count::StunAnswered } else { Count::SendWouldBlock });
            }
            Verdict::Drop(count) => {
                counters.add(count);
                if count == Count::DatagramRate {
                    io.refuse(from, Transport::Udp, door.local.port());
                }
            }
        }
    }
    true
}

impl UdpDoor {
    fn judge<T: Send + 'static>(
        &self,
        io: &IoThread<T>,
        lists: &Lists,
        from: SocketAddr,
        datagram: &[u8],
        reply: &mut [u8; 64],
    ) -> Verdict {
        let mut lane = Lane::Registered;
        if self.side == Side::Outside {
            if lists.is_blocked(from.ip()) {
                return Verdict::Drop(Count::BlockedDatagram);
            }
            let registered = io.shared.registered_sources.admit(self.flow, from);
            if registered.is_none() {
                lane = Lane::Strangers;
            }
            let admitted =
                registered.unwrap_or_else(|| io.rates.admit_datagram(from.ip(), lists.is_allowed(from.ip())));
            if !admitted {
                return Verdict::Drop(Count::DatagramRate);
            }
            if datagram.len() > OUTSIDE_MAX {
                return Verdict::Drop(Count::DatagramTooLong);
            }
        }
        match datagram.first() {
            None => Verdict::Drop(Count::DatagramEmpty),
            // RFC 7983 §7: what begins so is STUN.
            Some(0..=3) if self.stun => match stun::binding_reply(datagram, from, reply) {
                Some(length) => Verdict::Answer(length),
                None => Verdict::Drop(Count::StunIgnored),
            },
            Some(0..=3) => Verdict::Drop(Count::StunIgnored),
            Some(_) if self.sip => Verdict::Core(lane),
            Some(_) => Verdict::Drop(Count::StunIgnored),
        }
    }
}
