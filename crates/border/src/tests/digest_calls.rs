//! Calls of a phone that answers the PBX's challenges itself.

use super::*;

const CREDENTIALS: &str = "Proxy-Authorization: Digest username=\"1003\", realm=\"main.example\", nonce=\"n\", \
                           uri=\"sip:2001@main.example\", response=\"00000000000000000000000000000000\"\r\n";

/// A bench whose extension 1003 may begin so many calls, and its registered phone.
fn bench(rule: &str) -> (Bench, FlowId) {
    let mut config = config();
    config.extensions[2].rules = vec![rule.parse().unwrap()];
    let mut bench = Bench::with_pbx_up(config);
    let flow = bench.connect(100, None);
    bench.phone_says(flow, &register("1003", 1));
    let asked = bench.take("REGISTER");
    bench.pbx_says(&asked.registered(&[]));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
    bench.sent.clear();
    bench.events.clear();
    (bench, flow)
}

/// The registration of the phone that has a call ends.
fn end_registration(bench: &mut Bench) {
    let token = bench.border.calls.iter().next().map(|(_, call)| call.token().to_owned()).unwrap();
    let expired = bench.border.bindings.by_token(&token).unwrap();
    bench.border.end_binding(expired, "it expired");
}

/// The INVITE of a call, with this header besides.
fn invite(call: &str, cseq: u32, header: &str) -> String {
    request("INVITE", cseq, None, "application/sdp", OFFER)
        .replace("sip:1001@", "sip:1003@")
        .replace("Call-ID: call-1", &format!("Call-ID: {call}"))
        .replace("z9hG4bKINVITE", &format!("z9hG4bK{call}"))
        .replace("Max-Forwards", &format!("{header}Max-Forwards"))
}

/// What the PBX answers: its challenge, with this parameter besides.
fn challenged(bench: &mut Bench, flow: FlowId, more: &str) -> Option<u16> {
    let asked = bench.take("INVITE");
    let challenge = CHALLENGE.replace("WWW-", "Proxy-") + more;
    bench.pbx_says(&asked.answer(407, "pbx", &challenge));
    bench.final_answer(flow).and_then(|answer| answer.status())
}

#[test]
fn only_credentials_that_were_refused_are_an_offence() {
    for (header, more, offends) in
        [("", "", false), (CREDENTIALS, ", stale=true", false), (CREDENTIALS, "", true)]
    {
        let (mut bench, flow) = bench("50/1s");
        bench.phone_says(flow, &invite("call-1", 1, header));
        assert_eq!(challenged(&mut bench, flow, more), Some(407));
        let told: Vec<_> = bench.events.iter().filter(|event| event.code == Code::DigestFailed).collect();
        assert_eq!(told.len(), usize::from(offends), "{header}{more}: {:?}", bench.events);
        if let [event] = told.as_slice() {
            assert_eq!((event.source, event.extension.as_deref()), (Some(phone_address(flow)), Some("1003")));
        }
    }
}

#[test]
fn a_challenged_call_is_counted_once_and_made_up_credentials_buy_no_other() {
    let (mut bench, flow) = bench("1/1m");
    bench.phone_says(flow, &invite("call-1", 1, ""));
    assert_eq!(challenged(&mut bench, flow, ""), Some(407));
    bench.phone_says(flow, &invite("call-1", 2, CREDENTIALS));
    bench.take("INVITE");
    for header in ["", CREDENTIALS] {
        bench.events.clear();
        bench.phone_says(flow, &invite(&format!("call-{}", header.len() + 2), 1, header));
        assert!(bench.try_take("INVITE").is_none(), "{header}");
        let refused = bench.final_answer(flow).unwrap();
        assert_eq!(refused.status(), Some(480), "{header}");
        assert_eq!(refused.header(HeaderName::Warning), "399 203.0.113.10 \"default 1/1m\"");
        assert!(bench.has_event(Code::CallLimited), "{header}");
    }
    // Without credentials the challenged call is a new one as well.
    bench.phone_says(flow, &invite("call-1", 3, ""));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(480));
}

#[test]
fn a_challenged_call_is_not_tried_again_by_another_phone() {
    let (mut bench, flow) = bench("1/1m");
    let other = bench.connect(101, None);
    let text = register("1003", 1).replace("line@192.168.1.20", "line@192.168.1.30");
    bench.phone_says(other, &text.replace("reg-1003", "reg-other"));
    let asked = bench.take("REGISTER");
    bench.pbx_says(&asked.registered(&[]));
    bench.sent.clear();
    bench.phone_says(flow, &invite("call-1", 1, ""));
    assert_eq!(challenged(&mut bench, flow, ""), Some(407));
    bench.phone_says(other, &invite("call-1", 2, CREDENTIALS));
    assert_eq!(bench.final_answer(other).and_then(|answer| answer.status()), Some(480));
    bench.phone_says(flow, &invite("call-1", 2, CREDENTIALS));
    bench.take("INVITE");
}

#[test]
fn credentials_that_are_no_digest_stay_outside() {
    let (mut bench, flow) = bench("50/1s");
    let other = "Authorization: Basic c2VjcmV0\r\nProxy-Authorization: <sip:line@192.168.1.20>\r\n";
    bench.phone_says(flow, &invite("call-1", 1, &format!("{other}{CREDENTIALS}")));
    let asked = bench.take("INVITE").text;
    assert!(
        asked.contains(CREDENTIALS) && !asked.contains("Basic") && !asked.contains("192.168."),
        "{asked}"
    );
}

#[test]
fn a_phone_that_registered_anew_during_its_call_from_elsewhere_is_known_by_that() {
    let (mut bench, flow) = bench("50/1s");
    let elsewhere =
        |text: String| text.replace("sip:1001@", "sip:1003@").replace("192.168.1.20", "192.168.9.90");
    bench.phone_says(flow, &elsewhere(request("INVITE", 1, None, "application/sdp", OFFER)));
    let invite = bench.take("INVITE");
    bench.pbx_says(&accepted(&invite, "desk"));
    bench.phone_says(flow, &elsewhere(request("ACK", 1, Some("desk"), "", "")));
    end_registration(&mut bench);
    bench.phone_says(flow, &register("1003", 2));
    let asked = bench.take("REGISTER");
    bench.pbx_says(&asked.registered(&[]));
    let info = elsewhere(request("INFO", 2, Some("desk"), "", ""));
    bench.phone_says(flow, &info.replace("CSeq:", "Subject: 192.168.1.20\r\nCSeq:"));
    let crossed = bench.take("INFO").text;
    assert!(!crossed.contains("192.168."), "{crossed}");
}

#[test]
fn a_phone_whose_registration_had_ended_goes_on_with_its_call_when_it_is_back() {
    let (mut bench, flow) = bench("50/1s");
    bench.phone_says(flow, &invite("call-1", 1, ""));
    let asked = bench.take("INVITE");
    bench.pbx_says(&accepted(&asked, "desk"));
    let in_dialog =
        |method, cseq| request(method, cseq, Some("desk"), "", "").replace("sip:1001@", "sip:1003@");
    bench.phone_says(flow, &in_dialog("ACK", 1));
    bench.put(Input::FlowClosed { flow });
    end_registration(&mut bench);
    let back = bench.connect(101, None);
    bench.sent.clear();
    let bye = in_dialog("BYE", 2);
    bench.phone_says(back, &bye);
    assert_eq!(bench.sent.len(), 0, "a flow that nobody registered on is a stranger's");
    bench.phone_says(back, &register("1003", 2));
    let registered = bench.take("REGISTER");
    bench.pbx_says(&registered.registered(&[]));
    bench.sent.clear();
    bench.phone_says(back, &bye.replace("z9hG4bKBYE2", "z9hG4bKagain"));
    assert_eq!(bench.take("BYE").header(HeaderName::CallId), asked.header(HeaderName::CallId));
}
