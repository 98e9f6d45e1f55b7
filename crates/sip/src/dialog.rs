//! Dialogs (RFC 3261 §12): what two user agents must remember of each other between requests.
//!
//! Plain data with the rules of §12 as functions. Never sends, never decides whether a request is welcome,
//! never borrows from a message.

use thiserror::Error;
use wire::sip::{
    CSeq, Essentials, HeaderName, Message, Method, NameAddr, StartLine, Uri, Writer, split_list,
};

/// What names a dialog (§12).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DialogId {
    /// The Call-ID.
    pub call_id: String,
    /// Our tag.
    pub local_tag: String,
    /// The peer's tag; empty for one that knows only RFC 2543.
    pub remote_tag: String,
}

impl DialogId {
    /// Of a request from the peer: To is us.
    pub fn of_request(essentials: &Essentials<'_>) -> Self {
        Self::new(essentials.call_id, essentials.to.tag(), essentials.from.tag())
    }

    /// Of a response to a request of ours: From is us.
    pub fn of_response(essentials: &Essentials<'_>) -> Self {
        Self::new(essentials.call_id, essentials.from.tag(), essentials.to.tag())
    }

    fn new(call_id: &str, local_tag: Option<&str>, remote_tag: Option<&str>) -> Self {
        Self {
            call_id: call_id.to_owned(),
            local_tag: local_tag.unwrap_or_default().to_owned(),
            remote_tag: remote_tag.unwrap_or_default().to_owned(),
        }
    }
}

/// Why a message makes no dialog.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DialogError {
    /// A header that every message has is missing or faulty.
    #[error("no From, To, Call-ID, CSeq or Via")]
    Essentials,
    /// A request was given for a response, or the reverse.
    #[error("not the kind of message that makes a dialog")]
    Kind,
    /// A request without a usable Contact: nobody could be answered later.
    #[error("no usable Contact")]
    Contact,
    /// A Record-Route that is no list of addresses.
    #[error("no usable Record-Route")]
    RecordRoute,
}

/// One dialog, seen from our end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialog {
    /// What names it.
    pub id: DialogId,
    /// Our address: From of our requests.
    pub local_uri: String,
    /// The peer's address: To of our requests.
    pub remote_uri: String,
    /// Where the peer is: its Contact.
    pub remote_target: String,
    /// The proxies between, next first, each a name-addr as it stood.
    pub route_set: Vec<String>,
    /// The number of the peer's last request; none came yet.
    pub remote_cseq: Option<u32>,
    /// A 2xx was sent or received.
    pub confirmed: bool,
}

impl Dialog {
    /// The dialog that a response to `request`, which we sent, makes (§12.1.2).
    ///
    /// A response without a Contact is taken to come from where the request went: a provisional one often
    /// lacks it.
    pub fn uac(request: &Message<'_>, response: &Message<'_>) -> Result<Self, DialogError> {
        let StartLine::Request { uri, .. } = request.start() else { return Err(DialogError::Kind) };
        let StartLine::Status { code, .. } = response.start() else { return Err(DialogError::Kind) };
        let essentials = response.essentials().map_err(|_| DialogError::Essentials)?;
        Ok(Self {
            id: DialogId::of_response(&essentials),
            local_uri: essentials.from.uri.to_owned(),
            remote_uri: essentials.to.uri.to_owned(),
            remote_target: contact(response).unwrap_or(uri).to_owned(),
            route_set: record_route(response).map(reversed)?,
            remote_cseq: None,
            confirmed: is_success(code),
        })
    }

    /// The dialog that our response with `local_tag` to `request` makes (§12.1.1). It is confirmed by
    /// [`confirm`](Self::confirm).
    pub fn uas(request: &Message<'_>, local_tag: &str) -> Result<Self, DialogError> {
        let StartLine::Request { .. } = request.start() else { return Err(DialogError::Kind) };
        let essentials = request.essentials().map_err(|_| DialogError::Essentials)?;
        let mut id = DialogId::of_request(&essentials);
        local_tag.clone_into(&mut id.local_tag);
        Ok(Self {
            id,
            local_uri: essentials.to.uri.to_owned(),
            remote_uri: essentials.from.uri.to_owned(),
            remote_target: contact(request).ok_or(DialogError::Contact)?.to_owned(),
            route_set: record_route(request)?,
            remote_cseq: Some(essentials.cseq.number),
            confirmed: false,
        })
    }

    /// We sent the 2xx.
    pub fn confirm(&mut self) {
        self.confirmed = true;
    }

    /// The 2xx to the INVITE that made the dialog has come: its route set counts, whatever an earlier
    /// provisional answer said (§13.2.2.4), and its Contact. A 2xx to a request inside a dialog, be it early
    /// as that of a PRACK, refreshes the target alone (§12.2.1.2).
    pub fn on_success(&mut self, response: &Message<'_>) -> Result<(), DialogError> {
        let StartLine::Status { code, .. } = response.start() else { return Err(DialogError::Kind) };
        if !is_success(code) {
            return Err(DialogError::Kind);
        }
        let cseq = response.value(HeaderName::CSeq).and_then(|value| CSeq::parse(value).ok());
        let Some(CSeq { method, .. }) = cseq else { return Ok(()) };
        if !self.confirmed && method == Method::Invite {
            self.route_set = record_route(response).map(reversed)?;
            self.confirmed = true;
        }
        if refreshes_target(method) {
            self.take_target(response);
        }
        Ok(())
    }

    /// We answered a request of the peer with this status: only a 2xx to a re-INVITE, UPDATE or the like
    /// moves the target (RFC 6141 §4.6).
    pub fn on_answered(&mut self, request: &Message<'_>, status: u16) {
        let StartLine::Request { method, .. } = request.start() else { return };
        if is_success(status) && refreshes_target(method) {
            self.take_target(request);
        }
    }

    /// Whether a request of the peer is in order (§12.2.2); its number is remembered. If not: 500. ACK and
    /// CANCEL bear the number of their INVITE and are always in order.
    pub fn accept_cseq(&mut self, cseq: CSeq<'_>) -> bool {
        if matches!(cseq.method, Method::Ack | Method::Cancel) {
            return true;
        }
        if self.remote_cseq.is_some_and(|last| cseq.number < last) {
            return false;
        }
        self.remote_cseq = Some(cseq.number);
        true
    }

    /// The Request-URI and the Route values of a request inside the dialog (§12.2.1.1), behind a strict
    /// router too.
    pub fn route(&self) -> (&str, Vec<Route<'_>>) {
        let Some((first, rest)) = self.route_set.split_first() else {
            return (&self.remote_target, Vec::new());
        };
        if is_loose(first) {
            return (&self.remote_target, self.route_set.iter().map(|route| Route::Kept(route)).collect());
        }
        let kept = rest.iter().map(|route| Route::Kept(route));
        let uri = uri_of(first);
        let target = Uri::parse(uri).map_or(uri, |parsed| parsed.as_target(uri));
        (target, kept.chain([Route::Target(&self.remote_target)]).collect())
    }

    /// The URI that says where a request inside the dialog is sent (§8.1.2).
    pub fn next_hop(&self) -> &str {
        self.route_set.first().map_or(&self.remote_target, |first| uri_of(first))
    }

    /// Begins a request inside the dialog: Via, Route, Max-Forwards, From, To, Call-ID, CSeq. An ACK bears
    /// the number of its INVITE, any other request one more than the last.
    pub fn request(&self, method: Method<'_>, cseq: u32, via: &str, max_forwards: u8) -> Writer {
        let (uri, routes) = self.route();
        let mut writer = Writer::request(method.as_str(), uri);
        writer.header(HeaderName::Via.as_str(), via);
        for route in routes {
            match route {
                Route::Kept(text) => writer.header(HeaderName::Route.as_str(), text),
                Route::Target(uri) => writer.header(HeaderName::Route.as_str(), format_args!("<{uri}>")),
            };
        }
        writer.header(HeaderName::MaxForwards.as_str(), max_forwards);
        address(&mut writer, HeaderName::From, &self.local_uri, &self.id.local_tag);
        address(&mut writer, HeaderName::To, &self.remote_uri, &self.id.remote_tag);
        writer.header(HeaderName::CallId.as_str(), &self.id.call_id);
        writer.header(HeaderName::CSeq.as_str(), format_args!("{cseq} {}", method.as_str()));
        writer
    }

    fn take_target(&mut self, message: &Message<'_>) {
        if let Some(contact) = contact(message) {
            contact.clone_into(&mut self.remote_target);
        }
    }
}

/// One Route value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// Of the route set, as it stood.
    Kept(&'a str),
    /// The remote target's URI, put last because a strict router took its place.
    Target(&'a str),
}

fn address(writer: &mut Writer, name: HeaderName<'_>, uri: &str, tag: &str) {
    if tag.is_empty() {
        writer.header(name.as_str(), format_args!("<{uri}>"));
    } else {
        writer.header(name.as_str(), format_args!("<{uri}>;tag={tag}"));
    }
}

fn is_success(code: u16) -> bool {
    (200..300).contains(&code)
}

/// Whether a request of this method may move the target of its dialog (RFC 3261 §12.2, RFC 3311 §5,
/// RFC 6665 §4.1).
fn refreshes_target(method: Method<'_>) -> bool {
    matches!(method, Method::Invite | Method::Update | Method::Subscribe | Method::Notify | Method::Refer)
}

/// The URI of the one Contact that makes a target: sip or sips, without the headers that no Request-URI may have
/// (RFC 3261 §19.1.1).
fn contact<'a>(message: &Message<'a>) -> Option<&'a str> {
    let first = split_list(message.value(HeaderName::Contact)?).next()?;
    let text = NameAddr::parse(first).ok()?.uri;
    let uri = Uri::parse(text).ok().filter(|uri| uri.scheme != wire::sip::Scheme::Tel)?;
    Some(uri.as_target(text))
}

/// All Record-Route values in their order.
fn record_route(message: &Message<'_>) -> Result<Vec<String>, DialogError> {
    let mut routes = Vec::new();
    for value in message.values(HeaderName::RecordRoute).flat_map(split_list) {
        let parsed = NameAddr::parse(value).map_err(|_| DialogError::RecordRoute)?;
        Uri::parse(parsed.uri).map_err(|_| DialogError::RecordRoute)?;
        routes.push(value.to_owned());
    }
    Ok(routes)
}

fn reversed(mut routes: Vec<String>) -> Vec<String> {
    routes.reverse();
    routes
}

fn is_loose(route: &str) -> bool {
    Uri::parse(uri_of(route)).is_ok_and(|uri| uri.params.has("lr"))
}

/// The URI in a value of the route set, all of which parse.
fn uri_of(route: &str) -> &str {
    NameAddr::parse(route).map_or(route, |parsed| parsed.uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &str = "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\
        From: \"A\" <sip:alice@example.com>;tag=a\r\nTo: <sip:bob@example.com>\r\nCall-ID: c\r\n\
        CSeq: 7 INVITE\r\nContact: <sip:alice@192.0.2.1;transport=tcp>\r\n";

    fn response(code: u16, more: &str) -> String {
        format!(
            "SIP/2.0 {code} x\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:alice@example.com>;tag=a\r\n\
             To: Bob <sip:bob@example.com>;tag=b\r\nCall-ID: c\r\nCSeq: 7 INVITE\r\n{more}\r\n"
        )
    }

    fn invite(more: &str) -> String {
        format!("{INVITE}{more}\r\n")
    }

    fn uac(code: u16, more: &str) -> Result<Dialog, DialogError> {
        let (request, response) = (invite(""), response(code, more));
        Dialog::uac(&parse(&request), &parse(&response))
    }

    fn uas(more: &str) -> Dialog {
        Dialog::uas(&parse(&invite(more)), "b").expect("a dialog")
    }

    fn parse(text: &str) -> Message<'_> {
        Message::parse(text.as_bytes()).expect("a message")
    }

    fn cseq(number: u32, method: Method<'_>) -> CSeq<'_> {
        CSeq { number, method }
    }

    #[test]
    fn both_ends_see_the_same_dialog() {
        let ours = uac(180, "Record-Route: <sip:p2;lr>, <sip:p1;lr>\r\nContact: <sip:bob@192.0.2.2>\r\n")
            .expect("a dialog");
        assert_eq!(ours.id, DialogId { call_id: "c".into(), local_tag: "a".into(), remote_tag: "b".into() });
        assert_eq!(
            (ours.local_uri.as_str(), ours.remote_uri.as_str()),
            ("sip:alice@example.com", "sip:bob@example.com")
        );
        assert_eq!(ours.remote_target, "sip:bob@192.0.2.2");
        assert_eq!(ours.route_set, ["<sip:p1;lr>", "<sip:p2;lr>"]);
        assert_eq!((ours.remote_cseq, ours.confirmed), (None, false));

        let theirs = uas("Record-Route: <sip:p2;lr>\r\nRecord-Route: <sip:p1;lr>\r\n");
        assert_eq!(
            theirs.id,
            DialogId { call_id: "c".into(), local_tag: "b".into(), remote_tag: "a".into() }
        );
        assert_eq!(
            (theirs.local_uri.as_str(), theirs.remote_uri.as_str()),
            ("sip:bob@example.com", "sip:alice@example.com")
        );
        assert_eq!(theirs.remote_target, "sip:alice@192.0.2.1;transport=tcp");
        assert_eq!(theirs.route_set, ["<sip:p2;lr>", "<sip:p1;lr>"]);
        assert_eq!((theirs.remote_cseq, theirs.confirmed), (Some(7), false));
    }

    #[test]
    fn ids_are_read_from_either_end() {
        let text = response(200, "");
        let essentials = parse(&text).essentials().expect("essentials");
        let ours = DialogId::of_response(&essentials);
        assert_eq!((ours.local_tag.as_str(), ours.remote_tag.as_str()), ("a", "b"));
        let theirs = DialogId::of_request(&essentials);
        assert_eq!((theirs.local_tag.as_str(), theirs.remote_tag.as_str()), ("b", "a"));
        let text = invite("");
        let first = DialogId::of_request(&parse(&text).essentials().expect("essentials"));
        assert_eq!(first.local_tag, "", "no tag yet");
    }

    #[test]
    fn contact_and_record_route_are_checked() {
        assert_eq!(uac(180, "").expect("a dialog").remote_target, "sip:bob@example.com");
        let asks = "Contact: <sip:b?b@192.0.2.2;x=y?Subject=a&Priority=b?>\r\n";
        assert_eq!(uac(180, asks).expect("a dialog").remote_target, "sip:b?b@192.0.2.2;x=y");
        let without = INVITE.replace("Contact: <sip:alice@192.0.2.1;transport=tcp>\r\n", "");
        for contact in ["", "Contact: *\r\n", "Contact: <tel:+1>\r\n", "Contact: <http://x>\r\n"] {
            let text = format!("{without}{contact}\r\n");
            assert_eq!(Dialog::uas(&parse(&text), "b"), Err(DialogError::Contact), "{contact}");
        }
        assert_eq!(uac(200, "Record-Route: x\r\n"), Err(DialogError::RecordRoute));
        let (request, answer) = (invite(""), response(200, ""));
        assert_eq!(Dialog::uac(&parse(&answer), &parse(&answer)), Err(DialogError::Kind));
        assert_eq!(Dialog::uac(&parse(&request), &parse(&request)), Err(DialogError::Kind));
        assert_eq!(Dialog::uas(&parse(&answer), "b"), Err(DialogError::Kind));
    }

    #[test]
    fn the_2xx_decides_the_route_set_once() {
        let mut dialog =
            uac(183, "Record-Route: <sip:early;lr>\r\nContact: <sip:bob@192.0.2.2>\r\n").expect("a dialog");
        let late = response(200, "Record-Route: <sip:p2;lr>,<sip:p1;lr>\r\nContact: <sip:bob@192.0.2.3>\r\n");
        dialog.on_success(&parse(&late)).expect("a 2xx");
        assert_eq!(dialog.route_set, ["<sip:p1;lr>", "<sip:p2;lr>"]);
        assert_eq!((dialog.remote_target.as_str(), dialog.confirmed), ("sip:bob@192.0.2.3", true));
        let again = response(200, "Record-Route: <sip:other;lr>\r\nContact: <sip:bob@192.0.2.4>\r\n");
        dialog.on_success(&parse(&again)).expect("a 2xx");
        assert_eq!(dialog.route_set, ["<sip:p1;lr>", "<sip:p2;lr>"], "a re-INVITE moves the target alone");
        assert_eq!(dialog.remote_target, "sip:bob@192.0.2.4");
        let failed = response(488, "Contact: <sip:bob@192.0.2.5>\r\n");
        assert_eq!(dialog.on_success(&parse(&failed)), Err(DialogError::Kind));
        let info = response(200, "Contact: <sip:bob@192.0.2.5>\r\n").replace("7 INVITE", "8 INFO");
        dialog.on_success(&parse(&info)).expect("a 2xx");
        assert_eq!(dialog.remote_target, "sip:bob@192.0.2.4", "INFO refreshes nothing");
    }

    #[test]
    fn a_prack_that_succeeds_leaves_an_early_dialog_early() {
        let early = "Record-Route: <sip:p2;lr>,<sip:p1;lr>\r\nContact: <sip:bob@192.0.2.2>\r\n";
        let mut dialog = uac(183, early).expect("a dialog");
        let prack = response(200, "").replace("7 INVITE", "8 PRACK");
        dialog.on_success(&parse(&prack)).expect("a 2xx");
        assert_eq!((dialog.route_set.len(), dialog.confirmed), (2, false));
        dialog.on_success(&parse(&response(200, early))).expect("a 2xx");
        assert_eq!((dialog.route_set.len(), dialog.confirmed), (2, true));
    }

    #[test]
    fn a_request_moves_the_target_only_when_it_succeeds() {
        let mut dialog = uas("");
        let reinvite = invite("").replace("192.0.2.1", "192.0.2.9");
        dialog.on_answered(&parse(&reinvite), 488);
        dialog.on_answered(&parse(&reinvite), 180);
        assert_eq!(dialog.remote_target, "sip:alice@192.0.2.1;transport=tcp");
        dialog.on_answered(&parse(&reinvite), 200);
        assert_eq!(dialog.remote_target, "sip:alice@192.0.2.9;transport=tcp");
        let info = invite("").replace("INVITE", "INFO");
        dialog.on_answered(&parse(&info), 200);
        assert_eq!(dialog.remote_target, "sip:alice@192.0.2.9;transport=tcp");
    }

    #[test]
    fn cseq_order() {
        let mut dialog = uas("");
        assert!(!dialog.accept_cseq(cseq(6, Method::Bye)));
        assert!(dialog.accept_cseq(cseq(7, Method::Ack)));
        assert!(dialog.accept_cseq(cseq(100, Method::Info)), "gaps are allowed");
        assert!(dialog.accept_cseq(cseq(100, Method::Info)), "only a lower number is out of order");
        assert!(dialog.accept_cseq(cseq(7, Method::Ack)), "the ACK bears its INVITE's number");
        assert!(dialog.accept_cseq(cseq(7, Method::Cancel)));
        assert_eq!(dialog.remote_cseq, Some(100));
        assert!(!dialog.accept_cseq(cseq(99, Method::Bye)));
        let mut caller = uac(200, "").expect("a dialog");
        assert!(caller.accept_cseq(cseq(0, Method::Bye)), "the peer's first may be any");
    }

    #[test]
    fn requests_take_the_route_of_12_2_1_1() {
        let contact = "Contact: <sip:bob@192.0.2.2>\r\n";
        let direct = uac(200, contact).expect("a dialog");
        assert_eq!(direct.route(), ("sip:bob@192.0.2.2", vec![]));
        assert_eq!(direct.next_hop(), "sip:bob@192.0.2.2");

        let loose = uac(200, &format!("Record-Route: <sip:p2>,<sip:p1;lr>\r\n{contact}")).expect("a dialog");
        let routes = vec![Route::Kept("<sip:p1;lr>"), Route::Kept("<sip:p2>")];
        assert_eq!(loose.route(), ("sip:bob@192.0.2.2", routes));
        assert_eq!(loose.next_hop(), "sip:p1;lr");

        let strict =
            uac(200, &format!("Record-Route: <sip:p2;lr>,<sip:p1>;x=y\r\n{contact}")).expect("a dialog");
        let routes = vec![Route::Kept("<sip:p2;lr>"), Route::Target("sip:bob@192.0.2.2")];
        assert_eq!(strict.route(), ("sip:p1", routes));
        assert_eq!(strict.next_hop(), "sip:p1");
        let bytes = strict.request(Method::Bye, 8, "SIP/2.0/UDP us;branch=z9hG4bK2", 70).finish(b"");
        assert_eq!(
            String::from_utf8(bytes).expect("text"),
            "BYE sip:p1 SIP/2.0\r\nVia: SIP/2.0/UDP us;branch=z9hG4bK2\r\nRoute: <sip:p2;lr>\r\n\
             Route: <sip:bob@192.0.2.2>\r\nMax-Forwards: 70\r\nFrom: <sip:alice@example.com>;tag=a\r\n\
             To: <sip:bob@example.com>;tag=b\r\nCall-ID: c\r\nCSeq: 8 BYE\r\nContent-Length: 0\r\n\r\n"
        );
    }
}
