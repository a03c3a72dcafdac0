//! Paragraphs to sentences: Unicode's bounds (UAX 29), then mended where they break after an abbreviation.

use unicode_segmentation::UnicodeSegmentation;

/// Abbreviations that stand before what they belong to: no sentence ends after them.
const LEADING: &[&str] = &[
    "Mr", "Mrs", "Ms", "Messrs", "Mme", "Mlle", "Dr", "Prof", "St", "Ste", "Gen", "Col", "Maj", "Capt", "Lt", "Sgt", "Cpl",
    "Adm", "Cmdr", "Rev", "Hon", "Fr", "Gov", "Sen", "Rep", "Pres", "Supt", "Mt", "Ft", "vs", "v", "e.g", "i.e", "eg", "ie",
    "cf", "viz", "ca", "approx", "esp", "incl", "c",
];

/// Abbreviations that no sentence ends after when a number follows.
const BEFORE_NUMBER: &[&str] = &[
    "No", "Nos", "no", "nos", "Vol", "vol", "Fig", "Figs", "fig", "figs", "p", "pp", "Ch", "ch", "Art", "art", "Sec", "sec",
    "Eq", "eq", "Jan", "Feb", "Mar", "Apr", "Jun", "Jul", "Aug", "Sep", "Sept", "Oct", "Nov", "Dec", "Op", "op",
];

/// Words that mostly start a sentence: after an initial or "U.S." they say that one ended.
const STARTERS: &[&str] = &[
    "A", "An", "And", "As", "At", "But", "For", "He", "Her", "His", "However", "I", "If", "In", "It", "Its", "No", "On", "She",
    "So", "Some", "That", "The", "Their", "Then", "There", "These", "They", "This", "Those", "To", "We", "What", "When", "While",
    "Who", "Why", "You",
];

/// The sentences of a paragraph, each without the white space around it. No other character is lost.
pub fn sentences(paragraph: &str) -> Vec<&str> {
    let mut spans: Vec<(usize, usize)> = Vec::new();
    // Where the last piece within the last span starts: a piece's last word is all that the rules look back at.
    let mut piece_start = 0;
    for (start, piece) in paragraph.split_sentence_bound_indices() {
        let end = start + piece.len();
        match spans.last_mut() {
            Some(span) if belongs(&paragraph[piece_start..start], span.0 == piece_start, piece) => span.1 = end,
            _ => spans.push((start, end)),
        }
        piece_start = start;
    }
    spans.iter().map(|(start, end)| paragraph[*start..*end].trim()).filter(|sentence| !sentence.is_empty()).collect()
}

/// Whether `next` goes on with the sentence of the piece before it; `first` says that the piece opened its sentence.
fn belongs(piece: &str, first: bool, next: &str) -> bool {
    let (piece, next) = (piece.trim_end(), next.trim_start());
    let has_word = |text: &str| text.chars().any(char::is_alphanumeric);
    // A lone quote, bracket or ellipsis is part of what it stands beside.
    if !has_word(next) || (first && !has_word(piece)) {
        return true;
    }
    // "Stop!" he said.
    if next.starts_with(char::is_lowercase) {
        return true;
    }
    let Some(word) = last_word(piece).strip_suffix('.') else { return false };
    // "1. First": the number of a list, not a sentence.
    if first && piece.trim_start().len() == word.len() + 1 && word.bytes().all(|byte| byte.is_ascii_digit()) {
        return true;
    }
    LEADING.contains(&word)
        || (BEFORE_NUMBER.contains(&word) && next.starts_with(|c: char| c.is_ascii_digit()))
        || (is_initials(word) && !starts_sentence(next))
}

fn last_word(piece: &str) -> &str {
    let start = piece.char_indices().rev().find(|(_, c)| c.is_whitespace()).map_or(0, |(at, c)| at + c.len_utf8());
    piece[start..].trim_start_matches(|c: char| !c.is_alphanumeric())
}

/// "J", "J.R", "U.S", "Ph.D": capitals, each of at most two letters, between full stops.
fn is_initials(word: &str) -> bool {
    let capital =
        |part: &str| part.starts_with(char::is_uppercase) && part.chars().count() <= 2 && part.chars().all(char::is_alphabetic);
    let single = word.chars().count() == 1 || word.contains('.');
    single && word.split('.').all(capital)
}

fn starts_sentence(next: &str) -> bool {
    let word = next.trim_start_matches(|c: char| !c.is_alphanumeric()).split(|c: char| !c.is_alphanumeric()).next();
    word.is_some_and(|word| STARTERS.contains(&word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn splits(expected: &[&str]) {
        assert_eq!(sentences(&expected.join(" ")), expected);
    }

    #[test]
    fn plain_sentences() {
        splits(&["It rained.", "Did it stop?", "No!", "It went on."]);
        splits(&["One sentence without an end"]);
        assert!(sentences(" \t ").is_empty());
    }

    #[test]
    fn titles_and_abbreviations() {
        splits(&["Mr. Smith met Dr. Jones on St. James's Street.", "Mrs. Brown did not."]);
        splits(&["Bring fruit, e.g. Apples or pears.", "See cf. Brown (1990)."]);
        splits(&["It is in Vol. 3, pp. 4-7, Fig. 2.", "On Jan. 5 it ended."]);
        splits(&["Was it there?", "No.", "I looked."]);
    }

    #[test]
    fn initials_and_acronyms() {
        splits(&["J. R. R. Tolkien and J.K. Rowling wrote.", "T. S. Eliot too."]);
        assert_eq!(
            sentences("The U.S. Army came to the U.S. The rest stayed."),
            ["The U.S. Army came to the U.S.", "The rest stayed."]
        );
        assert_eq!(sentences("She has a Ph.D. It took years."), ["She has a Ph.D.", "It took years."]);
    }

    #[test]
    fn quotes_and_brackets() {
        assert_eq!(sentences("\"Stop!\" he said. \"Why?\" She left."), ["\"Stop!\" he said.", "\"Why?\"", "She left."]);
        splits(&["He left (it was late.)", "She stayed."]);
        assert_eq!(sentences("He said \"I know.\" \"No.\" She left."), ["He said \"I know.\"", "\"No.\"", "She left."]);
        assert_eq!(sentences("“Go!” cried Anna. ‘Now.’ They went."), ["“Go!” cried Anna.", "‘Now.’", "They went."]);
    }

    #[test]
    fn numbers_ellipses_and_lists() {
        splits(&["It cost $3.50 in 1990.", "Then 4.75."]);
        splits(&["Well ... perhaps.", "I think . . . that it is so."]);
        splits(&["He waited...", "Nothing came."]);
        splits(&["1. First do this.", "2. Then that."]);
        splits(&["Visit www.example.com today.", "It is free."]);
    }

    #[test]
    fn other_scripts() {
        assert_eq!(sentences("今日は晴れ。明日は雨。"), ["今日は晴れ。", "明日は雨。"]);
    }

    proptest! {
        #[test]
        fn no_text_is_lost(text in "([A-Za-z]{1,4}|[.!?\"'() ]{1,3}|Mr\\. |U\\.S\\. |[0-9]\\.|\\PC){0,40}") {
            let bare = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            let split = sentences(&text);
            prop_assert_eq!(bare(&split.concat()), bare(&text));
            prop_assert!(split.iter().all(|sentence| !sentence.is_empty() && sentence.trim() == *sentence));
        }
    }
}
