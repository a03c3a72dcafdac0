//! What is asked of a family of language models, and the enum of those that there are: all that training, methods,
//! studies, the command and the page know of them. A family is a folder here, whole: its layers and initial weights,
//! the names that files have for them, its `config.json`, how depths map when one model starts from another. Its sizes
//! are [`Shape`]'s.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde_json::Value;

use super::bert::{self, BertForMaskedLm};
use super::gpt2::{self, Gpt2LmHeadModel};
use super::inputs::Inputs;
use super::inside::Inside;
use super::language_model::{Config, LanguageModel};
use super::llama::{self, LlamaForCausalLm};
use super::modernbert::{self, ModernBertDecoderForCausalLm, ModernBertForMaskedLm};
use super::past::Past;
use super::renaming;
use super::weights::{Shapes, Weights};
use crate::config::{BertShape, Gpt2Shape, Shape};
use crate::device::Compute;
use crate::error::{Error, Result};
use crate::kernels::{Dropout, Logits, Places};
use crate::tokens::{Special, Tokenizer};

/// A model of any family.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a few of them a run: handles of tensors, not numbers")]
pub enum AnyModel {
    /// BERT, and what has its layers.
    Bert(BertForMaskedLm),
    /// ModernBERT, and Ettin's encoders.
    ModernBert(ModernBertForMaskedLm),
    /// Llama, SmolLM2, Qwen3, SmolLM3.
    Llama(LlamaForCausalLm),
    /// GPT-2, DistilGPT2.
    Gpt2(Gpt2LmHeadModel),
    /// Ettin's decoders.
    ModernBertDecoder(ModernBertDecoderForCausalLm),
}

impl From<BertForMaskedLm> for AnyModel {
    fn from(model: BertForMaskedLm) -> Self {
        AnyModel::Bert(model)
    }
}

impl From<ModernBertForMaskedLm> for AnyModel {
    fn from(model: ModernBertForMaskedLm) -> Self {
        AnyModel::ModernBert(model)
    }
}

impl From<LlamaForCausalLm> for AnyModel {
    fn from(model: LlamaForCausalLm) -> Self {
        AnyModel::Llama(model)
    }
}

impl From<Gpt2LmHeadModel> for AnyModel {
    fn from(model: Gpt2LmHeadModel) -> Self {
        AnyModel::Gpt2(model)
    }
}

impl From<ModernBertDecoderForCausalLm> for AnyModel {
    fn from(model: ModernBertDecoderForCausalLm) -> Self {
        AnyModel::ModernBertDecoder(model)
    }
}

impl AnyModel {
    /// What a causal model predicts after the tokens of `past` and these: logits `[1, v]`. They join the past, so that
    /// no token is read twice.
    ///
    /// # Errors
    /// When it is no causal model.
    pub fn next(&self, ids: &[i32], past: &mut Past, compute: &Compute) -> Result<Tensor<2>> {
        match self {
            AnyModel::Llama(model) => {
                let hidden_1d = model.model.next(ids, past, compute);
                Ok(model.head(hidden_1d, compute).whole(compute))
            }
            AnyModel::Gpt2(model) => {
                let hidden_1d = model.transformer.next(ids, past, compute);
                Ok(model.head(hidden_1d, compute).whole(compute))
            }
            AnyModel::ModernBertDecoder(model) => {
                let hidden_1d = model.model.next(ids, past, compute);
                Ok(model.head(hidden_1d, compute).whole(compute))
            }
            AnyModel::Bert(_) | AnyModel::ModernBert(_) => {
                let family = self.shape().family();
                Err(Error::new(format!("the model is a {family}, which fills masks and does not go on with a text")).help(
                    "take a causal model ([model] family = \"llama\", \"gpt2\" or \"modernbert-decoder\"); `upstill fill` shows what this one predicts",
                ))
            }
        }
    }
}

impl LanguageModel for AnyModel {
    fn hidden_and(&self, inputs: &Inputs, at: Option<&Places>, dropout: &mut Dropout, inside: &mut Inside) -> Tensor<2> {
        match self {
            AnyModel::Bert(model) => model.hidden_and(inputs, at, dropout, inside),
            AnyModel::ModernBert(model) => model.hidden_and(inputs, at, dropout, inside),
            AnyModel::Llama(model) => model.hidden_and(inputs, at, dropout, inside),
            AnyModel::Gpt2(model) => model.hidden_and(inputs, at, dropout, inside),
            AnyModel::ModernBertDecoder(model) => model.hidden_and(inputs, at, dropout, inside),
        }
    }

    fn head(&self, hidden_md: Tensor<2>, compute: &Compute) -> Logits {
        match self {
            AnyModel::Bert(model) => model.head(hidden_md, compute),
            AnyModel::ModernBert(model) => model.head(hidden_md, compute),
            AnyModel::Llama(model) => model.head(hidden_md, compute),
            AnyModel::Gpt2(model) => model.head(hidden_md, compute),
            AnyModel::ModernBertDecoder(model) => model.head(hidden_md, compute),
        }
    }

    fn words(&self) -> Tensor<2> {
        match self {
            AnyModel::Bert(model) => model.words(),
            AnyModel::ModernBert(model) => model.words(),
            AnyModel::Llama(model) => model.words(),
            AnyModel::Gpt2(model) => model.words(),
            AnyModel::ModernBertDecoder(model) => model.words(),
        }
    }

    fn shape(&self) -> Shape {
        match self {
            AnyModel::Bert(model) => model.shape(),
            AnyModel::ModernBert(model) => model.shape(),
            AnyModel::Llama(model) => model.shape(),
            AnyModel::Gpt2(model) => model.shape(),
            AnyModel::ModernBertDecoder(model) => model.shape(),
        }
    }

    fn is_table(name: &str) -> bool {
        BertForMaskedLm::is_table(name)
            || ModernBertForMaskedLm::is_table(name)
            || LlamaForCausalLm::is_table(name)
            || Gpt2LmHeadModel::is_table(name)
    }
}

impl Config {
    /// What a `config.json` says.
    ///
    /// # Errors
    /// When it is of no family (its architecture is named), asks for something that upstill has not, or its sizes are
    /// missing, out of all bounds or don't fit together.
    pub fn parse(config: &Value) -> Result<Self> {
        match config.get("model_type").and_then(Value::as_str) {
            Some(kind) if modernbert::MODEL_TYPES.contains(&kind) => modernbert::parse(config),
            Some(gpt2::MODEL_TYPE) => gpt2::parse(config),
            Some(kind) if llama::MODEL_TYPES.contains(&kind) => llama::parse(config),
            _ => bert::parse(config),
        }
    }
}

impl Shape {
    /// Draws a model as its family does: weights around 0 with the deviation `range`, zero biases, from `seed` and each
    /// parameter's name alone.
    pub fn init(&self, seed: u64, range: f64, device: &Device) -> AnyModel {
        match self {
            Shape::Bert(shape) => shape.init(seed, range, device).into(),
            Shape::ModernBert(shape) if shape.is_causal => shape.init_decoder(seed, range, device).into(),
            Shape::ModernBert(shape) => shape.init(seed, range, device).into(),
            Shape::Llama(shape) => shape.init(seed, range, device).into(),
            Shape::Gpt2(shape) => shape.init(seed, range, device).into(),
        }
    }

    /// The `config.json` of a language model; with the ids of its special tokens.
    pub(super) fn config(&self, special: &Special) -> Value {
        match self {
            Shape::Bert(shape) => bert::config(shape, special),
            Shape::ModernBert(shape) => modernbert::config(shape, special),
            Shape::Llama(shape) => llama::config(shape, special),
            Shape::Gpt2(shape) => gpt2::config(shape, special),
        }
    }

    /// Names and sizes of the tensors of its embeddings and layers.
    pub(super) fn body(&self) -> Shapes {
        match self {
            Shape::Bert(shape) => bert::body(shape),
            Shape::ModernBert(shape) => modernbert::body(shape),
            Shape::Llama(shape) => llama::body(shape),
            Shape::Gpt2(shape) => gpt2::body(shape),
        }
    }

    /// Names and sizes of the tensors of its language-model head.
    pub(super) fn head(&self) -> Shapes {
        match self {
            Shape::Bert(shape) => bert::head(shape),
            Shape::ModernBert(shape) => modernbert::head(shape),
            Shape::Llama(shape) => llama::head(shape),
            // The word table.
            Shape::Gpt2(_) => Shapes::new(),
        }
    }

    /// Whether a tensor belongs to the embeddings or the layers.
    pub(super) fn is_body(&self, name: &str) -> bool {
        match self {
            Shape::Bert(_) => bert::is_body(name),
            Shape::ModernBert(_) => modernbert::is_body(name),
            Shape::Llama(_) => llama::is_body(name),
            Shape::Gpt2(_) => gpt2::is_body(name),
        }
    }

    /// Whether a tensor belongs to the language-model head.
    pub(super) fn is_head(&self, name: &str) -> bool {
        match self {
            Shape::Bert(_) => bert::is_head(name),
            Shape::ModernBert(shape) => modernbert::is_head(shape, name),
            Shape::Llama(_) => llama::is_head(name),
            Shape::Gpt2(_) => gpt2::is_head(name),
        }
    }

    /// A tensor's name in files, as upstill has it.
    pub(super) fn canonical(&self, name: &str) -> String {
        match self {
            // BERT's tensors have had several names.
            Shape::Bert(_) => bert::canonical(name),
            _ => self.unwrapped(name).0,
        }
    }

    /// A tensor's name without what a wrapping had put before or into it, and that.
    fn unwrapped(&self, name: &str) -> (String, String) {
        match self {
            Shape::Bert(_) => bert::unwrapped(name),
            Shape::ModernBert(_) => modernbert::unwrapped(name),
            Shape::Llama(_) => llama::unwrapped(name),
            Shape::Gpt2(_) => gpt2::unwrapped(name),
        }
    }

    /// Tensors by the names that upstill has for them.
    ///
    /// # Errors
    /// When two different tensors come to the same name.
    pub(super) fn rename(&self, found: Weights) -> Result<Weights> {
        match self {
            Shape::Bert(_) => bert::rename(found),
            Shape::ModernBert(_) => modernbert::rename(found),
            Shape::Llama(shape) => llama::rename(found, shape.tied),
            Shape::Gpt2(_) => gpt2::rename(found),
        }
    }

    /// What was put before or into the names of tensors and is taken off, a line each.
    pub(super) fn wrappings<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<String> {
        renaming::wrappings(names, |name| self.unwrapped(name).1)
    }

    /// Refuses tensors that lack some of the body, have it in other sizes, or hold more of it.
    ///
    /// # Errors
    /// One that lists all of it.
    pub(super) fn must_have_body(&self, found: &Shapes) -> Result<()> {
        match self {
            Shape::Bert(shape) => bert::must_have_body(shape, found),
            Shape::ModernBert(shape) => modernbert::must_have_body(shape, found),
            Shape::Llama(shape) => llama::must_have_body(shape, found),
            Shape::Gpt2(shape) => gpt2::must_have_body(shape, found),
        }
    }

    /// Refuses weights that do not predict words: without a whole head, tied to the word table where the family has no
    /// other. `has_own_decoder` tells whether the files hold a decoder's weights, by whatever name.
    ///
    /// # Errors
    /// One that says what keeps the model from it.
    pub(super) fn must_predict(
        &self,
        weights: &Weights,
        is_tied: bool,
        has_own_decoder: impl FnOnce() -> Result<bool>,
    ) -> Result<()> {
        match self {
            Shape::Bert(shape) => bert::must_predict(shape, weights, is_tied, has_own_decoder),
            Shape::ModernBert(shape) => modernbert::must_predict(shape, weights, is_tied, has_own_decoder),
            Shape::Llama(shape) => llama::must_predict(shape, weights),
            Shape::Gpt2(_) => gpt2::must_predict(weights),
        }
    }

    /// Whether a left-over tensor is a decoder of the head's own, which upstill has not there.
    pub(super) fn is_own_decoder(&self, name: &str) -> bool {
        match self {
            Shape::Bert(_) => name.starts_with(bert::DECODER),
            Shape::ModernBert(_) => name.starts_with(modernbert::DECODER) && name.ends_with("weight"),
            // One that the shape says is the word table, and is another.
            Shape::Llama(shape) => shape.tied && name.starts_with(llama::DECODER),
            Shape::Gpt2(_) => name.starts_with(gpt2::DECODER),
        }
    }

    /// The shape and the weights as `transformers` wants them.
    pub(super) fn for_transformers(&self, weights: Weights) -> (Self, Weights) {
        match self {
            Shape::Bert(shape) => {
                let (shape, weights) = bert::for_transformers(shape, weights);
                (shape.into(), weights)
            }
            Shape::ModernBert(_) | Shape::Llama(_) | Shape::Gpt2(_) => (self.clone(), weights),
        }
    }

    /// The shape with what comes with weights and run files don't say, as another of the family has it: the norms'
    /// epsilon above all.
    #[must_use]
    pub fn with_norms_of(&self, other: &Self) -> Self {
        match (self, other) {
            (Shape::Bert(own), Shape::Bert(other)) => BertShape { norm_epsilon: other.norm_epsilon, ..own.clone() }.into(),
            (Shape::ModernBert(own), Shape::ModernBert(other)) => own.with_rest_of(other).into(),
            (Shape::Llama(own), Shape::Llama(other)) => own.with_rest_of(other).into(),
            (Shape::Gpt2(own), Shape::Gpt2(other)) => Gpt2Shape { norm_epsilon: other.norm_epsilon, ..own.clone() }.into(),
            (own, _) => own.clone(),
        }
    }

    /// Refuses a tokenizer that has ids without a row in the word table. A table may have more rows: those stand for
    /// nothing.
    ///
    /// # Errors
    /// One that says how many there are of both.
    pub fn must_hold(&self, tokenizer: &Tokenizer) -> Result<()> {
        let (tokens, rows) = (tokenizer.vocab_size(), self.vocab_size());
        match tokens > rows {
            true => Err(Error::new(format!("the tokenizer has {tokens} tokens, and the model's word table {rows} rows"))
                .help("tokens were added without rows for them: save the model after `resize_token_embeddings`, or take the tokenizer that it was trained with")),
            false => Ok(()),
        }
    }

    /// Refuses rows that have no room for a text, and pairs of texts where the model can't tell the second from the
    /// first.
    ///
    /// # Errors
    /// One that says what the model has.
    pub fn must_read(&self, length: usize, pairs: bool) -> Result<()> {
        if length < 3 {
            return Err(Error::new(format!("rows of {length} tokens have no room for a text between [CLS] and [SEP]"))
                .help("take longer rows, or a model with more positions"));
        }
        match self {
            Shape::Bert(shape) if pairs && shape.token_types == 1 => {
                Err(Error::new("the model knows one type of token (type_vocab_size 1), and pairs of texts have two")
                    .help("take a model with 2 token types, or with none, as DistilBERT"))
            }
            Shape::Bert(_) | Shape::ModernBert(_) | Shape::Llama(_) | Shape::Gpt2(_) => Ok(()),
        }
    }
}

impl Weights {
    /// The model for the first `tokens` of its vocabulary: a table that is padded beyond it loses its spare rows.
    #[must_use]
    pub fn with_vocabulary(mut self, tokens: usize) -> Self {
        for name in
            [&bert::OVER_VOCABULARY[..], &modernbert::OVER_VOCABULARY, &llama::OVER_VOCABULARY, &gpt2::OVER_VOCABULARY].concat()
        {
            if let Some(mut tensor) = self.remove(name)
                && let Some(rows) = tensor.shape.first().copied().filter(|&rows| rows > 0)
            {
                let kept = rows.min(tokens);
                tensor.values.truncate(tensor.values.len() / rows * kept);
                tensor.shape[0] = kept;
                self.insert(name, tensor);
            }
        }
        self
    }
}

/// A student's starting weights from a teacher of the same family: its embeddings, its head, and its layers, spread
/// over the student's depth (Lee et al. 2023, appendix A.3).
///
/// # Errors
/// When the two differ in anything but depth; the message names both sizes.
pub fn remap(teacher: &Weights, from: &Shape, to: &Shape) -> Result<Weights> {
    match (from, to) {
        (Shape::Bert(from), Shape::Bert(to)) => bert::remap(teacher, from, to),
        (Shape::ModernBert(from), Shape::ModernBert(to)) if from.is_causal == to.is_causal => {
            modernbert::remap(teacher, from, to)
        }
        (Shape::Llama(from), Shape::Llama(to)) => llama::remap(teacher, from, to),
        (Shape::Gpt2(from), Shape::Gpt2(to)) => gpt2::remap(teacher, from, to),
        (from, to) => Err(Error::new(format!(
            "remapping copies layers, and the teacher's are a {}'s, the student's a {}'s",
            from.family(),
            to.family()
        ))
        .help(format!("write start = \"fresh\", or [model] family = \"{}\"", from.family()))),
    }
}
