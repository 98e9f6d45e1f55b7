//! What the PBX saw, for others to look at.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use crate::sdp::Description;

/// Calls that are kept; older ones go.
const CALLS_MAX: usize = 64;

/// Everything worth telling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// The contacts of each extension that has some.
    pub contacts: BTreeMap<String, Vec<Contact>>,
    /// Calls whose caller proved who he is, oldest first.
    pub calls: VecDeque<CallSeen>,
}

/// A call, as it reached the PBX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallSeen {
    /// Tells it from others.
    pub call_id: String,
    /// The extension that calls.
    pub caller: String,
    /// The number that it wants.
    pub number: String,
    /// How it describes its media.
    pub offer: Option<Description>,
    /// Every address that stands anywhere in its INVITE.
    pub addresses: BTreeSet<IpAddr>,
}

/// Where an extension is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Its URI.
    pub uri: String,
    /// The host of that; empty where it cannot be read.
    pub host: String,
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
    pub fn calls_to(&self, number: &str) -> usize {
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
            offer: None,
            addresses: BTreeSet::new(),
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
