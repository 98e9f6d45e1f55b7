//! Methods outside any dialog that we cannot carry.

use super::*;

/// What a request of the phone, or of the PBX, is answered with: status and Allow.
fn answered(side: Side, method: &str) -> (Option<u16>, String) {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    let text = request(method, 1, None, "", "");
    let to = match side {
        Side::Outside => {
            bench.phone_says(flow, &text);
            flow
        }
        Side::Inside => {
            bench.pbx_says(&text.replace("SIP/2.0/TLS 192.168.1.20", "SIP/2.0/UDP 10.0.1.1"));
            INSIDE_UDP
        }
    };
    let answer = bench.final_answer(to).unwrap();
    assert!(bench.sent.is_empty(), "it crossed: {:#?}", bench.sent);
    (answer.status(), answer.header(HeaderName::Allow))
}

#[test]
fn what_may_go_no_further_is_answered_here_only_where_it_asks_for_us() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    for (cseq, method, status) in [(1, "OPTIONS", 200), (2, "MESSAGE", 483), (3, "INVITE", 483)] {
        let text = request(method, cseq, None, "", "").replace("Max-Forwards: 70", "Max-Forwards: 0");
        bench.phone_says(flow, &text);
        bench.pbx_says(&text.replace("SIP/2.0/TLS 192.168.1.20", "SIP/2.0/UDP 10.0.1.1"));
        for side in [flow, INSIDE_UDP] {
            let answer = bench.final_answer(side).and_then(|answer| answer.status());
            assert_eq!(answer, Some(status), "{method} on {side:?}");
        }
        assert!(bench.try_take(method).is_none(), "{method} crossed");
    }
}

#[test]
fn a_405_lists_what_is_understood_and_not_what_it_refuses() {
    for side in [Side::Outside, Side::Inside] {
        for method in ["SUBSCRIBE", "PUBLISH", "NONSENSE"] {
            let (status, allow) = answered(side, method);
            assert_eq!(status, Some(405), "{method} on the {side:?}");
            assert!(allow.contains("INVITE") && !allow.contains(method), "{method} on the {side:?}: {allow}");
        }
        // It is understood in a call, and nowhere else.
        assert_eq!(answered(side, "REFER"), (Some(403), String::new()), "{side:?}");
    }
    let (status, allow) = answered(Side::Inside, "REGISTER");
    assert_eq!((status, allow.contains("INVITE"), allow.contains("REGISTER")), (Some(405), true, false));
}
