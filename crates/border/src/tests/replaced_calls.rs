//! What a phone hears of the calls of another one, where the PBX names them to it.

use super::*;

/// A call to 2001 of the phone on `flow`, by what it calls itself and its call; the Call-ID that the PBX knows.
fn call(bench: &mut Bench, flow: FlowId, name: &str, call_id: &str) -> String {
    let of_phone = |method: &str, to_tag, body: &str| {
        let content_type = if body.is_empty() { "" } else { "application/sdp" };
        request(method, 1, to_tag, content_type, body)
            .replace("sip:1001@", &format!("sip:{name}@"))
            .replace("Call-ID: call-1", &format!("Call-ID: {call_id}"))
            .replace("z9hG4bK", &format!("z9hG4bK{name}"))
            .replace("tag=phone", &format!("tag=phone{name}"))
    };
    bench.phone_says(flow, &of_phone("INVITE", None, OFFER));
    let invite = bench.take("INVITE");
    bench.pbx_says(&accepted(&invite, &format!("desk{name}")));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
    bench.phone_says(flow, &of_phone("ACK", Some(&format!("desk{name}")), ""));
    bench.take("ACK");
    bench.sent.clear();
    invite.header(HeaderName::CallId)
}

/// The PBX tells the phone of 1001, in its call, to take over the call of this extension.
fn referred(bench: &mut Bench, inside: &str, name: &str, replaced: &str, cseq: u32) -> String {
    bench.pbx_says(&format!(
        "REFER sip:1001@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.1.1;branch=z9hG4bKrefer{cseq}\r\n\
         From: <sip:2001@main.example>;tag=desk1001\r\nTo: <sip:1001@main.example>;tag=phone1001\r\n\
         Call-ID: {inside}\r\nCSeq: {cseq} REFER\r\nContact: <sip:desk@10.0.1.1>\r\n\
         Refer-To: <sip:2001@main.example?Replaces={}%3Bto-tag%3Ddesk{name}%3Bfrom-tag%3Dphone{name}>\r\n\
         Content-Length: 0\r\n\r\n",
        replaced.replace('@', "%40")
    ));
    bench.take("REFER").header(HeaderName::ReferTo)
}

#[test]
fn a_phone_does_not_see_what_another_phone_calls_its_call_and_may_take_it_over() {
    let mut bench = Bench::with_pbx_up(config());
    let own = bench.registered(100);
    let other = bench.connect(101, Some("009033010205"));
    bench.phone_says(other, &register("1002", 1));
    let asked = bench.take("REGISTER");
    bench.pbx_says(&asked.registered(&[]));
    bench.sent.clear();
    let own_inside = call(&mut bench, own, "1001", "own@192.168.1.20");
    let other_inside = call(&mut bench, other, "1002", "other@192.168.1.30");

    let told = referred(&mut bench, &own_inside, "1001", &own_inside, 1);
    assert!(told.contains("Replaces=own%40192.168.1.20%3B"), "{told}");
    let told = referred(&mut bench, &own_inside, "1002", &other_inside, 2);
    assert!(!told.contains("192.168.1.30"), "{told}");
    let (_, replaces) = told.split_once("Replaces=").unwrap();
    let replaces = wire::sip::unescape(replaces.trim_end_matches('>')).into_owned();
    let again = request("INVITE", 1, None, "application/sdp", OFFER)
        .replace("call-1", "third")
        .replace("z9hG4bKINVITE1", "z9hG4bKthird")
        .replace("Max-Forwards", &format!("Replaces: {replaces}\r\nMax-Forwards"));
    bench.phone_says(own, &again);
    let named = bench.take("INVITE").header(HeaderName::Replaces);
    assert_eq!(named, format!("{other_inside};to-tag=desk1002;from-tag=phone1002"));
}
