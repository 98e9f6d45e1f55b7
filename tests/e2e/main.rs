//! End to end: the real binary between a real PBX and real phones. One file for each behaviour.
//!
//! `cargo xtask test e2e` builds the binary first and installs the peers.
#![expect(clippy::expect_used, clippy::panic, reason = "what cannot be had fails the test")]

mod block;
mod call;
mod certs;
mod config;
mod digest;
mod faults;
mod frequency;
mod hostile;
mod inside_face;
mod ipv6;
mod linphone;
mod nat;
mod pbx;
mod quickstart;
mod refusal;
mod registration;
mod restart;
mod smuggling;
mod support;
mod torture;
mod transports;
mod two_pbxs;
