//! Which values a key may have by itself, whatever other keys say.

use super::schedule::number;

/// Which values of its kind a key may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bounds {
    /// Any.
    Any,
    /// This or more.
    AtLeast(f64),
    /// Above 0; with an example.
    Positive(&'static str),
    /// Above 0 and below 1; with an example.
    Inside(&'static str),
    /// From 0 to below 1.
    Share,
    /// The weight of a loss, which is never negative.
    Weight,
    /// A temperature, which stays above 0.
    Temperature,
    /// A learning rate, which is never negative, and not 0 throughout.
    Rate,
}

impl Bounds {
    /// What is wrong with a number, or with a schedule from its lowest to its highest, and what to write instead; none
    /// where nothing is.
    pub(super) fn mistake(self, (low, high): (f64, f64)) -> Option<(String, String)> {
        let wrong = |is_wrong: bool, what: String, fix: String| is_wrong.then_some((what, fix));
        let is = |value: f64| format!("is {}", number(value));
        match self {
            Bounds::Any => None,
            Bounds::AtLeast(least) => wrong(low < least, is(low), format!("write {} or more", number(least))),
            Bounds::Positive(example) => wrong(low <= 0.0, is(low), format!("write a number above 0, such as {example}")),
            Bounds::Inside(example) => {
                let outside = if low > 0.0 { high } else { low };
                let fix = format!("write a number between 0 and 1, such as {example}");
                wrong(low <= 0.0 || high >= 1.0, is(outside), fix)
            }
            Bounds::Share => wrong(!(0.0..1.0).contains(&low), is(low), "write a number from 0 to below 1".into()),
            Bounds::Weight => {
                let what = format!("a weight of {} is negative", number(low));
                wrong(low < 0.0, what, "write weights of 0 or more".into())
            }
            Bounds::Temperature => {
                let what = format!("reaches {}", number(low));
                wrong(low <= 0.0, what, "write temperatures above 0, such as 2.0".into())
            }
            Bounds::Rate if low < 0.0 => {
                let what = format!("a learning rate of {} is negative", number(low));
                Some((what, "write rates of 0 or more".into()))
            }
            Bounds::Rate => {
                let what = "is 0 throughout: nothing would be learnt".to_owned();
                wrong(high <= 0.0, what, "write a rate above 0, such as 5e-4".into())
            }
        }
    }
}
