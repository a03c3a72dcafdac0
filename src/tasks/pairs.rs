//! Minimal pairs: two sentences that differ in what makes one of them acceptable, in the format of BLiMP (Warstadt et
//! al. 2020), and the accuracies of a model that gives each sentence a score.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::text::{ReadOptions, Wanted, find, read_rows};
use crate::words::plural;

/// Two sentences of which a model should prefer the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinimalPair {
    /// What is tested: BLiMP's `UID`.
    pub paradigm: String,
    /// What the paradigm is about: BLiMP's `linguistics_term`; empty where it isn't told.
    pub phenomenon: String,
    /// The acceptable sentence.
    pub good: String,
    /// The other.
    pub bad: String,
    /// Where it stands, for messages: `file:line`.
    pub place: String,
}

/// The columns that are read, in the order of the fields; the last two may be missing.
const COLUMNS: [&str; 4] = ["sentence_good", "sentence_bad", "UID", "linguistics_term"];
const HELP: &str = "minimal pairs are read as BLiMP has them: `sentence_good`, `sentence_bad`, `UID`, `linguistics_term`";

/// Pairs of a `.jsonl`, `.json`, `.tsv`, `.csv` (each also packed) or `.parquet` file, or of all those of a folder or a
/// glob: `sentence_good` and `sentence_bad`, BLiMP's `UID` and `linguistics_term` where the file has them. Without
/// `UID`, a file is one paradigm of its own name.
///
/// # Errors
/// When a file can't be read, a field is missing or empty, or in more than 1 of 100 pairs both sentences are equal:
/// with the line. A few equal ones are read, as BLiMP itself has 7 among 67,000; no model can be right about them.
pub fn read_pairs(input: &str) -> Result<Vec<MinimalPair>> {
    let mut pairs = Vec::new();
    for source in find(&[input.to_owned()])? {
        pairs.extend(of_file(&source.path)?);
    }
    match pairs.is_empty() {
        true => Err(Error::new("there are no pairs").at(input).help("a line is {\"sentence_good\": ..., \"sentence_bad\": ...}")),
        false => Ok(pairs),
    }
}

fn of_file(path: &Path) -> Result<Vec<MinimalPair>> {
    let names = COLUMNS.map(str::to_owned);
    let read = |count: usize| read_rows(path, true, &Wanted { columns: &names[..count], help: HELP }, &ReadOptions::default());
    // The first two must be there.
    let rows = read(4).or_else(|_| read(3)).or_else(|_| read(2))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let own_name = name.split('.').next().unwrap_or_default().to_owned();
    let mut pairs: Vec<MinimalPair> = Vec::with_capacity(rows.len());
    for row in rows {
        let place = format!("{}:{}", path.display(), row.line);
        let mut fields = [const { String::new() }; COLUMNS.len()];
        for ((name, field), value) in COLUMNS.iter().zip(&mut fields).zip(row.fields) {
            let value = value.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
            *field = value.ok_or_else(|| {
                Error::new(format!("the field `{name}` is missing or empty")).at(&place).help("mend the line, or remove it")
            })?;
        }
        let [good, bad, paradigm, phenomenon] = fields;
        let paradigm = if paradigm.is_empty() { own_name.clone() } else { paradigm };
        pairs.push(MinimalPair { paradigm, phenomenon, good, bad, place });
    }
    let mut equal = pairs.iter().filter(|pair| pair.good == pair.bad);
    let (first, others) = (equal.next(), equal.count());
    match first {
        Some(first) if 100 * (others + 1) > pairs.len() => {
            let which = if others > 0 { format!(", here and in {} more", plural(others as u32, "pair")) } else { String::new() };
            Err(Error::new(format!("the good and the bad sentence are the same{which}"))
                .at(&first.place)
                .help("mend the line, or remove it"))
        }
        _ => Ok(pairs),
    }
}

/// What a model made of minimal pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairScores {
    /// The mean of the paradigms' accuracies.
    pub accuracy: f64,
    /// The mean of the paradigms' margins.
    pub margin: f64,
    /// How many pairs.
    pub pairs: u64,
    /// Pairs whose sentences have the same score; each counts as wrong.
    pub ties: u64,
    /// Scores in the order in which they come up.
    pub phenomena: Vec<PhenomenonScore>,
    /// Scores in the order in which they come up.
    pub paradigms: Vec<ParadigmScore>,
}

/// What a model made of the pairs of one paradigm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParadigmScore {
    /// Its name.
    pub paradigm: String,
    /// What it is about; empty where it isn't told.
    pub phenomenon: String,
    /// How many pairs.
    pub pairs: u64,
    /// Share of pairs whose good sentence has the higher score; a tie is wrong.
    pub accuracy: f64,
    /// By how much the good sentence's score is higher, in nats: the mean over pairs.
    pub margin: f64,
}

/// What a model made of a phenomenon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhenomenonScore {
    /// Its name.
    pub phenomenon: String,
    /// How many paradigms it has.
    pub paradigms: u64,
    /// The mean of their accuracies.
    pub accuracy: f64,
    /// The mean of their margins.
    pub margin: f64,
}

impl PairScores {
    /// Of pairs and their sentences' scores, the good one's first; none of no pairs.
    pub fn of(pairs: &[MinimalPair], scores: &[[f64; 2]]) -> Option<Self> {
        let mut paradigms: Vec<ParadigmScore> = Vec::new();
        let mut ties = 0;
        for (pair, &[good, bad]) in pairs.iter().zip(scores) {
            let known = paradigms.iter().position(|own| own.paradigm == pair.paradigm);
            let at = known.unwrap_or_else(|| {
                let (paradigm, phenomenon) = (pair.paradigm.clone(), pair.phenomenon.clone());
                paradigms.push(ParadigmScore { paradigm, phenomenon, pairs: 0, accuracy: 0.0, margin: 0.0 });
                paradigms.len() - 1
            });
            let own = &mut paradigms[at];
            own.pairs += 1;
            own.accuracy += f64::from(u8::from(good > bad));
            own.margin += good - bad;
            ties += u64::from(good == bad);
        }
        for own in &mut paradigms {
            own.accuracy /= own.pairs as f64;
            own.margin /= own.pairs as f64;
        }
        let mut names: Vec<&str> = Vec::new();
        for own in &paradigms {
            if !names.contains(&own.phenomenon.as_str()) && !own.phenomenon.is_empty() {
                names.push(&own.phenomenon);
            }
        }
        let mean = |of: &dyn Fn(&ParadigmScore) -> f64, within: Option<&str>| {
            let values = paradigms.iter().filter(|own| within.is_none_or(|name| own.phenomenon == name)).map(of);
            let values: Vec<f64> = values.collect();
            values.iter().sum::<f64>() / values.len() as f64
        };
        let phenomenon = |name: &&str| PhenomenonScore {
            phenomenon: (*name).to_owned(),
            paradigms: paradigms.iter().filter(|own| own.phenomenon == *name).count() as u64,
            accuracy: mean(&|own| own.accuracy, Some(name)),
            margin: mean(&|own| own.margin, Some(name)),
        };
        (!paradigms.is_empty()).then(|| Self {
            accuracy: mean(&|own| own.accuracy, None),
            margin: mean(&|own| own.margin, None),
            pairs: paradigms.iter().map(|own| own.pairs).sum(),
            ties,
            phenomena: names.iter().map(phenomenon).collect(),
            paradigms: paradigms.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(paradigm: &str, phenomenon: &str) -> MinimalPair {
        let [paradigm, phenomenon, good, bad] = [paradigm, phenomenon, "a", "b"].map(str::to_owned);
        MinimalPair { paradigm, phenomenon, good, bad, place: "x:1".into() }
    }

    #[test]
    fn the_mean_is_over_paradigms_and_a_tie_is_wrong() {
        let pairs = [pair("p", "x"), pair("p", "x"), pair("p", "x"), pair("q", "x"), pair("r", "y")];
        let scores = [[-1.0, -2.0], [-3.0, -3.0], [-1.0, -1.5], [-1.0, -3.0], [-4.0, -2.0]];
        let found = PairScores::of(&pairs, &scores).unwrap();
        let of = |name: &str| found.paradigms.iter().find(|own| own.paradigm == name).unwrap();
        assert_eq!((of("p").accuracy, of("p").margin, of("p").pairs), (2.0 / 3.0, 0.5, 3));
        assert_eq!((found.ties, found.pairs, of("r").accuracy), (1, 5, 0.0));
        assert!((found.accuracy - (2.0 / 3.0 + 1.0) / 3.0).abs() < 1e-12, "not 3 of 5 pairs: {}", found.accuracy);
        let phenomena: Vec<_> = found.phenomena.iter().map(|own| (own.phenomenon.as_str(), own.paradigms)).collect();
        assert_eq!(phenomena, [("x", 2), ("y", 1)]);
        assert!((found.phenomena[0].accuracy - 5.0 / 6.0).abs() < 1e-12);
        assert_eq!(PairScores::of(&[], &[]), None);
    }

    fn reads(lines: &str) -> Result<Vec<MinimalPair>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("island.jsonl");
        std::fs::write(&path, lines).unwrap();
        read_pairs(path.to_str().unwrap())
    }

    #[test]
    fn blimps_fields_are_read_and_a_file_without_them_is_a_paradigm() {
        let blimp = r#"{"sentence_good": "Who hugs?", "sentence_bad": "Hugs who?", "field": "syntax", "linguistics_term": "islands", "UID": "adjunct", "pairID": "0"}"#;
        let found = reads(blimp).unwrap().remove(0);
        assert_eq!((found.good.as_str(), found.bad.as_str()), ("Who hugs?", "Hugs who?"));
        assert_eq!((found.paradigm.as_str(), found.phenomenon.as_str()), ("adjunct", "islands"));
        let plain = reads(r#"{"sentence_bad": "b", "sentence_good": "a"}"#).unwrap().remove(0);
        assert_eq!((plain.paradigm.as_str(), plain.phenomenon.as_str(), plain.good.as_str()), ("island", "", "a"));
        assert!(plain.place.ends_with("island.jsonl:1"), "{}", plain.place);
    }

    #[test]
    fn a_few_equal_pairs_are_read_as_blimp_has_some() {
        let (pair, equal) = (
            r#"{"sentence_good": "a", "sentence_bad": "b"}"#.to_owned(),
            r#"{"sentence_good": "a", "sentence_bad": "a"}"#.to_owned(),
        );
        let lines = |pairs: usize, equals: usize| [vec![pair.clone(); pairs], vec![equal.clone(); equals]].concat().join("\n");
        assert_eq!(reads(&lines(99, 1)).unwrap().len(), 100);
        let error = reads(&lines(98, 2)).unwrap_err().to_string();
        assert!(error.contains("are the same, here and in 1 pair more") && error.contains("island.jsonl:99"), "{error}");
    }

    #[test]
    fn what_is_no_pair_is_named_with_its_line() {
        let good = r#"{"sentence_good": "a", "sentence_bad": "b", "UID": "u"}"#;
        for (second, line, says) in [
            (r#"{"sentence_good": "a", "UID": "u"}"#, ":2", "`sentence_bad` is missing or empty"),
            (r#"{"sentence_good": "a", "sentence_bad": " ", "UID": "u"}"#, ":2", "`sentence_bad` is missing or empty"),
            (r#"{"sentence_good": "a", "sentence_bad": "b"}"#, ":2", "`UID` is missing or empty"),
            (r#"{"sentence_good": "a", "sentence_bad": "a", "UID": "u"}"#, ":2", "are the same"),
            ("[]", ":2", "not a JSON object"),
        ] {
            let error = reads(&format!("{good}\n{second}\n{good}")).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(&format!("island.jsonl{line}")), "{second}: {error}");
        }
        let error = reads(r#"{"good": "a", "sentence_bad": "b"}"#).unwrap_err().to_string();
        assert!(error.contains("no column `sentence_good`; there is `good`, `sentence_bad`"), "{error}");
        assert!(reads("\n\n").unwrap_err().to_string().contains("the file is empty"));
    }
}
