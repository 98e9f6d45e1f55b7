//! Media that the relay does not let through for the sake of an address: told once for each leg and reason, so
//! that a silent call has a cause that can be read.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use media::{DropReason, RelayId};
use wire::net::Side;

use crate::Border;
use crate::event::Code;
use crate::report::About;

/// Seconds of a call in which there were refusals, before those are told that come in good calls as well: at the
/// beginning, while a source proves itself, and after a change, while the old one goes on for a moment.
const SECONDS_TELLING: u32 = 4;

/// In how many seconds something was refused on one m-line, by leg and reason.
#[derive(Debug, Default)]
pub(crate) struct Refusals(BTreeMap<(Side, DropReason), u32>);

impl Refusals {
    /// One more second; whether it is the one to tell the operator of.
    fn note(&mut self, side: Side, reason: DropReason) -> bool {
        let seconds = self.0.entry((side, reason)).or_default();
        *seconds = seconds.saturating_add(1);
        let patient =
            matches!(reason, DropReason::Stranger | DropReason::Unproven | DropReason::UnprovenDestination);
        *seconds == if patient { SECONDS_TELLING } else { 1 }
    }
}

impl Border {
    /// The media plane refused something on a leg within the last second.
    pub(crate) fn on_media_refused(
        &mut self,
        relay: RelayId,
        side: Side,
        reason: DropReason,
        address: SocketAddr,
    ) {
        let Some((id, index)) = self.relays.find(relay) else { return };
        let Some(call) = self.calls.call_mut(id) else { return };
        let line = call.media.lines.get_mut(index).and_then(Option::as_mut);
        if !line.is_some_and(|line| line.refusals.note(side, reason)) {
            return;
        }
        let (entry, device) = (call.entry, call.device);
        let ours = [self.config.outside.address, self.config.outside.public_address];
        let own = ours.contains(&address.ip().to_canonical());
        let about = About::source(address)
            .extension(self.entries.name(entry))
            .hardware_id(device)
            .rule(format!("media {reason}"));
        self.event(Code::MediaRefused, about, || words(side, reason, own));
    }
}

/// What happened, and what may be done about it.
fn words(side: Side, reason: DropReason, own: bool) -> (String, String) {
    let sender = match side {
        Side::Outside => "the phone",
        Side::Inside => "the PBX's side",
    };
    let (text, next_step) = match (reason, side) {
        (DropReason::ForbiddenSource, _) if own => (
            format!("media of {sender} come from our own outside address, to which nothing may be sent"),
            "look for a router that puts our public address in the place of the sender's (hairpin NAT), or let \
             a phone on this machine use another address",
        ),
        (DropReason::ForbiddenDestination, _) if own => (
            format!("{sender} wants its media at our own outside address, to which nothing may be sent"),
            "switch off what makes the sender take our address for its own: a STUN server or an outside \
             address in its settings, or an application gateway (SIP ALG) in the router",
        ),
        (DropReason::ForbiddenSource, _) => (
            format!("media of {sender} come from an address to which nothing may be sent from there"),
            "an address of the inside, of this machine or of many hosts at once is no phone: look at the \
             routing and the NAT between the sender and us",
        ),
        (DropReason::ForbiddenDestination, _) => (
            format!("{sender} wants its media at an address to which nothing may be sent from there"),
            "look at the address in the sender's settings (its own, a STUN server, an outside address)",
        ),
        (DropReason::UnprovenDestination, _) => (
            format!(
                "{sender} wants its media at a private address that it does not signal from, and has sent none"
            ),
            "let the phone send, if only silence, so that we learn where it is; nothing to do where its address \
             is of your inside: nothing was sent there",
        ),
        (DropReason::Blocked, _) => (
            format!("media of {sender} come from a blocked address"),
            "if it is one of yours: `portcullis block remove ADDRESS`",
        ),
        (DropReason::Stranger, Side::Outside) => (
            "somebody sends media to a call whose phone sends from elsewhere; they are dropped".to_owned(),
            "nothing to do where the call is heard; else the phone's address changed during the call, and it \
             did not say so (re-INVITE): look at its NAT",
        ),
        (DropReason::Stranger, Side::Inside) => (
            "media of the PBX's side come from another address than it said; they are dropped".to_owned(),
            "let the PBX or its media server send from the address and port that it names in its SDP",
        ),
        (_, _) => (
            format!("media of {sender} come from an address that nothing speaks for; they are dropped"),
            "let the sender use the address that it names in its SDP, or the one that it signals from",
        ),
    };
    (text, next_step.to_owned())
}
