//! How values are written for people: enums as words (in run files, in plans, on the command line and in the
//! environment), and numbers with their units.

use std::fmt::Display;

/// Defines an enum written as lower-case words, by `Serialize`, `Display` and `word`, and read by `Deserialize` and
/// `from_word`.
macro_rules! words {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$inner])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// Every word, in order.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word it is written as.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }

            /// The value a word stands for.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some($name::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

pub(crate) use words;

/// Three digits and a prefix: `1.23 M`, with a blank after it.
pub(crate) fn scaled(value: f64, prefixes: &[&str]) -> String {
    let mut value = value;
    let mut index = 0;
    while value >= 999.5 && index + 1 < prefixes.len() {
        value /= 1000.0;
        index += 1;
    }
    let digits = if index == 0 || value >= 99.95 { 0 } else { 1 };
    format!("{value:.digits$} {}", prefixes[index])
}

/// A count in words: `67.0 million `, ready for its noun.
pub(crate) fn count(value: f64) -> String {
    let text = scaled(value, &["", "thousand", "million", "billion", "trillion"]);
    format!("{} ", text.trim_end())
}

/// `1 layer`, `2 layers`.
pub(crate) fn plural<N: Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    format!("{count} {noun}{}", if count == N::from(1) { "" } else { "s" })
}

/// Thousands apart: `30,000,000`.
pub(crate) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1.2 GB`, in powers of 1000.
pub(crate) fn bytes_text(bytes: u64) -> String {
    format!("{}B", scaled(bytes as f64, &["", "k", "M", "G", "T", "P"]))
}

/// A table's lines: columns two blanks apart and as wide as their widest cell, with text to the left or to the right as
/// `is_words` says of a column. The first row counts the columns. Of `comfy-table`, which wraps, colours and frames, no
/// more than this would be used, and it is not shorter.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn aligned(rows: &[Vec<String>], is_words: impl Fn(usize) -> bool) -> Vec<String> {
    let columns = rows.first().map_or(0, Vec::len);
    let widest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(widest).collect();
    let line = |row: &Vec<String>| {
        let cell = |(column, (text, &width)): (usize, (&String, &usize))| match is_words(column) {
            true => format!("{text:<width$}"),
            false => format!("{text:>width$}"),
        };
        row.iter().zip(&widths).enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
