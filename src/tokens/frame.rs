//! What is put around a text where special tokens are asked for: what opens it and what ends it.

use serde_json::{Map, json};
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::processors::template::TemplateProcessing;

use super::special::{Special, failed};
use crate::error::{Error, Result};

/// BERT's `[CLS] A [SEP] B [SEP]`.
pub(super) fn berts(special: Special) -> Result<TemplateProcessing> {
    TemplateProcessing::builder()
        .try_single("[CLS]:0 $A:0 [SEP]:0")
        .and_then(|builder| builder.try_pair("[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"))
        .map(|builder| builder.special_tokens(vec![("[CLS]", special.cls), ("[SEP]", special.sep)]))
        .map_err(|error| Error::new(error.to_string()))?
        .build()
        .map_err(|error| Error::new(error.to_string()))
}

/// What opens a text and what ends it, around one text or two, whatever they are called: a template is written as text,
/// in which a name may mean something else.
pub(super) fn both(special: Special, vocab: &[String]) -> BertProcessing {
    let token = |id: u32| (vocab[id as usize].clone(), id);
    BertProcessing::new(token(special.sep), token(special.cls))
}

/// A token before each text.
pub(super) fn opened(id: u32, vocab: &[String]) -> Result<PostProcessorWrapper> {
    let name = &vocab[id as usize];
    let text = |text: &str, kind: u8| {
        [json!({"SpecialToken": {"id": name, "type_id": kind}}), json!({"Sequence": {"id": text, "type_id": kind}})]
    };
    let mut tokens = Map::new();
    tokens.insert(name.clone(), json!({"id": name, "ids": [id], "tokens": [name]}));
    let pair = [text("A", 0), text("B", 1)].concat();
    let template = json!({
        "type": "TemplateProcessing",
        "single": text("A", 0),
        "pair": pair,
        "special_tokens": tokens,
    });
    serde_json::from_value(template).map_err(|error| failed(error.into()))
}
