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
