//! What the page and the Markdown say around their tables.

use super::ends::fewest;
use super::read::Material;
use super::table;
use crate::study::findings::{Claim, Verdict};
use crate::study::results::Study;
use crate::study::statistics::POWER;
use crate::words::plural;

pub(super) const HOW_SAVED: &str = "How much less an arm takes to come as far as its reference: the horizontal distance between their \
    curves of ends of training, seed by seed, between budgets linear over the logarithm of the steps; nothing is extrapolated. FLOPs are \
    a share of the reference's. Intervals are of 95 % over seeds.";

pub(super) const HOW_OTHERS: &str = "Mean ± sample standard deviation over seeds; below, the difference with its 95 % interval and what it \
    is, corrected over the arms of its column (Holm). These end points are secondary: among many, some are beyond chance by chance.";

pub(super) const HOW_TUNED: &str =
    "Every arm has its own; the value with the lowest loss on the tuning split was taken, and none at an edge.";

pub(super) fn heading(study: &Study) -> String {
    match &study.title {
        title if !title.is_empty() => title.clone(),
        _ if study.arms.len() == 1 => study.arms[0].name.clone(),
        _ => format!("{} ways of training, compared", study.arms.len()),
    }
}

pub(super) fn what_was_run(material: &Material) -> String {
    let unfinished = material.runs.iter().flatten().filter(|run| run.summary.is_none()).count();
    let mut words = lead(&material.study);
    if unfinished > 0 {
        words.push(format!("{} unfinished.", plural(unfinished as u64, "run")));
    }
    words.join(" ")
}

/// Sentences on what was run.
pub(super) fn lead(study: &Study) -> Vec<String> {
    let runs = study.arms.iter().map(|arm| arm.seeds).sum::<u64>();
    let mut words = vec![study.about.trim().to_owned()];
    words.push(format!("{} in {}.", plural(runs, "run"), plural(study.arms.len() as u64, "arm")));
    words.extend(study.device.as_ref().map(|device| format!("Device: {device}.")));
    words.extend(study.seconds.map(|seconds| format!("Time in all: {}.", table::time(seconds))));
    words.retain(|word| !word.is_empty());
    words
}

/// The best in a sentence, for studies in which nothing can be tested.
pub(super) fn lowest(study: &Study) -> Option<String> {
    let (best, primary) = (study.best()?, study.primary());
    let (lowest, mean) = (if primary.is_loss() { "lowest" } else { "highest" }, primary.mean(best)?);
    let seeds = plural(best.seeds, "seed");
    let start = format!("The {lowest} {} is that of {}: {} over {seeds}", primary.title(), best.name, table::spread(mean, 3));
    Some(match study.reference(best) {
        Some(reference) => format!("{start}. With so few seeds, what it differs by from {} may be chance.", reference.name),
        None if study.baseline().is_some_and(|baseline| baseline.name == best.name) => {
            format!("{start}. No other student did better.")
        }
        None => format!("{start}."),
    })
}

/// What was fixed before the first run.
pub(super) fn registered(study: &Study) -> Option<String> {
    let registration = study.registration.as_ref()?;
    let file = &registration.study_file;
    let Some(test) = &registration.test else {
        return Some(format!(
            "The study file ({file}) fixed no test before the first run: differences are explored, not tested."
        ));
    };
    let arms = match &test.arms[..] {
        [] => "every arm against its reference".to_owned(),
        names => format!("{} against their reference", names.join(", ")),
    };
    let unit = if study.primary().is_loss() { " nats" } else { "" };
    Some(format!(
        "Fixed in the study file ({file}) before the first run: the {} is tested, of {arms}, at level {} after Holm's correction; \
         a difference below {}{unit} counts as none.",
        study.primary().title(),
        test.alpha,
        test.margin
    ))
}

/// The caption of the results.
pub(super) fn how_tested(study: &Study, claims: &[Claim]) -> String {
    let primary = study.primary();
    let mut words = vec!["Mean ± sample standard deviation over seeds".to_owned()];
    if study.best().is_some() {
        words[0] += if primary.is_loss() { "; the lowest student's in bold" } else { "; the highest student's in bold" };
    }
    words[0] += ".";
    let found: Vec<_> = claims.iter().map(|claim| claim.comparison.clone()).collect();
    if let Some(first) = found.first() {
        let name = if study.has_references() { "the arm named beside it" } else { first.against.as_str() };
        words.push(format!(
            "Difference from {name} with its 95 % interval (Student's t, paired where seeds match); p of the t-test and of the \
             sign-flip test, two-sided, and the first corrected over {} by Holm's procedure.",
            plural(first.of, "arm")
        ));
        if let Some(draws) = found.iter().find_map(|found| found.sign_flip_draws) {
            words.push(format!("Sign flips: {draws} draws."));
        }
        words.extend(fewest(&found));
        if let Some(margin) = first.margin {
            words.push(format!("Equivalent: surely less than {margin} apart (two one-sided tests)."));
            if found.iter().any(|found| found.verdict == Verdict::Undecided && found.seeds_needed.is_some()) {
                words.push(format!(
                    "Seeds needed: those that see a difference of {margin} in {:.0} % of studies, at the first level of Holm's procedure.",
                    100.0 * POWER
                ));
            }
        }
    }
    words.join(" ")
}
