//! Where a request inside a dialog goes on the inside face: where the PBX said, by Contact or Record-Route, as
//! long as that can be a machine of the inside; else to the PBX itself, which finds its way (RFC 3261 §12.2.1.1).
//!
//! What the PBX says is believed and not trusted: it may be confused, or taken over, and must not make us speak
//! to this machine's own services, to everybody at once, or to more machines than we have room for.

use std::net::{IpAddr, SocketAddr};

use sip::Hop;
use wire::net::{Side, Transport};
use wire::sip::{Host, Uri};

use crate::Border;
use crate::call::CallId;
use crate::event::Code;
use crate::interface::Target;
use crate::report::About;

impl Border {
    /// The way to what the dialog of a call names as its next hop.
    pub(crate) fn hop_in_dialog(&mut self, uri: &str, call: CallId) -> Option<Hop> {
        let pbx = self.calls.call(call)?.pbx;
        let own = self.pbxs.get(pbx)?.targets.first().copied();
        let Some(target) = named_target(uri, own) else { return self.hop_to_pbx(pbx) };
        if own == Some(target) {
            return self.hop_to_pbx(pbx);
        }
        let ip = target.address.ip().to_canonical();
        if self.is_trusted(ip) || self.pbxs.iter().any(|pbx| pbx.has_address(ip)) {
            return self.hop_inside(target);
        }
        if !self.may_be_inside(&target) {
            self.report_refused_target(call, target.address);
            return self.hop_to_pbx(pbx);
        }
        self.hop_to_foreign(target).or_else(|| self.hop_to_pbx(pbx))
    }

    /// Whether a machine of the inside can have this address. Our own listener is one: a call between two of our
    /// phones may come back to us past the PBX.
    fn may_be_inside(&self, target: &Target) -> bool {
        let Target { transport, address } = *target;
        let (ip, face) = (address.ip().to_canonical(), self.config.inside.address);
        let outside = &self.config.outside;
        if ip == outside.address.to_canonical() || ip == outside.public_address.to_canonical() {
            return false;
        }
        if ip == face.to_canonical() {
            let ours = self.flows.listener(Side::Inside, transport);
            return ours.is_some_and(|listener| listener.local.port() == address.port());
        }
        let (link_local, broadcast) = match ip {
            IpAddr::V4(v4) => (v4.is_link_local(), v4.is_broadcast() || v4.octets().first() == Some(&0)),
            IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.is_unspecified()),
        };
        address.port() != 0
            && ip.is_ipv4() == face.is_ipv4()
            && !ip.is_multicast()
            && !broadcast
            && !link_local
            && (!ip.is_loopback() || face.is_loopback())
    }

    /// One event for each call.
    fn report_refused_target(&mut self, id: CallId, address: SocketAddr) {
        let Some(call) = self.calls.call_mut(id) else {
            return self.never("a call is gone while it is worked on");
        };
        if std::mem::replace(&mut call.target_refused, true) {
            return;
        }
        let about = About::source(address).extension(self.entries.name(call.entry));
        self.event(Code::TargetRefused, about, || {
            (
                format!("the PBX named {address} as the other end of a call: nothing is sent there"),
                "look at the Contact and Record-Route that the PBX sends; the call goes on by the PBX".into(),
            )
        });
    }

    /// None where there is no room for one more connection.
    fn hop_to_foreign(&mut self, target: Target) -> Option<Hop> {
        if target.transport == Transport::Udp || self.connections.to(target.address).is_some() {
            return self.hop_inside(target);
        }
        if self.connections.are_full_of_foreign() {
            let oldest = self.connections.oldest_foreign()?;
            self.close_flow(oldest);
        }
        let hop = self.hop_inside(target)?;
        self.connections.note_foreign(hop.flow);
        Some(hop)
    }
}

/// The address that a URI names, and how it is reached; none where it has a name or cannot be read.
fn named_target(uri: &str, own: Option<Target>) -> Option<Target> {
    let parsed = Uri::parse(uri).ok()?;
    let Host::Ip(ip) = parsed.host else { return None };
    let transport = match parsed.params.value("transport") {
        Some(name) if name.eq_ignore_ascii_case("tcp") => Transport::Tcp,
        Some(_) => Transport::Udp,
        None => own
            .filter(|own| own.address.ip().to_canonical() == ip.to_canonical())
            .map_or(Transport::Udp, |own| own.transport),
    };
    Some(Target { transport, address: SocketAddr::new(ip, parsed.port.unwrap_or(5060)) })
}
