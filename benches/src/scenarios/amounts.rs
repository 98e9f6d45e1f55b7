//! How much of everything: for a run that counts, for a quick look, and for the tests.

use std::io;

use clap::ValueEnum;

use super::{Amount, SCENARIOS, Scenario};
use crate::report::rows::ROWS;
use crate::systems::System;

impl Amount {
    /// A run that counts; the README says how long it takes.
    pub fn full() -> Self {
        Self {
            rounds: 3,
            tail_rounds: 5,
            seconds: 2.0,
            phones: 600,
            storm: [1_500, 300],
            handshakes: 300.0,
            refreshes: 1_000.0,
            keepalives: 1_000.0,
            registers: 4_000.0,
            calls: 400.0,
            media_calls: 200.0,
            hold: 0.3,
            sessions: 800,
            more_sessions: vec![50, 100, 200, 400, 1_300],
            flood: 20_000.0,
            datagrams: 40_000.0,
            half_open: 500.0,
            point: Some(1.0),
            soak: 60.0,
        }
    }

    /// A quick look: one round.
    pub fn quick() -> Self {
        Self {
            rounds: 1,
            tail_rounds: 3,
            seconds: 1.0,
            phones: 400,
            storm: [400, 200],
            sessions: 100,
            more_sessions: vec![50, 200, 400],
            point: None,
            soak: 10.0,
            ..Self::full()
        }
    }

    /// As little as can be seen: whether the kit itself works.
    pub fn tiny() -> Self {
        Self {
            tail_rounds: 1,
            seconds: 1.0,
            phones: 8,
            storm: [8, 4],
            handshakes: 20.0,
            refreshes: 20.0,
            keepalives: 20.0,
            registers: 20.0,
            calls: 10.0,
            media_calls: 10.0,
            hold: 0.05,
            sessions: 3,
            flood: 200.0,
            datagrams: 200.0,
            half_open: 20.0,
            soak: 2.0,
            ..Self::quick()
        }
    }
}

/// The scenarios that measure these rows, all where none is named, and through which one of these systems goes.
pub(super) fn chosen(rows: &[String], systems: &[System]) -> io::Result<Vec<&'static Scenario>> {
    let known = || ROWS.iter().map(|row| row.name);
    if let Some(unknown) = rows.iter().find(|row| !known().any(|name| name == *row)) {
        let names = known().collect::<Vec<_>>().join(", ");
        return Err(io::Error::other(format!("there is no row {unknown:?}; there are: {names}")));
    }
    let takes_part =
        |it: &&Scenario| systems.is_empty() || it.systems.iter().any(|system| systems.contains(system));
    for row in rows {
        let measuring = SCENARIOS.iter().find(|it| it.rows.contains(&row.as_str()));
        if let Some(without) = measuring.filter(|it| !takes_part(it)) {
            let (there, asked) = (options(without.systems), options(systems));
            return Err(io::Error::other(format!("{row} is measured of {there}, not of {asked}")));
        }
    }
    let wanted = |it: &&Scenario| rows.is_empty() || rows.iter().any(|row| it.rows.contains(&row.as_str()));
    Ok(SCENARIOS.iter().filter(wanted).filter(takes_part).collect())
}

/// Systems as they are asked for.
fn options(systems: &[System]) -> String {
    let values = systems.iter().filter_map(ValueEnum::to_possible_value);
    values.map(|value| value.get_name().to_owned()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_scenario_and_every_scenario_its_rows() {
        for row in ROWS {
            let measuring = SCENARIOS.iter().filter(|it| it.rows.contains(&row.name)).collect::<Vec<_>>();
            assert_eq!(measuring.len(), 1, "{}", row.name);
            for (system, _) in row.goals {
                assert!(measuring[0].systems.contains(system), "{} beside {system:?}", row.name);
            }
        }
        assert!(SCENARIOS.iter().flat_map(|it| it.rows).all(|name| ROWS.iter().any(|row| row.name == *name)));
    }

    #[test]
    fn rows_choose_their_scenarios() {
        assert_eq!(chosen(&[], &[]).unwrap().len(), SCENARIOS.len());
        assert_eq!(chosen(&["rtp".into(), "rtp-p99".into()], &[]).unwrap().len(), 1);
        assert!(chosen(&["rpt".into()], &[]).is_err());
    }

    #[test]
    fn a_row_that_none_of_the_systems_goes_through_is_no_success() {
        let sink = [System::FloorSink];
        assert!(chosen(&[], &sink).unwrap().iter().all(|it| it.systems.contains(&System::FloorSink)));
        let fault = chosen(&["blocked".into(), "calls".into()], &sink).unwrap_err().to_string();
        assert_eq!(
            fault,
            "calls is measured of portcullis, kamailio-topoh, floor-forward, not of floor-sink"
        );
    }
}
