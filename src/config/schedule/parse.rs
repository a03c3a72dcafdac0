//! Reads the text of a schedule.
//!
//! ```text
//! schedule = piece { ", then" piece }
//! piece    = ( [number] "->" number [shape] | number ) [ ("over" | "until") span ]
//! span     = number "%" | number "steps"
//! ```

use std::str::FromStr;

use super::{EXAMPLES, End, Piece, Schedule, Shape, Span, number};
use crate::error::{Error, Result};

impl FromStr for Schedule {
    type Err = Error;

    /// Reads a schedule's text.
    ///
    /// # Errors
    /// Names the column (from 1, in characters) where the text stops making sense, and shows examples.
    fn from_str(text: &str) -> Result<Self> {
        let mut reader = Reader { text, tokens: tokens(text), next: 0 };
        let mut pieces: Vec<Piece> = Vec::new();
        loop {
            pieces.push(reader.piece(pieces.last().map(|piece| piece.to))?);
            match reader.take() {
                None => return Ok(Schedule { pieces }),
                Some(comma) if comma.text == "," => {
                    reader.word("then", "`then`")?;
                    if pieces.last().is_some_and(|piece| piece.end == End::Rest) {
                        return Err(reader.error(comma.column, "only the last piece may go without `over` or `until`"));
                    }
                }
                Some(other) => {
                    return Err(reader.error(other.column, &format!("expected `, then` or the end, found `{}`", other.text)));
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    /// The column, from 1, in characters.
    column: usize,
}

/// Cuts at blanks, and around `,`, `%` and `->`.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let (mut tokens, mut rest, mut column) = (Vec::new(), text, 1);
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("->") {
            2
        } else if first == ',' || first == '%' || first.is_whitespace() {
            first.len_utf8()
        } else {
            let stop = |(at, c): &(usize, char)| *c == ',' || *c == '%' || c.is_whitespace() || rest[*at..].starts_with("->");
            rest.char_indices().find(stop).map_or(rest.len(), |(at, _)| at)
        };
        let (token, after) = rest.split_at(length);
        if !first.is_whitespace() {
            tokens.push(Token { text: token, column });
        }
        column += token.chars().count();
        rest = after;
    }
    tokens
}

struct Reader<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
    next: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.next).map(|token| token.text)
    }

    fn take(&mut self) -> Option<Token<'a>> {
        let token = self.tokens.get(self.next).copied();
        self.next += 1;
        token
    }

    fn take_if(&mut self, text: &str) -> bool {
        let found = self.peek() == Some(text);
        self.next += usize::from(found);
        found
    }

    /// The column of the next token, or just after the text.
    fn column(&self) -> usize {
        self.tokens.get(self.next).map_or(self.text.chars().count() + 1, |token| token.column)
    }

    fn error(&self, column: usize, what: &str) -> Error {
        Error::new(format!("{what} (column {column} of \"{}\")", self.text)).help(format!("examples: {EXAMPLES}"))
    }

    fn expected(&self, what: &str) -> Error {
        let found = self.peek().map_or("the end".into(), |text| format!("`{text}`"));
        self.error(self.column(), &format!("expected {what}, found {found}"))
    }

    fn word(&mut self, word: &str, wanted: &str) -> Result<()> {
        if self.take_if(word) { Ok(()) } else { Err(self.expected(wanted)) }
    }

    fn number(&mut self, wanted: &str) -> Result<f64> {
        match self.peek().and_then(|text| text.parse::<f64>().ok()) {
            Some(value) if value.is_finite() => {
                self.next += 1;
                Ok(value)
            }
            _ => Err(self.expected(wanted)),
        }
    }

    fn piece(&mut self, last: Option<f64>) -> Result<Piece> {
        let column = self.column();
        let from = match (self.peek(), last) {
            (Some("->"), Some(last)) => last,
            (Some("->"), None) => return Err(self.error(column, "the first piece has no value to start from")),
            _ => self.number("a number")?,
        };
        if !self.take_if("->") {
            return Ok(Piece { from, to: from, shape: Shape::Hold, end: self.end()? });
        }
        let to = self.number("a number after `->`")?;
        let shape = self.shape()?;
        if shape == Shape::Exponential && (from == 0.0 || to == 0.0 || from.signum() != to.signum()) {
            let what =
                format!("an exponential can't go from {} to {}: both must have one sign and not be 0", number(from), number(to));
            return Err(self.error(column, &what));
        }
        Ok(Piece { from, to, shape, end: self.end()? })
    }

    fn shape(&mut self) -> Result<Shape> {
        match self.peek() {
            None | Some("," | "over" | "until") => Ok(Shape::Linear),
            Some(word) => match Shape::WORDS.iter().find(|(name, _)| *name == word) {
                Some((_, shape)) => {
                    self.next += 1;
                    Ok(*shape)
                }
                None => Err(self.expected("linear, cosine, exponential, `over` or `until`")),
            },
        }
    }

    fn end(&mut self) -> Result<End> {
        if self.take_if("over") {
            return Ok(End::Over(self.span()?));
        }
        if self.take_if("until") {
            return Ok(End::Until(self.span()?));
        }
        Ok(End::Rest)
    }

    fn span(&mut self) -> Result<Span> {
        let column = self.column();
        let value = self.number("a length such as `5%` or `200 steps`")?;
        if self.take_if("%") {
            if !(0.0..=100.0).contains(&value) {
                return Err(self.error(column, &format!("{}% is not between 0% and 100% of the run", number(value))));
            }
            return Ok(Span::Percent(value));
        }
        if self.take_if("steps") || self.take_if("step") {
            if value < 0.0 || value.fract() != 0.0 || value > 2f64.powi(53) {
                return Err(self.error(column, &format!("{} is not a whole number of steps", number(value))));
            }
            return Ok(Span::Steps(value as u64));
        }
        Err(self.expected("`%` or `steps`"))
    }
}
