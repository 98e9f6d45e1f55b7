//! Events on their way to people: a line in the log, a row in the record that `portcullis events` shows.
//!
//! Never lets a flood fill the disk: of each kind at most ten lines a second are written, the rest is
//! counted and said in one line.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use border::event::{Code, Event, Severity};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use wire::clock::Instant;

use crate::admin::server::AdminFeed;
use crate::clock::Clock;
use crate::config::file::LogFormat;
use crate::log::LogThread;

/// Lines of one kind in one window.
const LINES_MAX: u32 = 10;

/// The window.
const WINDOW: Duration = Duration::from_secs(1);

/// Begins to log to `out`. Once in a process.
pub fn start_log(
    out: impl Write + Send + 'static,
    clock: Clock,
    levels: &str,
    format: LogFormat,
) -> Result<LogThread, LogError> {
    let filter = EnvFilter::try_new(levels).map_err(|_| LogError::Levels(levels.to_owned()))?;
    let thread = LogThread::start(out, clock, format)?;
    // What `tracing-subscriber` itself has to say it says on standard error, and panics where it cannot.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    let builder = builder.with_writer(thread.log());
    let started = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Journald => builder.event_format(Journald).try_init(),
    };
    started.map_err(|_| LogError::Twice)?;
    Ok(thread)
}

/// Why logging cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// No levels.
    #[error("`{0}` names no level of logging")]
    Levels(String),
    /// No thread.
    #[error("the log cannot be written: {0}")]
    System(#[from] io::Error),
    /// It has begun.
    #[error("logging has begun already")]
    Twice,
}

/// Lines as journald reads them from standard error: priority in front, no time.
struct Journald;

impl<S, N> FormatEvent<S, N> for Journald
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            tracing::Level::ERROR => 3,
            tracing::Level::WARN => 4,
            tracing::Level::INFO => 6,
            _ => 7,
        };
        write!(writer, "<{priority}>{}: ", event.metadata().target())?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Writes and records events.
#[derive(Debug)]
pub struct EventLog {
    feed: AdminFeed,
    format: LogFormat,
    /// The node that programs read of in each line.
    node: String,
    windows: BTreeMap<Code, Window>,
    unrecorded: u64,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    since: Instant,
    written: u32,
    suppressed: u64,
}

impl EventLog {
    /// `feed` leads to the record; `node` is the name of this one.
    pub fn new(feed: AdminFeed, format: LogFormat, node: String) -> Self {
        Self { feed, format, node, windows: BTreeMap::new(), unrecorded: 0 }
    }

    /// Writes one event, unless ten of its kind were written within this second, and records it.
    pub fn record(&mut self, event: Event, now: Instant) {
        self.end_windows(now);
        let window =
            self.windows.entry(event.code).or_insert(Window { since: now, written: 0, suppressed: 0 });
        if window.written < LINES_MAX {
            window.written += 1;
            write_event(&event, self.format, &self.node);
        } else {
            window.suppressed += 1;
        }
        if !self.feed.event(event) {
            self.unrecorded += 1;
        }
    }

    /// When [`EventLog::handle_timeout`] has something to say.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let crowded = self.windows.values().filter(|window| window.suppressed > 0);
        crowded.map(|window| window.since + WINDOW).min()
    }

    /// Says how many lines were left out.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.end_windows(now);
    }

    fn end_windows(&mut self, now: Instant) {
        self.windows.retain(|code, window| {
            let open = now < window.since + WINDOW;
            if !open && window.suppressed > 0 {
                let (code, left_out) = (code.as_str(), window.suppressed);
                tracing::warn!(target: "event", code, left_out, "{left_out} more of {code} within a second");
            }
            open
        });
        if self.unrecorded > 0 && self.windows.is_empty() {
            let lost = std::mem::take(&mut self.unrecorded);
            tracing::warn!(lost, "{lost} events came too fast for the record");
        }
    }
}

fn write_event(event: &Event, format: LogFormat, node: &str) {
    let line = line(event);
    match (format, event.severity) {
        (LogFormat::Json, _) => write_json(event, node, &line),
        (_, Severity::Info) => tracing::info!(target: "event", "{line}"),
        (_, Severity::Warning) => tracing::warn!(target: "event", "{line}"),
        (_, Severity::Error) => tracing::error!(target: "event", "{line}"),
    }
}

fn write_json(event: &Event, node: &str, line: &str) {
    let (code, severity) = (event.code.as_str(), event.severity.as_str());
    let source = event.source.map(|source| source.to_string());
    let extension = event.extension.as_deref();
    let hardware_id = event.hardware_id.as_deref();
    let rule = event.rule.as_deref();
    match event.severity {
        Severity::Info => {
            tracing::info!(target: "event", node, code, severity, source, extension, hardware_id, rule, "{line}");
        }
        Severity::Warning => {
            tracing::warn!(target: "event", node, code, severity, source, extension, hardware_id, rule, "{line}");
        }
        Severity::Error => {
            tracing::error!(target: "event", node, code, severity, source, extension, hardware_id, rule, "{line}");
        }
    }
}

/// What happened, to whom, why, and what to do, in one line.
fn line(event: &Event) -> String {
    let mut line = event.code.as_str().to_owned();
    let source = event.source.map(|source| source.to_string());
    let parts = [
        ("source", source.as_deref()),
        ("extension", event.extension.as_deref()),
        ("hardware_id", event.hardware_id.as_deref()),
        ("rule", event.rule.as_deref()),
    ];
    for (name, value) in parts {
        if let Some(value) = value {
            line.push_str(&format!(" {name}={value}"));
        }
    }
    line.push_str(": ");
    line.push_str(&event.text);
    if !event.next_step.is_empty() {
        line.push_str(" → ");
        line.push_str(&event.next_step);
    }
    // What a stranger chose must not look like a line of ours.
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use wire::clock::WallTime;

    use super::*;
    use crate::admin::server::lanes;

    /// Lines that were written while `act` ran: as for journald, or as JSON.
    fn written_as(json: bool, act: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Lines(Arc<Mutex<Vec<u8>>>);
        impl Write for Lines {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::default();
        let writer = lines.clone();
        let builder = tracing_subscriber::fmt().with_writer(move || writer.clone());
        if json {
            tracing::subscriber::with_default(builder.json().flatten_event(true).finish(), act);
        } else {
            tracing::subscriber::with_default(builder.event_format(Journald).finish(), act);
        }
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn written(act: impl FnOnce()) -> String {
        written_as(false, act)
    }

    fn event(code: Code, text: &str) -> Event {
        Event {
            time: WallTime(0),
            code,
            severity: Severity::Warning,
            source: Some("127.0.9.9:4000".parse().unwrap()),
            extension: Some("1001".to_owned()),
            hardware_id: None,
            rule: Some("device_ca".to_owned()),
            text: text.to_owned(),
            next_step: "look at it".to_owned(),
        }
    }

    fn seconds(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn an_event_is_one_line_whatever_its_text_holds() {
        let (feed, _record) = lanes();
        let lines = written(|| {
            let mut log = EventLog::new(feed, LogFormat::Text, "edge".to_owned());
            log.record(event(Code::CertUntrusted, "unknown\r\nissuer\u{1b}[2J"), seconds(0));
        });
        let expected = "<4>event: cert_untrusted source=127.0.9.9:4000 extension=1001 rule=device_ca: unknown  \
                        issuer [2J → look at it\n";
        assert_eq!(lines, expected);
    }

    #[test]
    fn programs_read_which_node_wrote_a_line() {
        let (feed, _record) = lanes();
        let lines = written_as(true, || {
            let mut log = EventLog::new(feed, LogFormat::Json, "edge".to_owned());
            log.record(event(Code::CertUntrusted, "unknown"), seconds(0));
        });
        let line: serde_json::Value = serde_json::from_str(&lines).unwrap();
        assert_eq!((&line["node"], &line["code"]), (&"edge".into(), &"cert_untrusted".into()));
    }

    #[test]
    fn a_flood_is_summed_up_and_other_kinds_are_heard() {
        let (feed, _record) = lanes();
        let lines = written(|| {
            let mut log = EventLog::new(feed, LogFormat::Text, "edge".to_owned());
            for _ in 0..500 {
                log.record(event(Code::Malformed, "garbage"), seconds(5));
            }
            log.record(event(Code::Blocked, "blocked"), seconds(5));
            assert_eq!(log.poll_timeout(), Some(seconds(6)));
            log.handle_timeout(seconds(6));
            assert_eq!(log.poll_timeout(), None);
            log.record(event(Code::Malformed, "garbage"), seconds(6));
        });
        assert_eq!(lines.matches(": garbage").count(), 11, "{lines}");
        assert_eq!(lines.matches(": blocked →").count(), 1, "{lines}");
        assert_eq!(lines.matches("490 more of malformed within a second").count(), 1, "{lines}");
    }
}
