//! What sharing each batch among several processes brings, and what their sums cost.

use std::fmt::Write as _;

use serde::Serialize;

use super::estimate::Speed;
use super::plan::Plan;
use crate::words::{bytes_text, plural, scaled};

/// A step among so many ranks, worked out from one rank's measured speed.
///
/// The batch stays the run's, so a rank computes 1 / n of a step. The sum is a reduce-scatter and an all-gather: each
/// rank sends and receives `2 (n - 1) / n` of the gradients' bytes over its own link, in `2 (n - 1)` messages, and
/// nothing of it overlaps the computation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Scaled {
    /// Processes.
    pub ranks: usize,
    /// Seconds that a rank computes a step.
    pub compute_s: f64,
    /// Seconds that the sum takes.
    pub sum_s: f64,
    /// One rank's step time over `ranks` times this one's.
    pub efficiency: f64,
}

/// Time of a message beside its bytes, in seconds: that of MPI over Ethernet or shared memory, more than an
/// InfiniBand's.
const MESSAGE_S: f64 = 5e-6;

impl Scaled {
    /// Seconds a step.
    pub fn step_s(&self) -> f64 {
        self.compute_s + self.sum_s
    }
}

impl Plan {
    /// Bytes of the gradients and losses that ranks sum in a step.
    pub fn sum_bytes(&self) -> u64 {
        let parameters: u64 = self.learners().iter().map(|learner| learner.parameters().total).sum();
        parameters * self.runtime.sum_dtype.bytes() as u64
    }

    /// A step among one rank, two, four and so on, up to `most`, and no more than there are rows in a batch. `speed` is
    /// one rank's, and `link` the bytes a second that a rank sends while it receives as many.
    pub fn scaled_to(&self, most: usize, speed: Speed, link: f64) -> Vec<Scaled> {
        let alone_s = self.estimate().seconds(speed) / self.train.steps.max(1) as f64;
        let most = most.min(self.train.batch / self.runtime.workers.max(1));
        let counts = std::iter::successors(Some(1_usize), |ranks| ranks.checked_mul(2)).take_while(|ranks| *ranks < most);
        let step = |ranks: usize| {
            let others = ranks as f64 - 1.0;
            let sum_s = 2.0 * others * (self.sum_bytes() as f64 / (ranks as f64 * link) + MESSAGE_S);
            let compute_s = alone_s / ranks as f64;
            Scaled { ranks, compute_s, sum_s, efficiency: compute_s / (compute_s + sum_s) }
        };
        counts.chain([most.max(1)]).map(step).collect()
    }

    /// [`Plan::scaled_to`] as a table, with a line on where more ranks stop paying.
    pub fn describe_ranks(&self, most: usize, speed: Speed, link: f64) -> String {
        let steps = self.scaled_to(most, speed, link);
        let seconds = |value: f64| format!("{}s", scaled(value * 1e6, &["u", "m", ""]));
        let mut out = format!(
            "each rank sends {} a step at most, at {}B/s\n  ranks       step    compute        sum  efficiency  times as fast\n",
            bytes_text(2 * self.sum_bytes()),
            scaled(link, &["", "k", "M", "G", "T"]),
        );
        let alone = steps[0].step_s();
        for step in &steps {
            let Scaled { ranks, compute_s, sum_s, efficiency } = *step;
            let [whole, compute, sum] = [step.step_s(), compute_s, sum_s].map(seconds);
            let times = alone / step.step_s();
            let _ =
                writeln!(out, "  {ranks:>5} {whole:>10} {compute:>10} {sum:>10} {:>10.0}%  {times:>13.1}", 100.0 * efficiency);
        }
        // Five eighths of what more ranks could bring: doubling them makes a step 1.25 times as fast.
        let pays = |pair: &[Scaled]| pair[0].step_s() / pair[1].step_s() >= 0.625 * pair[1].ranks as f64 / pair[0].ranks as f64;
        out += &match steps.windows(2).find(|pair| !pays(pair)) {
            Some(pair) => format!(
                "it stops paying at {}: {} make a step {:.2} times as fast",
                plural(pair[0].ranks, "rank"),
                pair[1].ranks,
                pair[0].step_s() / pair[1].step_s()
            ),
            None if steps.len() > 1 => "more ranks pay up to here".to_owned(),
            None => "there is one rank".to_owned(),
        };
        if steps.last().is_some_and(|step| step.ranks < most) {
            out += &format!("\na batch of {} rows can't be shared among more", self.train.batch);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SumDtype;
    use crate::config::tests::{facts, with};

    #[test]
    fn steps_are_the_sum_of_computing_and_sending() {
        let mut plan = with(&["train.batch=64"]).resolve(&facts()).unwrap();
        let bytes = plan.sum_bytes() as f64;
        assert_eq!(plan.sum_bytes(), 4 * plan.estimate().student.total);
        let speed = Speed::Tokens(10_000.0);
        let found = plan.scaled_to(1024, speed, 1e9);
        assert_eq!(found.iter().map(|step| step.ranks).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 64], "a row each at least");
        let alone_s = plan.estimate().tokens / 10_000.0 / plan.train.steps as f64;
        assert!((found[0].step_s() - alone_s).abs() < 1e-12 && found[0].sum_s == 0.0 && found[0].efficiency == 1.0);
        let four = found[2];
        assert!((four.compute_s - alone_s / 4.0).abs() < 1e-12);
        assert!((four.sum_s - (1.5 * bytes / 1e9 + 6.0 * 5e-6)).abs() < 1e-12);
        assert!((four.efficiency - alone_s / (4.0 * four.step_s())).abs() < 1e-12);
        plan.runtime.sum_dtype = SumDtype::Bf16;
        assert_eq!(plan.sum_bytes() as f64, bytes / 2.0);
        assert_eq!(plan.scaled_to(6, speed, 1e9).last().unwrap().ranks, 6);
        let slow = plan.describe_ranks(64, speed, 1e3);
        assert!(slow.contains("it stops paying at 1 rank: 2 make a step"), "{slow}");
    }
}
