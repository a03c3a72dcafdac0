//! A batch as a person reads it: what the model sees, and under it what it is to find.

use super::Batch;
use super::objective::TokenOrder;
use crate::tokens::Tokenizer;

/// Columns of text before a line is broken.
const WIDTH: usize = 100;
/// Columns before the text, for the row's number.
const INDENT: usize = 8;

const LEGEND: &str = "to be found:  word  behind [MASK]   ~word  behind a random token   =  the token shown\n";

/// A token of a row and what stands under it.
struct Cell {
    token: String,
    under: String,
}

impl Cell {
    fn width(&self) -> usize {
        columns(&self.token).max(columns(&self.under))
    }
}

impl Batch {
    /// The first `rows` rows, a line for each sentence, with the masked words under their places:
    ///
    /// ```text
    /// row 0   [CLS] the [MASK] sat on green mat . [SEP]
    ///                   cat           ~the  =
    /// ```
    pub fn show(&self, tokenizer: &Tokenizer, rows: usize) -> String {
        let rows: String = (0..rows.min(self.rows)).map(|row| self.show_row(tokenizer, row)).collect();
        match self.order {
            TokenOrder::Bidirectional => rows + LEGEND,
            TokenOrder::Causal => rows, // what is asked is the next token
        }
    }

    fn show_row(&self, tokenizer: &Tokenizer, row: usize) -> String {
        let segments = &self.segments_bs[row * self.length..(row + 1) * self.length];
        let sentences = segments.chunk_by(|a, b| a == b).filter(|sentence| sentence[0] != 0);
        let (mut out, mut start) = (String::new(), 0);
        for sentence in sentences {
            let cells: Vec<Cell> = (start..start + sentence.len()).map(|at| self.cell(tokenizer, row, at)).collect();
            let head = if start == 0 { format!("row {row}") } else { String::new() };
            write_cells(&mut out, &head, &cells);
            start += sentence.len();
        }
        if start == 0 { format!("row {row:<4}(empty)\n") } else { out }
    }

    fn cell(&self, tokenizer: &Tokenizer, row: usize, at: usize) -> Cell {
        let input = self.input_ids_bs[row * self.length + at];
        let asked = &self.asked;
        let mut slots = row * asked.slots..(row + 1) * asked.slots;
        let is_asked = |&slot: &usize| asked.weights_bm[slot] > 0.0 && asked.places_bm[slot] as usize == at;
        let slot = slots.find(|slot| self.order == TokenOrder::Bidirectional && is_asked(slot));
        let under = match slot.map(|slot| asked.labels_bm[slot]) {
            None => String::new(),
            Some(label) if label == input => "=".to_string(),
            Some(label) if tokenizer.special().mask.is_some_and(|mask| input == mask as i32) => word(tokenizer, label),
            Some(label) => format!("~{}", word(tokenizer, label)),
        };
        Cell { token: word(tokenizer, input), under }
    }
}

/// The token of an id, whatever tokenizer it is shown with.
fn word(tokenizer: &Tokenizer, id: i32) -> String {
    match usize::try_from(id) {
        Ok(known) if known < tokenizer.vocab_size() => tokenizer.token(id as u32).to_string(),
        _ => format!("<{id}>"),
    }
}

fn write_cells(out: &mut String, head: &str, cells: &[Cell]) {
    let mut head = head;
    let mut rest = cells;
    while !rest.is_empty() {
        let (line, further) = rest.split_at(fitting(rest));
        let pick = |part: fn(&Cell) -> &str| {
            let padded: Vec<String> = line.iter().map(|cell| pad(part(cell), cell.width())).collect();
            padded.join(" ")
        };
        write_line(out, head, &pick(|cell| &cell.token));
        if line.iter().any(|cell| !cell.under.is_empty()) {
            write_line(out, "", &pick(|cell| &cell.under));
        }
        (head, rest) = ("", further);
    }
}

/// How many cells fit a line; at least one, so that a word longer than a line doesn't stop the text.
fn fitting(cells: &[Cell]) -> usize {
    let mut end = INDENT;
    let fit = cells.iter().take_while(|cell| {
        end += cell.width() + 1;
        end <= WIDTH + 1
    });
    fit.count().max(1)
}

fn write_line(out: &mut String, head: &str, text: &str) {
    let line = format!("{head:<INDENT$}{text}");
    out.push_str(line.trim_end());
    out.push('\n');
}

fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(columns(text))))
}

fn columns(text: &str) -> usize {
    text.chars().count()
}
