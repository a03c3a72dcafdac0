//! Figures for a page: pure functions from numbers to SVG text, with no script and no file needed to read them.
//!
//! Colours and type come from [`STYLE`], which the page holds once; [`SCRIPT`] adds the values under the pointer, and
//! buttons that save a figure and its numbers.

mod csv;
mod curve;
mod dots;
mod line;
mod scale;
mod standalone;

pub use csv::{chart_csv, dots_csv};
pub use curve::{Band, Point, band_over, downsample, ema, mean_over};
pub use dots::{DotPlot, DotRow, dot_plot};
pub use line::{Axis, Chart, Reference, Series, line_chart};
pub use scale::number;
pub use standalone::standalone;

/// The figures' colours (Okabe and Ito's, which colour-blind readers tell apart) and type, for light and dark pages.
pub const STYLE: &str = include_str!("figure.css");

/// Shows the values under the pointer, and saves figures as SVG and their numbers as CSV.
pub const SCRIPT: &str = include_str!("figure.js");

/// Colours in [`STYLE`]: 0 is the ink of the page, for what the others are compared with.
pub const COLOURS: usize = 7;

/// What a curve is thinned to: more than the pixels it gets would not show.
const POINTS: usize = 400;

/// Text made safe inside HTML and SVG, attributes included.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Width of text set in `size` px, estimated: the page's font is not known here.
fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.54
}

/// A coordinate, to a tenth of a pixel.
fn px(value: f64) -> String {
    let rounded = (value * 10.0).round() / 10.0;
    if rounded == 0.0 { "0".into() } else { rounded.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_made_safe() {
        assert_eq!(escape(r#"<b a="1">&'"#), "&lt;b a=&quot;1&quot;&gt;&amp;&#39;");
    }

    #[test]
    fn coordinates_are_short() {
        assert_eq!([0.04, -0.01, 12.345, 100.0].map(px), ["0", "0", "12.3", "100"]);
    }

    #[test]
    fn the_style_has_every_colour_light_and_dark() {
        for colour in 0..COLOURS {
            assert_eq!(
                STYLE.matches(&format!("--c{colour}:")).count(),
                3,
                "colour {colour}: light, dark by system, dark by choice"
            );
        }
    }
}
