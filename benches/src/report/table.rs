//! The table, as text.

use std::collections::BTreeMap;

use super::ratios::counted;
use super::record::{CPU, DONE, GENERATOR, LIMITED, RATE, Record};
use super::rows::{ROWS, Row};
use crate::measure::figures::{Spread, short};
use crate::systems::System;

/// What the table shows of every row, after the row's own figure.
const COLUMNS: [&str; 19] = [
    CPU,
    RATE,
    DONE,
    "p50_us",
    "p90_us",
    "p99_us",
    "p999_us",
    "max_us",
    "quiet_p99_us",
    "kernel_kb",
    "kb_in_all",
    "back_s",
    "memory_mb",
    "descriptors",
    "retries",
    "resumed_percent",
    "of_unresumed",
    GENERATOR,
    LIMITED,
];
/// Rows whose figure stands in the table of another.
const WITHIN: [&str; 6] =
    ["storm-time", "storm-memory", "storm-resumed-time", "rtp-p50", "rtp-p99", "flood-quiet"];

/// Every figure of every system: medians; of the row's own figure the least and the most too.
pub fn draw_table(records: &[Record]) -> String {
    let mut text = String::new();
    for row in ROWS {
        let own = || records.iter().filter(|it| it.row == row.name && !it.curve);
        if own().next().is_none() || WITHIN.contains(&row.name) {
            continue;
        }
        let shown = |name: &&str| *name != row.figure && own().any(|it| it.figure(name).is_some());
        let columns: Vec<&str> = COLUMNS.into_iter().filter(shown).collect();
        let load = own().map(|it| it.load).fold(0.0, f64::max);
        let head: String = columns.iter().map(|it| format!("  {it:>9}")).collect();
        text.push_str(&format!("\n{}: {} (load {})\n", row.name, row.what, short(load)));
        text.push_str(&format!("  {:<27} {:>24}{head}\n", "", row.figure));
        for system in systems(records, row.name) {
            text.push_str(&draw_system(records, row, system, &columns));
        }
    }
    text
}

fn systems(records: &[Record], row: &str) -> Vec<System> {
    let mut systems: Vec<System> = records.iter().filter(|it| it.row == row).map(|it| it.system).collect();
    systems.sort_unstable();
    systems.dedup();
    systems
}

fn draw_system(records: &[Record], row: &Row, system: System, columns: &[&str]) -> String {
    let spread = |name: &str| Spread::of(counted(records, row.name, system).filter_map(|it| it.figure(name)));
    let first = match spread(row.figure) {
        Some(spread) if spread.min < spread.max => spread.to_string(),
        Some(spread) => short(spread.median),
        None => "-".into(),
    };
    let mut line = format!("  {:<27} {first:>24}", system.name());
    for column in columns {
        let cell = spread(column).map_or("-".into(), |spread| short(spread.median));
        let width = column.len().max(9);
        line.push_str(&format!("  {cell:>width$}"));
    }
    let row = row.name;
    let own = || records.iter().filter(|it| it.row == row && it.system == system && !it.curve);
    let (noisy, crashed) = (own().filter(|it| it.noisy).count(), own().filter(|it| it.crashed).count());
    if noisy > 0 {
        line.push_str(&format!("  {noisy} noisy"));
    }
    if crashed > 0 {
        line.push_str(&format!("  {crashed} CRASHED"));
    }
    let mut faults: BTreeMap<&str, u64> = BTreeMap::new();
    for (what, count) in own().flat_map(|it| &it.faults) {
        *faults.entry(what).or_default() += count;
    }
    for (what, count) in faults {
        line.push_str(&format!("  {count} x {what}"));
    }
    line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::ratios::ratios;

    fn record(system: System, cpu: f64) -> Record {
        Record::new("handshake", system, 0, 1.0).with(CPU, cpu)
    }

    #[test]
    fn a_crash_leaves_no_figure() {
        let mut crashed = record(System::KamailioEdge, 100.0);
        crashed.crashed = true;
        let records = [record(System::Portcullis, 10.0), crashed];
        assert!(ratios(&records).is_empty());
        assert!(draw_table(&records).contains("1 CRASHED"));
    }
}
