//! A visitor's own text as shards in memory.

use upstill::text::{Document, is_held_out};
use upstill::tokens::{Shards, Tokenizer};
use upstill::{Error, Result};

/// More than this takes minutes to prepare on one thread.
const LONGEST: usize = 20 << 20;
/// Pieces of the vocabulary, at most.
const VOCABULARY: usize = 2_000;
/// The share of paragraphs that is held out.
const HELD_OUT: f64 = 0.1;
/// Sentences that training and scoring need at the least.
const FEWEST: usize = 40;

/// A text as sentences of tokens, with a vocabulary of its own. Each paragraph is a document: a tenth of them, or of
/// the sentences where paragraphs are few, is held out.
///
/// # Errors
/// When it is too long, not text, or too short to learn from.
pub fn shards_of(text: &str) -> Result<Shards> {
    if text.len() > LONGEST {
        return Err(Error::new(format!("the text has {} MB, and a page takes at most {}", text.len() >> 20, LONGEST >> 20))
            .help("give a part of it, or build the data with the command, `upstill data build`"));
    }
    let controls = text.chars().filter(|c| c.is_control() && !c.is_whitespace()).count();
    if controls > text.len() / 100 {
        return Err(Error::new("this does not look like text: it is full of control characters")
            .help("give plain text in UTF-8: .txt or .md, not a document or an archive"));
    }
    let paragraphs = text.split("\n\n").map(|text| Document { text: text.to_owned() });
    let (mut train, mut held_out): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for document in paragraphs {
        let into = if is_held_out(&document.fingerprint(), HELD_OUT) { &mut held_out } else { &mut train };
        into.extend(document.sentences(false).into_iter().map(str::to_owned));
    }
    if held_out.len() * 50 < train.len() {
        let all: Vec<String> = train.drain(..).chain(held_out.drain(..)).collect();
        let every = (1.0 / HELD_OUT) as usize;
        for (at, sentence) in all.into_iter().enumerate() {
            if at % every == every - 1 { held_out.push(sentence) } else { train.push(sentence) }
        }
    }
    if train.len() < FEWEST || held_out.is_empty() {
        return Err(Error::new(format!(
            "the text has {} sentences, and at least {FEWEST} are needed",
            train.len() + held_out.len()
        ))
        .help("paste more text: some pages at least"));
    }
    let tokenizer = Tokenizer::train(train.iter().cloned(), VOCABULARY, 2)?;
    let encoder = tokenizer.without_special();
    let encode = |sentences: Vec<String>| -> Result<Vec<Vec<u32>>> {
        let ids: Vec<Vec<u32>> = sentences.iter().map(|sentence| encoder.encode(sentence)).collect::<Result<_>>()?;
        Ok(ids.into_iter().filter(|ids| !ids.is_empty()).collect())
    };
    let (train, held_out) = (encode(train)?, encode(held_out)?);
    Ok(Shards::from_sentences(tokenizer, train, held_out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_refused() {
        let error = |text: &str| shards_of(text).unwrap_err().to_string();
        assert!(error("").contains("0 sentences"));
        assert!(error("One. Two. Three.").contains("at least"));
        assert!(error(&"\u{0}\u{1}a".repeat(100)).contains("control characters"));
        assert!(error(&"a".repeat(LONGEST + 1)).contains("MB"));
    }

    #[test]
    fn a_text_without_paragraphs_has_held_out_sentences_too() {
        let text: String = (0..300).map(|i| format!("The cat number {i} sat on the mat. ")).collect();
        let shards = shards_of(&text).unwrap();
        assert_eq!((shards.train().len(), shards.held_out().len()), (270, 30));
    }
}
