//! Multiple choice: a context, choices that may follow it, and which of them is right, in the shapes of the files that
//! people have; and the accuracies of a model that gives each choice a log-likelihood.
//!
//! What a model is shown of each shape, and both scores, are those of lm-evaluation-harness 0.4.13 (EleutherAI): of
//! PIQA `Question: {goal}\nAnswer:`, a blank, and a choice.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::text::{Object, ReadOptions, read_objects};

/// A context and what may follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultipleChoice {
    /// What is read before each choice; it may be empty.
    pub context: String,
    /// Two or more.
    pub choices: Vec<String>,
    /// Which of them is right, from 0.
    pub answer: usize,
    /// Where it stands, for messages: `file:line`.
    pub place: String,
}

/// Every field that some shape has.
const FIELDS: [&str; 15] = [
    "context",
    "choices",
    "answer",
    "ctx",
    "ctx_a",
    "ctx_b",
    "activity_label",
    "endings",
    "label",
    "goal",
    "sol1",
    "sol2",
    "question",
    "question_stem",
    "answerKey",
];
/// A longer object is no question, and what holds it in memory may be many times as long.
const LONGEST: usize = 4 << 20;
const HELP: &str = "a line is {\"context\": \"Two and two are\", \"choices\": [\"four\", \"five\"], \"answer\": 0}, or as HellaSwag \
     (`ctx`, `endings`, `label`), PIQA (`goal`, `sol1`, `sol2`, `label`) or ARC (`question`, `choices`, `answerKey`) have it";
const MEND: &str = "mend the line, or remove it";

/// Questions of a `.jsonl` or `.json` file (each also packed), each an object of one of these shapes:
///
/// | shape | fields | what is read before a choice |
/// |---|---|---|
/// | plain | `context`, `choices`, `answer` | the context as it stands |
/// | HellaSwag | `ctx` (or `activity_label`, `ctx_a`, `ctx_b`), `endings`, `label` | the activity, a colon and the context, without what WikiHow's markup left |
/// | PIQA | `goal`, `sol1`, `sol2`, `label` | `Question: {goal}\nAnswer:` |
/// | ARC | `question`, `choices` (`text` and `label`), `answerKey` | `Question: {question}\nAnswer:` |
/// | OpenBookQA | `question_stem`, `choices`, `answerKey` | the stem as it stands |
///
/// An answer is the right choice's number from 0, or its letter from A; of ARC, its label. `question` may be an object
/// of `stem` and `choices`, as ARC was first published.
///
/// # Errors
/// With the line: no JSON, an object of no such shape, a field that is missing or of another kind, fewer than two
/// choices, an empty choice, an answer that is none of them; when the file can't be read or has no questions.
pub fn read_choices(path: &Path) -> Result<Vec<MultipleChoice>> {
    let options = ReadOptions { longest_line: LONGEST, ..ReadOptions::default() };
    let objects = read_objects(path, &FIELDS.map(str::to_owned), &options)?;
    if objects.is_empty() {
        return Err(Error::new("there are no questions").at(path.display()).help(HELP));
    }
    let read = |object: Object| {
        let found = read(&Fields(&object));
        found.map_err(|error| error.at(&object.place)).map(|read| MultipleChoice { place: object.place.clone(), ..read })
    };
    objects.into_iter().map(read).collect()
}

/// A line's fields.
struct Fields<'a>(&'a Object);

impl Fields<'_> {
    /// A field that is there and not null.
    fn get(&self, name: &str) -> Option<&Value> {
        let at = FIELDS.iter().position(|field| *field == name)?;
        self.0.fields[at].as_ref().filter(|value| !value.is_null())
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn must(&self, name: &str) -> Result<&Value> {
        self.get(name).ok_or_else(|| Error::new(format!("the field `{name}` is missing; there is {}", self.0.found)).help(HELP))
    }

    fn text(&self, name: &str) -> Result<&str> {
        text(self.must(name)?, &format!("the field `{name}`"))
    }

    fn texts(&self, name: &str) -> Result<Vec<String>> {
        texts(self.must(name)?, &format!("the field `{name}`"))
    }
}

/// The question of a line; its place is put in later.
fn read(fields: &Fields) -> Result<MultipleChoice> {
    let has = |name: &str| fields.has(name);
    let (context, choices, labels, answer) = if has("endings") {
        let choices = fields.texts("endings")?.iter().map(|ending| mended(ending)).collect();
        (hellaswag_context(fields)?, choices, None, "label")
    } else if has("goal") || has("sol1") {
        let choices = vec![fields.text("sol1")?.to_owned(), fields.text("sol2")?.to_owned()];
        (question(fields.text("goal")?), choices, None, "label")
    } else if has("answerKey") || has("question_stem") {
        let (context, (choices, labels)) = arc(fields)?;
        (context, choices, labels, "answerKey")
    } else if has("context") || (has("choices") && has("answer") && !has("question")) {
        (fields.text("context")?.to_owned(), fields.texts("choices")?, None, "answer")
    } else {
        return Err(Error::new(format!("no question of a known shape: there is {}", fields.0.found)).help(HELP));
    };
    if choices.len() < 2 {
        let count = if choices.is_empty() { "no choice" } else { "one choice" };
        return Err(Error::new(format!("there is {count}, and nothing to choose")).help(MEND));
    }
    if let Some(at) = choices.iter().position(|choice| choice.trim().is_empty()) {
        return Err(Error::new(format!("choice {at} (from 0) is empty")).help(MEND));
    }
    let answer = right(fields.must(answer)?, answer, choices.len(), labels.as_deref())?;
    Ok(MultipleChoice { context, choices, answer, place: String::new() })
}

fn question(text: &str) -> String {
    format!("Question: {text}\nAnswer:")
}

fn hellaswag_context(fields: &Fields) -> Result<String> {
    if !["activity_label", "ctx_a", "ctx_b"].iter().all(|name| fields.has(name)) {
        return Ok(mended(fields.text("ctx")?));
    }
    let (activity, first, second) = (fields.text("activity_label")?, fields.text("ctx_a")?, fields.text("ctx_b")?);
    // Python's `capitalize`: the other letters become small.
    let mut letters = second.chars();
    let capital: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    Ok(mended(&format!("{activity}: {first} {capital}{}", letters.as_str().to_lowercase())))
}

/// What the harness makes of HellaSwag's texts, in which WikiHow's markup was left: `[title]`, `[step]`.
fn mended(text: &str) -> String {
    let text = text.trim().replace(" [title]", ". ");
    let (mut out, mut rest) = (String::new(), text.as_str());
    while let Some(at) = rest.find('[') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let line = from.split('\n').next().unwrap_or_default();
        rest = match line.find(']') {
            Some(end) => &from[end + 1..],
            None => {
                out.push('[');
                &from[1..]
            }
        };
    }
    (out + rest).replace("  ", " ")
}

/// Choices, with their labels where they have any.
type Labelled = (Vec<String>, Option<Vec<String>>);

/// The context and the choices of ARC's shape, as `datasets` has it or as it was first published, or of OpenBookQA's.
fn arc(fields: &Fields) -> Result<(String, Labelled)> {
    if fields.has("question_stem") {
        return Ok((fields.text("question_stem")?.to_owned(), labelled(fields.must("choices")?)?));
    }
    match fields.must("question")? {
        Value::Object(nested) => {
            let part = |name: &str| {
                nested.get(name).ok_or_else(|| Error::new(format!("the field `question` has no `{name}`")).help(HELP))
            };
            Ok((question(text(part("stem")?, "`question.stem`")?), labelled(part("choices")?)?))
        }
        plain => Ok((question(text(plain, "the field `question`")?), labelled(fields.must("choices")?)?)),
    }
}

/// `{"text": [...], "label": [...]}`, `[{"text": ..., "label": ...}, ...]`, or texts alone.
fn labelled(choices: &Value) -> Result<Labelled> {
    let lacks = |name: &str| Error::new(format!("the field `choices` has no `{name}`")).help(HELP);
    match choices {
        Value::Object(lists) => {
            let list = |name: &str| texts(lists.get(name).ok_or_else(|| lacks(name))?, &format!("`choices.{name}`"));
            let (texts, labels) = (list("text")?, list("label")?);
            match texts.len() == labels.len() {
                true => Ok((texts, Some(labels))),
                false => {
                    let what = format!("there are {} texts of choices and {} labels", texts.len(), labels.len());
                    Err(Error::new(what).help(MEND))
                }
            }
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            let all = |name: &str| -> Result<Vec<String>> {
                let one = |choice: &Value| Ok(text(choice.get(name).ok_or_else(|| lacks(name))?, "a choice")?.to_owned());
                list.iter().map(one).collect()
            };
            Ok((all("text")?, Some(all("label")?)))
        }
        plain => Ok((texts(plain, "the field `choices`")?, None)),
    }
}

fn text<'a>(value: &'a Value, what: &str) -> Result<&'a str> {
    value.as_str().ok_or_else(|| Error::new(format!("{what} is {} and no text", kind(value))).help(HELP))
}

fn texts(value: &Value, what: &str) -> Result<Vec<String>> {
    let list = value.as_array();
    let list = list.ok_or_else(|| Error::new(format!("{what} is {} and no list", kind(value))).help(HELP))?;
    let one = |(at, item): (usize, &Value)| Ok(text(item, &format!("{what}, item {at} (from 0),"))?.to_owned());
    list.iter().enumerate().map(one).collect()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Which choice an answer names: by a label, else by its number from 0 or its letter from A.
fn right(answer: &Value, name: &str, count: usize, labels: Option<&[String]>) -> Result<usize> {
    let written = match answer {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        other => return Err(Error::new(format!("the field `{name}` is {} and no answer", kind(other))).help(HELP)),
    };
    if let Some(labels) = labels {
        let at = labels.iter().position(|label| label.trim() == written);
        return at
            .ok_or_else(|| Error::new(format!("the field `{name}` is {written:?}, and no choice has that label")).help(MEND));
    }
    let letter = || match written.as_bytes() {
        [letter] if letter.is_ascii_alphabetic() => Some(i64::from(letter.to_ascii_uppercase() - b'A')),
        _ => None,
    };
    let at: i64 = written.parse().ok().or_else(letter).ok_or_else(|| {
        Error::new(format!("the field `{name}` is {written:?}, which is neither a number nor a letter"))
            .help("an answer is the right choice's number from 0, or its letter from A; splits of tests often keep theirs")
    })?;
    usize::try_from(at).ok().filter(|at| *at < count).ok_or_else(|| {
        let last = char::from(b'A' + (count - 1).min(25) as u8);
        let what =
            format!("the field `{name}` is {written:?}, and there are {count} choices: 0 to {}, or A to {last}", count - 1);
        Error::new(what).help("mend the line, or remove it; splits of tests often keep their answers")
    })
}

/// What a model made of questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChoiceScores {
    /// How many questions.
    pub questions: u64,
    /// Share of questions whose right choice has the highest log-likelihood; the first of equals is chosen.
    pub acc: f64,
    /// The share where each log-likelihood is divided by its choice's length in characters.
    pub acc_norm: f64,
    /// The share that chance gets: the mean over questions of one over their choices.
    pub chance: f64,
    /// Contexts that were too long for the model.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cut: Option<CutContexts>,
}

/// Contexts that lost their beginning, as a model reads no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutContexts {
    /// Questions with such a context.
    pub questions: u64,
    /// The most tokens that one lost.
    pub most_tokens: u64,
    /// The first one's place.
    pub first: String,
}

impl ChoiceScores {
    /// Of questions and their choices' log-likelihoods, in nats; none of no questions.
    pub fn of(questions: &[MultipleChoice], log_likelihoods: &[Vec<f64>]) -> Option<Self> {
        let (mut acc, mut acc_norm, mut chance) = (0u64, 0u64, 0.0);
        for (question, sums) in questions.iter().zip(log_likelihoods) {
            let lengths = question.choices.iter().map(|choice| choice.chars().count() as f64);
            let means: Vec<f64> = sums.iter().zip(lengths).map(|(sum, length)| sum / length).collect();
            acc += u64::from(highest(sums) == question.answer);
            acc_norm += u64::from(highest(&means) == question.answer);
            chance += 1.0 / question.choices.len() as f64;
        }
        let n = questions.len() as f64;
        (!questions.is_empty()).then(|| Self {
            questions: questions.len() as u64,
            acc: acc as f64 / n,
            acc_norm: acc_norm as f64 / n,
            chance: chance / n,
            cut: None,
        })
    }
}

/// Where the highest is: the first of equals, as numpy has it.
fn highest(values: &[f64]) -> usize {
    (0..values.len()).reduce(|best, at| if values[at] > values[best] { at } else { best }).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(lines: &str) -> Result<Vec<MultipleChoice>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("questions.jsonl");
        std::fs::write(&path, lines).unwrap();
        read_choices(&path)
    }

    #[test]
    fn the_shapes_that_people_have() {
        for (line, context, choices, answer) in [
            (r#"{"context": "Two are ", "choices": ["four", " 5"], "answer": 1, "id": 7}"#, "Two are ", vec!["four", " 5"], 1),
            (r#"{"context": "", "choices": ["a", "b", "c"], "answer": "C"}"#, "", vec!["a", "b", "c"], 2),
            (
                r#"{"ctx": "A man. he", "endings": ["runs [x] off.", " sits."], "label": "1"}"#,
                "A man. he",
                vec!["runs off.", "sits."],
                1,
            ),
            (
                r#"{"ind": 24, "activity_label": "Roof", "ctx_a": "A man sits [header] up [title] So.", "ctx_b": "he IS", "ctx": "no", "endings": ["a", "b"], "label": 0}"#,
                "Roof: A man sits up. So. He is",
                vec!["a", "b"],
                0,
            ),
            (
                r#"{"goal": "Boil", "sol1": "heat", "sol2": "cool", "label": 0}"#,
                "Question: Boil\nAnswer:",
                vec!["heat", "cool"],
                0,
            ),
            (
                r#"{"question": "Which?", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"}"#,
                "Question: Which?\nAnswer:",
                vec!["x", "y"],
                1,
            ),
            (
                r#"{"question": {"stem": "Which?", "choices": [{"text": "x", "label": "A"}, {"text": "y", "label": "B"}]}, "answerKey": "B"}"#,
                "Question: Which?\nAnswer:",
                vec!["x", "y"],
                1,
            ),
            (
                r#"{"question_stem": "The sun", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": " A"}"#,
                "The sun",
                vec!["x", "y"],
                0,
            ),
        ] {
            let found = reads(line).unwrap().remove(0);
            assert_eq!((found.context.as_str(), found.answer), (context, answer), "{line}");
            assert_eq!(found.choices, choices, "{line}");
            assert!(found.place.ends_with("questions.jsonl:1"), "{}", found.place);
        }
    }

    #[test]
    fn what_is_no_question_is_named_with_its_line() {
        let good = r#"{"context": "a", "choices": ["b", "c"], "answer": 0}"#;
        for (bad, says) in [
            (r#"{"context": "a", "choices": ["b", "c"]}"#, "the field `answer` is missing; there is `context`, `choices`"),
            (r#"{"context": "a", "choices": ["b", "c"], "answer": null}"#, "the field `answer` is missing"),
            (r#"{"choices": ["b", "c"], "answer": 0}"#, "the field `context` is missing"),
            (r#"{"context": "a", "answer": 0}"#, "the field `choices` is missing"),
            (r#"{"context": 3, "choices": ["b", "c"], "answer": 0}"#, "the field `context` is a number and no text"),
            (r#"{"context": "a", "choices": "b", "answer": 0}"#, "the field `choices` is a text and no list"),
            (r#"{"context": "a", "choices": ["b", {}], "answer": 0}"#, "item 1 (from 0), is an object and no text"),
            (r#"{"context": "a", "choices": ["b"], "answer": 0}"#, "there is one choice, and nothing to choose"),
            (r#"{"context": "a", "choices": [], "answer": 0}"#, "there is no choice"),
            (r#"{"context": "a", "choices": ["b", " \n"], "answer": 0}"#, "choice 1 (from 0) is empty"),
            (r#"{"context": "a", "choices": ["b", "c"], "answer": 2}"#, "is \"2\", and there are 2 choices: 0 to 1, or A to B"),
            (r#"{"context": "a", "choices": ["b", "c"], "answer": -1}"#, "is \"-1\", and there are 2 choices"),
            (r#"{"context": "a", "choices": ["b", "c"], "answer": "C"}"#, "is \"C\", and there are 2 choices"),
            (r#"{"context": "a", "choices": ["b", "c"], "answer": "the b"}"#, "neither a number nor a letter"),
            (r#"{"context": "a", "choices": ["b", "c"], "answer": ""}"#, "neither a number nor a letter"),
            (r#"{"context": "a", "choices": ["b", "c"], "answer": 0.5}"#, "neither a number nor a letter"),
            (r#"{"context": "a", "choices": ["b", "c"], "answer": [0]}"#, "the field `answer` is a list and no answer"),
            (r#"{"ctx": "a", "endings": ["[x]", "c"], "label": 0}"#, "choice 0 (from 0) is empty"),
            (r#"{"ctx_a": "a", "endings": ["b", "c"], "label": 0}"#, "the field `ctx` is missing"),
            (r#"{"goal": "a", "sol1": "b", "label": 0}"#, "the field `sol2` is missing"),
            (r#"{"question": "a", "choices": {"text": ["b", "c"]}, "answerKey": "A"}"#, "`choices` has no `label`"),
            (
                r#"{"question": "a", "choices": {"text": ["b", "c"], "label": ["A"]}, "answerKey": "A"}"#,
                "2 texts of choices and 1 labels",
            ),
            (
                r#"{"question": "a", "choices": {"text": ["b", "c"], "label": ["A", "B"]}, "answerKey": "C"}"#,
                "no choice has that label",
            ),
            (r#"{"question": {"stem": 1}, "answerKey": "C"}"#, "`question.stem` is a number"),
            (
                r#"{"question": "a", "choices": ["b", "c"], "answer": 0}"#,
                "no question of a known shape: there is `question`, `choices`, `answer`",
            ),
            ("{}", "no question of a known shape: there is an object without fields"),
            ("{\"context\": \"a\", \"choices\": [\"b\"", "the line is not JSON"),
            ("[]", "the line is not a JSON object"),
        ] {
            let error = reads(&format!("{good}\n\n{bad}\n{good}")).unwrap_err();
            let said = error.to_string();
            assert!(said.contains(says) && said.contains("questions.jsonl:3") && error.advice().is_some(), "{bad}: {said}");
        }
        assert!(reads("\n \n").unwrap_err().to_string().contains("there are no questions"));
        let deep = format!("{{\"context\": \"a\", \"choices\": {}{}, \"answer\": 0}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(reads(&deep).unwrap_err().to_string().contains("recursion limit"));
        let long = format!("{{\"context\": \"{}\", \"choices\": [\"b\", \"c\"], \"answer\": 0}}", "a".repeat(LONGEST));
        assert!(reads(&long).unwrap_err().to_string().contains("a line is longer than 4 MiB"));
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("a.txt");
        std::fs::write(&text, good).unwrap();
        assert!(read_choices(&text).unwrap_err().to_string().contains("the file is no JSON"));
    }

    #[test]
    fn characters_are_counted_and_the_first_of_equals_is_chosen() {
        let question = |choices: &[&str], answer| MultipleChoice {
            context: String::new(),
            choices: choices.iter().map(|&choice| choice.to_owned()).collect(),
            answer,
            place: "x:1".into(),
        };
        // By bytes the second's é would count twice, and -3 / 4 be above -1.6 / 2.
        let questions = [question(&["ab", "éé"], 1), question(&["a", "b", "c"], 0), question(&["aa", "b"], 0)];
        let scores = ChoiceScores::of(&questions, &[vec![-1.6, -3.0], vec![-2.0, -2.0, -9.0], vec![-2.0, -1.5]]).unwrap();
        assert_eq!((scores.questions, scores.acc, scores.acc_norm), (3, 1.0 / 3.0, 2.0 / 3.0));
        assert!((scores.chance - (0.5 + 1.0 / 3.0 + 0.5) / 3.0).abs() < 1e-12);
        assert_eq!(ChoiceScores::of(&[], &[]), None);
    }
}
