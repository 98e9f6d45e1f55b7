//! Rules about connections of strangers: none stays for ever, and none that says nothing stays for long (contract
//! section 6, limits).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use wire::clock::Instant;
use wire::net::FlowId;

use crate::oracle::Violation;
use crate::scenery;

/// Until the first byte.
const SILENT_MAX: Duration = Duration::from_secs(10);
/// Whatever is said.
const STRANGER_MAX: Duration = Duration::from_secs(60);
/// A real shell is never on time.
const LATE: Duration = Duration::from_millis(40);

/// What the rules remember: until when each may stay.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    open: BTreeMap<FlowId, (Instant, IpAddr)>,
    /// Those of which nothing was heard yet.
    silent: BTreeMap<FlowId, Instant>,
}

impl Strangers {
    pub(super) fn on_opened(&mut self, flow: FlowId, source: IpAddr, now: Instant) {
        if scenery::is_scanner(source) {
            self.open.insert(flow, (now + STRANGER_MAX, source));
            self.silent.insert(flow, now + SILENT_MAX);
        }
    }

    /// Bytes came.
    pub(super) fn on_heard(&mut self, flow: FlowId) {
        self.silent.remove(&flow);
    }

    pub(super) fn on_closed(&mut self, flow: FlowId) {
        self.open.remove(&flow);
        self.silent.remove(&flow);
    }

    pub(super) fn on_restart(&mut self) {
        *self = Self::default();
    }

    pub(super) fn nobody_stays(&self, now: Instant) -> Result<(), Violation> {
        let too_long = self.open.iter().find(|(_, (until, _))| *until + LATE < now).map(|(flow, _)| flow);
        let silent = self.silent.iter().find(|(_, until)| **until + LATE < now).map(|(flow, _)| flow);
        match too_long.or(silent) {
            Some(flow) => Err(Violation::new(
                "no stranger stays",
                format!("{flow:?} of {:?}, silent: {}", self.open.get(flow), silent.is_some()),
            )),
            None => Ok(()),
        }
    }
}
