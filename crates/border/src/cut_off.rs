//! What a change of the lists ends: whoever is blocked now is cut off with all that is open (contract
//! section 6). Flows that are spared go on, and so do the calls and registrations on them.

use guard::BlockKind;
use sip::Hop;
use wire::net::{FlowId, Side};

use crate::Border;
use crate::binding::BindingId;
use crate::call::{Call, CallId, CallState};

/// The answer to a caller whose phone was blocked while it rang.
const UNAVAILABLE: u16 = 480;

impl Border {
    /// The lists changed: tells `net` and the media plane, and ends what may not go on. Returns how many calls
    /// that were.
    pub(crate) fn lists_changed(&mut self) -> usize {
        self.blocking.carried_out(&mut self.timers);
        let (spared, closing) = self.flows_of_blocked();
        self.spare_media();
        self.outputs.push_back(self.blocking.told(spared.into()));
        // Calls first: with their flow gone, they would seem to have failed for another reason.
        let calls = self.end_blocked_calls();
        self.end_blocked_bindings();
        for id in closing {
            self.close_flow(id);
        }
        calls
    }

    /// The flows of blocked sources: those that go on, and those that do not.
    fn flows_of_blocked(&self) -> (Vec<FlowId>, Vec<FlowId>) {
        let outside = self.flows.iter().filter(|(_, flow)| flow.side == Side::Outside);
        let of_blocked = outside.filter(|(_, flow)| self.blocking.lists().is_blocked(flow.tuple.remote.ip()));
        of_blocked.map(|(id, _)| id).partition(|id| self.is_spared(*id))
    }

    /// Tells the media plane whom the block list does not hold for.
    fn spare_media(&mut self) {
        let changed = |(id, call): (CallId, &Call)| {
            let spared = self.is_spared(self.phone_hop(call).flow);
            call.media.is_spared().is_some_and(|was| was != spared).then_some((id, spared))
        };
        for (id, spared) in self.calls.iter().filter_map(changed).collect::<Vec<_>>() {
            self.set_media_spared(id, spared);
        }
    }

    fn end_blocked_calls(&mut self) -> usize {
        let of_blocked = |(id, call): (CallId, &Call)| {
            let hop = self.phone_hop(call);
            let ends = call.state != CallState::Ending && self.is_blocked(hop.flow, hop.remote);
            ends.then(|| (id, self.words_of_block(&hop)))
        };
        let ending: Vec<_> = self.calls.iter().filter_map(of_blocked).collect();
        for (id, words) in &ending {
            self.terminate_call(*id, UNAVAILABLE, words);
        }
        ending.len()
    }

    /// A phone that is blocked cannot come back in the grace time. One that registers by pass-through stays
    /// known, because it stays at the PBX; it is not reached any more.
    fn end_blocked_bindings(&mut self) {
        let of_blocked: Vec<(BindingId, Hop)> = self
            .bindings
            .iter()
            .filter_map(|(id, binding)| Some((id, binding.hop?)))
            .filter(|(_, hop)| self.is_blocked(hop.flow, hop.remote))
            .collect();
        for (id, hop) in of_blocked {
            let words = self.words_of_block(&hop);
            if self.bindings.binding(id).is_some_and(|binding| !binding.pass_through) {
                self.end_binding(id, words);
                continue;
            }
            self.bindings.detach(id);
            if let Some(binding) = self.bindings.binding_mut(id) {
                binding.cut_off = Some(words);
            }
            self.hop_bindings_changed(&hop);
        }
    }

    /// Why a source is cut off, for events.
    fn words_of_block(&self, hop: &Hop) -> &'static str {
        match self.blocking.lists().blocked_by(hop.remote.ip()) {
            Some(BlockKind::Manual) => "the phone's address was blocked by the operator",
            Some(BlockKind::Automatic) | None => "the phone's address was blocked for offences",
        }
    }

    /// Where the phone of a call is, or was last.
    pub(crate) fn phone_hop(&self, call: &Call) -> Hop {
        let binding = self.bindings.by_token(call.token());
        binding.and_then(|id| self.binding_hop(id)).unwrap_or(call.leg(Side::Outside).hop)
    }
}
