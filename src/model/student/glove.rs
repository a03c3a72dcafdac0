//! Word vectors from a GloVe text file (Pennington et al. 2014): a word and its numbers a line, separated by spaces.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use super::Student;
use crate::error::{Error, IoContext, Result};
use crate::model::weights::Weights;

/// The vectors of those words of a vocabulary that the file has.
#[derive(Debug, Clone, PartialEq)]
pub struct Glove {
    rows: HashMap<usize, Vec<f32>>,
}

impl Glove {
    /// Reads the vectors, `width` numbers each, of the words in `vocab`. Of a word that comes twice the first counts. A
    /// first line of two numbers (word2vec's header) is passed over; words may hold spaces.
    ///
    /// # Errors
    /// When the file can't be read, a line has another number of numbers, or one of them is none; the line is named.
    pub fn read(path: &Path, width: usize, vocab: &[String]) -> Result<Self> {
        let wanted: HashMap<&str, usize> = vocab.iter().enumerate().map(|(id, word)| (word.as_str(), id)).collect();
        let mut lines = BufReader::new(File::open(path).doing("open", path)?);
        let (mut rows, mut line, mut number) = (HashMap::new(), Vec::new(), 0);
        loop {
            line.clear();
            if lines.read_until(b'\n', &mut line).doing("read", path)? == 0 {
                return Ok(Self { rows });
            }
            number += 1;
            let place = |error: Error| error.at(format!("{}:{number}", path.display()));
            let text = std::str::from_utf8(&line).map_err(|_| {
                place(Error::new("the line is not UTF-8").help("fetch the file again: it may have been cut short"))
            })?;
            let text = text.trim_end_matches(['\n', '\r', ' ']);
            if text.is_empty() || number == 1 && is_header(text) {
                continue;
            }
            let (word, numbers) = split(text, width).map_err(place)?;
            if let Some(&id) = wanted.get(word) {
                let row = numbers.iter().map(|text| text.parse::<f32>().ok().filter(|x| x.is_finite()));
                let row: Option<Vec<f32>> = row.collect();
                let row = row.ok_or_else(|| {
                    let odd = numbers.iter().find(|text| !text.parse::<f32>().is_ok_and(f32::is_finite));
                    place(Error::new(format!("{:?} is no number", odd.unwrap_or(&""))).help("mend or remove the line"))
                })?;
                rows.entry(id).or_insert(row);
            }
        }
    }

    /// How many words of the vocabulary have a vector.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no word has.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A student with these vectors in place of those it drew; words without one keep theirs.
    ///
    /// # Errors
    /// When the student has no word vectors, or of another width.
    pub fn put_into(&self, student: Student) -> Result<Student> {
        let name = "bilstm.words.weight";
        let mut weights = Weights::of(&student);
        let Some(mut table) = weights.get(name).cloned() else {
            return Err(Error::new("word vectors are for a BiLSTM student").help("leave out model.glove"));
        };
        let width = table.shape[1];
        for (&id, row) in &self.rows {
            if row.len() != width || id >= table.shape[0] {
                return Err(Error::new(format!("the vectors are {} wide, and the student's words {width}", row.len()))
                    .help(format!("write model.words = {}", row.len())));
            }
            table.values[id * width..][..width].copy_from_slice(row);
        }
        weights.insert(name, table);
        weights.load_into(student)
    }
}

fn is_header(text: &str) -> bool {
    let fields: Vec<&str> = text.split(' ').collect();
    fields.len() == 2 && fields.iter().all(|field| field.parse::<u64>().is_ok())
}

/// The word and its numbers: the last `width` fields. A word may hold spaces, but not look like more numbers.
fn split(text: &str, width: usize) -> Result<(&str, Vec<&str>)> {
    let mut fields: Vec<&str> = text.rsplitn(width + 1, ' ').collect();
    let word = fields.pop().unwrap_or_default();
    fields.reverse();
    let found = text.split(' ').skip(1).filter(|field| field.parse::<f32>().is_ok()).count();
    let extra = word.rsplit(' ').next().filter(|_| word.contains(' ')).is_some_and(|last| last.parse::<f32>().is_ok());
    if fields.len() < width || word.is_empty() || extra && found > width {
        return Err(Error::new(format!("the line has {found} numbers, and a word vector {width}"))
            .help(format!("write model.words = {found} if all lines are like it, else mend or remove the line")));
    }
    Ok((word, fields))
}
