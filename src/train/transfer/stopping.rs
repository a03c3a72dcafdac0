//! Early stopping: the best round by validation loss, and when to give up waiting for a better one.

use serde::{Deserialize, Serialize};

/// The validation losses of a phase, as they come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EarlyStopping {
    patience: u64,
    #[serde(with = "exact")]
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

/// A number as text that reads back to the bit: JSON's numbers are read to within a unit in the last place, and a phase
/// that goes on compares with this one.
mod exact {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        /// As older versions wrote it.
        Number(f64),
    }

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub fn serialize<S: Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
        value.map(|value| format!("{value:?}")).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
        let written = Option::<Written>::deserialize(from)?;
        let number = |written| match written {
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
            Written::Number(number) => Ok(number),
        };
        written.map(number).transpose()
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
    fn a_phase_that_goes_on_compares_with_the_very_loss() {
        for bits in [0x3fe3_3333_3333_3334, 0x3fb9_9999_9999_999a, 0x4005_bf0a_8b14_5769, 0x3fd5_5555_5555_5555] {
            let stopping = EarlyStopping { patience: 3, best: Some(f64::from_bits(bits)), since: 1 };
            let text = serde_json::to_string(&stopping).unwrap();
            assert_eq!(serde_json::from_str::<EarlyStopping>(&text).unwrap(), stopping, "{text}");
        }
        let older = r#"{"patience": 3, "best": 0.5, "since": 1}"#;
        assert_eq!(serde_json::from_str::<EarlyStopping>(older).unwrap().best, Some(0.5));
        assert_eq!(serde_json::from_str::<EarlyStopping>(&older.replace("0.5", "null")).unwrap().best, None);
    }

    #[test]
    fn nothing_finite_is_never_best() {
        let mut stopping = EarlyStopping::new(2);
        assert_eq!([f64::INFINITY, f64::NAN].map(|loss| stopping.see(loss)), [Verdict::Worse, Verdict::Stop]);
        assert_eq!(stopping.best(), None);
    }
}
