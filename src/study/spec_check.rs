//! What can't be, of a study file: the first mistake is the error.

use super::spec::{ArmSpec, At, StudySpec, TeacherOf, TeacherSeeds};
use super::tune::TuneSpec;
use crate::error::{Error, Result};

impl StudySpec {
    /// Refuses a study that can't be run as it is written.
    pub(super) fn check(&self) -> Result<()> {
        self.teachers.iter().chain(&self.arms).try_for_each(|arm| self.kept(arm).map(drop))?;
        let twice = |mut names: Vec<&str>| {
            names.sort_unstable();
            names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].to_owned())
        };
        if let Some(twice) = twice(self.teachers.iter().chain(&self.arms).map(|arm| arm.name.as_str()).collect()) {
            return Err(Error::new(format!("two arms are called {twice:?}")).help("give every teacher and arm a name of its own"));
        }
        let no_seeds = |arm: &ArmSpec| arm.seeds.as_ref().is_some_and(Vec::is_empty);
        let no_teacher_seed = self.teacher_seeds == TeacherSeeds::Listed(Vec::new());
        if self.seeds.is_empty() || no_teacher_seed || self.arms.is_empty() || self.arms.iter().any(no_seeds) {
            return Err(Error::new("a study needs at least one seed, one teacher seed and one arm"));
        }
        self.check_names()?;
        self.arms.iter().try_for_each(|arm| check_teacher(self, arm))?;
        self.check_tuned()?;
        if let Some(twice) = twice(self.end_points()) {
            return Err(Error::new(format!("two end points are called {twice:?}"))
                .help("give every set of `held_out` and of `pairs` a name that no task has"));
        }
        self.check_budgets()?;
        let arms: Vec<&str> = self.arms.iter().map(|arm| arm.name.as_str()).collect();
        self.test.iter().try_for_each(|test| test.check(&self.end_points(), &arms, self.baseline.as_deref()))
    }

    /// Refuses arms that name an arm which is not there, and teachers that have a teacher.
    fn check_names(&self) -> Result<()> {
        let known = |name: &String| self.arms.iter().any(|arm| arm.name == *name);
        for arm in self.teachers.iter().chain(&self.arms) {
            if let Some(unknown) = arm.against.values().chain(&arm.flops_of).find(|name| !known(name)) {
                return Err(Error::new(format!("the arm {:?} names {unknown:?}, which is none of the arms", arm.name))
                    .help("`against` and `flops_of` take the name of an arm"));
            }
        }
        if let Some(arm) = self.teachers.iter().find(|arm| arm.teacher.is_some()) {
            return Err(Error::new(format!("the teacher {:?} has a teacher", arm.name)).help("make it one of the arms"));
        }
        match self.baseline.as_ref().filter(|baseline| !known(baseline)) {
            Some(baseline) => Err(Error::new(format!("the baseline {baseline:?} is none of the arms"))),
            None => Ok(()),
        }
    }

    /// Refuses `tuned_as` that names no tuned arm, and a `[tune]` that can't be carried out.
    fn check_tuned(&self) -> Result<()> {
        for arm in self.teachers.iter().chain(&self.arms) {
            let Some(name) = &arm.tuned_as else { continue };
            let tuned = self.teachers.iter().chain(&self.arms).find(|other| other.name == *name);
            if self.tune.is_none() || tuned.is_none_or(|tuned| tuned.tuned_as.is_some()) {
                return Err(Error::new(format!("the arm {:?} is tuned as {name:?}, which is no arm that is tuned", arm.name))
                    .help("`tuned_as` takes the name of an arm or a teacher without `tuned_as`, in a study with [tune]"));
            }
        }
        self.tune.iter().try_for_each(|tune| check_tune(self, tune))
    }

    /// Refuses a budget that is no time of a run.
    fn check_budgets(&self) -> Result<()> {
        let is_budget = |written: &String| match At::parse(written) {
            Some(At::Percent(percent)) => percent > 0.0 && percent <= 100.0,
            Some(At::Step(step)) => step > 0,
            None => false,
        };
        let of_arms = self.arms.iter().filter_map(|arm| arm.branches.as_ref());
        match of_arms.chain([&self.branches, &self.score_at]).flatten().find(|written| !is_budget(written)) {
            Some(written) => Err(Error::new(format!("{written:?} is no time of a run"))
                .help("write shares of the steps above 0 % and of at most 100 %, as in [\"25%\", \"50%\"], or steps")),
            None => Ok(()),
        }
    }
}

/// Refuses a teacher that has not the seeds which its student is to learn from.
fn check_teacher(spec: &StudySpec, arm: &ArmSpec) -> Result<()> {
    let TeacherOf::Trained { teacher, at } = spec.teacher_of(arm) else { return Ok(()) };
    if let Some(At::Percent(percent)) = at
        && !(percent > 0.0 && percent <= 100.0)
    {
        return Err(Error::new(format!("the arm {:?} wants its teacher at {percent} % of its training", arm.name))
            .help("write a share above 0 % and of at most 100 %"));
    }
    let there = spec.seeds_of_teacher(teacher);
    let missing = spec.seeds_of(arm).iter().find(|&&seed| !there.contains(&spec.teacher_seed(seed)));
    missing.map_or(Ok(()), |seed| {
        Err(Error::new(format!("the arm {:?} has seed {seed}, and its teacher {:?} has no such seed", arm.name, teacher.name))
            .help(format!(
                "{:?} has {there:?}; with `teacher_seeds = \"paired\"` a student learns from the teacher of its own seed",
                teacher.name
            )))
    })
}

fn check_tune(spec: &StudySpec, tune: &TuneSpec) -> Result<()> {
    let wrong = |what: &str, help: &str| Err(Error::new(format!("[tune]: {what}")).help(help));
    let mut values = tune.values.clone();
    values.sort_by(f64::total_cmp);
    values.dedup();
    if values.len() < 2 {
        return wrong("a grid of one value chooses nothing", "give two values or more, or leave [tune] out");
    }
    if !values.iter().all(|value| value.is_finite() && *value > 0.0) {
        return wrong("a value is not above 0", "the grid grows by factors: give numbers above 0");
    }
    if tune.seeds.is_empty() {
        return wrong("no seeds", "give at least one seed that the study does not use");
    }
    let used = |seed: &&u64| {
        let teachers = spec.teachers.iter().map(|arm| spec.seeds_of_teacher(arm));
        spec.arms.iter().map(|arm| spec.seeds_of(arm)).chain(teachers).any(|seeds| seeds.contains(seed))
    };
    if let Some(seed) = tune.seeds.iter().find(used) {
        let what = format!("seed {seed} is one of the study's, whose results would then decide their own settings");
        return wrong(&what, "give seeds that no arm and no teacher has");
    }
    if tune.steps == Some(0) || tune.rows == Some(0) {
        return wrong("trials of 0 steps or rows", "write 1 or more, or leave the key out");
    }
    let place = tune.placeholder();
    let sets = spec.teachers.iter().chain(&spec.arms).flat_map(|arm| &arm.set);
    if !sets.chain([&spec.base]).any(|text| text.contains(&place)) {
        let help = format!("write {place} where the value belongs, as in lr = \"0 -> {place} over 5%, then -> 0 linear\"");
        return wrong(&format!("{place} stands neither in the base nor in an arm's `set`"), &help);
    }
    Ok(())
}
