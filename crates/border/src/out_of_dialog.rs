//! Requests outside any dialog that are no INVITE: MESSAGE, NOTIFY and OPTIONS, for the other side or for us.

use sip::Hop;
use wire::net::Side;
use wire::sip::{Essentials, Message, Uri};

use crate::Border;
use crate::answer::Ask;
use crate::binding::{Binding, BindingId};
use crate::call::is_anonymous;
use crate::entry::EntryId;
use crate::forward::{Kind, tagged};
use crate::inspection::uri_fault;

/// Where a request that stands alone goes, and how the other side knows its ends.
#[derive(Clone, Debug)]
pub(crate) struct Single {
    pub(crate) hop: Hop,
    pub(crate) binding: BindingId,
    /// The extension of that binding, which may end before the request does.
    pub(crate) entry: EntryId,
    pub(crate) pbx: usize,
    pub(crate) uri: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) call_id: String,
    pub(crate) cseq: u32,
}

impl Border {
    /// MESSAGE and NOTIFY outside any dialog.
    pub(crate) fn on_out_of_dialog(&mut self, ask: &Ask, essentials: &Essentials<'_>, uri: &str) {
        if let Some(fault) = uri_fault(uri) {
            return self.refuse(ask, fault);
        }
        // What we send has its tag, which the other side's answer names (RFC 3261 §8.1.1.3).
        if essentials.from.tag().is_none() {
            return self.refuse(ask, 400);
        }
        let single = match ask.side {
            Side::Outside => self.single_inward(ask, essentials, uri),
            Side::Inside => self.single_outward(&ask.hop, essentials, uri),
        };
        match single {
            Ok(single) => {
                let forward = self.new_forward(ask.clone(), Kind::Single(Box::new(single)));
                self.dispatch(forward);
            }
            Err(503) => self.refuse_for_now(ask),
            Err(status) => self.refuse(ask, status),
        }
    }

    fn single_inward(&mut self, ask: &Ask, essentials: &Essentials<'_>, uri: &str) -> Result<Single, u16> {
        let from = crate::ingress::user_of(essentials.from.uri);
        let ids = self.bindings.by_hop(&ask.hop).to_vec();
        let binding = ids
            .into_iter()
            .find(|id| self.bindings.binding(*id).map(|b| self.entries.name(b.entry)) == from.as_deref())
            .ok_or(403_u16)?;
        let Binding { entry, token, .. } = self.bindings.binding(binding).ok_or(403_u16)?;
        let (entry, call_id) = (*entry, self.keys.call_id_of_phone(token, essentials.call_id));
        let parsed = Uri::parse(uri).map_err(|_| 400_u16)?;
        let number = parsed.user.filter(|_| self.topology.is_ours(&parsed.host)).ok_or(404_u16)?;
        let (pbx, hop) = self.hop_for_request(binding).ok_or(503_u16)?;
        let domain = &self.config.pbx[pbx].domain;
        let name = from.unwrap_or_default();
        Ok(Single {
            hop,
            binding,
            entry,
            pbx,
            uri: format!("sip:{number}@{domain}"),
            from: tagged(&format!("<sip:{name}@{domain}>"), essentials.from.tag()),
            to: format!("<sip:{number}@{domain}>"),
            call_id,
            cseq: essentials.cseq.number,
        })
    }

    fn single_outward(&self, from: &Hop, essentials: &Essentials<'_>, uri: &str) -> Result<Single, u16> {
        let id = self.called_binding(from, uri).ok_or(404_u16)?;
        let binding = self.bindings.binding(id).ok_or(404_u16)?;
        let hop = binding.hop.ok_or(480_u16)?;
        let domain = &self.config.pbx[binding.pbx].domain;
        let caller = Uri::parse(essentials.from.uri).ok();
        let hidden = caller.as_ref().is_some_and(is_anonymous);
        let user = caller.and_then(|uri| uri.user).filter(|user| !self.topology.names_hidden(user));
        let from = match user {
            Some(user) if hidden => format!("<sip:{user}@anonymous.invalid>"),
            Some(user) => format!("<sip:{user}@{domain}>"),
            None => format!("<sip:{domain}>"),
        };
        let name = self.entries.name(binding.entry);
        Ok(Single {
            hop,
            binding: id,
            entry: binding.entry,
            pbx: binding.pbx,
            uri: binding.contact.clone(),
            from: tagged(&from, essentials.from.tag()),
            to: format!("<sip:{name}@{domain}>"),
            call_id: self.keys.call_id_towards(Side::Outside, essentials.call_id),
            cseq: essentials.cseq.number,
        })
    }

    /// OPTIONS: to a contact of ours it is for the phone; all else is for us.
    pub(crate) fn on_options(
        &mut self,
        ask: &Ask,
        message: &Message<'_>,
        essentials: &Essentials<'_>,
        uri: &str,
    ) {
        let to_phone = ask.side == Side::Inside
            && Uri::parse(uri).is_ok_and(|uri| uri.user.is_some_and(crate::keys::has_token_form));
        if to_phone {
            return self.on_out_of_dialog(ask, essentials, uri);
        }
        if !self.own_request_passes(ask, message, uri) {
            return;
        }
        let allow = crate::ingress::allow(ask.side);
        self.answer(ask, 200, |writer| {
            writer.header("Allow", allow);
            writer.header("Accept", "application/sdp");
        });
    }
}
