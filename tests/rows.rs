//! `rows = "packed"` and `rows = "sentence"` are the same task: the same losses and gradients, to rounding.

use burn::tensor::Device;
use upstill::batch::{BatchOptions, Batches, Masking, Split};
use upstill::config::Rows;
use upstill::device::Compute;
use upstill::loss::{hard_loss, weighted_mean};
use upstill::model::{BatchTensors, BertShape, Dropout, LanguageModel};

use crate::common::shards;

#[test]
fn packed_rows_give_the_losses_and_gradients_of_sentence_rows() {
    let shards = shards();
    let device = Device::flex();
    let masking = Masking { rate: 0.15, whole_word: false, rarity: 0.0 };
    let of = |layout| {
        let options = |batch| BatchOptions { layout, length: 32, batch, seed: 3, objective: masking.into() };
        // One batch of the whole epoch, so that both see every sentence once.
        let rows = Batches::new(&shards, Split::Train, options(1)).unwrap().rows_per_epoch();
        let batch = Batches::new(&shards, Split::Train, options(rows)).unwrap().at(0);
        let model = BertShape::new(shards.tokenizer().vocab_size(), 16, 2, 2, 32).init(5, 0.2, &device.clone().autodiff());
        let tensors = BatchTensors::new(&batch, &Compute::of(&device));
        let logits_nv = model.logits(&tensors.inputs, &tensors.slots, &mut Dropout::off());
        let loss = weighted_mean(hard_loss(logits_nv, tensors.labels_n, 0.0), tensors.weights_n, batch.asked.count);
        let gradients = loss.clone().backward();
        let words = model.bert.embeddings.word_embeddings.weight.val().grad(&gradients).unwrap();
        let query = model.bert.encoder.layer[0].attention.self_.query.weight.val().grad(&gradients).unwrap();
        (rows, batch.asked.count, batch.tokens, loss.into_scalar::<f32>(), words, query)
    };
    let (packed, sentence) = (of(Rows::Packed), of(Rows::Sentence));
    assert!(packed.0 < sentence.0, "packing saves rows: {} and {}", packed.0, sentence.0);
    assert_eq!((packed.1, packed.2), (sentence.1, sentence.2), "masked and real tokens");
    assert!((packed.3 - sentence.3).abs() < 1e-5 * sentence.3, "losses {} and {}", packed.3, sentence.3);
    for (name, a, b) in [("word table", packed.4, sentence.4), ("query", packed.5, sentence.5)] {
        let (difference, size) = ((a - b.clone()).abs().max().into_scalar::<f32>(), b.abs().max().into_scalar::<f32>());
        // Sums of some thousand f32 terms in another order.
        assert!(size > 1e-4 && difference < 2e-5 * size.max(1.0), "{name}: off by {difference} of {size}");
    }
}
