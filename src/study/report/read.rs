//! From folders to what a report shows.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::config::{Family, ObjectiveKind};
use crate::error::{Error, IoContext, Result};
use crate::files::manifest::{Json, check, read_toml};
use crate::log::{STEPS, StepRecord, Summary, read_steps};
use crate::study::results::{Arm, SeedResult, Study};
use crate::train::{SeedScores, read_checkpoint_scores};

/// A run directory, read. Without a summary it is unfinished.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// The run directory.
    pub dir: PathBuf,
    /// Which of several models that train together this is the view of.
    pub model: Option<String>,
    /// The plan's seed.
    pub seed: u64,
    /// `plan.toml`, as it stands.
    pub plan_text: String,
    /// `plan.toml`, parsed.
    pub plan: toml::Table,
    /// `run.json`, as it stands.
    pub info: String,
    /// `steps.jsonl`.
    pub steps: Vec<StepRecord>,
    /// `summary.json`.
    pub summary: Option<Summary>,
    /// Steps of checkpoints, and what fine-tuning them came to (`upstill finetune --every-checkpoint`).
    pub finetuned: Vec<(u64, SeedScores)>,
}

/// A study and the run directories of each of its arms (those that are there).
#[derive(Clone, Debug, Default)]
pub struct Material {
    /// What is compared.
    pub study: Study,
    /// The runs of each arm, in the study's order.
    pub runs: Vec<Vec<Run>>,
}

/// Reads run directories and study folders. Each folder with a `study.json` is a study; all other runs, found there or
/// below, make up one more, in which runs whose plans differ by nothing but the seed are one arm.
///
/// # Errors
/// When a folder is missing or holds neither, or a file in it can't be understood (says which).
pub fn read(dirs: &[PathBuf]) -> Result<Vec<Material>> {
    let (mut materials, mut loose) = (Vec::new(), Vec::new());
    for dir in dirs {
        if !dir.is_dir() {
            let what = if dir.exists() { "not a folder" } else { "no such folder" };
            return Err(Error::new(what).at(dir.display()).help("give a run directory or a study's folder"));
        }
        if dir.join("study.json").exists() {
            materials.push(read_study(dir)?);
        } else {
            let found = run_directories(dir, 3)?;
            if found.is_empty() {
                return Err(Error::new("neither a run directory nor a study")
                    .at(dir.display())
                    .help("a run directory holds plan.toml and steps.jsonl, a study's folder study.json or runs below it"));
            }
            for dir in found {
                loose.push(read_run(&dir)?);
            }
        }
    }
    if !loose.is_empty() {
        let views = |run: Run| match &several(&run)[..] {
            [] => vec![Ok(run)],
            models => models.iter().map(|model| of_model(run.clone(), Some(model))).collect(),
        };
        materials.push(compare(loose.into_iter().flat_map(views).collect::<Result<_>>()?));
    }
    Ok(materials)
}

fn read_study(dir: &Path) -> Result<Material> {
    let study: Study = read_json(&dir.join("study.json"))?.unwrap_or_default();
    let present = |arm: &Arm| arm.runs.iter().map(|run| dir.join(&run.path)).filter(|path| is_run(path)).collect::<Vec<_>>();
    let read = |arm: &Arm| present(arm).iter().map(|path| of_model(read_run(path)?, arm.model.as_deref())).collect();
    let runs = study.arms.iter().map(read).collect::<Result<_>>()?;
    Ok(Material { study, runs })
}

/// A run as one of its several models saw it.
fn of_model(mut run: Run, model: Option<&str>) -> Result<Run> {
    if let Some(model) = model {
        run.steps = run.steps.iter().filter_map(|record| record.of(model)).collect();
        run.finetuned = read_checkpoint_scores(&run.dir, Some(model))?;
        if let Some(summary) = &mut run.summary {
            summary.held_out_loss = summary.held_out_loss_of(Some(model));
        }
        run.model = Some(model.to_owned());
    }
    Ok(run)
}

/// The models that a run trains together; none when it trains one.
fn several(run: &Run) -> Vec<String> {
    let models = run.plan.get("models").and_then(toml::Value::as_array);
    let name = |model: &toml::Value| Some(model.get("name")?.as_str()?.to_owned());
    models.into_iter().flatten().filter_map(name).collect()
}

fn read_run(dir: &Path) -> Result<Run> {
    let file = dir.join("plan.toml");
    let plan_text = if file.exists() { read_toml(&file)? } else { String::new() };
    let plan: toml::Table = plan_text.parse().map_err(|error: toml::de::Error| {
        Error::new(format!("not a plan: {}", error.message()))
            .at(dir.join("plan.toml").display())
            .help("leave this run out, or restore the file")
    })?;
    let steps = match dir.join(STEPS) {
        path if path.exists() => read_steps(&path)?,
        _ => Vec::new(),
    };
    // The models are not read here: the summary is, and what it says of the records is checked.
    check(&dir.join(STEPS))?;
    let file = dir.join("run.json");
    let info = match file.exists() {
        true => whole_json(&file)?,
        false => String::new(),
    };
    let seed = plan.get("seed").and_then(toml::Value::as_integer).and_then(|seed| u64::try_from(seed).ok()).unwrap_or(0);
    Ok(Run {
        dir: dir.into(),
        model: None,
        seed,
        plan_text,
        plan,
        info,
        steps,
        summary: read_json(&dir.join("summary.json"))?,
        finetuned: read_checkpoint_scores(dir, None)?,
    })
}

/// A JSON file's text as it stands, when it is whole.
fn whole_json(path: &Path) -> Result<String> {
    let json = Json::read(path)?;
    json.parse::<serde_json::Map<String, serde_json::Value>>("a run's record").map_err(|error| error.at(path.display()))?;
    Ok(json.text)
}

fn is_run(dir: &Path) -> bool {
    ["plan.toml", "steps.jsonl"].iter().any(|name| dir.join(name).is_file())
}

/// `dir` itself, or the run directories at most `depth` folders below it, in the order of their names.
fn run_directories(dir: &Path, depth: usize) -> Result<Vec<PathBuf>> {
    if is_run(dir) {
        return Ok(vec![dir.into()]);
    }
    if depth == 0 {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(dir).doing("list", dir)?.collect::<std::io::Result<Vec<_>>>().doing("list", dir)?;
    let mut folders: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    let below = folders.iter().map(|folder| run_directories(folder, depth - 1)).collect::<Result<Vec<_>>>()?;
    Ok(below.concat())
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if !path.exists() {
        return Ok(None);
    }
    let json = Json::read(path)?;
    serde_json::from_str(&json.text).map(Some).map_err(|error| {
        let what = if error.is_eof() { "the file ends too early" } else { "not what this file should hold" };
        Error::new(format!("{what}: {error}")).at(path.display()).help("restore the file, or run what wrote it again")
    })
}

/// Makes a study of runs that belong to none.
fn compare(runs: Vec<Run>) -> Material {
    let mut groups: Vec<(toml::Table, Vec<Run>)> = Vec::new();
    for run in runs {
        let key = without_seed(&run.plan);
        let same = |other: &toml::Table, group: &[Run]| !key.is_empty() && *other == key && group[0].model == run.model;
        match groups.iter_mut().find(|(other, group)| same(other, group)) {
            Some((_, group)) => group.push(run),
            None => groups.push((key, vec![run])),
        }
    }
    let groups: Vec<Vec<Run>> = groups.into_iter().map(|(_, group)| group).collect();
    let teachers: Vec<String> = groups.iter().flatten().filter_map(teacher).collect();
    let mut arms: Vec<Arm> = groups.iter().map(|group| arm_of(group, &teachers)).collect();
    tell_apart(&mut arms);
    let objective = groups.iter().flatten().next().map(objective).unwrap_or_default();
    Material { study: Study { arms, objective, ..Study::default() }, runs: groups }
}

/// What a run's models are asked.
fn objective(run: &Run) -> ObjectiveKind {
    let model = run.plan.get("model").or_else(|| run.plan.get("models")?.as_array()?.first());
    let family = model.and_then(|model| model.get("family")?.as_str());
    family.and_then(Family::from_word).unwrap_or_default().objective()
}

/// What makes two runs the same arm: all of the plan but the seed, and what may not change results.
fn without_seed(plan: &toml::Table) -> toml::Table {
    plan.iter()
        .filter(|(key, _)| !["seed", "runtime"].contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn arm_of(runs: &[Run], teachers: &[String]) -> Arm {
    let first = &runs[0];
    let at = |table: &str, key: &str| first.plan.get(table)?.get(key).map(plain);
    let seconds: Vec<f64> = runs.iter().filter_map(|run| Some(run.summary.as_ref()?.seconds)).collect();
    let result = |run: &Run| SeedResult {
        path: run.dir.clone(),
        seed: run.seed,
        held_out_loss: run.summary.as_ref().and_then(|summary| summary.held_out_loss),
        scores: last_scores(run),
        ..SeedResult::default()
    };
    let has_teacher = first.plan.contains_key("teacher");
    let mut arm = Arm {
        name: match &first.model {
            Some(model) => format!("{}: {model}", common_name(runs)),
            None => common_name(runs),
        },
        model: first.model.clone(),
        method: first.plan.get("method").map(plain).unwrap_or_default(),
        teacher: teacher(first).map(|from| last_name(Path::new(&from))),
        soft: at("distill", "soft").filter(|_| has_teacher),
        start: at("distill", "start").filter(|_| has_teacher),
        seconds: crate::study::statistics::mean(&seconds),
        is_teacher: runs.iter().any(|run| teachers.iter().any(|from| same_place(&run.dir, Path::new(from)))),
        runs: runs.iter().map(result).collect(),
        ..Arm::default()
    };
    arm.summarise();
    arm
}

/// By task, the mean score over fine-tuning's seeds of the last checkpoint that was fine-tuned on it.
fn last_scores(run: &Run) -> BTreeMap<String, f64> {
    let mut last: BTreeMap<String, (u64, Vec<f64>)> = BTreeMap::new();
    for (step, found) in &run.finetuned {
        let (at, scores) = last.entry(found.task.clone()).or_insert((*step, Vec::new()));
        if step > at {
            (*at, *scores) = (*step, Vec::new());
        }
        if step == at {
            scores.push(found.score);
        }
    }
    last.into_iter().filter_map(|(task, (_, scores))| Some((task, crate::study::statistics::mean(&scores)?))).collect()
}

fn teacher(run: &Run) -> Option<String> {
    Some(run.plan.get("teacher")?.get("from")?.as_str()?.to_owned())
}

/// Whether a path in a plan, written from some other folder perhaps, means this one.
fn same_place(dir: &Path, from: &Path) -> bool {
    dir.ends_with(from) || from.ends_with(dir)
}

fn plain(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn last_name(dir: &Path) -> String {
    dir.file_name().unwrap_or(dir.as_os_str()).to_string_lossy().into_owned()
}

/// What the directories' names begin with in common, without what counts the seeds.
fn common_name(runs: &[Run]) -> String {
    let names: Vec<String> = runs.iter().map(|run| last_name(&run.dir)).collect();
    let [first, others @ ..] = &names[..] else { return String::new() };
    let shared = |a: &str, b: &str| a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect::<String>();
    let common = others.iter().fold(first.clone(), |common, name| shared(&common, name));
    let ends = |c: char| !c.is_alphanumeric();
    let trimmed = match others {
        [] => first.as_str(),
        _ => common.trim_end_matches(ends).trim_end_matches("seed").trim_end_matches(ends),
    };
    if trimmed.is_empty() { first.clone() } else { trimmed.into() }
}

/// Arms of the same name are called by their first directory.
fn tell_apart(arms: &mut [Arm]) {
    let names: Vec<String> = arms.iter().map(|arm| arm.name.clone()).collect();
    for arm in arms {
        if names.iter().filter(|name| **name == arm.name).count() > 1 {
            let place = arm.runs[0].path.display().to_string();
            arm.name = arm.model.as_ref().map_or(place.clone(), |model| format!("{place}: {model}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(dir: &str, plan: &str) -> Run {
        Run { dir: dir.into(), plan: plan.parse().unwrap(), ..Run::default() }
    }

    #[test]
    fn runs_that_differ_by_seed_are_one_arm_and_teachers_are_known() {
        let dwt = |seed| {
            format!(
                "seed = {seed}\nmethod = 'dwt'\n[teacher]\nfrom = '../runs/small'\n[distill]\nsoft = '4 -> 1 linear'\nstart = 'fresh'"
            )
        };
        let found = compare(vec![
            run("runs/small", "seed = 1\nmethod = 'standalone'\n[model]\nlayers = 2"),
            run("runs/dwt-seed-1", &dwt(1)),
            run("runs/dwt-seed-2", &(dwt(2) + "\n[runtime]\nthreads = 1")),
            run("runs/alone", "seed = 1\nmethod = 'standalone'\n[model]\nlayers = 4"),
        ]);
        let arms: Vec<_> = found.study.arms.iter().map(|arm| (arm.name.as_str(), arm.seeds, arm.is_teacher)).collect();
        assert_eq!(arms, [("small", 1, false), ("dwt", 2, false), ("alone", 1, false)].map(|(n, s, _)| (n, s, n == "small")));
        assert_eq!(found.study.arms[1].soft.as_deref(), Some("4 -> 1 linear"));
        assert_eq!(found.study.arms[1].teacher.as_deref(), Some("small"));
    }

    #[test]
    fn a_run_of_several_models_is_an_arm_for_each() {
        let both = run("runs/both", "seed = 1\nmethod = 'cotrain'\n[[models]]\nname = 'large'\n[[models]]\nname = 'small'");
        assert_eq!(several(&both), ["large", "small"]);
        let views = ["large", "small"].map(|model| of_model(both.clone(), Some(model)).unwrap());
        let found = compare(views.to_vec());
        let arms: Vec<_> = found.study.arms.iter().map(|arm| (arm.name.as_str(), arm.model.as_deref().unwrap())).collect();
        assert_eq!(arms, [("both: large", "large"), ("both: small", "small")]);
    }

    #[test]
    fn equal_names_are_told_apart() {
        let found = compare(vec![run("a/run", "method = 'dwt'"), run("b/run", "method = 'standalone'")]);
        assert_eq!([&found.study.arms[0].name, &found.study.arms[1].name], ["a/run", "b/run"]);
    }
}
