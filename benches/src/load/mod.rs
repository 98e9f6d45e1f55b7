//! The load: phones that register and call, streams of audio, and attackers, all from one thread.

pub mod attack;
pub mod calls;
mod framing;
pub mod pbx;
pub mod phones;
pub mod pki;
pub mod poller;
pub mod rtp;
pub mod stream;
