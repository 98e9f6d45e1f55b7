//! Why something went no further and nobody was answered. Each silent way out has a name here and is counted:
//! a flood leaves a number behind, not a line for each message.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// Why something was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum DropReason { $($(#[$doc])* $variant,)* }

        impl DropReason {
            /// Every reason, in the order of the counts.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name that operators see.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

reasons! {
    /// From a blocked source: it was on its way when the block began, or led to it.
    Blocked = "blocked",
    /// No SIP, or SIP that breaks its grammar or our limits, and nobody registered who would be told.
    Malformed = "malformed",
    /// A request other than REGISTER and INVITE from a flow on which no phone is registered.
    FlowNotRegistered = "flow_not_registered",
    /// A request on the inside face from an address that is neither PBX nor trusted.
    InsideStranger = "inside_stranger",
    /// A response with a Via below ours: it is for somebody else (RFC 3261 §8.1.3.3).
    ForeignVia = "foreign_via",
    /// A response that answers no request under way.
    StrayResponse = "stray_response",
    /// An ACK for no dialog of ours.
    StrayAck = "stray_ack",
    /// A request for which there was no room.
    NoRoom = "no_room",
    /// From a connection that was closed a moment ago.
    FlowClosed = "flow_closed",
    /// A message of ours to a source that is blocked by now, or whose connection is gone.
    Unsendable = "unsendable",
    /// What cannot be, by a fault of ours.
    OurFault = "our_fault",
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How often each reason came up since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropCounts([u64; DropReason::ALL.len()]);

impl DropCounts {
    /// The count of one reason.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// Every reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.iter().map(|reason| (*reason, self.of(*reason)))
    }

    pub(crate) fn add(&mut self, reason: DropReason) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_count_and_name() {
        let mut counts = DropCounts::default();
        for (reason, times) in DropReason::ALL.iter().zip(1..) {
            (0..times).for_each(|_| counts.add(*reason));
        }
        assert_eq!(counts.iter().map(|(_, count)| count).collect::<Vec<_>>(), (1..=11).collect::<Vec<_>>());
        let mut names: Vec<_> = DropReason::ALL.iter().map(|reason| reason.to_string()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), DropReason::ALL.len());
    }
}
