//! What can't be, of a co-training run's models.

use super::check_sizes::sizes;
use super::mistakes::Mistakes;
use super::plan::*;
use super::{RunFile, Schedule};

/// A model's name is a folder's, and a segment of keys and of TensorBoard's tags.
const LONGEST_NAME: usize = 32;

/// A run that trains one model and names several.
pub(super) fn refuse(file: &RunFile, method: Method, out: &mut Mistakes) {
    let names: Vec<&str> = file.models().collect();
    if !names.is_empty() {
        let what = format!("a {method} run trains one model, [model], and here {}", named(&names));
        out.add("models", what, "write method = \"cotrain\", or remove their sections");
    }
}

/// Everything about `[models.NAME]`.
pub(super) fn models(file: &RunFile, plan: &Plan, out: &mut Mistakes) {
    let names: Vec<&str> = file.models().collect();
    if names.len() < 2 && !out.names("models") {
        let found = if names.is_empty() { "are none".to_owned() } else { format!("is one, {}", names[0]) };
        out.add(
            "models",
            format!("a cotrain run trains two models or more, and there {found}"),
            "write [models.large] and [models.small], each with its layers and its width",
        );
    }
    names.iter().for_each(|name| check_name(name, out));
    if file.has_written("distill.start") && plan.distill.start != Start::Fresh {
        out.add("distill.start", "models that train together start with random weights", "write start = \"fresh\"");
    }
    one_objective(plan, out);
    sources(file, plan, &names, out);
    for model in &plan.models {
        let prefix = format!("models.{}.", model.name);
        sizes(file, &prefix, &model.model.shape, out);
        loss(&prefix, model, out);
        schedules(file, &prefix, model, plan.train.steps, out);
    }
}

/// Models that learn from each other are asked the same of a row.
fn one_objective(plan: &Plan, out: &mut Mistakes) {
    let first = plan.objective();
    if let Some(other) = plan.models.iter().find(|model| model.model.shape.family().objective() != first) {
        let (own, family) = (plan.model.shape.family(), other.model.shape.family());
        let what = format!(
            "is a {family}, whose objective is {}, and the largest model a {own}, whose objective is {first}: rows ask one of them",
            family.objective()
        );
        out.add(&format!("models.{}.family", other.name), what, "write families of one objective");
    }
}

fn check_name(name: &str, out: &mut Mistakes) {
    let key = format!("models.{name}");
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(fits) {
        let what = "is no name for a model: its folder and its keys bear it";
        out.add(&key, what, format!("write at most {LONGEST_NAME} letters, digits, - and _"));
    } else if [MODEL, TEACHER].contains(&name) {
        out.add(&key, format!("{name:?} has another meaning"), "call the model something else");
    }
}

/// `[models.A.from.B]`: B is a partner, or the teacher of a run that has one.
fn sources(file: &RunFile, plan: &Plan, names: &[&str], out: &mut Mistakes) {
    let mut seen: Vec<String> = Vec::new();
    for path in file.written_paths() {
        let parts: Vec<&str> = path.split('.').collect();
        let ["models", model, "from", from, _] = parts[..] else { continue };
        let key = format!("models.{model}.from.{from}");
        if seen.contains(&key) {
            continue;
        }
        if from == model {
            out.add(&key, "a model does not learn from itself", "remove it, or name another model");
        } else if from == TEACHER && plan.teacher.is_none() {
            out.add(&key, "there is no teacher", "write [teacher] from = \"runs/...\"");
        } else if from != TEACHER && !names.contains(&from) {
            out.add(&key, format!("there is no model {from:?}"), format!("the models are: {}", names.join(", ")));
        }
        seen.push(key);
    }
}

fn loss(prefix: &str, model: &LearnerPlan, out: &mut Mistakes) {
    if model.hard.as_constant() == Some(0.0) && model.from.is_empty() {
        let what = "no weight is ever above 0: there is nothing for it to learn";
        out.add(&format!("{prefix}hard"), what, "write hard = 1.0, or a partner to learn from");
    }
}

/// A schedule's pieces fit into the run.
fn schedules(file: &RunFile, prefix: &str, model: &LearnerPlan, steps: u64, out: &mut Mistakes) {
    let mut all: Vec<(String, &Schedule)> = vec![(format!("{prefix}lr"), &model.lr), (format!("{prefix}hard"), &model.hard)];
    for source in &model.from {
        all.push((format!("{prefix}from.{}.soft", source.name), &source.soft));
        all.push((format!("{prefix}from.{}.temperature", source.name), &source.temperature));
    }
    for (key, schedule) in all.into_iter().filter(|(key, _)| steps > 0 && file.has_written(key)) {
        if let Err(error) = schedule.fits(steps) {
            out.add(&key, error.what(), "make the piece shorter or the run longer; `over 5%` follows the run's length");
        }
    }
}

fn named(names: &[&str]) -> String {
    format!("{} {}", names.join(", "), if names.len() == 1 { "is named too" } else { "are named too" })
}
