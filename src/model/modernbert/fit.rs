//! Whether tensors are those that a shape asks for: told from names and shapes alone, before anything of the shape's
//! sizes is made.

use super::names::{self, BIAS, DECODER, WORDS};
use crate::config::{ModernBertShape, ObjectiveKind};
use crate::error::Result;
use crate::model::Weights;
use crate::model::fit::{self, Body, Layers, faults, must_be_tied, refuse};
use crate::model::weights::Shapes;

/// The beginning of a layer's names.
pub(super) const LAYER: &str = "model.layers.";

/// What layers are called, and how many tensors one has; the first has one less.
pub(in super::super) fn layers(shape: &ModernBertShape) -> Layers {
    Layers { prefix: LAYER, tensors: if shape.is_causal { 8 } else { 6 } }
}

/// Whether a tensor belongs to the language-model head.
pub(in super::super) fn is_head(shape: &ModernBertShape, name: &str) -> bool {
    name.starts_with(names::head(shape.is_causal)) || name.starts_with(DECODER)
}

/// Whether a tensor belongs to the embeddings or the layers.
pub(in super::super) fn is_body(name: &str) -> bool {
    name.starts_with("model.")
}

/// The embeddings and the layers of a shape.
pub(in super::super) fn body(shape: &ModernBertShape) -> Shapes {
    let (d, f) = (shape.hidden, shape.intermediate);
    let mut out = Shapes::new();
    let mut tensor = |name: String, shape: Vec<usize>| drop(out.insert(name, shape));
    tensor(WORDS.to_owned(), vec![shape.vocab_size, d]);
    tensor("model.embeddings.norm.weight".to_owned(), vec![d]);
    for layer in 0..shape.layers {
        let name = |part: &str| format!("{LAYER}{layer}.{part}.weight");
        if layer > 0 {
            tensor(name("attn_norm"), vec![d]);
        }
        match shape.is_causal {
            true => ["attn.q_proj", "attn.k_proj", "attn.v_proj"].iter().for_each(|part| tensor(name(part), vec![d, d])),
            false => tensor(name("attn.Wqkv"), vec![3 * d, d]),
        }
        tensor(name("attn.Wo"), vec![d, d]);
        tensor(name("mlp_norm"), vec![d]);
        tensor(name("mlp.Wi"), vec![2 * f, d]);
        tensor(name("mlp.Wo"), vec![d, f]);
    }
    tensor("model.final_norm.weight".to_owned(), vec![d]);
    out
}

/// The language-model head of a shape.
pub(in super::super) fn head(shape: &ModernBertShape) -> Shapes {
    let (d, name) = (shape.hidden, |part: &str| format!("{}{part}.weight", names::head(shape.is_causal)));
    let mut out = Shapes::from([(name("dense"), vec![d, d]), (name("norm"), vec![d])]);
    if shape.decoder_bias {
        out.insert(BIAS.to_owned(), vec![shape.vocab_size]);
    }
    out
}

/// Refuses tensors that lack some of a shape's embeddings or layers, have them in other sizes, or hold more of them.
///
/// # Errors
/// One that lists all of it.
pub(in super::super) fn must_have_body(shape: &ModernBertShape, found: &Shapes) -> Result<()> {
    let family = if shape.is_causal { "a ModernBERT decoder" } else { "a ModernBERT" };
    let own = Body { family, words: WORDS, layers: layers(shape), has: is_body };
    fit::must_have_body(&own, &shape.clone().into(), &body(shape), found)
}

/// Refuses weights that do not predict words: without a whole head that is tied to the word table.
///
/// # Errors
/// One that says what keeps the model from it.
pub(in super::super) fn must_predict(
    shape: &ModernBertShape,
    weights: &Weights,
    is_tied: bool,
    has_own_decoder: impl FnOnce() -> Result<bool>,
) -> Result<()> {
    let decoder = format!("{DECODER}weight");
    let is_head = |name: &str| is_head(shape, name);
    let has_head = weights.iter().any(|(name, _)| is_head(name));
    let own = weights.get(&decoder).map(|_| (decoder.as_str(), WORDS));
    let (kind, what) = match shape.is_causal {
        true => (ObjectiveKind::Causal, "the language-model head"),
        false => (ObjectiveKind::Masked, "the masked-language-model head"),
    };
    must_be_tied(kind, has_head, own, is_tied, &decoder, has_own_decoder)?;
    refuse(what, &shape.clone().into(), &faults(&head(shape), &weights.shapes(), layers(shape), is_head))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn of(shape: &ModernBertShape) -> Shapes {
        match shape.is_causal {
            true => Weights::of(&shape.init_decoder(1, 0.02, &Device::flex())).shapes(),
            false => Weights::of(&shape.init(1, 0.02, &Device::flex())).shapes(),
        }
    }

    #[test]
    fn what_a_shape_asks_for_is_what_its_model_has() {
        for shape in [
            ModernBertShape::new(11, 8, 3, 2, 6),
            ModernBertShape { intermediate: 5, decoder_bias: false, ..ModernBertShape::new(7, 4, 0, 1, 3) },
            ModernBertShape::new(9, 12, 12, 3, 5),
            ModernBertShape { is_causal: true, ..ModernBertShape::new(11, 8, 3, 2, 6) },
        ] {
            let asked: Shapes = body(&shape).into_iter().chain(head(&shape)).collect();
            assert_eq!(asked, of(&shape));
            must_have_body(&shape, &asked).unwrap();
        }
    }

    #[test]
    fn what_is_missing_wrong_and_left_over_is_listed() {
        let shape = ModernBertShape::new(11, 8, 2, 2, 6);
        let mut found = of(&ModernBertShape { layers: 3, ..shape.clone() });
        found.retain(|name, _| !name.contains("layers.1."));
        found.remove(WORDS);
        found.insert("model.final_norm.weight".to_owned(), vec![9]);
        insta::assert_snapshot!(must_have_body(&shape, &found).unwrap_err(), @"
        the weights are not those of the body of the model (2 layers, width 8, vocabulary 11 by its config.json):
          missing: model.embeddings.tok_embeddings.weight
          missing: model.layers.1 (all its 6 tensors)
          model.final_norm.weight: found [9], wanted [8]
          left over: model.layers.2 (all its 6 tensors)
        help: config.json and the weights must belong together and be whole: fetch or save both again
        ");
        let decoder = ModernBertShape { is_causal: true, ..shape.clone() };
        insta::assert_snapshot!(must_have_body(&decoder, &of(&shape)).unwrap_err(), @"
        the weights are not those of the body of the model (2 layers, width 8, vocabulary 11 by its config.json):
          missing: model.layers.0.attn.k_proj.weight
          missing: model.layers.0.attn.q_proj.weight
          missing: model.layers.0.attn.v_proj.weight
          missing: model.layers.1.attn.k_proj.weight
          missing: model.layers.1.attn.q_proj.weight
          missing: model.layers.1.attn.v_proj.weight
          left over: model.layers.0.attn.Wqkv.weight
          left over: model.layers.1.attn.Wqkv.weight
        help: config.json and the weights must belong together and be whole: fetch or save both again
        ");
        let foreign = Shapes::from([("roberta.embeddings.word_embeddings.weight".to_owned(), vec![11, 8])]);
        insta::assert_snapshot!(must_have_body(&shape, &foreign).unwrap_err(), @"
        none of the body's 14 tensors is there; what is: roberta.embeddings.word_embeddings.weight
        help: the names must be those of a ModernBERT as `transformers` saves them: model.embeddings.tok_embeddings.weight
        ");
    }
}
