//! A value of its own for each arm, the learning rate above all: which ones are tried, and which is taken.
//!
//! A rate is chosen before the study's seeds are run, on seeds and held-out rows that no result uses; trials are cells
//! like others.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// `[tune]` of a study file: what a placeholder stands for is tried out for each teacher and arm that has it, on seeds
/// and held-out rows that the study itself does not use, and the value with the lowest held-out loss at the end is
/// taken for all its seeds.
///
/// It is never a value at an edge of those tried: the grid grows there by the same factor until the best has worse ones
/// on both sides.
///
/// ```toml
/// [tune]
/// name   = "lr"                  # stands for {lr}, as in lr = "0 -> {lr} over 15%, then -> 0 linear"
/// values = [2.5e-3, 5e-3, 1e-2]
/// seeds  = [1001]
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuneSpec {
    /// The placeholder, without its braces.
    pub name: String,
    /// The values to begin with, above 0, two or more.
    pub values: Vec<f64>,
    /// Seeds that every value is tried with, none of which is one of the study's; the mean of their losses counts.
    pub seeds: Vec<u64>,
    /// Steps of a trial; an arm's own number unless written, and never more than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Held-out rows of a trial: those that come after the rows of the end point. As many as there unless written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<usize>,
    /// How many values may be added to an arm's grid.
    #[serde(default = "grow")]
    pub grow: usize,
}

fn grow() -> usize {
    5
}

impl TuneSpec {
    /// `{NAME}`: what stands in the run file.
    pub(super) fn placeholder(&self) -> String {
        format!("{{{}}}", self.name)
    }

    /// A text with the value in the placeholder's place.
    pub(super) fn fill(&self, text: &str, value: f64) -> String {
        text.replace(&self.placeholder(), &value.to_string())
    }
}

/// The values of one arm: tried, or to be tried.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Grid {
    /// In rising order, with the loss where it was tried; infinity for one that did not train.
    pub values: Vec<(f64, Option<f64>)>,
    grown: usize,
}

/// What to do with a grid.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Try these.
    Try(Vec<f64>),
    /// The best is known, and is at no edge.
    Take(f64),
}

impl Grid {
    pub fn new(tune: &TuneSpec) -> Self {
        let mut values = tune.values.clone();
        values.sort_by(f64::total_cmp);
        values.dedup();
        Self { values: values.into_iter().map(|value| (value, None)).collect(), grown: 0 }
    }

    /// What came of a value.
    pub fn tell(&mut self, value: f64, loss: f64) {
        if let Some((_, known)) = self.values.iter_mut().find(|(tried, _)| *tried == value) {
            *known = Some(if loss.is_finite() { loss } else { f64::INFINITY });
        }
    }

    /// The values that are not tried yet; when there are none, the best, or, where that is at an edge, one more.
    ///
    /// # Errors
    /// When the grid has grown so often that something else is wrong.
    pub fn next(&mut self, arm: &str, tune: &TuneSpec) -> Result<Next> {
        let untried: Vec<f64> = self.values.iter().filter(|(_, loss)| loss.is_none()).map(|(value, _)| *value).collect();
        if !untried.is_empty() {
            return Ok(Next::Try(untried));
        }
        let loss = |at: usize| self.values[at].1.unwrap_or(f64::INFINITY);
        let last = self.values.len() - 1;
        let best = (0..=last).reduce(|best, at| if loss(at) < loss(best) { at } else { best }).unwrap_or(0);
        let (at, neighbour) = match best {
            0 => (0, 1),
            best if best == last => (last, last - 1),
            best => return Ok(Next::Take(self.values[best].0)),
        };
        if self.grown == tune.grow {
            let tried: Vec<String> = self.values.iter().map(|(value, loss)| shown(*value, *loss)).collect();
            return Err(Error::new(format!(
                "{arm:?}: the best {} is still at the edge after {} more values were tried: {}",
                tune.name,
                self.grown,
                tried.join(", ")
            ))
            .help("give [tune] values around it, or a larger `grow`"));
        }
        self.grown += 1;
        let more = rounded(self.values[at].0 * self.values[at].0 / self.values[neighbour].0);
        self.values.insert(if at == 0 { 0 } else { last + 1 }, (more, None));
        Ok(Next::Try(vec![more]))
    }
}

fn shown(value: f64, loss: Option<f64>) -> String {
    match loss {
        Some(loss) if loss.is_finite() => format!("{value} ({loss:.4})"),
        _ => format!("{value} (did not train)"),
    }
}

/// To 6 digits, so that a grid's values stay readable.
fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tune(values: &[f64], grow: usize) -> TuneSpec {
        TuneSpec { name: "lr".into(), values: values.to_vec(), seeds: vec![1001], steps: None, rows: None, grow }
    }

    /// Asks a grid until it has an answer.
    fn chosen(tune: &TuneSpec, loss: impl Fn(f64) -> f64) -> Result<(f64, Vec<f64>)> {
        let mut grid = Grid::new(tune);
        loop {
            match grid.next("soft 1", tune)? {
                Next::Try(values) => values.into_iter().for_each(|value| grid.tell(value, loss(value))),
                Next::Take(value) => return Ok((value, grid.values.iter().map(|(value, _)| *value).collect())),
            }
        }
    }

    #[test]
    fn a_grid_grows_at_either_edge_until_the_best_is_inside() {
        let distance_from = |best: f64| move |value: f64| (value / best).ln().abs();
        let three = tune(&[1e-2, 2.5e-3, 5e-3], 5);
        assert_eq!(chosen(&three, distance_from(5e-3)).unwrap(), (5e-3, vec![2.5e-3, 5e-3, 1e-2]));
        assert_eq!(chosen(&three, distance_from(2e-2)).unwrap(), (2e-2, vec![2.5e-3, 5e-3, 1e-2, 2e-2, 4e-2]));
        assert_eq!(chosen(&three, distance_from(1e-3)).unwrap().0, 1.25e-3);
        let only_low_ones_train = |value: f64| if value > 1e-3 { f64::NAN } else { 1.0 / value };
        assert_eq!(chosen(&three, only_low_ones_train).unwrap().0, 6.25e-4, "what did not train is worse than all that did");
    }

    #[test]
    fn a_grid_without_an_end_is_an_error_with_what_was_tried() {
        let error = chosen(&tune(&[1.0, 2.0], 2), |value| 1.0 / value).unwrap_err();
        insta::assert_snapshot!(error, @r#"
        "soft 1": the best lr is still at the edge after 2 more values were tried: 1 (1.0000), 2 (0.5000), 4 (0.2500), 8 (0.1250)
        help: give [tune] values around it, or a larger `grow`
        "#);
    }

    #[test]
    fn what_a_placeholder_stands_for_is_written_plainly() {
        assert_eq!(tune(&[1.0, 2.0], 0).fill("0 -> {lr} over 5%", 2.5e-4), "0 -> 0.00025 over 5%");
    }
}
