//! A model's logits for plain sentences, for anyone to compare with.

use std::io::{self, Write};

use burn::tensor::Device;
use serde_json::{Map, Value, json};

use crate::device::Compute;
use crate::error::{Error, Result};
use crate::model::{Dropout, Inputs, LanguageModel, Shape};
use crate::tokens::{Special, Tokenizer};

/// Sentences as a model reads them: `[CLS] ids [SEP]`, not padded yet.
#[derive(Debug, Clone, PartialEq)]
pub struct FramedSentences {
    ids: Vec<Vec<i32>>,
    special: Special,
    /// Sentences that were longer than the model reads, and were cut.
    pub cut: usize,
}

impl FramedSentences {
    /// Encodes sentences for a model of this shape; what is longer than it reads is cut.
    ///
    /// # Errors
    /// When a sentence can't be encoded, or the model has no rows for some tokens, or no place for one between `[CLS]`
    /// and `[SEP]`.
    pub fn new(tokenizer: &Tokenizer, sentences: &[String], shape: &Shape) -> Result<Self> {
        shape.must_hold(tokenizer)?;
        let (special, most) = (tokenizer.special(), shape.max_positions());
        let Some(room) = most.checked_sub(2).filter(|&room| room > 0) else {
            return Err(Error::new(format!("the model has {most} positions, and [CLS], a token and [SEP] take 3"))
                .help("take a model that reads longer rows"));
        };
        let (mut ids, mut cut) = (Vec::with_capacity(sentences.len()), 0);
        for text in sentences {
            let mut inner = tokenizer.encode(text)?;
            cut += usize::from(inner.len() > room);
            inner.truncate(room);
            ids.push([special.cls].into_iter().chain(inner).chain([special.sep]).map(|id| id as i32).collect());
        }
        Ok(Self { ids, special, cut })
    }

    /// How many there are, and the tokens of the longest: `n` and `s`.
    pub fn dims(&self) -> [usize; 2] {
        [self.ids.len(), self.longest()]
    }

    fn longest(&self) -> usize {
        self.ids.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Writes a safetensors file of what `model` says of them, `rows` at a time, and holds no more than that: `logits`
    /// `[n, s, v]` f32, 0 at padding, `input_ids` and `attention_mask` `[n, s]` i64.
    ///
    /// # Errors
    /// When `out` can't be written.
    pub fn write_logits(&self, model: &impl LanguageModel, rows: usize, device: &Device, out: &mut impl Write) -> io::Result<()> {
        let ([n, s], v) = (self.dims(), model.shape().vocab_size());
        out.write_all(&header(n, s, v))?;
        let (pad, compute) = (self.special.pad as i32, Compute::of(device));
        let longs = |value: &dyn Fn(&[i32], usize) -> i32, out: &mut dyn Write| {
            self.ids.iter().try_for_each(|ids| (0..s).try_for_each(|at| out.write_all(&i64::from(value(ids, at)).to_le_bytes())))
        };
        longs(&|ids, at| i32::from(at < ids.len()), out)?;
        longs(&|ids, at| ids.get(at).copied().unwrap_or(pad), out)?;
        let positions: Vec<i32> = (0..s as i32).collect();
        for chunk in self.ids.chunks(rows.max(1)) {
            let padded = |value: &dyn Fn(&[i32], usize) -> i32| -> Vec<i32> {
                chunk.iter().flat_map(|ids| (0..s).map(|at| value(ids, at)).collect::<Vec<_>>()).collect()
            };
            let ids = padded(&|ids, at| ids.get(at).copied().unwrap_or(pad));
            let segments = padded(&|ids, at| i32::from(at < ids.len()));
            let inputs = Inputs::new(&ids, &positions.repeat(chunk.len()), &segments, chunk.len(), &compute);
            let logits_nv = model.logits(&inputs, &inputs.everywhere(), &mut Dropout::off());
            let logits: Vec<f32> = logits_nv.into_data().try_to_vec().expect("logits are f32");
            for (logits_v, segment) in logits.chunks(v).zip(segments) {
                let bytes: Vec<u8> = logits_v.iter().flat_map(|x| if segment == 1 { x.to_le_bytes() } else { [0; 4] }).collect();
                out.write_all(&bytes)?;
            }
        }
        out.flush()
    }
}

/// The beginning of the safetensors file: tensors of wider numbers come first, then those of lesser names, as the
/// library writes them.
fn header(n: usize, s: usize, v: usize) -> Vec<u8> {
    let (mut tensors, mut from) = (Map::new(), 0);
    for (name, dtype, width, shape) in
        [("attention_mask", "I64", 8, vec![n, s]), ("input_ids", "I64", 8, vec![n, s]), ("logits", "F32", 4, vec![n, s, v])]
    {
        let to = from + width * shape.iter().product::<usize>();
        tensors.insert(name.to_owned(), json!({ "dtype": dtype, "shape": shape, "data_offsets": [from, to] }));
        from = to;
    }
    let mut text = Value::Object(tensors).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes()[..], &text].concat()
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::{Dtype, TensorView};

    use super::*;

    #[test]
    fn the_file_begins_as_the_library_begins_it() {
        let (n, s, v) = (3, 5, 7);
        let (longs, floats) = (vec![0; n * s * 8], vec![0; n * s * v * 4]);
        let view = |dtype, shape: &[usize], bytes| TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
        let theirs = safetensors::serialize(
            [
                ("logits", view(Dtype::F32, &[n, s, v], &floats)),
                ("input_ids", view(Dtype::I64, &[n, s], &longs)),
                ("attention_mask", view(Dtype::I64, &[n, s], &longs)),
            ],
            None,
        )
        .unwrap();
        let ours = header(n, s, v);
        assert_eq!(theirs[..ours.len()], ours);
        assert_eq!(theirs.len() - ours.len(), 2 * longs.len() + floats.len());
    }
}
