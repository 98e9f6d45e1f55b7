//! What a run says: ratios first, then a table, every figure as a line of JSON, and plots.

pub mod json;
pub mod plots;
pub mod progress;
pub mod record;
pub mod rows;
pub mod svg;
pub mod table;
