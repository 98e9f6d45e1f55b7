//! The PBX without its socket: messages as the frontend writes them, and what comes of each.

use std::time::Duration;

use super::super::digest::tests::answer_to;
use super::super::journal::Contact;
use super::*;

const FRONTEND: &str = "127.0.0.3:5070";
const OTHER: &str = "127.0.0.9:6000";
const OFFER: &str = "v=0\r\nc=IN IP4 127.0.0.3\r\nm=audio 4000 RTP/AVP 0\r\n";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn exchange() -> Exchange {
    let account = |number: &str| Account { number: number.to_owned(), password: format!("secret{number}") };
    let accounts = vec![account("1001"), account("1002")];
    Exchange::new(address("127.0.0.4:5060"), "pbx.lab", accounts).unwrap()
}

/// A request from the frontend; `more` are further header lines.
fn request(method: &str, uri: &str, to: &str, more: &str, body: &str) -> String {
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {FRONTEND};branch=z9hG4bK7;rport\r\nMax-Forwards: 70\r\n\
         From: <sip:1001@pbx.lab>;tag=a\r\nTo: {to}\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n{more}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn send(exchange: &mut Exchange, text: &str) -> Option<(SocketAddr, String)> {
    send_at(exchange, text, Instant::now())
}

fn send_at(exchange: &mut Exchange, text: &str, now: Instant) -> Option<(SocketAddr, String)> {
    let outgoing = exchange.on_datagram(text.as_bytes(), address(FRONTEND), now);
    outgoing.map(|(to, bytes)| (to, String::from_utf8(bytes).unwrap()))
}

/// Sends, and answers the challenge that comes.
fn send_proved(
    exchange: &mut Exchange,
    write: impl Fn(&str) -> String,
    user: &str,
    password: &str,
) -> Option<(SocketAddr, String)> {
    send_proved_at(exchange, write, user, password, Instant::now())
}

fn send_proved_at(
    exchange: &mut Exchange,
    write: impl Fn(&str) -> String,
    user: &str,
    password: &str,
    now: Instant,
) -> Option<(SocketAddr, String)> {
    let first = write("");
    let (_, challenge) = send_at(exchange, &first, now).unwrap();
    let line = challenge.lines().find(|line| line.contains("-Authenticate: ")).unwrap();
    let (name, challenge) = line.split_once(": ").unwrap();
    let name = if name.starts_with("Proxy") { "Proxy-Authorization" } else { "Authorization" };
    let method = first.split(' ').next().unwrap();
    let proof = answer_to(challenge, user, password, method, "sip:pbx.lab");
    send_at(exchange, &write(&format!("{name}: {proof}\r\n")), now)
}

fn register(more: &'static str) -> impl Fn(&str) -> String {
    move |proof| {
        let more = format!("{more}{proof}");
        request("REGISTER", "sip:pbx.lab", "<sip:1001@pbx.lab>", &more, "")
    }
}

fn registered() -> Exchange {
    let mut exchange = exchange();
    let write = register("Contact: <sip:tok1@127.0.0.3:5070>\r\nExpires: 60\r\n");
    let (_, answer) = send_proved(&mut exchange, write, "1001", "secret1001").unwrap();
    assert!(answer.starts_with("SIP/2.0 200 OK\r\n"), "{answer}");
    exchange
}

#[test]
fn a_registration_needs_proof_and_is_answered_with_its_contact() {
    let mut exchange = exchange();
    let write = register("Contact: <sip:tok1@127.0.0.3:5070>;expires=90\r\n");
    let (to, challenge) = send(&mut exchange, &write("")).unwrap();
    assert_eq!(to, address(FRONTEND));
    assert!(challenge.starts_with("SIP/2.0 401 Unauthorized\r\n"), "{challenge}");
    assert!(challenge.contains(";received=127.0.0.3;rport=5070"), "{challenge}");
    assert!(exchange.journal().contacts.is_empty());
    let (_, wrong) = send_proved(&mut exchange, &write, "1001", "guess").unwrap();
    assert!(wrong.starts_with("SIP/2.0 401"), "{wrong}");
    let (_, stolen) = send_proved(&mut exchange, &write, "1002", "secret1002").unwrap();
    assert!(stolen.starts_with("SIP/2.0 403"), "{stolen}");
    let (_, answer) = send_proved(&mut exchange, &write, "1001", "secret1001").unwrap();
    assert!(answer.contains("Contact: <sip:tok1@127.0.0.3:5070>;expires="), "{answer}");
    let contact = Contact { uri: "sip:tok1@127.0.0.3:5070".to_owned(), host: "127.0.0.3".to_owned() };
    assert_eq!(exchange.journal().contacts["1001"], [contact]);
}

#[test]
fn a_question_changes_nothing_and_an_end_ends() {
    let mut exchange = registered();
    let (_, answer) = send_proved(&mut exchange, register(""), "1001", "secret1001").unwrap();
    assert!(answer.contains("Contact: <sip:tok1@"), "{answer}");
    let end = register("Contact: <sip:tok1@127.0.0.3:5070>\r\nExpires: 0\r\n");
    let (_, answer) = send_proved(&mut exchange, end, "1001", "secret1001").unwrap();
    assert!(answer.starts_with("SIP/2.0 200") && !answer.contains("Contact:"), "{answer}");
    assert!(exchange.journal().contacts.is_empty());
}

#[test]
fn a_registration_ends_with_its_time() {
    let mut exchange = registered();
    let later = |seconds| Instant::now() + Duration::from_secs(seconds);
    let mut call_at = |now| {
        let sent = send_proved_at(&mut exchange, invite("1001"), "1002", "secret1002", now);
        sent.unwrap().1.split("\r\n").next().unwrap().to_owned()
    };
    assert_eq!(call_at(later(50)), "INVITE sip:tok1@127.0.0.3:5070 SIP/2.0");
    assert_eq!(call_at(later(70)), "SIP/2.0 480 Temporarily Unavailable");
    let (_, answer) = send_proved_at(&mut exchange, register(""), "1001", "secret1001", later(70)).unwrap();
    assert!(answer.starts_with("SIP/2.0 200") && !answer.contains("Contact:"), "{answer}");
}

fn invite(number: &'static str) -> impl Fn(&str) -> String {
    move |proof| {
        let (uri, to) = (format!("sip:{number}@pbx.lab"), format!("<sip:{number}@pbx.lab>"));
        request("INVITE", &uri, &to, proof, OFFER)
    }
}

#[test]
fn a_call_goes_to_the_contact_and_its_answer_comes_back() {
    let mut exchange = registered();
    let (to, sent) = send_proved(&mut exchange, invite("1001"), "1002", "secret1002").unwrap();
    assert_eq!(to, address(FRONTEND));
    assert!(sent.starts_with("INVITE sip:tok1@127.0.0.3:5070 SIP/2.0\r\n"), "{sent}");
    assert!(sent.contains("Record-Route: <sip:127.0.0.4:5060;lr>\r\n"), "{sent}");
    assert!(sent.contains("Max-Forwards: 69\r\n") && sent.ends_with(&format!("\r\n\r\n{OFFER}")), "{sent}");
    assert!(!sent.contains("Proxy-Authorization"), "the proof is not passed on: {sent}");
    let seen = exchange.journal().calls.front().unwrap();
    assert_eq!((seen.caller.as_str(), seen.number.as_str()), ("1002", "1001"));
    assert_eq!(seen.offer.as_ref().map(|offer| offer.audio), Some(address("127.0.0.3:4000")));
    assert_eq!(seen.addresses, ["127.0.0.3".parse().unwrap()].into());

    let vias: String =
        sent.lines().filter(|line| line.starts_with("Via")).flat_map(|line| [line, "\r\n"]).collect();
    let ringing = format!("SIP/2.0 180 Ringing\r\n{vias}Call-ID: c\r\nCSeq: 1 INVITE\r\n\r\n");
    let (to, back) = send(&mut exchange, &ringing).unwrap();
    assert_eq!((to, back.matches("Via:").count()), (address(FRONTEND), 1));
    let stray = "SIP/2.0 180 Ringing\r\nVia: SIP/2.0/UDP 127.0.0.8;branch=z9hG4bK9\r\n\r\n";
    assert_eq!(send(&mut exchange, stray), None, "not by way of us");
}

#[test]
fn calls_that_lead_nowhere_are_refused() {
    let mut exchange = registered();
    let (_, unknown) = send_proved(&mut exchange, invite("4711"), "1002", "secret1002").unwrap();
    assert!(unknown.starts_with("SIP/2.0 404 Not Found\r\n"), "{unknown}");
    let (_, away) = send_proved(&mut exchange, invite("1002"), "1001", "secret1001").unwrap();
    assert!(away.starts_with("SIP/2.0 480"), "{away}");
    let (_, challenge) = send(&mut exchange, &invite("1001")("")).unwrap();
    assert!(challenge.starts_with("SIP/2.0 407"), "{challenge}");
    let tired = invite("1001")("").replace("Max-Forwards: 70", "Max-Forwards: 0");
    assert!(send(&mut exchange, &tired).unwrap().1.starts_with("SIP/2.0 483"));
    let ours = challenge.lines().find(|line| line.starts_with("To: ")).unwrap().trim_start_matches("To: ");
    let ack = request("ACK", "sip:1001@pbx.lab", ours, "", "");
    assert_eq!(send(&mut exchange, &ack), None, "the ACK of our own refusal ends here");
}

#[test]
fn within_a_dialog_the_route_and_the_target_are_followed() {
    let mut exchange = registered();
    let (to, more) =
        ("<sip:1002@pbx.lab>;tag=b", format!("Route: <sip:127.0.0.4:5060;lr>, <sip:{OTHER};lr>\r\n"));
    let bye = request("BYE", "sip:x@127.0.0.7:5062", to, &more, "");
    let (next, sent) = send(&mut exchange, &bye).unwrap();
    assert_eq!(next, address(OTHER));
    assert!(
        sent.contains(&format!("Route: <sip:{OTHER};lr>\r\n")) && !sent.contains("Route: <sip:127.0.0.4")
    );
    let direct = request("BYE", "sip:x@127.0.0.7:5062", to, "", "");
    assert_eq!(send(&mut exchange, &direct).unwrap().0, address("127.0.0.7:5062"));
    let retransmitted = send(&mut exchange, &direct).unwrap().1;
    let branch = |text: &str| text.lines().find(|line| line.starts_with("Via")).map(str::to_owned);
    assert_eq!(branch(&retransmitted), branch(&send(&mut exchange, &direct).unwrap().1));
    let name = request("BYE", "sip:x@host.example", to, "", "");
    assert!(send(&mut exchange, &name).unwrap().1.starts_with("SIP/2.0 480"), "names are not looked up");
}

#[test]
fn options_are_answered_and_garbage_is_not() {
    let mut exchange = exchange();
    let options = request("OPTIONS", "sip:pbx.lab", "<sip:pbx.lab>", "", "");
    assert!(send(&mut exchange, &options).unwrap().1.starts_with("SIP/2.0 200 OK"));
    assert_eq!(send(&mut exchange, "garbage"), None);
}
