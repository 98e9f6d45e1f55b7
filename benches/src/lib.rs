//! What the benches share: a border without its shell, and what a process costs.
//!
//! Never measures anything itself, and is never shipped. `bare_border.rs` drives the real border by hand,
//! with a PBX of byte templates (`templates.rs`) behind it; `process.rs` reads what the kernel counted of
//! another process; `relays.rs` says what a call's media want; `figures.rs` sums up repeated runs.
#![forbid(unsafe_code)]

pub mod bare_border;
pub mod figures;
pub mod process;
pub mod relays;
pub mod templates;
