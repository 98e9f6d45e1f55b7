//! What may stand in `[node] log`: a level for all, and levels for modules of ours.
//!
//! The filter behind it takes any word for the name of a module, of which it then waits to hear. So it would
//! take a level that is misspelt, and log nothing at all.

use super::document::{At, quoted_key};
use super::fault::{FaultCode, Faults, Problem};
use super::schema::nearest;

/// Every level.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// Whose lines there are: `event` and `config` are said by the shell, the others are crates.
const MODULES: [&str; 4] = ["event", "config", "net", "portcullis"];

/// Reports whatever is no level and no module of ours.
pub(super) fn check(log: &At<String>, faults: &mut Faults) {
    let mut for_all = false;
    for part in log.value.split(',').map(str::trim) {
        let slip = match part.split_once('=') {
            Some((module, level)) => slip_in(module, &MODULES, "module").or_else(|| no_level(level)),
            None => {
                for_all = true;
                no_level(part)
            }
        };
        if let Some((found, help)) = slip {
            report(log, "must be a level of logging, or levels by module", found, help, faults);
            return;
        }
    }
    if !for_all {
        let help = format!("put a level for all others in front, such as \"info,{}\"", log.value);
        let found = "levels of modules alone".to_owned();
        report(log, "would leave out every line of the other modules", found, help, faults);
    }
}

fn no_level(word: &str) -> Option<(String, String)> {
    let (found, help) = slip_in(word, &LEVELS, "level")?;
    // A longer word for a level is further from it than a slip of the fingers.
    let meant = LEVELS.iter().find(|level| word.to_ascii_lowercase().starts_with(**level));
    Some((found, meant.map_or(help, |level| format!("did you mean `{level}`?"))))
}

/// What was found in place of one of the words, and what to write.
fn slip_in(word: &str, known: &[&str], kind: &str) -> Option<(String, String)> {
    if known.contains(&word) {
        return None;
    }
    let help = match nearest(word, known.iter().copied()).filter(|_| !word.is_empty()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            format!(
                "write one {kind} of {}; a whole value is \"info\", or \"info,net=debug\"",
                known.join(", ")
            )
        }
    };
    Some((format!("`{word}` is no {kind}"), help))
}

fn report(log: &At<String>, message: &str, found: String, help: String, faults: &mut Faults) {
    let message = format!("{} {message}", quoted_key(&log.place.key));
    faults.error(&log.place, Problem::new(FaultCode::BadValue, message, found, help));
}

#[cfg(test)]
mod tests {
    use super::super::fault::{Place, Report};
    use super::*;

    fn help(log: &str) -> Option<String> {
        let mut faults = Faults::default();
        let at =
            At { value: log.to_owned(), place: Place { key: "node.log".to_owned(), ..Place::default() } };
        check(&at, &mut faults);
        let report = Report::new(std::path::Path::new("test.toml"), String::new(), faults);
        assert!(report.faults().len() <= 1, "{log}: {report:?}");
        report.faults().first().map(|fault| fault.problem.help.clone())
    }

    #[test]
    fn levels_and_our_modules_are_taken() {
        for log in ["error", "warn", "info", "debug", "trace", "off", "info,net=debug", "off, event=info"] {
            assert_eq!(help(log), None, "{log}");
        }
    }

    #[test]
    fn a_word_that_would_silence_everything_is_a_fault_with_what_was_meant() {
        for (log, meant) in [
            ("warning", "did you mean `warn`?"),
            ("information", "did you mean `info`?"),
            ("dbug", "did you mean `debug`?"),
            ("info,nett=debug", "did you mean `net`?"),
            ("info,net=debugg", "did you mean `debug`?"),
            ("info,evnt=warn", "did you mean `event`?"),
        ] {
            assert_eq!(help(log).as_deref(), Some(meant), "{log}");
        }
        for (log, part) in [
            ("verbose", "error, warn, info"),
            ("", "error, warn, info"),
            ("info,", "error, warn, info"),
            ("info,tokio=debug", "event, config, net, portcullis"),
            ("info,net=", "error, warn, info"),
            ("net=debug", "\"info,net=debug\""),
        ] {
            let help = help(log).unwrap_or_else(|| panic!("{log:?} is taken"));
            assert!(help.contains(part), "{log}: {help}");
        }
    }
}
