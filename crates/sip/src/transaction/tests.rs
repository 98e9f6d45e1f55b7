//! The layer as its transaction user sees it: what is sent when, what is delivered, what ends.

use std::time::Duration;

use super::*;
use crate::timer::{PATIENCE, T4};

const UDP: Transport = Transport::Udp;
const TLS: Transport = Transport::Tls;

fn hop(flow: u64, transport: Transport) -> Hop {
    Hop { flow: FlowId(flow), remote: "192.0.2.1:5060".parse().expect("an address"), transport }
}

fn at(ms: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(ms)
}

fn request(method: &str, branch: &str) -> Bytes {
    Bytes::from(format!(
        "{method} sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch={branch}\r\n\
         Route: <sip:p.example;lr>\r\nFrom: <sip:a@example.com>;tag=f\r\nTo: <sip:b@example.com>\r\n\
         Call-ID: c\r\nCSeq: 1 {method}\r\n\r\n"
    ))
}

fn response(code: u16, method: &str, branch: &str) -> Bytes {
    Bytes::from(format!(
        "SIP/2.0 {code} x\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch={branch}\r\nFrom: <sip:a@example.com>;tag=f\r\n\
         To: <sip:b@example.com>;tag=t{code}\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n\r\n"
    ))
}

/// A layer with the time it lives in and all that it has said.
struct Bench {
    layer: TransactionLayer,
    now: Instant,
    said: Vec<(u64, String)>,
}

impl Bench {
    fn new() -> Self {
        Self { layer: TransactionLayer::new(100), now: Instant::ZERO, said: Vec::new() }
    }

    fn request_in(&mut self, hop: Hop, bytes: &[u8]) -> RequestOutcome {
        let message = Message::parse(bytes).expect("a message");
        let essentials = message.essentials().expect("essentials");
        let outcome = self.layer.receive_request(hop, &message, &essentials, self.now);
        self.drain();
        outcome
    }

    fn new_in(&mut self, hop: Hop, bytes: &[u8]) -> ServerId {
        match self.request_in(hop, bytes) {
            RequestOutcome::New(id) => id,
            other => panic!("not new: {other:?}"),
        }
    }

    fn response_in(&mut self, hop: Hop, bytes: &[u8]) -> ResponseOutcome {
        let message = Message::parse(bytes).expect("a message");
        let essentials = message.essentials().expect("essentials");
        let outcome = self.layer.receive_response(hop, &message, &essentials, self.now);
        self.drain();
        outcome
    }

    fn respond(&mut self, id: ServerId, code: u16) -> bool {
        let done = self.layer.respond(id, code, response(code, "X", "z9hG4bKin"), self.now);
        self.drain();
        done
    }

    fn send(&mut self, transport: Transport, method: &str, branch: &str) -> ClientId {
        let bytes = request(method, branch);
        let id = self.layer.request(hop(1, transport), Method::parse(method), branch, bytes, self.now);
        self.drain();
        id.expect("there is room")
    }

    fn cancel(&mut self, id: ClientId) -> Option<ClientId> {
        let cancel = self.layer.cancel(id, self.now);
        self.drain();
        cancel
    }

    /// Lets time pass, waking at each deadline and at no other time.
    fn run_to(&mut self, ms: u64) {
        while let Some(due) = self.layer.poll_timeout().filter(|due| *due <= at(ms)) {
            assert!(
                due > self.now || due == self.now && self.now == Instant::ZERO,
                "the next is in the future"
            );
            self.now = due;
            self.layer.handle_timeout(due);
            assert!(self.layer.poll_timeout().is_none_or(|next| next > due));
            self.drain();
        }
        self.now = at(ms);
    }

    fn drain(&mut self) {
        self.layer.check_invariants();
        while let Some(event) = self.layer.poll() {
            let words = match event {
                TransactionEvent::Send { bytes, .. } => {
                    let text = std::str::from_utf8(&bytes).expect("text");
                    let words: Vec<_> = text.split(' ').collect();
                    words[if words[0] == "SIP/2.0" { 1 } else { 0 }].to_owned()
                }
                TransactionEvent::AckMissing(_) => "ack missing".to_owned(),
                TransactionEvent::TimedOut(_) => "timed out".to_owned(),
                TransactionEvent::TransportError(_) => "transport error".to_owned(),
                // the matter of `lingering.rs`
                TransactionEvent::ServerLingers(_) => continue,
                TransactionEvent::ServerEnded(_) | TransactionEvent::ClientEnded(_) => "ended".to_owned(),
            };
            let now = u64::try_from(self.now.since(Instant::ZERO).as_millis()).expect("a short test");
            self.said.push((now, words));
        }
    }

    /// What was said since the last look, with its times.
    fn said(&mut self) -> Vec<(u64, String)> {
        std::mem::take(&mut self.said)
    }

    fn words(&mut self) -> Vec<String> {
        self.said().into_iter().map(|(_, words)| words).collect()
    }

    /// The times at which this was said, all of it taken.
    fn times(&mut self, what: &str) -> Vec<u64> {
        self.said().into_iter().filter(|(_, words)| words == what).map(|(time, _)| time).collect()
    }
}

fn said(rows: &[(u64, &str)]) -> Vec<(u64, String)> {
    rows.iter().map(|(time, words)| (*time, (*words).to_owned())).collect()
}

// Client transactions

#[test]
fn timers_a_and_b_an_invite_to_nobody_is_sent_7_times() {
    let mut bench = Bench::new();
    bench.send(UDP, "INVITE", "z9hG4bK1");
    bench.run_to(100_000);
    let sent = [0, 500, 1_500, 3_500, 7_500, 15_500, 31_500];
    let mut expected: Vec<_> = sent.into_iter().map(|time| (time, "INVITE".to_owned())).collect();
    expected.push((32_000, "timed out".to_owned()));
    assert_eq!(bench.said(), expected);
    assert!(bench.layer.is_empty());
}

#[test]
fn timers_e_and_f_another_request_to_nobody_is_sent_11_times() {
    let mut bench = Bench::new();
    bench.send(UDP, "BYE", "z9hG4bK1");
    bench.run_to(100_000);
    let sent = [0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
    let mut expected: Vec<_> = sent.into_iter().map(|time| (time, "BYE".to_owned())).collect();
    expected.push((32_000, "timed out".to_owned()));
    assert_eq!(bench.said(), expected);
    assert!(bench.layer.is_empty());
}

#[test]
fn nothing_is_repeated_on_a_reliable_transport() {
    for method in ["INVITE", "REGISTER"] {
        let mut bench = Bench::new();
        bench.send(TLS, method, "z9hG4bK1");
        bench.run_to(100_000);
        assert_eq!(bench.said(), said(&[(0, method), (32_000, "timed out")]));
    }
}

#[test]
fn timer_e_runs_at_t2_after_a_provisional_answer() {
    let mut bench = Bench::new();
    let id = bench.send(UDP, "BYE", "z9hG4bK1");
    bench.run_to(200);
    assert_eq!(
        bench.response_in(hop(1, UDP), &response(100, "BYE", "z9hG4bK1")),
        ResponseOutcome::Deliver(id)
    );
    bench.run_to(100_000);
    let sent = [0, 500, 4_500, 8_500, 12_500, 16_500, 20_500, 24_500, 28_500];
    let mut expected: Vec<_> = sent.into_iter().map(|time| (time, "BYE".to_owned())).collect();
    expected.push((32_000, "timed out".to_owned()));
    assert_eq!(bench.said(), expected);
}

#[test]
fn a_provisional_answer_ends_timers_a_and_b() {
    let mut bench = Bench::new();
    let id = bench.send(UDP, "INVITE", "z9hG4bK1");
    bench.run_to(1_000);
    assert_eq!(
        bench.response_in(hop(1, UDP), &response(180, "INVITE", "z9hG4bK1")),
        ResponseOutcome::Deliver(id)
    );
    bench.run_to(300_000);
    assert_eq!(bench.times("INVITE"), [0, 500]);
    assert_eq!(bench.layer.len(), 1, "it rings as long as the user lets it");
    assert_eq!(
        bench.response_in(hop(1, UDP), &response(200, "INVITE", "z9hG4bK1")),
        ResponseOutcome::Deliver(id)
    );
}

#[test]
fn timer_d_late_failures_are_acknowledged_again_and_not_delivered() {
    let mut bench = Bench::new();
    let id = bench.send(UDP, "INVITE", "z9hG4bK1");
    let busy = response(486, "INVITE", "z9hG4bK1");
    assert_eq!(bench.response_in(hop(1, UDP), &busy), ResponseOutcome::Deliver(id));
    bench.run_to(31_999);
    assert_eq!(bench.response_in(hop(1, UDP), &busy), ResponseOutcome::Absorbed);
    let late = response(200, "INVITE", "z9hG4bK1");
    assert_eq!(bench.response_in(hop(1, UDP), &late), ResponseOutcome::Absorbed);
    assert_eq!(bench.said(), said(&[(0, "INVITE"), (0, "ACK"), (31_999, "ACK")]));
    bench.run_to(32_000);
    assert_eq!(bench.said(), said(&[(32_000, "ended")]));
    assert_eq!(bench.response_in(hop(1, UDP), &busy), ResponseOutcome::Stray);
    assert!(bench.words().is_empty());
}

#[test]
fn timer_d_is_zero_on_a_reliable_transport() {
    let mut bench = Bench::new();
    let id = bench.send(TLS, "INVITE", "z9hG4bK1");
    let busy = response(486, "INVITE", "z9hG4bK1");
    assert_eq!(bench.response_in(hop(1, TLS), &busy), ResponseOutcome::Deliver(id));
    assert_eq!(bench.words(), ["INVITE", "ACK", "ended"]);
    assert_eq!(bench.response_in(hop(1, TLS), &busy), ResponseOutcome::Stray);
}

#[test]
fn the_ack_goes_where_the_invite_went_with_the_to_of_the_answer() {
    let mut layer = TransactionLayer::new(10);
    let bytes = request("INVITE", "z9hG4bK1");
    layer.request(hop(1, UDP), Method::Invite, "z9hG4bK1", bytes, Instant::ZERO).expect("room");
    let busy = response(486, "INVITE", "z9hG4bK1");
    let message = Message::parse(&busy).expect("a message");
    let elsewhere = Hop { remote: "198.51.100.9:5060".parse().expect("an address"), ..hop(1, UDP) };
    let essentials = message.essentials().expect("essentials");
    let outcome = layer.receive_response(elsewhere, &message, &essentials, Instant::ZERO);
    assert!(matches!(outcome, ResponseOutcome::Deliver(_)));
    let Some(TransactionEvent::Send { .. }) = layer.poll() else { panic!("the INVITE") };
    let Some(TransactionEvent::Send { hop: to, bytes }) = layer.poll() else { panic!("the ACK") };
    assert_eq!(to, hop(1, UDP));
    assert_eq!(
        std::str::from_utf8(&bytes).expect("text"),
        "ACK sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1\r\n\
         Route: <sip:p.example;lr>\r\nMax-Forwards: 70\r\nFrom: <sip:a@example.com>;tag=f\r\n\
         To: <sip:b@example.com>;tag=t486\r\nCall-ID: c\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n"
    );
}

#[test]
fn timer_k_a_late_answer_is_absorbed() {
    let mut bench = Bench::new();
    let id = bench.send(UDP, "BYE", "z9hG4bK1");
    let ok = response(200, "BYE", "z9hG4bK1");
    assert_eq!(bench.response_in(hop(1, UDP), &ok), ResponseOutcome::Deliver(id));
    bench.run_to(4_999);
    assert_eq!(bench.response_in(hop(1, UDP), &ok), ResponseOutcome::Absorbed);
    assert_eq!(bench.words(), ["BYE"]);
    bench.run_to(5_000);
    assert_eq!(bench.said(), said(&[(5_000, "ended")]));
    assert_eq!(bench.response_in(hop(1, UDP), &ok), ResponseOutcome::Stray);
    assert_eq!(Duration::from_secs(5), T4);
}

#[test]
fn timer_m_each_further_2xx_is_delivered() {
    for transport in [UDP, TLS] {
        let mut bench = Bench::new();
        let id = bench.send(transport, "INVITE", "z9hG4bK1");
        let ok = response(200, "INVITE", "z9hG4bK1");
        for ms in [0, 10_000, 31_999] {
            bench.run_to(ms);
            assert_eq!(bench.response_in(hop(1, transport), &ok), ResponseOutcome::Deliver(id));
        }
        for code in [180, 486] {
            let late = response(code, "INVITE", "z9hG4bK1");
            assert_eq!(bench.response_in(hop(1, transport), &late), ResponseOutcome::Absorbed);
        }
        bench.run_to(32_000);
        assert_eq!(bench.said(), said(&[(0, "INVITE"), (32_000, "ended")]), "the ACK of a 2xx is the user's");
        assert_eq!(bench.response_in(hop(1, transport), &ok), ResponseOutcome::Stray);
    }
}

#[test]
fn a_response_needs_our_branch_our_method_and_our_flow() {
    let mut bench = Bench::new();
    let id = bench.send(UDP, "INVITE", "z9hG4bK1");
    let strays = [
        (1, response(200, "INVITE", "z9hG4bK2")),
        (1, response(200, "BYE", "z9hG4bK1")),
        (1, response(200, "CANCEL", "z9hG4bK1")),
        (2, response(200, "INVITE", "z9hG4bK1")),
        (1, Bytes::from_static(b"SIP/2.0 200 x\r\nVia: SIP/2.0/UDP h\r\nFrom: <sip:a>;tag=f\r\nTo: <sip:b>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\r\n")),
    ];
    for (flow, stray) in strays {
        assert_eq!(bench.response_in(hop(flow, UDP), &stray), ResponseOutcome::Stray);
        assert_eq!(bench.layer.len(), 1, "no state for it");
    }
    assert_eq!(bench.words(), ["INVITE"]);
    let ok = response(200, "INVITE", "z9hG4bK1");
    assert_eq!(bench.response_in(hop(1, UDP), &ok), ResponseOutcome::Deliver(id));
}

// CANCEL of ours

#[test]
fn a_cancel_waits_for_a_provisional_answer() {
    let mut bench = Bench::new();
    let id = bench.send(UDP, "INVITE", "z9hG4bK1");
    assert_eq!(bench.cancel(id), None);
    bench.run_to(600);
    assert_eq!(bench.words(), ["INVITE", "INVITE"]);
    assert_eq!(
        bench.response_in(hop(1, UDP), &response(100, "INVITE", "z9hG4bK1")),
        ResponseOutcome::Deliver(id)
    );
    assert_eq!(bench.words(), ["CANCEL"]);
    assert_eq!(bench.cancel(id), None, "once is enough");
    assert_eq!(bench.layer.len(), 2);
    // The answer to the CANCEL is no answer to the INVITE.
    let ok = bench.response_in(hop(1, UDP), &response(200, "CANCEL", "z9hG4bK1"));
    assert!(matches!(ok, ResponseOutcome::Deliver(cancel) if cancel != id));
    let terminated = bench.response_in(hop(1, UDP), &response(487, "INVITE", "z9hG4bK1"));
    assert_eq!(terminated, ResponseOutcome::Deliver(id));
    assert_eq!(bench.words(), ["ACK"]);
    bench.run_to(100_000);
    assert_eq!(bench.words(), ["ended", "ended"]);
}

#[test]
fn a_cancel_is_sent_at_once_while_it_rings() {
    let mut bench = Bench::new();
    let id = bench.send(UDP, "INVITE", "z9hG4bK1");
    bench.response_in(hop(1, UDP), &response(180, "INVITE", "z9hG4bK1"));
    let cancel = bench.cancel(id).expect("a transaction of its own");
    assert_ne!(cancel, id);
    assert_eq!(bench.words(), ["INVITE", "CANCEL"]);
    bench.run_to(100_000);
    let mut sent = bench.said();
    assert_eq!(sent.iter().filter(|(_, words)| words == "CANCEL").count(), 10, "11 with the first");
    sent.retain(|(_, words)| words != "CANCEL");
    assert_eq!(sent, said(&[(32_000, "timed out"), (32_000, "timed out")]), "the INVITE and the CANCEL");
    assert!(bench.layer.is_empty());
}

#[test]
fn no_cancel_after_a_final_answer() {
    for code in [200, 486] {
        let mut bench = Bench::new();
        let id = bench.send(UDP, "INVITE", "z9hG4bK1");
        assert_eq!(bench.cancel(id), None);
        bench.response_in(hop(1, UDP), &response(code, "INVITE", "z9hG4bK1"));
        assert_eq!(bench.cancel(id), None);
        bench.run_to(100_000);
        assert_eq!(bench.cancel(id), None);
        assert!(bench.words().iter().all(|words| words != "CANCEL"));
    }
    let mut bench = Bench::new();
    let bye = bench.send(UDP, "BYE", "z9hG4bK1");
    assert_eq!(bench.cancel(bye), None, "only an INVITE can be cancelled");
}

#[test]
fn a_2xx_may_cross_the_cancel() {
    let mut bench = Bench::new();
    let id = bench.send(TLS, "INVITE", "z9hG4bK1");
    bench.response_in(hop(1, TLS), &response(180, "INVITE", "z9hG4bK1"));
    assert!(bench.cancel(id).is_some());
    let ok = response(200, "INVITE", "z9hG4bK1");
    assert_eq!(bench.response_in(hop(1, TLS), &ok), ResponseOutcome::Deliver(id));
    bench.response_in(hop(1, TLS), &response(200, "CANCEL", "z9hG4bK1"));
    bench.run_to(100_000);
    assert_eq!(bench.words(), ["INVITE", "CANCEL", "ended", "ended"], "the INVITE did not time out");
}

// Server transactions

#[test]
fn trying_is_said_after_200_ms_of_silence() {
    for transport in [UDP, TLS] {
        let mut bench = Bench::new();
        let id = bench.new_in(hop(1, transport), &request("INVITE", "z9hG4bKin"));
        bench.run_to(5_000);
        assert_eq!(bench.said(), said(&[(200, "100")]));
        assert_eq!(
            bench.request_in(hop(1, transport), &request("INVITE", "z9hG4bKin")),
            RequestOutcome::Retransmission
        );
        assert!(bench.respond(id, 180));
        assert_eq!(bench.words(), ["100", "180"]);
    }
    let mut bench = Bench::new();
    let id = bench.new_in(hop(1, UDP), &request("INVITE", "z9hG4bKin"));
    bench.run_to(100);
    assert!(bench.respond(id, 180));
    bench.run_to(5_000);
    assert_eq!(bench.words(), ["180"], "somebody was quicker");
}

#[test]
fn timers_g_and_h_a_failure_is_repeated_until_64_t1() {
    let mut bench = Bench::new();
    let id = bench.new_in(hop(1, UDP), &request("INVITE", "z9hG4bKin"));
    assert!(bench.respond(id, 486));
    bench.run_to(100_000);
    let sent = [0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
    let mut expected: Vec<_> = sent.into_iter().map(|time| (time, "486".to_owned())).collect();
    expected.push((32_000, "ended".to_owned()));
    assert_eq!(bench.said(), expected);

    let mut bench = Bench::new();
    let id = bench.new_in(hop(1, TLS), &request("INVITE", "z9hG4bKin"));
    assert!(bench.respond(id, 486));
    bench.run_to(100_000);
    assert_eq!(bench.said(), said(&[(0, "486"), (32_000, "ended")]));
}

#[test]
fn timer_i_late_acks_and_invites_are_absorbed() {
    let mut bench = Bench::new();
    let id = bench.new_in(hop(1, UDP), &request("INVITE", "z9hG4bKin"));
    assert!(bench.respond(id, 486));
    bench.run_to(600);
    assert_eq!(
        bench.request_in(hop(1, UDP), &request("INVITE", "z9hG4bKin")),
        RequestOutcome::Retransmission
    );
    assert_eq!(bench.said(), said(&[(0, "486"), (500, "486"), (600, "486")]));
    let ack = request("ACK", "z9hG4bKin");
    assert_eq!(bench.request_in(hop(1, UDP), &ack), RequestOutcome::Ack(id));
    bench.run_to(5_599);
    assert_eq!(bench.request_in(hop(1, UDP), &ack), RequestOutcome::Ack(id));
    assert_eq!(
        bench.request_in(hop(1, UDP), &request("INVITE", "z9hG4bKin")),
        RequestOutcome::Retransmission
    );
    assert!(bench.words().is_empty());
    bench.run_to(5_600);
    assert_eq!(bench.said(), said(&[(5_600, "ended")]));
    assert_eq!(bench.request_in(hop(1, UDP), &ack), RequestOutcome::Ack2xx, "nobody's");
    assert!(bench.layer.is_empty(), "an ACK makes no transaction");
}

#[test]
fn timer_i_is_zero_on_a_reliable_transport() {
    let mut bench = Bench::new();
    let id = bench.new_in(hop(1, TLS), &request("INVITE", "z9hG4bKin"));
    assert!(bench.respond(id, 486));
    assert_eq!(bench.request_in(hop(1, TLS), &request("ACK", "z9hG4bKin")), RequestOutcome::Ack(id));
    assert_eq!(bench.words(), ["486", "ended"]);
}

#[test]
fn a_2xx_is_repeated_until_it_is_acknowledged() {
    for transport in [UDP, TLS] {
        let mut bench = Bench::new();
        let id = bench.new_in(hop(1, transport), &request("INVITE", "z9hG4bKin"));
        assert!(bench.respond(id, 200));
        bench.run_to(2_000);
        assert_eq!(
            bench.request_in(hop(1, transport), &request("INVITE", "z9hG4bKin")),
            RequestOutcome::Retransmission
        );
        assert_eq!(bench.times("200"), [0, 500, 1_500, 2_000]);
        // The ACK has a branch of its own, or the INVITE's where the peer knows no better.
        for branch in ["z9hG4bKack", "z9hG4bKin"] {
            assert_eq!(bench.request_in(hop(1, transport), &request("ACK", branch)), RequestOutcome::Ack2xx);
        }
        bench.layer.acknowledged(id, bench.now);
        assert_eq!(bench.layer.poll_timeout(), Some(at(32_000)), "nothing wakes it before timer L");
        bench.run_to(31_999);
        assert_eq!(
            bench.request_in(hop(1, transport), &request("INVITE", "z9hG4bKin")),
            RequestOutcome::Retransmission
        );
        assert!(bench.words().is_empty());
        bench.run_to(100_000);
        assert_eq!(bench.said(), said(&[(32_000, "ended")]), "timer L");
    }
}

#[test]
fn timer_l_without_an_ack_the_user_is_told() {
    let mut bench = Bench::new();
    let id = bench.new_in(hop(1, UDP), &request("INVITE", "z9hG4bKin"));
    assert!(bench.respond(id, 200));
    bench.run_to(100_000);
    let sent = [0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
    let mut expected: Vec<_> = sent.into_iter().map(|time| (time, "200".to_owned())).collect();
    expected.extend(said(&[(32_000, "ack missing"), (32_000, "ended")]));
    assert_eq!(bench.said(), expected);
}

#[test]
fn no_request_gets_two_final_answers() {
    for method in ["INVITE", "OPTIONS"] {
        let mut bench = Bench::new();
        let id = bench.new_in(hop(1, UDP), &request(method, "z9hG4bKin"));
        assert!(bench.respond(id, 180));
        assert!(bench.respond(id, 486));
        for code in [100, 200, 486, 603] {
            assert!(!bench.respond(id, code), "{method} {code}");
        }
        assert_eq!(bench.words(), ["180", "486"]);
    }
    // After the 2xx of an INVITE, only that of another fork.
    let mut bench = Bench::new();
    let id = bench.new_in(hop(1, UDP), &request("INVITE", "z9hG4bKin"));
    assert!(bench.respond(id, 200));
    assert!(!bench.respond(id, 180) && !bench.respond(id, 486));
    assert!(bench.respond(id, 202));
    bench.run_to(500);
    assert_eq!(bench.words(), ["200", "202", "202"], "the last one is repeated");
    let mut bench = Bench::new();
    let id = bench.new_in(hop(1, UDP), &request("OPTIONS", "z9hG4bKin"));
    assert!(bench.respond(id, 200) && !bench.respond(id, 200));
    assert!(!bench.respond(ServerId(u64::MAX), 200), "of nobody");
}

#[test]
fn timer_j_late_requests_get_the_same_answer() {
    let mut bench = Bench::new();
    let id = bench.new_in(hop(1, UDP), &request("REGISTER", "z9hG4bKin"));
    assert_eq!(
        bench.request_in(hop(1, UDP), &request("REGISTER", "z9hG4bKin")),
        RequestOutcome::Retransmission
    );
    assert!(bench.words().is_empty(), "there is no answer yet");
    assert!(bench.respond(id, 200));
    bench.run_to(31_999);
    assert_eq!(
        bench.request_in(hop(1, UDP), &request("REGISTER", "z9hG4bKin")),
        RequestOutcome::Retransmission
    );
    bench.run_to(32_000);
    assert_eq!(bench.said(), said(&[(0, "200"), (31_999, "200"), (32_000, "ended")]));
    assert!(
        matches!(bench.request_in(hop(1, UDP), &request("REGISTER", "z9hG4bKin")), RequestOutcome::New(new) if new != id)
    );
}

#[test]
fn timer_j_is_zero_on_a_reliable_transport() {
    let mut bench = Bench::new();
    let id = bench.new_in(hop(1, TLS), &request("REGISTER", "z9hG4bKin"));
    assert!(bench.respond(id, 200));
    assert_eq!(bench.words(), ["200", "ended"]);
    assert!(bench.layer.is_empty() && bench.layer.poll_timeout().is_none());
}

#[test]
fn a_request_that_nobody_answers_is_forgotten() {
    let mut bench = Bench::new();
    let id = bench.new_in(hop(1, TLS), &request("REGISTER", "z9hG4bKin"));
    bench.run_to(100_000);
    assert_eq!(bench.said(), said(&[(32_000, "ended")]));
    assert!(!bench.respond(id, 200));
    assert_eq!(Duration::from_millis(32_000), PATIENCE);
}

#[test]
fn answers_go_to_where_the_request_came_from_and_stay_byte_equal() {
    let mut layer = TransactionLayer::new(10);
    let bytes = request("OPTIONS", "z9hG4bKin");
    let message = Message::parse(&bytes).expect("a message");
    let essentials = message.essentials().expect("essentials");
    let from = Hop { remote: "198.51.100.7:33333".parse().expect("an address"), ..hop(3, UDP) };
    let outcome = layer.receive_request(from, &message, &essentials, Instant::ZERO);
    let RequestOutcome::New(id) = outcome else { panic!("new") };
    let answer = response(200, "OPTIONS", "z9hG4bKin");
    assert!(layer.respond(id, 200, answer.clone(), Instant::ZERO));
    assert_eq!(layer.receive_request(from, &message, &essentials, at(1)), RequestOutcome::Retransmission);
    let send = TransactionEvent::Send { hop: from, bytes: answer };
    let events: Vec<_> = std::iter::from_fn(|| layer.poll()).collect();
    assert_eq!(events, [send.clone(), TransactionEvent::ServerLingers(id), send]);
}

#[test]
fn a_cancel_names_its_invite_on_its_own_flow_alone() {
    let mut bench = Bench::new();
    let invite = bench.new_in(hop(1, UDP), &request("INVITE", "z9hG4bKin"));
    let cancel = request("CANCEL", "z9hG4bKin");
    let outcome = bench.request_in(hop(1, UDP), &cancel);
    let RequestOutcome::Cancel { cancel: id, invite: Some(meant) } = outcome else { panic!("{outcome:?}") };
    assert_eq!(meant, invite);
    assert!(bench.respond(id, 200) && bench.respond(invite, 487));
    assert_eq!(bench.words(), ["200", "487"]);
    assert_eq!(bench.request_in(hop(1, UDP), &cancel), RequestOutcome::Retransmission);
    assert_eq!(bench.words(), ["200"]);
    let stranger = Hop { remote: "198.51.100.7:5060".parse().expect("an address"), ..hop(1, UDP) };
    for from in [hop(2, UDP), stranger] {
        let outcome = bench.request_in(from, &cancel);
        assert!(matches!(outcome, RequestOutcome::Cancel { invite: None, .. }), "{outcome:?}");
    }
}

#[test]
fn a_request_is_known_by_what_its_transaction_was_begun_with() {
    let mut bench = Bench::new();
    let knows = |bench: &Bench, hop: Hop, method: &str, branch: &str| {
        let bytes = request(method, branch);
        let message = Message::parse(&bytes).expect("a message");
        let essentials = message.essentials().expect("essentials");
        bench.layer.knows_request(&hop, "sip:b@example.com", &essentials)
    };
    assert!(!knows(&bench, hop(1, UDP), "INVITE", "z9hG4bKa"));
    bench.new_in(hop(1, UDP), &request("INVITE", "z9hG4bKa"));
    for (method, branch, known) in [
        ("INVITE", "z9hG4bKa", true),
        ("ACK", "z9hG4bKa", true),
        ("CANCEL", "z9hG4bKa", true),
        ("BYE", "z9hG4bKa", false),
        ("INVITE", "z9hG4bKb", false),
    ] {
        assert_eq!(knows(&bench, hop(1, UDP), method, branch), known, "{method} {branch}");
    }
    let elsewhere = Hop { remote: "192.0.2.2:5060".parse().expect("an address"), ..hop(1, UDP) };
    assert!(
        !knows(&bench, elsewhere, "INVITE", "z9hG4bKa") && !knows(&bench, hop(2, UDP), "INVITE", "z9hG4bKa")
    );
    // A CANCEL outlives its INVITE.
    assert!(!knows(&bench, hop(1, UDP), "CANCEL", "z9hG4bKc"));
    bench.request_in(hop(1, UDP), &request("CANCEL", "z9hG4bKc"));
    assert!(knows(&bench, hop(1, UDP), "CANCEL", "z9hG4bKc"));
}

#[test]
fn the_same_branch_on_two_faces_is_two_transactions() {
    let mut bench = Bench::new();
    let outside = bench.new_in(hop(1, UDP), &request("INVITE", "z9hG4bKin"));
    let inside = bench.new_in(hop(2, UDP), &request("INVITE", "z9hG4bKin"));
    let options = bench.new_in(hop(1, UDP), &request("OPTIONS", "z9hG4bKin"));
    assert!(outside != inside && inside != options);
    assert!(bench.respond(outside, 486) && bench.respond(inside, 486));
    assert_eq!(bench.request_in(hop(2, UDP), &request("ACK", "z9hG4bKin")), RequestOutcome::Ack(inside));
    // And one of ours may have it too: a call through the PBX back to us.
    let ours = bench.send(UDP, "INVITE", "z9hG4bKin");
    let ok = response(200, "INVITE", "z9hG4bKin");
    assert_eq!(bench.response_in(hop(1, UDP), &ok), ResponseOutcome::Deliver(ours));
}

// The layer as a whole

#[test]
fn a_full_layer_keeps_nothing_new_but_can_still_cancel() {
    let mut layer = TransactionLayer::new(2);
    let invite = request("INVITE", "z9hG4bK1");
    let id = layer.request(hop(1, UDP), Method::Invite, "z9hG4bK1", invite, Instant::ZERO).expect("room");
    let mut bench = Bench { layer, now: Instant::ZERO, said: Vec::new() };
    let server = bench.new_in(hop(1, UDP), &request("OPTIONS", "z9hG4bK2"));
    assert_eq!(bench.request_in(hop(1, UDP), &request("OPTIONS", "z9hG4bK3")), RequestOutcome::Full);
    assert_eq!(
        bench.request_in(hop(1, UDP), &request("OPTIONS", "z9hG4bK2")),
        RequestOutcome::Retransmission
    );
    let bye = request("BYE", "z9hG4bK4");
    assert_eq!(bench.layer.request(hop(1, UDP), Method::Bye, "z9hG4bK4", bye, bench.now), None);
    assert_eq!(bench.layer.len(), 2);
    bench.response_in(hop(1, UDP), &response(180, "INVITE", "z9hG4bK1"));
    assert!(bench.cancel(id).is_some());
    bench.layer.abandon(server);
    bench.drain();
    bench.run_to(100_000);
    assert!(bench.layer.is_empty());
}

#[test]
fn requests_that_cannot_be_are_refused() {
    let mut layer = TransactionLayer::new(10);
    let mut ask =
        |method, branch, bytes| layer.request(hop(1, UDP), method, branch, bytes, Instant::ZERO).is_some();
    assert!(ask(Method::Bye, "z9hG4bK1", request("BYE", "z9hG4bK1")));
    assert!(!ask(Method::Bye, "z9hG4bK1", request("BYE", "z9hG4bK1")), "the branch is in use");
    assert!(!ask(Method::Ack, "z9hG4bK2", request("ACK", "z9hG4bK2")));
    assert!(!ask(Method::Invite, "z9hG4bK3", Bytes::from_static(b"INVITE")), "nothing to acknowledge with");
    assert_eq!(layer.len(), 1);
}

#[test]
fn a_failed_flow_ends_its_own_transactions_alone() {
    let mut bench = Bench::new();
    bench.send(TLS, "INVITE", "z9hG4bK1");
    bench.send(TLS, "BYE", "z9hG4bK2");
    bench.send(TLS, "INVITE", "z9hG4bK3");
    bench.response_in(hop(1, TLS), &response(200, "INVITE", "z9hG4bK3"));
    let lost = bench.new_in(hop(1, TLS), &request("INVITE", "z9hG4bKin"));
    let other = bench.new_in(hop(2, TLS), &request("INVITE", "z9hG4bKin"));
    bench.words();
    bench.layer.flow_failed(FlowId(1), bench.now);
    bench.drain();
    assert_eq!(bench.words(), ["ended", "transport error", "transport error", "ended"]);
    assert_eq!(bench.layer.len(), 1);
    assert!(!bench.respond(lost, 200) && bench.respond(other, 486));
}

#[test]
#[should_panic(expected = "one deadline for each that waits")]
fn a_deadline_of_nobody_is_no_agreement() {
    let mut bench = Bench::new();
    let id = bench.new_in(hop(1, UDP), &request("OPTIONS", "z9hG4bKin"));
    bench.layer.deadlines.insert((at(1), Owner::Server(id)));
    bench.layer.check_invariants();
}

#[test]
fn an_abandoned_request_leaves_nothing() {
    let mut bench = Bench::new();
    let id = bench.new_in(hop(1, UDP), &request("INVITE", "z9hG4bKin"));
    assert!(!bench.layer.is_empty());
    bench.layer.abandon(id);
    bench.layer.abandon(id);
    bench.drain();
    assert!(bench.layer.is_empty() && bench.layer.poll_timeout().is_none());
    assert!(!bench.respond(id, 200));
    assert!(matches!(bench.request_in(hop(1, UDP), &request("INVITE", "z9hG4bKin")), RequestOutcome::New(_)));
    assert!(bench.words().is_empty());
}

#[test]
fn a_request_that_nobody_waits_for_any_more_ends_and_an_invite_does_not() {
    for (method, ends) in [("MESSAGE", true), ("INVITE", false)] {
        let mut bench = Bench::new();
        let id = bench.send(UDP, method, "z9hG4bK1");
        bench.run_to(100);
        bench.layer.abandon_request(id, at(100));
        bench.drain();
        bench.run_to(600);
        assert_eq!(bench.words(), if ends { [method, "ended"] } else { [method, method] });
        assert_eq!(bench.layer.is_empty(), ends, "{method}");
    }
}

#[test]
fn a_late_wake_up_makes_no_burst() {
    let mut bench = Bench::new();
    bench.send(UDP, "INVITE", "z9hG4bK1");
    bench.send(UDP, "BYE", "z9hG4bK2");
    let id = bench.new_in(hop(1, UDP), &request("INVITE", "z9hG4bKin"));
    bench.respond(id, 486);
    bench.words();
    bench.now = at(20_000);
    bench.layer.handle_timeout(bench.now);
    bench.drain();
    let mut words = bench.words();
    words.sort();
    assert_eq!(words, ["486", "BYE", "INVITE"], "one each");
    bench.now = at(500_000);
    bench.layer.handle_timeout(bench.now);
    bench.drain();
    assert!(bench.layer.is_empty() && bench.layer.poll_timeout().is_none());
    let ends = bench.words().into_iter().filter(|words| words == "ended" || words == "timed out");
    assert_eq!(ends.count(), 3);
}

/// A small linear congruential generator: the walk below needs variety, not chance.
struct Walk(u64);

impl Walk {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

#[test]
fn whatever_happens_the_layer_agrees_with_itself_and_comes_to_rest() {
    const METHODS: [&str; 5] = ["INVITE", "ACK", "CANCEL", "OPTIONS", "FOO"];
    const CODES: [u16; 5] = [100, 180, 200, 302, 486];
    for seed in 0..64 {
        let mut walk = Walk(seed);
        let mut bench = Bench { layer: TransactionLayer::new(12), now: Instant::ZERO, said: Vec::new() };
        let (mut servers, mut clients) = (vec![ServerId(0)], vec![ClientId(0)]);
        let mut finals = std::collections::BTreeMap::new();
        for _ in 0..400 {
            let transport = if walk.next(2) == 0 { UDP } else { TLS };
            let hop = hop(walk.next(2) + if transport == UDP { 1 } else { 3 }, transport);
            let branch = format!("z9hG4bK{}", walk.next(6));
            let method = METHODS[walk.next(5) as usize];
            let code = CODES[walk.next(5) as usize];
            let server = servers[walk.next(servers.len() as u64) as usize];
            let client = clients[walk.next(clients.len() as u64) as usize];
            match walk.next(10) {
                0 | 1 => match bench.request_in(hop, &request(method, &branch)) {
                    RequestOutcome::New(id) | RequestOutcome::Cancel { cancel: id, .. } => servers.push(id),
                    RequestOutcome::Retransmission
                    | RequestOutcome::Ack(_)
                    | RequestOutcome::Ack2xx
                    | RequestOutcome::Full => {}
                },
                2 => {
                    bench.response_in(hop, &response(code, method, &branch));
                }
                3 | 4 => {
                    if bench.respond(server, code) && code >= 300 {
                        *finals.entry(server).or_insert(0) += 1;
                    }
                }
                5 => {
                    let bytes = request(method, &branch);
                    let asked = bench.layer.request(hop, Method::parse(method), &branch, bytes, bench.now);
                    clients.extend(asked);
                }
                6 => clients.extend(bench.cancel(client)),
                7 => bench.layer.acknowledged(server, bench.now),
                8 => match walk.next(8) {
                    0 => bench.layer.flow_failed(hop.flow, bench.now),
                    1 => bench.layer.abandon(server),
                    _ => {}
                },
                _ => {
                    let now = bench.now.since(Instant::ZERO).as_millis() as u64;
                    bench.run_to(now + walk.next(6_000));
                }
            }
            bench.drain();
        }
        assert!(finals.values().all(|count| *count == 1), "one final answer each");
        // What rings is the user's to end; everything else ends by itself.
        for id in servers {
            bench.respond(id, 486);
        }
        for id in clients {
            bench.cancel(id);
        }
        let now = bench.now.since(Instant::ZERO).as_millis() as u64;
        bench.run_to(now + 70_000);
        assert!(bench.layer.is_empty() && bench.layer.poll_timeout().is_none(), "seed {seed}");
        assert_eq!(bench.layer.poll(), None);
    }
}
