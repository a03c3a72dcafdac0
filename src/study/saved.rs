//! Steps saved: how far apart two curves of ends of training lie, along the budget.

use super::findings::{Estimate, Saved};
use super::results::{Arm, Budget};
use super::statistics::mean;

/// The place on a curve where it first comes to a loss.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reached {
    /// At this budget, between two that were run.
    At(f64),
    /// Its smallest budget is better already.
    BeforeTheFirst,
    /// Its largest budget is not as good.
    BeyondTheLast,
}

/// Where a curve of `(steps, loss)` first comes to `loss`: between neighbours the loss falls linearly over the
/// logarithm of the steps. Never beyond what was run.
fn reached(curve: &[(f64, f64)], loss: f64) -> Reached {
    match curve.first() {
        None => return Reached::BeyondTheLast,
        Some(first) if first.1 <= loss => return Reached::BeforeTheFirst,
        Some(_) => {}
    }
    let crossing = curve.windows(2).find(|pair| pair[1].1 <= loss).map(|pair| {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        (x0.ln() + (y0 - loss) / (y0 - y1) * (x1.ln() - x0.ln())).exp()
    });
    crossing.map_or(Reached::BeyondTheLast, Reached::At)
}

/// One row for each budget of `reference` that two seeds or more have in common with `arm`; empty where ends of
/// training at several budgets are missing.
pub fn steps_saved(arm: &Arm, reference: &Arm, students: u64) -> Vec<Saved> {
    let pairs: Vec<(&[Budget], &[Budget])> = arm
        .runs
        .iter()
        .filter_map(|run| {
            let other = reference.runs.iter().find(|other| other.seed == run.seed)?;
            (run.budgets.len() > 1 && !other.budgets.is_empty()).then_some((&run.budgets[..], &other.budgets[..]))
        })
        .collect();
    let mut budgets: Vec<u64> = pairs.iter().flat_map(|pair| pair.1).map(|budget| budget.steps).collect();
    budgets.sort_unstable();
    budgets.dedup();
    let teacher = arm.flops_with_teacher.zip(arm.flops).map(|(all, own)| all - own);
    budgets
        .into_iter()
        .filter_map(|budget| row(&pairs, budget, teacher, students))
        .map(|saved| Saved { arm: arm.name.clone(), against: reference.name.clone(), ..saved })
        .collect()
}

fn row(pairs: &[(&[Budget], &[Budget])], budget: u64, teacher: Option<f64>, students: u64) -> Option<Saved> {
    let (mut steps, mut own, mut with, mut sharing, mut shares) = (vec![], vec![], vec![], vec![], vec![]);
    let (mut seeds, mut before, mut beyond) = (0, 0, 0);
    for (arm, reference) in pairs {
        let Some(aim) = reference.iter().find(|point| point.steps == budget) else { continue };
        seeds += 1;
        match reached(&curve(arm), aim.held_out_loss) {
            Reached::BeforeTheFirst => before += 1,
            Reached::BeyondTheLast => beyond += 1,
            Reached::At(at) => {
                // A step costs the same at every budget.
                let flops = at * arm[0].flops / arm[0].steps as f64;
                steps.push(budget as f64 - at);
                own.push(1.0 - flops / aim.flops);
                let teacher = teacher.unwrap_or(0.0) / aim.flops;
                with.push(1.0 - flops / aim.flops - teacher);
                sharing.push(1.0 - flops / aim.flops - teacher / students as f64);
                shares.push(teacher);
            }
        }
    }
    let whole = before + beyond == 0;
    let of = |values: &[f64]| Estimate::of(values).filter(|_| whole);
    let with_teacher = |values: &[f64]| of(values).filter(|_| teacher.is_some());
    let pays_from = mean(&own).zip(mean(&shares)).filter(|(own, _)| whole && teacher.is_some() && *own > 0.0);
    (seeds > 0).then(|| Saved {
        arm: String::new(),
        against: String::new(),
        budget,
        seeds,
        before_the_first: before,
        beyond_the_last: beyond,
        steps: of(&steps),
        flops: of(&own),
        flops_with_teacher: with_teacher(&with),
        flops_sharing_teacher: with_teacher(&sharing),
        students,
        pays_from: pays_from.map(|(own, teacher)| (teacher / own).ceil().max(1.0) as u64),
    })
}

/// `(steps, loss)` by rising steps.
fn curve(budgets: &[Budget]) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = budgets.iter().map(|point| (point.steps as f64, point.held_out_loss)).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::results::SeedResult;

    const CURVE: [(f64, f64); 3] = [(100.0, 3.0), (400.0, 2.0), (900.0, 1.5)];

    #[test]
    fn a_loss_is_found_between_budgets_and_never_beyond_them() {
        let at = |loss| reached(&CURVE, loss);
        assert_eq!(at(3.2), Reached::BeforeTheFirst);
        assert_eq!(at(3.0), Reached::BeforeTheFirst);
        assert_eq!(at(1.4), Reached::BeyondTheLast);
        assert_eq!(reached(&[], 1.0), Reached::BeyondTheLast);
        // Half of the way down is half of the way in the logarithm: 200 of 100 to 400.
        let Reached::At(steps) = at(2.5) else { panic!("{:?}", at(2.5)) };
        assert!((steps - 200.0).abs() < 1e-9, "{steps}");
        let Reached::At(last) = at(1.5) else { panic!("{:?}", at(1.5)) };
        assert!((last - 900.0).abs() < 1e-9, "{last}");
    }

    #[test]
    fn a_curve_that_rises_again_counts_where_it_first_comes() {
        let Reached::At(steps) = reached(&[(100.0, 3.0), (200.0, 2.0), (400.0, 2.5), (800.0, 1.0)], 2.2) else { panic!() };
        assert!(steps < 200.0, "{steps}");
    }

    /// Losses that fall by `slope` a doubling of the steps, at 100, 200, 400 and 800 steps.
    fn arm(name: &str, flops_a_step: f64, starts: &[f64]) -> Arm {
        let budget = |start: f64, halving: i32| {
            let steps = 100 << halving;
            Budget { steps, flops: steps as f64 * flops_a_step, held_out_loss: start - 0.5 * f64::from(halving) }
        };
        let run = |(seed, &start): (u64, &f64)| SeedResult {
            seed,
            budgets: (0..4).map(|halving| budget(start, halving)).collect(),
            ..SeedResult::default()
        };
        Arm { name: name.into(), runs: (1..).zip(starts).map(run).collect(), flops: Some(800.0 * flops_a_step), ..Arm::default() }
    }

    #[test]
    fn what_is_half_a_nat_ahead_saves_half_of_the_steps() {
        let alone = arm("alone", 1.0, &[4.0, 4.2]);
        let teacher_flops = 100.0;
        let taught = Arm { flops_with_teacher: Some(1200.0 + teacher_flops), ..arm("taught", 1.5, &[3.5, 3.7]) };
        let rows = steps_saved(&taught, &alone, 10);
        assert_eq!(rows.iter().map(|row| row.budget).collect::<Vec<_>>(), [100, 200, 400, 800]);
        assert_eq!((rows[0].before_the_first, rows[0].steps), (2, None), "how much less than 100 would do was not run");
        let last = &rows[3];
        let near = |found: Option<Estimate>, mean: f64| assert!((found.unwrap().mean - mean).abs() < 1e-9, "{found:?}");
        assert_eq!((last.seeds, last.before_the_first, last.beyond_the_last), (2, 0, 0));
        near(last.steps, 400.0);
        // 400 steps of 1.5 against 800 of 1.
        near(last.flops, 0.25);
        near(last.flops_with_teacher, 0.125);
        near(last.flops_sharing_teacher, 0.2375);
        assert_eq!(last.pays_from, Some(1), "a quarter is saved, and the teacher cost an eighth");
        let interval = last.steps.unwrap().interval.unwrap();
        assert!((interval.high - interval.low) < 1e-6, "both seeds say the same");
    }

    #[test]
    fn what_is_behind_needs_more_and_is_not_extrapolated() {
        let (alone, slow) = (arm("alone", 1.0, &[4.0, 4.0]), arm("slow", 1.0, &[4.5, 4.4]));
        let rows = steps_saved(&slow, &alone, 10);
        assert_eq!((rows[3].beyond_the_last, rows[3].steps), (2, None));
        let second = &rows[1];
        assert!(second.steps.unwrap().mean < -100.0 && second.flops.unwrap().mean < 0.0, "{second:?}");
        assert_eq!((second.pays_from, second.flops_with_teacher), (None, None));
    }

    #[test]
    fn without_budgets_there_is_nothing_to_say() {
        let plain = Arm { runs: vec![SeedResult { seed: 1, ..SeedResult::default() }], ..Arm::default() };
        assert!(steps_saved(&plain, &arm("alone", 1.0, &[4.0]), 10).is_empty());
        assert!(steps_saved(&arm("taught", 1.0, &[4.0]), &plain, 10).is_empty());
    }
}
