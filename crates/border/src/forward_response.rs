//! The answers to a forwarded request on their way back: dialog, media, head, headers (RFC 3261 §16.7 in
//! manner, §12 and §13 in effect).

use std::time::Duration;

use bytes::Bytes;
use sip::{ClientId, ServerId};
use wire::net::Side;
use wire::sip::{CSeq, HeaderName, Message, Method, NameAddr, Uri, Writer};

use crate::Border;
use crate::answer::{Ask, reason_phrase, size_max};
use crate::binding::Binding;
use crate::body::Body;
use crate::call::{Call, CallId, CallState, DialogPair, FORKS_MAX};
use crate::dialog_map::DialogRef;
use crate::digest::{self, Challenged};
use crate::entry::EntryId;
use crate::event::Code;
use crate::forward::{ForwardId, Kind};
use crate::media_plan::{Hiding, Plan};
use crate::outgoing::Prepared;
use crate::paused::Paused;
use crate::report::About;
use crate::response::{ClientUse, Lost, Reply};

/// From the number of an INVITE to that of a BYE in a dialog that we have forgotten: who answers late may have had
/// PRACKs and UPDATEs under the numbers between (RFC 3261 §12.2.2: a gap is no error).
const CSEQ_GAP: u32 = 1_000;
/// For so long a 2xx waits for its ACK (RFC 3261 §13.3.1.4).
const ACK_MAX: Duration = Duration::from_secs(32);

impl Border {
    pub(crate) fn on_forward_response(&mut self, id: ForwardId, reply: Reply<'_>) {
        let status = reply.status;
        self.unanswered.ended(id);
        let Some(forward) = self.forward(id) else { return };
        let accepts = reply.essentials.cseq.method == Method::Invite && (200..300).contains(&status);
        if status == 100 || (forward.answered && !accepts) {
            return;
        }
        if matches!(status, 401 | 407)
            && forward.ask.side == Side::Outside
            && let Some(entry) = self.surrogate_entry(id)
        {
            return self.on_challenged(id, entry, reply.message);
        }
        self.pass_response(id, reply);
    }

    /// The PBX challenges a request of an extension whose password is ours. Its phone has none: it never hears of the
    /// challenge, but where our answer is in vain a refusal for which it asks nobody.
    fn on_challenged(&mut self, id: ForwardId, entry: EntryId, message: &Message<'_>) {
        let pbx = self.pbx_of(id);
        let Some(forward) = self.forward_mut(id) else {
            return self.never("a forward is gone while it is worked on");
        };
        if forward.cancelled {
            return self.fail_forward(id, 487, "it was given up");
        }
        let mut auth = std::mem::take(&mut forward.auth);
        let challenged = self.take_challenge(pbx, entry, &mut auth, message);
        if let Some(forward) = self.forward_mut(id) {
            forward.auth = auth;
        }
        match challenged {
            Challenged::Retry => self.send_again(id),
            Challenged::Refused(why) => self.fail_for_password(id, entry, why),
        }
    }

    /// Sends a request once more, with the next number of its side.
    fn send_again(&mut self, id: ForwardId) {
        match self.forward_mut(id).map(|forward| &mut forward.kind) {
            Some(Kind::Single(single)) => single.cseq = single.cseq.wrapping_add(1),
            Some(Kind::Invite { call } | Kind::InDialog { dialog: DialogRef { call, .. } }) => {
                let call = *call;
                if let Some(call) = self.calls.call_mut(call) {
                    let leg = call.leg_mut(Side::Inside);
                    leg.cseq_offset = leg.cseq_offset.wrapping_add(1);
                }
            }
            None => return self.never("a forward is gone while it is worked on"),
        }
        self.dispatch(id);
    }

    /// Passes a response on: dialog, media, head, headers.
    pub(crate) fn pass_response(&mut self, id: ForwardId, reply: Reply<'_>) {
        let Reply { message, status, .. } = reply;
        let Some(forward) = self.forward(id) else { return };
        let (ask, initial) = (forward.ask.clone(), matches!(forward.kind, Kind::Invite { .. }));
        let Ok(request) = Message::parse(&ask.bytes) else {
            return self.never("a request that was read cannot be read again");
        };
        let Some(asked) = request.value(HeaderName::CSeq).and_then(|value| CSeq::parse(value).ok()) else {
            return self.never("a request that was forwarded has no CSeq");
        };
        let method = asked.method;
        let call = self.call_of(id).filter(|call| self.calls.call(*call).is_some());
        if call.is_none() && method == Method::Invite && (200..300).contains(&status) {
            self.hang_up_late(id, reply);
            // Its call ended by a BYE before this answer: whoever called has none yet.
            return self.answer_forward(id, 487);
        }
        if initial && (200..300).contains(&status) && self.forward(id).is_some_and(|forward| forward.unheard)
        {
            self.hang_up_late(id, reply);
            return self.fail_forward(id, 487, "the caller was gone before the call was accepted");
        }
        if call.is_none() && !matches!(forward.kind, Kind::Single(_)) {
            // The call is over: what comes late has no dialog, and its addresses no ports of ours.
            let status = match status {
                // Nobody can answer a challenge for it any more.
                ..=299 | 401 | 407 if method == Method::Invite => 487,
                401 | 407 => 481,
                _ => status,
            };
            return self.answer_forward(id, status);
        }
        let dialog = call.and_then(|call| self.note_dialog(id, call, reply, &request));
        match (dialog, method, status) {
            (Some(dialog), Method::Invite, 200..=299) if self.is_repetition(dialog, &ask) => return,
            (None, Method::Invite, 200..=299) if initial => {
                // Nobody could acknowledge it, nor hang up.
                self.hang_up_late(id, reply);
                return self.fail_forward(id, 502, "its answer makes no dialog");
            }
            _ => {}
        }
        let hiding = self.hiding(id, message, ask.side.other());
        let body = match self.plan_body(call, &hiding, message, method) {
            Plan::Send(body) => body,
            Plan::Wait => {
                if let Some(call) = call {
                    let bytes = reply.bytes.clone();
                    self.pause(call, Paused::Response { forward: id, bytes, status });
                }
                return;
            }
            Plan::Refuse(_) => {
                match call.filter(|_| method == Method::Invite && (200..300).contains(&status)) {
                    Some(call) => return self.refuse_answer(id, call, dialog),
                    // The answer counts without its body.
                    None => Body::default(),
                }
            }
        };
        let mut bytes = self.response_bytes(id, reply, &request, &hiding, body);
        if bytes.len() > size_max(ask.hop.transport) {
            // What was written in the place of hidden names made it too large: the status is what counts.
            bytes = self.response_bytes(id, reply, &request, &hiding, Body::default());
        }
        self.transactions.respond(ask.server, status, bytes, self.now.mono);
        let entry = call.and_then(|call| self.calls.call(call)).map(|call| call.entry);
        self.after_response(id, call, dialog, asked, status);
        if let Some(entry) = entry.filter(|_| matches!(status, 401 | 407) && ask.side == Side::Outside) {
            self.count_refused_credentials(&ask, &request, message, entry);
        }
        if status >= 200 && method != Method::Invite {
            // Done with: only its transactions still wait for repetitions.
            self.drop_forward(id);
        }
    }

    /// The other side's transaction has ended while the answer waited.
    pub(crate) fn drop_where_over(&mut self, id: ForwardId) {
        if self.forward(id).is_some_and(|forward| forward.answered && forward.client.is_none()) {
            self.drop_forward(id);
        }
    }

    /// A response as the side that asked gets it.
    fn response_bytes(
        &mut self,
        id: ForwardId,
        reply: Reply<'_>,
        request: &Message<'_>,
        hiding: &Hiding,
        body: Body,
    ) -> Bytes {
        let Reply { message, essentials, status, .. } = reply;
        let Some(forward) = self.forward(id) else {
            self.never("a forward is gone while it is worked on");
            return Bytes::new();
        };
        let (remote, tag) = (forward.ask.hop.remote, essentials.to.tag());
        let mut writer = sip::response::response(request, remote, status, reason_phrase(status), tag);
        self.write_response_headers(&mut writer, id, hiding, (message, status), request);
        Bytes::from(body.finish(writer))
    }

    /// A challenge in answer to credentials says that they were wrong, unless their nonce was only too old.
    fn count_refused_credentials(
        &mut self,
        ask: &Ask,
        request: &Message<'_>,
        message: &Message<'_>,
        entry: EntryId,
    ) {
        let tried = digest::credentials_of(request).next().is_some();
        let stale = digest::challenges_of(message).any(|(_, value)| digest::is_stale(value));
        if !tried || stale {
            return;
        }
        let proof = self.proof_by_request(&ask.hop, request);
        let about = About::default().extension(self.entries.name(entry));
        self.offence(&ask.hop, proof, Code::DigestFailed, about, || {
            (
                "the PBX refused the phone's user name or password for a call".into(),
                "enter the extension's password in the phone again".into(),
            )
        });
    }

    fn write_response_headers(
        &mut self,
        writer: &mut Writer,
        id: ForwardId,
        hiding: &Hiding,
        (message, status): (&Message<'_>, u16),
        request: &Message<'_>,
    ) {
        let Some(forward) = self.forward(id) else {
            return self.never("a forward is gone while it is worked on");
        };
        let (side, hop) = (forward.ask.side, forward.ask.hop);
        let method = request.method();
        let domain = self.config.pbx[hiding.pbx].domain.clone();
        if method == Some(Method::Invite) && (101..300).contains(&status) {
            for route in request.values(HeaderName::RecordRoute) {
                writer.header("Record-Route", wire::sip::unfold(route));
            }
        }
        let user = self
            .call_of(id)
            .and_then(|call| self.calls.call(call))
            .map(|call| call.contact_users[side.index()].clone());
        if let (Some(user), 101..=299) = (user, status)
            && !matches!(method, Some(Method::Bye | Method::Message | Method::Info))
        {
            writer.header("Contact", self.contact(side, &hop, &user));
        }
        if (300..400).contains(&status) {
            for contact in self.redirects(message, &domain) {
                writer.header("Contact", contact);
            }
        }
        if matches!(status, 401 | 407) && side == Side::Outside {
            self.pass_challenges(writer, message, hop.remote.ip());
        }
        self.topology.pass_headers(message, side, &domain, &hiding.private, writer);
    }

    /// The Contacts of a 3xx as the other side may use them: the same users at our domain, as they are written, for
    /// what they escape may not stand in a URI.
    fn redirects(&self, message: &Message<'_>, domain: &str) -> Vec<String> {
        let at_home = |value: &str| {
            let user = Uri::parse(NameAddr::parse(value).ok()?.uri).ok()?.user?;
            (!self.topology.names_hidden(user)).then(|| format!("<sip:{user}@{domain}>"))
        };
        let contacts = message.values(HeaderName::Contact).flat_map(wire::sip::split_list);
        contacts.filter_map(at_home).take(8).collect()
    }

    /// What the phone of a forwarded request calls itself, in its call and where it registered: many a message has no
    /// Contact of its own.
    pub(crate) fn phone_contacts(&self, id: ForwardId) -> [Option<&str>; 2] {
        let Some(forward) = self.forward(id) else { return [None; 2] };
        let (in_call, binding) = match &forward.kind {
            Kind::Single(single) => (None, self.bindings.binding(single.binding)),
            Kind::Invite { call } => {
                let call = self.calls.call(*call);
                let called = call.filter(|call| call.caller == Side::Inside);
                (called.map(|call| call.target.as_str()), call.and_then(|call| self.binding_of(call)))
            }
            Kind::InDialog { dialog } => {
                let call = self.calls.call(dialog.call);
                let own = call.and_then(|call| call.dialog(dialog.index, Side::Outside));
                (own.map(|own| own.remote_target.as_str()), call.and_then(|call| self.binding_of(call)))
            }
        };
        [in_call, binding.map(|binding| binding.contact.as_str())]
    }

    /// The binding of a call's phone. A call outlives the one that it came by: then it is another one on its flow.
    fn binding_of(&self, call: &Call) -> Option<&Binding> {
        let hop = &call.leg(Side::Outside).hop;
        let now = || self.bindings.binding(*self.bindings.by_hop(hop).first()?);
        let own = self.bindings.by_token(call.token()).and_then(|id| self.bindings.binding(id));
        own.or_else(now)
    }

    /// The address of the phone at one end of a forwarded request.
    pub(crate) fn phone_address(&self, id: ForwardId) -> std::net::IpAddr {
        let asks = self.forward(id).map(|forward| &forward.ask).filter(|ask| ask.side == Side::Outside);
        let call = self.call_of(id).and_then(|call| self.calls.call(call));
        let single = match self.forward(id).map(|forward| &forward.kind) {
            Some(Kind::Single(single)) => Some(single.hop),
            Some(Kind::Invite { .. } | Kind::InDialog { .. }) | None => None,
        };
        asks.map(|ask| ask.hop)
            .or_else(|| call.map(|call| call.leg(Side::Outside).hop))
            .or(single)
            .map_or(std::net::IpAddr::from([0, 0, 0, 0]), |hop| hop.remote.ip())
    }

    /// Keeps what a response says about its dialog: a new one, a new target.
    fn note_dialog(
        &mut self,
        id: ForwardId,
        call: CallId,
        reply: Reply<'_>,
        request: &Message<'_>,
    ) -> Option<DialogRef> {
        let Reply { message, essentials, status, .. } = reply;
        let forward = self.forward(id)?;
        let from = forward.ask.side;
        match forward.kind {
            Kind::Invite { .. } => {
                let tag = essentials.to.tag().filter(|_| (101..300).contains(&status))?;
                let index = self.dialog_for(call, tag, message, request)?;
                let pair = self.calls.call_mut(call)?.dialogs.get_mut(index)?;
                if (200..300).contains(&status) {
                    pair.sides[from.index()].confirm();
                    pair.sides[from.other().index()].on_success(message).ok()?;
                }
                Some(DialogRef { call, index })
            }
            Kind::InDialog { dialog } => {
                let pair = self.calls.call_mut(call)?.dialogs.get_mut(dialog.index)?;
                pair.sides[from.index()].on_answered(request, status);
                if (200..300).contains(&status) {
                    pair.sides[from.other().index()].on_success(message).ok()?;
                }
                Some(dialog)
            }
            Kind::Single(_) => None,
        }
    }

    /// A 2xx of an INVITE that this party accepted before: its ACK is sent again, or, while the caller's has
    /// not come, nothing, for our own 2xx is repeated by its transaction. Where several parties wait for
    /// theirs, the transaction repeats the last answer alone: then this one is passed on again.
    fn is_repetition(&mut self, dialog: DialogRef, ask: &Ask) -> bool {
        let Some(call) = self.calls.call(dialog.call) else { return false };
        let Some(pair) = call.dialogs.get(dialog.index) else { return false };
        let Some(invite) = pair.invites.iter().find(|own| own.server == ask.server) else { return false };
        match invite.ack.clone() {
            Some((hop, bytes)) => self.send(&hop, bytes),
            // It has its BYE: nobody acknowledges it any more.
            None if pair.ended => {}
            None => return call.dialogs.iter().filter(|pair| pair.awaits_ack(ask.server)).count() == 1,
        }
        true
    }

    /// A 2xx for a call that is over: its sender is acknowledged as often as he repeats it, and hung up once
    /// (RFC 3261 §13.2.2.4).
    pub(crate) fn hang_up_late(&mut self, id: ForwardId, reply: Reply<'_>) {
        let Some(forward) = self.forward(id) else { return };
        let (bytes, to) = (forward.ask.bytes.clone(), forward.ask.side.other());
        let Some(hop) = forward.sent_to else {
            return self.never("a request that was answered went nowhere");
        };
        let tag = reply.essentials.to.tag().unwrap_or_default();
        if let Some((_, ack)) = forward.hung_up.iter().find(|(known, _)| known == tag) {
            let ack = ack.clone();
            return self.send(&hop, ack);
        }
        if forward.hung_up.len() >= FORKS_MAX {
            return;
        }
        let Ok(request) = Message::parse(&bytes) else {
            return self.never("a request that was read cannot be read again");
        };
        let Ok(dialog) = sip::Dialog::uac(&request, reply.message) else { return };
        // Both legs bear the caller's tag: another one is for no INVITE of ours.
        if request.essentials().is_ok_and(|own| own.from.tag() != Some(&dialog.id.local_tag)) {
            return;
        }
        let cseq = reply.essentials.cseq.number;
        let branch = self.entropy.branch();
        let ack = dialog.request(Method::Ack, cseq, &self.via_value(to, &hop, &branch), 70).finish(b"");
        let ack = Bytes::from(ack);
        if let Some(forward) = self.forward_mut(id) {
            forward.hung_up.push((tag.to_owned(), ack.clone()));
        }
        self.send(&hop, ack);
        let branch = self.entropy.branch();
        let via = self.via_value(to, &hop, &branch);
        let bye = dialog.request(Method::Bye, cseq.wrapping_add(CSEQ_GAP), &via, 70).finish(b"");
        let prepared = Prepared { hop, method: "BYE", branch, bytes: Bytes::from(bye) };
        self.send_request(prepared, ClientUse::Ending);
    }

    /// An answer that we cannot carry: the side that sent it is told by BYE, the other by 488, and by BYE where it was
    /// in the call already.
    fn refuse_answer(&mut self, id: ForwardId, call: CallId, dialog: Option<DialogRef>) {
        let why = "the answer's media cannot be carried";
        let Some(forward) = self.forward(id) else { return };
        let to = forward.ask.side.other();
        if matches!(forward.kind, Kind::InDialog { .. }) {
            self.answer_forward(id, 488);
            return self.terminate_call(call, 488, why);
        }
        if let Some(dialog) = dialog {
            self.send_bye(call, dialog.index, to);
        }
        self.fail_forward(id, 488, why);
    }

    /// What follows from a response that was passed on.
    fn after_response(
        &mut self,
        id: ForwardId,
        call: Option<CallId>,
        dialog: Option<DialogRef>,
        CSeq { number: cseq, method }: CSeq<'_>,
        status: u16,
    ) {
        let is_final = status >= 200;
        let Some(forward) = self.forward_mut(id) else {
            return self.never("a forward is gone while it is worked on");
        };
        forward.answered |= is_final;
        let (server, side) = (forward.ask.server, forward.ask.side);
        let initial = matches!(forward.kind, Kind::Invite { .. });
        let Some(call) = call else { return };
        match (method, status) {
            (Method::Invite, 200..=299) => {
                self.settle_media(call);
                let accepted = self.accepted_media(call);
                if let Some(pair) = dialog.and_then(|dialog| self.pair_mut(dialog)) {
                    pair.accept(side, server, cseq);
                    pair.accepted = accepted;
                }
                if initial {
                    self.relatch_caller(call);
                    self.confirm_call(call);
                }
            }
            (Method::Update | Method::Prack, 200..=299) => self.settle_media(call),
            (Method::Invite, 101..=199) if initial => self.advance_call(call, CallState::Ringing),
            (Method::Invite, 300..) if initial => self.on_call_refused(id, call, status),
            // The dialog is over at the other end, and for whoever hears this (RFC 3261 §12.2.1.2).
            (Method::Invite | Method::Update, 408 | 481) => {
                self.terminate_call(call, status, "the other side does not know it any more");
            }
            (Method::Invite | Method::Update, 300..) => self.roll_back_media(call),
            (Method::Bye, 401 | 407) => {}
            (Method::Bye, 200..) => match dialog {
                Some(dialog) => self.end_dialog(dialog),
                None => self.end_call(call),
            },
            _ => {}
        }
    }

    fn pair_mut(&mut self, dialog: DialogRef) -> Option<&mut DialogPair> {
        self.calls.call_mut(dialog.call)?.dialogs.get_mut(dialog.index)
    }

    /// A response brings its call so far, unless that is past: other parties of a fork answer when they like.
    fn advance_call(&mut self, id: CallId, state: CallState) {
        if self.calls.call(id).is_some_and(|call| call.state.may_become(state)) {
            self.set_call_state(id, state);
        }
    }

    /// A party has accepted. One that was hung up before it did leaves the call as it is.
    fn confirm_call(&mut self, id: CallId) {
        if self.calls.call(id).is_some_and(|call| call.accepted().next().is_some()) {
            self.advance_call(id, CallState::Confirmed);
        }
        if let Some(call) = self.calls.call_mut(id) {
            call.invite = None;
        }
    }

    /// The INVITE was refused by the other side.
    fn on_call_refused(&mut self, id: ForwardId, call: CallId, status: u16) {
        if matches!(status, 401 | 407) {
            self.remember_challenged(call);
        }
        let wished = matches!(status, 300..=399 | 401 | 404 | 407 | 480 | 484 | 486 | 487 | 600 | 603 | 604);
        let entry = self.calls.call(call).map(|call| call.entry);
        let ask: Option<Ask> = self.forward(id).map(|forward| forward.ask.clone());
        if let Some((entry, ask)) = entry.zip(ask).filter(|_| !wished) {
            let why = format!("the other side answered {status} {}", reason_phrase(status));
            self.report_call_failed(entry, &ask, &why, "see the PBX's log for the same moment");
        }
        self.end_call(call);
    }

    /// No answer came.
    pub(crate) fn on_forward_lost(&mut self, id: ForwardId, lost: Lost) {
        let Some(forward) = self.forward_mut(id) else { return };
        forward.client = None;
        let (side, kind, cancelled) = (forward.ask.side, forward.kind.clone(), forward.cancelled);
        let asked = |methods: &[Method<'_>]| {
            Message::parse(&forward.ask.bytes)
                .is_ok_and(|message| message.method().is_some_and(|method| methods.contains(&method)))
        };
        let (bye, changes_session) = (asked(&[Method::Bye]), asked(&[Method::Invite, Method::Update]));
        let status = match side {
            _ if bye => 200,
            // An UPDATE cannot be given up: whoever asked has only waited as long as we.
            _ if cancelled && !asked(&[Method::Update]) => 487,
            Side::Outside if lost == Lost::Connection => 503,
            Side::Inside if lost == Lost::Connection => 480,
            Side::Outside | Side::Inside => 408,
        };
        self.fail_forward(id, status, lost.as_str());
        match kind {
            Kind::InDialog { dialog } if bye => self.end_dialog(dialog),
            Kind::InDialog { dialog } if status == 408 && changes_session => {
                self.terminate_call(dialog.call, status, "the other side does not answer any more");
            }
            Kind::Invite { .. } | Kind::InDialog { .. } | Kind::Single(_) => {}
        }
        self.drop_forward(id);
    }

    pub(crate) fn on_forward_client_ended(&mut self, id: ForwardId, client: ClientId) {
        let Some(forward) = self.forward_mut(id).filter(|forward| forward.client == Some(client)) else {
            return;
        };
        forward.client = None;
        // What waits for ports is passed on, or abandoned, when they are there, or its call ends.
        if !self.has_paused_answer(id) {
            self.drop_forward(id);
        }
    }

    /// The one who asked is gone, or his transaction is over. Without an answer nobody waits for one.
    pub(crate) fn on_server_ended(&mut self, server: ServerId) {
        let Some(id) = self.forwards.by_server.get(&server).copied() else { return };
        let Some(forward) = self.forward(id) else {
            return self.never("a server transaction has a forward that is gone");
        };
        let (answered, client) = (forward.answered, forward.client);
        match (&forward.kind, client) {
            // Nothing hangs on it: it need not be kept until the other side says nothing to it.
            (Kind::Single(_), Some(client)) => self.transactions.abandon_request(client, self.now.mono),
            (Kind::Single(_), None) => self.drop_forward(id),
            (Kind::Invite { .. } | Kind::InDialog { .. }, _) if !answered => {
                if let Some(forward) = self.forward_mut(id) {
                    forward.unheard = true;
                }
                self.give_up_forward(id, 487);
            }
            (Kind::Invite { call }, _) => self.await_ack_elsewhere(*call, server),
            (Kind::InDialog { .. }, _) => {}
        }
    }

    /// The connection went before the ACK of a 2xx, which may yet come by the next one.
    fn await_ack_elsewhere(&mut self, id: CallId, server: ServerId) {
        let waits = |call: &&mut Call| call.dialogs.iter().any(|pair| pair.awaits_ack(server));
        if let Some(call) = self.calls.call_mut(id).filter(waits) {
            call.ack_owed = Some(server);
            self.prolong_call(id, ACK_MAX);
        }
    }

    /// A 2xx was never acknowledged: the caller is gone (RFC 3261 §13.3.1.4), or speaks with another party.
    pub(crate) fn on_ack_missing(&mut self, server: ServerId) {
        let waits = |pair: &DialogPair| pair.awaits_ack(server);
        let found = self.calls.iter().find(|(_, call)| call.dialogs.iter().any(waits));
        let Some((id, call)) = found else { return };
        // Where a peer has hung up already, the other end has its BYE.
        let waiting = call.dialogs.iter().enumerate().filter(|(_, pair)| waits(pair) && !pair.hung_up);
        let waiting: Vec<usize> = waiting.map(|(index, _)| index).collect();
        if waiting.is_empty() {
            return;
        }
        if call.accepted().all(|index| waiting.contains(&index)) {
            return self.terminate_call(id, 408, "the ACK of its answer never came");
        }
        for index in waiting {
            // The caller may have acknowledged it, and believe that it speaks with it.
            self.send_bye(id, index, Side::Outside);
            self.send_bye(id, index, Side::Inside);
            self.end_dialog(DialogRef { call: id, index });
        }
    }
}
