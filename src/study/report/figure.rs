//! A figure of the report: a drawing with its heading, its caption and its numbers.

use crate::study::figure::{Chart, DotPlot, chart_csv, dot_plot, dots_csv, line_chart};

/// A figure and its words.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What it shows.
    pub heading: String,
    /// How to read it.
    pub caption: String,
    /// The drawing.
    pub svg: String,
    /// Its numbers, as CSV.
    pub csv: String,
}

impl Figure {
    /// A line chart, under its own title.
    pub fn of_chart(chart: &Chart, caption: String) -> Self {
        Self { heading: chart.title.clone(), caption, svg: line_chart(chart), csv: chart_csv(chart) }
    }

    /// A dot plot, under its own title.
    pub fn of_dots(plot: &DotPlot, caption: String) -> Self {
        Self { heading: plot.title.clone(), caption, svg: dot_plot(plot), csv: dots_csv(plot) }
    }
}
