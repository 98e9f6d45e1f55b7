//! The verbs that ask the running instance, and how their answers are shown.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

use super::table::{Column, Form, column, draw, seconds, terminal_width, wrap};
use super::{CliError, EXIT_WORLD};
use crate::admin::client::{Client, ClientError};
use crate::admin::protocol::{Request, Response};

const REGISTRATIONS: [Column; 8] = [
    column("extension", "EXT", Form::Text),
    column("hardware_id", "HARDWARE ID", Form::Whole),
    column("source", "SOURCE", Form::Whole),
    column("transport", "VIA", Form::Text),
    column("expires_s", "EXPIRES", Form::Seconds),
    column("pbx", "PBX", Form::Text),
    column("pbx_state", "STATE", Form::Text),
    column("pbx_expires_s", "AT PBX", Form::Seconds),
];

const CALLS: [Column; 8] = [
    column("id", "ID", Form::Number),
    column("extension", "EXT", Form::Text),
    column("direction", "DIR", Form::Text),
    column("peer", "PEER", Form::Text),
    column("state", "STATE", Form::Text),
    column("seconds", "FOR", Form::Seconds),
    column("packets_in", "IN", Form::Number),
    column("packets_out", "OUT", Form::Number),
];

const NAME: Column = column("display_name", "NAME", Form::Prose);

const BLOCKS: [Column; 7] = [
    column("range", "RANGE", Form::Whole),
    column("block_type", "TYPE", Form::Text),
    column("defense_type", "DEFENSE", Form::Text),
    column("protocol", "PROTO", Form::Text),
    column("port", "PORT", Form::Number),
    column("remaining_s", "LEFT", Form::Seconds),
    column("evidence", "EVIDENCE", Form::Prose),
];

const ALLOWED: [Column; 4] = [
    column("name", "NAME", Form::Text),
    column("address", "ADDRESS", Form::Whole),
    column("from_config", "IN FILE", Form::Flag),
    column("description", "DESCRIPTION", Form::Prose),
];

/// Asks and shows.
pub fn query(socket: &Path, request: Request, json: bool) -> Result<ExitCode, CliError> {
    let mut client = Client::connect(socket)?;
    let follow = matches!(request, Request::Events { follow: true, .. });
    if follow {
        client.wait_for_ever()?;
    }
    client.send(&request)?;
    let mut out = std::io::stdout().lock();
    let mut answered = false;
    while let Some(response) = client.receive()? {
        answered = true;
        let code = show(&request, response, json, &mut out)?;
        if !follow || code.is_some() {
            return Ok(code.unwrap_or(ExitCode::SUCCESS));
        }
        out.flush()?;
    }
    if answered {
        return Ok(ExitCode::SUCCESS);
    }
    let source = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    Err(ClientError::Broken { path: socket.to_owned(), source }.into())
}

/// Shows one answer; an exit code where it was a refusal.
fn show(
    request: &Request,
    response: Response,
    json: bool,
    out: &mut impl Write,
) -> Result<Option<ExitCode>, CliError> {
    match response {
        Response::Rows(rows) if json => write_json(&Value::Array(rows), out)?,
        Response::Rows(rows) => write!(out, "{}", rows_for_people(request, &rows))?,
        Response::Row(row) if json => {
            serde_json::to_writer(&mut *out, &row)?;
            writeln!(out)?;
        }
        Response::Row(row) => write!(out, "{}", event_for_people(&row))?,
        Response::Object(object) if json => write_json(&object, out)?,
        Response::Object(object) => write!(out, "{}", status_for_people(&object))?,
        Response::Done(text) if json => write_json(&serde_json::json!([{"done": text}]), out)?,
        Response::Done(text) => writeln!(out, "{text}")?,
        Response::Refused(text) => {
            writeln!(std::io::stderr(), "portcullis: {text}")?;
            return Ok(Some(ExitCode::from(EXIT_WORLD)));
        }
    }
    Ok(None)
}

fn write_json(value: &Value, out: &mut impl Write) -> Result<(), CliError> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    Ok(())
}

fn rows_for_people(request: &Request, rows: &[Value]) -> String {
    let (columns, none): (&[Column], &str) = match request {
        Request::Registrations => (&REGISTRATIONS, "nobody is registered\n"),
        Request::Calls => (&CALLS, "no call is up\n"),
        Request::BlockList => (&BLOCKS, "nobody is blocked\n"),
        Request::AllowList => (&ALLOWED, "nobody is on the allow list\n"),
        _ => (&[], "nothing of that happened\n"),
    };
    match (rows, columns) {
        ([], _) => none.to_owned(),
        (_, []) => rows.iter().map(event_for_people).collect(),
        _ => {
            let below = match request {
                Request::Calls if has_pair(rows) => PAIR.to_owned(),
                Request::BlockList => allowed_all_the_same(rows),
                _ => String::new(),
            };
            draw(rows, &with_names(columns, rows), terminal_width()) + &below
        }
    }
}

/// The columns, and the names of extensions where any has one: last, so that a table that is too wide for a
/// terminal breaks there.
fn with_names(columns: &[Column], rows: &[Value]) -> Vec<Column> {
    let named = rows.iter().any(|row| !text(row, NAME.key).is_empty());
    columns.iter().copied().chain(named.then_some(NAME)).collect()
}

/// Below calls of which two are perhaps one: the PBX stands between them, and so nobody here can know.
const PAIR: &str = "\nA call from one phone to another passes twice: one row for each of the two phones.\n";

/// Whether one phone calls another that is called by it.
fn has_pair(calls: &[Value]) -> bool {
    let ends = |direction: &str, from: &str, to: &str| -> Vec<(String, String)> {
        let rows = calls.iter().filter(|call| text(call, "direction") == direction);
        rows.map(|call| (text(call, from).to_owned(), text(call, to).to_owned())).collect()
    };
    let called: BTreeSet<_> = ends("in", "peer", "extension").into_iter().collect();
    ends("out", "extension", "peer").iter().any(|ends| called.contains(ends))
}

/// Below blocks that do not hold: their addresses are on the allow list.
fn allowed_all_the_same(blocks: &[Value]) -> String {
    const SHOWN: usize = 10;
    let allowed: Vec<_> = blocks.iter().filter(|row| !text(row, "allowed_as").is_empty()).collect();
    let mut shown = if allowed.is_empty() { String::new() } else { "\n".to_owned() };
    for row in allowed.iter().take(SHOWN) {
        let (range, name) = (printable(text(row, "range")), printable(text(row, "allowed_as")));
        shown.push_str(&wrap(&format!("{range} is not blocked: it is on the allow list as \"{name}\""), 0));
    }
    if let Some(more @ 1..) = allowed.len().checked_sub(SHOWN) {
        shown.push_str(&format!("and {more} more (`allowed_as` in --json)\n"));
    }
    shown
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// An event: what and who in one line, what it means and what to do below.
fn event_for_people(row: &Value) -> String {
    let mut head = format!("{} {}", local_time(text(row, "time")), text(row, "code"));
    for key in ["source", "extension", "hardware_id"] {
        let value = printable(text(row, key));
        if !value.is_empty() {
            head.push(' ');
            head.push_str(&value);
        }
    }
    let mut shown = wrap(&head, 0);
    let rule = text(row, "rule");
    let sentence = printable(text(row, "text"));
    let sentence = if rule.is_empty() { sentence } else { format!("{sentence} [{}]", printable(rule)) };
    shown.push_str(&wrap(&sentence, 2));
    let next_step = printable(text(row, "next_step"));
    if !next_step.is_empty() {
        shown.push_str(&wrap(&format!("→ {next_step}"), 2));
    }
    shown
}

/// A time of the machine's own zone; as it came, where it is none.
fn local_time(rfc3339: &str) -> String {
    match rfc3339.parse::<jiff::Timestamp>() {
        Ok(time) => time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => rfc3339.to_owned(),
    }
}

fn status_for_people(status: &Value) -> String {
    let number = |key: &str| status.get(key).and_then(Value::as_u64).unwrap_or_default();
    let list = |key: &str| {
        let items = status.get(key).and_then(Value::as_array);
        let indent = format!("\n{:15}", "");
        items.into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(&indent)
    };
    let calls = match number("calls") {
        few @ 0..=1 => few.to_string(),
        calls => format!("{calls}, of which one from phone to phone makes two"),
    };
    let lost = match number("log_lines_lost") {
        0 => String::new(),
        lines => format!("{lines} lines lost: it could not be written, or not fast enough"),
    };
    let store = match status.get("store_failing").and_then(Value::as_bool) {
        Some(true) => "fails: a restart forgets what changes; look at the disk of data_dir",
        _ => "works",
    };
    let dropped = list("dropped");
    let lines = [
        ("name", text(status, "name").to_owned()),
        ("version", text(status, "version").to_owned()),
        ("up for", seconds(number("uptime_s"))),
        ("listeners", list("listeners")),
        ("PBX", list("pbx")),
        ("registrations", number("registrations").to_string()),
        ("calls", calls),
        ("relays", number("relays").to_string()),
        ("blocks", number("blocks").to_string()),
        ("store", store.to_owned()),
        ("memory", format!("{} MiB", number("memory_bytes") / (1024 * 1024))),
        ("dropped", if dropped.is_empty() { "nothing".to_owned() } else { dropped }),
        ("log", lost),
    ];
    let line = |(name, value): (&str, String)| format!("{name:<15}{value}\n");
    lines.into_iter().filter(|(name, value)| *name != "log" || !value.is_empty()).map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_time_is_shown_as_clocks_here_show_it() {
        let shown = local_time("2026-11-21T10:00:00Z");
        let here = shown.parse::<jiff::civil::DateTime>().unwrap().to_zoned(jiff::tz::TimeZone::system());
        assert_eq!(here.unwrap().timestamp().to_string(), "2026-11-21T10:00:00Z", "{shown}");
        assert_eq!(local_time("soon"), "soon");
    }

    #[test]
    fn an_event_says_who_what_and_what_to_do_within_80_columns() {
        let row = json!({
            "time": "2026-11-21T10:00:00Z", "code": "cert_untrusted", "severity": "warning",
            "source": "127.0.9.9:40000", "extension": "not asked", "hardware_id": null, "rule": "device_ca",
            "text": "the certificate of CN=009033010203 is issued by CN=Somebody Else, whom no device_ca names",
            "next_step": "add the CA to device_ca if the device is yours\u{1b}[2J",
        });
        let shown = event_for_people(&row);
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
        assert!(shown.contains("cert_untrusted 127.0.9.9:40000 not asked"), "{shown}");
        assert!(shown.contains("[device_ca]") && shown.contains("→ add the CA"), "{shown}");
        assert!(!shown.contains('\u{1b}'));
    }

    #[test]
    fn empty_lists_are_said_in_words() {
        assert_eq!(rows_for_people(&Request::BlockList, &[]), "nobody is blocked\n");
        assert_eq!(rows_for_people(&Request::Registrations, &[]), "nobody is registered\n");
    }

    #[test]
    fn a_call_between_two_phones_is_said_to_be_two_rows() {
        let call = |extension: &str, direction: &str, peer: &str| {
            json!({"id": 1, "extension": extension, "direction": direction, "peer": peer,
                   "state": "confirmed", "seconds": 3, "packets_in": 1, "packets_out": 1})
        };
        let between = [call("1001", "out", "1002"), call("1002", "in", "1001")];
        let shown = rows_for_people(&Request::Calls, &between);
        assert!(shown.contains("one row for each of the two phones"), "{shown}");
        let apart = [call("1001", "out", "0123"), call("1002", "in", "0456")];
        let shown = rows_for_people(&Request::Calls, &apart);
        assert_eq!(shown.lines().count(), 3, "{shown}");
    }

    #[test]
    fn a_block_that_does_not_hold_is_said_to_be_none() {
        let row = |range: &str, allowed_as: Value| {
            json!({"range": range, "block_type": "manual", "defense_type": "operator", "protocol": "all",
                   "port": null, "remaining_s": 600, "evidence": "scans", "allowed_as": allowed_as})
        };
        let rows = [row("192.0.2.7", Value::Null), row("198.51.100.9", "office".into())];
        let shown = rows_for_people(&Request::BlockList, &rows);
        assert!(
            shown.ends_with("\n\n198.51.100.9 is not blocked: it is on the allow list as \"office\"\n"),
            "{shown}"
        );
        assert!(!rows_for_people(&Request::BlockList, &rows[..1]).contains("is not blocked"));
        let many: Vec<_> = (0..12).map(|n| row(&format!("198.51.100.{n}"), "office".into())).collect();
        assert!(
            rows_for_people(&Request::BlockList, &many).ends_with("and 2 more (`allowed_as` in --json)\n")
        );
    }

    #[test]
    fn a_registration_fits_a_terminal_whole() {
        let row = json!({
            "extension": "1001", "hardware_id": "009033010203", "source": "203.0.113.100:65535",
            "transport": "tls", "expires_s": 119, "pbx": "main", "pbx_state": "registered",
            "pbx_expires_s": 3599,
        });
        let drawn = draw(&[row], &REGISTRATIONS, Some(80));
        assert!(drawn.lines().all(|line| line.chars().count() <= 80), "{drawn}");
        assert!(drawn.contains("203.0.113.100:65535  tls") && !drawn.contains('…'), "{drawn}");
    }

    #[test]
    fn extensions_are_named_where_they_have_a_name() {
        let call = |extension: &str, name: Option<&str>| {
            json!({"id": 1, "extension": extension, "display_name": name, "direction": "out", "peer": "0123",
                   "state": "confirmed", "seconds": 3, "packets_in": 1, "packets_out": 1})
        };
        let shown =
            rows_for_people(&Request::Calls, &[call("1001", Some("Home office")), call("1002", None)]);
        let ends: Vec<&str> = shown.lines().map(|line| line.rsplit("  ").next().unwrap()).collect();
        assert_eq!(ends, ["NAME", "Home office", "-"], "{shown}");
        assert!(!rows_for_people(&Request::Calls, &[call("1002", None)]).contains("NAME"));
    }

    #[test]
    fn status_shows_every_number() {
        let status = json!({
            "name": "edge", "version": "0.1.0", "uptime_s": 61, "listeners": ["tls 127.0.0.2:5061", "udp 127.0.0.2:5060"],
            "pbx": ["main up"], "registrations": 2, "calls": 1, "blocks": 0, "relays": 3,
             "memory_bytes": 20_971_520, "dropped": [], "store_failing": false,
        });
        let shown = status_for_people(&status);
        for expected in [
            "name           edge\n",
            "1m 1s",
            "  tls 127.0.0.2:5061\n               udp 127.0.0.2:5060\n",
            "main up",
            "20 MiB",
            "dropped        nothing",
        ] {
            assert!(shown.contains(expected), "{expected} in {shown}");
        }
        assert_eq!(shown.lines().count(), 13);
        assert!(shown.contains("store          works\n"), "{shown}");
        let failing = status_for_people(&json!({"store_failing": true}));
        assert!(failing.contains("store          fails: a restart forgets"), "{failing}");
        let status = json!({"dropped": ["network datagram_rate 12", "signalling flow_not_registered 100"]});
        let shown = status_for_people(&status);
        let expected =
            "dropped        network datagram_rate 12\n               signalling flow_not_registered 100\n";
        assert!(shown.ends_with(expected), "{shown}");
    }
}
