//! Tables for people: as wide as the terminal where that can be had without cutting what must stay whole, an
//! address above all. Nothing is cut on the way to a file or a pipe. Programs take `--json`.

use std::io::IsTerminal;

use serde_json::Value;

/// The width that every terminal has.
const WIDTH: usize = 80;

/// Between two columns.
const GAP: usize = 2;

/// What a column is cut to at the most.
const CUT_MIN: usize = 10;

/// How a value is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A word or a name, which may be long.
    Text,
    /// Never cut.
    Whole,
    /// Sentences: the first to be cut where room is short.
    Prose,
    /// To the right.
    Number,
    /// Seconds as `1h 2m`.
    Seconds,
    /// `yes` or nothing.
    Flag,
}

/// One column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Of the JSON object.
    pub key: &'static str,
    /// Above it.
    pub title: &'static str,
    /// How values are shown.
    pub form: Form,
}

/// A column.
pub const fn column(key: &'static str, title: &'static str, form: Form) -> Column {
    Column { key, title, form }
}

/// The width of the terminal that standard output is; none where it is none.
pub fn terminal_width() -> Option<usize> {
    let out = std::io::stdout();
    let size = rustix::termios::tcgetwinsize(&out).ok().filter(|_| out.is_terminal())?;
    Some(usize::from(size.ws_col).max(WIDTH))
}

/// Draws rows. Where they are too wide for a terminal, prose is cut first, then the widest text; what is cut
/// ends with `…`. What is still too wide goes on in the terminal's next line.
pub fn draw(rows: &[Value], columns: &[Column], width: Option<usize>) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| columns.iter().map(|column| cell(row.get(column.key), column.form)).collect())
        .collect();
    let widths = widths(&cells, columns, width);
    let titles = columns.iter().map(|column| column.title.to_owned()).collect::<Vec<_>>();
    let mut lines = vec![line(&titles, columns, &widths)];
    lines.extend(cells.iter().map(|row| line(row, columns, &widths)));
    lines.concat()
}

fn cell(value: Option<&Value>, form: Form) -> String {
    match (value, form) {
        (None | Some(Value::Null), _) => "-".to_owned(),
        (Some(Value::Bool(flag)), _) => if *flag { "yes" } else { "" }.to_owned(),
        (Some(Value::Number(number)), Form::Seconds) => seconds(number.as_u64().unwrap_or_default()),
        (Some(Value::String(text)), _) => text.chars().filter(|c| !c.is_control()).collect(),
        (Some(other), _) => other.to_string(),
    }
}

/// `59s`, `10m`, `1h 2m`, `3d 4h`.
pub fn seconds(total: u64) -> String {
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit} {small}{small_unit}"),
    };
    match total {
        0..60 => format!("{total}s"),
        60..3600 => two(total / 60, "m", total % 60, "s"),
        3600..86_400 => two(total / 3600, "h", total % 3600 / 60, "m"),
        _ => two(total / 86_400, "d", total % 86_400 / 3600, "h"),
    }
}

fn widths(cells: &[Vec<String>], columns: &[Column], width: Option<usize>) -> Vec<usize> {
    let length = |text: &str| text.chars().count();
    let widest = |index: usize, column: &Column| {
        let values = cells.iter().filter_map(|row| row.get(index)).map(|cell| length(cell));
        values.max().unwrap_or(0).max(length(column.title))
    };
    let mut widths: Vec<usize> =
        columns.iter().enumerate().map(|(index, column)| widest(index, column)).collect();
    let Some(width) = width else { return widths };
    let room = width.saturating_sub(GAP * columns.len().saturating_sub(1));
    for form in [Form::Prose, Form::Text] {
        while widths.iter().sum::<usize>() > room {
            let cuttable = columns.iter().zip(&mut widths).filter(|(column, _)| column.form == form);
            let widest = cuttable.map(|(_, width)| width).max().filter(|width| **width > CUT_MIN);
            let Some(widest) = widest else { break };
            *widest -= 1;
        }
    }
    widths
}

fn line(cells: &[String], columns: &[Column], widths: &[usize]) -> String {
    let mut line = String::new();
    for ((text, column), width) in cells.iter().zip(columns).zip(widths) {
        let text = cut(text, *width);
        let padded = match column.form {
            Form::Number => format!("{text:>width$}"),
            Form::Text | Form::Whole | Form::Prose | Form::Seconds | Form::Flag => {
                format!("{text:<width$}")
            }
        };
        line.push_str(&padded);
        line.push_str(&" ".repeat(GAP));
    }
    format!("{}\n", line.trim_end())
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// Breaks a text between words into lines of the terminal's width, each behind an indent.
pub fn wrap(text: &str, indent: usize) -> String {
    let room = WIDTH.saturating_sub(indent);
    let (mut lines, mut current) = (Vec::new(), String::new());
    for word in text.split_whitespace() {
        let needed = current.chars().count() + 1 + word.chars().count();
        if !current.is_empty() && needed > room {
            lines.push(std::mem::take(&mut current));
        }
        if !current.is_empty() {
            current.push(' ');
        }
        current.push_str(word);
    }
    lines.push(current);
    lines.iter().map(|line| format!("{}{}\n", " ".repeat(indent), line)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: [Column; 4] = [
        column("address", "ADDRESS", Form::Whole),
        column("remaining_s", "LEFT", Form::Seconds),
        column("port", "PORT", Form::Number),
        column("evidence", "WHY", Form::Prose),
    ];

    #[test]
    fn columns_are_as_wide_as_what_they_hold() {
        let rows = [
            json!({"address": "127.0.9.9", "remaining_s": 599, "port": 5061, "evidence": "scan"}),
            json!({"address": "10.0.0.1", "remaining_s": 3720, "port": null, "evidence": ""}),
        ];
        let drawn = draw(&rows, &COLUMNS, Some(WIDTH));
        let expected = "ADDRESS    LEFT    PORT  WHY\n\
                        127.0.9.9  9m 59s  5061  scan\n\
                        10.0.0.1   1h 2m      -\n";
        assert_eq!(drawn, expected);
    }

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        let rows = [json!({
            "address": "2001:db8:1234:5678:9abc:def0:1234:5678",
            "remaining_s": 86_400 * 3 + 3600,
            "port": 65_535,
            "evidence": "the certificate is signed by an authority that is not ours ".repeat(4),
        })];
        let drawn = draw(&rows, &COLUMNS, Some(WIDTH));
        assert!(drawn.lines().all(|line| line.chars().count() <= WIDTH), "{drawn}");
        assert!(
            drawn.contains("2001:db8:1234:5678:9abc:def0:1234:5678"),
            "short columns stay whole: {drawn}"
        );
        assert!(drawn.contains('…'));
    }

    #[test]
    fn an_address_is_never_cut_and_nothing_on_the_way_to_a_file() {
        let columns = [
            column("source", "SOURCE", Form::Whole),
            column("pbx", "PBX", Form::Text),
            column("range", "RANGE", Form::Whole),
        ];
        let source = "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535";
        let range = "2001:db8:1234:5678:9abc:def0:1234:5678";
        let pbx = "the main exchange of the company";
        let rows = [json!({"source": source, "range": range, "pbx": pbx})];
        let drawn = draw(&rows, &columns, Some(WIDTH));
        assert!(drawn.contains(source) && drawn.contains(range), "{drawn}");
        assert!(drawn.contains("the main …"), "{drawn}");
        assert!(draw(&rows, &columns, None).contains(pbx));
        assert!(draw(&rows, &columns, Some(200)).contains(pbx));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let rows = [json!({"address": "a\u{1b}[31m\nb", "remaining_s": 1, "port": 1, "evidence": ""})];
        let drawn = draw(&rows, &COLUMNS, Some(WIDTH));
        assert!(!drawn.contains('\u{1b}'));
        assert_eq!(drawn.lines().count(), 2);
    }

    #[test]
    fn durations_take_two_units_at_most() {
        for (total, text) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (3600, "1h"), (3661, "1h 1m"), (90_000, "1d 1h")]
        {
            assert_eq!(seconds(total), text);
        }
    }

    #[test]
    fn text_wraps_between_words() {
        let wrapped = wrap(&"word ".repeat(40), 2);
        assert!(wrapped.lines().all(|line| line.starts_with("  word") && line.chars().count() <= WIDTH));
        assert_eq!(wrapped.matches("word").count(), 40);
    }
}
