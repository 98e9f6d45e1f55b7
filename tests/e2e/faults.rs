//! The fault lab: what breaks around the running binary, and what it does then. `docs/faults.md` says what is
//! expected, fault by fault.

mod descriptors;
mod disk;
mod kill;
mod party;
mod wall_clock;
