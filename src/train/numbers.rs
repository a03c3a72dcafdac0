//! A step's losses and gradient norms on their way to the host: the one thing that a step reads back.

use burn::module::Module;
use burn::tensor::Tensor;
use web_time::Instant;

use crate::config::MODEL;
use crate::device::failed;
use crate::error::{Error, Result};
use crate::log::{FeatureRecord, ModelRecord, SoftRecord};
use crate::methods::{BatchSize, FeatureSettings, ModelLoss, Settings, SoftSettings};
use crate::optim::not_finite;

/// A step's losses of one model, on the host.
#[derive(Debug, Clone, Default)]
pub(super) struct HostLoss {
    pub total: f64,
    pub hard: f64,
    /// The soft losses, in the order of the model's settings.
    pub soft: Vec<Option<f64>>,
    /// The losses between layers, likewise.
    pub features: Vec<Option<f64>>,
}

/// Losses of one model on the parts of a batch, where they were made and off any graph.
#[derive(Default)]
pub(super) struct Parts(Vec<ModelLoss>);

impl Parts {
    /// Takes a part's losses.
    pub fn add(&mut self, ModelLoss { total, hard, soft, features }: ModelLoss) {
        let off = |losses: Vec<Option<Tensor<1>>>| losses.into_iter().map(|loss| loss.map(plain)).collect();
        self.0.push(ModelLoss { total: plain(total), hard: plain(hard), soft: off(soft), features: off(features) });
    }

    /// What was minimised, over all parts, `[1]`.
    pub fn total(&self) -> Tensor<1> {
        let totals = self.0.iter().map(|part| part.total.clone());
        totals.reduce(|a, b| a + b).expect("a batch has at least one part")
    }

    /// One part in place of all: their sums.
    pub fn merged(self) -> Self {
        let both = |a: Option<Tensor<1>>, b: Option<Tensor<1>>| match (a, b) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        let sum = |a: ModelLoss, b: ModelLoss| ModelLoss {
            total: a.total + b.total,
            hard: a.hard + b.hard,
            soft: a.soft.into_iter().zip(b.soft).map(|(a, b)| both(a, b)).collect(),
            features: a.features.into_iter().zip(b.features).map(|(a, b)| both(a, b)).collect(),
        };
        Self(self.0.into_iter().reduce(sum).into_iter().collect())
    }

    /// These losses with other numbers, in the order of [`flat`](Self::flat).
    pub fn with(self, mut next: impl FnMut() -> Tensor<1>) -> Self {
        let mut part = |part: ModelLoss| ModelLoss {
            total: next(),
            hard: next(),
            soft: part.soft.into_iter().map(|soft| soft.map(|_| next())).collect(),
            features: part.features.into_iter().map(|loss| loss.map(|_| next())).collect(),
        };
        Self(self.0.into_iter().map(&mut part).collect())
    }

    /// All numbers of all parts.
    pub fn flat(&self) -> impl Iterator<Item = Tensor<1>> {
        self.0.iter().flat_map(|part| {
            let more = part.soft.iter().chain(&part.features).flatten().cloned();
            [part.total.clone(), part.hard.clone()].into_iter().chain(more)
        })
    }

    /// The sums over parts, from the numbers of [`flat`](Self::flat), in f64.
    fn sums(&self, values: &mut impl Iterator<Item = f32>) -> HostLoss {
        let mut next = || f64::from(values.next().expect("as many as were sent"));
        let none = |count: fn(&ModelLoss) -> usize| vec![None; self.0.first().map_or(0, count)];
        let (soft, features) = (none(|part| part.soft.len()), none(|part| part.features.len()));
        let mut sum = HostLoss { soft, features, ..HostLoss::default() };
        for part in &self.0 {
            sum.total += next();
            sum.hard += next();
            let more = sum.soft.iter_mut().zip(&part.soft).chain(sum.features.iter_mut().zip(&part.features));
            for (sum, loss) in more {
                *sum = loss.as_ref().map(|_| sum.unwrap_or(0.0) + next()).or(*sum);
            }
        }
        sum
    }
}

/// Outside any graph.
fn plain(x: Tensor<1>) -> Tensor<1> {
    if x.device().is_autodiff() { x.inner() } else { x }
}

/// The norms of all models' gradients: on the host, or squared and still on the GPU, `[models]`.
#[expect(clippy::large_enum_variant, reason = "one a step: a handle of a tensor, not numbers")]
pub(super) enum Norms {
    Host(Vec<f64>),
    Squares(Tensor<1>),
}

impl Norms {
    /// The norms on the host.
    pub async fn read(self) -> Result<Vec<f64>> {
        match self {
            Norms::Host(norms) => Ok(norms),
            Norms::Squares(squares) => {
                let data = squares.into_data_async().await.map_err(|error| failed("the gradients' norms", &error))?;
                Ok(data.iter::<f32>().map(|square| f64::from(square).sqrt()).collect())
            }
        }
    }
}

/// A step whose numbers are not on the host yet.
pub(super) struct Unread {
    pub step: u64,
    pub started: Instant,
    pub at: Vec<Settings>,
    pub lr: Vec<f64>,
    pub whole: BatchSize,
    parts: Vec<Parts>,
    /// Everything, one after another.
    values: Tensor<1>,
    norms: Option<Vec<f64>>,
    /// What was read before its update.
    pub found: Option<Read>,
}

/// A step's losses and gradient norms, read to the host.
pub(super) struct Read {
    pub losses: Vec<HostLoss>,
    pub norms: Vec<f64>,
}

impl Unread {
    pub fn new(
        step: u64,
        started: Instant,
        at: Vec<Settings>,
        lr: Vec<f64>,
        whole: BatchSize,
        parts: Vec<Parts>,
        norms: Norms,
    ) -> Self {
        let mut values: Vec<Tensor<1>> = parts.iter().flat_map(Parts::flat).collect();
        let norms = match norms {
            Norms::Host(norms) => Some(norms),
            Norms::Squares(squares) => {
                values.push(squares);
                None
            }
        };
        Self { step, started, at, lr, whole, parts, values: Tensor::cat(values, 0), norms, found: None }
    }

    /// Reads the numbers.
    ///
    /// # Errors
    /// When the device could not work them out: out of memory, say.
    pub async fn read(&self) -> Result<Read> {
        let data = self.values.clone().into_data_async().await;
        let data = data.map_err(|error| failed(&format!("step {}", self.step + 1), &error))?;
        let values: Vec<f32> = data.try_to_vec().map_err(|error| Error::new(format!("losses are f32: {error:?}")))?;
        let mut values = values.into_iter();
        let losses = self.parts.iter().map(|parts| parts.sums(&mut values)).collect();
        let norms = self.norms.clone().unwrap_or_else(|| values.map(|square| f64::from(square).sqrt()).collect());
        Ok(Read { losses, norms })
    }

    /// A model's line of the record.
    pub fn model_record(&self, place: usize, name: &str, read: &Read, held_out_loss: Option<f64>) -> ModelRecord {
        let (at, loss) = (&self.at[place], &read.losses[place]);
        let soft = |(soft, loss): (&SoftSettings, &Option<f64>)| SoftRecord {
            name: soft.from.clone(),
            loss_soft: *loss,
            alpha_soft: soft.alpha,
            temperature: soft.temperature,
        };
        let feature = |(feature, loss): (&FeatureSettings, &Option<f64>)| FeatureRecord {
            name: feature.kind.to_string(),
            loss: *loss,
            alpha: feature.alpha,
        };
        ModelRecord {
            name: name.to_owned(),
            loss: loss.total,
            loss_hard: loss.hard,
            alpha_hard: at.alpha_hard,
            from: at.soft.iter().zip(&loss.soft).map(soft).collect(),
            features: at.features.iter().zip(&loss.features).map(feature).collect(),
            lr: self.lr[place],
            grad_norm: read.norms[place],
            held_out_loss,
        }
    }
}

/// What to do about a run whose numbers ran away.
const CALM: &str = "lower the learning rate, lengthen the warm-up, or clip harder; \
                    with other settings it is another run, in a folder of its own";

/// Refuses a step that isn't finite. `rows` says which rows its batch had.
pub(super) fn refuse_if_not_finite(
    this: &Unread,
    names: &[&str],
    read: &Read,
    rows: impl FnOnce() -> Option<String>,
) -> Result<()> {
    let Read { losses, norms } = read;
    for (((name, loss), norm), lr) in names.iter().zip(losses).zip(norms).zip(&this.lr) {
        if !loss.total.is_finite() || !norm.is_finite() {
            let soft: Vec<String> = loss.soft.iter().flatten().map(f64::to_string).collect();
            let of = if names.len() > 1 { format!(" for {name}") } else { String::new() };
            return Err(Error::not_finite(format!(
                "step {} is not finite{of} (loss {}, hard {}, soft {}, gradient norm {norm}, learning rate {lr:e}); \
                 no weight was moved{}",
                this.step + 1,
                loss.total,
                loss.hard,
                if soft.is_empty() { "none".to_owned() } else { soft.join(" and ") },
                rows().map_or(String::new(), |rows| format!("\n  its batch: {rows}")),
            ))
            .help(CALM));
        }
    }
    Ok(())
}

/// Refuses held-out losses that are no numbers after step `done`, though the weights may be: where a record said
/// nothing, nobody would know.
pub(super) fn refuse_lost(names: &[&str], losses: &[f64], done: u64) -> Result<()> {
    let Some((name, loss)) = names.iter().zip(losses).find(|(_, loss)| !loss.is_finite()) else { return Ok(()) };
    let of = if names.len() > 1 { format!(" of {name}") } else { String::new() };
    Err(Error::not_finite(format!(
        "after step {done} the held-out loss{of} is {loss}: the model's numbers on held-out text are not finite; nothing was saved at this step"
    ))
    .help(CALM))
}

/// Refuses a model that has weights which are no numbers, so that it is neither saved nor called done. `after` says
/// when: "step 20".
pub(super) async fn refuse_broken_weights<M: Module>(model: &M, name: &str, after: &str) -> Result<()> {
    let broken = not_finite(model).await?;
    let Some(first) = broken.first() else { return Ok(()) };
    let more = if broken.len() > 1 { format!(" and {} tensors more", broken.len() - 1) } else { String::new() };
    let of = if name == MODEL { String::new() } else { format!(" of {name}") };
    Err(Error::not_finite(format!("after {after} the weights{of} are not finite: {first}{more}; they were not saved")).help(CALM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_out_loss_that_is_no_number_is_refused_with_its_step_and_model() {
        refuse_lost(&["model"], &[2.5], 10).unwrap();
        refuse_lost(&["model"], &[], 10).unwrap();
        let one = refuse_lost(&["model"], &[f64::NAN], 10).unwrap_err();
        assert!(one.is_not_finite() && one.to_string().contains("after step 10 the held-out loss is NaN"), "{one}");
        let of_two = refuse_lost(&["small", "large"], &[2.5, f64::INFINITY], 10).unwrap_err().to_string();
        assert!(
            of_two.contains("the held-out loss of large is inf") && of_two.contains("help: lower the learning rate"),
            "{of_two}"
        );
    }
}
