//! Calls that the PBX challenged and whose phone will try again: they were counted, and the next try is the
//! same call.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use wire::clock::Instant;

/// What both tries of a call have in common: the Call-ID that the PBX knows, and the From tag.
pub(crate) type CallKey = (String, String);

/// Tries of a challenged call that are not counted again: one for the challenge, one for a nonce that was
/// too old.
const TRIES: u8 = 2;
/// Challenged calls that are remembered, and for how long.
const REMEMBERED_MAX: usize = 4_096;
const REMEMBERED_FOR: Duration = Duration::from_secs(32);

/// The challenged calls of the last half minute.
#[derive(Default)]
pub(crate) struct ChallengedCalls {
    tries: BTreeMap<CallKey, u8>,
    /// When each is forgotten, soonest first: all are remembered equally long.
    ends: VecDeque<(Instant, CallKey)>,
}

impl ChallengedCalls {
    /// The phone of this call will come again. A call that is known already gains nothing.
    pub(crate) fn remember(&mut self, key: CallKey, now: Instant) {
        self.forget_ended(now);
        if self.tries.len() < REMEMBERED_MAX && !self.tries.contains_key(&key) {
            self.tries.insert(key.clone(), TRIES);
            self.ends.push_back((now + REMEMBERED_FOR, key));
        }
        debug_assert_eq!(self.tries.len(), self.ends.len(), "one end for each");
    }

    /// Whether this is a challenged call tried again: a right that is used up.
    pub(crate) fn is_tried_again(&mut self, key: &CallKey, now: Instant) -> bool {
        self.forget_ended(now);
        self.tries.get_mut(key).is_some_and(|left| {
            let again = *left > 0;
            *left = left.saturating_sub(1);
            again
        })
    }

    fn forget_ended(&mut self, now: Instant) {
        while self.ends.front().is_some_and(|(end, _)| *end <= now) {
            if let Some((_, key)) = self.ends.pop_front() {
                self.tries.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> CallKey {
        (format!("call-{number}"), "tag".into())
    }

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn a_challenged_call_may_be_tried_twice_and_only_for_a_while() {
        let mut calls = ChallengedCalls::default();
        calls.remember(key(1), at(0));
        assert!(calls.is_tried_again(&key(1), at(1)));
        calls.remember(key(1), at(1));
        assert!(calls.is_tried_again(&key(1), at(2)));
        assert!(!calls.is_tried_again(&key(1), at(3)), "a second challenge gives no new tries");
        assert!(!calls.is_tried_again(&key(2), at(3)));
        calls.remember(key(3), at(3));
        assert!(!calls.is_tried_again(&key(3), at(35)));
        assert_eq!((calls.tries.len(), calls.ends.len()), (0, 0));
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_and_room_comes_back() {
        let mut calls = ChallengedCalls::default();
        for number in 0..=REMEMBERED_MAX {
            calls.remember(key(number), at(0));
        }
        assert_eq!(calls.tries.len(), REMEMBERED_MAX);
        assert!(!calls.is_tried_again(&key(REMEMBERED_MAX), at(1)));
        calls.remember(key(REMEMBERED_MAX), at(32));
        assert!(calls.is_tried_again(&key(REMEMBERED_MAX), at(33)));
        assert_eq!(calls.tries.len(), 1);
    }
}
