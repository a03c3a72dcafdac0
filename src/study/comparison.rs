//! What a study says of its arms: each compared with its reference at an end point, and one word for what came out.

use super::findings::{Comparison, Verdict};
use super::registration::{HELD_OUT, TestSpec};
use super::results::{Arm, MeanSd, Study};
use super::statistics::{Difference, bound, difference, equivalence, holm, paired_differences, seeds_needed, sign_flip};

/// Something that every arm is measured by.
#[derive(Clone, Debug, PartialEq)]
pub struct EndPoint {
    /// Its name, as in `[test] end_point`.
    pub name: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    HeldOut,
    Set,
    Pairs,
    Task,
}

impl EndPoint {
    /// Whether it is a loss, in nats a token and better where it is lower, or a score, better where it is
    /// higher.
    pub fn is_loss(&self) -> bool {
        matches!(self.kind, Kind::HeldOut | Kind::Set)
    }

    /// Its name in a heading or a sentence: `loss on imdb`.
    pub fn title(&self) -> String {
        match self.kind {
            Kind::HeldOut => HELD_OUT.into(),
            Kind::Set => format!("loss on {}", self.name),
            Kind::Pairs => format!("accuracy on {}", self.name),
            Kind::Task => format!("score on {}", self.name),
        }
    }

    /// Mean and spread over an arm's seeds.
    pub fn mean(&self, arm: &Arm) -> Option<MeanSd> {
        match self.kind {
            Kind::HeldOut => arm.held_out_loss,
            Kind::Set => arm.held_out.get(&self.name).copied(),
            Kind::Pairs => arm.pairs.get(&self.name).copied(),
            Kind::Task => arm.scores.get(&self.name).copied(),
        }
    }

    /// `(seed, value)` of the runs that have it.
    pub fn values(&self, arm: &Arm) -> Vec<(u64, f64)> {
        let of = |run: &super::results::SeedResult| match self.kind {
            Kind::HeldOut => run.held_out_loss,
            Kind::Set => run.held_out.get(&self.name).copied(),
            Kind::Pairs => run.pairs.get(&self.name).copied(),
            Kind::Task => run.scores.get(&self.name).copied(),
        };
        arm.runs.iter().filter_map(|run| Some((run.seed, of(run)?))).collect()
    }
}

impl Study {
    /// What arms are measured by, where some arm is: the held-out loss, other held-out sets, minimal pairs, tasks.
    pub fn end_points(&self) -> Vec<EndPoint> {
        let named = |kind: Kind, of: fn(&Arm) -> Vec<&String>| {
            let mut names: Vec<&String> = self.arms.iter().flat_map(of).collect();
            names.sort_unstable();
            names.dedup();
            names.into_iter().map(|name| EndPoint { name: name.clone(), kind }).collect::<Vec<_>>()
        };
        let mut all = vec![EndPoint { name: HELD_OUT.into(), kind: Kind::HeldOut }];
        all.extend(named(Kind::Set, |arm| arm.held_out.keys().collect()));
        all.extend(named(Kind::Pairs, |arm| arm.pairs.keys().collect()));
        all.extend(named(Kind::Task, |arm| arm.scores.keys().collect()));
        all
    }

    /// The end point that the study is about.
    pub fn primary(&self) -> EndPoint {
        let wanted = self.test().map(|test| test.end_point.as_str());
        let all = self.end_points();
        all.iter().find(|end_point| Some(end_point.name.as_str()) == wanted).unwrap_or(&all[0]).clone()
    }

    /// What was fixed of the tests before the first run.
    pub fn test(&self) -> Option<&TestSpec> {
        self.registration.as_ref()?.test.as_ref()
    }

    /// Each arm that is compared at an end point, in the order of the arms.
    pub fn comparisons(&self, end_point: &EndPoint) -> Vec<Comparison> {
        let usual = TestSpec::default();
        let test = self.test().unwrap_or(&usual);
        let is_wanted =
            |arm: &&Arm| !arm.is_teacher && (test.arms.is_empty() || test.arms.iter().any(|name| arm.is_called(name)));
        let found: Vec<(&Arm, &Arm, Difference)> = self
            .arms
            .iter()
            .filter(is_wanted)
            .filter_map(|arm| {
                let reference = self.reference(arm)?;
                Some((arm, reference, difference(&end_point.values(arm), &end_point.values(reference))?))
            })
            .collect();
        let corrected = holm(&found.iter().map(|(_, _, found)| found.p).collect::<Vec<_>>());
        let of_its_kind = self.primary().is_loss() == end_point.is_loss();
        let margin = self.test().filter(|_| of_its_kind).map(|test| test.margin);
        let level = Level { alpha: test.alpha, margin, of: found.len() as u64 };
        let compare = |((arm, reference, found), p_holm)| compared(end_point, (arm, reference), &found, p_holm, &level);
        found.into_iter().zip(corrected).map(compare).collect()
    }
}

/// What a comparison is held to.
struct Level {
    alpha: f64,
    margin: Option<f64>,
    of: u64,
}

fn compared(end_point: &EndPoint, (arm, reference): (&Arm, &Arm), found: &Difference, p_holm: f64, level: &Level) -> Comparison {
    let (own, other) = (end_point.values(arm), end_point.values(reference));
    let flipped = paired_differences(&own, &other).and_then(|pairs| sign_flip(&pairs));
    let p_equivalence = level.margin.map(|margin| equivalence(found, margin));
    // Of one difference; the standard error is that of their mean.
    let sd = found.standard_error * (own.len() as f64).sqrt();
    let needed = level.margin.filter(|_| found.paired).and_then(|margin| seeds_needed(margin, sd, level.alpha / level.of as f64));
    let is_below = found.mean < 0.0;
    let verdict = match p_equivalence {
        Some(p) if p < level.alpha => Verdict::Equivalent,
        _ if p_holm < level.alpha && is_below == end_point.is_loss() => Verdict::Better,
        _ if p_holm < level.alpha => Verdict::Worse,
        _ => Verdict::Undecided,
    };
    Comparison {
        arm: arm.name.clone(),
        against: reference.name.clone(),
        end_point: end_point.name.clone(),
        seeds: (own.len() as u64, other.len() as u64),
        paired: found.paired,
        difference: found.mean,
        interval: found.interval,
        p: found.p,
        p_sign_flip: flipped.map(|flipped| flipped.p),
        sign_flip_draws: flipped.and_then(|flipped| flipped.draws),
        p_holm,
        of: level.of,
        margin: level.margin,
        p_equivalence,
        bound: bound(found, level.alpha),
        seeds_needed: needed,
        verdict,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::study::registration::Registration;
    use crate::study::results::SeedResult;

    /// An arm with these losses, and scores on `cola` that are a tenth of them.
    fn arm(name: &str, losses: &[f64]) -> Arm {
        let run = |(seed, &loss): (u64, &f64)| SeedResult {
            seed,
            held_out_loss: Some(loss),
            scores: BTreeMap::from([("cola".to_owned(), loss / 10.0)]),
            ..SeedResult::default()
        };
        let mut arm = Arm { name: name.into(), method: "standalone".into(), ..Arm::default() };
        arm.runs = (1..).zip(losses).map(run).collect();
        arm.summarise();
        arm
    }

    /// Four arms that differ from the first by what their names say.
    pub fn study(test: Option<TestSpec>) -> Study {
        let seeds = [4.00, 4.10, 3.95, 4.05, 4.02, 3.98];
        let moved = |by: f64, noise: f64| -> Vec<f64> {
            seeds.iter().zip([1.0, -1.0, 0.5, -0.5, 0.3, -0.3]).map(|(loss, sign)| loss + by + noise * sign).collect()
        };
        Study {
            arms: vec![
                arm("alone", &seeds),
                arm("lower", &moved(-0.05, 0.003)),
                arm("higher", &moved(0.05, 0.003)),
                arm("alike", &moved(0.001, 0.003)),
                arm("noisy", &moved(-0.02, 0.05)),
            ],
            baseline: Some("alone".into()),
            registration: Some(Registration::of("", test.as_ref())),
            ..Study::default()
        }
    }

    fn words(found: &[Comparison]) -> Vec<(&str, &str)> {
        found.iter().map(|one| (one.arm.as_str(), one.verdict.word())).collect()
    }

    #[test]
    fn each_arm_has_one_word() {
        let study = study(Some(TestSpec::default()));
        let found = study.comparisons(&study.primary());
        assert_eq!(words(&found), [("lower", "better"), ("higher", "worse"), ("alike", "equivalent"), ("noisy", "undecided")]);
        let noisy = &found[3];
        assert!(noisy.seeds_needed.unwrap() > 50 && noisy.of == 4 && noisy.bound > 0.02, "{noisy:?}");
        assert!(found[0].p_holm > found[0].p && found[0].p_sign_flip == Some(2.0 / 64.0), "{:?}", found[0]);
    }

    #[test]
    fn a_score_is_better_where_it_is_higher_and_has_no_margin_of_a_loss() {
        let study = study(Some(TestSpec::default()));
        let cola = study.end_points().into_iter().find(|end_point| end_point.name == "cola").unwrap();
        let found = study.comparisons(&cola);
        assert_eq!(words(&found)[..3], [("lower", "worse"), ("higher", "better"), ("alike", "undecided")]);
        assert_eq!((found[0].margin, found[0].p_equivalence, found[0].seeds_needed), (None, None, None));
        let on_cola = super::tests::study(Some(TestSpec { end_point: "cola".into(), ..TestSpec::default() }));
        assert_eq!((on_cola.primary().name.as_str(), on_cola.primary().title().as_str()), ("cola", "score on cola"));
        assert_eq!(on_cola.comparisons(&cola)[2].margin, Some(0.01));
    }

    #[test]
    fn only_the_arms_that_were_registered_are_compared_and_corrected_for() {
        let study = study(Some(TestSpec { arms: vec!["lower".into()], ..TestSpec::default() }));
        let found = study.comparisons(&study.primary());
        assert_eq!(words(&found), [("lower", "better")]);
        assert_eq!(found[0].p, found[0].p_holm);
    }

    #[test]
    fn without_a_registration_nothing_is_called_equivalent() {
        let study = study(None);
        let found = study.comparisons(&study.primary());
        assert_eq!(words(&found)[2..], [("alike", "undecided"), ("noisy", "undecided")]);
        assert_eq!((found[2].margin, found[2].p_equivalence), (None, None));
    }
}
