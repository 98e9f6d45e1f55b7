//! What the benches and the load kit are made of: a border without its shell, and whole systems under load.
//!
//! `bare_border` drives the real border by hand, with a PBX of byte templates (`templates`) behind it;
//! `relays` says what a call's media want. The rest is the kit that `cargo xtask bench` runs: `systems` starts
//! ours, the peers and the floors, `load` is the phones, streams and attackers, `measure` reads what it cost,
//! `scenarios` puts them together, `report` prints. Never shipped.
#![forbid(unsafe_code)]

pub mod bare_border;
pub mod interrupt;
pub mod load;
pub mod measure;
pub mod relays;
pub mod report;
pub mod scenarios;
pub mod systems;
pub mod templates;
