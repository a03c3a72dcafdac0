//! The page: one HTML file that needs no other.

use super::charts;
use super::read::{Material, Run};
use super::table;
use crate::study::figure::{SCRIPT, STYLE, escape};
use crate::study::results::{Arm, Study};

/// A figure and its words.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What it shows.
    pub heading: String,
    /// How to read it.
    pub caption: String,
    /// The drawing.
    pub svg: String,
}

const PAGE_STYLE: &str = include_str!("report.css");

/// The report as one HTML file with no outside resources.
pub fn page(materials: &[Material]) -> String {
    let title = materials.first().map(heading).unwrap_or_default();
    document(&title, &materials.iter().map(section).collect::<String>())
}

/// Figures about something else than runs, as a page of the same kind.
pub fn figure_page(title: &str, lead: &str, of: &[Figure]) -> String {
    let drawn = figures(of, &mut 0);
    document(
        title,
        &format!("<article>\n<h1>{}</h1>\n<p class=\"lead\">{}</p>\n{drawn}</article>\n", escape(title), escape(lead)),
    )
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{STYLE}{PAGE_STYLE}</style>\n</head>\n<body>\n{body}\
         <footer>Written by upstill {version}. Losses are in nats a masked token.</footer>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        title = escape(title),
        version = env!("CARGO_PKG_VERSION"),
    )
}

fn heading(material: &Material) -> String {
    match &material.study.title {
        title if !title.is_empty() => title.clone(),
        _ if material.study.arms.len() == 1 => material.study.arms[0].name.clone(),
        _ => format!("{} ways of training, compared", material.study.arms.len()),
    }
}

fn section(material: &Material) -> String {
    let study = &material.study;
    let mut out = format!(
        "<article>\n<h1>{}</h1>\n<p class=\"lead\">{}</p>\n",
        escape(&heading(material)),
        escape(&what_was_run(material))
    );
    out += &format!("<p class=\"finding\">{}</p>\n", escape(&finding(study)));
    out += &results(material);
    let mut number = 0;
    out += &figures(&charts::of_results(material), &mut number);
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

fn what_was_run(material: &Material) -> String {
    let study = &material.study;
    let runs = study.arms.iter().map(|arm| arm.seeds).sum::<u64>();
    let unfinished = material.runs.iter().flatten().filter(|run| run.summary.is_none()).count();
    let mut words = vec![study.about.trim().to_owned()];
    words.push(format!("{} in {}.", plural(runs, "run"), plural(study.arms.len() as u64, "arm")));
    words.extend(study.device.as_ref().map(|device| format!("Device: {device}.")));
    words.extend(study.seconds.map(|seconds| format!("Time in all: {}.", table::time(seconds))));
    if unfinished > 0 {
        words.push(format!("{} unfinished.", plural(unfinished as u64, "run")));
    }
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

fn plural(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// The result in a sentence, with what it is worth.
fn finding(study: &Study) -> String {
    let Some(best) = study.best() else { return String::new() };
    let Some(loss) = best.held_out_loss else { return String::new() };
    let lowest = format!(
        "The lowest held-out loss is that of {}: {} over {}",
        best.name,
        table::spread(loss, 3),
        plural(best.seeds, "seed")
    );
    if study.baseline().is_some_and(|baseline| baseline.name == best.name) {
        return lowest + ". No other student did better.";
    }
    let Some(baseline) = study.reference(best) else { return lowest + "." };
    let Some(found) = study.difference(best) else {
        return format!("{lowest}. With so few seeds, what it differs by from {} may be chance.", baseline.name);
    };
    let test = if found.paired { "paired by seed" } else { "Welch's test" };
    // The lowest of many is low by luck too.
    let rivals =
        study.arms.iter().filter(|arm| !arm.is_teacher && arm.name != baseline.name && arm.held_out_loss.is_some()).count();
    let picked = if rivals > 1 { format!("; not corrected for its being the lowest of {rivals}") } else { String::new() };
    let evidence = format!(
        "difference {}, 95 % interval {} to {}, p {}, {test}{picked}",
        table::signed(found.mean),
        table::signed(found.interval.low),
        table::signed(found.interval.high),
        match table::p_value(found.p) {
            p if p.starts_with('<') => p,
            p => format!("= {p}"),
        }
    );
    match found.p < 0.05 {
        true => format!("{lowest}, below {} ({evidence}).", baseline.name),
        false => format!("{lowest}; that it is below {} may be chance ({evidence}).", baseline.name),
    }
}

fn results(material: &Material) -> String {
    let study = &material.study;
    let note = |i: usize| unfinished(&study.arms[i], &material.runs[i]);
    let mut out = String::from("<h2>Results</h2>\n<figure class=\"table\">\n");
    out += &table::html(&table::losses(study), note);
    out += "<figcaption>Held-out loss: mean ± sample standard deviation over seeds";
    if study.best().is_some() {
        out += "; the lowest student's in bold";
    }
    if let Some(baseline) = study.baseline() {
        let shown = study.arms.iter().any(|arm| study.difference(arm).is_some());
        let name = if study.has_references() { "the arm named beside it".into() } else { escape(&baseline.name) };
        out += &if shown {
            format!(
                ". Difference from {name} with its 95 % interval (Student's t, paired where seeds match); p is two-sided and not corrected for the number of arms"
            )
        } else {
            String::new()
        };
    }
    out += ".</figcaption>\n</figure>\n";
    if let Some(scores) = table::scores(study) {
        out += "<figure class=\"table\">\n";
        out += &table::html(&scores, |_| String::new());
        out += "<figcaption>Task scores after fine-tuning: mean ± sample standard deviation over seeds. Higher is better.</figcaption>\n</figure>\n";
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
    for Figure { heading, caption, svg } in figures {
        *number += 1;
        let (heading, caption) = (escape(heading), escape(caption));
        out += &format!("<figure><h3><span>{number}</span> {heading}</h3>\n{svg}\n<figcaption>{caption}</figcaption></figure>\n");
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
