//! What is known after one optimizer step, and at the end of a run.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::files::manifest::Hashes;

/// One optimizer step: a line of `steps.jsonl`, a point in TensorBoard, a mark on the console.
///
/// Losses are in nats a token: those that a model is asked for, the masked ones, or of a causal model all. A number
/// that is not finite is written as `null` and read back as NaN. Of several models that train together, each has its
/// numbers in `models`, and those of the first stand above them too.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct StepRecord {
    /// Index of the step, from 0.
    pub step: u64,
    /// What was minimised: `alpha_hard * loss_hard + alpha_soft * loss_soft`, and losses between layers by their
    /// weights.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// Cross-entropy against the tokens that are asked for (equation 1).
    #[serde(deserialize_with = "null_is_nan")]
    pub loss_hard: f64,
    /// Divergence from the teacher (equation 2); none without a teacher. Of several soft losses, their mean by weight.
    pub loss_soft: Option<f64>,
    /// Weight of the hard loss at this step.
    #[serde(deserialize_with = "null_is_nan")]
    pub alpha_hard: f64,
    /// Weight of the soft loss at this step; of several soft losses, their sum.
    pub alpha_soft: Option<f64>,
    /// Temperature of both distributions in the soft loss; none when several soft losses have different ones.
    pub temperature: Option<f64>,
    /// The losses between layers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<FeatureRecord>,
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
    /// The fixed teacher's loss over them, on the same steps, where the soft weight depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_held_out_loss: Option<f64>,
    /// Each model's numbers, where several train together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelRecord>,
    /// Share of asked tokens where two models (or a model and the teacher) have the same most likely
    /// candidate, by their names, `large/small`; on the steps that measure it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub agreement: BTreeMap<String, f64>,
}

/// One model's numbers at a step, where several train together.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ModelRecord {
    /// The model's name.
    pub name: String,
    /// What it minimised: its weighted hard loss and its weighted soft losses.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// Cross-entropy against the tokens that are asked for.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss_hard: f64,
    /// Weight of its hard loss.
    #[serde(deserialize_with = "null_is_nan")]
    pub alpha_hard: f64,
    /// Its soft losses, by whom it learns from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<SoftRecord>,
    /// Its losses between layers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<FeatureRecord>,
    /// Its learning rate.
    #[serde(deserialize_with = "null_is_nan")]
    pub lr: f64,
    /// Global norm of its gradient before clipping.
    #[serde(deserialize_with = "null_is_nan")]
    pub grad_norm: f64,
    /// Its loss over the held-out sentences, on the steps that measure it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out_loss: Option<f64>,
}

/// A soft loss at a step: what one model learnt from another.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct SoftRecord {
    /// The name of the model, or `teacher`, that it learns from.
    pub name: String,
    /// Divergence from its predictions; none where the weight is 0.
    pub loss_soft: Option<f64>,
    /// Weight.
    #[serde(deserialize_with = "null_is_nan")]
    pub alpha_soft: f64,
    /// Temperature of both distributions.
    #[serde(deserialize_with = "null_is_nan")]
    pub temperature: f64,
}

/// A loss between a student's layers and its teacher's, at a step.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct FeatureRecord {
    /// What is compared: `cosine`.
    pub name: String,
    /// The loss; none where the weight is 0.
    pub loss: Option<f64>,
    /// Weight.
    #[serde(deserialize_with = "null_is_nan")]
    pub alpha: f64,
}

impl ModelRecord {
    /// The weights of its soft losses, added.
    pub fn alpha_soft(&self) -> Option<f64> {
        self.from.iter().map(|soft| soft.alpha_soft).reduce(|a, b| a + b)
    }

    /// Its soft losses' mean by weight: `loss` is `alpha_hard * loss_hard + alpha_soft * loss_soft` with it.
    pub fn loss_soft(&self) -> Option<f64> {
        let found: Vec<(f64, f64)> = self.from.iter().filter_map(|soft| Some((soft.loss_soft?, soft.alpha_soft))).collect();
        match found[..] {
            [] => None,
            [(loss, _)] => Some(loss),
            _ => Some(found.iter().map(|(loss, alpha)| loss * alpha).sum::<f64>() / self.alpha_soft()?),
        }
    }

    /// The temperature that all its soft losses have.
    pub fn temperature(&self) -> Option<f64> {
        let first = self.from.first()?.temperature;
        self.from.iter().all(|soft| soft.temperature == first).then_some(first)
    }
}

impl StepRecord {
    /// This step as the model of this name saw it; `None` when no such model was trained.
    pub fn of(&self, model: &str) -> Option<Self> {
        let own = self.models.iter().find(|own| own.name == model)?;
        Some(Self {
            loss: own.loss,
            loss_hard: own.loss_hard,
            loss_soft: own.loss_soft(),
            alpha_hard: own.alpha_hard,
            alpha_soft: own.alpha_soft(),
            temperature: own.temperature(),
            features: own.features.clone(),
            lr: own.lr,
            grad_norm: own.grad_norm,
            held_out_loss: own.held_out_loss,
            ..self.clone()
        })
    }

    /// The record's numbers that are there, by TensorBoard tag. Several models' have their names before:
    /// `large/loss/hard`.
    pub fn scalars(&self) -> impl Iterator<Item = (Cow<'static, str>, f64)> {
        let speed = [("speed/tokens_per_s", Some(self.tokens_per_s)), ("speed/mfu", self.mfu)];
        let one = [
            ("loss/total", Some(self.loss)),
            ("loss/hard", Some(self.loss_hard)),
            ("loss/soft", self.loss_soft),
            ("distill/alpha_hard", Some(self.alpha_hard)),
            ("distill/alpha_soft", self.alpha_soft),
            ("distill/temperature", self.temperature),
            ("train/lr", Some(self.lr)),
            ("train/grad_norm", Some(self.grad_norm)),
        ];
        let one = one
            .into_iter()
            .chain(speed)
            .chain([("held_out/loss", self.held_out_loss), ("held_out/teacher_loss", self.teacher_held_out_loss)]);
        let one = one.filter(|(tag, _)| self.models.is_empty() || tag.starts_with("speed/"));
        let one = one.map(|(tag, value)| (Cow::Borrowed(tag), value));
        let agreement = self.agreement.iter().map(|(pair, share)| (Cow::Owned(format!("agreement/{pair}")), Some(*share)));
        let of_feature = |feature: &FeatureRecord| {
            let tag = |what: &str| Cow::Owned(format!("{what}{}", feature.name));
            [(tag("loss/"), feature.loss), (tag("distill/alpha_"), Some(feature.alpha))]
        };
        let features = self.features.iter().flat_map(of_feature);
        let all = one.chain(features).chain(self.models.iter().flat_map(ModelRecord::scalars)).chain(agreement);
        all.filter_map(|(tag, value)| value.map(|value| (tag, value)))
    }
}

impl ModelRecord {
    fn scalars(&self) -> Vec<(Cow<'static, str>, Option<f64>)> {
        let tag = |what: &str| Cow::Owned(format!("{}/{what}", self.name));
        let mut all = vec![
            (tag("loss/total"), Some(self.loss)),
            (tag("loss/hard"), Some(self.loss_hard)),
            (tag("distill/alpha_hard"), Some(self.alpha_hard)),
            (tag("train/lr"), Some(self.lr)),
            (tag("train/grad_norm"), Some(self.grad_norm)),
            (tag("held_out/loss"), self.held_out_loss),
        ];
        for soft in &self.from {
            all.push((tag(&format!("loss/soft_from_{}", soft.name)), soft.loss_soft));
            all.push((tag(&format!("distill/alpha_soft_from_{}", soft.name)), Some(soft.alpha_soft)));
            all.push((tag(&format!("distill/temperature_from_{}", soft.name)), Some(soft.temperature)));
        }
        all
    }
}

/// What a finished run came to: `summary.json`. A run directory without it is unfinished.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Summary {
    /// Optimizer steps done.
    pub steps: u64,
    /// Loss over the held-out sentences at the end, in nats a token.
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
    /// Losses on the other held-out sets that the plan names, at the end, in nats a token.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held_out: BTreeMap<String, f64>,
    /// Each model's, where several were trained together; those of the first stand above too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelSummary>,
    /// Agreement between models at the end, as in [`StepRecord`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub agreement: BTreeMap<String, f64>,
    /// blake3 of `steps.jsonl` and of the models' files, by their paths in the run directory; none of runs of older
    /// versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: Hashes,
}

/// What one of several models came to.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ModelSummary {
    /// The model's name: it lies in the run's `model/NAME/`.
    pub name: String,
    /// Loss over the held-out sentences at the end, in nats a token.
    pub held_out_loss: Option<f64>,
    /// Training loss at the end.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// Losses on other held-out sets, as in [`Summary`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held_out: BTreeMap<String, f64>,
}

impl Summary {
    /// The held-out loss of the model of this name, where several were trained; else the run's.
    pub fn held_out_loss_of(&self, model: Option<&str>) -> Option<f64> {
        match model {
            Some(model) => self.models.iter().find(|own| own.name == model)?.held_out_loss,
            None => self.held_out_loss,
        }
    }
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
            features: Vec::new(),
            lr: 5e-4,
            grad_norm: 1.25,
            tokens_per_s: 12345.0,
            mfu: None,
            held_out_loss: None,
            teacher_held_out_loss: None,
            models: Vec::new(),
            agreement: BTreeMap::new(),
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

    fn of_two_models() -> StepRecord {
        let soft =
            |name: &str, loss, alpha| SoftRecord { name: name.into(), loss_soft: loss, alpha_soft: alpha, temperature: 2.0 };
        let model = |name: &str, loss, from| ModelRecord {
            name: name.into(),
            loss,
            loss_hard: 4.0,
            alpha_hard: 1.0,
            from,
            features: Vec::new(),
            lr: 1e-3,
            grad_norm: 1.0,
            held_out_loss: Some(3.5),
        };
        let large = model("large", 5.5, vec![soft("small", Some(0.5), 1.0), soft("teacher", Some(1.0), 1.0)]);
        let small = model("small", 4.0, vec![soft("large", None, 0.0)]);
        StepRecord { models: vec![large, small], agreement: BTreeMap::from([("large/small".into(), 0.25)]), ..record(3) }
    }

    #[test]
    fn several_models_have_their_own_numbers_in_one_line() {
        let line = serde_json::to_string(&of_two_models()).unwrap();
        insta::assert_snapshot!(line, @r#"{"step":3,"loss":4.5,"loss_hard":4.0,"loss_soft":0.5,"alpha_hard":1.0,"alpha_soft":1.0,"temperature":2.0,"lr":0.0005,"grad_norm":1.25,"tokens_per_s":12345.0,"models":[{"name":"large","loss":5.5,"loss_hard":4.0,"alpha_hard":1.0,"from":[{"name":"small","loss_soft":0.5,"alpha_soft":1.0,"temperature":2.0},{"name":"teacher","loss_soft":1.0,"alpha_soft":1.0,"temperature":2.0}],"lr":0.001,"grad_norm":1.0,"held_out_loss":3.5},{"name":"small","loss":4.0,"loss_hard":4.0,"alpha_hard":1.0,"from":[{"name":"large","loss_soft":null,"alpha_soft":0.0,"temperature":2.0}],"lr":0.001,"grad_norm":1.0,"held_out_loss":3.5}],"agreement":{"large/small":0.25}}"#);
        assert_eq!(serde_json::from_str::<StepRecord>(&line).unwrap(), of_two_models());
        let tags: Vec<_> = of_two_models().scalars().map(|(tag, value)| format!("{tag} {value}")).collect();
        insta::assert_snapshot!(tags.join("\n"), @"
        speed/tokens_per_s 12345
        large/loss/total 5.5
        large/loss/hard 4
        large/distill/alpha_hard 1
        large/train/lr 0.001
        large/train/grad_norm 1
        large/held_out/loss 3.5
        large/loss/soft_from_small 0.5
        large/distill/alpha_soft_from_small 1
        large/distill/temperature_from_small 2
        large/loss/soft_from_teacher 1
        large/distill/alpha_soft_from_teacher 1
        large/distill/temperature_from_teacher 2
        small/loss/total 4
        small/loss/hard 4
        small/distill/alpha_hard 1
        small/train/lr 0.001
        small/train/grad_norm 1
        small/held_out/loss 3.5
        small/distill/alpha_soft_from_large 0
        small/distill/temperature_from_large 2
        agreement/large/small 0.25
        ");
    }

    #[test]
    fn a_model_s_view_of_a_step_adds_up() {
        let large = of_two_models().of("large").unwrap();
        assert_eq!((large.loss_soft, large.alpha_soft, large.temperature), (Some(0.75), Some(2.0), Some(2.0)));
        assert_eq!(large.loss, large.alpha_hard * large.loss_hard + large.alpha_soft.unwrap() * large.loss_soft.unwrap());
        let small = of_two_models().of("small").unwrap();
        assert_eq!((small.loss_soft, small.alpha_soft), (None, Some(0.0)));
        assert_eq!(of_two_models().of("medium"), None);
    }
}
