//! A study as a list of commands, one a run, for schedulers that know nothing of studies.

use std::path::Path;

use super::spec::{ArmSpec, StudySpec};

/// One run of a study by its arm's name and its seed, as `--cell` takes it: `soft 1#2`.
pub fn cell_name(arm: &str, seed: u64) -> String {
    format!("{arm}#{seed}")
}

/// The arm and the seed of a [`cell_name`].
pub fn parse_cell(name: &str) -> Option<(&str, u64)> {
    let (arm, seed) = name.rsplit_once('#')?;
    Some((arm, seed.parse().ok()?))
}

/// One command a run, teachers before students: `words` and `--cell`, quoted for a POSIX shell. Each can be given again
/// at any time, and does only what is not done.
pub fn jobs(spec: &StudySpec, words: &[String]) -> Vec<String> {
    let names = |seed: u64, arms: Vec<(&ArmSpec, &[u64])>| -> Vec<String> {
        arms.into_iter().filter(|(_, seeds)| seeds.contains(&seed)).map(|(arm, _)| cell_name(&arm.name, seed)).collect()
    };
    let teachers = || spec.teachers.iter().map(|arm| (arm, spec.seeds_of_teacher(arm))).collect::<Vec<_>>();
    let arms = || spec.arms.iter().map(|arm| (arm, spec.seeds_of(arm))).collect::<Vec<_>>();
    let seeds = |arms: Vec<(&ArmSpec, &[u64])>| {
        let mut seeds: Vec<u64> = Vec::new();
        for seed in arms.iter().flat_map(|(_, seeds)| seeds.iter()) {
            if !seeds.contains(seed) {
                seeds.push(*seed);
            }
        }
        seeds
    };
    let of_teachers = seeds(teachers()).into_iter().flat_map(|seed| names(seed, teachers()));
    let cells = of_teachers.chain(seeds(arms()).into_iter().flat_map(|seed| names(seed, arms())));
    let command = |cell: String| {
        let words = words.iter().cloned().chain(["--cell".to_owned(), cell]);
        words.map(|word| quoted(&word)).collect::<Vec<_>>().join(" ")
    };
    cells.map(command).collect()
}

/// [`jobs`] as a script of an array job for Slurm: `sbatch study.sh`. Task i runs the i-th command; logs go to `logs`.
pub fn slurm_script(commands: &[String], logs: &Path) -> String {
    format!(
        "#!/bin/sh\n\
         # One task a run; a student trains its teacher, or waits for the task that does. What is done already is not repeated.\n\
         # Set here what your cluster asks for: --partition, --account, --gres=gpu:1, --time; --array=1-{last}%8 limits the tasks at a time.\n\
         #SBATCH --job-name=upstill-study\n\
         #SBATCH --array=1-{last}\n\
         #SBATCH --output={logs}/slurm-%A-%a.log\n\
         # Training saves and ends within this many seconds before the time is over; the same command goes on.\n\
         #SBATCH --signal=TERM@120\n\
         {}",
        choice("$SLURM_ARRAY_TASK_ID", commands),
        last = commands.len(),
        logs = logs.display(),
    )
}

/// [`jobs`] as an indexed Job for Kubernetes: `kubectl apply -f study.yaml`.
pub fn kubernetes_job(commands: &[String]) -> String {
    let script: String =
        choice("$((JOB_COMPLETION_INDEX + 1))", commands).lines().map(|line| format!("          {line}\n")).collect();
    format!(
        "# One pod a run; a student trains its teacher, or waits for the pod that does. What is done already is not repeated.\n\
         # Set here: the image, the claim of a volume that all pods share and that holds the data, and GPUs under resources.\n\
         apiVersion: batch/v1\n\
         kind: Job\n\
         metadata:\n  name: upstill-study\n\
         spec:\n  completions: {all}\n  parallelism: {at_once}\n  completionMode: Indexed\n  backoffLimit: {all}\n\
         \x20 template:\n    spec:\n      restartPolicy: Never\n      terminationGracePeriodSeconds: 120\n\
         \x20     containers:\n      - name: upstill\n        image: upstill:{version}\n        workingDir: /work\n\
         \x20       command: [\"/bin/sh\", \"-c\"]\n        args:\n        - |\n{script}\
         \x20       volumeMounts:\n        - name: work\n          mountPath: /work\n\
         \x20     volumes:\n      - name: work\n        persistentVolumeClaim:\n          claimName: upstill\n",
        all = commands.len(),
        at_once = commands.len().min(8),
        version = env!("CARGO_PKG_VERSION"),
    )
}

/// A shell's choice of one command by its number, counted from 1.
fn choice(number: &str, commands: &[String]) -> String {
    let lines: String = (1..).zip(commands).map(|(at, command)| format!("{at}) exec {command} ;;\n")).collect();
    format!("case {number} in\n{lines}*) echo \"there is no such run\" >&2; exit 2 ;;\nesac\n")
}

/// A word as a POSIX shell reads it back.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::Size;

    #[test]
    fn a_study_is_a_list_of_commands_teachers_first() {
        let words = ["upstill", "study", "--size", "tiny", "--out", "it's here"].map(str::to_owned);
        insta::assert_snapshot!(jobs(&StudySpec::pocket(Size::Tiny), &words).join("\n"), @r"
        upstill study --size tiny --out 'it'\''s here' --cell 'teacher, 1 layer#1'
        upstill study --size tiny --out 'it'\''s here' --cell 'teacher, 1 layer#2'
        upstill study --size tiny --out 'it'\''s here' --cell 'stand-alone#1'
        upstill study --size tiny --out 'it'\''s here' --cell 'soft 1#1'
        upstill study --size tiny --out 'it'\''s here' --cell 'stand-alone#2'
        upstill study --size tiny --out 'it'\''s here' --cell 'soft 1#2'
        ");
    }

    #[test]
    fn a_cell_is_named_by_its_arm_and_seed() {
        assert_eq!(parse_cell(&cell_name("soft #1, from 2", 7)), Some(("soft #1, from 2", 7)));
        assert_eq!((parse_cell("soft 1"), parse_cell("soft 1#x")), (None, None));
    }
}
