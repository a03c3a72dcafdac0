//! What lies beside a vocabulary: `tokenizer_config.json`, and of older folders `special_tokens_map.json` and
//! `added_tokens.json`.
//!
//! A key that changes ids is obeyed as `transformers` 5 obeys it, or refused by name; none is passed over.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::special::{Names, Normalization, ROBERTAS_TOKENS, SPECIAL_TOKENS};
use crate::error::{Error, IoContext, Result};

/// The file with the settings.
pub(super) const CONFIG: &str = "tokenizer_config.json";

/// Classes of `transformers` that split text as BERT does, from the vocabulary and these settings alone.
const BERTS: [&str; 8] = [
    "BertTokenizer",
    "ConvBertTokenizer",
    "DistilBertTokenizer",
    "ElectraTokenizer",
    "LayoutLMTokenizer",
    "LxmertTokenizer",
    "MobileBertTokenizer",
    "SqueezeBertTokenizer",
];
/// The class that takes merges alone from `tokenizer.json`, and splits text as RoBERTa does.
const ROBERTAS: &str = "RobertaTokenizer";
/// Classes that take all of `tokenizer.json` as it is.
const WHOLE: [&str; 2] = ["PreTrainedTokenizerFast", "TokenizersBackend"];
/// Classes of causal models' tokenizers over bytes.
const CAUSAL: [(&str, Class); 3] =
    [("GPT2Tokenizer", Class::Gpt2), ("Qwen2Tokenizer", Class::Qwen2), ("LlamaTokenizer", Class::Llama)];
/// What `transformers` takes for a model whose files name no class, by `model_type`.
const OF_MODELS: [(&str, &str); 4] = [
    ("gpt2", "GPT2Tokenizer"),
    ("qwen3", "Qwen2Tokenizer"),
    ("llama", "PreTrainedTokenizerFast"),
    ("smollm3", "PreTrainedTokenizerFast"),
];

/// How a tokenizer is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// The vocabulary, and BERT's pipeline with the settings.
    Bert,
    /// The merges, in RoBERTa's pipeline of bytes.
    Roberta,
    /// `tokenizer.json`, the whole of it.
    Whole,
    /// The whole of it, which should hold GPT-2's pipeline of bytes.
    Gpt2,
    /// The whole of it, which should hold Qwen's.
    Qwen2,
    /// The whole of it where it spells bytes, as Llama 3's; else SentencePiece's, which upstill has not.
    Llama,
}

impl Class {
    /// What special tokens are called where no key says so, in the order of [`SPECIAL_TOKENS`].
    fn usual(self) -> [Option<&'static str>; 5] {
        const END: Option<&str> = Some("<|endoftext|>");
        match self {
            Class::Bert => SPECIAL_TOKENS.map(Some),
            Class::Roberta => ROBERTAS_TOKENS.map(Some),
            Class::Gpt2 => [None, END, END, END, None],
            Class::Qwen2 => [END, END, None, END, None],
            Class::Whole | Class::Llama => [None; 5],
        }
    }

    /// Whether a vocabulary alone is enough for it.
    pub(super) fn needs_json(self) -> bool {
        self != Class::Bert
    }
}

/// A file's keys, and its name for messages.
#[derive(Debug)]
struct Keys {
    file: String,
    map: Map<String, Value>,
}

/// The settings that lie in a folder.
#[derive(Debug)]
pub(super) struct Settings {
    /// `tokenizer_config.json`, over which `special_tokens_map.json` was laid where `transformers` does so.
    keys: Keys,
    /// Whether `tokenizer_config.json` is there.
    pub(super) has_config: bool,
    /// What `config.json` says of the class.
    class_of_model: Option<String>,
    /// `added_tokens.json`, where it counts.
    added: Option<Keys>,
}

/// A token to be added, and the id that a file says it has.
type Listed = BTreeMap<u32, AddedToken>;

impl Settings {
    /// Reads what lies in `folder`.
    ///
    /// # Errors
    /// When a file can't be read, or is not a JSON object.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let config = read_object(&folder.join(CONFIG))?;
        let class_of_model = read_object(&folder.join("config.json")).ok().flatten().and_then(|model| class_of(&model.map));
        let (mut special, mut added) = (None, None);
        if !config.as_ref().is_some_and(|keys| keys.map.contains_key("added_tokens_decoder")) {
            special = read_object(&folder.join("special_tokens_map.json"))?;
            added = read_object(&folder.join("added_tokens.json"))?;
        }
        let has_config = config.is_some();
        let mut keys = config.unwrap_or_else(|| Keys { file: folder.join(CONFIG).display().to_string(), map: Map::new() });
        if let Some(special) = special {
            keys.map.extend(special.map.into_iter().map(|(key, value)| (key, as_special(value))));
            keys.file = if has_config { format!("{} or {}", keys.file, special.file) } else { special.file };
        }
        Ok(Settings { keys, has_config, class_of_model, added })
    }

    /// Those of a `tokenizer_config.json` in memory; `file` is what it is called in messages.
    ///
    /// # Errors
    /// When it is not a JSON object.
    pub(super) fn of(bytes: &[u8], file: &str) -> Result<Self> {
        let keys = object(bytes).map_err(|what| Error::new(what).at(file))?;
        Ok(Settings { keys: Keys { file: file.to_owned(), map: keys }, has_config: true, class_of_model: None, added: None })
    }

    /// How the tokenizer is put together; nothing where no file says so.
    pub(super) fn class(&self) -> Result<Option<Class>> {
        let here = self.keys.map.get("tokenizer_class").and_then(Value::as_str);
        let Some(name) = here.or(self.class_of_model.as_deref()) else { return Ok(self.has_config.then_some(Class::Bert)) };
        if WHOLE.contains(&name) {
            return Ok(Some(Class::Whole));
        }
        let name = name.strip_suffix("Fast").unwrap_or(name);
        if BERTS.contains(&name) {
            return Ok(Some(Class::Bert));
        }
        if name == ROBERTAS {
            return Ok(Some(Class::Roberta));
        }
        if let Some((_, class)) = CAUSAL.iter().find(|(known, _)| *known == name) {
            return Ok(Some(*class));
        }
        Err(self.refuse(
            "tokenizer_class",
            &format!("`{name}` may split text in its own way, and upstill splits it as BERT does"),
            AS_BERTS,
        ))
    }

    /// BERT's settings; a key that is not there has the value that `transformers` gives it.
    pub(super) fn normalization(&self) -> Result<Normalization> {
        let truth = |key: &str| match self.keys.map.get(key) {
            Some(Value::Null) => Err(self.refuse(key, "is null", "write true or false")),
            _ => self.truth(key),
        };
        let strip_accents = match self.keys.map.get("strip_accents") {
            Some(Value::Null) => None,
            _ => truth("strip_accents")?,
        };
        let standard = Normalization::default();
        Ok(Normalization {
            lowercase: truth("do_lower_case")?.unwrap_or(standard.lowercase),
            strip_accents,
            chinese_chars: truth("tokenize_chinese_chars")?.unwrap_or(standard.chinese_chars),
        })
    }

    /// Whether it is said that text is lower-cased, or not.
    pub(super) fn says_case(&self) -> bool {
        self.keys.map.contains_key("do_lower_case")
    }

    /// What the special tokens are called, by a class that may call them otherwise than BERT; nothing where no key says
    /// so.
    ///
    /// # Errors
    /// When some are named, and none that ends a text.
    pub(super) fn names(&self, class: Class) -> Result<Option<Names>> {
        let named = |key: &str| self.keys.map.get(key).and_then(content);
        let given: [Option<&str>; 5] = std::array::from_fn(|at| named(SPECIAL_KEYS[at]).or_else(|| named(CAUSAL_KEYS[at])));
        let are_ours = || given.iter().zip(SPECIAL_TOKENS).all(|(given, ours)| given.is_none_or(|given| given == ours));
        let usual = match class {
            Class::Bert => return Ok(None),
            Class::Whole if given.iter().all(Option::is_none) => return Ok(None),
            Class::Whole if are_ours() => Class::Bert.usual(),
            class => class.usual(),
        };
        let is_of_causal = matches!(class, Class::Gpt2 | Class::Qwen2);
        // A key that is there and null says that there is no such token.
        let is_null = |at: usize| is_of_causal && self.keys.map.get(CAUSAL_KEYS[at]).is_some_and(Value::is_null);
        let token = |at: usize| given[at].or(usual[at].filter(|_| !is_null(at))).map(str::to_owned);
        let tokens: [Option<String>; 5] = std::array::from_fn(token);
        if tokens[3].is_none() {
            let what = "is not there, and the special tokens have names that are not BERT's";
            let help = "write which token ends a text, such as \"eos_token\": \"<|endoftext|>\" (or sep_token); those for padding (pad_token), \
                        for what can't be spelt (unk_token) and before a text (bos_token, cls_token) may be missing, as may mask_token of a causal \
                        model";
            return Err(self.refuse("eos_token", what, help));
        }
        let ends = [SPECIAL_KEYS[3], CAUSAL_KEYS[3]].map(|key| named(key).is_some());
        let is_causal = class != Class::Roberta && (is_of_causal || ends == [false, true]);
        Ok(Some(Names { tokens, is_causal }))
    }

    /// Whether a key says which token hides others.
    pub(super) fn names_mask(&self) -> bool {
        self.keys.map.get("mask_token").and_then(content).is_some()
    }

    /// Whether a text is read as if a space stood before it, of RoBERTa's and GPT-2's.
    pub(super) fn has_prefix_space(&self) -> Result<bool> {
        Ok(self.truth("add_prefix_space")?.unwrap_or(false))
    }

    /// What a key says that is true or false, or null and so nothing.
    fn truth(&self, key: &str) -> Result<Option<bool>> {
        match self.keys.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(truth)) => Ok(Some(*truth)),
            Some(other) => Err(self.refuse(key, &format!("is {other}"), "write true or false")),
        }
    }

    /// Refuses what would change ids and is not obeyed.
    pub(super) fn check(&self, class: Option<Class>) -> Result<()> {
        let is_berts = class.is_none_or(|class| class == Class::Bert);
        for (key, harmless, why) in REFUSED.iter().filter(|(_, _, why)| is_berts || *why != OPENS_AND_ENDS) {
            if let Some(value) = self.keys.map.get(*key).filter(|value| !value.is_null() && !harmless(value)) {
                return Err(self.refuse(key, &format!("is {value}, and {why}"), "take the key out, if it may be"));
            }
        }
        for (key, ours) in SPECIAL_KEYS.iter().zip(SPECIAL_TOKENS).filter(|_| is_berts) {
            let Some(value) = self.keys.map.get(*key) else { continue };
            if content(value) != Some(ours) {
                let what = format!("is {value}, and upstill reads {ours} alone there");
                return Err(self.refuse(key, &what, format!("rename the token to {ours}, in the vocabulary and in this file")));
            }
        }
        Ok(())
    }

    /// The tokens to add to a vocabulary, in the order in which `transformers` adds them; `listed` are those of a
    /// `tokenizer.json`. With each goes the id that a file says it has.
    pub(super) fn added(&self, listed: Listed, names: &Names) -> Result<Vec<(Option<u32>, AddedToken)>> {
        let named = self.named()?;
        let extra = self.extra()?;
        let is_named = |content: &str| named.iter().any(|token| token.content == content);
        let mut out: Vec<(Option<u32>, AddedToken)> = Vec::new();
        for (id, mut token) in self.listed(listed, |content| is_named(content) || extra.iter().any(|t| t.content == content))? {
            token.special |= is_named(&token.content);
            out.push((Some(id), token));
        }
        for token in named.iter().chain(&extra) {
            // The special ones are in the vocabulary, or missing, which is an error of its own.
            let ours = names.has(&token.content);
            if !out.iter().any(|(_, there)| there.content == token.content) && (!ours || has_own_flags(token)) {
                out.push((None, token.clone()));
            }
        }
        Ok(out)
    }

    /// The tokens that have a key of their own: `bos_token`, `mask_token`, `my_token`.
    fn named(&self) -> Result<Vec<AddedToken>> {
        const FIRST: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
        let others = self.keys.map.keys().map(String::as_str).filter(|key| key.ends_with("_token") && !FIRST.contains(key));
        let mut out = Vec::new();
        for key in FIRST.into_iter().chain(others) {
            match self.keys.map.get(key) {
                None | Some(Value::Null | Value::Bool(_)) => {}
                Some(value) => out.push(self.token(key, value, true)?),
            }
        }
        for key in ["extra_special_tokens", "model_specific_special_tokens"] {
            let tokens = self.keys.map.get(key).and_then(Value::as_object).into_iter().flatten();
            out.extend(tokens.map(|(_, value)| self.token(key, value, true)).collect::<Result<Vec<_>>>()?);
        }
        Ok(out)
    }

    /// The tokens without a key of their own.
    fn extra(&self) -> Result<Vec<AddedToken>> {
        let given = |key| self.keys.map.get(key).filter(|value| value.as_array().is_none_or(|list| !list.is_empty()));
        let key = match given("extra_special_tokens") {
            None | Some(Value::Null) => "additional_special_tokens",
            Some(_) => "extra_special_tokens",
        };
        match given(key) {
            None | Some(Value::Null | Value::Object(_)) => Ok(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(|value| self.token(key, value, value.is_string())).collect(),
            Some(other) => {
                Err(self.refuse(key, &format!("is {other}, and must be a list of tokens"), format!("write [{other}]")))
            }
        }
    }

    /// The tokens that a file lists with their ids.
    fn listed(&self, of_json: Listed, is_special: impl Fn(&str) -> bool) -> Result<Listed> {
        if let Some(value) = self.keys.map.get("added_tokens_decoder") {
            let key = "added_tokens_decoder";
            let wrong = || self.refuse(key, "does not give tokens by id", "take the file as it was saved");
            let tokens = value.as_object().ok_or_else(wrong)?;
            return tokens
                .iter()
                .map(|(id, value)| Ok((id.parse().map_err(|_| wrong())?, self.token(key, value, false)?)))
                .collect();
        }
        let mut out = Listed::new();
        for (token, id) in self.added.iter().flat_map(|keys| &keys.map) {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let file = self.added.as_ref().map_or("", |keys| &keys.file);
            let id = id.ok_or_else(|| Error::new(format!("the id of `{token}` is not a number from 0")).at(file))?;
            out.insert(id, AddedToken::from(token.clone(), is_special(token)));
        }
        out.extend(of_json);
        Ok(out)
    }

    /// A token as a string, or as an object with flags; `special` where it doesn't say.
    fn token(&self, key: &str, value: &Value, special: bool) -> Result<AddedToken> {
        let Some(text) = content(value) else {
            return Err(self.refuse(
                key,
                &format!("holds {value}"),
                "write the token as a string, or an object with \"content\"",
            ));
        };
        let flag = |name: &str| match value.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.refuse(key, &format!("holds a token whose `{name}` is {other}"), "write true or false")),
        };
        let special = special || flag("special")?.unwrap_or(false);
        let mut token = AddedToken::from(text, special);
        token = token.single_word(flag("single_word")?.unwrap_or(false)).lstrip(flag("lstrip")?.unwrap_or(false));
        token = token.rstrip(flag("rstrip")?.unwrap_or(false)).normalized(flag("normalized")?.unwrap_or(!special));
        Ok(token)
    }

    /// The file that it says so in.
    pub(super) fn file(&self) -> &str {
        &self.keys.file
    }

    /// The error for a key.
    pub(super) fn refuse(&self, key: &str, what: &str, help: impl Into<String>) -> Error {
        Error::new(format!("`{key}` {what}")).at(&self.keys.file).help(help)
    }
}

const AS_BERTS: &str = "if it is BERT's own way (lower case, accents, punctuation, WordPiece), write BertTokenizer there";

/// The keys of the five special tokens, in the order of [`SPECIAL_TOKENS`].
pub(super) const SPECIAL_KEYS: [&str; 5] = ["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"];

/// What tokenizers of causal models call them: what opens a text and what ends it have names of their own.
pub(super) const CAUSAL_KEYS: [&str; 5] = ["pad_token", "unk_token", "bos_token", "eos_token", "mask_token"];

/// A key, which of its values change nothing, and why another is refused.
type Refused = (&'static str, fn(&Value) -> bool, &'static str);
const REFUSED: [Refused; 13] = [
    ("never_split", is_empty, "some versions of `transformers` obey it and some do not"),
    ("do_basic_tokenize", |value| *value == true, "upstill always splits at spaces and punctuation first"),
    ("clean_text", |value| *value == true, "upstill always cleans text"),
    ("split_special_tokens", |value| *value == false, "upstill reads a [MASK] in a text as the mask"),
    ("wordpieces_prefix", |value| value == "##", "upstill reads ## alone as what goes on with a word"),
    ("max_input_chars_per_word", |value| *value == 100, "`transformers` takes 100 whatever it says"),
    ("word_tokenizer_type", |value| value == "basic", "upstill knows BERT's words alone"),
    ("subword_tokenizer_type", |value| value == "wordpiece", "upstill knows WordPiece alone"),
    ("do_subword_tokenize", |value| *value == true, "upstill always splits words into pieces"),
    ("add_bos_token", |value| *value == false, OPENS_AND_ENDS),
    ("add_eos_token", |value| *value == false, OPENS_AND_ENDS),
    ("init_inputs", is_empty, "it would replace the vocabulary"),
    ("auto_map", is_empty, "upstill runs no code of a model's own"),
];

/// Of classes with a `tokenizer.json`, which says what is put around a text, `transformers` passes over these keys.
const OPENS_AND_ENDS: &str = "upstill puts [CLS] and [SEP] alone around a text";

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
}

/// A token's text, of a string or of an object.
fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// Whether a token is found in a text in another way than a special token is by default.
fn has_own_flags(token: &AddedToken) -> bool {
    *token != AddedToken::from(token.content.clone(), true)
}

/// A token of `special_tokens_map.json`, which is special whatever it says.
fn as_special(mut value: Value) -> Value {
    match &mut value {
        Value::Object(token) if token.contains_key("content") => {
            token.insert("special".into(), true.into());
        }
        Value::Array(tokens) => *tokens = tokens.drain(..).map(as_special).collect(),
        _ => {}
    }
    value
}

/// A JSON object, when the file is there.
fn read_object(path: &Path) -> Result<Option<Keys>> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = fs::read(path).doing("read", path)?;
    let map =
        object(&bytes).map_err(|what| Error::new(what).at(path.display()).help("mend it, fetch it again, or take it away"))?;
    Ok(Some(Keys { file: path.display().to_string(), map }))
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err("the file is not a JSON object".into()),
        Err(error) => Err(format!("the file is not JSON: {error}")),
    }
}

/// The class that a `config.json` names, or that its kind of model has.
fn class_of(model: &Map<String, Value>) -> Option<String> {
    let text = |key: &str| model.get(key).and_then(Value::as_str);
    let kind = || text("model_type").and_then(|kind| OF_MODELS.iter().find(|(known, _)| *known == kind));
    text("tokenizer_class").or_else(|| kind().map(|(_, class)| *class)).map(str::to_owned)
}
