//! All that is wrong with a run file, said at once.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::error::Error;

/// Mistakes in the order found; empty when all is well.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Mistakes(Vec<Mistake>);

#[derive(Debug, Clone, PartialEq)]
struct Mistake {
    key: String,
    what: String,
    write: String,
}

impl Mistakes {
    /// Notes that `key` has something wrong (`what`) and what to do (`fix`).
    pub fn add(&mut self, key: &str, what: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Mistake { key: key.into(), what: what.into(), write: fix.into() });
    }

    /// Whether this key was complained about.
    pub fn names(&self, key: &str) -> bool {
        self.0.iter().any(|mistake| mistake.key == key)
    }

    /// Forgets what was said of a key that has a new value.
    pub fn forget(&mut self, key: &str) {
        self.0.retain(|mistake| mistake.key != key);
    }

    /// One error with every mistake, numbered; `None` without any. `lines` are those of the keys in the file, where it
    /// has them.
    pub fn into_error(self, place: &str, lines: &BTreeMap<String, usize>) -> Option<Error> {
        let count = self.0.len();
        let mut text = match count {
            0 => return None,
            1 => "the run file has a mistake".to_owned(),
            _ => format!("the run file has {count} mistakes"),
        };
        for (index, Mistake { key, what, write }) in self.0.into_iter().enumerate() {
            let number = if count > 1 { format!("{:>2}. ", index + 1) } else { "  ".into() };
            let indent = " ".repeat(number.len() + 2);
            let line = lines.get(&key).map_or(String::new(), |line| format!(" (line {line})"));
            let _ = write!(text, "\n{number}{key}{line}: {}\n{indent}{}", continued(&what, &indent), continued(&write, &indent));
        }
        Some(Error::new(text).at(place).help("mend these; `upstill plan` checks a run file without training"))
    }
}

/// Lines after the first, indented like it.
fn continued(text: &str, indent: &str) -> String {
    text.replace('\n', &format!("\n{indent}"))
}
