//! Bytes from a flow to the part of the border that they concern, refusing in the order of cost: block
//! list, framing, grammar, transaction, registered flow (design, section 1).

use std::net::SocketAddr;

use bytes::Bytes;
use guard::VerifiedSource;
use sip::{Hop, RequestOutcome, ResponseOutcome, ServerId};
use wire::net::{FiveTuple, FlowId, HandshakeFault, Side, Transport, VerifiedDevice};
use wire::sip::{Essentials, Frame, HeaderName, Message, Method, ParseErrorKind, StartLine, Uri, Writer};

use crate::Border;
use crate::answer::Ask;
use crate::digest::{Given, credentials_of};
use crate::drop_reason::DropReason;
use crate::event::Code;
use crate::interface::Output;
use crate::keys::OpenedOpaque;
use crate::report::About;
use crate::response::Reply;
use crate::room::Account;

impl Border {
    pub(crate) fn on_flow_opened(
        &mut self,
        flow: FlowId,
        side: Side,
        tuple: FiveTuple,
        device: Option<VerifiedDevice>,
    ) {
        if side == Side::Outside && self.is_blocked(flow, tuple.remote) {
            self.outputs.push_back(Output::CloseFlow { flow });
            return self.dropped(DropReason::Blocked);
        }
        self.flows.opened(flow, side, tuple, device, (self.now.mono, &mut self.timers));
        if side == Side::Inside {
            self.connections.opened(flow, tuple.remote);
        }
    }

    pub(crate) fn on_handshake_failed(&mut self, tuple: FiveTuple, fault: HandshakeFault, detail: &str) {
        let (code, next_step) = match fault {
            HandshakeFault::CertUntrusted => (
                Code::CertUntrusted,
                "if the device is yours, add its CA to device_ca; else nothing: it was refused",
            ),
            HandshakeFault::CertExpired => (Code::CertExpired, "give the device a new certificate"),
            HandshakeFault::CertNotYetValid => {
                (Code::CertNotYetValid, "check the device's certificate and the clock of this machine")
            }
            HandshakeFault::CertPurpose => (
                Code::CertPurpose,
                "give the device a certificate with clientAuth, or without extended key usage",
            ),
            HandshakeFault::CertMissing => (
                Code::CertMissing,
                "give the device a certificate, or set authentication = \"digest\" for an extension",
            ),
            // A handshake that only breaks off is no offence; `net` counts it for the flood.
            HandshakeFault::Broken | HandshakeFault::TimedOut => return,
        };
        let about = About::default().extension("not asked");
        let port = tuple.local.port();
        let proof = proof_of(tuple.remote, tuple.transport, None);
        self.offence_at(tuple.remote, tuple.transport, port, proof, code, about, || {
            (detail.to_owned(), next_step.to_owned())
        });
    }

    pub(crate) fn on_flood(&mut self, source: SocketAddr, transport: Transport, port: u16, refused: u64) {
        let about = About::default().extension("not asked");
        let proof = proof_of(source, transport, None);
        self.offence_at(source, transport, port, proof, Code::Flood, about, || {
            (
                format!("{refused} refused or held back within a second: too much at once by {transport}"),
                "if many phones share this address, add it to [[allowed]]".into(),
            )
        });
    }

    pub(crate) fn on_source_limited(&mut self, source: SocketAddr, refused: u64) {
        self.event(Code::SourceLimited, About::source(source), || {
            (
                format!(
                    "{refused} connections refused: the source has as many without a registration as may be"
                ),
                "if many phones share this address, add it to [[allowed]]".into(),
            )
        });
    }

    pub(crate) fn on_flow_timer(&mut self, flow: FlowId) {
        if !self.flows.timed_out(flow, self.now.mono, &mut self.timers) {
            return;
        }
        // A device of ours whose registration is over, and a call of its is not.
        if self.flows.is_idle_device(flow) && self.carries_call(flow) {
            self.flows.stays_for_call(flow, self.now.mono, &mut self.timers);
        } else {
            self.close_flow(flow);
        }
    }

    /// The proof that lies in how a request came, or in what it returns to us.
    pub(crate) fn proof_by_request(&self, hop: &Hop, request: &Message<'_>) -> Option<VerifiedSource> {
        self.proof_by_credentials(hop, credentials_of(request))
    }

    /// The same, of what it returns.
    pub(crate) fn proof_by_credentials<'a>(
        &self,
        hop: &Hop,
        credentials: impl Iterator<Item = Given<'a>>,
    ) -> Option<VerifiedSource> {
        let returned = self.returned_opaque(hop.remote.ip(), credentials);
        proof_of(hop.remote, hop.transport, returned.as_ref())
    }

    /// Closes a connection of our own accord; all that hangs on it learns of it as if the peer had.
    pub(crate) fn close_flow(&mut self, flow: FlowId) {
        if self.flows.flow(flow).is_some() {
            self.outputs.push_back(Output::CloseFlow { flow });
            self.on_flow_closed(flow);
        }
    }

    pub(crate) fn on_flow_closed(&mut self, flow: FlowId) {
        self.flows.closed(flow, &mut self.timers);
        self.connections.ended(flow);
        self.transactions.flow_failed(flow, self.now.mono);
        self.on_bindings_flow_lost(flow);
        self.on_pbx_flow_lost(flow);
    }

    pub(crate) fn on_bytes(&mut self, flow: FlowId, from: SocketAddr, bytes: &[u8]) {
        if self.flows.side(flow) == Some(Side::Outside) && self.is_blocked(flow, from) {
            return self.dropped(DropReason::Blocked);
        }
        if let Some(listener) = self.flows.udp(flow) {
            let hop = Hop { flow, remote: from, transport: Transport::Udp };
            self.on_datagram(hop, listener.side, bytes);
        } else {
            self.on_stream(flow, bytes);
        }
    }

    /// Whether nothing is known of the other end: no certificate, no registration.
    pub(crate) fn is_stranger(&self, hop: &Hop) -> bool {
        let certified = self.flows.flow(hop.flow).is_some_and(|flow| flow.device.is_some());
        !certified && self.bindings.by_hop(hop).is_empty()
    }

    fn on_datagram(&mut self, hop: Hop, side: Side, bytes: &[u8]) {
        // Keepalives of RFC 5626 §3.5.1 and of older phones: a blank line, or a NUL.
        if bytes.len() <= 4 && bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0 | b' ')) {
            return;
        }
        if side == Side::Outside && bytes.len() > crate::room::DATAGRAM_MAX && self.is_stranger(&hop) {
            self.on_malformed(&hop, side, "a datagram larger than any that a stranger needs to send");
            return self.dropped(DropReason::Malformed);
        }
        self.on_message(hop, side, Bytes::copy_from_slice(bytes));
    }

    fn on_stream(&mut self, id: FlowId, bytes: &[u8]) {
        let Some(flow) = self.flows.flow_mut(id) else { return self.dropped(DropReason::FlowClosed) };
        let (hop, side) = (flow.hop(id), flow.side);
        let mut framer = std::mem::take(&mut flow.framer);
        let mut fault = framer.push(bytes).err();
        let mut whole = false;
        while fault.is_none() {
            let frame = framer.next();
            if frame.is_some() && self.flows.flow_mut(id).is_some_and(|flow| flow.is_too_fast(self.now.mono))
            {
                return self.on_too_fast(id, &hop);
            }
            match frame {
                Some(Ok(Frame::Message(message))) => {
                    whole = true;
                    self.on_message(hop, side, Bytes::from(message));
                    if self.flows.flow(id).is_none() {
                        return;
                    }
                }
                Some(Ok(Frame::Ping)) => {
                    self.on_ping(id, hop);
                }
                Some(Ok(Frame::Pong)) => {}
                Some(Err(error)) => fault = Some(error),
                None => break,
            }
        }
        if let Some(error) = fault {
            self.on_malformed(&hop, side, &error.to_string());
            self.close_flow(id);
            return self.dropped(DropReason::Malformed);
        }
        let Some(flow) = self.flows.flow_mut(id) else { return };
        flow.framer = framer;
        flow.heard(id, whole, self.now.mono, &mut self.timers);
    }

    /// Somebody who is not registered floods his connection: it ends.
    fn on_too_fast(&mut self, id: FlowId, hop: &Hop) {
        let about = About::default().extension("not asked");
        self.offence(hop, proof_by_hop(hop), Code::Flood, about, || {
            (
                "too many messages within a second on a connection on which no phone is registered".into(),
                "nothing to do where it is a scanner; a phone of yours must register first".into(),
            )
        });
        self.close_flow(id);
    }

    /// A double CRLF is answered by a single one (RFC 5626 §4.4.1).
    fn on_ping(&mut self, id: FlowId, hop: Hop) {
        if let Some(flow) = self.flows.flow_mut(id) {
            flow.pinged(self.now.mono);
            self.send(&hop, Bytes::from_static(b"\r\n"));
        }
    }

    fn on_malformed(&mut self, hop: &Hop, side: Side, what: &str) {
        let words = || {
            (
                format!("no valid SIP: {what}"),
                "nothing to do where it is a scanner; a phone of yours that does this needs new firmware"
                    .into(),
            )
        };
        match side {
            Side::Outside => self.offence(hop, proof_by_hop(hop), Code::Malformed, About::default(), words),
            Side::Inside => self.event(Code::Malformed, About::source(hop.remote), words),
        }
    }

    fn on_message(&mut self, hop: Hop, side: Side, bytes: Bytes) {
        if side == Side::Inside {
            self.on_inside_heard(hop.remote);
        }
        let owned = bytes.clone();
        let parsed = Message::parse(&owned).and_then(|message| Ok((message.essentials()?, message)));
        let (essentials, message) = match parsed {
            Ok((_, message)) if crate::body::is_ambiguous(&message) => {
                return self.on_unreadable(hop, side, &bytes, 400, "a header about the body stands twice");
            }
            Ok(parsed) => parsed,
            Err(error) => {
                let status = if error.kind == ParseErrorKind::Version { 505 } else { 400 };
                return self.on_unreadable(hop, side, &bytes, status, &error.to_string());
            }
        };
        match message.start() {
            StartLine::Request { method, uri } => {
                if side == Side::Inside && !self.inside_source_known(&hop, &essentials) {
                    return self.on_inside_stranger(&hop, method.as_str());
                }
                self.on_request(hop, side, bytes, (&message, &essentials, method, uri));
            }
            StartLine::Status { code, .. } => {
                // A response with a Via below ours is for somebody else (RFC 3261 §8.1.3.3).
                if message.values(HeaderName::Via).flat_map(wire::sip::split_list).count() != 1 {
                    return self.dropped(DropReason::ForeignVia);
                }
                let outcome = self.transactions.receive_response(hop, &message, &essentials, self.now.mono);
                match outcome {
                    ResponseOutcome::Deliver(client) => {
                        self.flows.accepted(hop.flow);
                        self.on_request_heard(client);
                        let reply =
                            Reply { message: &message, essentials: &essentials, bytes: &bytes, status: code };
                        self.on_response(client, reply);
                    }
                    ResponseOutcome::Absorbed => {}
                    ResponseOutcome::Stray => self.dropped(DropReason::StrayResponse),
                }
            }
        }
    }

    /// What cannot be read: an offence, and a refusal where enough of it can be read to answer somebody who is
    /// registered, or a PBX. Strangers get nothing.
    fn on_unreadable(&mut self, hop: Hop, side: Side, bytes: &Bytes, status: u16, what: &str) {
        if side == Side::Inside && !self.inside_address_known(hop.remote.ip()) {
            return self.on_inside_stranger(&hop, "something that is no SIP");
        }
        self.on_malformed(&hop, side, what);
        if side == Side::Outside && self.bindings.by_hop(&hop).is_empty() {
            if hop.transport.is_reliable() {
                self.close_flow(hop.flow);
            }
            return self.dropped(DropReason::Malformed);
        }
        let read = Message::parse(bytes).ok().or_else(|| Message::salvage(bytes));
        let Some(message) = read else { return self.dropped(DropReason::Malformed) };
        let answerable = matches!(message.start(), StartLine::Request { method, .. } if method != Method::Ack)
            && message.value(HeaderName::Via).is_some()
            && message.value(HeaderName::CSeq).is_some();
        if !answerable {
            return self.dropped(DropReason::Malformed);
        }
        self.refuse_without_transaction(&hop, &message, status);
    }

    fn on_request(
        &mut self,
        hop: Hop,
        side: Side,
        bytes: Bytes,
        (message, essentials, method, uri): (&Message<'_>, &Essentials<'_>, Method<'_>, &str),
    ) {
        if side == Side::Outside && !self.may_speak(&hop, (method, uri), message, essentials) {
            return;
        }
        let account = match self.find_room((&hop, side), bytes.len(), essentials, uri) {
            Ok(account) => account,
            Err(no_room) => return self.on_no_room(&hop, message, no_room),
        };
        let came = self.now.mono;
        let outcome = self.transactions.receive_request(hop, message, essentials, came);
        if matches!(outcome, RequestOutcome::New(_) | RequestOutcome::Cancel { .. } | RequestOutcome::Ack2xx)
        {
            self.flows.accepted(hop.flow);
        }
        let server = match outcome {
            RequestOutcome::New(server) => server,
            RequestOutcome::Cancel { cancel, invite } => {
                self.take_room(cancel, account, bytes.len());
                let ask = Ask { server: cancel, hop, side, bytes, came };
                return self.on_cancel(&ask, invite);
            }
            RequestOutcome::Ack2xx => return self.on_ack(&hop, side, message, essentials),
            RequestOutcome::Retransmission | RequestOutcome::Ack(_) => return,
            RequestOutcome::Full => return self.on_no_transaction(&hop),
        };
        self.take_room(server, account, bytes.len());
        let ask = Ask { server, hop, side, bytes, came };
        if essentials.max_forwards == Some(0) && method != Method::Options {
            return self.refuse(&ask, 483);
        }
        match (side, method) {
            (Side::Outside, Method::Register) => self.on_register(&ask, message, essentials),
            (Side::Inside, Method::Register) => self.refuse_method(&ask),
            _ if essentials.to.tag().is_some() => self.on_in_dialog(&ask, essentials),
            (Side::Outside, Method::Invite) => self.on_call_out(&ask, message, essentials, uri),
            (Side::Inside, Method::Invite) => self.on_call_in(&ask, message, uri),
            (_, Method::Options) => self.on_options(&ask, message, essentials, uri),
            (_, Method::Message | Method::Notify) => self.on_out_of_dialog(&ask, essentials, uri),
            (_, Method::Bye | Method::Prack | Method::Update | Method::Info) => self.refuse(&ask, 481),
            // Transfers the call that it belongs to (RFC 3515); there is none.
            (_, Method::Refer) => self.refuse(&ask, 403),
            _ => self.refuse_method(&ask),
        }
    }

    fn take_room(&mut self, server: ServerId, account: Option<Account>, bytes: usize) {
        if let Some(account) = account {
            self.room.began(server, account, bytes);
        }
    }

    fn refuse_method(&mut self, ask: &Ask) {
        let allow = allow(ask.side);
        self.answer(ask, 405, |writer| {
            writer.header("Allow", allow);
        });
    }

    /// Only REGISTER is for everybody; all else comes from a registered flow (contract section 2). A device of
    /// ours that came back by another connection may go on with its calls before it has registered again, and
    /// hears 481 in a dialog that we do not know; strangers hear nothing.
    fn may_speak(
        &mut self,
        hop: &Hop,
        (method, uri): (Method<'_>, &str),
        message: &Message<'_>,
        essentials: &Essentials<'_>,
    ) -> bool {
        if self.refuse_expired(hop, method, message, essentials) {
            return false;
        }
        if method == Method::Register
            || !self.bindings.by_hop(hop).is_empty()
            || self.continues_a_call(hop, essentials)
        {
            return true;
        }
        if essentials.to.tag().is_some()
            && !matches!(method, Method::Ack | Method::Cancel)
            && self.device_at(hop).is_some()
        {
            return true;
        }
        // What was begun while its phone was registered is ended as it would have been.
        if self.transactions.knows_request(hop, uri, essentials) {
            return true;
        }
        if method == Method::Invite {
            // Before the offence is counted: the one that leads to the block is still answered.
            self.refuse_without_transaction(hop, message, 403);
            let name = Uri::parse(essentials.from.uri).ok().and_then(|uri| uri.user).unwrap_or("nobody");
            let about = About::default().extension(name);
            self.offence(hop, proof_by_hop(hop), Code::FlowNotRegistered, about, || {
                (
                    "a call from a flow on which no phone is registered".into(),
                    "nothing to do where it is a scanner; a phone of yours must register first".into(),
                )
            });
        } else {
            self.dropped(DropReason::FlowNotRegistered);
        }
        false
    }

    /// A refusal without a transaction (RFC 3261 §8.2.7): what cannot be read has none, and a forged UDP source must
    /// not get it again and again.
    pub(crate) fn refuse_without_transaction(&mut self, hop: &Hop, message: &Message<'_>, status: u16) {
        self.answer_without_transaction(hop, message, status, |_| {});
    }

    /// The same with more headers.
    pub(crate) fn answer_without_transaction(
        &mut self,
        hop: &Hop,
        message: &Message<'_>,
        status: u16,
        more: impl FnOnce(&mut Writer),
    ) {
        let call_id = message.value(HeaderName::CallId).unwrap_or_default();
        let tag = self.keys.stateless_tag(call_id, message.value(HeaderName::Via).unwrap_or_default());
        let reason = crate::answer::reason_phrase(status);
        let mut writer = sip::response::response(message, hop.remote, status, reason, Some(&tag));
        more(&mut writer);
        self.send(hop, Bytes::from(writer.finish(b"")));
    }

    fn on_inside_stranger(&mut self, hop: &Hop, what: &str) {
        self.dropped(DropReason::InsideStranger);
        if !self.reports.tells_inside_stranger(hop.remote.ip().to_canonical(), self.now.mono) {
            return;
        }
        let what = what.to_owned();
        self.event(Code::InsideStranger, About::source(hop.remote), || {
            (
                format!("{what} on the inside face from an address that is neither PBX nor trusted; dropped"),
                "if it is a server of yours, name it in trusted of [inside]".into(),
            )
        });
    }
}

/// That a source owns its address, where it has proved it: by a handshake, or by an `opaque` of ours that it returned.
/// Made nowhere else.
fn proof_of(
    source: SocketAddr,
    transport: Transport,
    returned: Option<&OpenedOpaque>,
) -> Option<VerifiedSource> {
    let proved = transport.is_reliable() || returned.is_some_and(|opaque| opaque.proves_source);
    proved.then(|| VerifiedSource::assertion(source.ip()))
}

/// The proof that lies in how somebody speaks to us.
pub(crate) fn proof_by_hop(hop: &Hop) -> Option<VerifiedSource> {
    proof_of(hop.remote, hop.transport, None)
}

/// What we understand on a face, for 405 and OPTIONS.
pub(crate) fn allow(side: Side) -> &'static str {
    match side {
        Side::Outside => {
            "INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, PRACK, UPDATE, INFO, REFER, NOTIFY, MESSAGE"
        }
        Side::Inside => "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, REFER, NOTIFY, MESSAGE",
    }
}

/// The user part of a name-addr or URI, with escapes undone.
pub(crate) fn user_of(uri: &str) -> Option<String> {
    Uri::parse(uri).ok()?.user_unescaped().map(|user| user.into_owned())
}
