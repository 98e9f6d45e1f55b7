//! Transactions that are there for what is repeated alone, oldest first: how many of them are kept.

use std::collections::VecDeque;

use super::ServerId;

/// Of so many of the newest. A repetition comes after 4 s at the latest (RFC 3261 §17.1.2.2, T2): at 4,000 requests
/// a second there is room for three times as long.
const KEPT_MAX: usize = 50_000;
/// Bytes of their answers.
const BYTES_MAX: usize = 64 << 20;

/// Those that linger; some of them may have ended since.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    oldest_first: VecDeque<(ServerId, usize)>,
    bytes: usize,
}

impl Lingering {
    pub(super) fn push(&mut self, id: ServerId, bytes: usize) {
        self.oldest_first.push_back((id, bytes));
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// The oldest, where there are too many: it is not kept any more.
    pub(super) fn pop_excess(&mut self) -> Option<ServerId> {
        if self.oldest_first.len() <= KEPT_MAX && self.bytes <= BYTES_MAX {
            return None;
        }
        let (oldest, bytes) = self.oldest_first.pop_front()?;
        self.bytes = self.bytes.saturating_sub(bytes);
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use wire::clock::Instant;
    use wire::net::{FlowId, Transport};
    use wire::sip::Message;

    use super::*;
    use crate::transaction::{Hop, RequestOutcome, TransactionEvent, TransactionLayer};

    fn excess(lingering: &mut Lingering) -> Vec<u64> {
        std::iter::from_fn(|| lingering.pop_excess()).map(|id| id.0).collect()
    }

    #[test]
    fn the_newest_are_kept() {
        let mut lingering = Lingering::default();
        for id in 0..KEPT_MAX as u64 {
            lingering.push(ServerId(id), 100);
        }
        assert!(excess(&mut lingering).is_empty());
        lingering.push(ServerId(KEPT_MAX as u64), 100);
        assert_eq!(excess(&mut lingering), [0]);
    }

    #[test]
    fn large_answers_are_fewer() {
        let mut lingering = Lingering::default();
        for id in 0..4 {
            lingering.push(ServerId(id), BYTES_MAX / 4);
        }
        assert!(excess(&mut lingering).is_empty());
        lingering.push(ServerId(4), BYTES_MAX / 2);
        assert_eq!(excess(&mut lingering), [0, 1]);
        lingering.push(ServerId(5), BYTES_MAX + 1);
        assert_eq!(excess(&mut lingering), [2, 3, 4, 5], "not even the last");
        assert_eq!(lingering.bytes, 0);
    }

    /// A layer that hears requests of one phone.
    struct Bench(TransactionLayer);

    impl Bench {
        fn comes(&mut self, method: &str, branch: &str) -> RequestOutcome {
            let remote = "192.0.2.1:5060".parse().expect("an address");
            let hop = Hop { flow: FlowId(1), remote, transport: Transport::Udp };
            let text = format!(
                "{method} sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{branch}\r\n\
                 From: <sip:a@example.com>;tag=f\r\nTo: <sip:b@example.com>\r\nCall-ID: c\r\n\
                 CSeq: 1 {method}\r\n\r\n"
            );
            let message = Message::parse(text.as_bytes()).expect("a message");
            let essentials = message.essentials().expect("essentials");
            self.0.receive_request(hop, &message, &essentials, Instant::ZERO)
        }

        fn begins(&mut self, method: &str, branch: &str) -> ServerId {
            match self.comes(method, branch) {
                RequestOutcome::New(id) => id,
                other => panic!("{other:?}"),
            }
        }

        fn answers(&mut self, id: ServerId, status: u16) {
            assert!(self.0.respond(id, status, Bytes::from_static(b"an answer"), Instant::ZERO));
        }

        /// Whether it was said of it since the last look that it lingers, and that it ended.
        fn heard_of(&mut self, id: ServerId) -> (bool, bool) {
            self.0.check_invariants();
            let events: Vec<_> = std::iter::from_fn(|| self.0.poll()).collect();
            let said = |event| events.contains(&event);
            (said(TransactionEvent::ServerLingers(id)), said(TransactionEvent::ServerEnded(id)))
        }
    }

    #[test]
    fn a_request_lingers_when_nobody_waits_for_anything_any_more() {
        let mut bench = Bench(TransactionLayer::new(10));
        let options = bench.begins("OPTIONS", "1");
        assert_eq!(bench.heard_of(options), (false, false));
        bench.answers(options, 200);
        assert_eq!(bench.heard_of(options), (true, false));
        assert_eq!(bench.comes("OPTIONS", "1"), RequestOutcome::Retransmission);
        assert_eq!(bench.heard_of(options), (false, false), "told once");

        let refused = bench.begins("INVITE", "2");
        bench.answers(refused, 486);
        assert_eq!(bench.heard_of(refused), (false, false), "its ACK is due");
        assert_eq!(bench.comes("ACK", "2"), RequestOutcome::Ack(refused));
        assert_eq!(bench.heard_of(refused), (true, false));

        let accepted = bench.begins("INVITE", "3");
        bench.answers(accepted, 200);
        assert_eq!(bench.heard_of(accepted), (false, false));
        bench.0.acknowledged(accepted, Instant::ZERO);
        assert_eq!(bench.heard_of(accepted), (true, false));
    }

    #[test]
    fn the_oldest_that_lingers_makes_room_and_no_other() {
        let mut bench = Bench(TransactionLayer::new(KEPT_MAX + 10));
        let rings = bench.begins("INVITE", "rings");
        let forked = bench.begins("INVITE", "forked");
        bench.answers(forked, 200);
        bench.0.acknowledged(forked, Instant::ZERO);
        bench.answers(forked, 200);
        let first = bench.begins("OPTIONS", "first");
        bench.answers(first, 200);
        for number in 2..KEPT_MAX {
            let id = bench.begins("OPTIONS", &number.to_string());
            bench.answers(id, 200);
        }
        assert_eq!(bench.heard_of(first), (true, false));
        for last in ["last", "next"] {
            let id = bench.begins("OPTIONS", last);
            bench.answers(id, 200);
        }
        assert_eq!(bench.heard_of(first), (false, true));
        assert!(matches!(bench.comes("OPTIONS", "first"), RequestOutcome::New(_)));
        for waits in ["rings", "forked"] {
            assert_eq!(bench.comes("INVITE", waits), RequestOutcome::Retransmission);
        }
        bench.answers(rings, 180);
    }
}
