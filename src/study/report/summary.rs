//! A study small enough to be committed: what was asked, what every cell came to, what was found, and a figure.

use std::path::Path;

use super::table::plain_markdown as plain;
use super::{ends, table, words};
use crate::error::{Error, IoContext, Result};
use crate::files::write_text;
use crate::study::figure::standalone;
use crate::study::findings::Claim;
use crate::study::results::Study;

/// What [`write_summary`] writes; the study file is there before.
pub const SUMMARY_FILES: [&str; 3] = ["cells.jsonl", "figure.svg", "report.md"];

/// No file of a summary may be larger: it is to be committed.
const LARGEST: usize = 2_000_000;

/// The commands that repeat the study, given in the summary's folder.
const COMMANDS: &str = "```sh\n\
    upstill study study.toml                                  # runs all of it again\n\
    upstill study study.toml --cells cells.jsonl --verify 3   # repeats three of its runs\n\
    ```\n\n";

/// Writes a study's report as Markdown and its figure into `folder`, and copies what its cells came to from the study's
/// own folder.
///
/// # Errors
/// When a file can't be read or written, or is above 2 MB.
pub fn write_summary(study: &Study, from: &Path, folder: &Path) -> Result<()> {
    let [cells, figure, report] = SUMMARY_FILES.map(|name| folder.join(name));
    let there = from.join(SUMMARY_FILES[0]);
    let lines = if there.exists() { Some(std::fs::read_to_string(&there).doing("read", &there)?) } else { None };
    let texts = [(cells, lines.filter(|_| !is_same(from, folder))), (figure, drawing(study)), (report, Some(markdown(study)))];
    for (path, text) in texts.into_iter().filter_map(|(path, text)| Some((path, text?))) {
        if text.len() > LARGEST {
            return Err(Error::new(format!("{} bytes are too many for a summary, which is to be committed", text.len()))
                .at(path.display())
                .help("the study's own folder has it whole"));
        }
        write_text(&path, &text)?;
    }
    Ok(())
}

fn is_same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The figures of the primary end point as one file; none where there is nothing to draw.
fn drawing(study: &Study) -> Option<String> {
    let figures = ends::of_primary(study);
    let parts: Vec<(&str, &str)> = figures.iter().map(|figure| (figure.heading.as_str(), figure.svg.as_str())).collect();
    (!parts.is_empty()).then(|| standalone(&words::heading(study), &parts))
}

/// The report as GitHub shows it.
fn markdown(study: &Study) -> String {
    let claims = study.claims_at(&study.primary());
    let mut out = format!("# {}\n\n{}\n\n", plain(&words::heading(study)), plain(&words::lead(study).join(" ")));
    out += COMMANDS;
    let said: Vec<String> = claims.iter().map(|claim| claim.sentence.clone()).collect();
    let saved = study.all_saved();
    let saves = study.most_saved().into_iter().map(|saved| saved.sentence());
    let all: Vec<String> = said.into_iter().chain(saves).map(|sentence| format!("- {}\n", plain(&sentence))).collect();
    let lowest = || words::lowest(study).map_or(String::new(), |text| format!("{}\n", plain(&text)));
    out += &if all.is_empty() { lowest() } else { all.concat() };
    out += &words::registered(study).map_or(String::new(), |text| format!("\n{}\n", plain(&text)));
    if drawing(study).is_some() {
        out += "\n![Every seed a dot; the bars are 95 % intervals](figure.svg)\n";
    }
    out += &part("Results", Some(table::results(study)), &words::how_tested(study, &claims));
    out += &part("Steps saved", table::steps_saved(&saved), words::HOW_SAVED);
    out += &part("Other end points", table::others(study, true), words::HOW_OTHERS);
    out += &others_in_words(study);
    out += &part("The arms", table::about(study), "");
    out += &part("What was tuned", table::tuned(study), words::HOW_TUNED);
    if !study.chosen.is_empty() {
        let items: String = study.chosen.iter().map(|choice| format!("- {}\n", plain(choice))).collect();
        out += &format!("\n## What was chosen here and not by the paper\n\n{items}");
    }
    out
}

fn part(heading: &str, table: Option<table::Table>, caption: &str) -> String {
    let Some(table) = table else { return String::new() };
    let caption = if caption.is_empty() { String::new() } else { format!("\n{}\n", plain(caption)) };
    format!("\n## {heading}\n\n{}{caption}", table::markdown(&table))
}

/// Sentences on secondary end points, of which something can be said.
fn others_in_words(study: &Study) -> String {
    let primary = study.primary();
    let is_said = |claim: &Claim| claim.comparison.end_point != primary.name;
    let items: String =
        study.all_claims().into_iter().filter(is_said).map(|claim| format!("- {}\n", plain(&claim.sentence))).collect();
    if items.is_empty() { items } else { format!("\n<details><summary>All of them in words</summary>\n\n{items}\n</details>\n") }
}
