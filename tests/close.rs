//! Every tolerance of the tests against other software, with its reason. Kinds are named for the situation, not for the
//! size.

/// What is being compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A loss of given logits, unweighted, on the CPU, against float64.
    LossCpu,
    /// The loss and its gradient on a GPU through WebGPU.
    LossGpu,
    /// A model's logits on any device, against float64.
    Logits,
    /// A tensor of gradients on the CPU, against float64.
    GradientCpu,
    /// A tensor of gradients by a model's parameters, on a GPU through WebGPU, against float64.
    ParametersGradientGpu,
    /// Losses and gradient norms along some tens of training steps on the CPU, against float64.
    LossAfterSteps,
    /// The training loss after some tens of steps on a GPU through WebGPU, against the CPU.
    LossAfterStepsGpu,
    /// A tensor of weights after some tens of training steps on the CPU, against float64.
    WeightsAfterSteps,
    /// A key's bias after some tens of training steps.
    KeyBiasAfterSteps,
    /// Values worked out in float64 on both sides.
    Float64,
    /// A tensor of gradients on a GPU, against float64.
    GradientGpu,
    /// A weighted sum of the losses of many slots.
    LossOfSlots,
    /// The loss of many slots on a GPU.
    LossOfSlotsGpu,
    /// A gradient summed over many slots by a product of matrices, in f32 on both sides.
    GradientOfFactors,
    /// Values and gradients of a layer through CUDA, whose products of f32 go through TF32, against the CPU's.
    LayerThroughTf32,
}

/// What a number may be off by: the sum of three parts.
struct Tolerance {
    /// Whatever its size.
    absolute: f64,
    /// For each unit of the number wanted.
    relative: f64,
    /// For each unit of the largest number wanted beside it.
    of_largest: f64,
    reason: &'static str,
}

impl Kind {
    fn tolerance(self) -> Tolerance {
        let (absolute, relative, of_largest, reason) = match self {
            Kind::LossCpu => {
                (1e-6, 1e-5, 0.0, "f32 rounding; at a high temperature the soft loss is a small difference of numbers near log v")
            }
            Kind::LossGpu => (1e-6, 2e-5, 0.0, "as on the CPU; WGSL allows exp and log some units in the last place more"),
            Kind::Logits => (1e-4, 0.0, 0.0, "f32 rounding through all layers; what is promised against transformers"),
            Kind::GradientCpu => (
                5e-7,
                0.0,
                1e-5,
                "f32 rounding; small gradients are what is left of large terms. PyTorch's own f32 is off by 2e-6",
            ),
            Kind::ParametersGradientGpu => (
                1e-6,
                0.0,
                2e-5,
                "as on the CPU; WGSL allows exp, log and erf (a polynomial there) some units in the last place more",
            ),
            Kind::LossAfterSteps => (0.0, 1e-5, 0.0, "f32 rounding, which so few steps don't amplify"),
            Kind::LossAfterStepsGpu => (
                0.0,
                1e-4,
                0.0,
                "f32 rounding on both sides; WGSL allows exp, log and erf some units in the last place more, and Adam's first steps hand a rounding on whole",
            ),
            Kind::WeightsAfterSteps => (
                1e-5,
                1e-5,
                0.0,
                "f32 rounding; Adam divides a gradient by its own size, so that a small one's rounding weighs more",
            ),
            Kind::KeyBiasAfterSteps => (
                4e-3,
                0.0,
                0.0,
                "it changes no prediction (it adds the same to all scores of a query): its gradient is rounding alone",
            ),
            Kind::GradientGpu => (1e-6, 0.0, 1e-5, "f32 rounding; WGSL lets exp be off by 3 + 2 |x| units in the last place"),
            Kind::LossOfSlots => {
                (1e-5, 1e-5, 0.0, "f32 rounding of each slot's loss, a difference of numbers near log v or larger")
            }
            Kind::LossOfSlotsGpu => (1e-5, 1e-4, 0.0, "burn's sum on a GPU adds up to 65,535 slots one after another in f32"),
            Kind::GradientOfFactors => (1e-6, 0.0, 2e-5, "f32 rounding of sums over hundreds of slots, in another order"),
            Kind::LayerThroughTf32 => {
                (1e-6, 0.0, 5e-3, "TF32 keeps 11 bits of a factor, 2^-11 = 5e-4; a few products follow each other")
            }
            Kind::Float64 => (0.0, 1e-9, 0.0, "the golden file has ten digits"),
        };
        Tolerance { absolute, relative, of_largest, reason }
    }
}

/// Panics unless every number found is the one wanted, within the kind's tolerance.
#[track_caller]
pub fn close<F: Into<f64> + Copy, W: Into<f64> + Copy>(found: &[F], wanted: &[W], kind: Kind) {
    if let Some(problem) = difference(found, wanted, kind) {
        panic!("{problem}");
    }
}

/// What is wrong with the numbers found, if anything: how many are off, and the worst.
pub fn difference<F: Into<f64> + Copy, W: Into<f64> + Copy>(found: &[F], wanted: &[W], kind: Kind) -> Option<String> {
    if found.len() != wanted.len() {
        return Some(format!("{} numbers, wanted {}", found.len(), wanted.len()));
    }
    let Tolerance { absolute, relative, of_largest, reason } = kind.tolerance();
    let wanted: Vec<f64> = wanted.iter().map(|&wanted| wanted.into()).collect();
    let largest = wanted.iter().filter(|wanted| wanted.is_finite()).fold(0.0, |largest, wanted| wanted.abs().max(largest));
    let allowed = |wanted: f64| absolute + relative * wanted.abs() + of_largest * largest;
    // In units of what is allowed. Equal infinities are equal; a NaN, or one infinity, is infinitely far.
    let excess = |found: f64, wanted: f64| match (found - wanted).abs() / allowed(wanted) {
        _ if found == wanted => 0.0,
        excess if excess.is_nan() => f64::INFINITY,
        excess => excess,
    };
    let found = found.iter().map(|&found| found.into());
    let all: Vec<(usize, f64, f64, f64)> =
        found.zip(wanted).enumerate().map(|(at, (found, wanted))| (at, found, wanted, excess(found, wanted))).collect();
    let off = all.iter().filter(|(.., excess)| *excess > 1.0).count();
    let (at, worst, wanted, _) = all.iter().max_by(|a, b| a.3.total_cmp(&b.3)).filter(|_| off > 0)?;
    Some(format!(
        "{off} of {} off, the worst at {at}: {worst}, wanted {wanted}, off by {:.1e}; {kind:?} allows {:.1e} ({reason})",
        all.len(),
        (worst - wanted).abs(),
        allowed(*wanted)
    ))
}

#[test]
fn what_is_off_is_told() {
    insta::assert_snapshot!(difference(&[1.0, 2.1], &[1.0, 2.0], Kind::Logits).unwrap(), @"1 of 2 off, the worst at 1: 2.1, wanted 2, off by 1.0e-1; Logits allows 1.0e-4 (f32 rounding through all layers; what is promised against transformers)");
    assert_eq!(difference(&[1.0f32, f32::INFINITY], &[1.000_001, f64::INFINITY], Kind::LossCpu), None);
    assert_eq!(difference::<f64, f64>(&[], &[], Kind::LossCpu), None);
    // A gradient of 1e-3 beside one of 2 may be off by 1e-5 of 2.
    assert_eq!(difference(&[1.015e-3, 2.0], &[1e-3, 2.0], Kind::GradientCpu), None);
    assert!(difference(&[1.015e-3, 0.5], &[1e-3, 0.5], Kind::GradientCpu).is_some());
    for (found, wanted) in
        [(f64::NAN, 1.0), (1.0, f64::NAN), (f64::INFINITY, 1.0), (1.0, f64::INFINITY), (f64::INFINITY, -f64::INFINITY)]
    {
        assert!(difference(&[found], &[wanted], Kind::Logits).is_some(), "{found} for {wanted}");
    }
    assert!(difference(&[1.0], &[1.0, 1.0], Kind::Logits).is_some());
}
