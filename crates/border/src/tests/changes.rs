//! What a change of an established call comes to when the other side refuses it or says nothing.

use super::calls::call;
use super::*;

/// What the desk says in the call whose INVITE it got.
pub(super) fn from_desk(invite: &Sent, method: &str, cseq: u32, body: &str) -> String {
    request(method, cseq, Some("phone"), "application/sdp", body)
        .replace("From: <sip:1001@main.example>;tag=phone", "From: <sip:2001@main.example>;tag=desk")
        .replace("To: <sip:2001@main.example>", "To: <sip:1001@main.example>")
        .replace("Call-ID: call-1", &format!("Call-ID: {}", invite.header(HeaderName::CallId)))
        .replace("SIP/2.0/TLS 192.168.1.20", "SIP/2.0/UDP 10.0.1.1")
        .replace("sip:line@192.168.1.20", "sip:desk@10.0.1.1")
}

/// A call, and its change by one side as the other gets it: where each side is.
fn changed(bench: &mut Bench, by: Side, method: &str) -> (FlowId, FlowId, Sent) {
    let phone = bench.registered(100);
    let invite = call(bench, phone);
    let (asks, asked) = match by {
        Side::Outside => {
            bench.phone_says(phone, &request(method, 2, Some("desk"), "application/sdp", OFFER));
            (phone, INSIDE_UDP)
        }
        Side::Inside => {
            bench.pbx_says(&from_desk(&invite, method, 2, OFFER));
            (INSIDE_UDP, phone)
        }
    };
    let change = bench.take(method);
    assert_eq!(change.flow, asked);
    bench.sent.clear();
    (asks, asked, change)
}

/// Lets a while pass in which the PBX answers its health checks.
fn wait(bench: &mut Bench, time: Duration) {
    let until = bench.now + time;
    while bench.now < until {
        bench.pass(Duration::from_millis(100));
        while let Some(options) = bench.try_take("OPTIONS") {
            bench.pbx_says(&options.answer(200, "o", ""));
        }
    }
}

/// Who hears a BYE.
fn hung_up(bench: &mut Bench) -> Vec<FlowId> {
    let byes = std::iter::from_fn(|| bench.try_take("BYE"));
    byes.map(|bye| bye.flow).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

#[test]
fn a_change_that_the_other_side_knows_nothing_of_ends_the_call_and_another_refusal_does_not() {
    for by in [Side::Outside, Side::Inside] {
        for (method, status, ends) in [
            ("INVITE", 481, true),
            ("INVITE", 408, true),
            ("UPDATE", 481, true),
            ("INVITE", 488, false),
            ("UPDATE", 488, false),
            ("INVITE", 491, false),
        ] {
            let mut bench = Bench::with_pbx_up(config());
            let (asks, asked, change) = changed(&mut bench, by, method);
            match by {
                Side::Outside => bench.pbx_says(&change.answer(status, "desk", "")),
                Side::Inside => bench.phone_says(asked, &change.answer(status, "phone", "")),
            }
            let answer = bench.final_answer(asks).and_then(|answer| answer.status());
            assert_eq!(answer, Some(status), "{method} by {by:?}");
            let expected = if ends { vec![INSIDE_UDP, FlowId(100)] } else { vec![] };
            assert_eq!(hung_up(&mut bench), expected, "{status} to {method} by {by:?}");
            assert_eq!(bench.status().calls, usize::from(!ends), "{status} to {method} by {by:?}");
        }
    }
}

#[test]
fn a_change_that_nobody_answers_ends_the_call() {
    for by in [Side::Outside, Side::Inside] {
        for method in ["INVITE", "UPDATE"] {
            let mut bench = Bench::with_pbx_up(config());
            let (asks, ..) = changed(&mut bench, by, method);
            wait(&mut bench, Duration::from_secs(31));
            assert_eq!((hung_up(&mut bench), bench.status().calls), (vec![], 1), "{method} by {by:?}");
            wait(&mut bench, Duration::from_secs(2));
            // Whoever asks by UPDATE has given up as well by then (RFC 4320 §4.2).
            let told = (method == "INVITE").then_some(408);
            let answer = bench.final_answer(asks).and_then(|answer| answer.status());
            assert_eq!(answer, told, "{method} by {by:?}");
            assert_eq!(hung_up(&mut bench), [INSIDE_UDP, FlowId(100)], "{method} by {by:?}");
            assert_eq!(bench.status().calls, 0, "{method} by {by:?}");
        }
    }
}
