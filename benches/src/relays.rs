//! The relay that the benches open: the media of a call between a phone and the PBX.

use std::net::SocketAddr;
use std::time::Duration;

use media::{LatchPolicy, LegSpec, Payload, RelaySpec};

/// RTP between a phone, which may be behind NAT, and the PBX, which is where it says.
pub fn rtp_relay(phone: SocketAddr, pbx: SocketAddr) -> RelaySpec {
    let leg = |advertised: SocketAddr, latch| LegSpec {
        advertised_rtp: Some(advertised),
        advertised_rtcp: None,
        rtcp_mux: false,
        signalling_source: Some(advertised.ip()),
        spared: false,
        latch,
        send: true,
        relatch: 0,
    };
    RelaySpec {
        legs: [leg(phone, LatchPolicy::Ranked), leg(pbx, LatchPolicy::Advertised)],
        payload: Payload::Rtp,
        idle: Duration::from_secs(3_600),
        generation: 1,
    }
}
