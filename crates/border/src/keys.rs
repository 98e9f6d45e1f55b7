//! What we derive from the node's secret: Call-ID code, tokens, the proof inside `opaque`.
//!
//! All of it is computed, none of it is looked up: it is the same on every node that has the secret, and
//! after a restart. HMAC-SHA-256 (RFC 2104); the Call-ID code is a synthetic-IV cipher built from it.

use std::net::IpAddr;
use std::time::Duration;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use wire::clock::WallTime;
use wire::net::Side;

use crate::binding::BindingKey;

/// HMAC-SHA-256 with both pads absorbed once.
#[derive(Clone)]
struct MacKey {
    inner: Sha256,
    outer: Sha256,
}

impl MacKey {
    fn new(key: &[u8; 32]) -> Self {
        let mut pads = [[0x36_u8; 64], [0x5c_u8; 64]];
        for pad in &mut pads {
            for (byte, key) in pad.iter_mut().zip(key) {
                *byte ^= key;
            }
        }
        let absorbed = |pad: &[u8; 64]| {
            let mut hash = Sha256::new();
            hash.update(pad);
            hash
        };
        Self { inner: absorbed(&pads[0]), outer: absorbed(&pads[1]) }
    }

    fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut inner = self.inner.clone();
        for part in parts {
            inner.update(part);
        }
        let mut outer = self.outer.clone();
        outer.update(inner.finalize());
        outer.finalize().into()
    }

    fn derive(&self, label: &str) -> Self {
        Self::new(&self.mac(&[label.as_bytes()]))
    }
}

/// The keys for one direction of the Call-ID code.
struct CallIdKey {
    prefix: &'static str,
    tag: MacKey,
    stream: MacKey,
}

const CALL_ID_TAG: usize = 12;

/// Which phone began what a Call-ID names; all zeros for the inside.
type Speaker = [u8; 6];

impl CallIdKey {
    fn seal(&self, (speaker, plain): (Speaker, &str)) -> String {
        let tag = self.tag.mac(&[&speaker, plain.as_bytes()]);
        let mut bytes = Vec::with_capacity(CALL_ID_TAG + speaker.len() + plain.len());
        bytes.extend_from_slice(&tag[..CALL_ID_TAG]);
        bytes.extend_from_slice(&speaker);
        bytes.extend_from_slice(plain.as_bytes());
        self.apply_stream(&mut bytes);
        format!("{}{}", self.prefix, base64url(&bytes))
    }

    fn open(&self, sealed: &str) -> Option<(Speaker, String)> {
        let mut bytes = from_base64url(sealed.strip_prefix(self.prefix)?)?;
        if bytes.len() < CALL_ID_TAG {
            return None;
        }
        self.apply_stream(&mut bytes);
        let (tag, coded) = bytes.split_at(CALL_ID_TAG);
        let expected = self.tag.mac(&[coded]);
        if !bool::from(expected[..CALL_ID_TAG].ct_eq(tag)) {
            return None;
        }
        let (speaker, plain) = coded.split_first_chunk()?;
        Some((*speaker, String::from_utf8(plain.to_vec()).ok()?))
    }

    /// XORs the key stream, which starts from the tag, over all that follows the tag.
    fn apply_stream(&self, bytes: &mut [u8]) {
        let (tag, body) = bytes.split_at_mut(CALL_ID_TAG);
        for (counter, chunk) in (0_u32..).zip(body.chunks_mut(32)) {
            let block = self.stream.mac(&[tag, &counter.to_be_bytes()]);
            for (byte, key) in chunk.iter_mut().zip(block) {
                *byte ^= key;
            }
        }
    }
}

/// Everything derived from the node's secret.
pub(crate) struct Keys {
    call_ids: [CallIdKey; 2],
    speaker: MacKey,
    token: MacKey,
    series: MacKey,
    /// The same of this start of the node alone.
    series_of_start: MacKey,
    stateless_tag: MacKey,
    opaque: MacKey,
}

/// For how long a series of registrations is known by its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasts {
    ForEver,
    /// Until the process ends.
    ThisStart,
}

/// What came back in a digest `opaque` of ours.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OpenedOpaque {
    /// The PBX's own opaque; none where it sent none.
    pub(crate) inner: Option<String>,
    /// Whether it was given to this very source, not long ago: it can receive what is sent to it.
    pub(crate) proves_source: bool,
}

/// For how long a returned `opaque` proves its source.
const OPAQUE_LIFE: Duration = Duration::from_secs(300);

impl Keys {
    /// `start` tells this start of the node from every other.
    pub(crate) fn new(secret: &[u8; 32], start: &[u8; 12]) -> Self {
        let node = MacKey::new(secret);
        let series = node.derive("registration series");
        let call_id = |prefix, label: &str| CallIdKey {
            prefix,
            tag: node.derive(&format!("call-id tag {label}")),
            stream: node.derive(&format!("call-id stream {label}")),
        };
        Self {
            call_ids: [call_id("2-", "outside"), call_id("1-", "inside")],
            speaker: node.derive("call-id speaker"),
            token: node.derive("contact token"),
            series_of_start: MacKey::new(&series.mac(&[start])),
            series,
            stateless_tag: node.derive("stateless tag"),
            opaque: node.derive("digest opaque"),
        }
    }

    /// The Call-ID under which a call with `call_id` on one face is known on the `to` face: one that bears
    /// our form is decoded first, so it does not grow however often it passes us.
    pub(crate) fn call_id_towards(&self, to: Side, call_id: &str) -> String {
        let (speaker, plain) =
            self.opened(call_id).unwrap_or_else(|| (Speaker::default(), call_id.to_owned()));
        self.call_ids[to.index()].seal((speaker, &plain))
    }

    /// The Call-ID inside of what the phone of a binding (`token`) begins with `call_id`: another one's, be it that it
    /// says the same, or as we told it of that one's call, is another to the PBX.
    pub(crate) fn call_id_of_phone(&self, token: &str, call_id: &str) -> String {
        let mac = self.speaker.mac(&[token.as_bytes()]);
        let speaker = std::array::from_fn(|index| mac[index]);
        let opened = self.opened(call_id);
        let plain = opened.as_ref().map_or(call_id, |(_, plain)| plain);
        self.call_ids[Side::Inside.index()].seal((speaker, plain))
    }

    fn opened(&self, call_id: &str) -> Option<(Speaker, String)> {
        self.call_ids.iter().find_map(|key| key.open(call_id))
    }

    /// The user part of our Contact at the PBX for one binding: 20 characters that name this node
    /// (`owner`), the extension and the binding key, and that nobody can make without the secret.
    pub(crate) fn token(&self, owner: u8, extension: &str, key: &BindingKey) -> String {
        let mac = self.token.mac(&[&framed(extension), key.as_str().as_bytes()]);
        let mut bytes = [0; 12];
        bytes[0] = owner;
        bytes[1..].copy_from_slice(&mac[..11]);
        base32(&bytes)
    }

    /// Call-ID and From-tag of an inside registration (`series` is the binding's key, or `query`): stable, so that challenge, retry and
    /// refresh are one series for the PBX (RFC 3261 §10.2).
    pub(crate) fn series(&self, extension: &str, series: &str, lasts: Lasts) -> (String, String) {
        let key = match lasts {
            Lasts::ForEver => &self.series,
            Lasts::ThisStart => &self.series_of_start,
        };
        let mac = key.mac(&[&framed(extension), series.as_bytes()]);
        (base32(&mac[..15]), base32(&mac[15..25]))
    }

    /// The To tag of an answer without a transaction: the same for each repetition (RFC 3261 §8.2.7).
    pub(crate) fn stateless_tag(&self, call_id: &str, via: &str) -> String {
        base32(&self.stateless_tag.mac(&[&framed(call_id), via.as_bytes()])[..10])
    }

    /// Our `opaque` around the PBX's: it names the source and the time, and cannot be made by others.
    pub(crate) fn seal_opaque(&self, source: IpAddr, at: WallTime, inner: Option<&str>) -> String {
        let time = (at.0 / 1000).to_be_bytes();
        let mac = self.opaque_mac(source, &time, inner);
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&time);
        bytes[8..].copy_from_slice(&mac);
        match inner {
            Some(inner) => format!("{}.{inner}", base64url(&bytes)),
            None => base64url(&bytes),
        }
    }

    /// Opens an `opaque` of ours; none where it is not ours.
    pub(crate) fn open_opaque(&self, source: IpAddr, now: WallTime, opaque: &str) -> Option<OpenedOpaque> {
        let (sealed, inner) = match opaque.split_once('.') {
            Some((sealed, inner)) => (sealed, Some(inner)),
            None => (opaque, None),
        };
        let bytes: [u8; 20] = from_base64url(sealed)?.try_into().ok()?;
        let (time, mac) = bytes.split_at(8);
        let time: [u8; 8] = time.try_into().ok()?;
        let given = WallTime(u64::from_be_bytes(time).saturating_mul(1000));
        let genuine = bool::from(self.opaque_mac(source, &time, inner).ct_eq(mac));
        let fresh = now.since(given) <= OPAQUE_LIFE && given.since(now) <= OPAQUE_LIFE;
        Some(OpenedOpaque { inner: inner.map(str::to_owned), proves_source: genuine && fresh })
    }

    fn opaque_mac(&self, source: IpAddr, time: &[u8; 8], inner: Option<&str>) -> [u8; 12] {
        let address = match source.to_canonical() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let mac = self.opaque.mac(&[&address, time, inner.unwrap_or_default().as_bytes()]);
        std::array::from_fn(|index| mac[index])
    }
}

/// Whether a user part looks like one of our Contact tokens.
pub(crate) fn has_token_form(user: &str) -> bool {
    user.len() == 20 && user.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'))
}

/// Length first, so that no two pairs of strings run into the same bytes.
fn framed(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// RFC 4648 base32 in lower case without padding: survives case folding.
pub(crate) fn base32(bytes: &[u8]) -> String {
    encode(bytes, b"abcdefghijklmnopqrstuvwxyz234567", 5)
}

/// RFC 4648 base64url without padding.
pub(crate) fn base64url(bytes: &[u8]) -> String {
    encode(bytes, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", 6)
}

fn encode(bytes: &[u8], alphabet: &[u8], bits: u32) -> String {
    let mut text = String::with_capacity(bytes.len() * 8 / bits as usize + 1);
    let (mut pool, mut held) = (0_u32, 0_u32);
    for byte in bytes {
        pool = (pool << 8) | u32::from(*byte);
        held += 8;
        while held >= bits {
            held -= bits;
            text.push(char::from(alphabet[(pool >> held) as usize & (alphabet.len() - 1)]));
        }
        pool &= (1 << held) - 1;
    }
    if held > 0 {
        text.push(char::from(alphabet[(pool << (bits - held)) as usize & (alphabet.len() - 1)]));
    }
    text
}

/// Undoes [`base64url`].
pub(crate) fn from_base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut pool, mut held) = (0_u32, 0_u32);
    for character in text.bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        pool = (pool << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(pool >> held & 0xff).ok()?);
        }
        pool &= (1 << held) - 1;
    }
    // One byte sequence has one text: left-over bits must be zero, or a second form would open too.
    (held < 6 && pool == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::new(&[7; 32], &[1; 12])
    }

    #[test]
    fn hmac_known_answer() {
        // RFC 4231 test case 2, its key filled with zeros to our fixed size, which HMAC does as well.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let mac = MacKey::new(&key).mac(&[b"what do ya want ", b"for nothing?"]);
        assert_eq!(mac[..6], [0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60]);
    }

    #[test]
    fn a_call_id_never_grows_and_is_never_shown() {
        let keys = keys();
        let own = "f81d4fae@192.168.1.20";
        let inside = keys.call_id_towards(Side::Inside, own);
        let outside = keys.call_id_towards(Side::Outside, &inside);
        assert_eq!(outside.len(), inside.len());
        assert_eq!(keys.call_id_towards(Side::Inside, &outside), inside);
        assert_eq!(
            keys.call_id_towards(Side::Outside, &keys.call_id_towards(Side::Inside, &outside)),
            outside
        );
        assert!(!inside.contains("192.168") && inside != outside);
        assert_ne!(Keys::new(&[8; 32], &[1; 12]).call_id_towards(Side::Inside, own), inside);
    }

    #[test]
    fn what_two_phones_call_the_same_is_not_the_same_inside() {
        let keys = keys();
        let said = |token: &str, call_id: &str| keys.call_id_of_phone(token, call_id);
        let (one, other) = (said("one", "abc"), said("other", "abc"));
        assert_ne!(one, other);
        assert_eq!(one, said("one", "abc"));
        // The call of the first rings at the other, which says what it has heard.
        let told = keys.call_id_towards(Side::Outside, &one);
        assert_eq!(said("other", &told), other);
        assert_eq!(said("other", &one), other);
        assert_eq!(
            keys.call_id_towards(Side::Inside, &told),
            one,
            "as the name of a dialog it is that one's"
        );
        // However often it passes us, it does not grow.
        let again = said("one", &keys.call_id_towards(Side::Outside, &other));
        assert_eq!(again, one);
        assert_ne!(keys.call_id_towards(Side::Inside, "abc"), one, "nor is it the PBX's own");
    }

    #[test]
    fn a_changed_call_id_is_not_decoded() {
        let keys = keys();
        let inside = keys.call_id_towards(Side::Inside, "abc");
        for index in 0..inside.len() {
            let mut bytes = inside.clone().into_bytes();
            bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(keys.call_ids.iter().all(|key| key.open(&changed).is_none()), "{changed}");
        }
    }

    #[test]
    fn tokens_are_short_stable_and_distinct() {
        let keys = keys();
        let key = |text: &str| BindingKey::kept(text.to_owned());
        let token = keys.token(0, "1001", &key("urn:uuid:1"));
        assert_eq!(token.len(), 20);
        assert_eq!(token, keys.token(0, "1001", &key("urn:uuid:1")));
        assert_ne!(token, keys.token(0, "100", &key("1urn:uuid:1")));
        assert_ne!(token, keys.token(1, "1001", &key("urn:uuid:1")));
    }

    #[test]
    fn only_what_is_as_long_and_of_the_same_characters_looks_like_a_token() {
        let token = keys().token(0, "1001", &BindingKey::kept("urn:uuid:1".to_owned()));
        assert!(has_token_form(&token));
        for other in ["", "monitor", &token[1..], &format!("{token}a"), "10011001100110011001"] {
            assert!(!has_token_form(other), "{other}");
        }
        assert!(!has_token_form(&token.to_uppercase()));
    }

    #[test]
    fn a_series_lasts_for_ever_or_for_one_start() {
        let (one, next) = (keys(), Keys::new(&[7; 32], &[2; 12]));
        let series = |keys: &Keys, lasts| keys.series("1001", "h:009033010203", lasts);
        assert_eq!(series(&one, Lasts::ForEver), series(&next, Lasts::ForEver));
        assert_eq!(series(&one, Lasts::ThisStart), series(&one, Lasts::ThisStart));
        assert_ne!(series(&one, Lasts::ThisStart).0, series(&next, Lasts::ThisStart).0);
        assert_ne!(series(&one, Lasts::ThisStart).0, series(&one, Lasts::ForEver).0);
    }

    #[test]
    fn an_opaque_proves_only_its_own_source_and_only_for_a_while() {
        let keys = keys();
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        let now = WallTime(1_000_000_000);
        for inner in [None, Some("a.b"), Some("")] {
            let opaque = keys.seal_opaque(source, now, inner);
            let open = |source: &str, now| keys.open_opaque(source.parse().unwrap(), now, &opaque).unwrap();
            assert!(open("192.0.2.1", now).proves_source);
            assert!(open("::ffff:192.0.2.1", now).proves_source);
            assert!(!open("192.0.2.2", now).proves_source);
            assert!(!open("192.0.2.1", now + Duration::from_secs(302)).proves_source);
            assert_eq!(open("192.0.2.1", now).inner.as_deref(), inner);
        }
        assert_eq!(keys.open_opaque(source, now, "nonsense"), None);
    }

    #[test]
    fn encodings_reverse() {
        for length in 0..40_u8 {
            let bytes: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(91)).collect();
            assert_eq!(from_base64url(&base64url(&bytes)).as_deref(), Some(&bytes[..]));
        }
        assert_eq!(base32(b"foobar"), "mzxw6ytboi");
        assert_eq!(base64url(b"foob"), "Zm9vYg");
        assert_eq!(from_base64url("Zm9vYh"), None);
    }
}
