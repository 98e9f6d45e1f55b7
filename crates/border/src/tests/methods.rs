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
