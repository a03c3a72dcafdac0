//! Vocabularies: reading `vocab.txt`, ids without holes, and whether one is cased.

use std::collections::HashMap;

use tokenizers::models::wordpiece::WordPiece;

use super::special::{TRAIN, failed};
use crate::error::{Error, Result};

/// The tokens of a `vocab.txt` in the order of their ids, and what is to be said of it.
///
/// Read as `transformers` reads it: a line ends at `\n` alone, so that U+2028 and its like may be tokens, and white
/// space at its end is no part of the token. Of two lines with one token the later has the id; an empty line stands for
/// nothing. Empty lines at the end are left out, and a byte order mark is no part of the first token.
pub(super) fn read(bytes: &[u8]) -> Result<(Vec<String>, Vec<String>)> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
        Error::new(format!("the vocabulary is not UTF-8: line {line}")).help("a vocab.txt holds one token a line, in UTF-8")
    })?;
    let mut notes = Vec::new();
    let text = match text.strip_prefix('\u{feff}') {
        Some(rest) => {
            notes.push("begins with a byte order mark (BOM), which is left out".to_owned());
            rest
        }
        None => text,
    };
    let mut lines: Vec<&str> = text.split('\n').map(token_of).collect();
    while lines.last().is_some_and(|token| token.is_empty()) {
        lines.pop();
    }
    let (mut ids, mut twice, mut empty) = (HashMap::with_capacity(lines.len()), Vec::new(), Vec::new());
    for (id, token) in (0..).zip(&lines) {
        match ids.insert((*token).to_owned(), id) {
            _ if token.is_empty() => empty.push(id + 1),
            Some(first) => twice.push(format!("`{token}` (lines {} and {})", first + 1, id + 1)),
            None => {}
        }
    }
    notes.extend(listed(&twice, |what| {
        format!("holds tokens twice, and the last line's id counts, as in `transformers`: {what}")
    }));
    let empty: Vec<String> = empty.iter().map(|line| format!("line {line}")).collect();
    notes.extend(listed(&empty, |what| format!("has empty lines, whose ids stand for nothing, as in `transformers`: {what}")));
    Ok((in_id_order(ids)?, notes))
}

/// A line's token. White space alone is kept: no word of BERT's holds any, and the tokens stay told apart.
fn token_of(line: &str) -> &str {
    let token = line.trim_end();
    match token {
        "" | "##" => line.trim_end_matches('\r'),
        _ => token,
    }
}

/// The first few of `items` in a sentence, or nothing when there are none.
fn listed(items: &[String], sentence: impl Fn(&str) -> String) -> Option<String> {
    const SHOWN: usize = 3;
    let shown = items.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = items.len().saturating_sub(SHOWN);
    match items.is_empty() {
        true => None,
        false if more > 0 => Some(sentence(&format!("{shown} and {more} more"))),
        false => Some(sentence(&shown)),
    }
}

/// The tokens by id. An id without a token, as a line that occurs twice leaves it, gets one that no text can spell.
pub(super) fn in_id_order(vocab: HashMap<String, u32>) -> Result<Vec<String>> {
    let known = vocab.len();
    let mut tokens: Vec<_> = vocab.into_iter().map(|(token, id)| (id, token)).collect();
    tokens.sort_unstable();
    let mut ordered = Vec::with_capacity(known);
    for (id, token) in tokens {
        let id = id as usize;
        if id < ordered.len() {
            return Err(Error::new(format!("the vocabulary gives the id {id} to two tokens")).help(TRAIN));
        }
        // A lying file could name an id of billions.
        if id > known.saturating_mul(2) + 1000 {
            let what = format!("the vocabulary's ids are not 0, 1, 2, ...: `{token}` has {id}, and there are {known} tokens");
            return Err(Error::new(what).help(TRAIN));
        }
        ordered.extend((ordered.len()..id).map(stand_in));
        ordered.push(token);
    }
    Ok(ordered)
}

/// What stands at an id that no text becomes: words are split at spaces, so none is this.
pub(super) fn stand_in(id: usize) -> String {
    format!("[no token {id}]")
}

/// BERT's model over `vocab`, ids in order.
pub(super) fn model(vocab: &[String]) -> Result<WordPiece> {
    // The library's own map, whose type it doesn't name.
    let mut ids = WordPiece::read_bytes(b"").map_err(failed)?;
    ids.extend(vocab.iter().cloned().zip(0..));
    WordPiece::builder().vocab(ids).build().map_err(failed)
}

/// How many of a vocabulary's pieces have letters in two cases, and how many of those have capitals.
pub(super) struct Capitals {
    with_case: usize,
    capital: usize,
}

impl Capitals {
    /// Counts pieces that are letters and nothing else: not `[MASK]`, `<URL>` or `ℝ`, which has no small form.
    pub(super) fn of(vocab: &[String]) -> Self {
        let mut found = Capitals { with_case: 0, capital: 0 };
        for token in vocab {
            let piece = token.strip_prefix("##").unwrap_or(token);
            if piece.is_empty() || !piece.chars().all(char::is_alphabetic) {
                continue;
            }
            let (small, capital) = (piece.to_lowercase(), piece.to_uppercase());
            found.with_case += usize::from(small != capital);
            found.capital += usize::from(small != piece);
        }
        found
    }

    /// Whether the vocabulary is cased: one piece of twenty has capitals, and one that somebody added can't tip it.
    pub(super) fn is_cased(&self) -> bool {
        self.capital > 1 && (self.capital - 1) * 20 >= self.with_case
    }
}

impl std::fmt::Display for Capitals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} pieces of letters have capitals", self.capital, self.with_case)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> (Vec<String>, Vec<String>) {
        read(text.as_bytes()).unwrap()
    }

    #[test]
    fn only_a_newline_ends_a_line() {
        let (vocab, notes) = lines("[PAD]\na\u{2028}b\n\u{2028}\n##\u{2028}\n\u{85}\nb  \r\nc\u{a0}\n");
        assert_eq!(vocab, ["[PAD]", "a\u{2028}b", "\u{2028}", "##\u{2028}", "\u{85}", "b", "c"]);
        assert!(notes.is_empty(), "{notes:?}");
    }

    #[test]
    fn a_token_twice_has_its_last_lines_id_and_an_empty_line_has_none() {
        let (vocab, notes) = lines("a\nb\na\n\nc\n\n\n");
        assert_eq!(vocab, ["[no token 0]", "b", "a", "", "c"]);
        insta::assert_snapshot!(notes.join("\n"), @r"
        holds tokens twice, and the last line's id counts, as in `transformers`: `a` (lines 1 and 3)
        has empty lines, whose ids stand for nothing, as in `transformers`: line 4
        ");
    }

    #[test]
    fn ids_that_lie_are_refused_before_anything_is_allocated() {
        let error = in_id_order(HashMap::from([("a".to_owned(), u32::MAX)])).unwrap_err().to_string();
        assert!(error.contains("`a` has 4294967295, and there are 1 tokens"), "{error}");
    }

    #[test]
    fn one_added_token_tips_nothing() {
        let cased = |words: &str| Capitals::of(&words.split(' ').map(str::to_owned).collect::<Vec<_>>()).is_cased();
        assert!(cased("The the Café ##s ##S"));
        for uncased in ["the dog <URL> [CAPITAL] [MASK]", "the dog URL", "a b ℝ ᴬ 中 한", "the Dog a b c", ""] {
            assert!(!cased(uncased), "{uncased}");
        }
        let small = (b'a'..=b'z').map(|letter| char::from(letter).to_string());
        let both: Vec<String> = small.clone().chain(small.clone().map(|letter| letter.to_uppercase())).collect();
        assert!(Capitals::of(&both).is_cased());
        let two: Vec<String> = small.clone().chain(small).chain(["URL".to_owned(), "USER".to_owned()]).collect();
        assert!(!Capitals::of(&two).is_cased());
    }
}
