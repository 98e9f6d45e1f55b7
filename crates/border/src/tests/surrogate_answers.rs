//! Challenges that we answer with a stored password: which of them, and what follows from the request sent again.

use super::*;

/// A bench with the agreed realm.
fn bench() -> Bench {
    let mut config = config();
    config.pbx[0].realm = Some("main.example".into());
    Bench::with_pbx_up(config)
}

#[test]
fn a_nonce_that_is_only_too_old_is_answered_anew() {
    for method in ["REGISTER", "INVITE"] {
        let mut bench = bench();
        let flow = match method {
            "REGISTER" => bench.connect(100, Some(DEVICE)),
            _ => bench.registered(100),
        };
        bench.phone_says(
            flow,
            &match method {
                "REGISTER" => register("1001", 1),
                _ => request(method, 1, None, "application/sdp", OFFER),
            },
        );
        for (nonce, more) in [("one", ""), ("two", ", stale=true"), ("three", ", stale=true")] {
            let asked = bench.take(method);
            let challenge = CHALLENGE.replace("abc", nonce) + more;
            bench.pbx_says(&asked.answer(401, "pbx", &challenge));
            let place = bench.sent.iter().rposition(|sent| sent.text.starts_with(method)).unwrap();
            assert!(bench.sent[place].text.contains(&format!("nonce=\"{nonce}\"")), "{method}: {challenge}");
        }
        assert!(bench.final_answer(flow).is_none() && !bench.has_event(Code::DigestFailed), "{method}");
        let asked = bench.take(method);
        bench.pbx_says(&asked.answer(401, "pbx", CHALLENGE));
        let refused = bench.final_answer(flow).and_then(|answer| answer.status());
        assert_eq!(refused, Some(if method == "INVITE" { 403 } else { 503 }), "a wrong password");
    }
}

#[test]
fn a_prack_names_the_invite_by_the_number_under_which_the_pbx_got_it() {
    let mut bench = bench();
    let flow = bench.registered(100);
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    let first = bench.take("INVITE");
    bench.pbx_says(&first.answer(401, "pbx", CHALLENGE));
    let place = bench.sent.iter().rposition(|sent| sent.text.starts_with("INVITE")).unwrap();
    let again = bench.sent.remove(place);
    let numbers = [&first, &again].map(|sent| sent.read(|_, essentials| essentials.cseq.number));
    assert_eq!(numbers, [1, 2]);
    bench.pbx_says(&again.answer(183, "desk", "Require: 100rel\r\nRSeq: 7\r\nContact: <sip:desk@10.0.1.1>"));
    for (cseq, rack, crosses) in [(2, "7 1 INVITE", "7 2 INVITE"), (3, "7 1 10.0.0.1", "")] {
        let prack = request("PRACK", cseq, Some("desk"), "", "");
        bench.phone_says(flow, &prack.replace("Max-Forwards", &format!("RAck: {rack}\r\nMax-Forwards")));
        assert_eq!(bench.take("PRACK").header(HeaderName::RAck), crosses, "{rack}");
    }
}
