//! Whether tensors are those that a shape asks for: told from names and shapes alone, before anything of the shape's
//! sizes is made.

use super::names::{DECODER, WORDS, is_buffer};
use crate::config::Gpt2Shape;
use crate::error::{Error, Result};
use crate::model::Weights;
use crate::model::fit::{self, Body, Layers};
use crate::model::weights::Shapes;

/// The beginning of a layer's names.
pub(super) const LAYER: &str = "transformer.h.";

/// What layers are called, and how many tensors one has.
const LAYERS: Layers = Layers { prefix: LAYER, tensors: 12 };

/// Whether a tensor belongs to the language-model head.
pub(in super::super) fn is_head(name: &str) -> bool {
    name.starts_with(DECODER)
}

/// Whether a tensor belongs to the tables or the layers.
pub(in super::super) fn is_body(name: &str) -> bool {
    name.starts_with("transformer.") && !is_buffer(name)
}

/// The tables, the layers and the last norm of a shape. Matrices are `[in, out]`, as OpenAI's code had them.
pub(in super::super) fn body(shape: &Gpt2Shape) -> Shapes {
    let (d, f) = (shape.hidden, shape.intermediate);
    let mut out = Shapes::new();
    let mut norm = |name: String| {
        out.insert(format!("{name}.weight"), vec![d]);
        out.insert(format!("{name}.bias"), vec![d]);
    };
    for layer in 0..shape.layers {
        ["ln_1", "ln_2"].into_iter().for_each(|part| norm(format!("{LAYER}{layer}.{part}")));
    }
    norm("transformer.ln_f".to_owned());
    for layer in 0..shape.layers {
        for (part, from, to) in
            [("attn.c_attn", d, d.saturating_mul(3)), ("attn.c_proj", d, d), ("mlp.c_fc", d, f), ("mlp.c_proj", f, d)]
        {
            out.insert(format!("{LAYER}{layer}.{part}.weight"), vec![from, to]);
            out.insert(format!("{LAYER}{layer}.{part}.bias"), vec![to]);
        }
    }
    out.insert(WORDS.to_owned(), vec![shape.vocab_size, d]);
    out.insert("transformer.wpe.weight".to_owned(), vec![shape.max_positions, d]);
    out
}

/// Refuses tensors that lack some of a shape's tables or layers, have them in other sizes, or hold more of them.
///
/// # Errors
/// One that lists all of it.
pub(in super::super) fn must_have_body(shape: &Gpt2Shape, found: &Shapes) -> Result<()> {
    let own = Body { family: "a GPT-2", words: WORDS, layers: LAYERS, has: is_body };
    fit::must_have_body(&own, &shape.clone().into(), &body(shape), found)
}

/// Refuses weights with a decoder beside the word table.
///
/// # Errors
/// One that names it.
pub(in super::super) fn must_predict(weights: &Weights) -> Result<()> {
    let decoder = format!("{DECODER}weight");
    match weights.get(&decoder) {
        None => Ok(()),
        Some(_) => {
            Err(Error::new(format!("{decoder} differs from {WORDS}, and upstill's GPT-2 has the word table as its decoder"))
                .help("take a model whose decoder is tied (tie_word_embeddings), as all that were published are"))
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::config::Sizes;
    use crate::model::HostTensor;

    #[test]
    fn what_a_shape_asks_for_is_what_its_model_has() {
        for shape in [Gpt2Shape::new(11, 8, 3, 2, 6), Gpt2Shape { intermediate: 5, ..Gpt2Shape::new(7, 4, 1, 1, 3) }] {
            let weights = Weights::of(&shape.init(1, 0.02, &Device::flex()));
            assert_eq!(body(&shape), weights.shapes());
            must_have_body(&shape, &weights.shapes()).unwrap();
            must_predict(&weights).unwrap();
            let elements: usize = body(&shape).values().map(|shape| shape.iter().product::<usize>()).sum();
            assert_eq!(elements as u64, shape.parameters().total);
            let mut own = weights.clone();
            own.insert("lm_head.weight", HostTensor { shape: vec![1], values: vec![0.0] });
            assert!(must_predict(&own).unwrap_err().to_string().contains("differs from transformer.wte.weight"));
        }
    }

    #[test]
    fn what_is_missing_wrong_and_left_over_is_listed() {
        let shape = Gpt2Shape::new(11, 8, 2, 2, 6);
        let mut found = body(&Gpt2Shape { layers: 3, ..shape.clone() });
        found.retain(|name, _| !name.contains("h.1."));
        found.insert("transformer.h.0.attn.bias".to_owned(), vec![1, 1, 6, 6]);
        found.insert("transformer.wpe.weight".to_owned(), vec![9, 8]);
        insta::assert_snapshot!(must_have_body(&shape, &found).unwrap_err(), @"
        the weights are not those of the body of the model (2 layers, width 8, vocabulary 11 by its config.json):
          missing: transformer.h.1 (all its 12 tensors)
          transformer.wpe.weight: found [9, 8], wanted [6, 8]
          left over: transformer.h.2 (all its 12 tensors)
        help: config.json and the weights must belong together and be whole: fetch or save both again
        ");
    }
}
