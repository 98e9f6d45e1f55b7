//! How much may be under way at once: requests and their bytes, for each who asks and for all of them together.
//!
//! A stranger is whoever speaks on the outside without a certificate and without a registration; over UDP
//! his address may be forged. What he can fill must leave room for phones, for the PBX and for ourselves. A phone must
//! not fill the memory either, nor what the PBX wants of one phone: each request is kept until it is answered, and
//! what it became on the other side with it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use sip::{Hop, ServerId};
use wire::net::{FlowId, Side};
use wire::sip::{Essentials, Message, Method};

use crate::Border;
use crate::dialog_map::DialogKey;
use crate::drop_reason::DropReason;
use crate::event::Code;
use crate::report::About;

/// What strangers may have under way, all and each source: an office of digest phones that all register at once.
const STRANGERS: Amount = Amount { requests: 20_000, bytes: 64 << 20 };
const STRANGER: Amount = Amount { requests: 1_000, bytes: STRANGERS.bytes };
/// What phones may have begun and have under way: a quarter of all transactions. The same again for the PBX with them.
const PHONES: Amount = Amount { requests: 50_000, bytes: 64 << 20 };
/// The same for each registration at the other end of a flow.
const PHONE: Amount = Amount { requests: 1_000, bytes: 2 << 20 };
/// When a phone or the PBX may try again.
const RETRY_S: u32 = 5;
/// A request of a stranger over UDP; a REGISTER with credentials has about 1,200 bytes.
pub(crate) const DATAGRAM_MAX: usize = 4_096;

/// Requests and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    requests: usize,
    bytes: usize,
}

impl Amount {
    fn times(self, factor: usize) -> Self {
        Self { requests: self.requests.saturating_mul(factor), bytes: self.bytes.saturating_mul(factor) }
    }

    fn and(self, bytes: usize) -> Self {
        Self { requests: self.requests.saturating_add(1), bytes: self.bytes.saturating_add(bytes) }
    }

    fn without(self, bytes: usize) -> Self {
        Self { requests: self.requests.saturating_sub(1), bytes: self.bytes.saturating_sub(bytes) }
    }

    fn fits(self, most: Self) -> bool {
        self.requests <= most.requests && self.bytes <= most.bytes
    }
}

/// On whose account a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Account {
    /// A stranger's, by his address.
    Stranger(IpAddr),
    /// What comes from the phone, or the phones, at the other end of a flow.
    FromPhone(FlowId, SocketAddr),
    /// What the inside wants of them.
    ToPhone(FlowId, SocketAddr),
}

impl Account {
    fn of_one(self) -> Amount {
        match self {
            Self::Stranger(_) => STRANGER,
            Self::FromPhone(..) | Self::ToPhone(..) => PHONE,
        }
    }

    fn of_all(self) -> (usize, Amount) {
        match self {
            Self::Stranger(_) => (0, STRANGERS),
            Self::FromPhone(..) => (1, PHONES),
            Self::ToPhone(..) => (2, PHONES),
        }
    }
}

/// What a request is for. What goes on with something has as much room again as what begins, and what ends something
/// as much again: whoever has filled the room of new calls can still speak in his own, and hang up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Begins = 1,
    Continues = 2,
    Ends = 3,
}

/// Whose room is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// That of this one.
    Own,
    /// That of all of his kind together.
    OfAll,
}

/// A request that is under way.
struct Held {
    account: Account,
    bytes: usize,
    /// How many hold it: its transaction as long as somebody waits for an answer, and what it became.
    holders: u32,
    answered: bool,
}

/// The requests that are under way.
#[derive(Default)]
pub(crate) struct Room {
    requests: BTreeMap<ServerId, Held>,
    of_one: BTreeMap<Account, Amount>,
    of_all: [Amount; 3],
}

impl Room {
    /// How many requests are under way on anybody's account: not those that linger for their repetition.
    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether one more request of this size may come in. `registrations`: how many share the account.
    fn has_room(&self, account: Account, bytes: usize, need: Need, registrations: usize) -> Result<(), Full> {
        let of_one = self.of_one.get(&account).copied().unwrap_or_default().and(bytes);
        let share = need as usize;
        if !of_one.fits(account.of_one().times(share).times(registrations.max(1))) {
            return Err(Full::Own);
        }
        let (kind, most) = account.of_all();
        if self.of_all[kind].and(bytes).fits(most.times(share)) { Ok(()) } else { Err(Full::OfAll) }
    }

    pub(crate) fn began(&mut self, server: ServerId, account: Account, bytes: usize) {
        if self.requests.insert(server, Held { account, bytes, holders: 1, answered: false }).is_none() {
            let of_one = self.of_one.entry(account).or_default();
            *of_one = of_one.and(bytes);
            let of_all = &mut self.of_all[account.of_all().0];
            *of_all = of_all.and(bytes);
        }
    }

    /// Something was made of a request that keeps it beyond its transaction.
    pub(crate) fn hold(&mut self, server: ServerId) {
        if let Some(held) = self.requests.get_mut(&server) {
            held.holders += 1;
        }
    }

    /// Nobody waits for an answer any more. A stranger's counts on, for what he is answered goes to an address that may
    /// be another's.
    pub(crate) fn lingers(&mut self, server: ServerId) {
        if self.requests.get(&server).is_some_and(|held| !matches!(held.account, Account::Stranger(_))) {
            self.answered(server);
        }
    }

    /// The transaction is gone, or nobody waits for an answer any more.
    pub(crate) fn answered(&mut self, server: ServerId) {
        let held = self.requests.get_mut(&server).filter(|held| !held.answered);
        if let Some(held) = held {
            held.answered = true;
            self.release(server);
        }
    }

    /// What was made of a request is over: the last that holds it frees the room.
    pub(crate) fn release(&mut self, server: ServerId) {
        let Some(held) = self.requests.get_mut(&server) else { return };
        held.holders = held.holders.saturating_sub(1);
        if held.holders > 0 {
            return;
        }
        let (account, bytes) = (held.account, held.bytes);
        self.requests.remove(&server);
        let of_all = &mut self.of_all[account.of_all().0];
        *of_all = of_all.without(bytes);
        if let Some(of_one) = self.of_one.get_mut(&account) {
            *of_one = of_one.without(bytes);
            if of_one.requests == 0 {
                self.of_one.remove(&account);
            }
        }
    }
}

/// Why a request may not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRoom {
    account: Account,
    /// Where the stranger or the phone is.
    whose: Hop,
    full: Full,
}

impl Border {
    /// On whose account a request goes, where there is room for it; none where it goes on nobody's.
    pub(crate) fn find_room(
        &self,
        (hop, side): (&Hop, Side),
        bytes: usize,
        essentials: &Essentials<'_>,
        uri: &str,
    ) -> Result<Option<Account>, NoRoom> {
        let method = essentials.cseq.method;
        // An ACK keeps nothing, and must not be refused.
        if method == Method::Ack {
            return Ok(None);
        }
        let Some((account, whose)) = self.account_of(hop, side, essentials, uri) else { return Ok(None) };
        let registrations = self.bindings.by_hop(&whose).len();
        let has_room = |need| self.room.has_room(account, bytes, need, registrations);
        let Err(full) = has_room(Need::Begins) else { return Ok(Some(account)) };
        let known = self.transactions.knows_request(hop, uri, essentials);
        if known && method != Method::Cancel {
            // A repetition: it has its room.
            return Ok(None);
        }
        let no_room = |full| NoRoom { account, whose, full };
        let need = match account {
            Account::Stranger(_) => Need::Begins,
            Account::FromPhone(..) | Account::ToPhone(..) => self.need_of(hop, side, essentials, known),
        };
        match need {
            Need::Begins => Err(no_room(full)),
            need @ (Need::Continues | Need::Ends) => has_room(need).map(|()| Some(account)).map_err(no_room),
        }
    }

    /// Whose request it is, and where that stranger or phone is.
    fn account_of(
        &self,
        hop: &Hop,
        side: Side,
        essentials: &Essentials<'_>,
        uri: &str,
    ) -> Option<(Account, Hop)> {
        match side {
            Side::Outside if self.is_stranger(hop) => Some((Account::Stranger(hop.remote.ip()), *hop)),
            Side::Outside => Some((Account::FromPhone(hop.flow, hop.remote), *hop)),
            Side::Inside => {
                let phone = match DialogKey::of(side, essentials) {
                    Some(key) => self.phone_hop(self.calls.call(self.dialogs.find(&key)?.call)?),
                    None => self.bindings.binding(self.called_binding(hop, uri)?)?.hop?,
                };
                Some((Account::ToPhone(phone.flow, phone.remote), phone))
            }
        }
    }

    /// What a request is for; `known`: whether the INVITE that a CANCEL means is there.
    fn need_of(&self, hop: &Hop, side: Side, essentials: &Essentials<'_>, known: bool) -> Need {
        let method = essentials.cseq.method;
        let in_call = || {
            let dialog = DialogKey::of(side, essentials).and_then(|key| self.dialogs.find(&key));
            dialog.is_some_and(|dialog| self.belongs(hop, side, dialog.call))
        };
        if method == Method::Cancel && known {
            Need::Ends
        } else if method == Method::Register {
            Need::Continues
        } else if !in_call() {
            Need::Begins
        } else if method == Method::Bye {
            Need::Ends
        } else {
            Need::Continues
        }
    }

    /// Tells of a request that has no room. A stranger gets no answer; a phone and the PBX are told when to try again,
    /// without a transaction, for that would need room.
    pub(crate) fn on_no_room(&mut self, hop: &Hop, message: &Message<'_>, no_room: NoRoom) {
        let NoRoom { account, whose, full } = no_room;
        if matches!(account, Account::Stranger(_)) {
            self.dropped(DropReason::NoRoom);
        } else {
            self.answer_without_transaction(hop, message, 503, |writer| {
                writer.header("Retry-After", RETRY_S);
            });
        }
        let (code, text, next_step) = words(account, full);
        let mut about = About::source(whose.remote);
        // The first, where several share the flow.
        let binding = self.bindings.by_hop(&whose).first().and_then(|id| self.bindings.binding(*id));
        if let Some(binding) = binding {
            about = about.extension(self.entries.name(binding.entry));
        }
        self.event(code, about, || (text.to_owned(), next_step.to_owned()));
    }

    /// No transaction is left for anybody.
    pub(crate) fn on_no_transaction(&mut self, hop: &Hop) {
        self.dropped(DropReason::NoRoom);
        self.event(Code::NoRoom, About::source(hop.remote), || {
            (
                "a request was dropped: as many are under way as there is room for".into(),
                "look for a flood in `portcullis events`, or for a PBX that answers nothing".into(),
            )
        });
    }
}

/// What the operator hears.
fn words(account: Account, full: Full) -> (Code, &'static str, &'static str) {
    match (account, full) {
        (Account::Stranger(_), Full::Own) => (
            Code::SourceLimited,
            "a request was dropped: the source has as many under way without a registration as may be",
            "if many phones share this address, add it to [[allowed]]",
        ),
        (Account::Stranger(_), Full::OfAll) => (
            Code::NoRoom,
            "a request was dropped: strangers have as many under way as may be",
            "look for their sources in `portcullis events`, and block them",
        ),
        (Account::FromPhone(..), Full::Own) => (
            Code::SourceLimited,
            "a request was refused: the phone has as many under way, or as many bytes of them, as may be",
            "look at what the phone sends, and whether the PBX answers it",
        ),
        (Account::ToPhone(..), Full::Own) => (
            Code::SourceLimited,
            "a request of the PBX was refused: as many are under way to the phone, or as many bytes of them, as may be",
            "look at what the PBX sends to the phone, and whether the phone answers it",
        ),
        (Account::FromPhone(..) | Account::ToPhone(..), Full::OfAll) => (
            Code::NoRoom,
            "a request was refused: phones have as many under way, or as many bytes of them, as may be",
            "look for a flood in `portcullis events`, or for a PBX that answers nothing",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use sip::{RequestOutcome, TransactionLayer};
    use wire::clock::Instant;
    use wire::net::{FlowId, Transport};
    use wire::sip::Message;

    fn hop(last: u8) -> Hop {
        Hop { flow: FlowId(1), remote: ([192, 0, 2, last], 5060).into(), transport: Transport::Udp }
    }

    /// Numbers as the transaction layer gives them.
    fn servers(count: usize) -> Vec<ServerId> {
        let mut layer = TransactionLayer::new(count);
        (0..count)
            .map(|number| {
                let text = Bytes::from(format!(
                    "OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK{number}\r\nFrom: <sip:a@b>;tag=1\r\n\
                     To: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
                ));
                let message = Message::parse(&text).unwrap();
                let essentials = message.essentials().unwrap();
                let outcome = layer.receive_request(hop(1), &message, &essentials, Instant::ZERO);
                let RequestOutcome::New(server) = outcome else { panic!("{outcome:?}") };
                server
            })
            .collect()
    }

    fn stranger(last: u8) -> Account {
        Account::Stranger(hop(last).remote.ip())
    }

    fn phone(last: u8) -> Account {
        Account::FromPhone(FlowId(1), hop(last).remote)
    }

    #[test]
    fn each_has_its_share_and_gives_it_back() {
        for account in [stranger, phone] {
            let mut room = Room::default();
            let servers = servers(1_000);
            let has_room = |room: &Room, last, bytes| room.has_room(account(last), bytes, Need::Begins, 1);
            for server in &servers {
                assert_eq!(has_room(&room, 1, 500), Ok(()));
                room.began(*server, account(1), 500);
            }
            assert_eq!(has_room(&room, 1, 500), Err(Full::Own));
            assert_eq!(has_room(&room, 2, 500), Ok(()));
            assert_eq!(
                has_room(&room, 2, 64 << 20),
                Err(if account(2) == stranger(2) { Full::OfAll } else { Full::Own })
            );
            room.release(servers[0]);
            assert_eq!(has_room(&room, 1, 500), Ok(()));
            for server in servers {
                room.release(server);
            }
            assert!(room.requests.is_empty() && room.of_one.is_empty());
            assert_eq!(room.of_all, [Amount::default(); 3]);
        }
    }

    #[test]
    fn what_goes_on_and_what_ends_has_room_of_its_own() {
        let mut room = Room::default();
        let servers = servers(3_000);
        let mut full = Vec::new();
        for (number, server) in servers.iter().enumerate() {
            for need in [Need::Begins, Need::Continues, Need::Ends] {
                if room.has_room(phone(1), 1, need, 1).is_err() && !full.contains(&(need as usize)) {
                    full.push(need as usize);
                    assert_eq!(number, 1_000 * need as usize);
                }
            }
            room.began(*server, phone(1), 1);
        }
        assert_eq!(full, [1, 2]);
        assert_eq!(room.has_room(phone(1), 1, Need::Ends, 1), Err(Full::Own));
        assert_eq!(room.has_room(phone(1), 1, Need::Begins, 4), Ok(()), "four registrations share it");
    }

    #[test]
    fn phones_have_a_share_together_for_each_direction() {
        let mut room = Room::default();
        for (last, server) in (0..32).zip(servers(32)) {
            assert_eq!(room.has_room(phone(last), 2 << 20, Need::Begins, 1), Ok(()));
            room.began(server, phone(last), 2 << 20);
        }
        assert_eq!(room.has_room(phone(32), 1, Need::Begins, 1), Err(Full::OfAll));
        assert_eq!(room.has_room(phone(32), 1, Need::Continues, 1), Ok(()));
        let other_way = Account::ToPhone(FlowId(1), hop(1).remote);
        assert_eq!(room.has_room(other_way, 1, Need::Begins, 1), Ok(()));
        assert_eq!(room.has_room(stranger(1), 1, Need::Begins, 1), Ok(()));
    }

    #[test]
    fn the_last_one_that_holds_a_request_frees_its_room() {
        let mut room = Room::default();
        let server = servers(1)[0];
        room.hold(server);
        room.began(server, phone(1), 2 << 20);
        room.hold(server);
        room.release(server);
        assert_eq!(room.has_room(phone(1), 1, Need::Begins, 1), Err(Full::Own));
        room.release(server);
        room.release(server);
        assert_eq!((room.has_room(phone(1), 2 << 20, Need::Begins, 1), room.len()), (Ok(()), 0));
    }

    #[test]
    fn a_strangers_request_counts_until_it_is_gone() {
        let mut room = Room::default();
        let server = servers(1)[0];
        room.began(server, stranger(1), 1);
        room.lingers(server);
        assert_eq!(room.len(), 1);
        room.answered(server);
        assert_eq!(room.len(), 0);
    }

    #[test]
    fn a_request_that_was_answered_frees_its_room_once() {
        let mut room = Room::default();
        let server = servers(1)[0];
        room.began(server, phone(1), 2 << 20);
        room.hold(server);
        room.lingers(server);
        room.answered(server);
        assert_eq!(room.has_room(phone(1), 1, Need::Begins, 1), Err(Full::Own), "what it became holds it");
        room.release(server);
        assert_eq!((room.has_room(phone(1), 2 << 20, Need::Begins, 1), room.len()), (Ok(()), 0));
    }
}
