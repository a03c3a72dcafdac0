//! Every example of the help, and every `upstill` command in what people read, is a command line that this program
//! takes.

use std::fs;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use super::Cli;

/// What people read.
const DOCUMENTS: [&str; 15] = [
    "README.md",
    "examples/results/README.md",
    "src/bench/README.md",
    "tests/cuda/README.md",
    "web/README.md",
    "src/guide/getting_started.md",
    "src/guide/your_own_text.md",
    "src/guide/distilling.md",
    "src/guide/teachers_elsewhere.md",
    "src/guide/causal_models.md",
    "src/guide/scoring.md",
    "src/guide/studies.md",
    "src/guide/gpus.md",
    "src/guide/browser.md",
    "src/guide/papers.md",
];

/// The words of a command as a shell takes them, up to a comment, a pipe or a redirection, or to a gap of three spaces,
/// after which the help says what a command does.
fn shell_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut gap) = (Vec::new(), None::<String>, None, 0);
    for c in line.trim_start().chars() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#' | '|' | '>' | '<' | ';') if word.is_none() => break,
            (None, c) if c.is_whitespace() => {
                words.extend(word.take());
                gap += 1;
                if gap >= 3 {
                    break;
                }
                continue;
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
        gap = 0;
    }
    words.extend(word);
    words
}

/// The words after `upstill`, where a line is such a command.
fn command_in(line: &str) -> Option<Vec<String>> {
    let words = shell_words(line);
    let of_cargo = ["cargo", "run", "--release", "--"];
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["upstill" | "target/release/upstill", ..] => Some(words[1..].to_vec()),
        [a, b, c, d, ..] if [a, b, c, d] == of_cargo => Some(words[4..].to_vec()),
        _ => None,
    }
}

/// What is wrong with a command line; nothing where it parses, or asks for help. Prose names commands without what they
/// need.
fn mistake(words: &[String], is_prose: bool) -> Option<String> {
    let line = std::iter::once("upstill").chain(words.iter().map(String::as_str));
    let error = Cli::try_parse_from(line).err()?;
    let is_fine = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => true,
        ErrorKind::MissingRequiredArgument => is_prose,
        _ => false,
    };
    (!is_fine).then(|| error.to_string())
}

/// Every command and its subcommands, by what is typed, with the help that follows its options.
fn all(command: &clap::Command, typed: &str) -> Vec<(String, String)> {
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let below = command.get_subcommands().filter(|below| below.get_name() != "help");
    let below = below.flat_map(|below| all(below, &format!("{typed} {}", below.get_name())));
    std::iter::once((typed.to_owned(), after)).chain(below).collect()
}

#[test]
fn words_are_a_shells() {
    assert_eq!(shell_words(r#"  upstill fill m "a [MASK] ." 'b c'  # why"#), ["upstill", "fill", "m", "a [MASK] .", "b c"]);
    assert_eq!(shell_words("upstill plan  x.toml   what it comes to"), ["upstill", "plan", "x.toml"]);
    assert_eq!(shell_words("upstill logits m < in > out"), ["upstill", "logits", "m"]);
    assert!(mistake(&["plan".to_owned(), "--no-such".to_owned()], true).is_some(), "the test can fail");
}

#[test]
fn every_help_has_examples_and_each_parses() {
    let mut wrong = Vec::new();
    for (typed, after) in all(&Cli::command(), "upstill") {
        let examples: Vec<Vec<String>> = after.lines().filter(|line| line.starts_with("  ")).filter_map(command_in).collect();
        if !examples.iter().any(|words| format!("upstill {}", words.join(" ")).starts_with(&typed)) {
            wrong.push(format!("`{typed} --help` has no example of itself"));
        }
        wrong.extend(examples.iter().filter_map(|words| Some(format!("{words:?}: {}", mistake(words, false)?))));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_command_in_the_documents_parses() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for document in DOCUMENTS {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document)).unwrap();
        let (mut fence, mut before) = (None::<String>, String::new());
        for line in text.lines() {
            if let Some(language) = line.trim_start().strip_prefix("```") {
                fence = if fence.is_some() { None } else { Some(language.to_owned()) };
                continue;
            }
            let candidates: Vec<String> = match fence.as_deref() {
                Some("sh") if line.ends_with('\\') => {
                    before += line.trim_end_matches('\\');
                    continue;
                }
                Some("sh") => vec![std::mem::take(&mut before) + line],
                Some(_) => Vec::new(),
                // In prose, commands stand between backticks; capitals there stand for something of the reader's.
                None => line.split('`').skip(1).step_by(2).map(str::to_owned).collect(),
            };
            for words in candidates.iter().filter_map(|line| command_in(line)) {
                let is_pattern = words.iter().any(|word| word.contains("...") || word.starts_with('[') && !word.contains("MASK"));
                if words.is_empty() || is_pattern || words[0].chars().all(char::is_uppercase) {
                    continue;
                }
                seen += 1;
                wrong.extend(mistake(&words, fence.is_none()).map(|why| format!("{document}: {line}\n{why}")));
            }
        }
        assert!(fence.is_none(), "{document}: a block of code is not closed");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 40, "{seen} commands were found: do the documents still look as this test reads them?");
}
