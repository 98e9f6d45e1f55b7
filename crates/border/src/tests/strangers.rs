//! Strangers: a name that exists is answered like one that does not, whatever the PBX does.

use super::*;

/// One that exists and proves itself by the PBX's challenge, and one that does not exist.
const NAMES: [&str; 2] = ["1003", "4711"];

/// Both names ask at once, each on a connection of its own.
fn ask(bench: &mut Bench) -> [FlowId; 2] {
    let first = 100 + u64::try_from(bench.writes + bench.events.len()).unwrap() % 50 * 2;
    [0, 1].map(|index| {
        let flow = bench.connect(first + index, None);
        bench.phone_says(flow, &register(NAMES[usize::try_from(index).unwrap()], 1));
        flow
    })
}

/// What a stranger can compare: when, which status, which headers.
fn answers(bench: &mut Bench, flows: [FlowId; 2]) -> [Option<(Duration, u16, Vec<String>)>; 2] {
    flows.map(|flow| {
        let answer = bench.final_answer(flow)?;
        let names = answer.read(|message, _| {
            message.headers().map(|header| header.name.as_str().to_owned()).collect::<Vec<_>>()
        });
        Some((answer.at - Instant::ZERO, answer.status().unwrap(), names))
    })
}

fn pbx_answers(bench: &mut Bench, more: &str) -> usize {
    let mut count = 0;
    while let Some(asked) = bench.try_take("REGISTER") {
        bench.pbx_says(&asked.answer(401, "pbx", more));
        count += 1;
    }
    count
}

#[test]
fn a_pbx_that_hangs_tells_nobody_which_names_exist() {
    let mut bench = Bench::with_pbx_up(config());
    for wait in [3, 40, 300, 9_900] {
        let flows = ask(&mut bench);
        bench.pass(Duration::from_millis(wait));
        assert_eq!(answers(&mut bench, flows), [None, None], "{wait} ms");
        pbx_answers(&mut bench, CHALLENGE);
        bench.pass(Duration::ZERO);
        let [known, unknown] = answers(&mut bench, flows);
        assert_eq!(known, unknown, "{wait} ms");
        assert_eq!(known.map(|(_, status, _)| status), Some(401));
        for flow in flows {
            bench.put(Input::FlowClosed { flow });
        }
        bench.sent.clear();
        bench.pass(Duration::from_secs(5));
        while let Some(options) = bench.try_take("OPTIONS") {
            bench.pbx_says(&options.answer(200, "o", ""));
        }
        pbx_answers(&mut bench, CHALLENGE);
        bench.sent.clear();
    }
    // And one that never answers, but its health checks.
    let flows = ask(&mut bench);
    for _ in 0..110 {
        bench.pass(Duration::from_millis(100));
        while let Some(options) = bench.try_take("OPTIONS") {
            bench.pbx_says(&options.answer(200, "o", ""));
        }
    }
    let [known, unknown] = answers(&mut bench, flows);
    assert_eq!(known, unknown);
    assert_eq!(known.map(|(_, status, _)| status), Some(503));
}

#[test]
fn many_strangers_cost_the_pbx_little_and_wait_like_the_first() {
    let mut bench = Bench::with_pbx_up(config());
    let before = bench.sent.len();
    let mut flows = Vec::new();
    for number in 0..40 {
        let flow = bench.connect(100 + number, None);
        bench.phone_says(flow, &register(&format!("47{number}"), 1));
        flows.push(flow);
    }
    let asked = |bench: &Bench, before: usize| {
        bench.sent[before..].iter().filter(|sent| sent.flow == INSIDE_UDP).count()
    };
    assert_eq!(asked(&bench, before), 4, "a few at once");
    assert!(bench.sent.iter().all(|sent| !sent.text.contains("sip:47")), "none of their names");
    bench.pass(Duration::from_millis(2));
    pbx_answers(&mut bench, CHALLENGE);
    bench.pass(Duration::from_millis(47));
    assert_eq!(pbx_answers(&mut bench, CHALLENGE), 0);
    bench.pass(Duration::from_millis(1));
    assert_eq!(pbx_answers(&mut bench, CHALLENGE), 1, "one for all the others");
    bench.pass(Duration::ZERO);
    for flow in flows {
        assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(401));
    }
}

#[test]
fn a_registration_too_short_for_the_pbx_tells_no_name_and_the_next_is_longer() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.connect(100, None);
    bench.phone_says(flow, &register("1003", 1));
    let asked = bench.take("REGISTER");
    assert!(asked.header(HeaderName::Contact).ends_with("expires=120"));
    bench.pbx_says(&asked.answer(423, "pbx", "Min-Expires: 300"));
    let refused = bench.final_answer(flow).unwrap();
    assert_eq!((refused.status(), refused.header(HeaderName::MinExpires).as_str()), (Some(401), ""));
    assert!(refused.header(HeaderName::WwwAuthenticate).starts_with("Digest realm=\"main.example\""));
    for (cseq, expires, asked_for) in [(2, "120", "300"), (3, "600", "600"), (4, "0", "0")] {
        let text = register("1003", cseq).replace("expires=120", &format!("expires={expires}"));
        bench.phone_says(flow, &text);
        let contact = bench.take("REGISTER").header(HeaderName::Contact);
        assert!(contact.ends_with(&format!(";expires={asked_for}")), "{contact}");
    }
}

#[test]
fn where_a_proxy_asks_every_name_is_asked_as_by_a_proxy() {
    let mut bench = Bench::with_pbx_up(config());
    let by_proxy = CHALLENGE.replace("WWW-", "Proxy-");
    for (number, name) in ["1003", "4711", "1001"].into_iter().enumerate() {
        let flow = bench.connect(100 + number as u64, None);
        bench.phone_says(flow, &register(name, 1));
        bench.pass(Duration::from_millis(3));
        let asked = bench.take("REGISTER");
        bench.pbx_says(&asked.answer(407, "pbx", &by_proxy.replace("abc", &format!("n{number}"))));
        bench.pass(Duration::ZERO);
        let answer = bench.final_answer(flow).unwrap();
        let headers = [HeaderName::ProxyAuthenticate, HeaderName::WwwAuthenticate];
        let [proxy, www] =
            headers.map(|header| answer.text.contains(&format!("{}: Digest", header.as_str())));
        assert_eq!((answer.status(), proxy, www), (Some(407), true, false), "{name}");
    }
    // More than may be asked about at once: one gets an answer that is made up.
    bench.pass(Duration::from_millis(300));
    let flows: Vec<FlowId> = (0..6).map(|number| bench.connect(150 + number, None)).collect();
    for flow in &flows {
        bench.phone_says(*flow, &register("4711", 1));
    }
    for (nonce, questions) in [("m1", 4), ("m2", 1)] {
        let asked: Vec<Sent> = std::iter::from_fn(|| bench.try_take("REGISTER")).collect();
        assert_eq!(asked.len(), questions);
        for asked in asked {
            bench.pbx_says(&asked.answer(407, "pbx", &by_proxy.replace("abc", nonce)));
        }
        bench.pass(Duration::from_millis(50));
    }
    bench.pass(Duration::ZERO);
    let statuses: Vec<_> = flows.iter().map(|flow| bench.final_answer(*flow).unwrap().status()).collect();
    assert_eq!(statuses, [Some(407); 6]);
}

#[test]
fn a_digest_phone_that_the_pbx_turns_away_is_told_of_and_hears_a_challenge() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.connect(100, None);
    for (cseq, status, more) in [(11, 404, ""), (12, 500, ""), (13, 423, "Min-Expires: 7200")] {
        bench.sent.clear();
        bench.events.clear();
        bench.phone_says(flow, &register("1003", cseq));
        let asked = bench.take("REGISTER");
        bench.pbx_says(&asked.answer(status, "pbx", more));
        assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(401), "{status}");
        let told: Vec<_> =
            bench.events.iter().filter(|event| event.code == Code::RegistrationFailed).collect();
        let [one] = told[..] else { panic!("{status}: {:#?}", bench.events) };
        assert_eq!(one.extension.as_deref(), Some("1003"));
        assert!(one.text.contains(&format!("PBX main answered {status}")), "{}", one.text);
    }
    bench.sent.clear();
    bench.phone_says(flow, &register("1003", 14));
    let contact = bench.take("REGISTER").header(HeaderName::Contact);
    assert!(contact.ends_with(";expires=7200"), "as long as it wants: {contact}");
}

#[test]
fn whose_sample_was_lost_hears_of_it_when_the_registrar_answers_somebody_else() {
    let mut bench = Bench::with_pbx_up(config());
    let [early, late] = [100, 101].map(|flow| bench.connect(flow, None));
    bench.phone_says(early, &register("4711", 1));
    let lost = bench.take("REGISTER");
    bench.pass(Duration::from_millis(150));
    bench.phone_says(late, &register("4712", 1));
    let second = bench.take("REGISTER");
    bench.pass(Duration::from_millis(100));
    let phone = bench.connect(102, Some(DEVICE));
    bench.phone_says(phone, &register("1001", 1));
    let asked = bench.take("REGISTER");
    bench.pbx_says(&asked.registered(&[]));
    let answer = bench.final_answer(early).expect("it has waited for 250 ms");
    assert_eq!(answer.status(), Some(401));
    assert!(answer.header(HeaderName::WwwAuthenticate).starts_with("Digest realm=\"main.example\""));
    assert!(bench.final_answer(late).is_none(), "the answer for it may still come");
    bench.pbx_says(&second.answer(401, "s", CHALLENGE));
    assert_eq!(bench.final_answer(late).and_then(|answer| answer.status()), Some(401));
    bench.pbx_says(&lost.answer(401, "l", CHALLENGE));
    assert!(bench.final_answer(early).is_none(), "one answer is enough");
}

#[test]
fn a_pbx_that_never_challenges_is_taken_at_its_realm_or_else_at_its_domain() {
    for (realm, written) in [(None, "main.example"), (Some("asterisk"), "asterisk")] {
        let mut config = config();
        config.pbx[0].realm = realm.map(str::to_owned);
        let mut bench = Bench::new(config);
        let options = bench.take("OPTIONS");
        bench.pbx_says(&options.answer(200, "o", ""));
        let flow = bench.connect(100, None);
        bench.phone_says(flow, &register("4711", 1));
        while let Some(asked) = bench.try_take("REGISTER") {
            bench.pbx_says(&asked.answer(404, "s", ""));
        }
        let challenge = bench.final_answer(flow).unwrap().header(HeaderName::WwwAuthenticate);
        assert!(challenge.starts_with(&format!("Digest realm=\"{written}\", nonce=\"")), "{challenge}");
    }
}

/// The nonce that a stranger was given.
fn nonce(bench: &mut Bench, flow: FlowId) -> String {
    let challenge = bench.final_answer(flow).unwrap().header(HeaderName::WwwAuthenticate);
    crate::digest::nonce_of(&challenge).unwrap()
}

#[test]
fn a_name_that_does_not_exist_gets_a_nonce_of_the_pbx_as_one_that_does() {
    let mut bench = Bench::with_pbx_up(config());
    let mut given = Vec::new();
    for number in 0..10 {
        let flows = [0, 1].map(|second| bench.connect(100 + 2 * number + second, None));
        bench.phone_says(flows[0], &register("4711", 1));
        bench.phone_says(flows[1], &register("4712", 1));
        bench.pass(Duration::from_millis(3));
        // Each question has a nonce of its own, and they are answered in any order.
        let mut asked = [bench.take("REGISTER"), bench.take("REGISTER")];
        asked.reverse();
        let mut own = Vec::new();
        for (index, asked) in asked.iter().enumerate() {
            own.push(format!("n{number}o{index}"));
            bench.pbx_says(&asked.answer(401, "pbx", &CHALLENGE.replace("abc", &own[index])));
        }
        bench.pass(Duration::ZERO);
        assert_eq!(flows.map(|flow| nonce(&mut bench, flow)), [own[1].clone(), own[0].clone()]);
        given.extend(own);
        bench.pass(Duration::from_millis(100));
    }
    // Of several for whom one question goes, one gets the answer itself.
    bench.pass(Duration::from_millis(200));
    let flows = [0, 1, 2, 3, 4, 5].map(|number| bench.connect(150 + number, None));
    for flow in flows {
        bench.phone_says(flow, &register("4711", 1));
    }
    assert_eq!(pbx_answers(&mut bench, &CHALLENGE.replace("abc", "n8o8")), 4);
    bench.pass(Duration::from_millis(50));
    assert_eq!(pbx_answers(&mut bench, &CHALLENGE.replace("abc", "n7o7")), 1);
    bench.pass(Duration::ZERO);
    let [.., fifth, sixth] = flows.map(|flow| nonce(&mut bench, flow));
    assert_eq!(fifth, "n7o7");
    assert!(sixth.len() == 4 && sixth.starts_with('n') && sixth.contains('o'), "{sixth}");
}

/// A PBX whose nonces tell the second of its clock, asked by both names and many others at every such time; what the
/// two are told, and how late.
fn told_under_flood(every_ms: u64) -> Vec<[(u64, String); 2]> {
    let mut bench = Bench::with_pbx_up(config());
    let mut told = Vec::new();
    let mut owed: Vec<(Instant, Sent)> = Vec::new();
    let mut flow = 1_000;
    let mut ask = |bench: &mut Bench, name: &str| {
        flow += 1;
        let flow = bench.connect(flow, None);
        bench.phone_says(flow, &register(name, 1));
        (bench.now, flow)
    };
    let mut asking = Vec::new();
    let mut drawn = 1_u64;
    bench.pass(Duration::from_millis(500));
    for ms in 500..1_500_u64 {
        if ms.is_multiple_of(every_ms) {
            ask(&mut bench, "4799");
        }
        if ms.is_multiple_of(37) {
            asking.push(NAMES.map(|name| ask(&mut bench, name)));
        }
        while let Some(asked) = bench.try_take("REGISTER") {
            owed.push((bench.now + Duration::from_millis(2), asked));
        }
        while let Some(place) = owed.iter().position(|(due, _)| *due <= bench.now) {
            let (_, asked) = owed.remove(place);
            drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let second = (bench.now - Instant::ZERO).as_secs();
            let nonce = format!("{:010}/{drawn:016x}", 1_790_000_000 + second);
            bench.pbx_says(&asked.answer(401, "pbx", &CHALLENGE.replace("abc", &nonce)));
        }
        bench.pass(Duration::from_millis(1));
    }
    for pair in asking {
        if pair.iter().any(|(asked, _)| bench.now - *asked < Duration::from_millis(200)) {
            continue;
        }
        told.push(pair.map(|(asked, flow)| {
            let answer = bench.final_answer(flow).expect("an answer");
            let challenge = answer.header(HeaderName::WwwAuthenticate);
            let nonce = crate::digest::nonce_of(&challenge).unwrap();
            let late = u64::try_from((answer.at - asked).as_millis()).unwrap();
            (late, nonce)
        }));
    }
    told
}

#[test]
fn no_nonce_is_older_than_that_of_a_name_that_exists_and_none_comes_later() {
    for every_ms in [20, 4] {
        let told = told_under_flood(every_ms);
        assert!(told.len() > 20);
        for [(known_late, known), (unknown_late, unknown)] in told {
            assert_eq!((known_late, &known[..11]), (unknown_late, &unknown[..11]));
            assert!(known_late <= 53 && known != unknown && known.len() == unknown.len(), "{known_late} ms");
        }
    }
}

#[test]
fn a_stranger_who_leaves_is_forgotten() {
    let mut bench = Bench::with_pbx_up(config());
    let decoys = |bench: &Bench| {
        bench.border.unfinished().into_iter().find(|(name, _)| *name == "decoys").map(|(_, count)| count)
    };
    let flow = bench.connect(100, None);
    bench.phone_says(flow, &register("4711", 1));
    assert_eq!(decoys(&bench), Some(1));
    bench.put(Input::FlowClosed { flow });
    assert_eq!(decoys(&bench), Some(0));
}

const OPTIONS: &str = "OPTIONS sip:x@main.example SIP/2.0\r\nVia: SIP/2.0/TLS 192.168.1.20;branch=z9hG4bKo\r\n\
    From: <sip:x@main.example>;tag=o\r\nTo: <sip:x@main.example>\r\nCall-ID: o\r\nCSeq: 1 OPTIONS\r\n\
    Content-Length: 0\r\n\r\n";

/// Speaks at every so often, for as long as the border lets it; how long that was.
fn stays(bench: &mut Bench, flow: FlowId, every: Duration, say: impl Fn(u32) -> String) -> Duration {
    let begin = bench.now;
    for number in 1..200 {
        bench.phone_says(flow, &say(number));
        // The answers to keepalives are no messages.
        bench.sent.retain(|sent| !sent.text.trim().is_empty());
        for _ in 0..10 {
            bench.pass(every / 10);
            pbx_answers(bench, CHALLENGE);
            while let Some(options) = bench.try_take("OPTIONS") {
                bench.pbx_says(&options.answer(200, "o", ""));
            }
            if bench.closed.contains(&flow) {
                return bench.now - begin;
            }
        }
    }
    panic!("it stays for ever");
}

#[test]
fn who_does_not_register_leaves_whatever_he_says() {
    let mut bench = Bench::with_pbx_up(config());
    let every = Duration::from_secs(4);
    let idle = bench.connect(100, None);
    let nothing_but_noise = stays(&mut bench, idle, every, |_| OPTIONS.to_owned());
    assert!((10..=11).contains(&nothing_but_noise.as_secs()), "{nothing_but_noise:?}");
    let pinging = bench.connect(102, None);
    let pings = stays(&mut bench, pinging, every, |_| "\r\n\r\n".to_owned());
    assert!((10..=11).contains(&pings.as_secs()), "{pings:?}");
    let asking = bench.connect(104, None);
    let asks = stays(&mut bench, asking, every, |number| register("4711", number));
    assert!((60..=61).contains(&asks.as_secs()), "{asks:?}");
}

#[test]
fn who_sends_a_message_bit_by_bit_leaves_when_its_time_is_over() {
    let mut bench = Bench::with_pbx_up(config());
    let bits = |number| match number {
        1 => OPTIONS.split_once("From").unwrap().0.to_owned(),
        number => format!("X-Bit: {number}\r\n"),
    };
    let stranger = bench.connect(100, None);
    let stayed = stays(&mut bench, stranger, Duration::from_secs(4), bits);
    assert!((10..=11).contains(&stayed.as_secs()), "{stayed:?}");
    // A phone of ours as well; a message that is whole gives it time for the next.
    let phone = bench.registered(102);
    let (first, second) = OPTIONS.split_once("From").unwrap();
    bench.phone_says(phone, first);
    for _ in 0..3 {
        bench.pass(Duration::from_secs(8));
        assert!(!bench.closed.contains(&phone));
        bench.phone_says(phone, &format!("From{second}{first}"));
    }
    let stayed = stays(&mut bench, phone, Duration::from_secs(4), |number| bits(number + 1));
    assert!((10..=11).contains(&stayed.as_secs()), "{stayed:?}");
}

#[test]
fn a_phone_that_registers_stays_and_may_talk_fast() {
    let mut bench = Bench::with_pbx_up(config());
    let phone = bench.registered(100);
    for _ in 0..200 {
        bench.phone_says(phone, "\r\n\r\n");
    }
    bench.pass(Duration::from_secs(80));
    assert!(!bench.closed.contains(&phone));
}

#[test]
fn a_flood_of_messages_on_a_connection_is_an_offence_and_leads_to_a_block() {
    let mut config = config();
    config.block.after = 5;
    let mut bench = Bench::with_pbx_up(config);
    let flow = bench.connect(100, None);
    for _ in 0..100 {
        bench.phone_says(flow, OPTIONS);
    }
    bench.pass(Duration::from_secs(1));
    bench.phone_says(flow, &OPTIONS.repeat(100));
    assert!(bench.closed.is_empty(), "a hundred a second is not too many");
    bench.phone_says(flow, OPTIONS);
    assert_eq!(bench.closed, [flow]);
    let floods = |bench: &Bench| bench.events.iter().filter(|event| event.code == Code::Flood).count();
    assert_eq!(floods(&bench), 1);
    for again in 1..5 {
        // From the same address.
        let flow = bench.connect(100 + 200 * again, None);
        bench.phone_says(flow, &"\r\n\r\n".repeat(101));
    }
    assert_eq!(floods(&bench), 5);
    let blocked = bench.events.iter().filter(|event| event.code == Code::Blocked).count();
    assert_eq!(blocked, 1, "five offences within a minute");
}
