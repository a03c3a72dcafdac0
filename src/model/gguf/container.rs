//! The container: keys with values, tensors with their names, sizes, types and places (version 3; version 2 is laid out
//! alike). Nothing that a file says of a size is believed before it is known that the file has so many bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::blocks::Kind;
use crate::error::{Error, IoContext, Result};
use crate::model::weights::HostTensor;

/// What such a file begins with.
const MAGIC: [u8; 4] = *b"GGUF";
/// Where tensors begin is a multiple of this, unless the file says otherwise.
const ALIGNMENT: u64 = 32;
/// The most axes that a tensor has.
const AXES: u32 = 4;

/// A value of a key. Arrays are kept as far as anything reads them.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// An unsigned or signed integer, or a truth as 1 and 0.
    Whole(i128),
    /// f32 or f64; of f32 the f64 that is written as shortly.
    Float(f64),
    /// True or false.
    Truth(bool),
    /// UTF-8.
    Text(String),
    /// An array of strings.
    Texts(Vec<String>),
    /// An array of 32-bit integers.
    Wholes(Vec<i64>),
    /// An array of something else: how many.
    Others(u64),
}

/// A tensor as the file announces it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Announced {
    /// Lengths of its axes, the first slowest, as PyTorch has them: the file has them the other way round.
    pub shape: Vec<usize>,
    /// How its numbers are kept.
    pub kind: Kind,
    /// Where it begins in the file.
    at: u64,
    /// How many bytes it has there.
    bytes: usize,
}

/// A file whose keys and tensors' places are read; their values are not yet.
#[derive(Debug)]
pub(super) struct Container {
    path: PathBuf,
    /// By name.
    pub keys: BTreeMap<String, Value>,
    /// By name.
    pub tensors: BTreeMap<String, Announced>,
}

impl Container {
    /// Reads all but the tensors' values.
    ///
    /// # Errors
    /// When the file can't be read, is no such file, of another version, cut, or says what can't be.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).doing("open", path)?;
        let size = file.metadata().doing("read", path)?.len();
        let mut bytes = Bytes { inner: BufReader::new(file), at: 0, size };
        read(&mut bytes, path).map_err(|error| if error.place().is_some() { error } else { error.at(path.display()) })
    }

    /// A tensor's numbers.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn tensor(&self, name: &str) -> Result<HostTensor> {
        let announced = &self.tensors[name];
        let mut file = File::open(&self.path).doing("open", &self.path)?;
        file.seek(SeekFrom::Start(announced.at)).doing("read", &self.path)?;
        let mut bytes = vec![0; announced.bytes];
        file.read_exact(&mut bytes).doing("read", &self.path)?;
        Ok(HostTensor { shape: announced.shape.clone(), values: announced.kind.unpack(&bytes) })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn read(bytes: &mut Bytes, path: &Path) -> Result<Container> {
    if bytes.take::<4>()? != MAGIC {
        return Err(Error::new("not a GGUF file: it does not begin with GGUF").help("fetch the file again"));
    }
    match bytes.u32()? {
        2 | 3 => {}
        version if version.swap_bytes() <= 3 => {
            return Err(
                Error::new("the GGUF file is big-endian, and upstill reads little-endian ones").help("convert the model again")
            );
        }
        version => {
            return Err(Error::new(format!("the GGUF file is of version {version}, and upstill reads 2 and 3"))
                .help("convert the model again with a present llama.cpp"));
        }
    }
    // Of a tensor at least a name's length, the number of axes, a type and a place; of a key a name's length, a type
    // and a byte.
    let (tensors, keys) = (bytes.count("tensors", 24)?, bytes.count("keys", 13)?);
    let mut found = BTreeMap::new();
    for _ in 0..keys {
        let name = bytes.text("a key")?;
        let kind = bytes.u32()?;
        let value = value(bytes, kind).map_err(|error| Error::new(format!("{name}: {}", error.what())).help(AGAIN))?;
        if found.insert(name.clone(), value).is_some() {
            return Err(Error::new(format!("the key {name} is there twice")).help(AGAIN));
        }
    }
    let mut announced = Vec::new();
    for _ in 0..tensors {
        announced.push(tensor(bytes)?);
    }
    let alignment = match found.get("general.alignment") {
        None => ALIGNMENT,
        Some(Value::Whole(alignment)) if (1..=1 << 30).contains(alignment) && (*alignment as u64).is_power_of_two() => {
            *alignment as u64
        }
        Some(other) => return Err(Error::new(format!("general.alignment is {other:?}, and not a power of 2")).help(AGAIN)),
    };
    let start = bytes.at.next_multiple_of(alignment);
    let mut tensors = BTreeMap::new();
    for (name, mut tensor) in announced {
        let begins = start.checked_add(tensor.at).filter(|at| at.is_multiple_of(alignment));
        let ends = begins.and_then(|at| at.checked_add(tensor.bytes as u64)).filter(|end| *end <= bytes.size);
        let (Some(begins), Some(_)) = (begins, ends) else {
            return Err(Error::new(format!(
                "the tensor {name} would lie at {} and take {} bytes, and the file has {}: it was cut, or is damaged",
                tensor.at, tensor.bytes, bytes.size
            ))
            .help(AGAIN));
        };
        tensor.at = begins;
        if tensors.insert(name.clone(), tensor).is_some() {
            return Err(Error::new(format!("the tensor {name} is there twice")).help(AGAIN));
        }
    }
    Ok(Container { path: path.to_owned(), keys: found, tensors })
}

const AGAIN: &str = "fetch the file again";

/// A tensor's entry; its place is still from where tensors begin.
fn tensor(bytes: &mut Bytes) -> Result<(String, Announced)> {
    let name = bytes.text("a tensor's name")?;
    let wrong = |what: String| Error::new(format!("the tensor {name} {what}")).help(AGAIN);
    let axes = bytes.u32()?;
    if axes == 0 || axes > AXES {
        return Err(wrong(format!("has {axes} axes, and not 1 to {AXES}")));
    }
    let mut shape = Vec::new();
    for _ in 0..axes {
        let length = bytes.u64()?;
        shape.push(usize::try_from(length).ok().filter(|length| *length > 0).ok_or_else(|| wrong(format!("is {length} long")))?);
    }
    let first = shape[0];
    shape.reverse();
    let number = bytes.u32()?;
    let kind = Kind::of(number).map_err(|what| {
        Error::new(format!("the tensor {name} is of the type {what}, and upstill reads {}", Kind::NAMES))
            .help("convert the model to one of those types, or take its safetensors")
    })?;
    let at = bytes.u64()?;
    let (values, held) = kind.block();
    if !first.is_multiple_of(values) {
        return Err(wrong(format!("has rows of {first}, which are no whole blocks of {values}")));
    }
    let elements = shape.iter().try_fold(1usize, |all, &length| all.checked_mul(length));
    let size = elements.and_then(|elements| (elements / values).checked_mul(held));
    let size = size.ok_or_else(|| wrong(format!("has the sizes {shape:?}, which no file has")))?;
    Ok((name, Announced { shape, kind, at, bytes: size }))
}

fn value(bytes: &mut Bytes, kind: u32) -> Result<Value> {
    Ok(match kind {
        0 => Value::Whole(bytes.take::<1>()?[0].into()),
        1 => Value::Whole(i8::from_le_bytes(bytes.take()?).into()),
        2 => Value::Whole(u16::from_le_bytes(bytes.take()?).into()),
        3 => Value::Whole(i16::from_le_bytes(bytes.take()?).into()),
        4 => Value::Whole(bytes.u32()?.into()),
        5 => Value::Whole(i32::from_le_bytes(bytes.take()?).into()),
        6 => {
            let value = f32::from_le_bytes(bytes.take()?);
            // 1e-5 was meant, not the f64 nearest to f32's 1e-5.
            Value::Float(value.to_string().parse().unwrap_or_else(|_| value.into()))
        }
        7 => match bytes.take::<1>()?[0] {
            truth @ 0..=1 => Value::Truth(truth == 1),
            other => return Err(Error::new(format!("a truth is {other}, and not 0 or 1"))),
        },
        8 => Value::Text(bytes.text("a text")?),
        9 => array(bytes)?,
        10 => Value::Whole(bytes.u64()?.into()),
        11 => Value::Whole(i64::from_le_bytes(bytes.take()?).into()),
        12 => Value::Float(f64::from_le_bytes(bytes.take()?)),
        other => return Err(Error::new(format!("its type is {other}, which GGUF has not"))),
    })
}

fn array(bytes: &mut Bytes) -> Result<Value> {
    let width = match bytes.u32()? {
        8 => {
            let count = bytes.count("texts", 8)?;
            return Ok(Value::Texts((0..count).map(|_| bytes.text("a text")).collect::<Result<_>>()?));
        }
        kind @ 4..=5 => {
            let count = bytes.count("numbers", 4)?;
            let number =
                |four: [u8; 4]| if kind == 4 { u32::from_le_bytes(four).into() } else { i32::from_le_bytes(four).into() };
            return Ok(Value::Wholes((0..count).map(|_| bytes.take().map(number)).collect::<Result<_>>()?));
        }
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        6 => 4,
        10..=12 => 8,
        other => return Err(Error::new(format!("it is an array of the type {other}, which upstill does not read"))),
    };
    let count = bytes.count("numbers", width)?;
    bytes.skip(count * width)?;
    Ok(Value::Others(count))
}

/// The file's bytes, of which no more are asked for than there are.
struct Bytes {
    inner: BufReader<File>,
    at: u64,
    size: u64,
}

impl Bytes {
    fn left(&self) -> u64 {
        self.size.saturating_sub(self.at)
    }

    fn short(&self) -> Error {
        Error::new(format!("the file ends at byte {}, in the midst of what it announces", self.size)).help(AGAIN)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        self.inner.read_exact(&mut out).map_err(|_| self.short())?;
        self.at += N as u64;
        Ok(out)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    /// A number of things, each of which takes `least` bytes at least.
    fn count(&mut self, what: &str, least: u64) -> Result<u64> {
        let count = self.u64()?;
        match count <= self.left() / least {
            true => Ok(count),
            false => Err(Error::new(format!("it announces {count} {what}, and {} bytes are left", self.left())).help(AGAIN)),
        }
    }

    fn text(&mut self, what: &str) -> Result<String> {
        let length = self.count("bytes of text", 1)?;
        let mut out = vec![0; length as usize];
        self.inner.read_exact(&mut out).map_err(|_| self.short())?;
        self.at += length;
        String::from_utf8(out).map_err(|_| Error::new(format!("{what} is not UTF-8")).help(AGAIN))
    }

    fn skip(&mut self, count: u64) -> Result<()> {
        self.inner.seek_relative(count as i64).map_err(|_| self.short())?;
        self.at += count;
        Ok(())
    }
}
