//! By which Call-ID the PBX knows what a phone begins: another one's is another, whatever that one says.

use super::calls::call;
use super::*;

/// The phone of 1002, registered: its flow, and the contact that the PBX has of it.
fn other_phone(bench: &mut Bench) -> (FlowId, String) {
    let flow = bench.connect(101, Some("009033010205"));
    bench.phone_says(flow, &register("1002", 1));
    let asked = bench.take("REGISTER");
    bench.pbx_says(&asked.registered(&[]));
    bench.sent.clear();
    let contact = asked.header(HeaderName::Contact);
    (flow, contact.trim_start_matches('<').split_once('>').unwrap().0.to_owned())
}

/// An INVITE of the phone of 1002, with the tag of the one of 1001.
fn invite_of_other(call_id: &str) -> String {
    request("INVITE", 1, None, "application/sdp", OFFER)
        .replace("sip:1001@", "sip:1002@")
        .replace("Call-ID: call-1", &format!("Call-ID: {call_id}"))
}

#[test]
fn a_phone_that_says_the_call_id_and_the_tag_of_another_ones_call_begins_a_call_of_its_own() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    let (other, contact) = other_phone(&mut bench);
    let invite = call(&mut bench, flow);
    // The PBX lets that call ring at the other phone too, which so hears its name.
    let ringing = format!(
        "INVITE {contact} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.1.1;branch=z9hG4bKring\r\nMax-Forwards: 69\r\n\
         From: <sip:1001@main.example>;tag=phone\r\nTo: <sip:1002@main.example>\r\nCall-ID: {}\r\n\
         CSeq: 1 INVITE\r\nContact: <sip:1001@10.0.1.1>\r\nContent-Length: 0\r\n\r\n",
        invite.header(HeaderName::CallId)
    );
    bench.pbx_says(&ringing);
    let heard = bench.take("INVITE").header(HeaderName::CallId);
    assert_ne!(heard, "call-1");
    let mut known = vec![invite.header(HeaderName::CallId)];
    for (said, branch) in [("call-1", "z9hG4bKa"), (&heard, "z9hG4bKb"), (&known[0].clone(), "z9hG4bKc")] {
        bench.phone_says(other, &invite_of_other(said).replace("z9hG4bKINVITE1", branch));
        known.push(bench.take("INVITE").header(HeaderName::CallId));
    }
    assert_ne!(known[0], known[1]);
    assert_eq!(known[1..], [known[1].clone(), known[1].clone(), known[1].clone()], "its own, by any name");
    let told = request("MESSAGE", 1, None, "text/plain", "hello");
    for (from, name) in [(flow, "1001"), (other, "1002")] {
        bench.phone_says(from, &told.replace("sip:1001@", &format!("sip:{name}@")));
        known.push(bench.take("MESSAGE").header(HeaderName::CallId));
    }
    assert_eq!(known[4..], [known[0].clone(), known[1].clone()], "a message as well");
}

#[test]
fn a_phone_that_comes_from_elsewhere_goes_on_with_its_call() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    let first = bench.take("INVITE");
    bench.pbx_says(&first.answer(503, "busy", ""));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(503));
    let moved = bench.connect(102, Some(DEVICE));
    bench.phone_says(moved, &register("1001", 2));
    bench.sent.clear();
    bench.phone_says(moved, &request("INVITE", 2, None, "application/sdp", OFFER));
    let again = bench.take("INVITE");
    assert_eq!(again.header(HeaderName::CallId), first.header(HeaderName::CallId));
    bench.pbx_says(&accepted(&again, "desk"));
    bench.phone_says(moved, &request("ACK", 2, Some("desk"), "", ""));
    bench.take("ACK");
    let elsewhere = bench.connect(103, Some(DEVICE));
    bench.phone_says(elsewhere, &register("1001", 3));
    bench.sent.clear();
    bench.phone_says(elsewhere, &request("BYE", 3, Some("desk"), "", ""));
    assert_eq!(bench.take("BYE").header(HeaderName::CallId), first.header(HeaderName::CallId));
}
