//! Which call a message inside a dialog belongs to (contract section 4, dialog key).
//!
//! A call 1001 → PBX → 1002 passes us twice with one Call-ID and the same two tags; the face and which tag
//! is whose tell its four dialogs apart.

use std::collections::BTreeMap;

use sip::DialogId;
use wire::net::Side;
use wire::sip::{Essentials, NameAddr, Uri};

use crate::Border;
use crate::call::CallId;

/// A dialog as the requests of its peer name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DialogKey {
    pub(crate) side: Side,
    pub(crate) call_id: String,
    /// The From tag of the peer's requests.
    pub(crate) remote_tag: String,
    /// Their To tag.
    pub(crate) local_tag: String,
}

impl DialogKey {
    /// The key under which a request came.
    pub(crate) fn of(side: Side, essentials: &Essentials<'_>) -> Option<Self> {
        Some(Self {
            side,
            call_id: essentials.call_id.to_owned(),
            remote_tag: essentials.from.tag()?.to_owned(),
            local_tag: essentials.to.tag()?.to_owned(),
        })
    }

    /// The key of a dialog on a face.
    pub(crate) fn between(side: Side, id: &DialogId) -> Self {
        Self {
            side,
            call_id: id.call_id.clone(),
            remote_tag: id.remote_tag.clone(),
            local_tag: id.local_tag.clone(),
        }
    }
}

/// A dialog of a call: the call, and the place of the dialog pair in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DialogRef {
    pub(crate) call: CallId,
    pub(crate) index: usize,
}

/// All dialogs of all calls.
#[derive(Default)]
pub(crate) struct DialogMap {
    dialogs: BTreeMap<DialogKey, DialogRef>,
}

impl DialogMap {
    pub(crate) fn insert(&mut self, key: DialogKey, dialog: DialogRef) {
        self.dialogs.insert(key, dialog);
    }

    pub(crate) fn remove(&mut self, key: &DialogKey) {
        self.dialogs.remove(key);
    }

    pub(crate) fn find(&self, key: &DialogKey) -> Option<DialogRef> {
        self.dialogs.get(key).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.dialogs.len()
    }
}

impl Border {
    /// Whether an inside address is in the route set of, or is the target of, the dialog that a request
    /// names: such a server may speak in that dialog, and nowhere else.
    pub(crate) fn dialog_knows_address(&self, essentials: &Essentials<'_>, ip: std::net::IpAddr) -> bool {
        let Some(key) = DialogKey::of(Side::Inside, essentials) else { return false };
        let Some(dialog) = self.dialogs.find(&key) else { return false };
        let Some(call) = self.calls.call(dialog.call) else { return false };
        let Some(dialog) = call.dialog(dialog.index, Side::Inside) else { return false };
        let routes = dialog.route_set.iter().filter_map(|route| NameAddr::parse(route).ok());
        routes.map(|route| route.uri).chain([dialog.remote_target.as_str()]).any(|uri| {
            Uri::parse(uri).ok().and_then(|uri| uri.host.ip()).is_some_and(|host| host.to_canonical() == ip)
        })
    }
}
