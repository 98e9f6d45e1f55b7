//! Rules about datagrams in another's name: they change nothing, but where nobody could know that they are.

use std::net::SocketAddr;

use border::{Code, Output, Table};

use crate::oracle::Violation;
use crate::text::Text;

/// How much bytes in another's name may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum May {
    /// Nothing but be answered, to whom they seem to come from.
    BeAnswered,
    /// A registration is the PBX's to judge: it may be asked.
    AskThePbx,
    /// They seem to come from a phone that is known by its address alone: a call may begin.
    Begin,
}

/// Bytes in another's name that are dealt with in this step.
#[derive(Debug)]
struct Lie {
    from: SocketAddr,
    text: String,
    may: May,
}

/// What the rules remember.
#[derive(Debug, Default)]
pub(super) struct Forged {
    now: Option<Lie>,
    /// In this step the clock was found to be set, and what is kept is written anew.
    rewrites: bool,
}

impl Forged {
    /// `registered`: the address is that of a phone that registered there by UDP.
    pub(super) fn on_arrival(&mut self, from: SocketAddr, text: &Text, registered: bool) {
        let begins = text.code().is_none() && text.to_tag().is_empty();
        let may = match text.method() {
            "REGISTER" if text.code().is_none() => May::AskThePbx,
            "CANCEL" | "ACK" => May::BeAnswered,
            _ if begins && registered => May::Begin,
            _ => May::BeAnswered,
        };
        self.now = Some(Lie { from, text: text.render(), may });
    }

    /// Whether other rules shall hear of it: what can be no more than answered says nothing to anybody else.
    pub(super) fn begins(&self) -> bool {
        self.now.as_ref().is_some_and(|lie| lie.may == May::Begin)
    }

    /// The step is over.
    pub(super) fn on_step(&mut self) {
        (self.now, self.rewrites) = (None, false);
    }

    /// What the border wants while it deals with it.
    pub(super) fn on_output(&mut self, output: &Output, outside: bool) -> Result<(), Violation> {
        let Some(lie) = &self.now else { return Ok(()) };
        self.rewrites |= matches!(output, Output::Event(event) if event.code == Code::ClockStepped);
        let allowed = match output {
            Output::Answer { .. } => true,
            Output::Event(event) => !matches!(event.code, Code::Blocked | Code::Unblocked),
            Output::Send { to, bytes, .. } if outside => {
                lie.may == May::Begin || (*to == lie.from && bytes.starts_with(b"SIP/2.0 "))
            }
            Output::Send { .. } | Output::OpenFlow { .. } => lie.may != May::BeAnswered,
            Output::Media(_) => lie.may == May::Begin,
            // the next numbers of our REGISTERs
            Output::Persist { record, .. } => {
                self.rewrites || (lie.may != May::BeAnswered && record.table == Table::Node)
            }
            Output::CloseFlow { .. }
            | Output::Registered { .. }
            | Output::Unregistered { .. }
            | Output::Lists { .. }
            | Output::PbxAddresses(_)
            | Output::Fault(_) => false,
        };
        match allowed {
            true => Ok(()),
            false => Err(Violation::new(
                "bytes in another's name change nothing",
                format!("{output:?}\nafter, from {}:\n{}", lie.from, lie.text),
            )),
        }
    }
}
