//! Checkpoints: whole folders with checksums, from which a run goes on exactly.
//!
//! `checkpoints/step-0001000/` holds `model/` (a Hugging Face folder) and `model.optimizer.safetensors`, or, for every NAME of
//! several models, `model/NAME/` and `model/NAME.optimizer.safetensors`; and `state.json`: the step, the plan's hash, the held-out loss, and blake3 of every file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, IoContext, Result};
use crate::files::{Files, make_folder, within, write_folder, write_text};

/// What a checkpoint says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Layout of this folder.
    pub version: u32,
    /// Optimizer steps done.
    pub step: u64,
    /// Hash of the plan it belongs to.
    pub plan_hash: String,
    /// Held-out loss in nats a masked token (of several models, their mean), when it was evaluated at this step.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held_out_loss: Option<f64>,
    /// blake3 of every other file, by its path within the folder.
    pub files: BTreeMap<String, String>,
}

impl State {
    fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a state in memory can be written") + "\n"
    }
}

/// A checkpoint that isn't written yet: the models' files, and beside them what it says of itself.
pub fn with_state(mut files: Files, step: u64, plan_hash: &str, held_out_loss: Option<f64>) -> Files {
    let hashes = files.iter().map(|(name, bytes)| (name.clone(), hash(bytes))).collect();
    let state = State { version: VERSION, step, plan_hash: plan_hash.to_owned(), held_out_loss, files: hashes };
    files.insert(STATE.to_owned(), state.to_json().into_bytes());
    files
}

/// The last whole checkpoint of a run in memory, with its files; none where there is none.
///
/// # Errors
/// When the last one is not whole.
pub fn last_of_files(run: &Files) -> Result<Option<(State, Files)>> {
    let all = within(run, CHECKPOINTS);
    let Some(name) = all.keys().filter_map(|path| path.strip_suffix(STATE)?.strip_suffix('/')).next_back() else {
        return Ok(None);
    };
    let files = within(&all, name);
    let state = parse_state(&String::from_utf8_lossy(&files[STATE])).map_err(|error| error.at(name))?;
    match state.files.iter().find(|(name, wanted)| files.get(*name).is_none_or(|bytes| hash(bytes) != **wanted)) {
        None => Ok(Some((state, files))),
        Some((file, _)) => Err(Error::new(format!("{file} is missing or altered since it was written")).at(name)),
    }
}

/// The name of a checkpoint's folder.
pub fn folder_name(step: u64) -> String {
    format!("step-{step:07}")
}

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Where a run has its checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";
const VERSION: u32 = 1;
const STATE: &str = "state.json";

/// What [`Checkpoints::last_whole`] found.
#[derive(Debug)]
pub struct LastWhole {
    /// The last checkpoint that is whole, and what it says of itself; none where there are none at all.
    pub found: Option<(PathBuf, State)>,
    /// A line on each later one that is not whole.
    pub damaged: Vec<String>,
}

/// The checkpoints of one run.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    /// Those of a run directory; there may be none yet.
    pub fn of_run(run: &Path) -> Self {
        Self { folder: run.join(CHECKPOINTS) }
    }

    /// Writes the checkpoint of `step` whole: `fill` writes the models' files into the folder it is given.
    ///
    /// # Errors
    /// When it can't be written; earlier checkpoints stay.
    pub fn save(
        &self,
        step: u64,
        plan_hash: &str,
        held_out_loss: Option<f64>,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        make_folder(&self.folder)?;
        let path = self.folder.join(folder_name(step));
        write_folder(&path, |inside| {
            fill(inside)?;
            let files = hash_files(inside)?;
            let state = State { version: VERSION, step, plan_hash: plan_hash.to_owned(), held_out_loss, files };
            write_text(&inside.join(STATE), &state.to_json())
        })?;
        Ok(path)
    }

    /// All of them, first to last.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn list(&self) -> Result<Vec<PathBuf>> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).doing("read", &self.folder)? {
            let path = entry.doing("read", &self.folder)?.path();
            if path.join(STATE).exists() && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("step-")) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    /// The last one that is whole, with a line on each later one that is not.
    ///
    /// # Errors
    /// When there are checkpoints but none is whole.
    pub fn last_whole(&self) -> Result<LastWhole> {
        let mut damaged = Vec::new();
        for path in self.list()?.into_iter().rev() {
            match verify(&path) {
                Ok(state) => return Ok(LastWhole { found: Some((path, state)), damaged }),
                Err(error) => damaged.push(format!("skipped a damaged checkpoint: {}", error.what())),
            }
        }
        match damaged.is_empty() {
            true => Ok(LastWhole { found: None, damaged }),
            false => Err(Error::new(format!("no checkpoint is whole:\n  {}", damaged.join("\n  ")))
                .at(self.folder.display())
                .help("start again in a new folder")),
        }
    }

    /// Deletes all but the last `keep`, the one with the lowest held-out loss, and those of the steps `keep_at`; the last one always
    /// stays.
    ///
    /// # Errors
    /// When one can't be read or deleted.
    pub fn prune(&self, keep: usize, keep_at: &[u64]) -> Result<()> {
        let all = self.list()?;
        let mut best: Option<(f64, &Path)> = None;
        for path in &all {
            if let Some(loss) = read_state(path)?.held_out_loss
                && best.is_none_or(|(lowest, _)| loss <= lowest)
            {
                best = Some((loss, path));
            }
        }
        let kept_from = all.len().saturating_sub(keep.max(1));
        for path in &all[..kept_from] {
            let is_wanted = step_of(path).is_some_and(|step| keep_at.contains(&step));
            if !is_wanted && best.is_none_or(|(_, best)| best != path) {
                fs::remove_dir_all(path).doing("delete", path)?;
            }
        }
        Ok(())
    }
}

/// The optimizer steps that a checkpoint's folder is named for.
pub fn step_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()
}

/// Reads a checkpoint's state and checks every file against it.
///
/// # Errors
/// When a file is missing, altered, or the state can't be read.
pub fn verify(path: &Path) -> Result<State> {
    let state = read_state(path)?;
    let found = hash_files(path)?;
    let wrong: Vec<&str> =
        state.files.iter().filter(|(name, hash)| found.get(*name) != Some(hash)).map(|(name, _)| name.as_str()).collect();
    if wrong.is_empty() {
        return Ok(state);
    }
    Err(Error::new(format!("{}: missing or altered since it was written: {}", path.display(), wrong.join(", ")))
        .help("go on from an earlier checkpoint: delete this folder"))
}

fn read_state(path: &Path) -> Result<State> {
    let file = path.join(STATE);
    let text = fs::read_to_string(&file).doing("read", &file)?;
    parse_state(&text).map_err(|error| error.at(file.display()))
}

fn parse_state(text: &str) -> Result<State> {
    let state: State = serde_json::from_str(text).map_err(|error| Error::new(format!("not a checkpoint's state: {error}")))?;
    match state.version {
        VERSION => Ok(state),
        other => Err(Error::new(format!("a checkpoint of layout {other}, and this version reads {VERSION}"))
            .help("use the version of upstill that wrote it (run.json names it)")),
    }
}

fn hash_files(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut out = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).doing("read", &next)? {
            let path = entry.doing("read", &next)?.path();
            let name = path.strip_prefix(folder).expect("found below it").to_string_lossy().replace('\\', "/");
            if path.is_dir() {
                open.push(path);
            } else if name != STATE {
                let bytes = fs::read(&path).doing("read", &path)?;
                out.insert(name, hash(&bytes));
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save(checkpoints: &Checkpoints, step: u64, loss: Option<f64>) {
        checkpoints.save(step, "plan", loss, |inside| write_text(&inside.join("weights"), &step.to_string())).unwrap();
    }

    fn steps(checkpoints: &Checkpoints) -> Vec<u64> {
        checkpoints.list().unwrap().iter().map(|path| verify(path).unwrap().step).collect()
    }

    #[test]
    fn retention_keeps_the_last_ones_and_the_best() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of_run(dir.path());
        for (step, loss) in [(1, 3.0), (2, 1.0), (3, 2.0), (4, 2.5)] {
            save(&checkpoints, step, Some(loss));
        }
        checkpoints.prune(1, &[1]).unwrap();
        assert_eq!(steps(&checkpoints), [1, 2, 4]);
        checkpoints.prune(1, &[]).unwrap();
        assert_eq!(steps(&checkpoints), [2, 4]);
        checkpoints.prune(0, &[]).unwrap();
        assert_eq!(steps(&checkpoints), [2, 4], "the last one is never deleted");
    }

    #[test]
    fn a_damaged_last_checkpoint_is_passed_over_and_said() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of_run(dir.path());
        assert!(checkpoints.last_whole().unwrap().found.is_none());
        save(&checkpoints, 1, None);
        save(&checkpoints, 2, None);
        write_text(&checkpoints.list().unwrap()[1].join("weights"), "altered").unwrap();
        let LastWhole { found, damaged: said } = checkpoints.last_whole().unwrap();
        assert_eq!(found.unwrap().1.step, 1);
        assert!(said[0].contains("missing or altered"), "{said:?}");
        fs::remove_file(checkpoints.list().unwrap()[0].join("weights")).unwrap();
        let error = checkpoints.last_whole().unwrap_err().to_string();
        assert!(error.contains("no checkpoint is whole"), "{error}");
    }

    #[test]
    fn a_failed_save_leaves_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of_run(dir.path());
        save(&checkpoints, 1, None);
        checkpoints.save(2, "plan", None, |_| Err(Error::new("disk full"))).unwrap_err();
        assert_eq!(steps(&checkpoints), [1]);
    }
}
