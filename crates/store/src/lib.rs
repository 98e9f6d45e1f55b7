//! What must outlive a restart: rows in, rows out, one durable transaction for each batch.
//!
//! Owns one redb file, `portcullis.redb`, in the data directory, and the thread that writes it. Never knows
//! what a row means, never starts anew over a file that it cannot read, never says that a row is safe
//! before it is on disk, and never forgets a row because the disk failed for a while.
//!
//! [`Store::open`] returns all rows; [`Store::commit`] writes some; [`StoreThread`] does so for the core
//! thread, which does not wait. Start reading at `embedded.rs`.
#![forbid(unsafe_code)]

mod embedded;
mod error;
mod store_thread;
#[cfg(test)]
mod tests;
mod unsaved;

pub use embedded::{FILE_NAME, FORMAT, Row, Store};
pub use error::StoreError;
pub use store_thread::{QUEUE_BYTES_MAX, QUEUE_ROWS_MAX, StoreThread, WriteOutcome};
