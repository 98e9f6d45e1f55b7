//! What each of our requests that is under way is for.

use std::collections::BTreeMap;

use sip::ClientId;

use crate::binding::BindingId;
use crate::inside_registration::Leaving;
use crate::response::ClientUse;

/// One use for each client transaction that has any.
#[derive(Default)]
pub(crate) struct Clients {
    uses: BTreeMap<ClientId, ClientUse>,
    /// The REGISTERs, by binding and PBX.
    registrations: BTreeMap<(BindingId, usize), ClientId>,
}

impl Clients {
    pub(crate) fn len(&self) -> usize {
        self.uses.len()
    }

    pub(crate) fn insert(&mut self, client: ClientId, using: ClientUse) {
        if let ClientUse::Registration { binding, pbx, .. } = using {
            self.registrations.insert((binding, pbx), client);
        }
        self.uses.insert(client, using);
    }

    pub(crate) fn find(&self, client: ClientId) -> Option<&ClientUse> {
        self.uses.get(&client)
    }

    pub(crate) fn remove(&mut self, client: ClientId) -> Option<ClientUse> {
        let using = self.uses.remove(&client)?;
        if let ClientUse::Registration { binding, pbx, .. } = using
            && self.registrations.get(&(binding, pbx)) == Some(&client)
        {
            self.registrations.remove(&(binding, pbx));
        }
        debug_assert!(self.registrations.len() <= self.uses.len(), "a registration is one use");
        Some(using)
    }

    /// The REGISTER for a binding that is under way at a PBX, of which nothing is wanted any more.
    pub(crate) fn take_registration(&mut self, binding: BindingId, pbx: usize) -> Option<ClientId> {
        let client = self.registrations.get(&(binding, pbx)).copied()?;
        self.remove(client).map(|_| client)
    }

    /// The binding of a REGISTER is gone before its answer.
    pub(crate) fn abandon_registration(&mut self, binding: BindingId, leaving: Leaving) {
        let client = self.registrations.remove(&(binding, leaving.pbx));
        if let Some(using) = client.and_then(|client| self.uses.get_mut(&client)) {
            *using = ClientUse::Abandoned(Box::new(leaving));
        }
    }
}
