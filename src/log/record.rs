//! What is known after one optimizer step, and at the end of a run.

use serde::{Deserialize, Deserializer, Serialize};

/// One optimizer step: a line of `steps.jsonl`, a point in TensorBoard, a mark on the console.
///
/// Losses are in nats a masked token. A number that is not finite is written as `null` and read back as NaN.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct StepRecord {
    /// Index of the step, from 0.
    pub step: u64,
    /// What was minimised: `alpha_hard * loss_hard + alpha_soft * loss_soft`.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// Cross-entropy against the masked tokens (equation 1).
    #[serde(deserialize_with = "null_is_nan")]
    pub loss_hard: f64,
    /// Divergence from the teacher (equation 2); none without a teacher.
    pub loss_soft: Option<f64>,
    /// Weight of the hard loss at this step.
    #[serde(deserialize_with = "null_is_nan")]
    pub alpha_hard: f64,
    /// Weight of the soft loss at this step.
    pub alpha_soft: Option<f64>,
    /// Temperature of both distributions in the soft loss.
    pub temperature: Option<f64>,
    /// Learning rate.
    #[serde(deserialize_with = "null_is_nan")]
    pub lr: f64,
    /// Global norm of the gradient before clipping.
    #[serde(deserialize_with = "null_is_nan")]
    pub grad_norm: f64,
    /// Real tokens (no padding) trained on, a second.
    #[serde(deserialize_with = "null_is_nan")]
    pub tokens_per_s: f64,
    /// Share of the device's peak arithmetic that the model's own FLOPs come to, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mfu: Option<f64>,
    /// Loss over the held-out sentences, on the steps that measure it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out_loss: Option<f64>,
}

impl StepRecord {
    /// The record's numbers that are there, by TensorBoard tag.
    pub fn scalars(&self) -> impl Iterator<Item = (&'static str, f64)> {
        [
            ("loss/total", Some(self.loss)),
            ("loss/hard", Some(self.loss_hard)),
            ("loss/soft", self.loss_soft),
            ("distill/alpha_hard", Some(self.alpha_hard)),
            ("distill/alpha_soft", self.alpha_soft),
            ("distill/temperature", self.temperature),
            ("train/lr", Some(self.lr)),
            ("train/grad_norm", Some(self.grad_norm)),
            ("speed/tokens_per_s", Some(self.tokens_per_s)),
            ("speed/mfu", self.mfu),
            ("held_out/loss", self.held_out_loss),
        ]
        .into_iter()
        .filter_map(|(tag, value)| value.map(|value| (tag, value)))
    }
}

/// What a finished run came to: `summary.json`. A run directory without it is unfinished.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Summary {
    /// Optimizer steps done.
    pub steps: u64,
    /// Loss over the held-out sentences at the end, in nats a masked token.
    pub held_out_loss: Option<f64>,
    /// Training loss at the end.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// Mean over the run.
    #[serde(deserialize_with = "null_is_nan")]
    pub tokens_per_s: f64,
    /// Wall time of the training.
    #[serde(deserialize_with = "null_is_nan")]
    pub seconds: f64,
    /// The run directory.
    pub run: String,
}

fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn record(step: u64) -> StepRecord {
        StepRecord {
            step,
            loss: 4.5,
            loss_hard: 4.0,
            loss_soft: Some(0.5),
            alpha_hard: 1.0,
            alpha_soft: Some(1.0),
            temperature: Some(2.0),
            lr: 5e-4,
            grad_norm: 1.25,
            tokens_per_s: 12345.0,
            mfu: None,
            held_out_loss: None,
        }
    }

    #[test]
    fn a_record_is_one_line_with_the_documented_names() {
        let line = serde_json::to_string(&StepRecord { held_out_loss: Some(4.25), loss_soft: None, ..record(7) }).unwrap();
        insta::assert_snapshot!(line, @r#"{"step":7,"loss":4.5,"loss_hard":4.0,"loss_soft":null,"alpha_hard":1.0,"alpha_soft":1.0,"temperature":2.0,"lr":0.0005,"grad_norm":1.25,"tokens_per_s":12345.0,"held_out_loss":4.25}"#);
        assert_eq!(
            serde_json::from_str::<StepRecord>(&line).unwrap(),
            StepRecord { held_out_loss: Some(4.25), loss_soft: None, ..record(7) }
        );
    }

    #[test]
    fn a_number_that_is_not_finite_can_be_read_back() {
        let line = serde_json::to_string(&StepRecord { tokens_per_s: f64::INFINITY, ..record(0) }).unwrap();
        assert!(serde_json::from_str::<StepRecord>(&line).unwrap().tokens_per_s.is_nan(), "{line}");
    }

    #[test]
    fn scalars_leave_out_what_is_not_known() {
        let alone = StepRecord { loss_soft: None, alpha_soft: None, temperature: None, ..record(0) };
        let tags: Vec<_> = alone.scalars().map(|(tag, _)| tag).collect();
        assert_eq!(tags, ["loss/total", "loss/hard", "distill/alpha_hard", "train/lr", "train/grad_norm", "speed/tokens_per_s"]);
    }
}
