//! Drawings as one SVG file that shows wherever images are shown, on light and dark pages.

use std::fmt::Write as _;

use super::{STYLE, escape, px};

const EDGE: f64 = 16.0;
const HEADING: f64 = 26.0;
/// Pixels a unit, where the page does not say how wide the image is.
const SIZE: f64 = 1.3;

/// Drawings under each other, each with its heading: a file that has its own colours, and its own ground to be read on.
pub fn standalone(title: &str, drawings: &[(&str, &str)]) -> String {
    let (mut body, mut y, mut widest) = (String::new(), EDGE, 0.0_f64);
    for (heading, svg) in drawings {
        let Some((width, height, class, inner)) = parts(svg) else { continue };
        let _ = write!(body, r#"<text class="heading" x="{EDGE}" y="{}">{}</text>"#, px(y + 12.0), escape(heading));
        let _ = writeln!(body, "<g class=\"{class}\" transform=\"translate({EDGE} {})\">{inner}</g>", px(y + HEADING));
        y += HEADING + height + EDGE;
        widest = widest.max(width);
    }
    let (width, height) = (widest + 2.0 * EDGE, y);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{shown_w}\" height=\"{shown_h}\" role=\"img\" \
         aria-label=\"{title}\">\n<title>{title}</title>\n<style>\n{style}\
         .ground {{ fill: var(--page); }}\n.heading {{ fill: var(--ink); font: 600 14px system-ui, sans-serif; }}\n</style>\n\
         <rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n{body}</svg>\n",
        // A file of its own is XML, in styles too.
        style = escape(STYLE),
        title = escape(title),
        w = px(width),
        h = px(height),
        shown_w = px(width * SIZE),
        shown_h = px(height * SIZE),
    )
}

/// Width, height, class and content of a drawing of ours.
fn parts(svg: &str) -> Option<(f64, f64, &str, &str)> {
    let (head, rest) = svg.split_once('>')?;
    let attribute = |name: &str| head.split_once(&format!("{name}=\""))?.1.split('"').next();
    let mut numbers = attribute("viewBox")?.split(' ').skip(2).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?, attribute("class")?, rest.strip_suffix("</svg>")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::figure::{Chart, DotPlot, DotRow, Series, dot_plot, line_chart};

    #[test]
    fn drawings_stand_under_each_other_in_a_file_of_their_own() {
        let row = DotRow { name: "a & b".into(), values: vec![1.0, 2.0], mean: 1.5, ..DotRow::default() };
        let dots = dot_plot(&DotPlot { rows: vec![row], ..DotPlot::default() });
        let series = vec![Series { curve: vec![(1.0, 1.0), (2.0, 3.0)], ..Series::default() }];
        let lines = line_chart(&Chart { series, ..Chart::default() });
        let svg = standalone("t < u", &[("first", &dots), ("second", &lines)]);
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 492 ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("<title>t &lt; u</title>") && svg.contains(">first</text>") && svg.contains("a &amp; b"));
        assert!(svg.contains("prefers-color-scheme: dark") && svg.contains(r#"<g class="dots" transform="translate(16 42)">"#));
        assert!(svg.contains(r#"<g class="chart""#) && !svg.contains("<script") && !svg.contains("href"));
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
        let is_entity = |rest: &str| ["amp;", "lt;", "gt;", "quot;", "#39;"].iter().any(|name| rest.starts_with(name));
        assert!(svg.split('&').skip(1).all(is_entity), "what is no XML is not shown");
    }
}
