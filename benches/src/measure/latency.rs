//! How long things took: all of them kept, so that the worst of a thousand is a fact and no estimate.

use std::time::Duration;

/// The shares that are reported, by name.
pub const SHARES: [(&str, f64); 5] =
    [("p50_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99), ("p999_us", 0.999), ("max_us", 1.0)];

/// Of each operation, in the order in which they ended.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    micros: Vec<f32>,
}

impl Latencies {
    /// One more.
    pub fn add(&mut self, took: Duration) {
        self.micros.push(took.as_secs_f32() * 1e6);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.micros.len() as u64
    }

    /// For each of [`SHARES`] the time in microseconds that this share took at most; none where there are none.
    pub fn quantiles(&self) -> Option<[f64; SHARES.len()]> {
        let mut sorted = self.micros.clone();
        sorted.sort_by(f32::total_cmp);
        let last = *sorted.last()?;
        Some(SHARES.map(|(_, share)| {
            let rank = (sorted.len() as f64 * share) as usize;
            f64::from(sorted.get(rank).copied().unwrap_or(last))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_values() {
        assert_eq!(Latencies::default().quantiles(), None);
        let mut latencies = Latencies::default();
        for micros in (1..=1_000).rev() {
            latencies.add(Duration::from_micros(micros));
        }
        let near = latencies.quantiles().expect("there are values").map(f64::round);
        assert_eq!(near, [501.0, 901.0, 991.0, 1_000.0, 1_000.0]);
        assert_eq!(latencies.count(), 1_000);
    }
}
