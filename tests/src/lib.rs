//! The lab of the end-to-end tests: real peers around the real binary, started and ended by the tests.
//!
//! - [`process`]: programs, by path, with their log; they end with their handle, and with the test.
//! - [`lab`]: Portcullis between a Kamailio ([`kamailio`]) and phones, on addresses of its own ([`address`]),
//!   with certificates of its own ([`pki`]).
//! - Phones: [`baresip`] and [`linphone`] for calls with audio ([`tone`]), [`sipp`] for scenarios, through a [`tls_pipe`] where
//!   they need TLS, and [`raw_phone`] for exact bytes.
//! - [`rtp`]: one end of a stream, for raw phones and for those who do not belong to a call.
//! - [`netns`]: network namespaces with a router that masquerades, for phones behind NAT.
//! - What breaks: [`disk`], [`wall_clock`], [`name_server`]; [`rng`] chooses when, by a seed.
//!
//! It never uses our own crates: a parser must not be its own witness. Traffic stays on loopback or in
//! namespaces that the test made. A harness that cannot do its part panics, which fails the test.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a harness that cannot do its part fails its test"
)]

pub mod address;
pub mod baresip;
pub mod deadline;
pub mod dialog;
pub mod disk;
pub mod kamailio;
pub mod lab;
pub mod linphone;
pub mod name_server;
pub mod netns;
pub mod pki;
pub mod portcullis;
pub mod process;
pub mod raw_message;
pub mod raw_phone;
pub mod rng;
pub mod rtp;
pub mod scratch;
pub mod sipp;
pub mod tls_pipe;
pub mod tone;
pub mod wall_clock;
