//! A certificate whose time ends while its phone is connected. The handshake looked at the dates once; from then
//! on they are looked at here, when the phone registers and when it begins something new. A call that is up goes on,
//! and its connection stays until the last one on it has ended.

use std::time::Duration;

use sip::Hop;
use wire::net::{FlowId, VerifiedDevice};
use wire::sip::{Essentials, Message, Method};

use crate::Border;
use crate::entry::Identity;
use crate::event::Code;
use crate::report::About;

impl Border {
    /// What to say of the device at the other end, where its certificate has expired since the handshake.
    pub(crate) fn expired_device(&self, hop: &Hop) -> Option<Identity> {
        let device = self.device_of(hop).filter(|device| self.now.wall > device.not_after)?;
        let hardware_id = self.entries.known_device(device).map(|id| id.to_string());
        Some(Identity {
            code: Code::CertExpired,
            hardware_id,
            text: format!(
                "certificate {} of issuer {} has expired while the device was connected",
                device.subject, device.issuer
            ),
            next_step: "give the device a new certificate".into(),
        })
    }

    /// A registration ends with the certificate that it stands on.
    pub(crate) fn within_certificate(&self, hop: &Hop, granted: Duration) -> Duration {
        self.device_of(hop).map_or(granted, |device| granted.min(device.not_after.since(self.now.wall)))
    }

    /// Refuses what a device with an expired certificate begins; whether it did.
    pub(crate) fn refuse_expired(
        &mut self,
        hop: &Hop,
        method: Method<'_>,
        message: &Message<'_>,
        essentials: &Essentials<'_>,
    ) -> bool {
        let begins = essentials.to.tag().is_none()
            && !matches!(method, Method::Register | Method::Ack | Method::Cancel);
        let Some(identity) = self.expired_device(hop).filter(|_| begins) else { return false };
        // Before the offence is counted: the one that leads to the block is still answered.
        self.refuse_without_transaction(hop, message, 403);
        let name = crate::ingress::user_of(essentials.from.uri).unwrap_or_default();
        let about = About::default().extension(name).hardware_id(identity.hardware_id);
        self.offence(hop, crate::ingress::proof_by_hop(hop), identity.code, about, || {
            (identity.text, identity.next_step)
        });
        true
    }

    /// Whether the phone of a call is on this connection.
    pub(crate) fn carries_call(&self, flow: FlowId) -> bool {
        self.calls.iter().any(|(_, call)| self.phone_hop(call).flow == flow)
    }

    /// A call has ended: where it was the last on the connection of a device whose certificate has expired, that
    /// connection has been kept for it.
    pub(crate) fn on_call_of_flow_ended(&mut self, hop: &Hop) {
        if self.expired_device(hop).is_some() && !self.carries_call(hop.flow) {
            self.flows.leaves_soon(hop.flow, self.now.mono, &mut self.timers);
        }
    }

    fn device_of(&self, hop: &Hop) -> Option<&VerifiedDevice> {
        self.flows.flow(hop.flow)?.device.as_ref()
    }
}
