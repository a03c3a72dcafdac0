//! Whether tensors are those that a shape asks for: told from names and shapes alone, before anything of the shape's
//! sizes is made.

use super::names::DECODER;
use crate::config::{BertShape, ObjectiveKind};
use crate::error::Result;
use crate::model::Weights;
use crate::model::fit::{self, Body, Layers, faults, linear, must_be_tied, refuse};
use crate::model::weights::Shapes;

/// Whether a tensor belongs to the masked-language-model head.
pub(in super::super) fn is_head(name: &str) -> bool {
    name.starts_with("cls.predictions.")
}

/// Whether a tensor belongs to the embeddings or the encoder; the pooler is a head.
pub(in super::super) fn is_body(name: &str) -> bool {
    name.starts_with("bert.") && !is_pooler(name)
}

fn is_pooler(name: &str) -> bool {
    name.starts_with("bert.pooler.")
}

fn norm(out: &mut Shapes, name: &str, width: usize) {
    out.insert(format!("{name}.weight"), vec![width]);
    out.insert(format!("{name}.bias"), vec![width]);
}

/// The embeddings and the encoder of a shape.
pub(in super::super) fn body(shape: &BertShape) -> Shapes {
    let (d, f) = (shape.hidden, shape.intermediate);
    let mut out = Shapes::new();
    let mut table = |name: &str, rows: usize| out.insert(format!("bert.embeddings.{name}.weight"), vec![rows, d]);
    table("word_embeddings", shape.vocab_size);
    table("position_embeddings", shape.max_positions);
    if shape.token_types > 0 {
        table("token_type_embeddings", shape.token_types);
    }
    norm(&mut out, "bert.embeddings.LayerNorm", d);
    for layer in 0..shape.layers {
        let name = |part: &str| format!("{LAYER}{layer}.{part}");
        for part in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"] {
            linear(&mut out, &name(part), d, d);
        }
        norm(&mut out, &name("attention.output.LayerNorm"), d);
        linear(&mut out, &name("intermediate.dense"), d, f);
        linear(&mut out, &name("output.dense"), f, d);
        norm(&mut out, &name("output.LayerNorm"), d);
    }
    out
}

/// The masked-language-model head of a shape.
pub(in super::super) fn head(shape: &BertShape) -> Shapes {
    let mut out = Shapes::from([("cls.predictions.bias".to_owned(), vec![shape.vocab_size])]);
    linear(&mut out, "cls.predictions.transform.dense", shape.hidden, shape.hidden);
    norm(&mut out, "cls.predictions.transform.LayerNorm", shape.hidden);
    out
}

/// Refuses tensors that lack some of a shape's embeddings or encoder, have them in other sizes, or hold more of them; a
/// pooler may be missing, but not a part of it.
///
/// # Errors
/// One that lists all of it.
pub(in super::super) fn must_have_body(shape: &BertShape, found: &Shapes) -> Result<()> {
    let mut wanted = body(shape);
    if found.keys().any(|name| is_pooler(name)) {
        linear(&mut wanted, "bert.pooler.dense", shape.hidden, shape.hidden);
    }
    fit::must_have_body(&BODY, &shape.clone().into(), &wanted, found)
}

const BODY: Body = Body {
    family: "a BERT or a DistilBERT",
    words: "bert.embeddings.word_embeddings.weight",
    layers: LAYERS,
    has: |name| name.starts_with("bert."),
};

/// Refuses tensors that lack some of a shape's masked-language-model head, or have it in other sizes.
///
/// # Errors
/// One that lists all of it.
fn must_have_head(shape: &BertShape, found: &Shapes) -> Result<()> {
    refuse("the masked-language-model head", &shape.clone().into(), &faults(&head(shape), found, LAYERS, is_head))
}

/// Refuses weights that do not predict words: without a whole head that is tied to the word table.
///
/// # Errors
/// One that says what keeps the model from it.
pub(in super::super) fn must_predict(
    shape: &BertShape,
    weights: &Weights,
    is_tied: bool,
    has_own_decoder: impl FnOnce() -> Result<bool>,
) -> Result<()> {
    let names = || weights.iter().map(|(name, _)| name);
    let own = names().find(|name| name.starts_with(DECODER));
    let tied = |own: &str| if own.ends_with("bias") { "cls.predictions.bias" } else { "bert.embeddings.word_embeddings.weight" };
    let decoder = format!("{DECODER}weight");
    must_be_tied(
        ObjectiveKind::Masked,
        names().any(is_head),
        own.map(|own| (own, tied(own))),
        is_tied,
        &decoder,
        has_own_decoder,
    )?;
    must_have_head(shape, &weights.shapes())
}

/// The beginning of a layer's names.
pub(super) const LAYER: &str = "bert.encoder.layer.";

/// What layers are called, and how many tensors one has.
pub(in super::super) const LAYERS: Layers = Layers { prefix: LAYER, tensors: 16 };

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::model::Weights;

    fn of(shape: &BertShape) -> Shapes {
        Weights::of(&shape.init(1, 0.02, &Device::flex())).shapes()
    }

    #[test]
    fn what_a_shape_asks_for_is_what_its_model_has() {
        for shape in [
            BertShape::new(11, 8, 3, 2, 6),
            BertShape { token_types: 0, intermediate: 5, ..BertShape::new(7, 4, 0, 1, 3) },
            BertShape { token_types: 1, ..BertShape::new(9, 6, 12, 3, 5) },
        ] {
            let asked: Shapes = body(&shape).into_iter().chain(head(&shape)).collect();
            assert_eq!(asked, of(&shape));
            must_have_body(&shape, &asked).unwrap();
            must_have_head(&shape, &asked).unwrap();
        }
    }

    #[test]
    fn what_is_missing_wrong_and_left_over_is_listed() {
        let shape = BertShape::new(11, 8, 2, 2, 6);
        let mut found = of(&BertShape { layers: 3, ..shape.clone() });
        found.retain(|name, _| !name.contains("layer.1."));
        found.remove("bert.embeddings.word_embeddings.weight");
        found.insert("bert.embeddings.LayerNorm.bias".to_owned(), vec![9]);
        found.insert("bert.pooler.dense.weight".to_owned(), vec![8, 8]);
        insta::assert_snapshot!(must_have_body(&shape, &found).unwrap_err(), @"
        the weights are not those of the body of the model (2 layers, width 8, vocabulary 11 by its config.json):
          missing: bert.embeddings.word_embeddings.weight
          missing: bert.encoder.layer.1 (all its 16 tensors)
          missing: bert.pooler.dense.bias
          bert.embeddings.LayerNorm.bias: found [9], wanted [8]
          left over: bert.encoder.layer.2 (all its 16 tensors)
        help: config.json and the weights must belong together and be whole: fetch or save both again
        ");
        let foreign = Shapes::from([("roberta.embeddings.word_embeddings.weight".to_owned(), vec![11, 8])]);
        insta::assert_snapshot!(must_have_body(&shape, &foreign).unwrap_err(), @"
        none of the body's 37 tensors is there; what is: roberta.embeddings.word_embeddings.weight
        help: the names must be those of a BERT or a DistilBERT as `transformers` saves them: bert.embeddings.word_embeddings.weight
        ");
    }
}
