//! A figure's numbers as a table for other programs.

use std::fmt::Write as _;

use super::{Chart, DotPlot, POINTS, downsample};

/// A line chart's numbers, a line a point: the series, x, y, and the spread where it has one. Curves are as they are
/// drawn, smoothed where the figure says so and thinned to as many points; single values follow as `NAME, one run`.
pub fn chart_csv(chart: &Chart) -> String {
    let mut out = format!("series,{},{},low,high\n", field(&chart.x.label), field(&chart.y.label));
    for series in &chart.series {
        let name = field(&series.name);
        for (x, y) in downsample(&series.curve, POINTS).into_iter().filter(|point| point.1.is_finite()) {
            let spread = series.band.binary_search_by(|band| band.0.total_cmp(&x)).ok().map(|at| series.band[at]);
            let spread = spread.map_or(",".to_owned(), |(_, low, high)| format!("{},{}", short(low), short(high)));
            let _ = writeln!(out, "{name},{x},{},{spread}", short(y));
        }
        let name = field(&format!("{}, one run", series.name));
        for (x, y) in series.dots.iter().filter(|dot| dot.1.is_finite()) {
            let _ = writeln!(out, "{name},{x},{},,", short(*y));
        }
    }
    for reference in &chart.references {
        let _ = writeln!(out, "{},,{},,", field(&reference.name), short(reference.y));
    }
    out
}

/// Seven significant digits, about those of f32.
fn short(value: f64) -> f64 {
    format!("{value:.6e}").parse().unwrap_or(value)
}

/// A dot plot's numbers: a line a dot, then a line with each row's mean and its 95 % interval.
pub fn dots_csv(plot: &DotPlot) -> String {
    let mut out = format!("row,what,{},low,high\n", field(&plot.label));
    for row in &plot.rows {
        let name = field(&row.name);
        row.values.iter().filter(|value| value.is_finite()).for_each(|value| {
            let _ = writeln!(out, "{name},seed,{},,", short(*value));
        });
        let interval = row.interval.map_or(",".to_owned(), |(low, high)| format!("{},{}", short(low), short(high)));
        let _ = writeln!(out, "{name},mean,{},{interval}", short(row.mean));
    }
    out
}

/// A field as RFC 4180 has it.
fn field(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::figure::{Axis, DotRow, Reference, Series};

    #[test]
    fn a_charts_numbers_are_a_table() {
        let series = Series {
            name: "a, \"b\"".into(),
            curve: vec![(1.0, 2.5), (2.0, f64::NAN), (3.0, 2.0)],
            band: vec![(1.0, 2.25, 2.75)],
            dots: vec![(3.0, 1.5)],
            ..Series::default()
        };
        let axis = |label: &str| Axis { label: label.into(), ..Axis::default() };
        let references = vec![Reference { name: "source".into(), y: 0.5 }];
        let chart = Chart { x: axis("step"), y: axis("nats"), series: vec![series], references, ..Chart::default() };
        insta::assert_snapshot!(chart_csv(&chart), @r#"
        series,step,nats,low,high
        "a, ""b""",1,2.5,2.25,2.75
        "a, ""b""",3,2,,
        "a, ""b"", one run",3,1.5,,
        source,,0.5,,
        "#);
    }

    #[test]
    fn a_dot_plots_numbers_are_a_table() {
        let row =
            DotRow { name: "alone".into(), values: vec![1.0, 2.0], mean: 1.5, interval: Some((1.0, 2.0)), ..DotRow::default() };
        let plot = DotPlot { label: "nats".into(), rows: vec![row], ..DotPlot::default() };
        assert_eq!(dots_csv(&plot), "row,what,nats,low,high\nalone,seed,1,,\nalone,seed,2,,\nalone,mean,1.5,1,2\n");
    }
}
