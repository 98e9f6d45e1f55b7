//! PBXs that keep fewer contacts of an extension than it has devices: the newest displaces another.
//!
//! A list without one of our contacts may as well come from a PBX that has restarted. So what is missing is made
//! again, and only where two devices displace each other three times in a row, each within seconds after it was
//! confirmed, the PBX is named: it would have had to restart as often, each time in between.

use std::time::Duration;

use wire::clock::Instant;

use crate::Border;
use crate::binding::{BindingId, Inside};
use crate::entry::EntryId;
use crate::event::Code;
use crate::report::About;

/// Displacements in a row of which no restarts are made.
const DISPLACEMENTS_SURE: u8 = 3;
/// A contact that was confirmed longer ago may have been forgotten as well as displaced.
const DISPLACED_WITHIN: Duration = Duration::from_secs(10);

/// What is known of how many contacts a PBX keeps for an extension.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Displacement {
    /// Nothing that it does not keep all of them.
    #[default]
    None,
    /// So often in a row one was missing when another had been confirmed.
    Seen(u8),
    /// The operator was told.
    Reported,
}

impl Border {
    /// Compares a list of an extension's contacts with what we registered there. `this` is the binding whose
    /// 200 brought it, `asked` when its REGISTER was sent.
    pub(crate) fn judge_contacts(
        &mut self,
        (entry, pbx): (EntryId, usize),
        this: Option<BindingId>,
        asked: Instant,
        listed: &[(String, Duration)],
    ) {
        let now = self.now.mono;
        let missing: Vec<(BindingId, bool)> = self
            .bindings
            .of_entry(entry)
            .filter(|(id, other)| Some(*id) != this && other.pbx == pbx && other.is_registered())
            .filter(|(_, other)| !listed.iter().any(|(token, _)| *token == other.token))
            // Answers may overtake each other: what the PBX took in after this one it could not list.
            .filter(|(_, other)| other.confirmed.is_none_or(|at| at <= asked))
            .map(|(id, other)| (id, other.confirmed.is_some_and(|at| now - at < DISPLACED_WITHIN)))
            .collect();
        let before = self.entries.entry(entry).displacement;
        let after = match before {
            Displacement::Reported if !missing.is_empty() || listed.len() < 2 => return,
            _ if missing.is_empty() => Displacement::None,
            Displacement::Seen(times) if missing.iter().any(|(_, fresh)| *fresh) => {
                Displacement::Seen(times.saturating_add(1))
            }
            Displacement::None | Displacement::Seen(_) | Displacement::Reported => Displacement::Seen(1),
        };
        let sure = matches!(after, Displacement::Seen(times) if times >= DISPLACEMENTS_SURE);
        self.entries.entry_mut(entry).displacement = if sure { Displacement::Reported } else { after };
        if sure {
            return self.report_displacement(entry, pbx, listed.len());
        }
        for (id, _) in missing {
            if let Some(binding) = self.bindings.binding_mut(id) {
                binding.inside = Inside::Waiting { until: None };
            }
            self.queue_registration(id);
        }
    }

    fn report_displacement(&mut self, entry: EntryId, pbx: usize, kept: usize) {
        let about = About::default().extension(self.entries.name(entry));
        let pbx = self.pbx_name(pbx);
        self.event(Code::PbxSingleContact, about, || {
            (
                format!(
                    "PBX {pbx} keeps no more contacts of the extension than {kept}: its devices displace each other"
                ),
                "allow several contacts for the extension at the PBX (max contacts, no overwrite)".into(),
            )
        });
    }
}
