//! What a failure tells of events and times, for people to read.

use border::Event;
use wire::clock::Instant;

/// Since the world began.
pub(crate) fn seconds(at: Instant) -> f64 {
    at.since(Instant::ZERO).as_secs_f64()
}

/// `blocked 192.0.2.7:5060 1001: What happened.`
pub(crate) fn of_event(event: &Event) -> String {
    let Event { code, source, extension, rule, text, .. } = event;
    let rule = rule.as_ref().map(|rule| format!("(by {rule})"));
    let who = [source.map(|source| source.to_string()), extension.clone(), rule].into_iter().flatten();
    let who: String = who.map(|who| format!(" {who}")).collect();
    format!("{}{who}: {text}", code.as_str())
}

/// Rules tell what they remember as Rust writes it down; its times become seconds, as they stand everywhere else.
pub(crate) fn with_seconds(words: &str) -> String {
    const BEGIN: &str = "Instant(";
    let mut told = String::with_capacity(words.len());
    let mut rest = words;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        told.push_str(before);
        let number = after.split_once(')').and_then(|(nanos, after)| Some((nanos.parse().ok()?, after)));
        match number {
            Some((nanos, after)) => {
                told.push_str(&format!("{:.3} s", seconds(Instant::from_nanos(nanos))));
                rest = after;
            }
            None => {
                told.push_str(BEGIN);
                rest = after;
            }
        }
    }
    told + rest
}

#[cfg(test)]
mod tests {
    use border::{Code, Severity};
    use wire::clock::WallTime;

    use super::*;

    #[test]
    fn times_are_told_in_seconds() {
        let due = Instant::from_nanos(25_316_675_000);
        assert_eq!(
            with_seconds(&format!("{:?} was due at {due:?}", Some(due))),
            "Some(25.317 s) was due at 25.317 s"
        );
        assert_eq!(with_seconds("Instant(x), Instant("), "Instant(x), Instant(");
        assert_eq!(with_seconds("nothing"), "nothing");
    }

    #[test]
    fn an_event_is_a_line() {
        let mut event = Event {
            time: WallTime(1),
            code: Code::Blocked,
            severity: Severity::Warning,
            source: "[2001:db8::44]:5060".parse().ok(),
            extension: None,
            hardware_id: None,
            rule: None,
            text: "It scanned.".to_owned(),
            next_step: "Nothing.".to_owned(),
        };
        assert_eq!(of_event(&event), "blocked [2001:db8::44]:5060: It scanned.");
        (event.source, event.extension, event.rule) = (None, Some("1001".into()), Some("operator".into()));
        assert_eq!(of_event(&event), "blocked 1001 (by operator): It scanned.");
    }
}
