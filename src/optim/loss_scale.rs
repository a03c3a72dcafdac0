//! Dynamic loss scaling for products of f16 (Micikevicius et al. 2018, "Mixed precision training", section 3.2): the
//! loss is multiplied before its backward pass, so that small gradients don't vanish, and gradients are divided by as
//! much after it.

/// The factor, and how long it has held. The numbers are those of PyTorch's `GradScaler`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossScale {
    factor: f64,
    /// Steps in a row whose gradients were finite.
    held: u64,
}

/// Steps after which a factor that held is doubled.
const PATIENCE: u64 = 2000;
/// The smallest factor: where gradients are not finite even so, it is not for scaling.
const LEAST: f64 = 1.0;

impl Default for LossScale {
    fn default() -> Self {
        Self::new(65536.0)
    }
}

impl LossScale {
    /// One that starts at `factor`, a power of two.
    pub fn new(factor: f64) -> Self {
        Self { factor, held: 0 }
    }

    /// What the loss is multiplied by.
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// After a step whose gradients were finite, or were not. `None`: they were not, and no smaller factor is left.
    #[must_use]
    pub fn after(self, is_finite: bool) -> Option<Self> {
        match is_finite {
            true if self.held + 1 == PATIENCE => Some(Self { factor: 2.0 * self.factor, held: 0 }),
            true => Some(Self { held: self.held + 1, ..self }),
            false if self.factor > LEAST => Some(Self { factor: 0.5 * self.factor, held: 0 }),
            false => None,
        }
    }

    /// For a checkpoint; exact, as the factor is a power of two and the other number small.
    pub(super) fn values(&self) -> [f32; 2] {
        [self.factor as f32, self.held as f32]
    }

    pub(super) fn of_values([factor, held]: [f32; 2]) -> Self {
        Self { factor: f64::from(factor), held: held as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_halves_at_once_and_doubles_after_patience() {
        let start = LossScale::default();
        let halved = start.after(false).unwrap();
        assert_eq!(halved.factor(), 32768.0);
        let after = |scale: LossScale, steps: u64| (0..steps).fold(scale, |scale, _| scale.after(true).unwrap());
        assert_eq!(after(halved, PATIENCE - 1).factor(), 32768.0);
        assert_eq!(after(halved, PATIENCE).factor(), 65536.0);
        assert_eq!(after(halved, 2 * PATIENCE - 1).factor(), 65536.0, "and waits as long again");
        assert_eq!(
            after(halved, PATIENCE - 1).after(false).unwrap().after(true).unwrap().factor(),
            16384.0,
            "patience starts anew"
        );
        let least = LossScale::new(1.0);
        assert_eq!(least.after(false), None);
        let back = LossScale::of_values(after(halved, 7).values());
        assert_eq!(back, after(halved, 7));
    }
}
