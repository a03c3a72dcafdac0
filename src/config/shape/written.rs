//! Models in a plan, and how `plan.toml` writes them: flat, a key for each size, as the hashes of plans have always
//! known them. A family that is not BERT's is named first.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Family, Shape, Size};

/// Keys and values in their order.
type Flat = Map<String, Value>;

/// The student's sizes, and how its weights are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Flat", into = "Flat")]
pub struct ModelPlan {
    /// Its sizes.
    pub shape: Shape,
    /// Dropout probability, in embeddings, attention and feed-forward alike.
    pub dropout: f64,
    /// Standard deviation of the initial weights.
    pub initializer_range: f64,
}

/// A teacher that is a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Flat", into = "Flat")]
pub struct TeacherModel {
    /// Its sizes, over the student's vocabulary.
    pub shape: Shape,
    /// Parameters, head included (a tied decoder counted once).
    pub parameters: u64,
    /// Hash of its tokenizer.
    pub tokenizer_hash: String,
    /// blake3 of its weights: what a plan's hash knows the teacher by.
    pub content_hash: String,
}

/// What a student has beside its sizes.
#[derive(Serialize, Deserialize)]
struct Drawn {
    dropout: f64,
    initializer_range: f64,
}

/// What a teacher has beside its sizes. Its vocabulary is the student's and is not written, nor is the epsilon of its
/// norms, which the content says; of Llamas both are.
#[derive(Serialize, Deserialize)]
struct Known {
    parameters: u64,
    tokenizer_hash: String,
    content_hash: String,
}

impl From<ModelPlan> for Flat {
    fn from(plan: ModelPlan) -> Self {
        let ModelPlan { shape, dropout, initializer_range } = plan;
        written(&shape, Some(shape.vocab_size()), &Drawn { dropout, initializer_range })
    }
}

impl TryFrom<Flat> for ModelPlan {
    type Error = String;

    fn try_from(written: Flat) -> Result<Self, String> {
        let (shape, Drawn { dropout, initializer_range }) = read(written)?;
        Ok(Self { shape, dropout, initializer_range })
    }
}

impl From<TeacherModel> for Flat {
    fn from(model: TeacherModel) -> Self {
        let TeacherModel { shape, parameters, tokenizer_hash, content_hash } = model;
        written(&shape, None, &Known { parameters, tokenizer_hash, content_hash })
    }
}

impl TryFrom<Flat> for TeacherModel {
    type Error = String;

    fn try_from(written: Flat) -> Result<Self, String> {
        let (shape, Known { parameters, tokenizer_hash, content_hash }) = read(written)?;
        Ok(Self { shape, parameters, tokenizer_hash, content_hash })
    }
}

/// After the longest row in the order of keys stands the vocabulary.
const VOCABULARY: &str = "vocab_size";

fn written(shape: &Shape, vocab_size: Option<usize>, rest: &impl Serialize) -> Flat {
    let mut out = Flat::new();
    if shape.family() != Family::Bert {
        out.insert("family".to_owned(), shape.family().word().into());
    }
    if let Shape::Llama(shape) = shape {
        // The sizes stand last: how angles are scaled is a table of its own, below all keys.
        return out.into_iter().chain(flat(rest)).chain(flat(shape)).collect();
    }
    for Size { key, value, .. } in shape.keys() {
        out.insert(key.to_owned(), value.into());
        if let ("max_positions", Some(vocab_size)) = (key, vocab_size) {
            out.insert(VOCABULARY.to_owned(), vocab_size.into());
        }
    }
    out.extend(flat(rest));
    out
}

fn flat(fields: &impl Serialize) -> Flat {
    match serde_json::to_value(fields) {
        Ok(Value::Object(fields)) => fields,
        other => unreachable!("fields have names and values: {other:?}"),
    }
}

/// A shape, and what is written beside it. Nothing may be missing, and nothing else be there.
fn read<T: Serialize + DeserializeOwned>(mut written: Flat) -> Result<(Shape, T), String> {
    let failed = |error: serde_json::Error| error.to_string();
    let rest: T = serde_json::from_value(Value::Object(written.clone())).map_err(failed)?;
    let beside = flat(&rest);
    let family = match written.remove("family") {
        Some(name) => name.as_str().and_then(Family::from_word).ok_or_else(|| format!("no family is called {name}"))?,
        None => Family::Bert,
    };
    written.retain(|key, _| !beside.contains_key(key));
    if family == Family::Llama {
        return Ok((Shape::Llama(serde_json::from_value(Value::Object(written)).map_err(failed)?), rest));
    }
    let number = |key: &str| written.get(key).and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
    let shape = Shape::of_keys(family, number, number(VOCABULARY).unwrap_or(0));
    let keys: Vec<&str> = shape.keys().iter().map(|size| size.key).collect();
    match keys.iter().find(|key| number(key).is_none()) {
        Some(key) => return Err(format!("`{key}` is missing, or no whole number")),
        None => written.retain(|key, _| !keys.contains(&key.as_str()) && key != VOCABULARY),
    }
    match written.keys().next() {
        Some(key) => Err(format!("unknown field `{key}`")),
        None => Ok((shape, rest)),
    }
}
