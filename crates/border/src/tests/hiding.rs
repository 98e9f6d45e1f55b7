//! Bodies that are no SDP: nothing of one side reaches the other.

use super::*;

const TEXT: &str = "sip:1001@192.168.1.20 at 198.51.100.100 writes";

#[test]
fn what_a_phone_writes_does_not_name_its_network() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.phone_says(flow, &request("MESSAGE", 1, None, "text/plain", TEXT));
    let message = bench.take("MESSAGE");
    assert_eq!(message.body(), "sip:1001@main.example at main.example writes");
    // The answer to it comes back with a body of its own.
    let said = "Content-Type: text/plain\r\n\r\nread by main.inside.example (10.0.1.1)";
    bench.pbx_says(&message.answer(200, "d", said));
    assert_eq!(bench.take_answer(flow).unwrap().body(), "read by main.example (main.example)");
}

#[test]
fn what_the_pbx_hides_becomes_the_domain_of_the_pbx_that_is_spoken_to() {
    let two = Config { pbx: vec![pbx("main", 2), pbx("second", 1)], ..config() };
    let mut bench = Bench::new(two);
    for index in [1, 0] {
        let place = bench.sent.iter().position(|sent| sent.to == pbx_address(index)).unwrap();
        let options = bench.sent.remove(place);
        let from = pbx_address(index);
        let text = options.answer(200, "o", "");
        bench.put(Input::Bytes { flow: INSIDE_UDP, from, bytes: text.as_bytes() });
    }
    bench.sent.clear();
    let flow = bench.connect(100, Some(DEVICE));
    bench.phone_says(flow, &register("1001", 1));
    let asked = bench.take("REGISTER");
    assert_eq!(asked.to, pbx_address(1), "the better one");
    let text = asked.registered(&[]);
    bench.put(Input::Bytes { flow: INSIDE_UDP, from: pbx_address(1), bytes: text.as_bytes() });
    bench.sent.clear();

    bench.phone_says(flow, &request("MESSAGE", 1, None, "text/plain", TEXT));
    let message = bench.take("MESSAGE");
    assert_eq!(message.body(), "sip:1001@second.example at second.example writes");
    let said = "Content-Type: text/plain\r\n\r\nread by main.inside.example";
    let text = message.answer(200, "d", said);
    bench.put(Input::Bytes { flow: INSIDE_UDP, from: pbx_address(1), bytes: text.as_bytes() });
    assert_eq!(bench.take_answer(flow).unwrap().body(), "read by second.example");
}

#[test]
fn what_grows_too_large_by_hiding_is_refused_and_never_lost() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    let short = |text: String| text.replace("192.168.1.20", "a.aa");
    bench.phone_says(flow, &short(request("MESSAGE", 1, None, "text/plain", &"a.aa ".repeat(12_400))));
    assert_eq!(bench.take_answer(flow).and_then(|answer| answer.status()), Some(513));
    assert!(bench.try_take("MESSAGE").is_none());
    bench.phone_says(flow, &short(request("MESSAGE", 2, None, "text/plain", &"x".repeat(62_000))));
    let message = bench.take("MESSAGE");
    // An answer that grows keeps its status.
    let said = format!("Content-Type: text/plain\r\n\r\n{}", "10.0.1.1 ".repeat(7_000));
    bench.pbx_says(&message.answer(200, "d", &said));
    let answer = bench.take_answer(flow).unwrap();
    assert_eq!((answer.status(), answer.body()), (Some(200), ""));
}

#[test]
fn a_body_in_another_character_set_hides_the_inside_as_well() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.phone_says(flow, &request("MESSAGE", 1, None, "text/plain", "x"));
    let message = bench.take("MESSAGE");
    let said = "Content-Type: text/plain;charset=iso-8859-1\r\n\r\nGr?sse von sip%3Aa%4010.0.1.1";
    let mut answer = message.answer(200, "d", said).into_bytes();
    let place = answer.iter().rposition(|byte| *byte == b'?').unwrap();
    answer[place] = 0xfc;
    bench.put(Input::Bytes { flow: INSIDE_UDP, from: pbx_address(0), bytes: &answer });
    assert_eq!(bench.take_answer(flow).unwrap().body(), "Gr\u{fffd}sse von sip%3Aa%40main.example");
}

#[test]
fn a_description_does_not_show_what_only_the_signalling_of_its_phone_names() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    let offer = format!("{OFFER}a=x-made-by:192.168.1.77\r\na=x-seen:198.51.100.100\r\na=x-kept:1\r\n");
    let text = request("INVITE", 1, None, "application/sdp", &offer);
    bench.phone_says(flow, &text.replace("TLS 192.168.1.20", "TLS 192.168.1.77"));
    let invite = bench.take("INVITE").text;
    assert!(invite.contains("a=x-kept:1\r\n"), "{invite}");
    for hidden in ["192.168.1.77", "198.51.100.100"] {
        assert!(!invite.contains(hidden), "{invite}");
    }
}
