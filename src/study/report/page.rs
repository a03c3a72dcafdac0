//! The page: one HTML file that needs no other. It is written by `format!`: `maud` would escape by itself, but leaves
//! no line breaks, by which people read a committed report's changes, and most of the page is figures that are text
//! already.

use std::collections::BTreeSet;
use std::path::Path;

use super::figure::Figure;
use super::read::{Material, Run};
use super::words::{heading, lowest, registered, what_was_run};
use super::{charts, ends, table};
use crate::study::figure::{SCRIPT, STYLE, escape};
use crate::study::findings::Claim;
use crate::study::results::{Arm, Study};

const PAGE_STYLE: &str = include_str!("report.css");

/// The report as one HTML file with no outside resources.
///
/// ```
/// use upstill::study::report::{Material, page};
/// use upstill::study::results::{Arm, SeedResult, Study};
///
/// let run = |seed, loss| SeedResult { seed, held_out_loss: Some(loss), ..SeedResult::default() };
/// let mut alone = Arm { name: "alone".into(), runs: vec![run(1, 4.0), run(2, 4.2)], ..Arm::default() };
/// alone.summarise();
/// let study = Study { title: "A student alone".into(), arms: vec![alone], ..Study::default() };
/// let html = page(&[Material { study, runs: vec![Vec::new()] }]);
/// assert!(html.contains("<h1>A student alone</h1>"));
/// ```
pub fn page(materials: &[Material]) -> String {
    let title = materials.first().map(|material| heading(&material.study)).unwrap_or_default();
    let foot = provenance(materials) + &units(materials);
    document(&title, &materials.iter().map(section).collect::<String>(), &foot)
}

/// Figures about something else than runs, as a page of the same kind.
pub fn figure_page(title: &str, lead: &str, of: &[Figure]) -> String {
    let drawn = figures(of, &mut 0);
    document(
        title,
        &format!("<article>\n<h1>{}</h1>\n<p class=\"lead\">{}</p>\n{drawn}</article>\n", escape(title), escape(lead)),
        "",
    )
}

fn document(title: &str, body: &str, foot: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style id=\"figure-style\">\n{STYLE}</style>\n<style>\n{PAGE_STYLE}</style>\n</head>\n<body>\n{body}\
         <footer>\n{foot}<p>Drawn by upstill {version} ({commit}).</p>\n</footer>\n\
         <script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        title = escape(title),
        version = env!("CARGO_PKG_VERSION"),
        commit = env!("UPSTILL_COMMIT"),
    )
}

/// What the losses of these studies are in.
fn units(materials: &[Material]) -> String {
    let units: BTreeSet<&str> = materials.iter().map(|material| material.study.objective.loss_unit()).collect();
    format!("<p>Losses are in {}.</p>\n", units.into_iter().collect::<Vec<_>>().join(" or "))
}

/// More commands than this are not listed one by one.
const MOST_COMMANDS: usize = 12;

/// By which commands the runs came about, with which versions, on what.
fn provenance(materials: &[Material]) -> String {
    let runs = materials.iter().flat_map(|material| &material.runs).flatten();
    let infos: Vec<serde_json::Value> = runs.filter_map(|run| serde_json::from_str(&run.info).ok()).filter(is_of_a_run).collect();
    let text = |info: &serde_json::Value, key: &str| info[key].as_str().unwrap_or_default().to_owned();
    let versions: BTreeSet<String> = infos
        .iter()
        .map(|info| format!("upstill {} ({}), burn {}", text(info, "upstill"), text(info, "commit"), text(info, "burn")))
        .collect();
    let sessions: Vec<&serde_json::Value> = infos.iter().filter_map(|info| info["sessions"].as_array()).flatten().collect();
    let devices: BTreeSet<String> = sessions.iter().map(|session| text(session, "device")).collect();
    let mut commands: Vec<String> = Vec::new();
    for session in &sessions {
        let words: Vec<String> = session["command"].as_array().into_iter().flatten().filter_map(word).collect();
        let command = command_line(&words);
        if !command.is_empty() && !commands.contains(&command) {
            commands.push(command);
        }
    }
    if versions.is_empty() {
        return String::new();
    }
    let joined = |all: &BTreeSet<String>| escape(&all.iter().map(String::as_str).collect::<Vec<_>>().join("; "));
    let more = commands.len().saturating_sub(MOST_COMMANDS);
    let list: String = commands.iter().take(MOST_COMMANDS).map(|command| format!("{}\n", escape(command))).collect();
    let more = if more > 0 { format!("and {more} more; run.json in each run's folder has its own\n") } else { String::new() };
    format!(
        "<h2>How the runs came about</h2>\n<pre>{list}{more}</pre>\n<p>Trained with {}. Device: {}.</p>\n",
        joined(&versions),
        joined(&devices)
    )
}

/// Whether a file says which upstill trained a run.
fn is_of_a_run(info: &serde_json::Value) -> bool {
    info["upstill"].is_string()
}

fn word(value: &serde_json::Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// A command as a shell takes it; the program by its name, wherever it lay.
fn command_line(words: &[String]) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
    let quoted = |word: &String| match !word.is_empty() && word.chars().all(is_plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    };
    let Some((program, rest)) = words.split_first() else { return String::new() };
    let program = Path::new(program).file_name().map_or(program.clone(), |name| name.to_string_lossy().into_owned());
    std::iter::once(&program).chain(rest).map(quoted).collect::<Vec<_>>().join(" ")
}

fn section(material: &Material) -> String {
    let study = &material.study;
    let claims = study.claims_at(&study.primary());
    let mut out =
        format!("<article>\n<h1>{}</h1>\n<p class=\"lead\">{}</p>\n", escape(&heading(study)), escape(&what_was_run(material)));
    out += &found(study, &claims);
    let mut number = 0;
    out += &results(material, &claims);
    out += &figures(&ends::of_primary(study), &mut number);
    out += &more_results(study);
    out += &figures(&[ends::of_others(study), charts::of_held_out(material)].concat(), &mut number);
    let training = charts::of_training(material);
    if !training.is_empty() {
        out += "<h2>How the training went</h2>\n";
        out += &figures(&training, &mut number);
    }
    if !study.chosen.is_empty() {
        let items: String = study.chosen.iter().map(|choice| format!("<li>{}</li>\n", escape(choice))).collect();
        out += &format!("<h2>What was chosen here and not by the paper</h2>\n<ul>\n{items}</ul>\n");
    }
    out += &plans(material);
    out + "</article>\n"
}

/// A sentence a claim, and what was fixed beforehand.
fn found(study: &Study, claims: &[Claim]) -> String {
    let item = |claim: &Claim| {
        let word = claim.comparison.verdict.word();
        // The verdict is the last thing said.
        let (before, after) = claim.sentence.rsplit_once(word).unwrap_or((&claim.sentence, ""));
        format!("<li>{}<b>{word}</b>{}</li>\n", escape(before), escape(after))
    };
    let saved: String = study.most_saved().iter().map(|saved| format!("<li>{}</li>\n", escape(&saved.sentence()))).collect();
    let list = format!("{}{saved}", claims.iter().map(item).collect::<String>());
    let registered = registered(study).map_or(String::new(), |text| format!("<p class=\"registered\">{}</p>\n", escape(&text)));
    match list.is_empty() {
        true => lowest(study).map_or(String::new(), |text| format!("<p class=\"finding\">{}</p>\n", escape(&text))) + &registered,
        false => format!("<ul class=\"finding\">\n{list}</ul>\n{registered}"),
    }
}

fn captioned(table: &str, caption: &str) -> String {
    format!("<figure class=\"table\">\n{table}<figcaption>{}</figcaption>\n</figure>\n", escape(caption))
}

fn results(material: &Material, claims: &[Claim]) -> String {
    let study = &material.study;
    let note = |i: usize| unfinished(&study.arms[i], &material.runs[i]);
    let table = table::html(&table::results(study), note);
    format!("<h2>Results</h2>\n{}", captioned(&table, &super::words::how_tested(study, claims)))
}

/// Other end points, what is saved, what the arms are and how they were tuned.
fn more_results(study: &Study) -> String {
    let none = |_: usize| String::new();
    let mut out = String::new();
    if let Some(saved) = table::steps_saved(&study.all_saved()) {
        out += "<h2>Steps saved</h2>\n";
        out += &captioned(&table::html(&saved, none), super::words::HOW_SAVED);
    }
    if let Some(others) = table::others(study, true) {
        out += "<h2>Other end points</h2>\n";
        out += &captioned(&table::html(&others, none), super::words::HOW_OTHERS);
        let primary = study.primary();
        let said = study.all_claims().into_iter().filter(|claim| claim.comparison.end_point != primary.name);
        let items: String = said.map(|claim| format!("<li>{}</li>\n", escape(&claim.sentence))).collect();
        if !items.is_empty() {
            out += &format!("<details><summary>All of them in words</summary>\n<ul>\n{items}</ul></details>\n");
        }
    }
    if let Some(about) = table::about(study) {
        out += &format!(
            "<h2>The arms</h2>\n{}",
            captioned(&table::html(&about, none), "What each arm is and what a run of it takes.")
        );
    }
    if let Some(tuned) = table::tuned(study) {
        out += &captioned(&table::html(&tuned, none), super::words::HOW_TUNED);
    }
    out
}

/// A mark under an arm's name for runs that have not ended.
fn unfinished(arm: &Arm, runs: &[Run]) -> String {
    let open: Vec<&Run> = runs.iter().filter(|run| run.summary.is_none()).collect();
    let [first, ..] = open[..] else { return String::new() };
    let wanted = first.plan.get("train").and_then(|train| train.get("steps")).and_then(toml::Value::as_integer);
    let done = first.steps.last().map_or(0, |record| record.step + 1);
    let of = wanted.map_or(String::new(), |steps| format!(" of {steps}"));
    let which = if arm.seeds > 1 { format!("{} of {} unfinished: ", open.len(), arm.seeds) } else { "unfinished: ".into() };
    let last = first.steps.iter().rev().find_map(|record| record.held_out_loss);
    let last = last.map_or(String::new(), |loss| format!(", held-out loss so far {loss:.3}"));
    format!("<small>{which}step {done}{of}{last}</small>")
}

fn figures(figures: &[Figure], number: &mut usize) -> String {
    let mut out = String::from("<div class=\"figures\">\n");
    for Figure { heading, caption, svg, csv } in figures {
        *number += 1;
        let (heading, caption, csv) = (escape(heading), escape(caption), escape(csv));
        out += &format!(
            "<figure><h3><span>{number}</span> {heading}</h3>\n{svg}\n<figcaption>{caption}</figcaption>\n\
             <template class=\"csv\">{csv}</template></figure>\n"
        );
    }
    out + "</div>\n"
}

fn plans(material: &Material) -> String {
    let runs: Vec<(&Arm, &Run)> =
        material.study.arms.iter().zip(&material.runs).flat_map(|(arm, runs)| runs.iter().map(move |run| (arm, run))).collect();
    if runs.is_empty() {
        return String::new();
    }
    let fold = |(arm, run): &(&Arm, &Run)| {
        let info = if run.info.trim().is_empty() {
            String::new()
        } else {
            format!("<h4>run.json</h4>\n<pre>{}</pre>\n", escape(run.info.trim_end()))
        };
        format!(
            "<details><summary>{}, seed {} <small>{}</small></summary>\n<h4>plan.toml</h4>\n<pre>{}</pre>\n{info}</details>\n",
            escape(&arm.name),
            run.seed,
            escape(&run.dir.display().to_string()),
            escape(run.plan_text.trim_end())
        )
    };
    format!("<h2>Plans</h2>\n<p>All that is needed to run each of them again.</p>\n{}", runs.iter().map(fold).collect::<String>())
}
