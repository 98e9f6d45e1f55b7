//! Wires Portcullis together: command line, configuration, clocks, threads, the admin socket.
//!
//! Decides nothing about a call or a phone: that is `border`. Owns every thread and the only clock.
//!
//! Start reading at `run.rs` for the daemon, at `config.rs` for the file, at `cli.rs` for the command line.
#![forbid(unsafe_code)]

pub mod admin;
pub mod alarm;
pub mod cli;
pub mod clock;
pub mod config;
pub mod events;
pub mod inside_networks;
pub mod log;
pub mod media_shard;
pub mod quickstart;
pub mod run;
pub mod signaling;
