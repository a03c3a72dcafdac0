//! The line chart.

use std::fmt::Write as _;

use super::scale::{Scale, labels, number};
use super::{Band, COLOURS, POINTS, Point, downsample, escape, px, text_width};

const WIDTH: f64 = 460.0;
const PLOT_TOP: f64 = 26.0;
const PLOT_HEIGHT: f64 = 206.0;
const TEXT: f64 = 12.5;
const LINE_HEIGHT: f64 = 17.0;
/// Lines over a common x.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// Said to those who can't see it, and by the pointer at rest.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// Drawn in order, the last on top.
    pub series: Vec<Series>,
    /// Dashed horizontal lines.
    pub references: Vec<Reference>,
    /// Share of the x range, from its start, that the y range need not hold: what falls from far above would flatten
    /// the rest.
    pub settle: f64,
}

/// What is along an axis.
#[derive(Clone, Debug, Default)]
pub struct Axis {
    /// Quantity and unit.
    pub label: String,
    /// Logarithmic; values that are not above 0 are left out.
    pub log: bool,
    /// Whether the axis starts at 0.
    pub from_zero: bool,
    /// Where the horizontal axis has its ticks; at round numbers unless given.
    pub ticks: Vec<f64>,
}

/// One line with what belongs to it.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Its label; empty for none.
    pub name: String,
    /// Colour in [`super::STYLE`]; from [`COLOURS`] on, they repeat dashed.
    pub colour: usize,
    /// The line.
    pub curve: Vec<Point>,
    /// The curve before smoothing; empty where it was not smoothed.
    pub raw: Vec<Point>,
    /// Its spread.
    pub band: Vec<Band>,
    /// Single values that it is the mean of.
    pub dots: Vec<Point>,
}

/// A value to compare with.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    /// What it is.
    pub name: String,
    /// Where it is.
    pub y: f64,
}

/// Draws the chart as an `<svg>` element.
pub fn line_chart(chart: &Chart) -> String {
    let thin: Vec<Series> = chart.series.iter().map(thinned).collect();
    let direct = labels_fit_beside(&thin);
    let right = if direct { label_width(&thin) + 14.0 } else { 10.0 };
    let y = y_scale(chart, &thin, (PLOT_TOP + PLOT_HEIGHT, PLOT_TOP));
    let y_ticks = y.ticks(5);
    let y_labels = labels(&y_ticks);
    let left = y_labels.iter().map(|label| text_width(label, TEXT)).fold(18.0, f64::max) + 9.0;
    let xs = thin.iter().flat_map(|s| s.curve.iter().chain(&s.raw)).map(|point| point.0);
    let x = Scale::over(xs, chart.x.log, (left, WIDTH - right));

    let mut body = axes(chart, &x, (&y, &y_ticks, &y_labels), (left, WIDTH - right));
    let _ = write!(
        body,
        r#"<svg x="{l}" y="{PLOT_TOP}" width="{w}" height="{PLOT_HEIGHT}" viewBox="{l} {PLOT_TOP} {w} {PLOT_HEIGHT}" overflow="hidden">"#,
        l = px(left),
        w = px(WIDTH - right - left)
    );
    thin.iter().for_each(|series| body.push_str(&drawn(series, &x, &y)));
    body.push_str("</svg>");
    for reference in chart.references.iter().filter(|r| y.holds(r.y)) {
        body.push_str(&reference_line(reference, y.px(reference.y), (left, WIDTH - right)));
    }
    let mut height = PLOT_TOP + PLOT_HEIGHT + 38.0;
    if direct {
        body.push_str(&labels_beside(&thin, &y, WIDTH - right + 8.0));
    } else {
        let (legend, rows) = legend_below(&thin, height);
        body.push_str(&legend);
        height += rows as f64 * LINE_HEIGHT + 6.0;
    }
    let words = in_words(chart);
    let (low, high, log) = (x_ends(&thin).0, x_ends(&thin).1, u8::from(chart.x.log));
    format!(
        r#"<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{words}" data-x="{low} {high} {l} {r} {log}" data-y="{PLOT_TOP} {bottom}"><title>{title}</title>{body}</svg>"#,
        title = escape(&chart.title),
        words = escape(&words),
        l = px(left),
        r = px(WIDTH - right),
        bottom = PLOT_TOP + PLOT_HEIGHT,
    )
}

/// What the chart shows, for those who can't see it: where each line begins and ends.
fn in_words(chart: &Chart) -> String {
    let ends = chart.series.iter().filter_map(|series| {
        let mut finite = series.curve.iter().filter(|point| point.1.is_finite());
        let first = finite.next()?;
        let last = finite.next_back().unwrap_or(first);
        let name = if series.name.is_empty() { "the line" } else { &series.name };
        Some(match first == last {
            true => format!("{name}: {} at {}", number(first.1), number(first.0)),
            false => {
                format!("{name}: from {} at {} to {} at {}", number(first.1), number(first.0), number(last.1), number(last.0))
            }
        })
    });
    let references = chart.references.iter().map(|reference| format!("{}: {}", reference.name, number(reference.y)));
    let parts: Vec<String> = ends.chain(references).collect();
    format!("{}. Line chart of {} over {}. {}.", chart.title, chart.y.label, chart.x.label, parts.join("; "))
}

fn thinned(series: &Series) -> Series {
    let band: Vec<Band> = series.band.iter().step_by((series.band.len() / POINTS).max(1)).copied().collect();
    Series { curve: downsample(&series.curve, POINTS), raw: downsample(&series.raw, POINTS), band, ..series.clone() }
}

fn x_ends(series: &[Series]) -> (f64, f64) {
    let xs = series.iter().flat_map(|s| s.curve.iter().chain(&s.raw)).map(|point| point.0);
    let (low, high) = xs.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(x), h.max(x)));
    if low <= high { (low, high) } else { (0.0, 1.0) }
}

fn y_scale(chart: &Chart, series: &[Series], px: (f64, f64)) -> Scale {
    let (low, high) = x_ends(series);
    let from = low + chart.settle * (high - low);
    let points = series.iter().flat_map(|s| s.curve.iter().chain(&s.raw).chain(&s.dots));
    let curves = points.filter(|point| point.0 >= from).map(|point| point.1);
    let bands = series.iter().flat_map(|s| &s.band).filter(|band| band.0 >= from).flat_map(|band| [band.1, band.2]);
    let references = chart.references.iter().map(|r| r.y);
    let zero = chart.y.from_zero.then_some(0.0);
    Scale::over(curves.chain(bands).chain(references).chain(zero), chart.y.log, px).with_room()
}

fn axes(chart: &Chart, x: &Scale, (y, y_ticks, y_labels): (&Scale, &[f64], &[String]), (left, right): (f64, f64)) -> String {
    let bottom = PLOT_TOP + PLOT_HEIGHT;
    let mut out = format!(r#"<text class="what" x="0" y="12">{}</text>"#, escape(&chart.y.label));
    for (tick, label) in y_ticks.iter().zip(y_labels) {
        let at = y.px(*tick);
        let _ = write!(out, r#"<path class="grid" d="M{} {at}H{}"/>"#, px(left), px(right), at = px(at));
        let _ = write!(out, r#"<text class="tick end" x="{}" y="{}">{label}</text>"#, px(left - 7.0), px(at + 4.0));
    }
    let x_ticks = if chart.x.ticks.is_empty() { x.ticks(4) } else { chart.x.ticks.clone() };
    for (tick, label) in x_ticks.iter().zip(labels(&x_ticks)) {
        let at = x.px(*tick);
        let half = text_width(&label, TEXT) / 2.0;
        let centre = at.clamp(half, WIDTH - half);
        let _ = write!(out, r#"<path class="axis" d="M{} {bottom}v4"/>"#, px(at));
        let _ = write!(out, r#"<text class="tick mid" x="{}" y="{}">{label}</text>"#, px(centre), px(bottom + 18.0));
    }
    let _ = write!(out, r#"<path class="axis" d="M{} {bottom}H{}"/>"#, px(left), px(right));
    let middle = f64::midpoint(left, right);
    let _ =
        write!(out, r#"<text class="what mid" x="{}" y="{}">{}</text>"#, px(middle), px(bottom + 34.0), escape(&chart.x.label));
    out
}

fn drawn(series: &Series, x: &Scale, y: &Scale) -> String {
    let class = colour_class(series.colour);
    let mut out = String::new();
    if !series.band.is_empty() {
        let upper: Vec<Point> = series.band.iter().map(|band| (band.0, band.2)).collect();
        let lower: Vec<Point> = series.band.iter().rev().map(|band| (band.0, band.1)).collect();
        let (upper, lower) = (path(&upper, x, y), path(&lower, x, y).replacen('M', "L", 1));
        let _ = write!(out, r#"<path class="band {class}" d="{upper}{lower}Z"/>"#);
    }
    if !series.raw.is_empty() {
        let _ = write!(out, r#"<path class="raw {class}" d="{}"/>"#, path(&series.raw, x, y));
    }
    for (at, value) in series.dots.iter().filter(|dot| dot.1.is_finite()) {
        let _ = write!(out, r#"<circle class="dot {class}" cx="{}" cy="{}" r="3"/>"#, px(x.px(*at)), px(y.px(*value)));
    }
    let of = |which: fn(&Point) -> f64| series.curve.iter().map(|p| short(which(p))).collect::<Vec<_>>().join(" ");
    let _ = write!(
        out,
        r#"<path class="curve {class}" data-name="{}" data-x="{}" data-y="{}" d="{}"/>"#,
        escape(&series.name),
        of(|p| p.0),
        of(|p| p.1),
        path(&series.curve, x, y)
    );
    out
}

/// Five significant digits at most: what the pointer shows.
fn short(value: f64) -> String {
    format!("{value:.4e}").parse::<f64>().unwrap_or(value).to_string()
}

/// A line through the points; a gap where one is not a number.
fn path(points: &[Point], x: &Scale, y: &Scale) -> String {
    let mut out = String::new();
    let mut pen = 'M';
    for &(at, value) in points {
        if value.is_finite() {
            // Far outside, the line is clipped anyway.
            let _ = write!(out, "{pen}{} {}", px(x.px(at)), px(y.px(value).clamp(-1e4, 1e4)));
            pen = 'L';
        } else {
            pen = 'M';
        }
    }
    out
}

fn colour_class(colour: usize) -> String {
    format!("c{}{}", colour % COLOURS, if colour >= COLOURS { " dash" } else { "" })
}

fn reference_line(reference: &Reference, at: f64, (left, right): (f64, f64)) -> String {
    format!(
        r#"<path class="reference" d="M{l} {at}H{r}"/><text class="note end" x="{tx}" y="{ty}">{name} {value}</text>"#,
        l = px(left),
        r = px(right),
        at = px(at),
        tx = px(right - 2.0),
        ty = px(at - 5.0),
        name = escape(&reference.name),
        value = number(reference.y)
    )
}

fn label_width(series: &[Series]) -> f64 {
    series.iter().map(|s| text_width(&s.name, TEXT)).fold(0.0, f64::max)
}

fn labels_fit_beside(series: &[Series]) -> bool {
    let named = series.iter().filter(|s| !s.name.is_empty()).count();
    named <= 6 && label_width(series) <= 112.0
}

/// Labels at the ends of their lines, pushed apart where they would overlap.
fn labels_beside(series: &[Series], y: &Scale, x: f64) -> String {
    let last =
        |s: &Series| s.curve.iter().rev().find(|p| p.1.is_finite()).map(|p| y.px(p.1).clamp(PLOT_TOP, PLOT_TOP + PLOT_HEIGHT));
    let mut ends: Vec<(f64, &Series)> =
        series.iter().filter(|s| !s.name.is_empty()).filter_map(|s| Some((last(s)?, s))).collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut at: Vec<f64> = ends.iter().map(|end| end.0).collect();
    push_apart(&mut at, 15.0, PLOT_TOP + PLOT_HEIGHT);
    let label = |(at, (_, s)): (&f64, &(f64, &Series))| {
        format!(r#"<text class="name {}" x="{}" y="{}">{}</text>"#, colour_class(s.colour), px(x), px(at + 4.0), escape(&s.name))
    };
    at.iter().zip(&ends).map(label).collect()
}

/// Moves sorted positions so that neighbours are `gap` apart and the last is not below `bottom`: down first, then up.
fn push_apart(at: &mut [f64], gap: f64, bottom: f64) {
    for i in 1..at.len() {
        at[i] = at[i].max(at[i - 1] + gap);
    }
    let mut limit = bottom;
    for y in at.iter_mut().rev() {
        *y = y.min(limit);
        limit = *y - gap;
    }
}

/// Names in columns of equal width.
fn legend_below(series: &[Series], top: f64) -> (String, usize) {
    let width = (label_width(series) + 40.0).min(WIDTH);
    let columns = (WIDTH / width).floor() as usize;
    let named: Vec<&Series> = series.iter().filter(|s| !s.name.is_empty()).collect();
    let mut out = String::new();
    for (i, s) in named.iter().enumerate() {
        let (row, column) = (i / columns, i % columns);
        let (class, x, y) = (colour_class(s.colour), column as f64 * width, top + 18.0 + row as f64 * LINE_HEIGHT);
        let _ = write!(out, r#"<path class="curve {class}" d="M{} {}h18"/>"#, px(x), px(y - 4.0));
        let _ = write!(out, r#"<text class="name {class}" x="{}" y="{}">{}</text>"#, px(x + 24.0), px(y), escape(&s.name));
    }
    (out, named.len().div_ceil(columns))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn falling(name: &str, colour: usize) -> Series {
        let curve: Vec<Point> = (0..100).map(|x| (f64::from(x), 9.0 / (1.0 + f64::from(x)))).collect();
        let band = curve.iter().map(|p| (p.0, p.1 - 0.1, p.1 + 0.1)).collect();
        Series { name: name.into(), colour, raw: curve.clone(), dots: curve[..3].to_vec(), curve, band }
    }

    #[test]
    fn a_chart_has_its_lines_labels_and_words() {
        let axis = |label: &str| Axis { label: label.into(), ..Axis::default() };
        let references = vec![Reference { name: "source".into(), y: 0.05 }];
        let svg = line_chart(&Chart {
            title: "Loss <of> a & b".into(),
            x: axis("step"),
            y: axis("nats"),
            series: vec![falling("a<b", 1), falling("dashed", COLOURS + 2)],
            references,
            settle: 0.0,
        });
        assert!(svg.starts_with("<svg") && svg.contains("<title>Loss &lt;of&gt; a &amp; b</title>"));
        assert_eq!(svg.matches(r#"class="curve c"#).count(), 2);
        assert_eq!(svg.matches(r#"class="raw c"#).count(), 2);
        assert_eq!(svg.matches(r#"class="band c"#).count(), 2);
        assert_eq!(svg.matches("<circle").count(), 6);
        assert!(svg.contains(r#"class="curve c2 dash""#) && svg.contains(">a&lt;b</text>") && svg.contains("source 0.05"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn many_or_long_names_go_below() {
        let few = line_chart(&Chart { series: vec![falling("a", 0)], ..Chart::default() });
        let long = line_chart(&Chart { series: vec![falling("a student with a very long name", 0)], ..Chart::default() });
        assert!(few.contains("0 0 460 270\"") && !long.contains("0 0 460 270\""), "the legend makes room for itself");
    }

    #[test]
    fn an_early_fall_does_not_flatten_the_rest() {
        let height = |settle| {
            let chart = Chart { series: vec![falling("a", 0)], settle, ..Chart::default() };
            y_scale(&chart, &chart.series, (100.0, 0.0)).px(1.0)
        };
        assert!(height(0.2) < 0.0 && height(0.0) > 80.0, "{} {}", height(0.2), height(0.0));
    }

    #[test]
    fn nothing_to_draw_is_drawn_as_nothing() {
        let empty = line_chart(&Chart { series: vec![Series::default()], ..Chart::default() });
        let gaps = Series { curve: vec![(0.0, f64::NAN), (1.0, 1.0), (2.0, f64::NAN)], ..Series::default() };
        let gaps = line_chart(&Chart { series: vec![gaps], ..Chart::default() });
        assert!(!empty.contains("inf") && !gaps.contains("d=\"MNaN"), "{empty}");
    }

    #[test]
    fn labels_are_pushed_apart_and_stay_inside() {
        let mut at = [10.0, 11.0, 12.0, 50.0];
        push_apart(&mut at, 5.0, 48.0);
        assert_eq!(at, [10.0, 15.0, 20.0, 48.0]);
        let mut at = [97.0, 98.0, 99.0];
        push_apart(&mut at, 5.0, 100.0);
        assert_eq!(at, [90.0, 95.0, 100.0]);
    }
}
