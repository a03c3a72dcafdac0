//! Rows of labelled data that are gathered in memory, up to a bound.

use super::Row;
use super::options::gibibytes;
use crate::error::{Error, Result};

/// Rows that are gathered in memory, up to a bound: a small packed file can hold more of them than any memory does.
pub(super) struct Gathered {
    rows: Vec<Row>,
    bytes: u64,
    most: u64,
}

impl Gathered {
    /// No rows yet; at most so many bytes of them will be taken.
    pub(super) fn up_to(most: u64) -> Self {
        Self { rows: Vec::new(), bytes: 0, most }
    }

    /// The rows, in the order of the file.
    pub(super) fn into_rows(self) -> Vec<Row> {
        self.rows
    }

    /// One more row. The error has no place yet.
    pub(super) fn push(&mut self, row: Row) -> Result<()> {
        // A piece of memory has some bytes of its own.
        let of_field =
            |field: &Option<String>| size_of::<Option<String>>() + field.as_ref().map_or(0, |text| text.capacity() + 16);
        self.bytes += (size_of::<Row>() + 16 + row.fields.iter().map(of_field).sum::<usize>()) as u64;
        if self.bytes > self.most {
            return Err(Error::new(format!(
                "the rows up to this one take more than {}, a quarter of the memory that there is",
                gibibytes(self.most)
            ))
            .help("take a part of the file, or a machine with more memory"));
        }
        self.rows.push(row);
        Ok(())
    }
}
