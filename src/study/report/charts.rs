//! Which figures a report has, and what is in them.

use std::collections::BTreeMap;

use super::figure::Figure;
use super::read::{Material, Run};
use crate::config::ObjectiveKind;
use crate::log::{ModelRecord, StepRecord};
use crate::study::figure::{Axis, COLOURS, Chart, Point, Reference, Series, band_over, ema, mean_over, number};
use crate::study::results::{Arm, SeedResult, Study};

/// What a vertical axis shows, and how.
#[derive(Clone, Copy)]
struct Quantity {
    label: &'static str,
    log: bool,
    from_zero: bool,
    /// Share of the curve that may run out of the frame at its start.
    settle: f64,
}

const NORM: Quantity = Quantity { label: "global norm, log scale", log: true, from_zero: false, settle: 0.0 };
const SPEED: Quantity = Quantity { label: "tokens/s", log: false, from_zero: true, settle: 0.06 };
const SCORES: Quantity = Quantity { label: "score", log: false, from_zero: false, settle: 0.0 };
const SHARE: Quantity = Quantity { label: "share", log: false, from_zero: true, settle: 0.0 };
const SETTING: Quantity = Quantity { label: "", log: false, from_zero: true, settle: 0.0 };
/// More arms than this are drawn apart, by teacher.
const TOGETHER: usize = 8;

fn losses(study: &Study) -> Quantity {
    Quantity { label: study.objective.loss_unit(), log: false, from_zero: false, settle: 0.12 }
}

/// One arm with what drawing it takes.
struct Drawn<'a> {
    arm: &'a Arm,
    colour: usize,
    runs: Vec<&'a Run>,
}

/// The curves of what is held out: loss over steps, agreement, and scores over steps.
pub(super) fn of_held_out(material: &Material) -> Vec<Figure> {
    let arms = drawn(material);
    let several = material.study.arms.iter().any(|arm| arm.seeds > 1);
    let source = material.study.source_loss.map(|y| Reference { name: "source".into(), y });
    let mut figures = Vec::new();
    for (panel, arms) in panels(material, &arms) {
        let series = arms.iter().map(|arm| {
            let runs = held_out_curves(arm);
            Series { curve: mean_over(&runs), band: band_over(&runs), ..named(arm) }
        });
        let mut caption =
            String::from(if several { "Mean over seeds; the band is from the lowest to the highest. " } else { "" });
        caption += if source.is_some() { "No model can get below the source that wrote the text." } else { "" };
        let words = (format!("Held-out loss{panel}"), caption);
        figures.extend(figure(words, losses(&material.study), series.collect(), source.clone().into_iter().collect()));
    }
    figures.extend(agreement(&arms, material.study.objective.token()));
    figures.extend(by_step(&arms));
    figures
}

/// How often models that train together have the same most likely candidate; each pair once.
fn agreement(arms: &[Drawn], token: &str) -> Option<Figure> {
    let pairs = |arm: &Drawn| -> Vec<String> {
        let found = arm.runs.iter().flat_map(|run| &run.steps).find(|record| !record.agreement.is_empty());
        found.into_iter().flat_map(|record| record.agreement.keys().cloned()).collect()
    };
    let mut seen: Vec<(&std::path::Path, String)> = Vec::new();
    let mut all = Vec::new();
    for arm in arms {
        let run = arm.runs.first().map(|run| run.dir.as_path());
        for pair in pairs(arm) {
            let Some(run) = run.filter(|run| !seen.contains(&(*run, pair.clone()))) else { continue };
            let curves = curves(&arm.runs, |record| record.agreement.get(&pair).copied());
            let whose = arm.arm.model.as_ref().and_then(|model| arm.arm.name.strip_suffix(&format!(": {model}")));
            let name = format!("{}: {}", whose.unwrap_or(&arm.arm.name), pair.replace('/', " and "));
            all.push(Series { name, curve: mean_over(&curves), band: band_over(&curves), ..named(arm) });
            seen.push((run, pair));
        }
    }
    let caption = format!("Share of held-out {token}s where both have the same most likely candidate.");
    figure(("Agreement between models".into(), caption), SHARE, all, Vec::new())
}

/// What each model learns from each other one, where some model learns from several.
fn by_direction(arms: &[Drawn], losses: Quantity) -> Vec<Figure> {
    let sources = |arm: &Drawn| -> Vec<String> {
        let own = arm.runs.iter().flat_map(|run| &run.steps).find_map(|record| own_record(record, arm.arm.model.as_deref()?));
        own.map_or_else(Vec::new, |own| own.from.iter().map(|soft| soft.name.clone()).collect())
    };
    if arms.iter().all(|arm| sources(arm).len() < 2) {
        return Vec::new();
    }
    let of_arm = |arm: &Drawn| {
        let (model, from) = (arm.arm.model.clone().unwrap_or_default(), sources(arm));
        let drawn = |from: &String| {
            let one = [arm];
            let what = (format!("Soft loss of {} from {from}", arm.arm.name), "Divergence from it, before its weight");
            smoothed(what, losses, &one, |record| {
                own_record(record, &model)?.from.iter().find(|soft| soft.name == *from)?.loss_soft
            })
        };
        from.iter().filter_map(drawn).collect::<Vec<_>>()
    };
    arms.iter().flat_map(of_arm).collect()
}

fn own_record<'a>(record: &'a StepRecord, model: &str) -> Option<&'a ModelRecord> {
    record.models.iter().find(|own| own.name == model)
}

/// Scores of fine-tuned checkpoints over pre-training (Lee et al. 2023, figures 3 and 4).
fn by_step(arms: &[Drawn]) -> Vec<Figure> {
    let finetuned = arms.iter().flat_map(|arm| &arm.runs).flat_map(|run| &run.finetuned).map(|(_, found)| found.task.as_str());
    let midway = arms.iter().flat_map(|arm| &arm.arm.runs).flat_map(|run| &run.scores_at);
    let mut tasks: Vec<&str> = finetuned.chain(midway.flat_map(|at| at.scores.keys()).map(String::as_str)).collect();
    tasks.sort_unstable();
    tasks.dedup();
    let series = |task: &str, arm: &Drawn| {
        let mut curves: Vec<Vec<Point>> = arm.runs.iter().flat_map(|run| score_curves(run, task)).collect();
        if curves.is_empty() {
            curves = arm.arm.runs.iter().map(|run| scores_of_study(run, task)).filter(|curve| curve.len() > 1).collect();
        }
        Series { curve: mean_over(&curves), band: band_over(&curves), ..named(arm) }
    };
    let caption =
        "Fine-tuned from each checkpoint; mean over seeds, and the band is from the lowest to the highest. Higher is better.";
    let drawn = |&task: &&str| {
        let all = arms.iter().map(|arm| series(task, arm)).collect();
        figure((format!("Score on {task} by pre-training step"), caption.into()), SCORES, all, Vec::new())
    };
    tasks.iter().filter_map(drawn).collect()
}

/// A curve for each of fine-tuning's seeds.
fn score_curves(run: &Run, task: &str) -> Vec<Vec<Point>> {
    let mut curves: BTreeMap<u64, Vec<Point>> = BTreeMap::new();
    for (step, found) in run.finetuned.iter().filter(|(_, found)| found.task == task) {
        curves.entry(found.seed).or_default().push((*step as f64, found.score));
    }
    curves.into_values().collect()
}

/// What a study scored on the way, and at the end.
fn scores_of_study(run: &SeedResult, task: &str) -> Vec<Point> {
    let midway = run.scores_at.iter().filter_map(|at| Some((at.steps as f64, *at.scores.get(task)?)));
    let end = run.curve.last().zip(run.scores.get(task)).map(|(&(steps, _), &score)| (steps as f64, score));
    midway.chain(end).collect()
}

/// The figures about the training itself.
pub(super) fn of_training(material: &Material) -> Vec<Figure> {
    let arms = drawn(material);
    let all: Vec<&Drawn> = arms.iter().collect();
    let mut figures = Vec::new();
    let panels = panels(material, &arms);
    let losses = losses(&material.study);
    let against = match material.study.objective {
        ObjectiveKind::Masked => "Cross-entropy against the masked tokens, in training",
        ObjectiveKind::Causal => "Cross-entropy against the next tokens, in training",
    };
    for (panel, arms) in &panels {
        let hard = (format!("Hard loss{panel}"), against);
        figures.extend(smoothed(hard, losses, arms, |r| Some(r.loss_hard)));
    }
    for (panel, arms) in &panels {
        let soft = (format!("Soft loss{panel}"), "Divergence from the teacher, before its weight");
        figures.extend(smoothed(soft, losses, arms, |r| r.loss_soft));
    }
    figures.extend(by_direction(&arms, losses));
    figures.extend(scheduled("Weight of the soft loss", &arms, |r| r.alpha_soft));
    if arms.iter().flat_map(|arm| &arm.runs).flat_map(|run| &run.steps).any(|record| record.alpha_hard != 1.0) {
        figures.extend(scheduled("Weight of the hard loss", &arms, |r| Some(r.alpha_hard)));
    }
    figures.extend(scheduled("Temperature", &arms, |r| r.temperature));
    figures.extend(scheduled("Learning rate", &arms, |r| Some(r.lr)));
    let norm = ("Gradient norm".into(), "Over all parameters, before clipping");
    figures.extend(smoothed(norm, NORM, &all, |r| Some(r.grad_norm)));
    let speed = ("Speed".into(), "Real tokens trained on, without padding");
    figures.extend(smoothed(speed, SPEED, &all, |r| Some(r.tokens_per_s)));
    figures
}

fn drawn(material: &Material) -> Vec<Drawn<'_>> {
    let arms = material.study.arms.iter().zip(&material.runs);
    arms.map(|(arm, runs)| Drawn { arm, colour: colour(&material.study, arm), runs: usable(runs) }).collect()
}

/// The baseline is drawn in ink. The others count within their panel, so that an arm has its siblings' colour in each.
pub(super) fn colour(study: &Study, arm: &Arm) -> usize {
    let baseline = study.baseline().map(|arm| arm.name.as_str());
    if baseline == Some(arm.name.as_str()) {
        return 0;
    }
    let apart = study.arms.len() > TOGETHER;
    let siblings =
        study.arms.iter().filter(|other| baseline != Some(other.name.as_str()) && (!apart || other.teacher == arm.teacher));
    let place = siblings.take_while(|other| other.name != arm.name).count();
    1 + place % (COLOURS - 1) + if (place / (COLOURS - 1)) % 2 == 1 { COLOURS } else { 0 }
}

/// Finished runs; while there are none, all: a run under way would cut its arm's mean short.
fn usable(runs: &[Run]) -> Vec<&Run> {
    let finished: Vec<&Run> = runs.iter().filter(|run| run.summary.is_some()).collect();
    if finished.is_empty() { runs.iter().collect() } else { finished }
}

/// All arms in one panel, or, when they are too many, one for each teacher, the baseline in each.
fn panels<'a>(material: &Material, arms: &'a [Drawn<'a>]) -> Vec<(String, Vec<&'a Drawn<'a>>)> {
    if arms.len() <= TOGETHER {
        return vec![(String::new(), arms.iter().collect())];
    }
    let baseline = material.study.baseline().map(|arm| arm.name.as_str());
    let mut teachers: Vec<&Option<String>> = Vec::new();
    arms.iter().for_each(|arm| {
        if !teachers.contains(&&arm.arm.teacher) {
            teachers.push(&arm.arm.teacher);
        }
    });
    let in_panel = |teacher: &Option<String>| {
        arms.iter().filter(|arm| arm.arm.teacher == *teacher || baseline == Some(arm.arm.name.as_str())).collect()
    };
    let title =
        |teacher: &Option<String>| teacher.as_ref().map_or(", no teacher".into(), |teacher| format!(", teacher {teacher}"));
    teachers.into_iter().map(|teacher| (title(teacher), in_panel(teacher))).collect()
}

fn named(drawn: &Drawn) -> Series {
    Series { name: drawn.arm.name.clone(), colour: drawn.colour, ..Series::default() }
}

/// A number of each run against steps done.
fn curves(runs: &[&Run], pick: impl Fn(&StepRecord) -> Option<f64>) -> Vec<Vec<Point>> {
    let points = |run: &&Run| run.steps.iter().filter_map(|record| Some(((record.step + 1) as f64, pick(record)?))).collect();
    runs.iter().map(points).filter(|curve: &Vec<Point>| !curve.is_empty()).collect()
}

/// The held-out loss of each run; where no run's folder is here, as the study's results have it.
fn held_out_curves(drawn: &Drawn) -> Vec<Vec<Point>> {
    let found = curves(&drawn.runs, |record| record.held_out_loss);
    if !found.is_empty() {
        return found;
    }
    let points = |run: &SeedResult| run.curve.iter().map(|&(step, loss)| (step as f64, loss)).collect();
    drawn.arm.runs.iter().map(points).filter(|curve: &Vec<Point>| !curve.is_empty()).collect()
}

/// Smoothed means with their bands over what was logged.
fn smoothed(
    (heading, about): (String, &str),
    y: Quantity,
    arms: &[&Drawn],
    pick: impl Fn(&StepRecord) -> Option<f64>,
) -> Option<Figure> {
    let mut window_steps: f64 = 0.0;
    let series = arms.iter().map(|arm| {
        let runs = curves(&arm.runs, &pick);
        let raw = mean_over(&runs);
        let window = (raw.len() as f64 / 60.0).max(1.0);
        let smooth: Vec<Vec<Point>> = runs.iter().map(|run| ema(run, window)).collect();
        if let ([first, ..], [.., last]) = (&raw[..], &raw[..]) {
            window_steps = window_steps.max(window * (last.0 - first.0) / raw.len() as f64);
        }
        Series { curve: mean_over(&smooth), band: band_over(&smooth), raw, ..named(arm) }
    });
    let series = series.collect();
    figure(
        (heading, format!("{about}. Smoothed over about {} steps; faint, as logged.", number(window_steps.round().max(1.0)))),
        y,
        series,
        Vec::new(),
    )
}

/// What a schedule sets: arms that share a curve share a line.
fn scheduled(heading: &str, arms: &[Drawn], pick: impl Fn(&StepRecord) -> Option<f64> + Copy) -> Option<Figure> {
    let mut groups: Vec<(Vec<Point>, Vec<&Drawn>)> = Vec::new();
    for arm in arms {
        let curve = mean_over(&curves(&arm.runs, pick));
        match groups.iter_mut().find(|(other, _)| same(other, &curve)) {
            _ if curve.is_empty() => {}
            Some((_, group)) => group.push(arm),
            None => groups.push((curve, vec![arm])),
        }
    }
    let all = groups.len() == 1;
    let series = groups.into_iter().map(|(curve, group)| {
        let name = match &group[..] {
            _ if all => String::new(),
            [one] => one.arm.name.clone(),
            [one, two] => format!("{}, {}", one.arm.name, two.arm.name),
            [one, rest @ ..] => format!("{} and {} more", one.arm.name, rest.len()),
            [] => String::new(),
        };
        Series { name, curve, ..named(group[0]) }
    });
    let caption = if all { "The same in every run that has one." } else { "Arms that share a schedule share a line." };
    figure((heading.into(), caption.into()), SETTING, series.collect(), Vec::new())
}

fn same(a: &[Point], b: &[Point]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() <= 1e-9 * a.1.abs().max(b.1.abs()))
}

fn figure(
    (heading, caption): (String, String),
    y: Quantity,
    mut series: Vec<Series>,
    references: Vec<Reference>,
) -> Option<Figure> {
    series.retain(|s| !s.curve.is_empty());
    // What the others are compared with lies on top.
    series.sort_by_key(|s| s.colour == 0);
    let x = Axis { label: "step".into(), ..Axis::default() };
    let axis = Axis { label: y.label.into(), log: y.log, from_zero: y.from_zero, ..Axis::default() };
    let chart = Chart { title: heading, x, y: axis, series, references, settle: y.settle };
    (!chart.series.is_empty()).then(|| Figure::of_chart(&chart, caption))
}
