//! A model's logits for plain sentences, for anyone to compare with.

use burn::tensor::Device;
use safetensors::tensor::{Dtype, TensorView};

use crate::error::Result;
use crate::model::{BertForMaskedLm, Dropout, Inputs};
use crate::tokens::Tokenizer;

/// The logits of `n` sentences as `[CLS] ids [SEP]`, padded to the longest: `s` positions, vocabulary `v`.
#[derive(Debug, Clone, PartialEq)]
pub struct SentenceLogits {
    /// Sentences, positions, vocabulary: `n`, `s`, `v`.
    pub dims: [usize; 3],
    /// Padded with `[PAD]`.
    pub input_ids_ns: Vec<i64>,
    /// 1 for a token, 0 for padding.
    pub attention_mask_ns: Vec<i64>,
    /// 0 at padding.
    pub logits_nsv: Vec<f32>,
    /// Sentences that were longer than the model reads, and were cut.
    pub cut: usize,
}

/// Runs `model` on each of `sentences`, `rows` at a time; what is longer than the model reads is cut.
///
/// # Errors
/// When a sentence can't be encoded.
pub fn sentence_logits(
    model: &BertForMaskedLm,
    tokenizer: &Tokenizer,
    sentences: &[String],
    rows: usize,
    device: &Device,
) -> Result<SentenceLogits> {
    let (special, most) = (tokenizer.special(), model.shape().max_positions);
    let encoded = sentences.iter().map(|text| tokenizer.encode(text)).collect::<Result<Vec<_>>>()?;
    let cut = encoded.iter().filter(|ids| ids.len() + 2 > most).count();
    let framed: Vec<Vec<i32>> = encoded
        .into_iter()
        .map(|ids| {
            [special.cls].into_iter().chain(ids.into_iter().take(most - 2)).chain([special.sep]).map(|id| id as i32).collect()
        })
        .collect();
    let (n, s, v) = (framed.len(), framed.iter().map(Vec::len).max().unwrap_or(0), model.shape().vocab_size);
    let mut out = SentenceLogits {
        dims: [n, s, v],
        input_ids_ns: Vec::with_capacity(n * s),
        attention_mask_ns: Vec::with_capacity(n * s),
        logits_nsv: vec![0.0; n * s * v],
        cut,
    };
    let positions: Vec<i32> = (0..s as i32).collect();
    for (chunk, block_nsv) in framed.chunks(rows.max(1)).zip(out.logits_nsv.chunks_mut(rows.max(1) * s * v)) {
        let padded = |fill: &dyn Fn(&[i32], usize) -> i32| -> Vec<i32> {
            chunk.iter().flat_map(|ids| (0..s).map(|at| fill(ids, at)).collect::<Vec<_>>()).collect()
        };
        let ids = padded(&|ids, at| ids.get(at).copied().unwrap_or(special.pad as i32));
        let segments = padded(&|ids, at| i32::from(at < ids.len()));
        let inputs = Inputs::new(&ids, &positions.repeat(chunk.len()), &segments, chunk.len(), device);
        let logits: Vec<f32> =
            model.logits(&inputs, &inputs.everywhere(), &mut Dropout::off()).into_data().try_to_vec().expect("logits are f32");
        for (at, (row, into)) in logits.chunks(v).zip(block_nsv.chunks_mut(v)).enumerate() {
            if segments[at] == 1 {
                into.copy_from_slice(row);
            }
        }
        out.input_ids_ns.extend(ids.into_iter().map(i64::from));
        out.attention_mask_ns.extend(segments.into_iter().map(i64::from));
    }
    Ok(out)
}

impl SentenceLogits {
    /// A safetensors file of `logits` `[n, s, v]` f32, `input_ids` and `attention_mask` `[n, s]` i64.
    pub fn to_bytes(&self) -> Vec<u8> {
        let [n, s, v] = self.dims;
        let longs = |values: &[i64]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let (ids, mask) = (longs(&self.input_ids_ns), longs(&self.attention_mask_ns));
        let logits: Vec<u8> = self.logits_nsv.iter().flat_map(|x| x.to_le_bytes()).collect();
        let parts = [
            ("logits", Dtype::F32, vec![n, s, v], &logits),
            ("input_ids", Dtype::I64, vec![n, s], &ids),
            ("attention_mask", Dtype::I64, vec![n, s], &mask),
        ];
        let views =
            parts.map(|(name, dtype, shape, bytes)| (name, TensorView::new(dtype, shape, bytes).expect("bytes of the shape")));
        safetensors::serialize(views, None).expect("three named tensors in memory are valid")
    }
}
