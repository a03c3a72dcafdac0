//! A model's weights on the host, by Hugging Face's names and in PyTorch's layout; safetensors files of them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::pin::Pin;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::device::wait;
use crate::error::{Error, IoContext, Result};
use crate::files::write_whole;

/// Names of tensors, and their shapes.
pub(super) type Shapes = BTreeMap<String, Vec<usize>>;

/// Where a file's header has the hash of the file.
const SEAL: &str = "blake3";

/// One tensor on the host: its shape and its values, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// Lengths of the axes.
    pub shape: Vec<usize>,
    /// Values, last axis fastest.
    pub values: Vec<f32>,
}

/// Named tensors in name order: `bert.encoder.layer.0.attention.self.query.weight` and so on, linear weights as
/// `[out, in]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weights(BTreeMap<String, HostTensor>);

impl Weights {
    /// Reads a model's weights back to the host.
    pub fn of<M: Module>(model: &M) -> Self {
        wait(Self::read_back(model))
    }

    /// Copies a model's weights to the host; awaits the device, so that a browser's thread is not blocked.
    pub async fn read_back<M: Module>(model: &M) -> Self {
        let mut reader = Reader::default();
        model.visit(&mut reader);
        reader.reading.finish().await
    }

    /// Puts these weights into a model of the same shape.
    ///
    /// # Errors
    /// When a tensor is missing, left over or of another shape; all of them are listed.
    pub fn load_into<M: Module>(&self, model: M) -> Result<M> {
        let mut writer = Writer { path: ModulePath::default(), from: &self.0, used: 0, problems: Vec::new() };
        let model = model.map(&mut writer);
        if writer.used < self.0.len() && writer.problems.is_empty() {
            let mut known = Reader::default();
            model.visit(&mut known);
            let left_over = self.0.keys().filter(|name| !known.reading.has(name));
            writer.problems.extend(left_over.map(|name| format!("left over: {name}")));
        }
        if writer.problems.is_empty() {
            return Ok(model);
        }
        Err(Error::new(format!("the weights do not fit the model:\n  {}", writer.problems.join("\n  ")))
            .help("the model's config.json and model.safetensors must belong together"))
    }

    /// A tensor by name.
    pub fn get(&self, name: &str) -> Option<&HostTensor> {
        self.0.get(name)
    }

    /// Adds or replaces a tensor.
    pub fn insert(&mut self, name: &str, tensor: HostTensor) {
        self.0.insert(name.to_owned(), tensor);
    }

    /// Takes a tensor out.
    pub(super) fn remove(&mut self, name: &str) -> Option<HostTensor> {
        self.0.remove(name)
    }

    /// Names and shapes.
    pub(super) fn shapes(&self) -> Shapes {
        self.0.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect()
    }

    /// Refuses values that are no numbers or infinite, in the tensors whose names are looked at.
    ///
    /// # Errors
    /// One that names the first such tensor, how many of its values they are, and how many tensors have any.
    pub fn must_be_finite(&self, looked_at: impl Fn(&str) -> bool) -> Result<()> {
        let bad = |tensor: &HostTensor| tensor.values.iter().filter(|value| !value.is_finite()).count();
        let mut found = self.iter().filter(|(name, _)| looked_at(name)).filter(|(_, tensor)| bad(tensor) > 0);
        let Some((name, tensor)) = found.next() else { return Ok(()) };
        let (count, all) = (bad(tensor), tensor.values.len());
        let others = match found.count() {
            0 => String::new(),
            others => format!("; {others} more tensors have such values too"),
        };
        Err(Error::new(format!("the weights are not finite: {count} of the {all} values of {name} are NaN or infinite{others}"))
            .help(
                "the training that made it went wrong (or float64 values were too large for float32): take an earlier checkpoint",
            ))
    }

    /// Names and tensors, in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &HostTensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Names and tensors, in name order, given away.
    pub(super) fn into_iter(self) -> impl Iterator<Item = (String, HostTensor)> {
        self.0.into_iter()
    }

    /// The tensors whose names are wanted.
    pub(super) fn only(self, wanted: impl Fn(&str) -> bool) -> Self {
        Self(self.0.into_iter().filter(|(name, _)| wanted(name)).collect())
    }

    /// The safetensors file: the same weights give the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.bytes(&[])
    }

    /// With more entries of the file's header.
    fn bytes(&self, more: &[(&str, String)]) -> Vec<u8> {
        let bytes: Vec<(&str, &[usize], Vec<u8>)> = self
            .iter()
            .map(|(name, t)| (name, t.shape.as_slice(), t.values.iter().flat_map(|x| x.to_le_bytes()).collect()))
            .collect();
        let views = bytes.iter().map(|(name, shape, data)| {
            (*name, TensorView::new(Dtype::F32, shape.to_vec(), data).expect("four bytes a value of the shape"))
        });
        let format = [("format".to_owned(), "pt".to_owned())];
        let header = format.into_iter().chain(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone()))).collect();
        safetensors::serialize(views, Some(header)).expect("names and shapes of a model in memory are valid")
    }

    /// Writes a safetensors file, whole or not at all.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_whole(path, |out| out.write_all(&self.to_bytes()))
    }

    /// Reads a safetensors file; f16 and bf16 are widened, f64 is rounded.
    ///
    /// # Errors
    /// When the file is missing, cut short, not safetensors, or holds something other than floating-point numbers.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).doing("read", path)?;
        Self::from_bytes(&bytes).map_err(|error| error.at(path.display()))
    }

    /// Reads the bytes of a safetensors file.
    ///
    /// # Errors
    /// As [`Weights::read`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let all = Self::floats_in(bytes)?;
        let file = SafeTensors::deserialize(bytes).map_err(not_safetensors)?;
        match file.iter().find(|(name, _)| all.get(name).is_none() && !is_buffer(name)) {
            Some((name, view)) => Err(not_floats(name, &format!("{:?}", view.dtype()))),
            None => Ok(all),
        }
    }

    /// The floating-point tensors in the bytes of a safetensors file; others are passed over.
    ///
    /// # Errors
    /// When the bytes are cut short or not safetensors.
    pub(super) fn floats_in(bytes: &[u8]) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes).map_err(not_safetensors)?;
        let tensor = |(name, view): (&str, TensorView)| {
            let values = floats(view.dtype(), view.data()).filter(|_| !is_buffer(name))?;
            Some((name.to_owned(), HostTensor { shape: view.shape().to_vec(), values }))
        };
        Ok(Self(file.iter().filter_map(tensor).collect()))
    }

    /// The safetensors file with a hash of all of it and of `place`, by which [`Weights::of_sealed`] knows it again.
    pub fn sealed(&self, place: &str) -> Vec<u8> {
        self.bytes(&[(SEAL, self.seal(place))])
    }

    /// Weights from what [`Weights::sealed`] gave for the same place; none when they are not that to the bit.
    pub fn of_sealed(bytes: &[u8], place: &str) -> Option<Self> {
        let weights = Self::from_bytes(bytes).ok()?;
        let (_, header) = SafeTensors::read_metadata(bytes).ok()?;
        (header.metadata().as_ref()?.get(SEAL)? == &weights.seal(place)).then_some(weights)
    }

    fn seal(&self, place: &str) -> String {
        blake3::Hasher::new().update(place.as_bytes()).update(b"\n").update(&self.to_bytes()).finalize().to_hex().to_string()
    }

    /// blake3 of names, shapes and values, in hexadecimal.
    pub fn hash(&self) -> String {
        blake3::hash(&self.to_bytes()).to_hex().to_string()
    }
}

/// The error for bytes that are no safetensors file.
pub(super) fn not_safetensors(error: impl std::fmt::Display) -> Error {
    Error::new(format!("not a whole safetensors file: {error}")).help("it may have been cut short: copy or make it again")
}

/// The error for a weight that holds something else.
pub(super) fn not_floats(name: &str, held: &str) -> Error {
    Error::new(format!("tensor {name} holds {held}, and weights are floating-point numbers"))
        .help("take the model before it was quantised, or save it in float32")
}

/// Whether a name is no weight: files keep `0, 1, 2, ...` or zeros under it.
pub(super) fn is_buffer(name: &str) -> bool {
    ["embeddings.position_ids", "embeddings.token_type_ids"].iter().any(|buffer| name.ends_with(buffer))
}

/// Numbers of a file, whose lowest byte comes first, as f32; `None` of a dtype that no weight has. Bytes are read and
/// written by the standard library, with their order: a cast of the whole (`bytemuck`) has the machine's.
pub(super) fn floats(dtype: Dtype, data: &[u8]) -> Option<Vec<f32>> {
    fn each<const N: usize>(data: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        data.as_chunks().0.iter().map(|&bytes| read(bytes)).collect()
    }
    match dtype {
        Dtype::F32 => Some(each(data, f32::from_le_bytes)),
        Dtype::F64 => Some(each(data, |bytes| f64::from_le_bytes(bytes) as f32)),
        Dtype::BF16 => Some(each(data, |bytes| bf16::from_le_bytes(bytes).to_f32())),
        Dtype::F16 => Some(each(data, |bytes| f16::from_le_bytes(bytes).to_f32())),
        _ => None,
    }
}

/// Where a visitor is in a module, and what the parameter there is called and how it is laid out in PyTorch.
#[derive(Default)]
pub(crate) struct ModulePath {
    names: Vec<String>,
    containers: Vec<String>,
}

impl ModulePath {
    pub(crate) fn enter(&mut self, name: &str, container: &str) {
        self.names.push(name.to_owned());
        self.containers.push(container.to_owned());
    }

    pub(crate) fn exit(&mut self) {
        self.names.pop();
        self.containers.pop();
    }

    fn container(&self) -> &str {
        self.containers.last().map_or("", String::as_str)
    }

    pub(crate) fn name(&self) -> String {
        // burn names the variant of an enum of modules too, and the place of a language model that has something beside
        // it; published names have neither.
        let is_left_out = |(name, container): &(&String, &String)| {
            container.starts_with("Enum:") || container.ends_with("TrainedModel") && *name == "lm"
        };
        let inside = self.names.iter().zip(&self.containers).filter(|part| !is_left_out(part));
        let renamed = inside.map(|(part, _)| match part.as_str() {
            "self_" => "self",
            "gamma" if self.container().ends_with("LayerNorm") => "weight",
            "beta" if self.container().ends_with("LayerNorm") => "bias",
            other => other,
        });
        renamed.collect::<Vec<_>>().join(".")
    }

    /// burn keeps linear weights as `[in, out]`, PyTorch as `[out, in]`.
    fn is_transposed(&self) -> bool {
        self.container().ends_with("Linear") && self.names.last().is_some_and(|name| name == "weight")
    }
}

fn transpose(tensor: &HostTensor) -> HostTensor {
    let (rows, columns) = (tensor.shape[0], tensor.shape[1]);
    let values = (0..columns).flat_map(|c| (0..rows).map(move |r| tensor.values[r * columns + c])).collect();
    HostTensor { shape: vec![columns, rows], values }
}

/// Tensors on their way to the host.
#[derive(Default)]
pub(crate) struct Reading(Vec<Wanted>);

struct Wanted {
    name: String,
    shape: Vec<usize>,
    is_transposed: bool,
    data: Pin<Box<dyn Future<Output = TensorData> + Send>>,
}

impl Reading {
    /// Asks for a tensor; `is_transposed` swaps the axes of a matrix on the host.
    pub(crate) fn add<const D: usize>(&mut self, name: String, tensor: Tensor<D>, is_transposed: bool) {
        let shape = tensor.dims().to_vec();
        let data = async { tensor.into_data_async().await.expect("a device that is there gives what it holds") };
        self.0.push(Wanted { name, shape, is_transposed, data: Box::pin(data) });
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|wanted| wanted.name == name)
    }

    /// All of them, by name.
    pub(crate) async fn finish(self) -> Weights {
        let mut out = Weights::default();
        for Wanted { name, shape, is_transposed, data } in self.0 {
            let values = data.await.convert::<f32>().try_to_vec().expect("just converted to f32");
            let tensor = HostTensor { shape, values };
            out.insert(&name, if is_transposed { transpose(&tensor) } else { tensor });
        }
        out
    }
}

#[derive(Default)]
struct Reader {
    path: ModulePath,
    reading: Reading,
}

impl ModuleVisitor for Reader {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.reading.add(self.path.name(), param.val(), self.path.is_transposed());
    }
}

struct Writer<'a> {
    path: ModulePath,
    from: &'a BTreeMap<String, HostTensor>,
    used: usize,
    problems: Vec<String>,
}

impl ModuleMapper for Writer<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name();
        let Some(tensor) = self.from.get(&name) else {
            self.problems.push(format!("missing: {name}"));
            return param;
        };
        self.used += 1;
        let wanted: Vec<usize> = match self.path.is_transposed() {
            true => param.dims().iter().rev().copied().collect(),
            false => param.dims().to_vec(),
        };
        if tensor.shape != wanted {
            self.problems.push(format!("{name}: found {:?}, wanted {wanted:?}", tensor.shape));
            return param;
        }
        let tensor = if self.path.is_transposed() { transpose(tensor) } else { tensor.clone() };
        param.map(|old| {
            let tracked = old.is_require_grad();
            let new = Tensor::from_data(TensorData::new(tensor.values, tensor.shape), &old.device());
            if tracked { new.require_grad() } else { new }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BertShape;
    use burn::tensor::Device;

    fn shape() -> BertShape {
        BertShape::new(11, 8, 1, 2, 6)
    }

    #[test]
    fn names_and_shapes_are_hugging_faces() {
        let weights = Weights::of(&shape().init(1, 0.02, &Device::flex()));
        let listed: Vec<String> = weights.iter().map(|(name, t)| format!("{name} {:?}", t.shape)).collect();
        insta::assert_snapshot!(listed.join("\n"), @"
        bert.embeddings.LayerNorm.bias [8]
        bert.embeddings.LayerNorm.weight [8]
        bert.embeddings.position_embeddings.weight [6, 8]
        bert.embeddings.token_type_embeddings.weight [2, 8]
        bert.embeddings.word_embeddings.weight [11, 8]
        bert.encoder.layer.0.attention.output.LayerNorm.bias [8]
        bert.encoder.layer.0.attention.output.LayerNorm.weight [8]
        bert.encoder.layer.0.attention.output.dense.bias [8]
        bert.encoder.layer.0.attention.output.dense.weight [8, 8]
        bert.encoder.layer.0.attention.self.key.bias [8]
        bert.encoder.layer.0.attention.self.key.weight [8, 8]
        bert.encoder.layer.0.attention.self.query.bias [8]
        bert.encoder.layer.0.attention.self.query.weight [8, 8]
        bert.encoder.layer.0.attention.self.value.bias [8]
        bert.encoder.layer.0.attention.self.value.weight [8, 8]
        bert.encoder.layer.0.intermediate.dense.bias [32]
        bert.encoder.layer.0.intermediate.dense.weight [32, 8]
        bert.encoder.layer.0.output.LayerNorm.bias [8]
        bert.encoder.layer.0.output.LayerNorm.weight [8]
        bert.encoder.layer.0.output.dense.bias [8]
        bert.encoder.layer.0.output.dense.weight [8, 32]
        cls.predictions.bias [11]
        cls.predictions.transform.LayerNorm.bias [8]
        cls.predictions.transform.LayerNorm.weight [8]
        cls.predictions.transform.dense.bias [8]
        cls.predictions.transform.dense.weight [8, 8]
        ");
    }

    #[test]
    fn a_file_round_trips_to_the_byte() {
        let weights = Weights::of(&shape().init(1, 0.02, &Device::flex()));
        let read = Weights::from_bytes(&weights.to_bytes()).unwrap();
        assert_eq!(read, weights);
        assert_eq!(read.to_bytes(), weights.to_bytes());
    }

    #[test]
    fn no_bit_of_a_sealed_file_can_turn() {
        let mut weights = Weights::default();
        weights.insert("logits", HostTensor { shape: vec![2, 2], values: vec![0.5, -1.0, 3.0, 0.0] });
        let bytes = weights.sealed("here");
        assert_eq!(Weights::of_sealed(&bytes, "here").as_ref(), Some(&weights));
        assert_eq!(Weights::from_bytes(&bytes).unwrap(), weights);
        assert!(Weights::of_sealed(&bytes, "there").is_none() && Weights::of_sealed(&weights.to_bytes(), "here").is_none());
        for bit in 0..8 * bytes.len() {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(Weights::of_sealed(&other, "here").is_none_or(|found| found == weights), "bit {bit}");
        }
    }

    #[test]
    fn what_does_not_fit_is_listed() {
        let mut weights = Weights::of(&shape().init(1, 0.02, &Device::flex()));
        weights.0.remove("cls.predictions.bias");
        weights.0.get_mut("bert.embeddings.LayerNorm.weight").unwrap().shape = vec![2, 4];
        let error = weights.load_into(shape().init(2, 0.02, &Device::flex())).unwrap_err();
        insta::assert_snapshot!(error, @"
        the weights do not fit the model:
          bert.embeddings.LayerNorm.weight: found [2, 4], wanted [8]
          missing: cls.predictions.bias
        help: the model's config.json and model.safetensors must belong together
        ");
        let mut more = Weights::of(&shape().init(1, 0.02, &Device::flex()));
        more.insert("pooler.dense.weight", HostTensor { shape: vec![1], values: vec![0.0] });
        let error = more.load_into(shape().init(2, 0.02, &Device::flex())).unwrap_err().to_string();
        assert!(error.contains("left over: pooler.dense.weight"), "{error}");
    }

    #[test]
    fn a_cut_or_lying_file_is_refused() {
        let bytes = Weights::of(&shape().init(1, 0.02, &Device::flex())).to_bytes();
        for cut in [0, 4, 100, bytes.len() - 1] {
            assert!(Weights::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut lying = bytes.clone();
        lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(Weights::from_bytes(&lying).is_err());
    }

    #[test]
    fn halves_widen_exactly() {
        for (bits, value) in [(0x3c00, 1.0), (0xc000, -2.0), (0x0001, 5.960_464_5e-8), (0x7bff, 65504.0), (0x7c00, f32::INFINITY)]
        {
            assert_eq!(floats(Dtype::F16, &u16::to_le_bytes(bits)), Some(vec![value]));
        }
        assert!(floats(Dtype::F16, &0x7e00u16.to_le_bytes()).unwrap()[0].is_nan());
    }
}
