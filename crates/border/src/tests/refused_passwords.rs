//! A PBX that refuses the password of an extension whose phone has none: the phone hears no challenge and is not to
//! blame, and the operator hears why.

use super::calls::call;
use super::*;

/// What the PBX asks of calls, by 407.
const PROXY: &str =
    "Proxy-Authenticate: Digest realm=\"main.example\", nonce=\"n\", algorithm=MD5, qop=\"auth\"";
const UNANSWERABLE: &str =
    "Proxy-Authenticate: Digest realm=\"main.example\", nonce=\"n\", algorithm=AKAv1-MD5";
const FOREIGN: &str = "Proxy-Authenticate: Digest realm=\"elsewhere\", nonce=\"n\"";

/// A bench with the agreed realm, and the registered phone of an extension with this password.
fn bench(password: Option<&str>) -> (Bench, FlowId) {
    let mut config = config();
    config.pbx[0].realm = Some("main.example".into());
    config.extensions[0].password = password.map(|password| Secret::new(password.into()));
    let mut bench = Bench::with_pbx_up(config);
    let flow = bench.registered(100);
    bench.events.clear();
    (bench, flow)
}

fn text_of(method: &str, cseq: u32, tag: Option<&str>) -> String {
    match method {
        "INVITE" => request(method, cseq, tag, "application/sdp", OFFER),
        "MESSAGE" => request(method, cseq, tag, "text/plain", "hello"),
        _ => request(method, cseq, tag, "", ""),
    }
}

/// The phone asks, the PBX challenges as often as we try; what the phone hears.
#[track_caller]
fn refused(bench: &mut Bench, flow: FlowId, text: &str, challenge: &str) -> Sent {
    let method = text.split(' ').next().unwrap();
    bench.phone_says(flow, text);
    let mut tries = 0;
    while let Some(asked) = bench.try_take(method) {
        tries += 1;
        assert!(tries <= 2, "tried on and on");
        bench.pbx_says(&asked.answer(407, "pbx", challenge));
    }
    let answer = bench.final_answer(flow).unwrap_or_else(|| panic!("no answer to {method}"));
    assert!(!answer.text.contains("Authenticate:"), "{}", answer.text);
    assert!(bench.final_answer(flow).is_none(), "answered twice");
    answer
}

#[test]
fn a_refused_password_is_told_once_and_is_no_offence_of_the_phone() {
    for (password, challenge, code, step) in [
        (Some("wrong"), PROXY, Code::DigestFailed, "compare pbx_user and password"),
        (None, PROXY, Code::DigestFailed, "give the extension the password"),
        (Some("secret"), UNANSWERABLE, Code::PbxRefused, "MD5 or SHA-256"),
        (Some("secret"), FOREIGN, Code::RealmChanged, "realm"),
    ] {
        for method in ["INVITE", "MESSAGE"] {
            let (mut bench, flow) = bench(password);
            assert_eq!(refused(&mut bench, flow, &text_of(method, 1, None), challenge).status(), Some(403));
            let [told] = &bench.events[..] else { panic!("{method}: {:#?}", bench.events) };
            assert_eq!((told.code, told.extension.as_deref()), (code, Some("1001")), "{told:?}");
            assert!(told.next_step.contains(step), "{told:?}");
            assert_eq!(bench.status().calls, 0);
        }
    }
}

#[test]
fn a_phone_that_calls_on_and_on_in_vain_is_not_blocked() {
    let (mut bench, flow) = bench(Some("wrong"));
    for number in 1..=60 {
        bench.pass(Duration::from_secs(1));
        let text = text_of("INVITE", number, None).replace("Call-ID: call-1", &format!("Call-ID: c{number}"));
        refused(&mut bench, flow, &text, PROXY);
        bench.sent.clear();
    }
    assert!(!bench.has_event(Code::Detected) && !bench.has_event(Code::Blocked));
    assert_eq!(bench.status().blocks, 0);
}

#[test]
fn inside_a_call_it_is_refused_alike_and_who_hangs_up_is_done() {
    for password in [Some("wrong"), None] {
        let (mut bench, flow) = bench(password);
        call(&mut bench, flow);
        for (method, cseq, status, calls) in
            [("INVITE", 2, 403, 1), ("INFO", 3, 403, 1), ("UPDATE", 4, 403, 1), ("BYE", 5, 200, 0)]
        {
            bench.events.clear();
            let answer = refused(&mut bench, flow, &text_of(method, cseq, Some("desk")), PROXY);
            assert_eq!((answer.status(), bench.status().calls), (Some(status), calls), "{method}");
            let [told] = &bench.events[..] else { panic!("{method}: {:#?}", bench.events) };
            assert_eq!(told.code, Code::DigestFailed, "{method}");
        }
    }
}

#[test]
fn without_an_agreed_realm_a_call_waits_for_it_and_says_so() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.events.clear();
    let answer = refused(&mut bench, flow, &text_of("INVITE", 1, None), PROXY);
    assert_eq!((answer.status(), answer.header(HeaderName::RetryAfter).as_str()), (Some(503), "10"));
    let [told] = &bench.events[..] else { panic!("{:#?}", bench.events) };
    assert!(told.code == Code::CallFailed && told.next_step.contains("write realm"), "{told:?}");
}

#[test]
fn what_was_given_up_before_the_challenge_came_is_tried_no_more() {
    let (mut bench, flow) = bench(Some("secret"));
    let text = text_of("INVITE", 1, None);
    bench.phone_says(flow, &text);
    let invite = bench.take("INVITE");
    let cancel = request("INVITE", 1, None, "", "");
    let cancel = cancel.replace("INVITE sip:", "CANCEL sip:").replace("1 INVITE", "1 CANCEL");
    bench.phone_says(flow, &cancel);
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
    bench.pbx_says(&invite.answer(407, "pbx", PROXY));
    let answer = bench.final_answer(flow).unwrap();
    assert_eq!((answer.status(), answer.text.contains("Authenticate:")), (Some(487), false));
    assert!(bench.try_take("INVITE").is_none() && bench.events.is_empty());
}

#[test]
fn a_message_whose_phone_signed_off_meanwhile_is_refused_without_the_challenge() {
    let (mut bench, flow) = bench(Some("wrong"));
    bench.phone_says(flow, &text_of("MESSAGE", 1, None));
    let asked = bench.take("MESSAGE");
    bench.phone_says(flow, &register("1001", 2).replace("expires=120", "expires=0"));
    bench.sent.clear();
    bench.pbx_says(&asked.answer(407, "pbx", PROXY));
    let answer = bench.final_answer(flow).unwrap();
    assert!(answer.status() >= Some(400) && !answer.text.contains("Authenticate:"), "{}", answer.text);
}
