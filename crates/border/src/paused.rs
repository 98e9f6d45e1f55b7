//! Messages of a call that wait: for ports, or behind one of their dialog that does.

use bytes::Bytes;
use wire::sip::{Message, Method};

use crate::Border;
use crate::call::CallId;
use crate::dialog_map::DialogRef;
use crate::forward::{Forward, ForwardId, Kind};
use crate::response::Reply;

/// A message that waits.
pub(crate) enum Paused {
    /// A request that wants ports.
    Request(ForwardId),
    /// It wants none, but came after one in its dialog that does, and would be out of order (RFC 3261 §12.2.2).
    Behind(ForwardId),
    /// An answer that wants ports.
    Response { forward: ForwardId, bytes: Bytes, status: u16 },
}

impl Paused {
    /// Whose message it is.
    pub(crate) fn forward(&self) -> ForwardId {
        match self {
            Self::Request(forward) | Self::Behind(forward) | Self::Response { forward, .. } => *forward,
        }
    }

    pub(crate) fn is_request(&self) -> bool {
        matches!(self, Self::Request(_) | Self::Behind(_))
    }

    /// Whether it is an answer to this one.
    pub(crate) fn answers(&self, id: ForwardId) -> bool {
        matches!(self, Self::Response { forward, .. } if *forward == id)
    }
}

impl Border {
    pub(crate) fn pause(&mut self, call: CallId, message: Paused) {
        if let Some(call) = self.calls.call_mut(call) {
            call.paused.push(message);
        }
    }

    /// The call where a request of this dialog, of the same side, waits and must go first.
    pub(crate) fn waits_behind(&self, id: ForwardId) -> Option<CallId> {
        let Forward { ask, kind: Kind::InDialog { dialog }, .. } = self.forward(id)? else { return None };
        let goes_first = |paused: &Paused| {
            let earlier = self.forward(paused.forward()).filter(|_| paused.is_request());
            earlier
                .is_some_and(|earlier| earlier.ask.side == ask.side && earlier.kind.dialog() == Some(*dialog))
        };
        self.calls.call(dialog.call)?.paused.iter().any(goes_first).then_some(dialog.call)
    }

    /// A BYE waits for nobody: what waits in its dialog is answered (RFC 3261 §15.1.2).
    pub(crate) fn abandon_waiting(&mut self, dialog: DialogRef) {
        let forwards = &self.forwards;
        let of_dialog = |paused: &mut Paused| {
            let forward = forwards.get(paused.forward()).filter(|_| paused.is_request());
            forward.is_some_and(|forward| forward.kind.dialog() == Some(dialog))
        };
        let Some(call) = self.calls.call_mut(dialog.call) else { return };
        let waiting: Vec<Paused> = call.paused.extract_if(.., of_dialog).collect();
        waiting.into_iter().for_each(|paused| self.abandon_paused(paused));
    }

    /// The ports are there.
    pub(crate) fn resume(&mut self, paused: Paused) {
        match paused {
            Paused::Request(forward) | Paused::Behind(forward) => self.dispatch(forward),
            Paused::Response { forward, bytes, status } => {
                let Ok(message) = Message::parse(&bytes) else {
                    return self.never("an answer that was read cannot be read again");
                };
                let Ok(essentials) = message.essentials() else {
                    return self.never("an answer that was read cannot be read again");
                };
                let reply = Reply { message: &message, essentials: &essentials, bytes: &bytes, status };
                self.pass_response(forward, reply);
            }
        }
    }

    /// What waited for the ports of a call that is over.
    pub(crate) fn abandon_paused(&mut self, paused: Paused) {
        match paused {
            Paused::Request(id) | Paused::Behind(id) => {
                self.fail_forward(id, 487, "the call ended before it could be sent")
            }
            Paused::Response { forward, bytes, status } => {
                let Ok(message) = Message::parse(&bytes) else {
                    return self.never("an answer that was read cannot be read again");
                };
                let Ok(essentials) = message.essentials() else {
                    return self.never("an answer that was read cannot be read again");
                };
                if status < 200 {
                    // What it is a word about has its own answer.
                    return;
                }
                if essentials.cseq.method == Method::Invite {
                    let reply = Reply { message: &message, essentials: &essentials, bytes: &bytes, status };
                    self.hang_up_late(forward, reply);
                }
                self.fail_forward(forward, 487, "the call ended before its answer could be passed on");
            }
        }
    }

    /// Whether its answer waits for ports.
    pub(crate) fn has_paused_answer(&self, id: ForwardId) -> bool {
        let call = self.call_of(id).and_then(|call| self.calls.call(call));
        call.is_some_and(|call| call.paused.iter().any(|paused| paused.answers(id)))
    }
}
