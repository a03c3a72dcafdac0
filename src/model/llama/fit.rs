//! Whether tensors are those that a shape asks for: told from names and shapes alone, before anything of the shape's
//! sizes is made.

use super::names::{DECODER, WORDS};
use crate::config::LlamaShape;
use crate::error::{Error, Result};
use crate::model::Weights;
use crate::model::fit::{self, Body, Layers, faults, refuse};
use crate::model::weights::Shapes;

/// The beginning of a layer's names.
pub(super) const LAYER: &str = "model.layers.";

/// The end of the names under which old files keep the rotary angles' frequencies, which the sizes say.
const FREQUENCIES: &str = "rotary_emb.inv_freq";

/// What layers are called, and how many tensors one has.
fn layers(shape: &LlamaShape) -> Layers {
    let norms = if shape.qk_norm { 2 } else { 0 };
    let biases = if shape.attention_bias { 4 } else { 0 } + if shape.mlp_bias { 3 } else { 0 };
    Layers { prefix: LAYER, tensors: 9 + norms + biases }
}

/// Whether a tensor belongs to the language-model head.
pub(in super::super) fn is_head(name: &str) -> bool {
    name.starts_with(DECODER)
}

/// Whether a tensor belongs to the embeddings or the layers.
pub(in super::super) fn is_body(name: &str) -> bool {
    name.starts_with("model.") && !name.ends_with(FREQUENCIES)
}

/// The embeddings and the layers of a shape.
pub(in super::super) fn body(shape: &LlamaShape) -> Shapes {
    let (d, f, [queries, keys]) = (shape.hidden, shape.intermediate, shape.widths());
    let mut out = Shapes::new();
    let mut linear = |name: String, from: usize, to: usize, is_biased: bool| {
        if is_biased {
            out.insert(format!("{name}.bias"), vec![to]);
        }
        out.insert(format!("{name}.weight"), vec![to, from]);
    };
    for layer in 0..shape.layers {
        let attention = |part: &str| format!("{LAYER}{layer}.self_attn.{part}");
        for (part, from, to) in [("q_proj", d, queries), ("k_proj", d, keys), ("v_proj", d, keys), ("o_proj", queries, d)] {
            linear(attention(part), from, to, shape.attention_bias);
        }
        for (part, from, to) in [("gate_proj", d, f), ("up_proj", d, f), ("down_proj", f, d)] {
            linear(format!("{LAYER}{layer}.mlp.{part}"), from, to, shape.mlp_bias);
        }
    }
    for layer in 0..shape.layers {
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            out.insert(format!("{LAYER}{layer}.{norm}.weight"), vec![d]);
        }
        for norm in ["q_norm", "k_norm"].into_iter().filter(|_| shape.qk_norm) {
            out.insert(format!("{LAYER}{layer}.self_attn.{norm}.weight"), vec![shape.head_dim]);
        }
    }
    out.insert(WORDS.to_owned(), vec![shape.vocab_size, d]);
    out.insert("model.norm.weight".to_owned(), vec![d]);
    out
}

/// The language-model head of a shape: nothing where it is the word table.
pub(in super::super) fn head(shape: &LlamaShape) -> Shapes {
    let decoder = (format!("{DECODER}weight"), vec![shape.vocab_size, shape.hidden]);
    if shape.tied { Shapes::new() } else { Shapes::from([decoder]) }
}

/// Refuses tensors that lack some of a shape's embeddings or layers, have them in other sizes, or hold more of them.
///
/// # Errors
/// One that lists all of it.
pub(in super::super) fn must_have_body(shape: &LlamaShape, found: &Shapes) -> Result<()> {
    let own = Body { family: "a Llama", words: WORDS, layers: layers(shape), has: is_body };
    fit::must_have_body(&own, &shape.clone().into(), &body(shape), found)
}

/// Refuses weights that do not predict words: without the decoder that the shape asks for, or with one beside the word
/// table that it says is the decoder.
///
/// # Errors
/// One that says what keeps the model from it.
pub(in super::super) fn must_predict(shape: &LlamaShape, weights: &Weights) -> Result<()> {
    let decoder = format!("{DECODER}weight");
    match (shape.tied, weights.get(&decoder)) {
        (true, Some(_)) => Err(Error::new(format!(
            "config.json says that the decoder is the word table (tie_word_embeddings is true), and {decoder} differs from {WORDS}"
        ))
        .help("write tie_word_embeddings = false if the decoder is the model's own; else save the model again")),
        (false, None) => Err(Error::new(format!(
            "the model has no language-model head, so it predicts no words: tie_word_embeddings is false, and {decoder} is missing"
        ))
        .help("save the model again with its head; or, if the decoder is the word table, write tie_word_embeddings = true")),
        _ => {
            let faults = faults(&head(shape), &weights.shapes(), layers(shape), is_head);
            refuse("the language-model head", &shape.clone().into(), &faults)
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn of(shape: &LlamaShape) -> Shapes {
        Weights::of(&shape.init(1, 0.02, &Device::flex())).shapes()
    }

    #[test]
    fn what_a_shape_asks_for_is_what_its_model_has() {
        for shape in [
            LlamaShape::new(11, 8, 3, 2, 6),
            LlamaShape { intermediate: 5, tied: false, attention_bias: true, ..LlamaShape::new(7, 4, 0, 1, 3) },
            LlamaShape { kv_heads: 1, head_dim: 6, qk_norm: true, tied: false, ..LlamaShape::new(9, 12, 2, 3, 5) },
            LlamaShape { attention_bias: true, mlp_bias: true, no_rope_every: 2, ..LlamaShape::new(9, 12, 4, 3, 5) },
        ] {
            let asked: Shapes = body(&shape).into_iter().chain(head(&shape)).collect();
            assert_eq!(asked, of(&shape));
            must_have_body(&shape, &asked).unwrap();
            let elements: usize = asked.values().map(|shape| shape.iter().product::<usize>()).sum();
            assert_eq!(elements as u64, crate::config::Sizes::parameters(&shape).total);
        }
    }

    #[test]
    fn what_is_missing_wrong_and_left_over_is_listed() {
        let shape = LlamaShape::new(11, 8, 2, 2, 6);
        let mut found = of(&LlamaShape { layers: 3, ..shape.clone() });
        found.retain(|name, _| !name.contains("layers.1."));
        found.remove(WORDS);
        found.insert("model.norm.weight".to_owned(), vec![9]);
        found.insert("model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(), vec![2]);
        insta::assert_snapshot!(must_have_body(&shape, &found).unwrap_err(), @"
        the weights are not those of the body of the model (2 layers, width 8, vocabulary 11 by its config.json):
          missing: model.embed_tokens.weight
          missing: model.layers.1 (all its 9 tensors)
          model.norm.weight: found [9], wanted [8]
          left over: model.layers.2 (all its 9 tensors)
        help: config.json and the weights must belong together and be whole: fetch or save both again
        ");
    }

    #[test]
    fn a_decoder_is_there_where_it_is_not_the_word_table_and_only_there() {
        let device = Device::flex();
        let tied = LlamaShape::new(11, 8, 1, 2, 6);
        let untied = LlamaShape { tied: false, ..tied.clone() };
        let [with_table, with_decoder] = [&tied, &untied].map(|shape| Weights::of(&shape.init(1, 0.02, &device)));
        must_predict(&tied, &with_table).unwrap();
        must_predict(&untied, &with_decoder).unwrap();
        let refused = |shape, weights| must_predict(shape, weights).unwrap_err().to_string();
        assert!(refused(&untied, &with_table).contains("lm_head.weight is missing"));
        assert!(refused(&tied, &with_decoder).contains("differs from model.embed_tokens.weight"));
    }
}
