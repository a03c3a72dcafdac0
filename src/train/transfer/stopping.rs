//! Early stopping: the best round by validation loss, and when to give up waiting for a better one.

use serde::{Deserialize, Serialize};

/// The validation losses of a phase, as they come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EarlyStopping {
    patience: u64,
    best: Option<f64>,
    since: u64,
}

/// What a round's validation loss means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The lowest so far: keep this student.
    Better,
    /// Not lower; wait.
    Worse,
    /// Not lower for as many rounds as patience allows.
    Stop,
}

impl EarlyStopping {
    /// Waits `patience` rounds for a lower loss.
    pub fn new(patience: u64) -> Self {
        Self { patience, best: None, since: 0 }
    }

    /// Takes a round's loss. Of equals the first is best; what is not a number is never better.
    pub fn see(&mut self, loss: f64) -> Verdict {
        if loss.is_finite() && self.best.is_none_or(|best| loss < best) {
            (self.best, self.since) = (Some(loss), 0);
            return Verdict::Better;
        }
        self.since += 1;
        if self.since >= self.patience { Verdict::Stop } else { Verdict::Worse }
    }

    /// The lowest loss.
    pub fn best(&self) -> Option<f64> {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constructed_curve_stops_where_it_must() {
        let mut stopping = EarlyStopping::new(3);
        let curve = [5.0, 4.0, 4.5, 4.0, 3.9, f64::NAN, 3.95, 3.9];
        let verdicts = curve.map(|loss| stopping.see(loss));
        use Verdict::{Better, Stop, Worse};
        assert_eq!(verdicts, [Better, Better, Worse, Worse, Better, Worse, Worse, Stop]);
        assert_eq!(stopping.best(), Some(3.9));
    }

    #[test]
    fn nothing_finite_is_never_best() {
        let mut stopping = EarlyStopping::new(2);
        assert_eq!([f64::INFINITY, f64::NAN].map(|loss| stopping.see(loss)), [Verdict::Worse, Verdict::Stop]);
        assert_eq!(stopping.best(), None);
    }
}
