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
        write!(f, "{:.2} [{:.2} to {:.2}]", self.median, self.min, self.max)
    }
}

/// The value below which this share of the sorted values lies; zero where there are none.
pub fn quantile(sorted: &[u32], share: f64) -> u32 {
    let index = (sorted.len() as f64 * share) as usize;
    sorted.get(index).or(sorted.last()).copied().unwrap_or_default()
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

    #[test]
    fn quantiles() {
        assert_eq!(quantile(&[], 0.5), 0);
        let sorted: Vec<u32> = (0..100).collect();
        assert_eq!((quantile(&sorted, 0.5), quantile(&sorted, 0.99), quantile(&sorted, 1.0)), (50, 99, 99));
    }
}
