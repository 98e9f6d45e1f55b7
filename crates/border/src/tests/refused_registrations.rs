//! A PBX that refuses our registration: one event, which names what it said and what helps against it.

use super::*;

/// What the operator hears when the PBX answers our REGISTER so: codes, severity and next step.
fn heard(status: u16, more: &str) -> Vec<(Code, Severity, String)> {
    let mut config = config();
    config.pbx[0].realm = Some("main.example".into());
    let mut bench = Bench::with_pbx_up(config);
    let flow = bench.connect(100, Some(DEVICE));
    bench.phone_says(flow, &register("1001", 1));
    bench.events.clear();
    // A challenge is answered, and refused once more.
    while let Some(asked) = bench.try_take("REGISTER") {
        bench.pbx_says(&asked.answer(status, "t", more));
    }
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(503));
    for event in &bench.events {
        // Where another asks than should, the phone is no matter of it.
        let source = (event.code != Code::RealmChanged).then(|| phone_address(flow));
        assert_eq!((event.extension.as_deref(), event.source), (Some("1001"), source), "{event:#?}");
    }
    bench.events.iter().map(|event| (event.code, event.severity, event.next_step.clone())).collect()
}

#[test]
fn each_refusal_of_a_registration_has_one_event_that_is_true() {
    let digest = "WWW-Authenticate: Digest nonce=\"n\", qop=\"auth\", realm=";
    for (status, more, code, severity, step) in [
        (403, "", Code::PbxRefused, Severity::Error, "PBX's log"),
        (486, "", Code::PbxRefused, Severity::Error, "PBX's log"),
        (200, "Contact: <sip:zzz@10.9.9.9>;expires=60", Code::PbxRefused, Severity::Error, "a contact"),
        (401, "WWW-Authenticate: Basic realm=\"main.example\"", Code::PbxRefused, Severity::Error, "Digest"),
        (
            401,
            &format!("{digest}\"main.example\", algorithm=AKAv1-MD5"),
            Code::PbxRefused,
            Severity::Error,
            "MD5",
        ),
        (401, &format!("{digest}\"elsewhere\""), Code::RealmChanged, Severity::Error, "realm"),
        (401, CHALLENGE, Code::DigestFailed, Severity::Warning, "pbx_user and password"),
        (404, "", Code::NameUnknown, Severity::Warning, "add the extension at the PBX"),
    ] {
        let heard = heard(status, more);
        let [(one, how_bad, next_step)] = heard.as_slice() else { panic!("{status} {more}: {heard:#?}") };
        assert_eq!((*one, *how_bad), (code, severity), "{status} {more}");
        assert!(next_step.contains(step), "{status} {more}: {next_step}");
    }
}

#[test]
fn a_phone_that_no_pbx_answers_for_is_told_of() {
    // Asked in vain, then known to be down; by a certificate and by a password.
    for (device, name) in [(Some(DEVICE), "1001"), (None, "1003")] {
        let mut bench = Bench::with_pbx_up(config());
        let flow = bench.connect(100, device);
        bench.phone_says(flow, &register(name, 1));
        bench.pass(Duration::from_secs(11));
        let failed = |bench: &Bench| {
            let told = bench.events.iter().filter(|event| event.code == Code::RegistrationFailed);
            told.map(|event| (event.extension.clone(), event.text.clone())).collect::<Vec<_>>()
        };
        assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(503), "{name}");
        let [(extension, text)] = &failed(&bench)[..] else { panic!("{name}: {:#?}", bench.events) };
        assert_eq!(extension.as_deref(), Some(name));
        assert!(text.contains("PBX main did not answer in time"), "{text}");

        bench.pass(Duration::from_secs(30));
        assert!(bench.has_event(Code::PbxDown));
        assert_eq!(failed(&bench).len(), 1, "its transaction ends at 32 s and says nothing more");
        let flow = bench.connect(101, device);
        bench.events.clear();
        bench.sent.clear();
        bench.phone_says(flow, &register(name, 2));
        assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(503), "{name}");
        let [(_, text)] = &failed(&bench)[..] else { panic!("{name}: {:#?}", bench.events) };
        assert!(text.contains("no PBX answers"), "{text}");
    }
    // One that says that it cannot.
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.connect(100, Some(DEVICE));
    bench.phone_says(flow, &register("1001", 1));
    let asked = bench.take("REGISTER");
    bench.events.clear();
    bench.pbx_says(&asked.answer(500, "t", ""));
    let [told] = &bench.events[..] else { panic!("{:#?}", bench.events) };
    assert!(told.code == Code::RegistrationFailed && told.text.contains("it answered 500"), "{told:?}");
}

#[test]
fn an_extension_without_a_password_is_told_to_have_one() {
    let mut config = config();
    config.extensions[0].password = None;
    let mut bench = Bench::with_pbx_up(config);
    let flow = bench.connect(100, Some(DEVICE));
    bench.phone_says(flow, &register("1001", 1));
    let asked = bench.take("REGISTER");
    bench.pbx_says(&asked.answer(401, "t", CHALLENGE));
    let event = bench.events.iter().find(|event| event.code == Code::DigestFailed).unwrap();
    assert!(event.next_step.contains("give the extension the password"), "{event:?}");
}

#[test]
fn refusals_of_many_extensions_are_told_one_by_one() {
    let mut bench = Bench::with_pbx_up(config());
    for (number, device) in
        (0..30).map(|number| (number, if number % 2 == 0 { DEVICE } else { OTHER_DEVICE }))
    {
        let flow = bench.connect(100 + number, Some(device));
        bench.phone_says(flow, &register("1001", 1));
        let asked = bench.take("REGISTER");
        bench.pbx_says(&asked.answer(403, "t", ""));
    }
    let told = bench.events.iter().filter(|event| event.code == Code::PbxRefused).count();
    assert_eq!(told, 30);
}

#[test]
fn a_wrong_domain_is_told_as_that_and_answered_as_an_unknown_name() {
    let unknown = |text: &str| {
        let mut bench = Bench::with_pbx_up(config());
        let flow = bench.connect(100, Some(DEVICE));
        bench.phone_says(flow, text);
        assert!(bench.try_take("REGISTER").is_none(), "the PBX hears nothing of it");
        let answer = bench.final_answer(flow).unwrap();
        let event = bench.events.iter().find(|event| event.code == Code::NameUnknown).unwrap().clone();
        assert_eq!(event.hardware_id.as_deref(), Some(DEVICE));
        (answer.text, event.text, event.next_step)
    };
    let (_, text, next_step) = unknown(&register("1001", 1).replace("main.example", "wrong.example"));
    assert_eq!(text, "1001 asks in the domain wrong.example; ours are main.example, 203.0.113.10");
    assert_eq!(next_step, "correct the domain in the phone, or `domain` at its [[pbx]]");
    let (_, text, next_step) = unknown(&register("1001", 1).replace("From: <sip:1001", "From: <sip:1002"));
    assert!(text.contains("two users") && next_step.contains("one name"), "{text}");
    let (_, text, _) = unknown(&register("1001", 1).replace("<sip:1001@", "<sip:"));
    assert!(text.contains("no user"), "{text}");
    let (_, text, next_step) = unknown(&register("4711", 1));
    assert!(text.contains("no extension has") && next_step.contains("[[extension]]"), "{text}");
    // On the wire one is like the other.
    let alike = |answer: String| {
        let varies =
            |line: &&str| !["To:", "From:", "Call-ID:", "Via:"].iter().any(|name| line.starts_with(name));
        answer.lines().filter(varies).map(str::to_owned).collect::<Vec<_>>()
    };
    let (wrong, ..) = unknown(&register("4711", 1).replace("main.example", "wrong.example"));
    let (right, ..) = unknown(&register("4711", 1));
    assert_eq!(alike(wrong), alike(right));
}
