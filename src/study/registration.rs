//! What a study fixes before its first run: what is tested, over which arms, and what counts as no difference.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The end point that every study has: the held-out loss at the end of training.
pub const HELD_OUT: &str = "held-out loss";

/// `[test]` of a study file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TestSpec {
    /// The primary end point: "held-out loss" (at the end of training), or the name of another held-out set, of minimal
    /// pairs or of a task.
    pub end_point: String,
    /// A difference that is surely smaller than this is none: in the end point's unit, nats a token or a
    /// score's.
    pub margin: f64,
    /// The arms that are compared with their reference; all unless written.
    pub arms: Vec<String>,
    /// The chance of any false finding among the arms that is accepted.
    pub alpha: f64,
    /// Students that share a teacher, where what it cost to train is divided.
    pub students: u64,
}

impl Default for TestSpec {
    fn default() -> Self {
        Self { end_point: HELD_OUT.into(), margin: 0.01, arms: Vec::new(), alpha: 0.05, students: 10 }
    }
}

impl TestSpec {
    /// `end_points` and `arms` are those that the study has.
    ///
    /// # Errors
    /// When a key can't be meant so; all of them in one message.
    pub fn check(&self, end_points: &[&str], arms: &[&str], baseline: Option<&str>) -> Result<()> {
        let mut wrong = Vec::new();
        if !(self.margin > 0.0 && self.margin.is_finite()) {
            wrong.push(format!("margin = {}: within which margin are two arms alike? It must be above 0", self.margin));
        }
        if !(1e-6..=0.5).contains(&self.alpha) {
            wrong.push(format!("alpha = {}: a chance between 0.000001 and 0.5; 0.05 is usual", self.alpha));
        }
        if self.students == 0 {
            wrong.push("students = 0: at least one student has the teacher".to_owned());
        }
        if !end_points.contains(&self.end_point.as_str()) {
            wrong.push(format!("end_point = {:?}: this study has {}", self.end_point, quoted(end_points)));
        }
        for arm in &self.arms {
            // An arm of several models is an arm of the results for each.
            let is_known = |known: &&&str| arm == **known || arm.strip_prefix(**known).is_some_and(|rest| rest.starts_with(": "));
            if !arms.iter().any(|known| is_known(&known)) {
                wrong.push(format!("arms: {arm:?} is none of the arms, which are {}", quoted(arms)));
            } else if baseline == Some(arm.as_str()) {
                wrong.push(format!("arms: {arm:?} is the baseline, which is not compared with itself"));
            }
        }
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(Error::new(format!("[test] of the study file\n  {}", wrong.join("\n  ")))
                .help("what is tested is fixed before the first run; without a margin of its own, [test] has 0.01")),
        }
    }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

/// A study file's `[test]`, and what the file is known by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    /// The first 16 hexadecimal digits of the BLAKE3 hash of `study.toml` in the study's folder, which was there before
    /// the first run.
    pub study_file: String,
    /// What was fixed in it; none where it says nothing of tests.
    #[serde(default)]
    pub test: Option<TestSpec>,
}

impl Registration {
    /// The registration that a study's `study.toml` makes.
    pub fn of(study_toml: &str, test: Option<&TestSpec>) -> Self {
        Self { study_file: blake3::hash(study_toml.as_bytes()).to_hex()[..16].to_owned(), test: test.cloned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> String {
        let spec: TestSpec = toml::from_str(text).unwrap();
        spec.check(&[HELD_OUT, "cola"], &["alone", "soft 1", "mutual"], Some("alone"))
            .map_or_else(|error| error.to_string(), |()| "fine".into())
    }

    #[test]
    fn what_is_not_written_is_usual() {
        let spec: TestSpec = toml::from_str("").unwrap();
        assert_eq!((spec.margin, spec.alpha, spec.end_point.as_str()), (0.01, 0.05, "held-out loss"));
        for text in ["", "end_point = 'cola'", "arms = ['soft 1']", "arms = ['mutual: large']"] {
            assert_eq!(check(text), "fine", "{text}");
        }
    }

    #[test]
    fn what_cant_be_meant_is_refused() {
        for margin in ["0.0", "-0.01", "nan", "inf"] {
            assert!(check(&format!("margin = {margin}")).contains("must be above 0"), "{margin}");
        }
        insta::assert_snapshot!(check("margin = 0\nalpha = 5.0\nstudents = 0\nend_point = 'mrpc'\narms = ['soft 2', 'alone']"), @r#"
        [test] of the study file
          margin = 0: within which margin are two arms alike? It must be above 0
          alpha = 5: a chance between 0.000001 and 0.5; 0.05 is usual
          students = 0: at least one student has the teacher
          end_point = "mrpc": this study has "held-out loss", "cola"
          arms: "soft 2" is none of the arms, which are "alone", "soft 1", "mutual"
          arms: "alone" is the baseline, which is not compared with itself
        help: what is tested is fixed before the first run; without a margin of its own, [test] has 0.01
        "#);
        assert!(toml::from_str::<TestSpec>("marign = 0.1").unwrap_err().to_string().contains("unknown field"));
    }

    #[test]
    fn another_file_has_another_hash() {
        let of = |text| Registration::of(text, None).study_file;
        assert_eq!(of("").len(), 16);
        assert_ne!(of("seeds = [1]"), of("seeds = [2]"));
    }
}
