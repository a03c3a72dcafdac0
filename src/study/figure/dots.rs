//! The dot plot: one row an arm, every seed a dot.

use std::fmt::Write as _;

use super::scale::{Scale, labels, number};
use super::{COLOURS, Reference, escape, px, text_width};

const WIDTH: f64 = 460.0;
const ROW: f64 = 26.0;
const TEXT: f64 = 12.5;
const LABEL_MAX: f64 = 190.0;
const RIGHT: f64 = 14.0;

/// Rows of values on a common axis.
#[derive(Clone, Debug, Default)]
pub struct DotPlot {
    /// Said to those who can't see it.
    pub title: String,
    /// Quantity and unit of the axis.
    pub label: String,
    /// The rows, from top to bottom.
    pub rows: Vec<DotRow>,
    /// A dashed vertical line, drawn where it lies within the axis.
    pub reference: Option<Reference>,
    /// A shaded range: what counts as no difference.
    pub band: Option<(f64, f64)>,
}

/// One row.
#[derive(Clone, Debug, Default)]
pub struct DotRow {
    /// What it is.
    pub name: String,
    /// Colour in [`super::STYLE`].
    pub colour: usize,
    /// One dot each.
    pub values: Vec<f64>,
    /// The mark between them.
    pub mean: f64,
    /// The bar: the mean's 95 % interval.
    pub interval: Option<(f64, f64)>,
    /// Set in bold.
    pub best: bool,
    /// A word at the end of the row.
    pub note: String,
}

/// Draws the plot as an `<svg>` element.
pub fn dot_plot(plot: &DotPlot) -> String {
    let widest = |of: fn(&DotRow) -> &String| plot.rows.iter().map(|row| text_width(of(row), TEXT)).fold(0.0, f64::max);
    let left = widest(|row| &row.name).min(LABEL_MAX) + 14.0;
    let notes = widest(|row| &row.note);
    let right = WIDTH - if notes > 0.0 { notes + 12.0 } else { RIGHT };
    // Room for the reference's name.
    let top = if plot.reference.as_ref().is_some_and(|r| !r.name.is_empty()) { 22.0 } else { 4.0 };
    let bottom = top + plot.rows.len() as f64 * ROW;
    let ends = |row: &DotRow| row.interval.map_or([row.mean; 2], |(low, high)| [low, high]);
    let values = plot.rows.iter().flat_map(|row| row.values.iter().copied().chain(ends(row)));
    let band = plot.band.into_iter().flat_map(|(low, high)| [low, high]);
    let x = Scale::over(values.chain(band), false, (left + 6.0, right)).with_room();
    let mut body = String::new();
    if let Some((low, high)) = plot.band {
        let (from, to) = (px(x.px(low)), px(x.px(high)));
        let _ = write!(body, r#"<path class="margin" d="M{from} {top}H{to}V{bottom}H{from}Z"/>"#);
    }
    let ticks = x.ticks(4);
    for (tick, label) in ticks.iter().zip(labels(&ticks)) {
        let at = px(x.px(*tick));
        let _ = write!(body, r#"<path class="grid" d="M{at} {top}V{bottom}"/>"#);
        let _ = write!(body, r#"<text class="tick mid" x="{at}" y="{}">{label}</text>"#, px(bottom + 16.0));
    }
    if let Some(reference) = plot.reference.as_ref().filter(|r| x.holds(r.y)) {
        let at = x.px(reference.y);
        let anchor = if at > WIDTH - 110.0 { "end" } else { "mid" };
        let _ = write!(body, r#"<path class="reference" d="M{} {top}V{bottom}"/>"#, px(at));
        let _ = write!(body, r#"<text class="note {anchor}" x="{}" y="14">{}</text>"#, px(at), escape(&reference.name));
    }
    for (i, row) in plot.rows.iter().enumerate() {
        body.push_str(&drawn(row, top + (i as f64 + 0.5) * ROW, left, &x));
    }
    let _ = write!(body, r#"<path class="axis" d="M{} {bottom}H{}"/>"#, px(left + 6.0), px(right));
    let middle = f64::midpoint(left + 6.0, right);
    let _ = write!(body, r#"<text class="what mid" x="{}" y="{}">{}</text>"#, px(middle), px(bottom + 33.0), escape(&plot.label));
    let (height, title, words) = (bottom + 38.0, escape(&plot.title), escape(&in_words(plot)));
    format!(
        r#"<svg class="dots" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{words}"><title>{title}</title>{body}</svg>"#
    )
}

/// What the plot shows, for those who can't see it.
fn in_words(plot: &DotPlot) -> String {
    let rows: Vec<String> = plot.rows.iter().map(said).collect();
    format!("{}. Dot plot in {}. {}.", plot.title, plot.label, rows.join("; "))
}

/// A row in words: `alone: 4.07 [4.05, 4.09] (95 %, 3 seeds)`.
fn said(row: &DotRow) -> String {
    let interval = row
        .interval
        .map_or(String::new(), |(low, high)| format!(" [{}, {}] (95 %, {} seeds)", number(low), number(high), row.values.len()));
    let note = if row.note.is_empty() { String::new() } else { format!(", {}", row.note) };
    format!("{}: {}{interval}{note}", row.name, number(row.mean))
}

fn drawn(row: &DotRow, y: f64, left: f64, x: &Scale) -> String {
    let class = format!("c{}", row.colour % COLOURS);
    let weight = if row.best { " best" } else { "" };
    let name = fitted(&row.name);
    let mut out = format!(r#"<g class="{class}"><title>{}</title>"#, escape(&said(row)));
    let _ = write!(out, r#"<text class="name end{weight}" x="{}" y="{}">{}</text>"#, px(left - 6.0), px(y + 4.0), escape(&name));
    // The bar lies below the dots, which would hide it.
    let (dots, bar) = if row.interval.is_some() { (y - 3.5, y + 5.5) } else { (y, y) };
    for value in row.values.iter().filter(|v| v.is_finite()) {
        let _ = write!(out, r#"<circle class="dot" cx="{}" cy="{}" r="3.4"/>"#, px(x.px(*value)), px(dots));
    }
    if let Some((low, high)) = row.interval {
        let _ = write!(out, r#"<path class="bar" d="M{} {}H{}"/>"#, px(x.px(low)), px(bar), px(x.px(high)));
    }
    let _ = write!(out, r#"<path class="mean" d="M{} {}v10"/>"#, px(x.px(row.mean)), px(bar - 5.0));
    if !row.note.is_empty() {
        let _ = write!(out, r#"<text class="note end" x="{}" y="{}">{}</text>"#, px(WIDTH), px(y + 4.0), escape(&row.note));
    }
    out + "</g>"
}

/// The name, cut in its middle where it is too long for its column.
fn fitted(name: &str) -> String {
    let room = (LABEL_MAX / (TEXT * 0.54)) as usize;
    let chars: Vec<char> = name.chars().collect();
    if chars.len() <= room {
        return name.into();
    }
    let (head, tail) = (room / 2, room - room / 2 - 1);
    chars[..head].iter().chain(&['…']).chain(&chars[chars.len() - tail..]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_a_dot_and_every_row_has_a_mean() {
        let row = |name: &str, values: &[f64]| DotRow {
            name: name.into(),
            values: values.into(),
            mean: values[0],
            ..DotRow::default()
        };
        let bold = DotRow { interval: Some((3.8, 4.2)), best: true, note: "better".into(), ..row("a & b", &[3.9, 4.0, 4.1]) };
        let reference = Some(Reference { name: "alone".into(), y: 4.2 });
        let rows = vec![bold, row("c", &[4.5])];
        let plot = DotPlot { title: "t".into(), label: "nats".into(), rows, reference, band: Some((4.1, 4.3)) };
        let svg = dot_plot(&plot);
        assert_eq!(svg.matches("<circle").count(), 4);
        assert_eq!(svg.matches(r#"class="mean""#).count(), 2);
        assert_eq!(svg.matches(r#"class="bar""#).count(), 1);
        assert!(svg.contains("a &amp; b: 3.9 [3.8, 4.2] (95 %, 3 seeds)") && svg.contains("name end best"));
        assert!(svg.contains(">alone<") && svg.contains(">better<") && svg.matches(r#"class="margin""#).count() == 1);
    }

    #[test]
    fn a_long_name_is_cut_in_its_middle() {
        assert_eq!(fitted("short"), "short");
        let cut = fitted("a student distilled from a very weak teacher, remapped");
        assert!(
            cut.starts_with("a student") && cut.ends_with("remapped") && cut.contains('…') && cut.chars().count() <= 28,
            "{cut}"
        );
    }
}
