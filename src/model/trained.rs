//! A language model in training, with what it learns beside itself.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::family::AnyModel;
use super::init::Init;

/// A language model, and the projections through which its layers are compared with its teacher's. They are trained
/// with it, by the same optimizer, and belong to no model that is written for use.
#[derive(Module, Debug)]
pub struct TrainedModel {
    /// The language model; its parameters' names are its own.
    pub lm: AnyModel,
    /// The projections; most runs have none.
    pub projections: Projections,
}

/// Learnt matrices from a student's width to its teacher's, `[d_student, d_teacher]` each.
#[derive(Module, Debug, Default)]
pub struct Projections {
    /// Of hidden states (Jiao et al. 2020, W_h of equation 8).
    pub hidden: Option<Param<Tensor<2>>>,
    /// Of what the first layer reads (Jiao et al. 2020, W_e of equation 9).
    pub embedded: Option<Param<Tensor<2>>>,
    /// Of an early layer (Zhao et al. 2026).
    pub early: Option<Param<Tensor<2>>>,
}

impl<M: Into<AnyModel>> From<M> for TrainedModel {
    /// A model without projections.
    fn from(lm: M) -> Self {
        Self { lm: lm.into(), projections: Projections::default() }
    }
}

impl Projections {
    /// Draws those that are wanted, of `hidden`, `embedded` and `early`, from N(0, `range`).
    pub fn init(wanted: [bool; 3], widths: [usize; 2], seed: u64, range: f64, device: &Device) -> Self {
        let init = Init::new(seed, range, device);
        let [hidden, embedded, early] = wanted;
        let draw = |wanted: bool, name: &str| wanted.then(|| init.normal(&format!("projections.{name}"), widths));
        Self { hidden: draw(hidden, "hidden"), embedded: draw(embedded, "embedded"), early: draw(early, "early") }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.hidden.is_none() && self.embedded.is_none() && self.early.is_none()
    }
}
