//! Plots, written as SVG by hand: two axes with their units, a line for each system, a legend.

use std::fmt::Write as _;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 480.0;
/// Of the area of the lines: left, top, right, bottom.
const AREA: [f64; 4] = [80.0, 50.0, 640.0, 410.0];
/// Told apart by people who see colours otherwise, too (Okabe and Ito), ours first.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
const DASHES: [&str; 3] = ["", "7 4", "2 3"];
/// Ticks of a linear axis, about.
const TICKS: f64 = 6.0;

/// How values are spread along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly, from zero.
    Linear,
    /// By their logarithm.
    Logarithmic,
}

/// One axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// With its unit.
    pub title: String,
    /// How.
    pub scale: Scale,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    /// As it stands in the legend.
    pub name: String,
    /// Its colour, by number.
    pub colour: usize,
    /// Whole, or one of the kinds of dashes.
    pub dashes: usize,
    /// From left to right.
    pub points: Vec<[f64; 2]>,
}

/// A plot.
#[derive(Clone, Debug)]
pub struct Plot {
    /// Above it.
    pub title: String,
    /// Below the title: what it was measured with.
    pub subtitle: String,
    /// Below and beside it.
    pub axes: [Axis; 2],
    /// What it shows.
    pub lines: Vec<Line>,
}

/// The least and most that an axis shows.
#[derive(Clone, Copy)]
struct Range {
    scale: Scale,
    from: f64,
    to: f64,
    /// Where it lies on the paper.
    paper: [f64; 2],
}

impl Range {
    fn of(scale: Scale, values: impl Iterator<Item = f64>, paper: [f64; 2]) -> Self {
        let shown = values.filter(|it| it.is_finite() && (scale == Scale::Linear || *it > 0.0));
        let (least, most) = shown.fold((f64::INFINITY, 0.0_f64), |(a, b), it| (a.min(it), b.max(it)));
        let (least, most) = if least.is_finite() { (least, most) } else { (1.0, 10.0) };
        match scale {
            Scale::Linear => Self { scale, from: 0.0, to: if most > 0.0 { most * 1.08 } else { 1.0 }, paper },
            Scale::Logarithmic => Self { scale, from: least / 1.3, to: most.max(least * 2.0) * 1.3, paper },
        }
    }

    fn place(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Logarithmic => (value.max(self.from) / self.from).ln() / (self.to / self.from).ln(),
        };
        self.paper[0] + share * (self.paper[1] - self.paper[0])
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let rough = (self.to - self.from) / TICKS;
                let decade = 10_f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].map(|it| it * decade).into_iter().find(|it| *it >= rough);
                let step = step.unwrap_or(rough);
                (0..=(self.to / step) as u32).map(|index| f64::from(index) * step).collect()
            }
            Scale::Logarithmic => {
                let decades = self.from.log10().floor() as i32..=self.to.log10().ceil() as i32;
                let all = decades.flat_map(|it| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(it)));
                all.filter(|it| (self.from..=self.to).contains(it)).collect()
            }
        }
    }
}

impl Plot {
    /// As a file.
    pub fn draw(&self) -> String {
        let [left, top, right, bottom] = AREA;
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let across = Range::of(self.axes[0].scale, points().map(|it| it[0]), [left, right]);
        let up = Range::of(self.axes[1].scale, points().map(|it| it[1]), [bottom, top]);
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
        );
        self.draw_words(&mut text);
        draw_grid(&mut text, across, up);
        for (index, line) in self.lines.iter().enumerate() {
            draw_line(&mut text, line, across, up);
            draw_legend(&mut text, line, index);
        }
        text.push_str("</svg>\n");
        text
    }

    fn draw_words(&self, text: &mut String) {
        let [left, top, right, bottom] = AREA;
        let middle = (left + right) / 2.0;
        put(text, [left, 22.0], "start", " font-size=\"16\" font-weight=\"bold\"", &self.title);
        put(text, [left, 40.0], "start", " fill=\"#555\"", &self.subtitle);
        put(text, [middle, bottom + 45.0], "middle", "", &self.axes[0].title);
        let half = (top + bottom) / 2.0;
        let turned = format!(" transform=\"rotate(-90 20 {half})\"");
        put(text, [20.0, half], "middle", &turned, &self.axes[1].title);
    }
}

fn draw_grid(text: &mut String, across: Range, up: Range) {
    let [left, top, right, bottom] = AREA;
    for tick in across.ticks() {
        let x = across.place(tick);
        stroke(text, [x, top], [x, bottom], "#e0e0e0");
        put(text, [x, bottom + 18.0], "middle", "", &number(tick));
    }
    for tick in up.ticks() {
        let y = up.place(tick);
        stroke(text, [left, y], [right, y], "#e0e0e0");
        put(text, [left - 8.0, y + 4.0], "end", "", &number(tick));
    }
    stroke(text, [left, bottom], [right, bottom], "black");
    stroke(text, [left, top], [left, bottom], "black");
}

fn draw_line(text: &mut String, line: &Line, across: Range, up: Range) {
    let places: Vec<[f64; 2]> = line.points.iter().map(|[x, y]| [across.place(*x), up.place(*y)]).collect();
    let path: String = places.iter().map(|[x, y]| format!("{x:.1},{y:.1} ")).collect();
    let (colour, dashes) = (colour(line), DASHES[line.dashes % DASHES.len()]);
    writeln!(
        text,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>",
        path.trim_end()
    )
    .unwrap_or_default();
    // many points make a line by themselves
    for [x, y] in places.iter().filter(|_| places.len() <= 40) {
        writeln!(text, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>").unwrap_or_default();
    }
}

fn draw_legend(text: &mut String, line: &Line, index: usize) {
    let (x, y) = (AREA[2] + 20.0, AREA[1] + 10.0 + 22.0 * index as f64);
    let (colour, dashes) = (colour(line), DASHES[line.dashes % DASHES.len()]);
    writeln!(
        text,
        "<line x1=\"{x}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"{colour}\" stroke-width=\"2\" \
         stroke-dasharray=\"{dashes}\"/>",
        x + 28.0
    )
    .unwrap_or_default();
    put(text, [x + 36.0, y + 4.0], "start", "", &line.name);
}

fn colour(line: &Line) -> &'static str {
    COLOURS[line.colour % COLOURS.len()]
}

fn stroke(text: &mut String, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2], colour: &str) {
    writeln!(text, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>")
        .unwrap_or_default();
}

fn put(text: &mut String, [x, y]: [f64; 2], anchor: &str, more: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(text, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{more}>{words}</text>")
        .unwrap_or_default();
}

/// `20k` for twenty thousand.
fn number(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{}M", value / 1e6),
        _ if value >= 1e3 => format!("{}k", value / 1e3),
        _ => format!("{}", (value * 1e4).round() / 1e4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_where_the_axes_say() {
        let range = Range { scale: Scale::Logarithmic, from: 1.0, to: 100.0, paper: [0.0, 200.0] };
        assert_eq!(range.place(10.0).round(), 100.0);
        assert_eq!(range.ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        let linear = Range::of(Scale::Linear, [3.0, 50.0].into_iter(), [0.0, 108.0]);
        assert_eq!(linear.place(25.0).round(), 50.0);
        assert_eq!(linear.ticks(), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
        assert_eq!([number(1_500.0), number(20.0), number(0.5)], ["1.5k", "20", "0.5"]);
    }

    #[test]
    fn a_plot_has_its_words_axes_and_lines() {
        let axis = |title: &str| Axis { title: title.into(), scale: Scale::Linear };
        let line = Line { name: "a & b".into(), colour: 0, dashes: 1, points: vec![[0.0, 1.0], [2.0, 3.0]] };
        let plot = Plot {
            title: "Latency".into(),
            subtitle: String::new(),
            axes: [axis("calls a second"), axis("microseconds")],
            lines: vec![line],
        };
        let text = plot.draw();
        for part in ["Latency", "calls a second", "microseconds", "a &amp; b", "<polyline", "7 4", "</svg>"] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
        let empty = Plot { lines: Vec::new(), ..plot };
        assert!(!empty.draw().contains("NaN"));
    }
}
