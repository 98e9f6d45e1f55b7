//! Runs the real border and the real relay table in a false world, from a seed that replays exactly.
//!
//! The world has a virtual clock, one seeded generator and a heap of happenings; phones, a PBX, scanners and
//! an operator, written naively from the RFC texts; a lossy network, a slow disk, and oracles that judge
//! after every step. Never depended on by a shipped crate; never shares code with `sip`.
//!
//! ```text
//! run(&Plan::new(seed, steps)) -> Ok(Report { trace, .. }) | Err(Failure)   // Failure prints a SIP ladder
//! ```
//!
//! Start reading at `world.rs`; `run.rs` has the phases, `oracle.rs` what must hold.
#![forbid(unsafe_code)]

pub mod act;
mod arrival;
mod calm;
mod census;
mod chaos;
mod company;
mod corpus;
pub mod decision;
pub mod digest;
mod disk;
mod door;
mod doorkeeper;
mod failure;
mod idler;
mod impostor;
pub mod ladder;
mod lanes;
pub mod media_plane;
pub mod network;
mod operator;
pub mod oracle;
mod panic;
pub mod pbx;
pub mod phone;
mod proxy;
mod relief;
pub mod rng;
mod run;
pub mod scanner;
pub mod scenery;
mod schedule;
mod shell;
mod shrink;
pub mod text;
mod thief;
mod trace;
pub mod transactions;
pub mod user_agent;
mod words;
mod world;

pub use failure::Failure;
pub use run::{Plan, Report, run};
pub use shrink::{Shrunk, shrink};
pub use world::{Tally, World};

/// A message is many small pieces of text, and the world makes millions of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
