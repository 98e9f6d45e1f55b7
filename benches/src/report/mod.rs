//! What a run says: ratios first, then a table, every figure as a line of JSON, and plots.

pub mod about;
pub mod json;
pub mod output;
pub mod plots;
pub mod progress;
pub mod ratios;
pub mod record;
pub mod rows;
pub mod svg;
pub mod table;
