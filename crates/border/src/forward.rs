//! A request of one side on its way to the other. Its answers come back by `forward_response.rs`.

use std::collections::BTreeMap;

use bytes::Bytes;
use guard::HardwareId;
use sip::dialog::Route;
use sip::{ClientId, Hop, ServerId};
use wire::net::Side;
use wire::sip::{Essentials, HeaderName, Message, Method, Writer};

use crate::Border;
use crate::answer::Ask;
use crate::body::Body;
use crate::call::{CallId, CallState};
use crate::config::Authentication;
use crate::dialog_map::{DialogKey, DialogRef};
use crate::digest::AuthState;
use crate::drop_reason::DropReason;
use crate::entry::EntryId;
use crate::media_plan::{Hiding, Plan};
use crate::out_of_dialog::Single;
use crate::outgoing::Prepared;
use crate::paused::Paused;
use crate::response::ClientUse;
use crate::topology::Topology;

/// A forwarded request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ForwardId(u64);

/// What kind of request it is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// The INVITE that begins a call.
    Invite { call: CallId },
    /// A request inside a dialog.
    InDialog { dialog: DialogRef },
    /// A request that stands alone: MESSAGE, NOTIFY, OPTIONS.
    Single(Box<Single>),
}

impl Kind {
    pub(crate) fn dialog(&self) -> Option<DialogRef> {
        match self {
            Self::InDialog { dialog } => Some(*dialog),
            Self::Invite { .. } | Self::Single(_) => None,
        }
    }
}

/// A request under way.
pub(crate) struct Forward {
    pub(crate) ask: Ask,
    pub(crate) kind: Kind,
    pub(crate) client: Option<ClientId>,
    /// Where it went.
    pub(crate) sent_to: Option<Hop>,
    pub(crate) auth: AuthState,
    pub(crate) cancelled: bool,
    pub(crate) answered: bool,
    /// Nobody waits for its answer any more: the connection that it came by is gone.
    pub(crate) unheard: bool,
    /// The ACKs of those who accepted too late and were hung up, by To tag.
    pub(crate) hung_up: Vec<(String, Bytes)>,
}

/// All of them; as many as there are transactions.
#[derive(Default)]
pub(crate) struct Forwards {
    forwards: BTreeMap<ForwardId, Forward>,
    pub(crate) by_server: BTreeMap<ServerId, ForwardId>,
    next: u64,
}

/// Re-INVITEs of a call that may be under way at once. One is what RFC 3261 §14.1 allows; whether a few more get
/// through is for the other end to say.
const CHANGES_MAX: usize = 8;
/// When the next may be tried (RFC 3261 §14.2).
const CHANGES_RETRY_S: u32 = 5;

/// What the head of the forwarded request says.
struct Head {
    hop: Hop,
    uri: String,
    routes: Vec<String>,
    from: String,
    to: String,
    call_id: String,
    cseq: u32,
    contact_user: String,
    pbx: usize,
}

impl Forwards {
    pub(crate) fn get(&self, id: ForwardId) -> Option<&Forward> {
        self.forwards.get(&id)
    }

    pub(crate) fn len(&self) -> usize {
        debug_assert_eq!(self.forwards.len(), self.by_server.len(), "one server transaction for each");
        self.forwards.len()
    }
}

impl Border {
    pub(crate) fn new_forward(&mut self, ask: Ask, kind: Kind) -> ForwardId {
        let id = ForwardId(self.forwards.next);
        self.forwards.next += 1;
        self.forwards.by_server.insert(ask.server, id);
        self.room.hold(ask.server);
        let forward = Forward {
            ask,
            kind,
            client: None,
            sent_to: None,
            auth: AuthState::default(),
            cancelled: false,
            unheard: false,
            answered: false,
            hung_up: Vec::new(),
        };
        self.forwards.forwards.insert(id, forward);
        id
    }

    pub(crate) fn forward(&self, id: ForwardId) -> Option<&Forward> {
        self.forwards.get(id)
    }

    pub(crate) fn forward_mut(&mut self, id: ForwardId) -> Option<&mut Forward> {
        self.forwards.forwards.get_mut(&id)
    }

    pub(crate) fn drop_forward(&mut self, id: ForwardId) {
        self.unanswered.ended(id);
        if let Some(forward) = self.forwards.forwards.remove(&id) {
            self.forwards.by_server.remove(&forward.ask.server);
            self.room.release(forward.ask.server);
        }
    }

    pub(crate) fn call_of(&self, id: ForwardId) -> Option<CallId> {
        match &self.forward(id)?.kind {
            Kind::Invite { call } => Some(*call),
            Kind::InDialog { dialog } => Some(dialog.call),
            Kind::Single(_) => None,
        }
    }

    /// A request inside a dialog.
    pub(crate) fn on_in_dialog(&mut self, ask: &Ask, essentials: &Essentials<'_>) {
        let dialog = DialogKey::of(ask.side, essentials).and_then(|key| self.dialogs.find(&key));
        let Some(dialog) = dialog.filter(|dialog| self.belongs(&ask.hop, ask.side, dialog.call)) else {
            return self.refuse(ask, 481);
        };
        let Some(call) = self.calls.call_mut(dialog.call) else { return self.refuse(ask, 481) };
        let pair = call.dialogs.get_mut(dialog.index);
        if !pair.is_some_and(|pair| pair.sides[ask.side.index()].accept_cseq(essentials.cseq)) {
            return self.refuse(ask, 500);
        }
        call.leg_mut(ask.side).hop = ask.hop;
        if essentials.cseq.method == Method::Bye && call.hang_up(dialog.index) {
            self.set_call_state(dialog.call, CallState::Ending);
        }
        if essentials.cseq.method == Method::Invite && self.pending_changes(dialog.call) >= CHANGES_MAX {
            return self.answer(ask, 500, |writer| {
                writer.header("Retry-After", CHANGES_RETRY_S);
            });
        }
        if essentials.cseq.method == Method::Bye {
            self.abandon_waiting(dialog);
        }
        let forward = self.new_forward(ask.clone(), Kind::InDialog { dialog });
        if essentials.cseq.method == Method::Invite {
            self.note_change(dialog.call, forward);
        }
        self.dispatch(forward);
    }

    /// A call remembers its re-INVITEs that have no answer yet.
    fn note_change(&mut self, call: CallId, forward: ForwardId) {
        if let Some(call) = self.calls.call_mut(call) {
            call.changes.push(forward);
        }
    }

    /// How many re-INVITEs of a call have no answer yet.
    fn pending_changes(&mut self, call: CallId) -> usize {
        let forwards = &self.forwards.forwards;
        self.calls.call_mut(call).map_or(0, |call| {
            call.changes.retain(|id| forwards.get(id).is_some_and(|forward| !forward.answered));
            call.changes.len()
        })
    }

    /// An outside request belongs to a call if it comes by the call's flow, by the newest flow of the same
    /// binding (contract section 4: the phone may have come back), or from the same device by its certificate
    /// (it has come back and not registered yet).
    pub(crate) fn belongs(&self, hop: &Hop, side: Side, call: CallId) -> bool {
        let Some(call) = self.calls.call(call) else { return false };
        side == Side::Inside
            || call.leg(Side::Outside).hop == *hop
            || self.bindings.by_token(call.token()).is_some_and(|id| self.bindings.by_hop(hop).contains(&id))
            || (call.device.is_some() && self.device_at(hop) == call.device)
    }

    /// The device of ours at the other end of a hop, proved by its certificate.
    pub(crate) fn device_at(&self, hop: &Hop) -> Option<HardwareId> {
        self.entries.known_device(self.flows.flow(hop.flow)?.device.as_ref()?)
    }

    /// Whether a phone that has not registered on its flow yet may say this: what belongs to a call of the
    /// same device.
    pub(crate) fn continues_a_call(&self, hop: &Hop, essentials: &Essentials<'_>) -> bool {
        let dialog = DialogKey::of(Side::Outside, essentials).and_then(|key| self.dialogs.find(&key));
        dialog.is_some_and(|dialog| self.belongs(hop, Side::Outside, dialog.call))
    }

    /// Sends a forwarded request, or waits for its ports.
    pub(crate) fn dispatch(&mut self, id: ForwardId) {
        if self.forward(id).is_none_or(|forward| forward.cancelled) {
            return;
        }
        if self.begins_in_vain(id) {
            return self.fail_for_pbx(id);
        }
        if let Some(call) = self.waits_behind(id) {
            return self.pause(call, Paused::Behind(id));
        }
        let Some(forward) = self.forward(id) else { return };
        let (bytes, from) = (forward.ask.bytes.clone(), forward.ask.side);
        let Ok(message) = Message::parse(&bytes) else {
            return self.never("a request that was read cannot be read again");
        };
        let call = self.call_of(id);
        let method = message.method().unwrap_or(Method::Other(""));
        let hiding = self.hiding(id, &message, from);
        let body = match self.plan_body(call, &hiding, &message, method) {
            Plan::Send(body) => body,
            Plan::Wait => {
                if let Some(call) = call {
                    self.pause(call, Paused::Request(id));
                }
                return;
            }
            Plan::Refuse(status) => return self.fail_forward(id, status, "its body cannot be carried"),
        };
        if !self.transmit(id, &message, &body) {
            self.on_unreachable(id, from, message.method() == Some(Method::Bye));
        }
    }

    /// What must not cross in a message that belongs to a forwarded request and came from `from`: the request
    /// itself, or an answer to it.
    pub(crate) fn hiding(&self, id: ForwardId, message: &Message<'_>, from: Side) -> Hiding {
        let private = match from {
            Side::Outside => {
                let contacts = self.phone_contacts(id).into_iter().flatten();
                Topology::private_names(message, self.phone_address(id), contacts)
            }
            Side::Inside => Vec::new(),
        };
        Hiding { from, pbx: self.pbx_of(id), private }
    }

    /// The PBX at one end of a forwarded request.
    pub(crate) fn pbx_of(&self, id: ForwardId) -> usize {
        match self.forward(id).map(|forward| &forward.kind) {
            Some(Kind::Single(single)) => single.pbx,
            Some(Kind::Invite { call } | Kind::InDialog { dialog: DialogRef { call, .. } }) => {
                self.calls.call(*call).map_or(0, |call| call.pbx)
            }
            None => 0,
        }
    }

    /// There is no way to the other side. Who hangs up is told that it is done: it is.
    fn on_unreachable(&mut self, id: ForwardId, from: Side, bye: bool) {
        let dialog = self.forward(id).and_then(|forward| match forward.kind {
            Kind::InDialog { dialog } => Some(dialog),
            Kind::Invite { .. } | Kind::Single(_) => None,
        });
        let status = match from {
            _ if bye => 200,
            Side::Outside => 503,
            Side::Inside => 480,
        };
        self.fail_forward(id, status, "the other side cannot be reached");
        if let Some(dialog) = dialog.filter(|_| bye) {
            self.end_dialog(dialog);
        }
    }

    /// Sends a forwarded request; false where there is no way to the other side.
    fn transmit(&mut self, id: ForwardId, message: &Message<'_>, body: &Body) -> bool {
        let Ok(essentials) = message.essentials() else {
            self.never("a request that was read cannot be read again");
            return false;
        };
        let Some(head) = self.head(id, &essentials) else { return false };
        let Some(forward) = self.forward(id) else {
            self.never("a forward is gone while it is worked on");
            return false;
        };
        let from = forward.ask.side;
        let branch = self.entropy.branch();
        let method = essentials.cseq.method;
        let mut writer = self.begin_request(&head, from.other(), method, &branch, essentials.max_forwards);
        if let Some(rack) = message.value(HeaderName::RAck).and_then(|rack| self.rack_towards(id, rack)) {
            writer.header("RAck", rack);
        }
        self.write_credentials(&mut writer, id, message, method, &head);
        let hiding = self.hiding(id, message, from);
        self.write_dialog_names(&mut writer, id, message, &hiding);
        let domain = self.config.pbx[head.pbx].domain.clone();
        self.topology.pass_headers(message, from.other(), &domain, &hiding.private, &mut writer);
        let bytes = Bytes::from(body.finish(writer));
        if bytes.len() > crate::answer::size_max(head.hop.transport) {
            self.fail_forward(id, 513, "with our words in the place of hidden ones it is too large");
            return true;
        }
        let client = self.transactions.request(head.hop, method, &branch, bytes, self.now.mono);
        let Some(client) = client else { return false };
        self.clients.insert(client, ClientUse::Forward(id));
        if let Some(forward) = self.forward_mut(id) {
            forward.client = Some(client);
            forward.sent_to = Some(head.hop);
        }
        self.watch(id);
        true
    }

    /// The credentials of a request: ours for a certificate device, the phone's own for a digest one.
    fn write_credentials(
        &mut self,
        writer: &mut Writer,
        id: ForwardId,
        message: &Message<'_>,
        method: Method<'_>,
        head: &Head,
    ) {
        let Some(forward) = self.forward(id) else {
            return self.never("a forward is gone while it is worked on");
        };
        let (side, remote) = (forward.ask.side, forward.ask.hop.remote.ip());
        if side == Side::Inside {
            return;
        }
        match self.surrogate_entry(id) {
            None => self.pass_credentials(writer, message, remote),
            Some(entry) => {
                let Some(forward) = self.forward_mut(id) else {
                    return self.never("a forward is gone while it is worked on");
                };
                let mut auth = std::mem::take(&mut forward.auth);
                let credentials = self.credentials(entry, &mut auth, method.as_str(), &head.uri);
                if let Some(forward) = self.forward_mut(id) {
                    forward.auth = auth;
                }
                if let Some((name, value)) = credentials {
                    writer.header(name, value);
                }
            }
        }
    }

    /// The extension whose stored password answers for this request; none for digest extensions.
    pub(crate) fn surrogate_entry(&self, id: ForwardId) -> Option<EntryId> {
        let entry = self.entry_of(id)?;
        let certificate = self.entries.entry(entry).config.authentication == Authentication::Certificate;
        certificate.then_some(entry)
    }

    /// The extension that a request comes from, or is for.
    pub(crate) fn entry_of(&self, id: ForwardId) -> Option<EntryId> {
        match &self.forward(id)?.kind {
            Kind::Single(single) => Some(single.entry),
            Kind::Invite { call } => Some(self.calls.call(*call)?.entry),
            Kind::InDialog { dialog } => Some(self.calls.call(dialog.call)?.entry),
        }
    }

    fn begin_request(
        &self,
        head: &Head,
        to: Side,
        method: Method<'_>,
        branch: &str,
        max_forwards: Option<u8>,
    ) -> Writer {
        let mut writer = Writer::request(method.as_str(), &head.uri);
        self.via(&mut writer, to, &head.hop, branch);
        writer.header("Max-Forwards", max_forwards.unwrap_or(70).saturating_sub(1));
        for route in &head.routes {
            writer.header("Route", route);
        }
        writer.header("From", &head.from);
        writer.header("To", &head.to);
        writer.header("Call-ID", &head.call_id);
        writer.header("CSeq", format_args!("{} {}", head.cseq, method.as_str()));
        if !matches!(method, Method::Bye | Method::Cancel | Method::Message) {
            writer.header("Contact", self.contact(to, &head.hop, &head.contact_user));
        }
        writer
    }

    fn head(&mut self, id: ForwardId, essentials: &Essentials<'_>) -> Option<Head> {
        let forward = self.forward(id)?;
        let to = forward.ask.side.other();
        match forward.kind.clone() {
            Kind::Invite { call } => {
                let call = self.calls.call(call)?;
                let leg = call.leg(to);
                Some(Head {
                    hop: leg.hop,
                    uri: call.target.clone(),
                    routes: Vec::new(),
                    from: tagged(&leg.caller, Some(&call.caller_tag)),
                    to: leg.callee.clone(),
                    call_id: leg.call_id.clone(),
                    cseq: essentials.cseq.number.wrapping_add(leg.cseq_offset),
                    contact_user: call.contact_users[to.index()].clone(),
                    pbx: call.pbx,
                })
            }
            Kind::InDialog { dialog } => self.dialog_head(dialog, to, essentials.cseq.number),
            Kind::Single(single) => {
                let contact_user = self.bindings.binding(single.binding).map(|binding| match to {
                    Side::Inside => binding.token.clone(),
                    Side::Outside => "border".to_owned(),
                })?;
                Some(Head {
                    hop: single.hop,
                    uri: single.uri,
                    routes: Vec::new(),
                    from: single.from,
                    to: single.to,
                    call_id: single.call_id,
                    cseq: single.cseq,
                    contact_user,
                    pbx: single.pbx,
                })
            }
        }
    }

    /// The head of a request to one peer of a dialog. `cseq` is the other side's number.
    fn dialog_head(&mut self, dialog: DialogRef, to: Side, cseq: u32) -> Option<Head> {
        let call = self.calls.call(dialog.call)?;
        let side = call.dialog(dialog.index, to)?;
        let leg = call.leg(to);
        let (local, remote) =
            if call.caller == to { (&leg.callee, &leg.caller) } else { (&leg.caller, &leg.callee) };
        let (from, to_header) =
            (tagged(local, Some(&side.id.local_tag)), tagged(remote, Some(&side.id.remote_tag)));
        let (uri, routes) = side.route();
        let (uri, routes) = (uri.to_owned(), routes.iter().map(route_value).collect());
        let next = side.next_hop().to_owned();
        let mut head = Head {
            hop: leg.hop,
            uri,
            routes,
            from,
            to: to_header,
            call_id: leg.call_id.clone(),
            cseq: cseq.wrapping_add(leg.cseq_offset),
            contact_user: call.contact_users[to.index()].clone(),
            pbx: call.pbx,
        };
        let phone = self.phone_hop(call);
        head.hop = match to {
            // The phone is where it registered last; its own idea of its address means nothing behind NAT.
            Side::Outside => {
                self.flows.side(phone.flow)?;
                (!self.is_blocked(phone.flow, phone.remote)).then_some(phone)?
            }
            Side::Inside => self.hop_in_dialog(&next, dialog.call)?,
        };
        Some(head)
    }

    /// RAck names the INVITE's CSeq, which differs on the other side once we repeated it (RFC 3262 §7.2).
    /// None where it is none: its words would cross unread.
    fn rack_towards(&self, id: ForwardId, rack: &str) -> Option<String> {
        let offset = self.forward(id).and_then(|forward| {
            let call = self.calls.call(self.call_of(id)?)?;
            Some(call.leg(forward.ask.side.other()).cseq_offset)
        });
        let mut words = rack.split_ascii_whitespace();
        let mut number = || words.next().and_then(|word| word.parse::<u32>().ok());
        let (response, cseq) = (number()?, number()?);
        let only_invite = words.next() == Some("INVITE") && words.next().is_none();
        only_invite.then(|| format!("{response} {} INVITE", cseq.wrapping_add(offset.unwrap_or(0))))
    }

    /// The ACK of a 2xx: end to end, so it crosses us (RFC 3261 §13.2.2.4).
    pub(crate) fn on_ack(
        &mut self,
        hop: &Hop,
        side: Side,
        message: &Message<'_>,
        essentials: &Essentials<'_>,
    ) {
        let found = DialogKey::of(side, essentials).and_then(|key| self.dialogs.find(&key));
        let Some(dialog) = found.filter(|dialog| self.belongs(hop, side, dialog.call)) else {
            return self.dropped(DropReason::StrayAck);
        };
        let Some(head) = self.dialog_head(dialog, side.other(), essentials.cseq.number) else { return };
        let hiding = Hiding { from: side, pbx: head.pbx, private: Vec::new() };
        let planned = self.plan_body(Some(dialog.call), &hiding, message, Method::Ack);
        let Plan::Send(body) = planned else { return };
        self.settle_media(dialog.call);
        let branch = self.entropy.branch();
        let writer = self.begin_request(&head, side.other(), Method::Ack, &branch, essentials.max_forwards);
        let bytes = Bytes::from(body.finish(writer));
        let now = self.now.mono;
        let Some(call) = self.calls.call_mut(dialog.call) else {
            return self.never("a dialog that was found has no call");
        };
        let Some(pair) = call.dialogs.get_mut(dialog.index) else {
            return self.never("a dialog that was found is not in its call");
        };
        // That of another INVITE, which crossed this one or came before it, says nothing of this one.
        let (cseq, mut invites) = (essentials.cseq.number, pair.invites.iter_mut());
        let invite = invites.find(|own| own.side == side && own.cseq == cseq);
        let first = invite.and_then(|invite| {
            invite.ack.replace((head.hop, bytes.clone())).is_none().then_some(invite.server)
        });
        // Of several parties' answers each waits for its own.
        let waits = |server: &ServerId| call.dialogs.iter().any(|pair| pair.awaits_ack(*server));
        if let Some(server) = first.filter(|server| !waits(server)) {
            self.transactions.acknowledged(server, now);
        }
        self.send(&head.hop, bytes);
    }

    /// A BYE of our own to one peer of a dialog.
    pub(crate) fn send_bye(&mut self, call: CallId, index: usize, to: Side) {
        // The next number of the other side, whom we speak for.
        let seen = self.calls.call(call).and_then(|call| call.dialog(index, to.other())?.remote_cseq);
        let cseq = seen.unwrap_or(0).wrapping_add(1);
        let Some(head) = self.dialog_head(DialogRef { call, index }, to, cseq) else { return };
        if let Some(call) = self.calls.call_mut(call) {
            call.hang_up(index);
        }
        let branch = self.entropy.branch();
        let writer = self.begin_request(&head, to, Method::Bye, &branch, None);
        let bytes = Bytes::from(writer.finish(b""));
        let prepared = Prepared { hop: head.hop, method: "BYE", branch, bytes };
        self.send_request(prepared, ClientUse::Ending);
    }

    /// A CANCEL (RFC 3261 §9.2): the INVITE is given up on the other side, whose 487 then comes back.
    pub(crate) fn on_cancel(&mut self, ask: &Ask, invite: Option<ServerId>) {
        let forward = invite.and_then(|invite| self.forwards.by_server.get(&invite).copied());
        self.refuse(ask, if invite.is_some() { 200 } else { 481 });
        if let Some(id) = forward {
            self.give_up_forward(id, 487);
        }
    }

    /// Gives an INVITE up: CANCEL on the other side where it was sent, else a final answer at once.
    pub(crate) fn give_up_forward(&mut self, id: ForwardId, status: u16) {
        let Some(forward) = self.forward_mut(id) else { return };
        if std::mem::replace(&mut forward.cancelled, true) {
            return;
        }
        match forward.client {
            Some(client) => {
                self.transactions.cancel(client, self.now.mono);
            }
            None if forward.answered => self.drop_forward(id),
            None => self.fail_forward(id, status, "it was given up before it was sent"),
        }
    }

    /// Answers an INVITE at once with a refusal, whatever becomes of it on the other side.
    pub(crate) fn answer_forward(&mut self, id: ForwardId, status: u16) {
        let Some(forward) = self.forward_mut(id) else { return };
        let ask = forward.ask.clone();
        if !std::mem::replace(&mut forward.answered, true) {
            self.refuse(&ask, status);
        }
    }

    /// Answers a forwarded request ourselves, finally.
    pub(crate) fn fail_forward(&mut self, id: ForwardId, status: u16, why: &str) {
        let Some(ask) = self.close_ask(id) else { return };
        if (status >= 500 || matches!(status, 408 | 415 | 488))
            && let Some(entry) =
                self.call_of(id).and_then(|call| self.calls.call(call)).map(|call| call.entry)
        {
            self.report_call_failed(entry, &ask, why, "see the PBX's log for the same moment");
        }
        self.refuse(&ask, status);
        self.after_failure(id);
    }

    /// The request of a forward that is answered now; none where it was before.
    pub(crate) fn close_ask(&mut self, id: ForwardId) -> Option<Ask> {
        let forward = self.forward_mut(id)?;
        (!std::mem::replace(&mut forward.answered, true)).then(|| forward.ask.clone())
    }

    /// What follows from an answer of ours.
    pub(crate) fn after_failure(&mut self, id: ForwardId) {
        let Some(forward) = self.forward(id) else { return };
        let (kind, client) = (forward.kind.clone(), forward.client);
        match kind {
            Kind::Invite { call } => self.end_call(call),
            Kind::InDialog { dialog } => self.roll_back_media(dialog.call),
            Kind::Single(_) => {}
        }
        if client.is_none() {
            self.drop_forward(id);
        }
    }
}

/// A name-addr with a tag.
pub(crate) fn tagged(name_addr: &str, tag: Option<&str>) -> String {
    match tag {
        Some(tag) => format!("{name_addr};tag={tag}"),
        None => name_addr.to_owned(),
    }
}

/// A route as its header writes it.
fn route_value(route: &Route<'_>) -> String {
    match route {
        Route::Kept(text) => (*text).to_owned(),
        Route::Target(uri) => format!("<{uri}>"),
    }
}
