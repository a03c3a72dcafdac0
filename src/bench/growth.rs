//! How a step's time grows with batch, length, layers, width and vocabulary, one at a time: with the work, or faster.

use serde::Serialize;

use super::median;
use super::sizes::{STEP_SIZES, StepSize};
use super::step::StepBench;
use crate::device::{Compute, Device, Precision};
use crate::error::Result;
use crate::study::figure::{Axis, Chart, Series};
use crate::study::report::{Figure, figure_page};

/// Step time over one dimension.
#[derive(Debug, Clone, Serialize)]
pub struct Growth {
    /// The dimension.
    pub of: &'static str,
    /// From the smallest up.
    pub points: Vec<GrowthPoint>,
    /// `a` and `b` of `step_ms = a + b GFLOP`, by least squares of relative errors.
    pub line: [f64; 2],
    /// The largest distance of a point from that line, as a share of the line.
    pub off: f64,
}

/// One size.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct GrowthPoint {
    /// The dimension's value.
    pub at: usize,
    /// FLOPs that real tokens need in a step, in 1e9.
    pub gflop: f64,
    /// The median over the rounds.
    pub step_ms: f64,
}

/// What the others are held at.
pub const BASE: StepSize = StepSize { vocab: 8192, ..STEP_SIZES[0] };

type Vary = fn(StepSize, usize) -> StepSize;

const DIMENSIONS: [(&str, [usize; 4], Vary); 5] = [
    ("rows a step", [4, 8, 16, 32], |size, batch| StepSize { batch, ..size }),
    ("tokens a row", [32, 64, 128, 256], |size, length| StepSize { length, ..size }),
    ("layers", [1, 2, 4, 8], |size, layers| StepSize { layers, ..size }),
    ("width", [64, 128, 256, 512], |size, hidden| StepSize { hidden, ..size }),
    ("vocabulary", [2048, 8192, 16384, 30522], |size, vocab| StepSize { vocab, ..size }),
];

/// Measures every dimension, its sizes in turn, `rounds` times after one that warms up.
///
/// # Errors
/// When a step fails.
pub fn bench_growth(rounds: usize, device: &Device, mut note: impl FnMut(&str)) -> Result<Vec<Growth>> {
    let mut all = Vec::new();
    for (of, values, vary) in DIMENSIONS {
        note(of);
        let mut sizes = Vec::new();
        for at in values {
            let bench = StepBench::new(vary(BASE, at), rounds as u64 + 1, Precision::F32, device)?;
            let runner = bench.runner(Compute::of(&device.handle).kernels);
            sizes.push((at, bench, runner, Vec::new()));
        }
        for round in 0..=rounds {
            for (_, bench, runner, seconds) in &mut sizes {
                let taken = bench.step(runner, round)?;
                (round > 0).then(|| seconds.push(taken.seconds));
            }
        }
        let point = |(at, bench, _, seconds): (usize, StepBench, _, Vec<f64>)| GrowthPoint {
            at,
            gflop: bench.flops() / 1e9,
            step_ms: median(seconds) * 1e3,
        };
        all.push(Growth::over(of, sizes.into_iter().map(point).collect()));
    }
    Ok(all)
}

impl Growth {
    fn over(of: &'static str, points: Vec<GrowthPoint>) -> Self {
        let line = fitted(&points);
        let off = points.iter().map(|point| (point.step_ms / along(line, point.gflop) - 1.0).abs()).fold(0.0, f64::max);
        Self { of, points, line, off }
    }
}

fn along([a, b]: [f64; 2], gflop: f64) -> f64 {
    a + b * gflop
}

/// The line whose relative errors have the smallest sum of squares: small steps count as much as large ones.
fn fitted(points: &[GrowthPoint]) -> [f64; 2] {
    let sum = |of: &dyn Fn(&GrowthPoint) -> f64| points.iter().map(of).sum::<f64>();
    let weight = |point: &GrowthPoint| point.step_ms.powi(-2);
    let (w, wx, wy) = (sum(&weight), sum(&|p| weight(p) * p.gflop), sum(&|p| weight(p) * p.step_ms));
    let (wxx, wxy) = (sum(&|p| weight(p) * p.gflop * p.gflop), sum(&|p| weight(p) * p.gflop * p.step_ms));
    let b = (w * wxy - wx * wy) / (w * wxx - wx * wx);
    [(wy - b * wx) / w, b]
}

/// The charts as one HTML page: measured, and the straight line in FLOPs.
pub fn growth_page(all: &[Growth], device: &Device) -> String {
    let figures: Vec<Figure> = all.iter().map(figure).collect();
    let lead = format!(
        "Device: {device}. A step of distillation: {} layers of {} with a teacher of {}, vocabulary {}, {} packed rows of {} tokens; in each \
         figure one of these varies. The line is what the step would take if it were a fixed cost and its FLOPs at one rate.",
        BASE.layers, BASE.hidden, BASE.teacher_layers, BASE.vocab, BASE.batch, BASE.length
    );
    figure_page("How a step grows", &lead, &figures)
}

fn figure(growth: &Growth) -> Figure {
    let over = |of: &dyn Fn(&GrowthPoint) -> f64| growth.points.iter().map(|point| (point.at as f64, of(point))).collect();
    let axis = |label: &str| Axis { label: label.to_owned(), from_zero: true, ..Axis::default() };
    let series = |name: &str, colour, curve| Series { name: name.to_owned(), colour, curve, ..Series::default() };
    let chart = Chart {
        title: format!("Step time over {}", growth.of),
        x: Axis { from_zero: false, ..axis(growth.of) },
        y: axis("ms a step"),
        series: vec![
            series("straight in FLOPs", 0, over(&|point| along(growth.line, point.gflop))),
            series("measured", 1, over(&|point| point.step_ms)),
        ],
        ..Chart::default()
    };
    let caption = format!(
        "{:.1} ms and {:.2} ms a GFLOP; at most {:.0} % off the line.",
        growth.line[0],
        growth.line[1],
        100.0 * growth.off
    );
    Figure::of_chart(&chart, caption)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_line_is_found_and_a_bend_is_told() {
        let point = |gflop: f64, step_ms: f64| GrowthPoint { at: 1, gflop, step_ms };
        let straight = Growth::over("x", [1.0, 2.0, 4.0, 8.0].map(|x| point(x, 3.0 + 5.0 * x)).to_vec());
        assert!((straight.line[0] - 3.0).abs() < 1e-9 && (straight.line[1] - 5.0).abs() < 1e-9, "{straight:?}");
        assert!(straight.off < 1e-9);
        let bent = Growth::over("x", [1.0, 2.0, 4.0, 8.0].map(|x| point(x, x * x)).to_vec());
        assert!(bent.off > 0.2, "{bent:?}");
    }
}
