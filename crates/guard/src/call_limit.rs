//! Call frequency: exact sliding windows over the start times of calls.
//!
//! For a rule of N calls in a period, no half-open window of that length ever holds more than N starts:
//! a call is admitted when the Nth last one began at least a period ago. (A token bucket would admit up to
//! 2N−1.) Never counts a refused call; never remembers more start times than the largest rule asks for.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use wire::clock::Instant;

/// At most `calls` may start in any `period`; written `5/1s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallRule {
    /// How many; at least one.
    pub calls: u32,
    /// In which time; more than nothing.
    pub period: Duration,
}

impl CallRule {
    /// The most calls that a rule may name: it bounds the memory of a [`CallLimit`]. A larger rule, made
    /// by hand, counts as this.
    pub const CALLS_MAX: u32 = 10_000;
    /// The longest period that a rule may name.
    pub const PERIOD_MAX: Duration = Duration::from_secs(366 * 86_400);

    /// How long a call at `now` must wait under this rule, given the starts of earlier calls in order.
    fn wait(&self, starts: &VecDeque<Instant>, now: Instant) -> Duration {
        let nth_last = starts.len().checked_sub(self.counted()).map(|index| starts.get(index));
        match nth_last {
            None => Duration::ZERO,
            Some(Some(start)) => self.period.saturating_sub(now.since(*start)),
            // A rule of no calls.
            Some(None) => self.period,
        }
    }

    /// How many start times the rule looks back.
    fn counted(&self) -> usize {
        usize::try_from(self.calls.min(Self::CALLS_MAX)).unwrap_or(usize::MAX)
    }
}

/// The units of a period, largest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl FromStr for CallRule {
    type Err = CallRuleError;

    fn from_str(text: &str) -> Result<Self, CallRuleError> {
        let (calls, period) = text.split_once('/').ok_or(CallRuleError::Form)?;
        let calls = number(calls).ok_or(CallRuleError::Calls)?;
        let unit_at = period.find(|c: char| !c.is_ascii_digit()).ok_or(CallRuleError::Period)?;
        let (amount, unit) = period.split_at(unit_at);
        let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(CallRuleError::Period)?;
        let period = number(amount)
            .and_then(|amount| amount.checked_mul(*unit_ms))
            .map(Duration::from_millis)
            .filter(|period| !period.is_zero() && *period <= Self::PERIOD_MAX)
            .ok_or(CallRuleError::Period)?;
        let calls = u32::try_from(calls).ok().filter(|calls| (1..=Self::CALLS_MAX).contains(calls));
        Ok(Self { calls: calls.ok_or(CallRuleError::Calls)?, period })
    }
}

/// Digits only: `u64::from_str` alone would take a plus sign.
fn number(digits: &str) -> Option<u64> {
    if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}

impl fmt::Display for CallRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let period_ms = self.period.as_millis();
        let whole = UNITS.iter().find(|(_, unit_ms)| period_ms.is_multiple_of(u128::from(*unit_ms)));
        let (unit, unit_ms) = whole.copied().unwrap_or(("ms", 1));
        write!(f, "{}/{}{unit}", self.calls, period_ms / u128::from(unit_ms))
    }
}

/// Why a text is no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallRuleError {
    /// There is no slash.
    Form,
    /// The number of calls is none, or out of range.
    Calls,
    /// The period is none, or out of range.
    Period,
}

impl fmt::Display for CallRuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("not a rule: write calls and period, as in 5/1s"),
            Self::Calls => write!(f, "the number of calls must be 1 to {}", CallRule::CALLS_MAX),
            Self::Period => f.write_str("the period must be 1ms to 366d, with one unit of ms, s, m, h, d"),
        }
    }
}

impl std::error::Error for CallRuleError {}

/// The calls of one extension, or of one trunk, held to their rules.
#[derive(Clone, Debug)]
pub struct CallLimit {
    rules: Vec<CallRule>,
    /// Start times of admitted calls in order, as many as the largest rule counts.
    starts: VecDeque<Instant>,
}

/// A call that must not start now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The rule that makes it wait longest.
    pub rule: CallRule,
    /// A call this much later is admitted, if none starts before it.
    pub retry_after: Duration,
}

impl CallLimit {
    /// Calls that must keep all of `rules`; no rule admits everything.
    pub fn new(rules: Vec<CallRule>) -> Self {
        Self { rules, starts: VecDeque::new() }
    }

    /// Admits a call that starts `now`, or says how long it must wait. A refused call is not counted.
    pub fn admit(&mut self, now: Instant) -> Result<(), Refusal> {
        // Start times must rise, or the windows would not hold.
        let now = self.starts.back().map_or(now, |last| now.max(*last));
        let refusal = self
            .rules
            .iter()
            .map(|rule| Refusal { rule: *rule, retry_after: rule.wait(&self.starts, now) })
            .max_by_key(|refusal| refusal.retry_after)
            .filter(|refusal| !refusal.retry_after.is_zero());
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        self.starts.push_back(now);
        self.forget_surplus();
        Ok(())
    }

    fn forget_surplus(&mut self) {
        let most = self.rules.iter().map(CallRule::counted).max().unwrap_or(0);
        let surplus = self.starts.len().saturating_sub(most);
        self.starts.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_starts_are_kept_than_the_largest_rule_counts() {
        let rule = |calls, secs| CallRule { calls, period: Duration::from_secs(secs) };
        for (rules, most) in
            [(vec![], 0), (vec![rule(3, 1)], 3), (vec![rule(1, 5), rule(4, 5), rule(2, 5)], 4)]
        {
            let mut limit = CallLimit::new(rules);
            for secs in 0..20 {
                assert!(limit.admit(Instant::ZERO + Duration::from_secs(5 * secs)).is_ok());
                assert!(limit.starts.len() <= most, "{} kept, {most} count", limit.starts.len());
            }
            assert_eq!(limit.starts.len(), most);
        }
    }
}
