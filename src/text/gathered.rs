//! Rows of labelled data that are gathered in memory, up to a bound.

use serde_json::Value;

use super::options::gibibytes;
use super::{Object, Row};
use crate::error::{Error, Result};

/// What is gathered, and the memory that it takes.
pub(super) trait Weighed {
    /// Bytes, roughly: a piece of memory has some of its own.
    fn bytes(&self) -> usize;
}

/// What a piece of memory takes beside its content.
const PIECE: usize = 16;

impl Weighed for Row {
    fn bytes(&self) -> usize {
        let of_field =
            |field: &Option<String>| size_of::<Option<String>>() + field.as_ref().map_or(0, |text| text.capacity() + PIECE);
        size_of::<Row>() + PIECE + self.fields.iter().map(of_field).sum::<usize>()
    }
}

impl Weighed for Object {
    fn bytes(&self) -> usize {
        let texts = self.place.capacity() + self.found.capacity() + 3 * PIECE;
        let of_field = |field: &Option<Value>| size_of::<Option<Value>>() + field.as_ref().map_or(0, below);
        size_of::<Object>() + texts + self.fields.iter().map(of_field).sum::<usize>()
    }
}

/// What a value of JSON takes beside the value itself.
fn below(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.capacity() + PIECE,
        Value::Array(list) => list.capacity() * size_of::<Value>() + PIECE + list.iter().map(below).sum::<usize>(),
        Value::Object(map) => {
            // An entry keeps its hash and its place in a table beside its name and its value.
            let entry =
                |(name, value): (&String, &Value)| size_of::<(String, Value)>() + name.capacity() + 3 * PIECE + below(value);
            map.iter().map(entry).sum()
        }
    }
}

/// Rows or objects that are gathered in memory, up to a bound: a small packed file can hold more of them than any
/// memory does.
pub(super) struct Gathered<T> {
    items: Vec<T>,
    bytes: u64,
    most: u64,
}

impl<T: Weighed> Gathered<T> {
    /// Nothing yet; at most so many bytes will be taken.
    pub(super) fn up_to(most: u64) -> Self {
        Self { items: Vec::new(), bytes: 0, most }
    }

    /// All of them, in the order of the file.
    pub(super) fn into_items(self) -> Vec<T> {
        self.items
    }

    /// One more. The error has no place yet.
    pub(super) fn push(&mut self, item: T) -> Result<()> {
        self.bytes += item.bytes() as u64;
        if self.bytes > self.most {
            return Err(Error::new(format!(
                "the rows up to this one take more than {}, a quarter of the memory that there is",
                gibibytes(self.most)
            ))
            .help("take a part of the file, or a machine with more memory"));
        }
        self.items.push(item);
        Ok(())
    }
}
