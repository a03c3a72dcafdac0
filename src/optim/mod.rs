//! Update rules over a model's parameters, and clipping by the global norm.
//!
//! Adam's and AdamW's arithmetic is burn's on GPUs and one pass of our own on the CPU; that of Adadelta, StableAdamW
//! and Muon is ours. Decay groups, the state's file and the device that it is loaded to are ours too: the optimizer of
//! burn 0.22 loads its state to the default device, which need not exist.

mod adadelta;
mod clip;
mod finite;
mod guard;
mod loss_scale;
mod muon;
mod stable;

use std::any::Any;
use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::{
    Adam, AdamConfig, AdamState, AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, GradientsParams, Optimizer as _,
};
use burn::tensor::{Tensor, TensorData};

use adadelta::Adadelta;
pub use clip::{global_norm, scale, squared_norm};
pub use finite::not_finite;
pub use guard::{Guard, GuardOf};
pub use loss_scale::LossScale;
use muon::Muon;
use stable::StableAdamW;

use crate::config::{OptimizerKind, TrainPlan};
use crate::device::{Precision, wait};
use crate::error::{Error, Result};
use crate::kernels::{AdamPass, AdamStep};
use crate::model::{AnyModel, HostTensor, LanguageModel, ModulePath, Reading, Weights};

/// An update rule and its state for every parameter, by the parameter's name.
pub struct Optimizer {
    rule: Rule,
    /// Of tables, rows of which are looked up: that of matrices, but for Muon, which is for products alone.
    rule_of_tables: Rule,
    /// The update rule without weight decay, for biases and layer norms.
    rule_without_decay: Rule,
    /// `AdaptiveMomentumState<D>` of each parameter, D its rank.
    moments: BTreeMap<String, Box<dyn Any + Send + Sync>>,
    /// The loss scale, where products are f16.
    loss_scale: Option<LossScale>,
}

/// The loss scale's name in the state's file.
const LOSS_SCALE: &str = "loss_scale";

#[derive(Clone)]
enum Rule {
    Adam(Adam, AdamStep),
    AdamW(AdamW, AdamStep),
    Adadelta(Adadelta),
    StableAdamW(StableAdamW),
    Muon(Muon),
}

impl Rule {
    fn new(plan: &TrainPlan, optimizer: OptimizerKind, weight_decay: f64) -> Self {
        let (beta1, beta2, epsilon) = (plan.beta1 as f32, plan.beta2 as f32, plan.epsilon as f32);
        let numbers = AdamStep {
            lr: 0.0,
            beta1: plan.beta1,
            beta2: plan.beta2,
            epsilon: plan.epsilon,
            coupled_decay: 0.0,
            decoupled_decay: 0.0,
            time: 0,
        };
        match optimizer {
            OptimizerKind::Adam => {
                let decay = (weight_decay > 0.0).then(|| WeightDecayConfig::new(weight_decay as f32));
                let config =
                    AdamConfig::new().with_beta_1(beta1).with_beta_2(beta2).with_epsilon(epsilon).with_weight_decay(decay);
                Rule::Adam(config.build(), AdamStep { coupled_decay: weight_decay, ..numbers })
            }
            OptimizerKind::AdamW => {
                let config = AdamWConfig::new().with_beta_1(beta1).with_beta_2(beta2).with_epsilon(epsilon);
                let numbers = AdamStep { decoupled_decay: weight_decay, ..numbers };
                Rule::AdamW(config.with_weight_decay(weight_decay as f32).build(), numbers)
            }
            OptimizerKind::AdadeltaKeras | OptimizerKind::AdadeltaPyTorch => {
                let rho = optimizer.rho().expect("Adadelta has one");
                Rule::Adadelta(Adadelta { rho, epsilon: plan.epsilon, weight_decay })
            }
            OptimizerKind::StableAdamW => {
                Rule::StableAdamW(StableAdamW { beta1: plan.beta1, beta2: plan.beta2, epsilon: plan.epsilon, weight_decay })
            }
            OptimizerKind::Muon => Rule::Muon(Muon { weight_decay }),
        }
    }

    fn step<const D: usize>(
        &self,
        lr: f64,
        value: Tensor<D>,
        gradient: Tensor<D>,
        moments: Option<Moments<D>>,
        pass: &mut AdamPass,
    ) -> (Tensor<D>, Moments<D>) {
        const KEPT: &str = "Adam always returns its state";
        match self {
            Rule::Adam(_, numbers) | Rule::AdamW(_, numbers) if pass.moves(&value) => {
                let moments = moments.unwrap_or_else(|| Moments::new(0, value.zeros_like(), value.zeros_like()));
                let step = AdamStep { lr, time: moments.time + 1, ..*numbers };
                let (value, [first, second]) = pass.step(&value, gradient, [moments.moment_1, moments.moment_2], &step);
                (value, Moments::new(step.time, first, second))
            }
            Rule::Adam(rule, _) => {
                let (value, state) = rule.step(lr, value, gradient, moments.map(AdamState::new));
                (value, state.expect(KEPT).momentum)
            }
            Rule::AdamW(rule, _) => {
                let (value, state) = rule.step(lr, value, gradient, moments.map(AdamWState::new));
                (value, state.expect(KEPT).momentum)
            }
            Rule::Adadelta(rule) => rule.step(lr, value, gradient, moments),
            Rule::StableAdamW(rule) => rule.step(lr, value, gradient, moments),
            Rule::Muon(rule) => rule.step(lr, value, gradient, moments),
        }
    }

    /// Names of the state's parts in its file, as PyTorch calls them.
    fn parts(&self) -> [&'static str; 3] {
        match self {
            Rule::Adam(..) | Rule::AdamW(..) | Rule::StableAdamW(_) => ["exp_avg", "exp_avg_sq", "step"],
            Rule::Muon(_) => ["momentum_buffer", "unused", "step"],
            Rule::Adadelta(_) => ["square_avg", "acc_delta", "step"],
        }
    }
}

type Moments<const D: usize> = AdaptiveMomentumState<D>;

impl Optimizer {
    /// The plan's optimizer, with no state yet.
    pub fn new(plan: &TrainPlan) -> Self {
        let beside = if plan.optimizer == OptimizerKind::Muon { OptimizerKind::AdamW } else { plan.optimizer };
        Self {
            rule: Rule::new(plan, plan.optimizer, plan.weight_decay),
            rule_of_tables: Rule::new(plan, beside, plan.weight_decay),
            rule_without_decay: Rule::new(plan, beside, 0.0),
            moments: BTreeMap::new(),
            loss_scale: None,
        }
    }

    /// With loss scaling, where the products' numbers need it.
    #[must_use]
    pub fn for_precision(self, precision: Precision) -> Self {
        Self { loss_scale: (precision == Precision::F16).then(LossScale::default), ..self }
    }

    /// What losses are multiplied by, where products are f16.
    pub fn loss_scale(&self) -> Option<LossScale> {
        self.loss_scale
    }

    /// The one to go on with.
    pub fn set_loss_scale(&mut self, scale: LossScale) {
        self.loss_scale = Some(scale);
    }

    /// Takes one step: every parameter with a gradient moves. With a guard, gradients are multiplied by its factor, and
    /// nothing moves once a step was not finite.
    pub fn step<M: Module>(&mut self, lr: f64, model: M, gradients: GradientsParams, guard: Option<GuardOf>) -> M {
        let pass = AdamPass::new(guard.map(|guard| (guard.values, guard.model)));
        let mut step = Step { optimizer: self, path: ModulePath::default(), lr, gradients, pass };
        let model = model.map(&mut step);
        step.pass.finish();
        model
    }

    fn knows_guards(&self) -> bool {
        // A loss scale is settled on the host.
        matches!(self.rule, Rule::Adam(..) | Rule::AdamW(..)) && self.loss_scale.is_none()
    }

    /// The state on the host, for a checkpoint: `exp_avg.NAME`, `exp_avg_sq.NAME`, `step.NAME`, or Adadelta's.
    pub fn state<M: Module>(&self, model: &M) -> Weights {
        wait(self.read_state(model))
    }

    /// [`Optimizer::state`] where a thread must not block, as in a browser: awaits the device instead.
    pub async fn read_state<M: Module>(&self, model: &M) -> Weights {
        let mut reader =
            StateReader { optimizer: self, path: ModulePath::default(), reading: Reading::default(), times: Vec::new() };
        model.visit(&mut reader);
        let mut out = reader.reading.finish().await;
        reader.times.into_iter().for_each(|(name, time)| out.insert(&name, time));
        if let Some(scale) = &self.loss_scale {
            out.insert(LOSS_SCALE, HostTensor { shape: vec![2], values: scale.values().to_vec() });
        }
        out
    }

    /// Takes up a state that [`Optimizer::state`] gave. A parameter that never had a gradient has none in it, and
    /// starts anew.
    ///
    /// # Errors
    /// When a parameter's state lacks a part or is of another shape, or is of no parameter of this model.
    pub fn load_state<M: Module>(&mut self, model: &M, state: &Weights) -> Result<()> {
        let mut writer =
            StateWriter { optimizer: self, path: ModulePath::default(), from: state, taken: 0, problems: Vec::new() };
        model.visit(&mut writer);
        let StateWriter { mut taken, mut problems, .. } = writer;
        // A run that goes on in other numbers leaves it where it is.
        if let Some(scale) = state.get(LOSS_SCALE) {
            taken += 1;
            match (scale.values.as_slice(), &mut self.loss_scale) {
                (&[factor, held], Some(own)) => *own = LossScale::of_values([factor, held]),
                (&[_, _], None) => {}
                _ => problems.push(LOSS_SCALE.to_owned()),
            }
        }
        if problems.is_empty() && taken < state.iter().count() {
            problems.push(format!("{} of its tensors belong to no parameter", state.iter().count() - taken));
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::new(format!("the optimizer's state does not fit the model: {}", problems.join(", ")))
            .help("the files of a checkpoint belong together: take the whole folder, or an earlier checkpoint"))
    }

    /// Weight decay is for matrices: biases and norms, which are vectors in every family, have none (Devlin et al.
    /// 2019).
    fn rule_for<const D: usize>(&self, name: &str) -> &Rule {
        match D > 1 {
            true if AnyModel::is_table(name) => &self.rule_of_tables,
            true => &self.rule,
            false => &self.rule_without_decay,
        }
    }
}

struct Step<'a> {
    optimizer: &'a mut Optimizer,
    path: ModulePath,
    lr: f64,
    gradients: GradientsParams,
    pass: AdamPass,
}

impl ModuleMapper for Step<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else { return param };
        let name = self.path.name();
        let moments = self.optimizer.moments.remove(&name);
        let moments = moments.and_then(|moments| moments.downcast::<Moments<D>>().ok()).map(|moments| *moments);
        param.map(|value| {
            let rule = self.optimizer.rule_for::<D>(&name);
            let (value, moments) = rule.step(self.lr, value.inner(), gradient, moments, &mut self.pass);
            self.optimizer.moments.insert(name, Box::new(moments));
            Tensor::from_inner(value).require_grad()
        })
    }
}

struct StateReader<'a> {
    optimizer: &'a Optimizer,
    path: ModulePath,
    reading: Reading,
    times: Vec<(String, HostTensor)>,
}

impl ModuleVisitor for StateReader<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, _param: &Param<Tensor<D>>) {
        let name = self.path.name();
        if let Some(moments) = self.optimizer.moments.get(&name).and_then(|moments| moments.downcast_ref::<Moments<D>>()) {
            // Exact: a step count stays below 2^24 in f32 terms of its two halves.
            let time = HostTensor { shape: vec![2], values: vec![(moments.time >> 20) as f32, (moments.time & 0xf_ffff) as f32] };
            let [first, second, step] = self.optimizer.rule_for::<D>(&name).parts().map(|part| format!("{part}.{name}"));
            self.reading.add(first, moments.moment_1.clone(), false);
            self.reading.add(second, moments.moment_2.clone(), false);
            self.times.push((step, time));
        }
    }
}

struct StateWriter<'a> {
    optimizer: &'a mut Optimizer,
    path: ModulePath,
    from: &'a Weights,
    taken: usize,
    problems: Vec<String>,
}

impl ModuleVisitor for StateWriter<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.path.name();
        let device = param.val().device().inner();
        let tensor =
            |part: &HostTensor| Tensor::<D>::from_data(TensorData::new(part.values.clone(), part.shape.clone()), &device);
        let parts = self.optimizer.rule_for::<D>(&name).parts().map(|part| self.from.get(&format!("{part}.{name}")));
        let is_muon = matches!(self.optimizer.rule_for::<D>(&name), Rule::Muon(_));
        match parts {
            [Some(first), Some(second), Some(time)]
                if first.shape == param.dims()
                    && (second.shape == param.dims() || is_muon && second.values.len() == 1)
                    && time.values.len() == 2 =>
            {
                let time = ((time.values[0] as usize) << 20) | time.values[1] as usize;
                self.optimizer.moments.insert(name, Box::new(Moments::<D>::new(time, tensor(first), tensor(second))));
                self.taken += 3;
            }
            [None, None, None] => {}
            _ => self.problems.push(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use crate::model::{BertShape, Weights};

    /// What weight decay leaves out is told by a parameter's rank alone.
    #[test]
    fn vectors_are_biases_and_layer_norms() {
        let weights = Weights::of(&BertShape::new(11, 8, 2, 2, 6).init(1, 0.02, &Device::flex()));
        for (name, tensor) in weights.iter() {
            let is_left_out = name.ends_with("bias") || name.contains("LayerNorm");
            assert_eq!(tensor.shape.len() == 1, is_left_out, "{name}");
        }
    }
}
