//! The ratios and the table, as text.

use std::collections::BTreeMap;

use super::record::{CPU, DONE, GENERATOR, RATE, Record};
use super::rows::{ROWS, Row};
use crate::measure::figures::{Spread, short};
use crate::systems::System;

/// How many quiet rounds make the noisy ones superfluous.
const QUIET_ENOUGH: usize = 3;
/// Of what was asked for, so much is all of it: less is not the same job.
const ALL_PERCENT: f64 = 99.9;
/// What the table shows of every row, after the row's own figure.
const COLUMNS: [&str; 18] = [
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
];
/// Rows whose figure stands in the table of another.
const WITHIN: [&str; 6] =
    ["storm-time", "storm-memory", "storm-resumed-time", "rtp-p50", "rtp-p99", "flood-quiet"];

/// Ours beside another, over all rounds in which both were measured.
#[derive(Debug)]
pub struct Ratio {
    /// Which row.
    pub row: &'static Row,
    /// The other.
    pub other: System,
    /// What we want.
    pub goal: f64,
    /// Ours divided by the other's.
    pub ratio: Spread,
    /// Ours, and the other's, by the median.
    pub values: [f64; 2],
    /// How much of the job was done, by us and by the other, in the worst of the rounds, in percent.
    pub done: [f64; 2],
    /// Rounds, and how many of them were noisy.
    pub rounds: [usize; 2],
}

impl Ratio {
    /// Whether the goal was reached, and by doing all that was asked for.
    pub fn is_met(&self) -> bool {
        if self.done[0] < ALL_PERCENT {
            return false;
        }
        if self.row.more_is_better { self.ratio.median >= self.goal } else { self.ratio.median <= self.goal }
    }
}

/// Of every row with a goal that was measured.
pub fn ratios(records: &[Record]) -> Vec<Ratio> {
    ROWS.iter()
        .flat_map(|row| row.goals.iter().filter_map(move |(other, goal)| ratio(records, row, *other, *goal)))
        .collect()
}

fn ratio(records: &[Record], row: &'static Row, other: System, goal: f64) -> Option<Ratio> {
    let of = |system: System| -> BTreeMap<u32, (f64, bool)> {
        let own = counted(records, row.name, system);
        own.filter_map(|it| Some((it.round, (it.figure(row.figure)?, it.noisy)))).collect()
    };
    let done = |system: System| {
        counted(records, row.name, system).filter_map(|it| it.figure(DONE)).fold(100.0, f64::min)
    };
    let (ours, theirs) = (of(System::Portcullis), of(other));
    // compared within a round: the machine is another one an hour later
    let pairs: Vec<_> = ours
        .iter()
        .filter_map(|(round, (our, noisy))| {
            let (their, other_noisy) = theirs.get(round)?;
            (*their > 0.0).then_some((*our, *their, noisy | other_noisy))
        })
        .collect();
    let noisy = pairs.iter().filter(|(.., noisy)| *noisy).count();
    let quiet_is_enough = pairs.len() - noisy >= QUIET_ENOUGH;
    let used: Vec<_> = pairs.iter().filter(|(.., noisy)| !(quiet_is_enough && *noisy)).collect();
    let middle = |values: Vec<f64>| Spread::of(values).map_or(0.0, |spread| spread.median);
    Some(Ratio {
        row,
        other,
        goal,
        ratio: Spread::of(used.iter().map(|(our, their, _)| our / their))?,
        values: [middle(used.iter().map(|it| it.0).collect()), middle(used.iter().map(|it| it.1).collect())],
        done: [done(System::Portcullis), done(other)],
        rounds: [used.len(), if quiet_is_enough { 0 } else { noisy }],
    })
}

/// The row's own figures of a system that count.
fn counted<'a>(records: &'a [Record], row: &'a str, system: System) -> impl Iterator<Item = &'a Record> {
    records.iter().filter(move |it| it.row == row && it.system == system && !it.curve && !it.crashed)
}

/// Rows in which we crashed, or did not do all that was asked for.
pub fn failures(records: &[Record]) -> Vec<&'static str> {
    let ours = |it: &&Record| it.system == System::Portcullis && !it.curve;
    let fails = |it: &Record| it.crashed || it.figure(DONE).is_some_and(|done| done < ALL_PERCENT);
    let fails_in = |row: &&Row| records.iter().filter(ours).any(|it| it.row == row.name && fails(it));
    ROWS.iter().filter(fails_in).map(|row| row.name).collect()
}

/// How many goals were reached, and where a peer does the same job for less.
pub fn draw_verdict(ratios: &[Ratio]) -> String {
    let met = ratios.iter().filter(|it| it.is_met()).count();
    let behind = |it: &&Ratio| (it.ratio.median > 1.0) != it.row.more_is_better && it.ratio.median != 1.0;
    let wins = ratios.iter().filter(|it| !it.other.is_floor()).filter(behind);
    let wins: Vec<String> = wins.map(|it| format!("{} ({})", it.row.name, it.other.name())).collect();
    let wins = if wins.is_empty() { "nowhere".into() } else { wins.join(", ") };
    format!("goals met: {met} of {}; a peer is better in: {wins}\n", ratios.len())
}

/// The ratios as lines.
pub fn draw_ratios(ratios: &[Ratio]) -> String {
    let mut text = String::from("ratios: ours beside theirs, within the same round\n");
    for it in ratios {
        let goal = if it.row.more_is_better { "at least" } else { "at most" };
        let verdict = if it.is_met() { "met" } else { "MISSED" };
        let [rounds, noisy] = it.rounds;
        let mut notes = if noisy > 0 { format!(", {noisy} of them noisy") } else { String::new() };
        for (whose, done) in ["ours", "theirs"].into_iter().zip(it.done) {
            if done < ALL_PERCENT {
                notes.push_str(&format!(", {whose} DID {} %", short(done)));
            }
        }
        let line = format!(
            "  {:<20} {:>6} of {:<27} goal {goal} {:<5} {verdict:<7} {} : {} {}, {rounds} rounds{notes}",
            it.row.name,
            short(it.ratio.median),
            it.other.name(),
            it.goal,
            short(it.values[0]),
            short(it.values[1]),
            it.row.figure,
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

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

    fn record(system: System, round: u32, cpu: f64, noisy: bool) -> Record {
        Record { noisy, ..Record::new("handshake", system, round, 1.0).with(CPU, cpu) }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let mut records = vec![
            record(System::Portcullis, 0, 10.0, false),
            record(System::KamailioEdge, 0, 100.0, false),
            record(System::Portcullis, 1, 60.0, false),
            record(System::KamailioEdge, 1, 200.0, true),
            record(System::Portcullis, 2, 1.0, false),
        ];
        let found = ratios(&records);
        assert_eq!(found.len(), 1, "the floor was not measured");
        assert_eq!((found[0].ratio.min, found[0].ratio.max, found[0].rounds), (0.1, 0.3, [2, 1]));
        assert!(found[0].is_met());
        records.extend([3, 4].map(|round| record(System::Portcullis, round, 50.0, false)));
        records.extend([3, 4].map(|round| record(System::KamailioEdge, round, 100.0, false)));
        let found = ratios(&records);
        assert_eq!((found[0].ratio.median, found[0].rounds), (0.5, [3, 0]), "three quiet ones are enough");
        assert!(!found[0].is_met());
        assert!(draw_ratios(&found).contains("MISSED"));
        assert_eq!(draw_verdict(&found), "goals met: 0 of 1; a peer is better in: nowhere\n");
        let slow = [record(System::Portcullis, 0, 9.0, false), record(System::KamailioEdge, 0, 8.0, false)];
        assert!(draw_verdict(&ratios(&slow)).ends_with("in: handshake (kamailio edge)\n"));
    }

    #[test]
    fn who_does_half_of_the_job_has_reached_nothing() {
        let half = record(System::Portcullis, 0, 1.0, false).with(DONE, 50.0);
        let records = [half, record(System::KamailioEdge, 0, 100.0, false).with(DONE, 100.0)];
        let found = ratios(&records);
        assert!(!found[0].is_met());
        assert!(draw_ratios(&found).contains("MISSED") && draw_ratios(&found).contains("ours DID 50"));
        assert_eq!(failures(&records), ["handshake"]);
        assert!(failures(&records[1..]).is_empty(), "a peer's matter");
    }

    #[test]
    fn a_crash_leaves_no_figure() {
        let mut crashed = record(System::KamailioEdge, 0, 100.0, false);
        crashed.crashed = true;
        let records = [record(System::Portcullis, 0, 10.0, false), crashed];
        assert!(ratios(&records).is_empty());
        assert!(draw_table(&records).contains("1 CRASHED"));
    }
}
