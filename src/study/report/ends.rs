//! Figures about the end of training: every seed a dot, what arms differ by, and what they save.

use super::charts::colour;
use super::figure::Figure;
use crate::study::comparison::EndPoint;
use crate::study::figure::{Axis, Chart, DotPlot, DotRow, Reference, Series, mean_over};
use crate::study::findings::Comparison;
use crate::study::results::{Arm, Study};
use crate::study::statistics::{interval_95, paired_differences};

/// The figures about the primary end point.
pub(super) fn of_primary(study: &Study) -> Vec<Figure> {
    let primary = study.primary();
    [values(study, &primary), differences(study, &primary), budgets(study)].into_iter().flatten().collect()
}

/// One figure for each other end point.
pub(super) fn of_others(study: &Study) -> Vec<Figure> {
    let primary = study.primary();
    study
        .end_points()
        .iter()
        .filter(|end_point| **end_point != primary)
        .filter_map(|end_point| values(study, end_point))
        .collect()
}

fn label(study: &Study, end_point: &EndPoint) -> &'static str {
    if end_point.is_loss() { study.objective.loss_unit() } else { "score" }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

/// Every arm's every seed.
fn values(study: &Study, end_point: &EndPoint) -> Option<Figure> {
    let best = study.best().filter(|_| *end_point == study.primary()).map(|arm| arm.name.as_str());
    let row = |arm: &Arm| {
        let values: Vec<f64> = end_point.values(arm).into_iter().map(|(_, value)| value).collect();
        let mean = end_point.mean(arm)?.mean;
        let interval = interval_95(&values).map(|interval| (interval.low, interval.high));
        let (name, best) = (arm.name.clone(), best == Some(arm.name.as_str()));
        Some(DotRow { name, colour: colour(study, arm), values, mean, interval, best, note: String::new() })
    };
    // A teacher is far from its students and would press them together; alone, it is the subject.
    let students = study.arms.iter().any(|arm| !arm.is_teacher && end_point.mean(arm).is_some());
    let rows: Vec<DotRow> = study.arms.iter().filter(|arm| !(students && arm.is_teacher)).filter_map(row).collect();
    let reference = study.baseline().and_then(|arm| Some(Reference { name: String::new(), y: end_point.mean(arm)?.mean }));
    let heading = format!("{} at the end", capital(&end_point.title()));
    let heading = if end_point.is_loss() { heading } else { capital(&end_point.title()) };
    let better = if end_point.is_loss() { "Lower is better." } else { "Higher is better." };
    let caption = format!("{}{better}", marks(&rows));
    let plot = DotPlot { title: heading, label: label(study, end_point).into(), rows, reference, band: None };
    (plot.rows.len() > 1).then(|| Figure::of_dots(&plot, caption))
}

fn marks(rows: &[DotRow]) -> &'static str {
    match rows.iter().any(|row| row.interval.is_some()) {
        true => "Every seed a dot; the mark below is their mean, the bar its 95 % interval. ",
        false => "",
    }
}

/// What every arm differs by from its reference, seed by seed.
fn differences(study: &Study, end_point: &EndPoint) -> Option<Figure> {
    let found = study.comparisons(end_point);
    let row = |found: &Comparison| {
        let named = |name: &String| study.arms.iter().find(|arm| arm.name == *name);
        let (arm, reference) = (named(&found.arm)?, named(&found.against)?);
        Some(DotRow {
            name: found.arm.clone(),
            colour: colour(study, arm),
            values: paired_differences(&end_point.values(arm), &end_point.values(reference)).unwrap_or_default(),
            mean: found.difference,
            interval: Some((found.interval.low, found.interval.high)),
            best: false,
            note: found.verdict.word().into(),
        })
    };
    let margin = found.first()?.margin;
    let from = if study.has_references() { "what each is compared with" } else { found.first()?.against.as_str() };
    let heading = format!("What the {} differs by from {from}", end_point.title());
    let side = if end_point.is_loss() { "left" } else { "right" };
    let band = margin.map_or(String::new(), |margin| format!(" Shaded: differences below the margin of {margin} count as none."));
    let rows: Vec<DotRow> = found.iter().filter_map(row).collect();
    let caption =
        format!("{}To the {side} of 0 is better.{band}", marks(&rows).replace("Every seed", "Every pair of runs with one seed"));
    let plot = DotPlot {
        title: heading,
        label: label(study, end_point).into(),
        rows,
        reference: Some(Reference { name: String::new(), y: 0.0 }),
        band: margin.map(|margin| (-margin, margin)),
    };
    Some(Figure::of_dots(&plot, caption))
}

/// Ends of training over their budgets: the horizontal distance is what is saved.
fn budgets(study: &Study) -> Option<Figure> {
    let series = |arm: &Arm| {
        let point = |budget: &crate::study::results::Budget| (budget.steps as f64, budget.held_out_loss);
        let runs: Vec<Vec<(f64, f64)>> =
            arm.runs.iter().filter(|run| run.budgets.len() > 1).map(|run| run.budgets.iter().map(point).collect()).collect();
        let dots = runs.concat();
        Series { name: arm.name.clone(), colour: colour(study, arm), curve: mean_over(&runs), dots, ..Series::default() }
    };
    let mut all: Vec<Series> = study.arms.iter().filter(|arm| !arm.is_teacher).map(series).collect();
    all.retain(|series| series.curve.len() > 1);
    // What the others are compared with lies on top.
    all.sort_by_key(|series| series.colour == 0);
    let heading = "Held-out loss at the end of training, by budget".to_owned();
    let caption = "Every dot is a run that was trained to its end; the line is the mean over seeds. \
                   How far a line lies to the left of another is what it saves."
        .to_owned();
    let mut ticks: Vec<f64> = all.iter().flat_map(|series| &series.curve).map(|point| point.0).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    let chart = Chart {
        title: heading,
        x: Axis { label: "steps, log scale".into(), log: true, ticks, ..Axis::default() },
        y: Axis { label: study.objective.loss_unit().into(), ..Axis::default() },
        series: all,
        ..Chart::default()
    };
    (!chart.series.is_empty()).then(|| Figure::of_chart(&chart, caption))
}

/// A caption's first words for tests of few seeds: what a sign-flip test can say at most.
pub(super) fn fewest(found: &[Comparison]) -> Option<String> {
    let seeds = found.iter().filter(|found| found.paired).map(|found| found.seeds.0).min()?;
    // All signs alike, either way.
    let least = 2.0 / f64::powi(2.0, seeds.min(60) as i32);
    (least >= 0.05).then(|| format!("With {seeds} seeds a sign-flip test can't come below {least:.3}."))
}
