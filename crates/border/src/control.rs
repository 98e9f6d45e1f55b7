//! The operator's commands (contract section 7; grammar in design section 4).

use std::time::Duration;

use guard::{AllowEntry, BlockEntry, GuardError};
use wire::net::Prefix;

use crate::Border;
use crate::binding::Inside;
use crate::command::{AllowView, Answer, BlockView, CallView, Command, RegistrationView, StatusView};
use crate::event::Code;
use crate::interface::Output;
use crate::record::Then;
use crate::report::About;

impl Border {
    pub(crate) fn on_command(&mut self, id: u64, command: Command) {
        let answer = match command {
            Command::Registrations => Answer::Registrations(self.registration_views()),
            Command::Calls => Answer::Calls(self.call_views()),
            Command::Status => Answer::Status(self.status_view()),
            Command::BlockList => Answer::Blocks(self.block_views()),
            Command::AllowList => Answer::Allowed(self.allow_views()),
            Command::BlockAdd { prefix, time, why, force } => {
                let harm = if force { None } else { self.harm_of_block(&prefix) };
                match harm {
                    None => return self.block_add(id, prefix, time, why),
                    Some(refusal) => Answer::Refused(refusal),
                }
            }
            Command::BlockRemove { prefixes } => return self.block_remove(id, &prefixes),
            Command::BlockAllow { prefix } => return self.block_allow(id, prefix),
            Command::AllowAdd { prefix, name, description } => {
                return self.allow_add(id, prefix, name, description);
            }
            Command::AllowRemove { name } => return self.allow_remove(id, &name),
        };
        self.outputs.push_back(Output::Answer { id, answer });
    }

    fn refuse_command(&mut self, id: u64, error: &GuardError) {
        let refusal = self.refusal(error);
        self.outputs.push_back(Output::Answer { id, answer: Answer::Refused(refusal) });
    }

    /// What cannot be done, and what can be done instead.
    fn refusal(&self, error: &GuardError) -> String {
        match error {
            GuardError::NotBlocked(prefix) => self.not_listed(prefix),
            GuardError::Allowed { .. }
            | GuardError::NoTime
            | GuardError::BadName
            | GuardError::NameTaken(_)
            | GuardError::NoSuchName(_)
            | GuardError::FromConfig(_)
            | GuardError::ListFull => error.to_string(),
        }
    }

    /// No entry is exactly this one: perhaps it lies in one that is, or holds some.
    fn not_listed(&self, prefix: &Prefix) -> String {
        let around = self.blocking.lists().blocks().find(|entry| entry.prefix.covers(prefix));
        if let Some(BlockEntry { prefix: whole, .. }) = around {
            return format!(
                "{prefix} lies in the blocked network {whole}: `portcullis block remove {whole}` unblocks all of \
                 it, `portcullis allow add {prefix} --name NAME` this part alone"
            );
        }
        let inside: Vec<_> =
            self.blocking.lists().blocks().filter(|entry| prefix.covers(&entry.prefix)).collect();
        if inside.is_empty() {
            return GuardError::NotBlocked(*prefix).to_string();
        }
        let named = first_few(inside.iter().map(|entry| entry.prefix.to_string()), " ");
        let counted = inside.len();
        format!(
            "{prefix} is not on the block list as a whole, but {counted} of its parts: `portcullis block remove \
             {named}`"
        )
    }

    /// Why an operator should think again before he blocks this network, and what to type if he means it.
    /// A single address is what he sees in front of him: it is blocked as he says.
    fn harm_of_block(&self, prefix: &Prefix) -> Option<String> {
        if *prefix == Prefix::single(prefix.addr()) {
            return None;
        }
        let (phones, named) = self.registered_within(prefix);
        let anyway = format!("to block it all the same: `portcullis block add {prefix} --force`");
        let everybody = prefix.len() == 0;
        match (everybody, phones) {
            (false, 0) => None,
            (true, 0) => {
                Some(format!("{prefix} is every address: no phone could register any more; {anyway}"))
            }
            (true, _) => {
                let counted = count_of_phones(phones);
                Some(format!("{prefix} is every address: {counted} would be cut off ({named}); {anyway}"))
            }
            (false, _) => {
                let counted = count_of_phones(phones);
                Some(format!("{prefix} holds {counted} that would be cut off ({named}); {anyway}"))
            }
        }
    }

    /// Phones that are registered from within a network and not allowed: how many, and the first of them.
    fn registered_within(&self, prefix: &Prefix) -> (usize, String) {
        let phones = self.bindings.iter().filter_map(|(_, binding)| {
            let remote = binding.hop?.remote;
            let meant = prefix.contains(remote.ip()) && !self.blocking.lists().is_allowed(remote.ip());
            meant.then(|| format!("{} from {remote}", self.entries.name(binding.entry)))
        });
        let phones: Vec<String> = phones.collect();
        (phones.len(), first_few(phones.into_iter(), ", "))
    }

    /// Who blocks a network that holds a PBX need not fear for it.
    fn note_of_pbx(&self, prefix: &Prefix) -> &'static str {
        let targets = self.pbxs.iter().flat_map(|pbx| &pbx.targets);
        let holds = targets.into_iter().any(|target| prefix.contains(target.address.ip()));
        if holds { "; the PBX in it goes on: blocks hold on the outside only" } else { "" }
    }

    /// Blocks that stay on their list and hold no longer, now that their addresses are allowed.
    fn note_of_blocks(&self, allowed: &Prefix) -> String {
        let blocked: Vec<_> =
            self.blocking.lists().blocks().filter(|entry| allowed.covers(&entry.prefix)).collect();
        let named = first_few(blocked.iter().map(|entry| entry.prefix.to_string()), ", ");
        match blocked.len() {
            0 => String::new(),
            1 => format!("; the block of {named} is without effect from now on"),
            counted => format!("; {counted} blocks in it are without effect from now on: {named}"),
        }
    }

    fn block_add(&mut self, id: u64, prefix: Prefix, time: Option<Duration>, why: String) {
        let (phones, named) = self.registered_within(&prefix);
        match self.blocking.lists_mut().block(prefix, time, why, self.now) {
            Ok(entry) => {
                let time = in_words(entry.length);
                let cut_off = match phones {
                    0 => String::new(),
                    _ => format!("; it cuts off {}: {named}", count_of_phones(phones)),
                };
                self.drop_forgotten_blocks();
                self.event(Code::Blocked, About::default().rule("operator"), || {
                    let why = match entry.evidence.as_str() {
                        "" => String::new(),
                        why => format!(": {why}"),
                    };
                    (format!("{prefix} is blocked for {time} by the operator{why}"), "nothing to do".into())
                });
                let ended = match self.lists_changed() {
                    0 => String::new(),
                    1 => "; 1 call was ended".to_owned(),
                    calls => format!("; {calls} calls were ended"),
                };
                let pbx = self.note_of_pbx(&prefix);
                let answer = Answer::Done(format!("{prefix} is blocked for {time}{cut_off}{ended}{pbx}"));
                self.persist_block_for(&entry, id, answer);
            }
            Err(error) => self.refuse_command(id, &error),
        }
    }

    fn block_remove(&mut self, id: u64, prefixes: &[Prefix]) {
        let (mut removed, mut ticket, mut refusal) = (Vec::new(), None, None);
        for prefix in prefixes {
            match self.blocking.lists_mut().unblock(prefix) {
                Ok(entry) => {
                    ticket = Some(self.lift_block(&entry, "by the operator"));
                    removed.push(prefix.to_string());
                }
                Err(error) => {
                    refusal = Some(self.refusal(&error));
                    break;
                }
            }
        }
        if !removed.is_empty() {
            self.lists_changed();
        }
        let removed = removed.join(", ");
        let answer = match refusal {
            None => Answer::Done(format!("{removed} removed from the block list")),
            Some(refusal) if ticket.is_none() => Answer::Refused(refusal),
            Some(refusal) => Answer::Refused(format!("{removed} removed, but: {refusal}")),
        };
        self.after_write(ticket, Then::AnswerCommand { id, answer });
    }

    /// Moves an entry to the allow list: the name is its address, until the operator gives a better one.
    fn block_allow(&mut self, id: u64, prefix: Prefix) {
        match self.blocking.lists_mut().unblock(&prefix) {
            Ok(entry) => {
                self.lift_block(&entry, "moved to the allow list");
                self.allow_add(id, prefix, prefix.to_string(), format!("was blocked: {}", entry.evidence));
            }
            Err(error) => self.refuse_command(id, &error),
        }
    }

    fn allow_add(&mut self, id: u64, prefix: Prefix, name: String, description: String) {
        let entry = AllowEntry {
            name,
            description,
            address: prefix.to_string(),
            prefixes: vec![prefix],
            from_config: false,
        };
        match self.blocking.lists_mut().allow(entry.clone()) {
            Ok(()) => {
                let unblocked = self.note_of_blocks(&prefix);
                let answer = Answer::Done(format!("{prefix} is allowed as \"{}\"{unblocked}", entry.name));
                self.persist_allowed(&entry, id, answer);
                self.lists_changed();
            }
            Err(error) => {
                self.lists_changed();
                self.refuse_command(id, &error);
            }
        }
    }

    fn allow_remove(&mut self, id: u64, name: &str) {
        match self.blocking.lists_mut().disallow(name) {
            Ok(entry) => {
                let answer =
                    Answer::Done(format!("\"{}\" ({}) is no longer allowed", entry.name, entry.address));
                self.persist_allowed_end(name, id, answer);
                self.lists_changed();
            }
            Err(error) => self.refuse_command(id, &error),
        }
    }

    fn registration_views(&self) -> Vec<RegistrationView> {
        let now = self.now.mono;
        self.bindings
            .iter()
            .map(|(_, binding)| {
                let pbx_expires = match binding.inside {
                    Inside::Registered { expires, .. } => expires - now,
                    Inside::Waiting { .. } | Inside::Registering => Duration::ZERO,
                };
                let seen = binding.last_seen_at;
                RegistrationView {
                    extension: self.entries.name(binding.entry).to_owned(),
                    display_name: self.entries.entry(binding.entry).config.display_name.clone(),
                    hardware_id: binding.hardware_id.map(|id| id.to_string()),
                    source: seen.map(|hop| hop.remote.to_string()).unwrap_or_default(),
                    transport: seen.map_or(wire::net::Transport::Tls, |hop| hop.transport),
                    expires: binding.end() - now,
                    pbx: self.pbx_name(binding.pbx),
                    pbx_state: binding.state(),
                    pbx_expires,
                }
            })
            .collect()
    }

    fn call_views(&self) -> Vec<CallView> {
        self.calls
            .iter()
            .map(|(id, call)| {
                let [packets_in, packets_out] = call.media.packets();
                CallView {
                    id: id.0,
                    extension: self.entries.name(call.entry).to_owned(),
                    display_name: self.entries.entry(call.entry).config.display_name.clone(),
                    direction: call.direction(),
                    peer: call.peer.clone(),
                    state: call.state.as_str(),
                    started: call.started,
                    duration: self.now.mono - call.began,
                    packets_in,
                    packets_out,
                }
            })
            .collect()
    }

    fn status_view(&self) -> StatusView {
        StatusView {
            pbx: (0..self.pbxs.len()).map(|pbx| (self.pbx_name(pbx), self.pbxs[pbx].health())).collect(),
            registrations: self.bindings.len(),
            calls: self.calls.len(),
            blocks: self.blocking.lists().blocks().count(),
            relays: self.relays.len(),
            store_failing: self.writes.is_failing(),
            drops: self.drops,
        }
    }

    fn block_views(&self) -> Vec<BlockView> {
        self.blocking
            .lists()
            .blocks()
            .map(|entry| BlockView {
                address: entry.source,
                range: entry.prefix,
                defense_type: entry.code.clone(),
                block_type: entry.kind.as_str(),
                protocol: entry.transport.map_or("all", |transport| transport.as_str()).to_owned(),
                port: entry.port,
                since: entry.since,
                expires: entry.expires,
                remaining: self.blocking.lists().remaining(&entry.prefix, self.now.mono).unwrap_or_default(),
                evidence: entry.evidence.clone(),
                allowed_as: self.blocking.lists().allowed_by(&entry.prefix).map(|entry| entry.name.clone()),
            })
            .collect()
    }

    fn allow_views(&self) -> Vec<AllowView> {
        self.blocking
            .lists()
            .allowed()
            .map(|entry| AllowView {
                name: entry.name.clone(),
                address: entry.address.clone(),
                description: entry.description.clone(),
                from_config: entry.from_config,
            })
            .collect()
    }
}

/// How many of a list are named before "and more".
const NAMED_MAX: usize = 3;

fn first_few(all: impl ExactSizeIterator<Item = String>, between: &str) -> String {
    let more = if all.len() > NAMED_MAX { format!("{between}…") } else { String::new() };
    let named: Vec<String> = all.take(NAMED_MAX).collect();
    named.join(between) + &more
}

/// A time as it is given on the command line, in the largest unit that says it whole: `48h`.
pub(crate) fn in_words(time: Duration) -> String {
    match time.as_secs() {
        hours if hours > 0 && hours % 3600 == 0 => format!("{}h", hours / 3600),
        minutes if minutes > 0 && minutes % 60 == 0 => format!("{}m", minutes / 60),
        seconds => format!("{seconds}s"),
    }
}

fn count_of_phones(phones: usize) -> String {
    if phones == 1 { "1 registered phone".to_owned() } else { format!("{phones} registered phones") }
}
