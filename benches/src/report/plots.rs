//! Which plots a run gives: latency over load for each row that has a curve, and the soak over time.

use super::record::{DONE, Record};
use super::rows;
use super::svg::{Axis, Line, Plot, Scale};
use crate::systems::System;

/// Rows with a curve, and what their load is.
const CURVES: [(&str, &str); 6] = [
    ("refresh-tls", "REGISTER a second"),
    ("handshake-max", "handshakes a second"),
    ("register-passed", "REGISTER a second"),
    ("calls", "calls a second"),
    ("calls-media", "calls a second"),
    ("rtp", "sessions (100 packets a second each)"),
];
/// What the soak shows over time: figure, title, unit.
const SOAK: [(&str, &str, &str); 2] = [
    ("memory_mb", "Memory of Portcullis during a soak", "MB (PSS)"),
    ("descriptors", "Descriptors of Portcullis during a soak", "open descriptors"),
];
/// A point at which less was done says nothing of latency.
const DONE_MIN: f64 = 90.0;

/// Of these records: the name of the file, and the plot.
pub fn of(records: &[Record]) -> Vec<(String, Plot)> {
    let latency = CURVES.iter().filter_map(|(row, load)| latency(records, row, load));
    let soak = SOAK.iter().filter_map(|(figure, title, unit)| soak(records, figure, title, unit));
    latency.chain(soak).collect()
}

fn latency(records: &[Record], row: &str, load: &str) -> Option<(String, Plot)> {
    let points: Vec<&Record> = records.iter().filter(|it| it.row == row && it.curve).collect();
    let mut systems: Vec<System> = points.iter().map(|it| it.system).collect();
    systems.sort_unstable();
    systems.dedup();
    let mut lines = Vec::new();
    for (colour, system) in systems.iter().enumerate() {
        for (dashes, figure) in [(0, "p50_us"), (1, "p99_us")] {
            let own = points.iter().filter(|it| it.system == *system && it.figure(DONE) >= Some(DONE_MIN));
            let mut points: Vec<[f64; 2]> =
                own.filter_map(|it| Some([it.load, it.figure(figure)?])).collect();
            points.sort_by(|a, b| a[0].total_cmp(&b[0]));
            // of a point that was tried twice, the second: the first one's stall was the machine's, or comes again
            points.reverse();
            points.dedup_by(|a, b| a[0] == b[0]);
            points.reverse();
            let name = format!("{}, {}", system.name(), figure.trim_end_matches("_us"));
            lines.push(Line { name, colour, dashes, points });
        }
    }
    lines.retain(|line| !line.points.is_empty());
    let noisy = points.iter().filter(|it| it.noisy).count();
    let undone = points.iter().filter(|it| it.figure(DONE) < Some(DONE_MIN)).count();
    let left_out = match undone {
        0 => String::new(),
        undone => format!("; {undone} with less than {DONE_MIN} % done are left out"),
    };
    let what = rows::find(row).map_or(row, |row| row.what);
    (!lines.is_empty()).then(|| {
        let plot = Plot {
            title: format!("Latency over load: {what}"),
            subtitle: format!(
                "one CPU for the system; {noisy} of {} points were noisy{left_out}",
                points.len()
            ),
            axes: [
                Axis { title: load.into(), scale: Scale::Logarithmic },
                Axis { title: "latency in microseconds".into(), scale: Scale::Logarithmic },
            ],
            lines,
        };
        (format!("latency-{row}"), plot)
    })
}

fn soak(records: &[Record], figure: &str, title: &str, unit: &str) -> Option<(String, Plot)> {
    let own = records.iter().filter(|it| it.row == rows::SOAK && it.curve);
    let points: Vec<[f64; 2]> = own.filter_map(|it| Some([it.load / 60.0, it.figure(figure)?])).collect();
    (!points.is_empty()).then(|| {
        let line = Line { name: System::Portcullis.name().into(), colour: 0, dashes: 0, points };
        let axis = |title: &str| Axis { title: title.into(), scale: Scale::Linear };
        let plot = Plot {
            title: title.into(),
            subtitle: "TLS phones that refresh, call, and lose their connections".into(),
            axes: [axis("minutes"), axis(unit)],
            lines: vec![line],
        };
        (format!("soak-{}", figure.trim_end_matches("_mb")), plot)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_and_soaks_are_drawn_and_single_figures_are_not() {
        let point = |row, load: f64| Record::new(row, System::Portcullis, 0, load).with(DONE, 100.0);
        let records = [
            point("calls", 100.0).with("p50_us", 300.0).with("p99_us", 900.0).on_curve(),
            point("calls", 150.0).with("p50_us", 310.0).with("p99_us", 990.0).on_curve(),
            point("calls", 200.0).with("p50_us", 99_000.0).with("p99_us", 99_999.0).on_curve(),
            point("calls", 200.0).with("p50_us", 320.0).with("p99_us", 999.0).on_curve(),
            point("calls", 300.0).with("p50_us", 1.0).with(DONE, 20.0).on_curve(),
            point("calls", 400.0).with("p50_us", 1.0),
            point("soak", 60.0).with("memory_mb", 20.0).with("descriptors", 300.0).on_curve(),
        ];
        let plots = of(&records);
        let names: Vec<&str> = plots.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["latency-calls", "soak-memory", "soak-descriptors"]);
        assert_eq!(plots[0].1.lines.len(), 2);
        assert_eq!(plots[0].1.lines[0].points, [[100.0, 300.0], [150.0, 310.0], [200.0, 320.0]]);
        assert!(
            plots[0]
                .1
                .subtitle
                .ends_with("0 of 5 points were noisy; 1 with less than 90 % done are left out")
        );
    }
}
