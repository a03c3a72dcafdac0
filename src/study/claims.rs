//! A plain sentence for each comparison, and one for each budget that an arm saves.

use super::comparison::EndPoint;
use super::findings::{Claim, Comparison, Estimate, Saved, Verdict};
use super::results::Study;
use super::saved::steps_saved;
use super::statistics::Interval;
use crate::words::plural;

impl Study {
    /// Every comparison, at the primary end point first.
    pub fn all_claims(&self) -> Vec<Claim> {
        let primary = self.primary();
        let others = self.end_points().into_iter().filter(|end_point| *end_point != primary);
        std::iter::once(primary.clone()).chain(others).flat_map(|end_point| self.claims_at(&end_point)).collect()
    }

    /// The comparisons at one end point.
    pub fn claims_at(&self, end_point: &EndPoint) -> Vec<Claim> {
        let claim = |comparison| Claim { sentence: sentence(&comparison, end_point), comparison };
        self.comparisons(end_point).into_iter().map(claim).collect()
    }

    /// What arms need less than their references, budget by budget; empty where no run ended at several.
    pub fn all_saved(&self) -> Vec<Saved> {
        let students = self.test().map_or_else(|| super::registration::TestSpec::default().students, |test| test.students);
        let arms = self.arms.iter().filter(|arm| !arm.is_teacher);
        arms.filter_map(|arm| Some(steps_saved(arm, self.reference(arm)?, students))).flatten().collect()
    }

    /// Of each arm, what it saves at the largest budget for which a number is known.
    pub fn most_saved(&self) -> Vec<Saved> {
        let mut out: Vec<Saved> = Vec::new();
        // By arm, budgets rising.
        for saved in self.all_saved().into_iter().filter(|saved| saved.steps.is_some()) {
            match out.last_mut().filter(|last| last.arm == saved.arm) {
                Some(last) => *last = saved,
                None => out.push(saved),
            }
        }
        out
    }
}

/// What a comparison says.
fn sentence(found: &Comparison, end_point: &EndPoint) -> String {
    let (arm, against, what) = (&found.arm, &found.against, end_point.title());
    let unit = if end_point.is_loss() { " nats" } else { "" };
    let evidence = evidence(found);
    match (found.verdict, found.margin) {
        (Verdict::Better | Verdict::Worse, _) => {
            let (verb, sign) = if found.difference < 0.0 { ("lowers", -1.0) } else { ("raises", 1.0) };
            let by = format!("{}{unit} {}", plain(found.difference.abs()), turned(found.interval, sign));
            format!("{arm} {verb} the {what} by {by} against {against} ({evidence}): {}.", found.verdict.word())
        }
        (Verdict::Equivalent, Some(margin)) => {
            let p = found.p_equivalence.map(p_equals).unwrap_or_default();
            format!(
                "{arm} and {against}: no difference in the {what} larger than {}{unit} ({} {}, {}; a larger one: {p}): equivalent.",
                shortest(margin),
                signed(found.difference),
                interval(found.interval),
                seeds(found)
            )
        }
        (_, margin) => {
            let needed = margin.zip(found.seeds_needed.filter(|needed| *needed > found.seeds.0));
            let more = needed.map_or(String::new(), |(margin, needed)| {
                format!("; {needed} seeds would have been needed to see {}{unit}", shortest(margin))
            });
            format!(
                "{arm} against {against}: a difference in the {what} of {}{unit} {} may be chance ({evidence}): undecided, \
                 at most {} either way{more}.",
                signed(found.difference),
                interval(found.interval),
                plain(found.bound)
            )
        }
    }
}

/// `20 seeds, p < 0.001 after Holm`.
fn evidence(found: &Comparison) -> String {
    let corrected = if found.of > 1 { " after Holm" } else { "" };
    format!("{}, {}{corrected}", seeds(found), p_equals(found.p_holm))
}

fn seeds(found: &Comparison) -> String {
    match found.seeds {
        (own, _) if found.paired => format!("{own} seeds"),
        (own, other) => format!("{own} and {other} seeds, not paired"),
    }
}

impl Saved {
    /// What it says.
    pub fn sentence(&self) -> String {
        let Self { arm, against, budget, seeds, .. } = self;
        let aim = format!("is as good as {against} after {budget} steps");
        let Some(steps) = self.steps else {
            let (count, place) = match self.beyond_the_last {
                0 => (self.before_the_first, "before the first budget"),
                beyond => (beyond, "beyond the last budget"),
            };
            return format!(
                "{arm} {aim} {place} that was run, in {count} of {}: how far was not measured.",
                plural(*seeds, "seed")
            );
        };
        let cost = |share: Option<Estimate>, what: &str| share.map(|share| format!("{}{what}", percent(share)));
        let costs: Vec<String> = [
            cost(self.flops, ""),
            cost(self.flops_with_teacher, " with the teacher's training"),
            cost(self.flops_sharing_teacher, &format!(" with a teacher shared by {}", plural(self.students, "student"))),
        ]
        .into_iter()
        .flatten()
        .collect();
        let (needs, saved) = (*budget as f64 - steps.mean, whole(steps));
        let costs = costs.join(", ");
        format!("{arm} {aim} in {needs:.0}; steps saved: {saved}; FLOPs saved: {costs} ({}).", plural(*seeds, "seed"))
    }
}

/// A whole number with its interval.
pub(super) fn whole(of: Estimate) -> String {
    let interval = of.interval.map_or(String::new(), |i| format!(" [{}, {}]", rounded(i.low), rounded(i.high)));
    rounded(of.mean) + &interval
}

/// A share in percent with its interval.
pub(super) fn percent(share: Estimate) -> String {
    let number = |share: f64| rounded(100.0 * share);
    let of = share.interval.map_or(String::new(), |i| format!(" [{}, {}]", number(i.low), number(i.high)));
    format!("{} %{of}", number(share.mean))
}

/// A whole number with a true minus sign.
fn rounded(value: f64) -> String {
    let text = format!("{:.0}", value.abs());
    if value < 0.0 && text != "0" { format!("−{text}") } else { text }
}

/// Three decimals with a sign that is as wide as the other.
pub(super) fn signed(value: f64) -> String {
    match plain(value) {
        text if value > 0.0 && text.chars().any(|c| ('1'..='9').contains(&c)) => format!("+{text}"),
        text => text,
    }
}

/// Three decimals with a true minus sign.
fn plain(value: f64) -> String {
    let text = format!("{:.3}", value.abs());
    if value < 0.0 && text != "0.000" { format!("−{text}") } else { text }
}

/// `[−0.031, +0.017]`.
pub(super) fn interval(of: Interval) -> String {
    format!("[{}, {}]", signed(of.low), signed(of.high))
}

/// The interval of a change by so much, upwards (1) or downwards (-1).
fn turned(of: Interval, sign: f64) -> String {
    let (low, high) = if sign < 0.0 { (-of.high, -of.low) } else { (of.low, of.high) };
    format!("[{}, {}]", plain(low), plain(high))
}

/// A number as it was written.
fn shortest(value: f64) -> String {
    value.to_string()
}

pub(super) fn p_value(p: f64) -> String {
    if p < 0.001 { "< 0.001".into() } else { format!("{p:.3}") }
}

fn p_equals(p: f64) -> String {
    match p_value(p) {
        small if small.starts_with('<') => format!("p {small}"),
        text => format!("p = {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::comparison::tests::study;
    use crate::study::registration::TestSpec;

    #[test]
    fn a_claim_is_a_sentence() {
        let said = |study: &Study| study.all_claims().into_iter().map(|claim| claim.sentence).collect::<Vec<_>>().join("\n");
        insta::assert_snapshot!(said(&study(Some(TestSpec::default()))), @r"
        lower lowers the held-out loss by 0.050 nats [0.048, 0.052] against alone (6 seeds, p < 0.001 after Holm): better.
        higher raises the held-out loss by 0.050 nats [0.048, 0.052] against alone (6 seeds, p < 0.001 after Holm): worse.
        alike and alone: no difference in the held-out loss larger than 0.01 nats (+0.001 [−0.001, +0.003], 6 seeds; a larger one: p < 0.001): equivalent.
        noisy against alone: a difference in the held-out loss of −0.020 nats [−0.058, +0.018] may be chance (6 seeds, p = 0.477 after Holm): undecided, at most 0.050 either way; 153 seeds would have been needed to see 0.01 nats.
        lower lowers the score on cola by 0.005 [0.005, 0.005] against alone (6 seeds, p < 0.001 after Holm): worse.
        higher raises the score on cola by 0.005 [0.005, 0.005] against alone (6 seeds, p < 0.001 after Holm): better.
        alike against alone: a difference in the score on cola of 0.000 [0.000, 0.000] may be chance (6 seeds, p = 0.477 after Holm): undecided, at most 0.000 either way.
        noisy against alone: a difference in the score on cola of −0.002 [−0.006, +0.002] may be chance (6 seeds, p = 0.477 after Holm): undecided, at most 0.005 either way.
        ");
        insta::assert_snapshot!(said(&study(None)).lines().nth(2).unwrap(), @"alike against alone: a difference in the held-out loss of +0.001 nats [−0.001, +0.003] may be chance (6 seeds, p = 0.477 after Holm): undecided, at most 0.003 either way.");
    }

    #[test]
    fn what_is_saved_is_a_sentence() {
        let estimate =
            |mean: f64, half: f64| Some(Estimate { mean, interval: Some(Interval { low: mean - half, high: mean + half }) });
        let saved = Saved {
            arm: "soft 1".into(),
            against: "alone".into(),
            budget: 900,
            seeds: 4,
            before_the_first: 0,
            beyond_the_last: 0,
            steps: estimate(161.0, 40.0),
            flops: estimate(0.12, 0.05),
            flops_with_teacher: estimate(-0.31, 0.05),
            flops_sharing_teacher: estimate(0.077, 0.05),
            students: 10,
            pays_from: Some(4),
        };
        let none = Saved { steps: None, beyond_the_last: 3, ..saved.clone() };
        let early = Saved { beyond_the_last: 0, before_the_first: 1, ..none.clone() };
        insta::assert_snapshot!([saved, none, early].map(|saved| saved.sentence()).join("\n"), @r"
        soft 1 is as good as alone after 900 steps in 739; steps saved: 161 [121, 201]; FLOPs saved: 12 % [7, 17], −31 % [−36, −26] with the teacher's training, 8 % [3, 13] with a teacher shared by 10 students (4 seeds).
        soft 1 is as good as alone after 900 steps beyond the last budget that was run, in 3 of 4 seeds: how far was not measured.
        soft 1 is as good as alone after 900 steps before the first budget that was run, in 1 of 4 seeds: how far was not measured.
        ");
    }

    #[test]
    fn numbers_are_written_as_in_print() {
        assert_eq!([signed(-0.0431), signed(0.5), signed(-0.0001)], ["−0.043", "+0.500", "0.000"]);
        assert_eq!([p_value(0.0004), p_value(0.0321)], ["< 0.001", "0.032"]);
        assert_eq!([rounded(-0.4), rounded(-12.6), rounded(3.2)], ["0", "−13", "3"]);
    }
}
