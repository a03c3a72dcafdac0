//! A row of labelled data, and which columns of a table make it; an object of JSON.

use super::options::listed;
use crate::error::{Error, Result};

/// A row of a table: the wanted columns, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its line in the file, from 1; of Parquet, the row.
    pub line: u64,
    /// None where the row is too short, has no such field, or the value is null or not a number.
    pub fields: Vec<Option<String>>,
}

/// An object of a JSON file.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Where it begins: `file:line`.
    pub place: String,
    /// The wanted fields, in their order, lists and objects among them whole; none where there is no such field.
    pub fields: Vec<Option<serde_json::Value>>,
    /// The names of the fields that it has, for messages.
    pub found: String,
}

/// The columns to read of a table.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Their names; of a table without a header, "0", "1" and so on.
    pub columns: &'a [String],
    /// What to do where one is missing, for the error.
    pub help: &'a str,
}

impl Wanted<'_> {
    /// Where the wanted columns are among those of the header. The error has no place yet.
    pub(super) fn find<S: AsRef<str>>(&self, there: &[S]) -> Result<Vec<usize>> {
        let at = |name: &String| there.iter().position(|found| found.as_ref() == name);
        let missing: Vec<&String> = self.columns.iter().filter(|name| at(name).is_none()).collect();
        if missing.is_empty() { Ok(self.columns.iter().filter_map(at).collect()) } else { Err(self.absent(&missing, there, 0)) }
    }

    /// The error for columns that aren't there; `there` names some of those that are, and there are `more`.
    pub(super) fn absent<S: AsRef<str>>(&self, missing: &[&String], there: &[S], more: usize) -> Error {
        let missing: Vec<String> = missing.iter().map(|name| format!("`{name}`")).collect();
        let found = if there.is_empty() { "the file is empty".to_owned() } else { format!("there is {}", listed(there, more)) };
        Error::new(format!("there is no column {}; {found}", missing.join(" and no column "))).help(self.help)
    }
}
