//! Rules about who is heard before strangers: whoever is registered, as long as he is, and nobody else.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use border::command::RegistrationView;
use wire::net::{FlowId, Transport};

use crate::oracle::Violation;

/// What the border said of its lanes.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// By UDP: addresses where a phone is registered.
    datagrams: BTreeSet<SocketAddr>,
    /// Connections on which one was, each with its other end.
    streams: BTreeSet<(FlowId, SocketAddr)>,
    /// Those of them that are new since the registrations were looked at.
    fresh: BTreeSet<SocketAddr>,
    /// Something was said since then.
    changed: bool,
}

impl Places {
    /// A phone registered at a place, or the last one there is gone.
    pub(super) fn on_place(&mut self, flow: FlowId, source: SocketAddr, is_udp: bool, registered: bool) {
        self.changed = true;
        match (is_udp, registered) {
            (true, true) => drop(self.datagrams.insert(source)),
            (true, false) => drop(self.datagrams.remove(&source)),
            (false, true) => {
                self.streams.insert((flow, source));
                self.fresh.insert(source);
            }
            (false, false) => {}
        }
    }

    /// What comes from there goes by the lane that strangers cannot fill.
    pub(super) fn is_registered(&self, flow: FlowId, source: SocketAddr) -> bool {
        self.datagrams.contains(&source) || self.streams.contains(&(flow, source))
    }

    pub(super) fn on_closed(&mut self, flow: FlowId) {
        self.streams.retain(|(own, _)| *own != flow);
    }

    pub(super) fn on_restart(&mut self) {
        *self = Self::default();
    }

    /// Whether the registrations should be looked at.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Nobody keeps the place of a registered phone, and each registered phone has one.
    pub(super) fn are_those_of(&mut self, registrations: &[RegistrationView]) -> Result<(), Violation> {
        let at = |udp: bool, in_state: fn(&str) -> bool| -> BTreeSet<SocketAddr> {
            let by = |view: &&RegistrationView| {
                (view.transport == Transport::Udp) == udp && in_state(view.pbx_state)
            };
            registrations.iter().filter(by).filter_map(|view| view.source.parse().ok()).collect()
        };
        let streams: BTreeSet<SocketAddr> = self.streams.iter().map(|(_, source)| *source).collect();
        // while it registers, or has lost its registration at the PBX, a phone may be reached or not
        let may_be_there = at(true, |state| state != "grace");
        let may_have_come = at(false, |_| true);
        let fresh = std::mem::take(&mut self.fresh);
        let left: Vec<_> =
            self.datagrams.difference(&may_be_there).chain(fresh.difference(&may_have_come)).collect();
        let [by_udp, by_stream] = [true, false].map(|udp| at(udp, |state| state == "registered"));
        let missing: Vec<_> =
            by_udp.difference(&self.datagrams).chain(by_stream.difference(&streams)).collect();
        match left.is_empty() && missing.is_empty() {
            true => Ok(()),
            false => Err(Violation::new(
                "who is registered has his place, and nobody else",
                format!("left are {left:?}, missing {missing:?}: {registrations:?}"),
            )),
        }
    }
}
