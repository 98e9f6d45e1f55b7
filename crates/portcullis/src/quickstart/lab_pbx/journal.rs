//! What the lab PBX saw, for the story to look at.

use std::collections::{BTreeMap, VecDeque};

/// Calls that are kept; older ones go.
const CALLS_MAX: usize = 64;

/// Everything worth telling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Journal {
    /// The contacts of each extension that has some.
    pub contacts: BTreeMap<String, Vec<String>>,
    /// Calls whose caller proved who he is, oldest first.
    pub calls: VecDeque<CallSeen>,
}

/// A call, as it reached the PBX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallSeen {
    /// Tells it from others.
    pub call_id: String,
    /// The extension that calls.
    pub caller: String,
    /// The number that it wants.
    pub number: String,
    /// The whole INVITE.
    pub message: String,
    /// Its description of the media.
    pub offer: Vec<u8>,
}

impl Journal {
    /// Notes a call, once.
    pub(crate) fn note(&mut self, call: CallSeen) {
        if self.calls.iter().any(|known| known.call_id == call.call_id) {
            return;
        }
        if self.calls.len() == CALLS_MAX {
            self.calls.pop_front();
        }
        self.calls.push_back(call);
    }

    /// How many calls a number got.
    pub(crate) fn calls_to(&self, number: &str) -> usize {
        self.calls.iter().filter(|call| call.number == number).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(call_id: usize) -> CallSeen {
        CallSeen {
            call_id: call_id.to_string(),
            caller: "1001".to_owned(),
            number: "1002".to_owned(),
            message: String::new(),
            offer: Vec::new(),
        }
    }

    #[test]
    fn a_retransmission_is_no_new_call_and_the_journal_is_bounded() {
        let mut journal = Journal::default();
        journal.note(call(0));
        journal.note(call(0));
        assert_eq!((journal.calls_to("1002"), journal.calls_to("1001")), (1, 0));
        for number in 0..1000 {
            journal.note(call(number));
        }
        assert_eq!(journal.calls.len(), CALLS_MAX);
    }
}
