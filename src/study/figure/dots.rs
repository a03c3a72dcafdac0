//! The dot plot: one row an arm, every seed a dot.

use std::fmt::Write as _;

use super::scale::{Scale, labels, number};
use super::{COLOURS, Reference, escape, px, text_width};

const WIDTH: f64 = 460.0;
const ROW: f64 = 26.0;
const TEXT: f64 = 12.5;
const LABEL_MAX: f64 = 190.0;

/// Rows of values on a common axis.
#[derive(Clone, Debug, Default)]
pub struct DotPlot {
    /// Said to those who can't see it.
    pub title: String,
    /// Quantity and unit of the axis.
    pub label: String,
    /// From top to bottom.
    pub rows: Vec<DotRow>,
    /// A dashed vertical line, drawn where it lies within the axis.
    pub reference: Option<Reference>,
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
    /// Half the bar around the mean: a standard deviation.
    pub spread: Option<f64>,
    /// Set in bold.
    pub best: bool,
}

/// Draws the plot as an `<svg>` element.
pub fn dot_plot(plot: &DotPlot) -> String {
    let left = plot.rows.iter().map(|row| text_width(&row.name, TEXT)).fold(0.0, f64::max).min(LABEL_MAX) + 14.0;
    // Room for the reference's name.
    let top = if plot.reference.as_ref().is_some_and(|r| !r.name.is_empty()) { 22.0 } else { 4.0 };
    let bottom = top + plot.rows.len() as f64 * ROW;
    let spread = |row: &DotRow| row.spread.map_or([row.mean; 2], |sd| [row.mean - sd, row.mean + sd]);
    let values = plot.rows.iter().flat_map(|row| row.values.iter().copied().chain(spread(row)));
    let x = Scale::over(values, false, (left + 6.0, WIDTH - 14.0)).with_room();
    let mut body = String::new();
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
    let _ = write!(body, r#"<path class="axis" d="M{} {bottom}H{}"/>"#, px(left + 6.0), px(WIDTH - 14.0));
    let middle = f64::midpoint(left + 6.0, WIDTH - 14.0);
    let _ = write!(body, r#"<text class="what mid" x="{}" y="{}">{}</text>"#, px(middle), px(bottom + 33.0), escape(&plot.label));
    let (height, title) = (bottom + 38.0, escape(&plot.title));
    format!(
        r#"<svg class="dots" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}"><title>{title}</title>{body}</svg>"#
    )
}

fn drawn(row: &DotRow, y: f64, left: f64, x: &Scale) -> String {
    let (class, y_px) = (format!("c{}", row.colour % COLOURS), px(y));
    let mut said = format!("{}: {}", row.name, number(row.mean));
    if let Some(sd) = row.spread {
        let _ = write!(said, " ± {} (sd of {})", number(sd), row.values.len());
    }
    let weight = if row.best { " best" } else { "" };
    let name = fitted(&row.name);
    let mut out = format!(r#"<g class="{class}"><title>{}</title>"#, escape(&said));
    let _ = write!(out, r#"<text class="name end{weight}" x="{}" y="{}">{}</text>"#, px(left - 6.0), px(y + 4.0), escape(&name));
    if let Some(sd) = row.spread {
        let _ = write!(out, r#"<path class="bar" d="M{} {y_px}H{}"/>"#, px(x.px(row.mean - sd)), px(x.px(row.mean + sd)));
    }
    for value in row.values.iter().filter(|v| v.is_finite()) {
        let _ = write!(out, r#"<circle class="dot" cx="{}" cy="{y_px}" r="3.6"/>"#, px(x.px(*value)));
    }
    let _ = write!(out, r#"<path class="mean" d="M{} {}v14"/></g>"#, px(x.px(row.mean)), px(y - 7.0));
    out
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
        let rows = vec![DotRow { spread: Some(0.1), best: true, ..row("a & b", &[3.9, 4.0, 4.1]) }, row("c", &[4.5])];
        let reference = Some(Reference { name: "alone".into(), y: 4.2 });
        let svg = dot_plot(&DotPlot { title: "t".into(), label: "nats".into(), rows, reference });
        assert_eq!(svg.matches("<circle").count(), 4);
        assert_eq!(svg.matches(r#"class="mean""#).count(), 2);
        assert_eq!(svg.matches(r#"class="bar""#).count(), 1);
        assert!(svg.contains("a &amp; b: 3.9 ± 0.1 (sd of 3)") && svg.contains("name end best") && svg.contains(">alone<"));
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
