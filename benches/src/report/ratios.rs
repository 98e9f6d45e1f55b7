//! The ratios: ours beside the others, and beside ourselves.

use std::collections::BTreeMap;

use super::record::{DONE, LIMITED, Record};
use super::rows::{OWN, Own, ROWS, Row, SOAK};
use crate::measure::figures::{Spread, short};
use crate::systems::System;

/// How many quiet rounds make the noisy ones superfluous.
const QUIET_ENOUGH: usize = 3;
/// Of what was asked for, so much is all of it: less is not the same job.
const ALL_PERCENT: f64 = 99.9;

/// Ours beside another figure, over all rounds in which both were measured.
#[derive(Debug)]
pub struct Ratio {
    /// Which row.
    pub row: &'static Row,
    /// Beside what.
    pub beside: Beside,
    /// What we want.
    pub goal: f64,
    /// Ours divided by the other's.
    pub ratio: Spread,
    /// Ours, and the other's, by the median.
    pub values: [f64; 2],
    /// How much of the job was done, by us and by the other, in the worst of the rounds, in percent.
    pub done: [f64; 2],
    /// Whether the generator was at its end before us, and before the other.
    pub limited: [bool; 2],
    /// Rounds, and how many of them were noisy.
    pub rounds: [usize; 2],
}

/// Whose figure the other one is.
#[derive(Clone, Copy, Debug)]
pub enum Beside {
    /// Another system's.
    System(System),
    /// Ours, in another state.
    Ourselves(&'static Own),
}

/// What is to be thought of a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was reached.
    Met,
    /// It seems so, but the measurement does not say it: all rounds were noisy, the other did less than the job,
    /// or might have done more.
    Doubtful,
    /// It was not.
    Missed,
}

impl Ratio {
    /// Whether the goal was reached, and by doing all that was asked for.
    pub fn verdict(&self) -> Verdict {
        let ratio = self.ratio.median;
        let reached = if self.row.more_is_better { ratio >= self.goal } else { ratio <= self.goal };
        let [rounds, noisy] = self.rounds;
        if self.done[0] < ALL_PERCENT || !reached {
            Verdict::Missed
        } else if noisy == rounds || self.done[1] < ALL_PERCENT || self.limited[1] {
            Verdict::Doubtful
        } else {
            Verdict::Met
        }
    }

    /// The peer that does the same job, all of it, for less.
    fn better_peer(&self) -> Option<System> {
        let Beside::System(other) = self.beside else { return None };
        let behind = self.ratio.median != 1.0 && (self.ratio.median > 1.0) != self.row.more_is_better;
        (behind && !other.is_floor() && self.done[1] >= ALL_PERCENT).then_some(other)
    }
}

/// Of every row with a goal that was measured.
pub fn ratios(records: &[Record]) -> Vec<Ratio> {
    let of = |row: &'static Row| {
        let others = row.goals.iter().map(|(other, goal)| (Beside::System(*other), *goal));
        let own = OWN.iter().filter(|own| own.row == row.name);
        let own = own.map(|own| (Beside::Ourselves(own), own.goal));
        others.chain(own).filter_map(move |(beside, goal)| ratio(records, row, beside, goal))
    };
    ROWS.iter().flat_map(of).collect()
}

/// The row's own figures of a system that count.
pub(super) fn counted<'a>(
    records: &'a [Record],
    row: &'a str,
    system: System,
) -> impl Iterator<Item = &'a Record> {
    records.iter().filter(move |it| it.row == row && it.system == system && !it.curve && !it.crashed)
}

/// By round: a figure of ours, the other, and whether either was noisy.
fn pairs(records: &[Record], row: &Row, beside: Beside) -> Vec<([f64; 2], bool)> {
    let ours = counted(records, row.name, System::Portcullis);
    let other = match beside {
        Beside::Ourselves(own) => {
            let long = ours.filter(|it| it.load >= own.from);
            // the figure is a ratio already
            return long.filter_map(|it| Some(([it.figure(own.figure)?, 1.0], it.noisy))).collect();
        }
        Beside::System(other) => other,
    };
    let theirs: BTreeMap<u32, &Record> = counted(records, row.name, other).map(|it| (it.round, it)).collect();
    // compared within a round: the machine is another one an hour later
    let pair = |our: &Record| {
        let their = theirs.get(&our.round)?;
        let figures = [our.figure(row.figure)?, their.figure(row.figure).filter(|figure| *figure > 0.0)?];
        Some((figures, our.noisy || their.noisy))
    };
    ours.filter_map(pair).collect()
}

fn ratio(records: &[Record], row: &'static Row, beside: Beside, goal: f64) -> Option<Ratio> {
    let other = match beside {
        Beside::System(other) => other,
        Beside::Ourselves(_) => System::Portcullis,
    };
    let both = [System::Portcullis, other];
    let done = |system: System| {
        counted(records, row.name, system).filter_map(|it| it.figure(DONE)).fold(100.0, f64::min)
    };
    let limited =
        |system: System| counted(records, row.name, system).any(|it| it.figure(LIMITED) == Some(1.0));
    let pairs = pairs(records, row, beside);
    let noisy = pairs.iter().filter(|(_, noisy)| *noisy).count();
    let quiet_is_enough = pairs.len() - noisy >= QUIET_ENOUGH;
    let used = || pairs.iter().filter(|(_, noisy)| !(quiet_is_enough && *noisy)).map(|(figures, _)| figures);
    let middle = |which: usize| Spread::of(used().map(|it| it[which])).map_or(0.0, |spread| spread.median);
    Some(Ratio {
        row,
        beside,
        goal,
        ratio: Spread::of(used().map(|[our, their]| our / their))?,
        values: [middle(0), middle(1)],
        done: both.map(done),
        limited: both.map(limited),
        rounds: [used().count(), if quiet_is_enough { 0 } else { noisy }],
    })
}

/// What ends a run with a failure: rows in which we crashed, or did not do all that was asked for, and what grew
/// in a soak.
pub fn failures(records: &[Record]) -> Vec<String> {
    let ours = |it: &&Record| it.system == System::Portcullis && !it.curve;
    let fails = |it: &Record| it.crashed || it.figure(DONE).is_some_and(|done| done < ALL_PERCENT);
    let fails_in = |row: &&Row| records.iter().filter(ours).any(|it| it.row == row.name && fails(it));
    let undone = ROWS.iter().filter(fails_in).map(|row| format!("{}: crashed, or did not do all", row.name));
    let ratios = ratios(records);
    let grown = ratios.iter().filter(|it| it.row.name == SOAK && it.verdict() == Verdict::Missed);
    let grown = grown.filter_map(|it| match it.beside {
        Beside::Ourselves(own) if it.ratio.median > own.goal => Some(format!(
            "{}: GREW to {} of {}, at most {} is allowed",
            own.row,
            short(it.ratio.median),
            own.beside,
            own.goal
        )),
        _ => None,
    });
    undone.chain(grown).collect()
}

/// How many goals were reached, and where a peer does the same job for less.
pub fn draw_verdict(ratios: &[Ratio]) -> String {
    if ratios.is_empty() {
        return "no ratios: they take portcullis and another system of the same row\n".into();
    }
    let count = |verdict| ratios.iter().filter(|it| it.verdict() == verdict).count();
    let doubtful = match count(Verdict::Doubtful) {
        0 => String::new(),
        doubtful => format!(", {doubtful} in doubt (met?)"),
    };
    let wins = ratios.iter().filter_map(|it| Some((it.row.name, it.better_peer()?.name())));
    let wins: Vec<String> = wins.map(|(row, peer)| format!("{row} ({peer})")).collect();
    let wins = if wins.is_empty() { "nowhere".into() } else { wins.join(", ") };
    format!("goals met: {} of {}{doubtful}; a peer is better in: {wins}\n", count(Verdict::Met), ratios.len())
}

/// The ratios as lines.
pub fn draw_ratios(ratios: &[Ratio]) -> String {
    if ratios.is_empty() {
        return String::new();
    }
    let lines: String = ratios.iter().map(draw_ratio).collect();
    format!("ratios: ours beside theirs, within the same round: median [least to most]\n{lines}")
}

fn draw_ratio(it: &Ratio) -> String {
    let goal = if it.row.more_is_better { "at least" } else { "at most" };
    let verdict = match it.verdict() {
        Verdict::Met => "met",
        Verdict::Doubtful => "met?",
        Verdict::Missed => "MISSED",
    };
    let ratio = if it.ratio.min < it.ratio.max { it.ratio.to_string() } else { short(it.ratio.median) };
    let (other, figures) = match it.beside {
        Beside::System(other) => {
            let [ours, theirs] = it.values.map(short);
            (other.name(), format!("{ours} : {theirs} {}, ", it.row.figure))
        }
        Beside::Ourselves(own) => (own.beside, String::new()),
    };
    let [rounds, noisy] = it.rounds;
    let rounds = if rounds == 1 { "1 round".into() } else { format!("{rounds} rounds") };
    let mut notes = if noisy > 0 { format!(", {noisy} of them noisy") } else { String::new() };
    for ((whose, done), limited) in ["ours", "theirs"].into_iter().zip(it.done).zip(it.limited) {
        if done < ALL_PERCENT {
            notes.push_str(&format!(", {whose} DID {} %", short(done)));
        }
        if limited {
            notes.push_str(&format!(", {whose} might do more: the generator was at its end"));
        }
        if matches!(it.beside, Beside::Ourselves(_)) {
            break;
        }
    }
    format!(
        "  {:<20} {ratio:<25} of {other:<27} goal {goal:<8} {:<5} {verdict:<6}  {figures}{rounds}{notes}\n",
        it.row.name, it.goal
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::record::{CPU, RATE};

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
        assert_eq!(found[0].verdict(), Verdict::Met);
        assert!(draw_ratios(&found).contains("  0.200 [0.100 to 0.300] "));
        records.extend([3, 4].map(|round| record(System::Portcullis, round, 50.0, false)));
        records.extend([3, 4].map(|round| record(System::KamailioEdge, round, 100.0, false)));
        let found = ratios(&records);
        assert_eq!((found[0].ratio.median, found[0].rounds), (0.5, [3, 0]), "three quiet ones are enough");
        assert_eq!(found[0].verdict(), Verdict::Missed);
        assert!(draw_ratios(&found).contains("MISSED"));
        assert_eq!(draw_verdict(&found), "goals met: 0 of 1; a peer is better in: nowhere\n");
        let slow = [record(System::Portcullis, 0, 9.0, false), record(System::KamailioEdge, 0, 8.0, false)];
        assert!(draw_verdict(&ratios(&slow)).ends_with("in: handshake (kamailio edge)\n"));
        assert!(draw_verdict(&ratios(&records[4..5])).starts_with("no ratios"));
    }

    #[test]
    fn who_does_half_of_the_job_has_reached_nothing() {
        let half = record(System::Portcullis, 0, 1.0, false).with(DONE, 50.0);
        let records = [half, record(System::KamailioEdge, 0, 100.0, false).with(DONE, 100.0)];
        let found = ratios(&records);
        assert_eq!(found[0].verdict(), Verdict::Missed);
        assert!(draw_ratios(&found).contains("MISSED") && draw_ratios(&found).contains("ours DID 50"));
        assert_eq!(failures(&records), ["handshake: crashed, or did not do all"]);
        assert!(failures(&records[1..]).is_empty(), "a peer's matter");
    }

    #[test]
    fn a_goal_is_in_doubt_where_noise_or_the_other_may_have_reached_it() {
        let beside = |ours: Record, theirs: Record| {
            let found = ratios(&[ours, theirs]);
            (found[0].verdict(), draw_verdict(&found))
        };
        let ours = |cpu| record(System::Portcullis, 0, cpu, false);
        let half = || record(System::KamailioEdge, 0, 100.0, false).with(DONE, 69.0);
        let noisy = || record(System::KamailioEdge, 0, 100.0, true);
        assert_eq!(beside(ours(1.0), noisy()).0, Verdict::Doubtful);
        assert_eq!(beside(ours(100.0), noisy()).0, Verdict::Missed);
        let (verdict, words) = beside(ours(1.0), half());
        assert_eq!(verdict, Verdict::Doubtful);
        assert_eq!(words, "goals met: 0 of 1, 1 in doubt (met?); a peer is better in: nowhere\n");
        assert!(beside(ours(200.0), half()).1.ends_with("nowhere\n"), "it did another job");
        let highest = |system, rate, limited| {
            Record::new("calls-max", system, 0, rate).with(RATE, rate).with(LIMITED, limited)
        };
        let theirs = |limited| highest(System::KamailioTopoh, 100.0, limited);
        assert_eq!(beside(highest(System::Portcullis, 900.0, 1.0), theirs(0.0)).0, Verdict::Met);
        assert_eq!(beside(highest(System::Portcullis, 900.0, 0.0), theirs(1.0)).0, Verdict::Doubtful);
    }

    #[test]
    fn we_are_measured_beside_ourselves() {
        let flood = Record::new("flood-quiet", System::Portcullis, 0, 1.0).with("of_quiet", 1.6);
        let found = ratios(std::slice::from_ref(&flood));
        assert_eq!((found.len(), found[0].verdict()), (1, Verdict::Missed));
        assert!(failures(&[flood]).is_empty(), "a goal that is missed is no failure");
    }

    #[test]
    fn a_soak_of_two_hours_fails_where_something_grew() {
        let soak = |seconds, memory, descriptors| {
            let soak = Record::new(SOAK, System::Portcullis, 0, seconds).with(DONE, 100.0);
            vec![soak.with("of_beginning", memory).with("descriptors_of_beginning", descriptors)]
        };
        assert!(failures(&soak(7_200.0, 1.04, 1.0)).is_empty());
        let grown = failures(&soak(7_200.0, 1.3, 1.2));
        assert_eq!(grown.len(), 2, "{grown:?}");
        assert_eq!(grown[0], "soak: GREW to 1.30 of its memory at first, at most 1.05 is allowed");
        assert!(ratios(&soak(7_000.0, 1.3, 1.2)).is_empty(), "caches still fill");
    }
}
