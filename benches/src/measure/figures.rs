//! Repeated runs as one figure: the median, with the best and the worst beside it.

use std::fmt;

/// The median of some runs, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Half of the runs are below.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of all runs; none where there was none.
    pub fn of(runs: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = runs.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), min, max })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{} to {}]", short(self.median), short(self.min), short(self.max))
    }
}

/// Three digits that count.
pub fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size < 0.1 => format!("{value:.4}"),
        size if size < 1.0 => format!("{value:.3}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads() {
        assert_eq!(Spread::of([]), None);
        for (runs, median, text) in [
            (vec![3.0], 3.0, "3.00 [3.00 to 3.00]"),
            (vec![4.0, 1.0], 2.5, "2.50 [1.00 to 4.00]"),
            (vec![9.0, 1.0, 2.0], 2.0, "2.00 [1.00 to 9.00]"),
        ] {
            let spread = Spread::of(runs).expect("there are runs");
            assert_eq!((spread.median, spread.to_string().as_str()), (median, text));
        }
    }
}
