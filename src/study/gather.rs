//! From what cells came to, to the arms of `study.json`.

use std::collections::BTreeMap;
use std::path::Path;

use super::cells::CellLine;
use super::planner::{Cell, shown};
use super::results::{Arm, Budget, SeedResult, Tuned};
use super::spec::ArmSpec;
use crate::config::{LearnerPlan, MODEL, SourcePlan};

/// The arms' results, one entry for each model that is shown.
pub(super) fn gather(
    arms: &[ArmSpec],
    cells: &[Cell],
    lines: &[CellLine],
    tuned: &BTreeMap<String, Tuned>,
    dir: &Path,
) -> Vec<Arm> {
    let mut out = Vec::new();
    for (index, spec) in arms.iter().enumerate() {
        let mine: Vec<(&Cell, &CellLine)> = cells.iter().zip(lines).filter(|(cell, _)| cell.arm == index).collect();
        let Some((first, _)) = mine.first() else { continue };
        let tuned: Vec<Tuned> = tuned.get(spec.tuned_as.as_ref().unwrap_or(&spec.name)).cloned().into_iter().collect();
        out.extend(shown(&first.plan).iter().map(|own| Arm { tuned: tuned.clone(), ..arm(spec, own, &mine, dir) }));
    }
    out
}

fn arm(spec: &ArmSpec, own: &LearnerPlan, mine: &[(&Cell, &CellLine)], dir: &Path) -> Arm {
    let first = mine[0].0;
    let plan = &first.plan;
    let model = (!plan.models.is_empty()).then(|| own.name.clone());
    let runs = mine.iter().map(|(cell, line)| {
        let found = line.models.get(&own.name).cloned().unwrap_or_default();
        SeedResult {
            path: cell.dir.strip_prefix(dir).unwrap_or(&cell.dir).to_owned(),
            seed: cell.seed,
            held_out_loss: found.held_out_loss,
            held_out: found.held_out,
            pairs: found.pairs,
            scores: found.scores,
            scores_at: found.scores_at,
            curve: found.curve,
            ..SeedResult::default()
        }
    });
    let of_sources = |text: fn(&SourcePlan) -> String| own.from.iter().map(text).collect::<Vec<_>>().join(", ");
    let learns = !own.from.is_empty();
    let mut arm = Arm {
        name: model.as_ref().map_or(spec.name.clone(), |model| format!("{}: {model}", spec.name)),
        method: plan.method.to_string(),
        teacher: if learns { Some(of_sources(|from| from.name.clone())) } else { spec.teacher.clone() },
        soft: match learns {
            true => Some(of_sources(|from| from.soft.to_string())),
            false => plan.teacher.as_ref().map(|_| plan.distill.soft.to_string()),
        },
        start: Some(plan.distill.start.to_string()),
        parameters: Some(own.parameters().total),
        seconds: super::statistics::mean(&mine.iter().map(|(_, line)| line.seconds).collect::<Vec<_>>()),
        flops: Some(first.flops()),
        against: spec.against.get(&own.name).cloned(),
        runs: runs.collect(),
        model: model.clone(),
        ..Arm::default()
    };
    arm.summarise();
    arm
}

/// Adds each student's ends of training at several budgets, its own last, where it has others.
pub(super) fn add_budgets<'a>(
    arms: &mut [Arm],
    specs: &[ArmSpec],
    students: &[Cell],
    branches: impl Iterator<Item = (&'a Cell, &'a CellLine)> + Clone,
) {
    let is_of = |arm: &Arm, cell: &Cell| {
        let name = &specs[cell.arm].name;
        arm.model.as_ref().map_or(arm.name == *name, |model| arm.name == format!("{name}: {model}"))
    };
    for arm in arms {
        for at in 0..arm.runs.len() {
            let seed = arm.runs[at].seed;
            let Some(whole) = students.iter().find(|cell| cell.seed == seed && is_of(arm, cell)) else { continue };
            let model = arm.model.as_deref().unwrap_or(MODEL);
            let budget = |cell: &Cell, loss: Option<f64>| {
                Some(Budget { steps: cell.plan.train.steps, flops: cell.flops(), held_out_loss: loss? })
            };
            let mine = branches.clone().filter(|(cell, _)| cell.arm == whole.arm && cell.seed == seed);
            let loss = |line: &CellLine| line.models.get(model)?.held_out_loss;
            let mut budgets: Vec<Budget> = mine.filter_map(|(cell, line)| budget(cell, loss(line))).collect();
            if !budgets.is_empty() {
                budgets.extend(budget(whole, arm.runs[at].held_out_loss));
                budgets.sort_by_key(|budget| budget.steps);
                arm.runs[at].budgets = budgets;
            }
        }
    }
}
