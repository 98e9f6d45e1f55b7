//! Dialogs that a message names by `Replaces` (RFC 3891), as a header or in `Refer-To` (RFC 3515): the other
//! side knows them by another Call-ID. Tags are the same on both sides.
//!
//! Only a dialog that we have is named to the other side. Any other `Replaces` is left out, and the transfer
//! goes to its target as one without consultation.

use std::fmt::Write as _;

use wire::net::Side;
use wire::sip::{HeaderName, Message, Method, NameAddr, Uri, Writer};

use crate::Border;
use crate::dialog_map::{DialogKey, DialogRef};
use crate::forward::ForwardId;
use crate::media_plan::Hiding;

/// The value of a `Replaces`.
#[derive(Debug, PartialEq, Eq)]
struct Replaces<'a> {
    call_id: &'a str,
    to_tag: &'a str,
    from_tag: &'a str,
    early_only: bool,
}

impl<'a> Replaces<'a> {
    fn parse(value: &'a str) -> Option<Self> {
        let mut parts = value.split(';').map(str::trim);
        let call_id = parts.next().filter(|call_id| !call_id.is_empty())?;
        let (mut to_tag, mut from_tag, mut early_only) = (None, None, false);
        for part in parts {
            match part.split_once('=') {
                Some((name, tag)) if name.eq_ignore_ascii_case("to-tag") => to_tag = Some(tag),
                Some((name, tag)) if name.eq_ignore_ascii_case("from-tag") => from_tag = Some(tag),
                None if part.eq_ignore_ascii_case("early-only") => early_only = true,
                Some(_) | None => {}
            }
        }
        Some(Self { call_id, to_tag: to_tag?, from_tag: from_tag?, early_only })
    }

    /// The same with another Call-ID.
    fn written(&self, call_id: &str) -> String {
        let early_only = if self.early_only { ";early-only" } else { "" };
        format!("{call_id};to-tag={};from-tag={}{early_only}", self.to_tag, self.from_tag)
    }
}

impl Border {
    /// Writes what a forwarded request says of other dialogs.
    pub(crate) fn write_dialog_names(
        &self,
        writer: &mut Writer,
        id: ForwardId,
        message: &Message<'_>,
        hiding: &Hiding,
    ) {
        let to = hiding.from.other();
        let replaces =
            message.value(HeaderName::Replaces).filter(|_| message.method() == Some(Method::Invite));
        if let Some(replaces) = replaces.and_then(|value| self.replaces_towards(to, id, value)) {
            writer.header("Replaces", replaces);
        }
        let refer_to = message.value(HeaderName::ReferTo).map(wire::sip::unfold);
        if let Some(refer_to) = refer_to.and_then(|value| self.refer_to_towards(to, id, &value, hiding)) {
            writer.header("Refer-To", refer_to);
        }
    }

    fn refer_to_towards(&self, to: Side, id: ForwardId, value: &str, hiding: &Hiding) -> Option<String> {
        let uri = Uri::parse(NameAddr::parse(value).ok()?.uri).ok();
        let replaces = uri.and_then(|uri| uri.headers).and_then(|headers| {
            let named = |header: &str| {
                let (name, value) = header.split_once('=')?;
                name.eq_ignore_ascii_case("Replaces").then(|| wire::sip::unescape(value).into_owned())
            };
            self.replaces_towards(to, id, &headers.split('&').find_map(named)?)
        });
        let headers = replaces.map(|replaces| format!("?Replaces={}", escaped(&replaces)));
        let domain = &self.config.pbx.get(hiding.pbx)?.domain;
        let mapped = |headers: &str| self.topology.map_name_addr(value, to, domain, headers);
        // The dialog goes by the name that this side gave it or got for it, whatever address stands in that.
        mapped("").filter(|bare| !self.topology.leaks(bare, to, &hiding.private))?;
        mapped(headers.as_deref().unwrap_or_default())
    }

    /// A `Replaces` as the `to` side knows the dialog; none where it is no dialog of ours.
    fn replaces_towards(&self, to: Side, id: ForwardId, value: &str) -> Option<String> {
        let replaces = Replaces::parse(value)?;
        let Some(dialog) = self.replaced_dialog(to.other(), replaces.call_id, &replaces) else {
            // A phone may name another one's dialog, by the name that we gave it: the code's.
            let inside = self.keys.call_id_towards(Side::Inside, replaces.call_id);
            let known = to == Side::Inside && self.replaced_dialog(to, &inside, &replaces).is_some();
            return known.then(|| replaces.written(&inside));
        };
        let call = self.calls.call(dialog.call)?;
        let own = |call_id| self.calls.call(call_id).map(|call| call.token());
        let told = match to {
            Side::Inside => call.leg(Side::Inside).call_id.clone(),
            Side::Outside if self.call_of(id).and_then(own) == Some(call.token()) => {
                call.leg(Side::Outside).call_id.clone()
            }
            // What another phone calls its dialog may show that phone's address.
            Side::Outside => self.keys.call_id_towards(Side::Outside, replaces.call_id),
        };
        Some(replaces.written(&told))
    }

    /// The dialog of a Call-ID on one side, whichever of the tags is whose.
    fn replaced_dialog(&self, side: Side, call_id: &str, replaces: &Replaces<'_>) -> Option<DialogRef> {
        let pairs = [(replaces.from_tag, replaces.to_tag), (replaces.to_tag, replaces.from_tag)];
        pairs.into_iter().find_map(|(remote_tag, local_tag)| {
            self.dialogs.find(&DialogKey {
                side,
                call_id: call_id.to_owned(),
                remote_tag: remote_tag.to_owned(),
                local_tag: local_tag.to_owned(),
            })
        })
    }
}

/// `text` as a header's value stands in a URI (RFC 3261 §25.1, hvalue).
fn escaped(text: &str) -> String {
    let mut written = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            written.push(char::from(byte));
        } else {
            write!(written, "%{byte:02X}").unwrap_or_default();
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_in_any_order_and_written_with_another_call_id() {
        let read = |text: &str| Replaces::parse(text).map(|replaces| replaces.written("new"));
        let whole = Some("new;to-tag=a;from-tag=b".to_owned());
        assert_eq!(read("x@h;to-tag=a;from-tag=b"), whole);
        assert_eq!(read("x@h ; From-Tag=b;other=1;to-tag=a"), whole);
        let early = Some("new;to-tag=a;from-tag=b;early-only".to_owned());
        assert_eq!(read("x;to-tag=a;from-tag=b;early-only"), early);
        for bad in ["", ";to-tag=a;from-tag=b", "x;to-tag=a", "x"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(escaped("1-aB_c;to-tag=x@y"), "1-aB_c%3Bto-tag%3Dx%40y");
    }
}
