//! What outlives a restart (contract section 5), and what waits until it is on disk.
//!
//! Records are versioned and hand-written: a number of one byte, then fields of length and bytes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use guard::{AllowEntry, BlockEntry, BlockKind, HardwareId};
use wire::clock::{Instant, Now, WallTime};
use wire::net::{FlowId, Prefix, Transport};

use crate::Border;
use crate::answer::Ask;
use crate::binding::{Binding, BindingId, BindingKey, Inside};
use crate::command::Answer;
use crate::digest::AuthState;
use crate::event::Code;
use crate::inside_registration::Leaving;
use crate::interface::{Output, Record, Table};
use crate::node::{CSEQ, SECRET};
use crate::report::About;
use crate::timers::{Deadline, Timer};

const VERSION: u8 = 1;
/// Ends the record of a block that is over.
const OVER: u64 = 1;
const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3_600);
/// The longest an answer waits for the disk.
const STORE_PATIENCE: Duration = Duration::from_millis(250);

/// What is done when a record is on disk, or could not be put there in time.
#[derive(Debug)]
pub(crate) enum Then {
    /// The phones get their 200.
    AnswerRegister {
        binding: BindingId,
        asks: Vec<Ask>,
    },
    /// The phone gets its 200: nothing of it is left.
    AnswerSignOff {
        ask: Ask,
    },
    /// The PBX hears that a binding is gone. Were it told first, a restart in between would bring back a binding
    /// that the PBX no longer has.
    Leave(Box<Leaving>),
    /// The operator gets his answer.
    AnswerCommand {
        id: u64,
        answer: Answer,
    },
    Nothing,
}

impl Then {
    /// The same after a write that failed: an order of the operator holds, though no longer than the process.
    fn unsaved(self) -> Self {
        self.with_answer(|done| {
            let but = "could not be stored: look at the disk of data_dir; until the event store_works a restart forgets it";
            Answer::Refused(format!("{done}, but this {but}"))
        })
    }

    /// The same where the disk takes its time.
    fn not_yet_saved(self) -> Self {
        self.with_answer(|done| {
            Answer::Done(format!("{done}; it is not on disk yet: look at `store` in `portcullis status`"))
        })
    }

    fn with_answer(self, change: impl FnOnce(String) -> Answer) -> Self {
        match self {
            Self::AnswerCommand { id, answer: Answer::Done(done) } => {
                Self::AnswerCommand { id, answer: change(done) }
            }
            Self::AnswerCommand { .. }
            | Self::AnswerRegister { .. }
            | Self::AnswerSignOff { .. }
            | Self::Leave(_)
            | Self::Nothing => self,
        }
    }
}

/// Writes under way.
#[derive(Default)]
pub(crate) struct Writes {
    pending: BTreeMap<u64, (Vec<Then>, Instant)>,
    next_ticket: u64,
    /// The last that was heard of the disk is that it failed.
    failing: bool,
    /// The disk was found slow, and has confirmed nothing since.
    slow: bool,
}

impl Writes {
    /// Whether the last that was heard of the disk is that it failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing
    }

    /// Writes that somebody waits for.
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }
}

/// The facts of a store, read.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) secret: Option<[u8; 32]>,
    pub(crate) cseq: u32,
    bindings: Vec<KeptBinding>,
    blocks: Vec<BlockEntry>,
    /// Blocks that were over and still counted.
    past_blocks: Vec<BlockEntry>,
    allowed: Vec<AllowEntry>,
    realms: Vec<(String, String)>,
    unreadable: usize,
}

struct KeptBinding {
    token: String,
    extension: String,
    key: BindingKey,
    contact: String,
    contact_value: String,
    user_agent: Option<String>,
    hardware_id: Option<HardwareId>,
    pbx: String,
    pass_through: bool,
    expires: WallTime,
    inside_expires: WallTime,
    last_transport: Transport,
    last_remote: Option<SocketAddr>,
    /// How long it still held at the PBX when it was written; older records do not say.
    inside_left: Option<Duration>,
}

/// A record that cannot be read: the start must not go on as if it had never been there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableRecord {
    table: Table,
    key: String,
}

impl std::fmt::Display for UnreadableRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "its record {:?} in table {:?} cannot be read", self.key, self.table)
    }
}

impl std::error::Error for UnreadableRecord {}

/// Whether all records of a store can be taken up; to be asked before [`Border::new`], which passes over
/// what it cannot read.
pub fn check_records(records: &[Record]) -> Result<(), UnreadableRecord> {
    let mut kept = Kept::default();
    for record in records {
        let readable = record.value.as_ref().is_none_or(|value| kept.read_one(record, value).is_some());
        if !readable {
            let key = String::from_utf8_lossy(&record.key).into_owned();
            return Err(UnreadableRecord { table: record.table, key });
        }
    }
    Ok(())
}

impl Kept {
    pub(crate) fn read(records: Vec<Record>) -> Self {
        let mut kept = Self::default();
        for record in records {
            let Some(value) = &record.value else { continue };
            if kept.read_one(&record, value).is_none() {
                kept.unreadable += 1;
            }
        }
        kept
    }

    fn read_one(&mut self, record: &Record, value: &[u8]) -> Option<()> {
        let mut fields = Fields::open(value)?;
        match record.table {
            Table::Node if record.key == SECRET => self.secret = Some(fields.bytes()?.try_into().ok()?),
            Table::Node if record.key == CSEQ => self.cseq = fields.number()?.try_into().ok()?,
            Table::Node => return None,
            Table::Realms => self.realms.push((String::from_utf8(record.key.clone()).ok()?, fields.text()?)),
            Table::Allowed => self.allowed.push(read_allowed(&mut fields)?),
            Table::Blocks => {
                let block = read_block(&mut fields)?;
                let blocks = match fields.is_at_end() {
                    true => &mut self.blocks,
                    false if fields.number()? == OVER => &mut self.past_blocks,
                    false => return None,
                };
                blocks.push(block);
            }
            Table::Bindings => {
                let token = String::from_utf8(record.key.clone()).ok()?;
                self.bindings.push(read_binding(token, &mut fields)?);
            }
        }
        Some(())
    }
}

fn read_allowed(fields: &mut Fields<'_>) -> Option<AllowEntry> {
    let (name, address, description) = (fields.text()?, fields.text()?, fields.text()?);
    let prefixes = vec![address.parse().ok()?];
    Some(AllowEntry { name, description, address, prefixes, from_config: false })
}

fn write_allowed(entry: &AllowEntry) -> Vec<u8> {
    FieldWriter::new().text(&entry.name).text(&entry.address).text(&entry.description).done()
}

fn read_block(fields: &mut Fields<'_>) -> Option<BlockEntry> {
    Some(BlockEntry {
        prefix: fields.text()?.parse::<Prefix>().ok()?,
        source: fields.text()?.parse::<IpAddr>().ok()?,
        kind: if fields.number()? == 0 { BlockKind::Automatic } else { BlockKind::Manual },
        code: fields.text()?,
        transport: read_transport(fields.number()?),
        port: fields.number()?.try_into().ok().filter(|port| *port != 0),
        since: WallTime(fields.number()?),
        expires: WallTime(fields.number()?),
        length: Duration::from_millis(fields.number()?),
        evidence: fields.text()?,
    })
}

fn write_block(entry: &BlockEntry) -> FieldWriter {
    FieldWriter::new()
        .text(&entry.prefix.to_string())
        .text(&entry.source.to_string())
        .number(u64::from(entry.kind == BlockKind::Manual))
        .text(&entry.code)
        .number(entry.transport.map_or(0, transport_number))
        .number(entry.port.map_or(0, u64::from))
        .number(entry.since.0)
        .number(entry.expires.0)
        .number(milliseconds(entry.length))
        .text(&entry.evidence)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn transport_number(transport: Transport) -> u64 {
    match transport {
        Transport::Udp => 1,
        Transport::Tcp => 2,
        Transport::Tls => 3,
    }
}

fn read_transport(number: u64) -> Option<Transport> {
    match number {
        1 => Some(Transport::Udp),
        2 => Some(Transport::Tcp),
        3 => Some(Transport::Tls),
        _ => None,
    }
}

fn read_binding(token: String, fields: &mut Fields<'_>) -> Option<KeptBinding> {
    Some(KeptBinding {
        token,
        extension: fields.text()?,
        key: BindingKey::kept(fields.text()?),
        contact: fields.text()?,
        contact_value: fields.text()?,
        user_agent: Some(fields.text()?).filter(|text| !text.is_empty()),
        hardware_id: HardwareId::parse(fields.bytes()?).ok(),
        pbx: fields.text()?,
        pass_through: fields.number()? == 1,
        expires: WallTime(fields.number()?),
        inside_expires: WallTime(fields.number()?),
        last_transport: read_transport(fields.number()?).unwrap_or(Transport::Tls),
        last_remote: fields.text()?.parse().ok(),
        inside_left: match fields.is_at_end() {
            true => None,
            false => Some(Duration::from_millis(fields.number()?)),
        },
    })
}

impl Border {
    /// Takes up what was kept. Nothing is answered before its phone is back; nothing is registered twice.
    pub(crate) fn restore(&mut self, kept: Kept) {
        self.allow_configured();
        self.reserve_cseqs();
        if kept.unreadable > 0 {
            self.outputs.push_back(Output::Fault(
                "the store holds records that cannot be read; they were passed over",
            ));
        }
        for entry in kept.allowed {
            if self.blocking.lists_mut().allow(entry).is_err() {
                self.outputs.push_back(Output::Fault("a kept allow-list entry does not fit the guard"));
            }
        }
        for entry in kept.blocks {
            self.restore_block(entry);
        }
        for entry in kept.past_blocks {
            self.restore_past_block(&entry);
        }
        for (pbx, realm) in kept.realms {
            let known =
                self.config.pbx.iter().position(|config| config.name == pbx && config.realm.is_none());
            if let Some(index) = known {
                self.pbxs[index].realm = Some(realm);
            }
        }
        for binding in kept.bindings {
            self.restore_binding(binding);
        }
        self.lists_changed();
    }

    fn restore_binding(&mut self, kept: KeptBinding) {
        let Now { mono, wall } = self.now;
        let entry = self.entries.by_name(&kept.extension);
        let pbx = self.config.pbx.iter().position(|config| config.name == kept.pbx);
        let token = self.keys.token(crate::registrar::OWNER, &kept.extension, &kept.key);
        let (Some(entry), Some(pbx)) = (entry, pbx) else {
            self.persist_binding_end(&kept.token);
            return;
        };
        let still_listed =
            kept.hardware_id.is_none_or(|id| self.entries.entry(entry).config.hardware_ids.contains(&id));
        // One that was kept under another secret is at the PBX under a token that says nothing to us.
        if kept.expires <= wall || !still_listed || kept.token != token {
            self.persist_binding_end(&kept.token);
            return;
        }
        // The clock may stand anywhere at a start: nothing is kept for longer than it ever was.
        let pbx_expires = if kept.pass_through { DAY } else { self.config.registration.pbx_expires };
        let left = kept.expires.since(wall).min(self.config.registration.phone_expires + DAY);
        let inside_left = kept.inside_expires.since(wall).min(kept.inside_left.unwrap_or(pbx_expires));
        let inside = if inside_left.is_zero() {
            Inside::Waiting { until: None }
        } else {
            let refresh = (!kept.pass_through).then_some(mono + inside_left / 2);
            Inside::Registered { expires: mono + inside_left, refresh }
        };
        let hop = kept.last_remote.map(|remote| sip::Hop {
            flow: FlowId(0),
            remote,
            transport: kept.last_transport,
        });
        self.insert_binding(Binding {
            cut_off: None,
            entry,
            token,
            key: kept.key,
            contact: kept.contact,
            contact_value: kept.contact_value,
            user_agent: kept.user_agent,
            hardware_id: kept.hardware_id,
            hop: None,
            last_seen_at: hop,
            phone_series: (String::new(), 0),
            expires: mono + left,
            expires_wall: kept.expires,
            kept_until: kept.expires,
            grace: (!kept.pass_through).then_some(mono + self.config.registration.grace),
            pass_through: kept.pass_through,
            pbx,
            inside,
            queued: false,
            was_registered: true,
            confirmed: None,
            auth: AuthState::default(),
            waiting: Default::default(),
            deadline: Deadline::default(),
        });
    }

    pub(crate) fn persist(&mut self, table: Table, key: Vec<u8>, value: Option<Vec<u8>>, then: Then) -> u64 {
        let ticket = self.writes.next_ticket;
        self.writes.next_ticket += 1;
        self.outputs.push_back(Output::Persist { ticket, record: Record { table, key, value } });
        if !matches!(then, Then::Nothing) {
            self.after_write(Some(ticket), then);
        }
        ticket
    }

    /// Does this as soon as a write that has been ordered is on disk; at once where there is none to wait for.
    pub(crate) fn after_write(&mut self, ticket: Option<u64>, then: Then) {
        let Some(ticket) = ticket else { return self.carry_out(then) };
        let until = self.now.mono + STORE_PATIENCE;
        let (all, _) = self.writes.pending.entry(ticket).or_insert_with(|| {
            self.timers.arm(until, Timer::Store(ticket));
            (Vec::new(), until)
        });
        all.push(then);
    }

    pub(crate) fn persist_binding(&mut self, id: BindingId, then: Then) {
        let Some(binding) = self.bindings.binding(id) else {
            return self.never("a binding is gone while it is worked on");
        };
        let (mono, wall) = (self.now.mono, self.now.wall);
        let inside_left = match binding.inside {
            Inside::Registered { expires, .. } => expires - mono,
            Inside::Waiting { .. } | Inside::Registering => Duration::ZERO,
        };
        let hop = binding.last_seen_at;
        let kept_until = kept_until(binding.expires_wall, binding.pass_through);
        let value = FieldWriter::new()
            .text(self.entries.name(binding.entry))
            .text(binding.key.as_str())
            .text(&binding.contact)
            .text(&binding.contact_value)
            .text(binding.user_agent.as_deref().unwrap_or_default())
            .text(&binding.hardware_id.map(|id| id.to_string()).unwrap_or_default())
            .text(&self.pbx_name(binding.pbx))
            .number(u64::from(binding.pass_through))
            .number(kept_until.0)
            .number((wall + inside_left).0)
            .number(hop.map_or(0, |hop| transport_number(hop.transport)))
            .text(&hop.map(|hop| hop.remote.to_string()).unwrap_or_default())
            .number(milliseconds(inside_left))
            .done();
        let key = binding.token.clone().into_bytes();
        if let Some(binding) = self.bindings.binding_mut(id) {
            binding.kept_until = kept_until;
        }
        self.persist(Table::Bindings, key, Some(value), then);
    }

    /// A refresh changed nothing but the time: it is written only where the record would end before it.
    pub(crate) fn persist_refresh(&mut self, id: BindingId) {
        if self.bindings.binding(id).is_some_and(|binding| binding.kept_until < binding.expires_wall) {
            self.persist_binding(id, Then::Nothing);
        }
    }

    pub(crate) fn persist_binding_end(&mut self, token: &str) -> u64 {
        self.persist(Table::Bindings, token.as_bytes().to_vec(), None, Then::Nothing)
    }

    pub(crate) fn persist_block(&mut self, entry: &BlockEntry) {
        let key = entry.prefix.to_string().into_bytes();
        self.persist(Table::Blocks, key, Some(write_block(entry).done()), Then::Nothing);
    }

    /// A block that is over, and counts towards the length of the next. Were it not marked, a start with a clock that
    /// was set back would put it in force again.
    pub(crate) fn persist_past_block(&mut self, entry: &BlockEntry) {
        let key = entry.prefix.to_string().into_bytes();
        self.persist(Table::Blocks, key, Some(write_block(entry).number(OVER).done()), Then::Nothing);
    }

    pub(crate) fn persist_block_for(&mut self, entry: &BlockEntry, id: u64, answer: Answer) {
        let key = entry.prefix.to_string().into_bytes();
        self.persist(Table::Blocks, key, Some(write_block(entry).done()), Then::AnswerCommand { id, answer });
    }

    pub(crate) fn persist_block_end(&mut self, prefix: Prefix) -> u64 {
        self.persist(Table::Blocks, prefix.to_string().into_bytes(), None, Then::Nothing)
    }

    pub(crate) fn persist_allowed(&mut self, entry: &AllowEntry, id: u64, answer: Answer) {
        let key = entry.name.clone().into_bytes();
        self.persist(Table::Allowed, key, Some(write_allowed(entry)), Then::AnswerCommand { id, answer });
    }

    pub(crate) fn persist_allowed_end(&mut self, name: &str, id: u64, answer: Answer) {
        self.persist(Table::Allowed, name.as_bytes().to_vec(), None, Then::AnswerCommand { id, answer });
    }

    pub(crate) fn persist_realm(&mut self, pbx: usize, realm: &str) {
        let key = self.pbx_name(pbx).into_bytes();
        let value = FieldWriter::new().text(realm).done();
        self.persist(Table::Realms, key, Some(value), Then::Nothing);
    }

    pub(crate) fn on_stored(&mut self, ticket: u64, ok: bool) {
        if ok {
            self.store_works();
        } else {
            self.store_failed("it could not be written");
        }
        self.on_node_record_stored(ticket, ok);
        if let Some((then, until)) = self.writes.pending.remove(&ticket) {
            self.timers.disarm(until, Timer::Store(ticket));
            let then = then.into_iter().map(|then| if ok { then } else { then.unsaved() });
            then.for_each(|then| self.carry_out(then));
        }
    }

    /// Said once, until the disk works again.
    pub(crate) fn store_failed(&mut self, why: &'static str) {
        if !std::mem::replace(&mut self.writes.failing, true) {
            self.report_store_failure(why);
        }
    }

    /// The disk confirms again what it is given, with all that it did not take before.
    fn store_works(&mut self) {
        self.writes.slow = false;
        if std::mem::take(&mut self.writes.failing) {
            self.event(Code::StoreWorks, About::default(), || {
                ("the store is written again, with all that changed meanwhile".into(), "nothing to do".into())
            });
        }
    }

    /// The disk is too slow: customers are served all the same.
    pub(crate) fn on_store_timer(&mut self, ticket: u64) {
        if let Some((then, _)) = self.writes.pending.remove(&ticket) {
            if !self.writes.failing && !std::mem::replace(&mut self.writes.slow, true) {
                self.report_store_failure("it did not confirm a write within 250 ms");
            }
            then.into_iter().for_each(|then| self.carry_out(then.not_yet_saved()));
        }
    }

    fn report_store_failure(&mut self, why: &'static str) {
        self.event(Code::StoreFailed, About::default(), || {
            (
                format!("the store: {why}; changes hold and are written later, but a restart before would lose them"),
                "look at the disk of data_dir: full, read-only, or slow".into(),
            )
        });
    }

    fn carry_out(&mut self, then: Then) {
        match then {
            Then::AnswerRegister { binding, asks } => {
                for ask in asks {
                    self.answer_registered(&ask, &[binding]);
                }
            }
            Then::AnswerSignOff { ask } => self.answer_registered(&ask, &[]),
            Then::Leave(leaving) => self.leave(*leaving),
            Then::AnswerCommand { id, answer } => self.outputs.push_back(Output::Answer { id, answer }),
            Then::Nothing => {}
        }
    }
}

/// Refreshes that change nothing write next to nothing, so the record cannot know the phone's present expiry. It is
/// deleted when the binding ends; what is still there a day after its last change has been refreshed since, for the
/// inside registration writes it anew each time. One that is passed through has no inside registration of ours: it
/// is written anew once an hour.
fn kept_until(expires: WallTime, pass_through: bool) -> WallTime {
    expires + if pass_through { HOUR } else { DAY }
}

/// Reads fields; none as soon as one does not fit.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn open(value: &'a [u8]) -> Option<Self> {
        let (version, rest) = value.split_first()?;
        (*version == VERSION).then_some(Self { rest })
    }

    /// Nothing follows: a record of a version that wrote less.
    fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let (field, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        self.rest = rest;
        Some(field)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.bytes()?.try_into().ok()?))
    }
}

/// Writes fields.
pub(crate) struct FieldWriter {
    bytes: Vec<u8>,
}

impl FieldWriter {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![VERSION] }
    }

    pub(crate) fn raw(mut self, field: &[u8]) -> Self {
        self.bytes.extend_from_slice(&u32::try_from(field.len()).unwrap_or(0).to_be_bytes());
        self.bytes.extend_from_slice(field);
        self
    }

    fn text(self, field: &str) -> Self {
        self.raw(field.as_bytes())
    }

    pub(crate) fn number(self, field: u64) -> Self {
        self.raw(&field.to_be_bytes())
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.bytes
    }
}
