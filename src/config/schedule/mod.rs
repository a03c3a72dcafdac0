//! One type for everything that changes over a run: the learning rate, each loss weight, the temperature.

mod parse;
#[cfg(test)]
mod tests;

use std::f64::consts::PI;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::error::{Error, Result};

/// Ways to write a schedule, for help texts.
pub const EXAMPLES: &str = "2.0, \"4 -> 1 linear\", \"1 -> 0.1 cosine over 60%\", \"4 until 50%, then 1\", \
                            \"0 -> 5e-4 over 200 steps, then -> 0 linear\"";

/// A value over a run, in pieces joined by `, then`.
///
/// | Written | Means |
/// |---|---|
/// | `2.0` | that value throughout |
/// | `4 -> 1` or `4 -> 1 linear` | from 4 to 1, evenly |
/// | `4 -> 1 cosine` | along half a cosine: slow, fast, slow |
/// | `1 -> 0.1 exponential` | by the same factor every step |
/// | `... over 5%`, `... over 200 steps` | this piece lasts so long |
/// | `... until 50%`, `... until 1000 steps` | this piece lasts to that point of the run |
/// | `..., then -> 0` | goes on from the last value |
///
/// A piece without `over` or `until` takes the rest of the run (only the last may do so), and the last value holds to
/// the end.
///
/// **End points.** A piece from A to B that begins at step p and lasts n steps gives
/// `A + (B - A) * (step - p) / max(1, n)` while `step - p < n` (steps count from 0, and the value at `step` is the one
/// used by that update); from `p + n` on the next piece counts. So `0 -> x over w steps, then -> 0 linear` is
/// `x * step / max(1, w)` and then `x * (total - step) / max(1, total - w)`: Hugging Face's
/// `get_linear_schedule_with_warmup`, and DistilBERT's training. The first update of such a warm-up has rate 0, and the
/// last one of the run is one step short of 0. A share of the run is rounded up to whole steps, as DistilBERT does.
///
/// # Examples
/// ```
/// let soft: upstill::config::Schedule = "4 -> 1 linear".parse()?;
/// assert_eq!(soft.at(0, 100), 4.0);
/// assert_eq!(soft.at(50, 100), 2.5);
/// # Ok::<(), upstill::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Never empty; only the last ends with [`End::Rest`]; each starts from a known value.
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Piece {
    from: f64,
    to: f64,
    shape: Shape,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    Hold,
    Linear,
    Cosine,
    Exponential,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// With the run.
    Rest,
    /// So long after the piece's start.
    Over(Span),
    /// At this point of the run.
    Until(Span),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Span {
    /// Of the run, 0 to 100.
    Percent(f64),
    Steps(u64),
}

impl Schedule {
    /// One value from the first step to the last.
    pub fn constant(value: f64) -> Self {
        Schedule { pieces: vec![Piece { from: value, to: value, shape: Shape::Hold, end: End::Rest }] }
    }

    /// The value if it never changes.
    pub fn as_constant(&self) -> Option<f64> {
        let (min, max) = self.bounds();
        (min == max).then_some(min)
    }

    /// The value used at update `step` (0-based) of `total`.
    pub fn at(&self, step: u64, total: u64) -> f64 {
        for (piece, start, end) in self.placed(total) {
            if step < end {
                return piece.value((step - start) as f64 / (end - start) as f64);
            }
        }
        self.pieces[self.pieces.len() - 1].to
    }

    /// The least and the greatest value, end points included.
    pub fn bounds(&self) -> (f64, f64) {
        let ends = self.pieces.iter().flat_map(|piece| [piece.from, piece.to]);
        ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), value| (min.min(value), max.max(value)))
    }

    /// The step of `total` from which on the value is the last one and changes no more.
    pub fn settles_at(&self, total: u64) -> u64 {
        let (piece, start, end) = self.placed(total).last().expect("a schedule has a piece");
        if piece.shape == Shape::Hold { start } else { end }
    }

    /// The mean over the steps of a run, of many of them where there are more.
    pub fn mean(&self, total: u64) -> f64 {
        const SEEN: u64 = 1 << 12;
        let (seen, total) = (total.clamp(1, SEEN), total.max(1));
        let at = |i: u64| self.at((u128::from(i) * u128::from(total) / u128::from(seen)) as u64, total);
        (0..seen).map(at).sum::<f64>() / seen as f64
    }

    /// Whether every piece has room in a run of `total` steps.
    ///
    /// # Errors
    /// Names the piece (a warm-up, say) that ends after the run, or before it begins.
    pub fn fits(&self, total: u64) -> Result<()> {
        for (index, (piece, start, end)) in self.placed(total).enumerate() {
            let text = self.piece_text(index);
            if end > total {
                return Err(Error::new(format!("`{text}` ends at step {end}, but the run has {total} steps"))
                    .help("make the piece shorter or the run longer; `over 5%` follows the run's length"));
            }
            if let End::Until(span) = piece.end
                && span.of(total) < start
            {
                return Err(Error::new(format!("`{text}` ends before it begins, which is at step {start} of {total}"))
                    .help("`until` is counted from the start of the run; use `over` for the length of a piece"));
            }
        }
        Ok(())
    }

    /// Each piece with its first step and the step after its last.
    fn placed(&self, total: u64) -> impl Iterator<Item = (&Piece, u64, u64)> {
        // Percents are summed before rounding, so that shares which make 100 % end with the run.
        let (mut percent, mut steps, mut start) = (0.0, 0u64, 0u64);
        self.pieces.iter().map(move |piece| {
            match piece.end {
                End::Rest => (percent, steps) = (0.0, total),
                End::Over(Span::Percent(more)) => percent += more,
                End::Over(Span::Steps(more)) => steps = steps.saturating_add(more),
                End::Until(Span::Percent(at)) => (percent, steps) = (at, 0),
                End::Until(Span::Steps(at)) => (percent, steps) = (0.0, at),
            }
            let begin = start;
            start = Span::Percent(percent).of(total).saturating_add(steps).max(begin);
            (piece, begin, start)
        })
    }

    fn piece_text(&self, index: usize) -> String {
        let piece = &self.pieces[index];
        let goes_on = index > 0 && self.pieces[index - 1].to == piece.from;
        let (from, to) = (number(piece.from), number(piece.to));
        let values = match (piece.shape, goes_on) {
            (Shape::Hold, _) => to,
            (shape, true) => format!("-> {to} {}", shape.word()),
            (shape, false) => format!("{from} -> {to} {}", shape.word()),
        };
        match piece.end {
            End::Rest => values,
            End::Over(span) => format!("{values} over {span}"),
            End::Until(span) => format!("{values} until {span}"),
        }
    }
}

impl Piece {
    /// The value at a share `done` in `[0, 1)` of the piece. No difference or ratio is formed, so none overflows.
    fn value(&self, done: f64) -> f64 {
        let Piece { from, to, .. } = *self;
        let between = |share: f64| from * (1.0 - share) + to * share;
        match self.shape {
            Shape::Hold => to,
            Shape::Linear => between(done),
            Shape::Cosine => between(0.5 * (1.0 - (PI * done).cos())),
            Shape::Exponential => from.signum() * from.abs().powf(1.0 - done) * to.abs().powf(done),
        }
    }
}

impl Shape {
    const WORDS: [(&'static str, Shape); 3] =
        [("linear", Shape::Linear), ("cosine", Shape::Cosine), ("exponential", Shape::Exponential)];

    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, shape)| *shape == self).map_or("", |(word, _)| word)
    }
}

impl Span {
    /// In steps of a run of `total`, shares rounded up; the millionth of a step forgives binary fractions.
    fn of(self, total: u64) -> u64 {
        match self {
            Span::Percent(percent) => (percent * total as f64 / 100.0 - 1e-6).ceil().max(0.0) as u64,
            Span::Steps(steps) => steps,
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Span::Percent(percent) => write!(f, "{}%", number(*percent)),
            Span::Steps(1) => f.write_str("1 step"),
            Span::Steps(steps) => write!(f, "{steps} steps"),
        }
    }
}

/// The canonical text; reading it gives an equal schedule.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for index in 0..self.pieces.len() {
            f.write_str(if index > 0 { ", then " } else { "" })?;
            f.write_str(&self.piece_text(index))?;
        }
        Ok(())
    }
}

/// A number as a person writes it: `0.1`, `5e-4`, `1000`; reading it gives the same bits.
pub(super) fn number(value: f64) -> String {
    let (plain, scientific) = (format!("{value}"), format!("{value:e}"));
    let familiar = (1.0..1e7).contains(&value.abs());
    if familiar || plain.len() <= scientific.len() + 1 { plain } else { scientific }
}

impl From<f64> for Schedule {
    fn from(value: f64) -> Self {
        Schedule::constant(value)
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.pieces[..] {
            [Piece { to, shape: Shape::Hold, end: End::Rest, .. }] => serializer.serialize_f64(to),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrText;
        impl Visitor<'_> for NumberOrText {
            type Value = Schedule;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a number or a schedule ({EXAMPLES})")
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Schedule, E> {
                if value.is_finite() { Ok(value.into()) } else { Err(E::custom("a schedule's values are finite")) }
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Schedule, E> {
                Ok((value as f64).into())
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Schedule, E> {
                Ok((value as f64).into())
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Schedule, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(NumberOrText)
    }
}
