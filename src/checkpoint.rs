//! Checkpoints: whole folders with checksums, from which a run goes on exactly.
//!
//! `checkpoints/step-0001000/` holds `model/` (a Hugging Face folder) and `model.optimizer.safetensors`, or, for every
//! NAME of several models, `model/NAME/` and `model/NAME.optimizer.safetensors`; and `state.json`: the step, the plan's
//! hash, the held-out loss, blake3 of `steps.jsonl` up to there, of every file, and of itself.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, IoContext, Result};
use crate::files::manifest::{Hashes, Json, STATE, differing, hash, hashes_of, hashes_within, to_json};
use crate::files::{Files, make_folder, remove_folder, within, write_folder, write_text};

/// What a checkpoint says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Layout of this folder.
    pub version: u32,
    /// Where the run was.
    #[serde(flatten)]
    pub reached: Reached,
    /// blake3 of every other file, by its path within the folder.
    pub files: Hashes,
}

/// Where a run is when it writes a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reached {
    /// Optimizer steps done.
    pub step: u64,
    /// Hash of the plan it belongs to.
    pub plan_hash: String,
    /// Held-out loss in nats a token (of several models, their mean), when it was evaluated at this step.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held_out_loss: Option<f64>,
    /// blake3 of the lines of `steps.jsonl` for these steps.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub records: Option<String>,
}

/// A checkpoint that isn't written yet: the models' files, and beside them what it says of itself.
pub fn with_state(mut files: Files, reached: Reached) -> Files {
    let state = State { version: VERSION, reached, files: hashes_of(&files) };
    files.insert(STATE.to_owned(), to_json(&state).into_bytes());
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
    let state = parse_state(&String::from_utf8_lossy(&files[STATE]), name).map_err(|error| error.at(name))?;
    match state.files.iter().find(|(name, wanted)| files.get(*name).is_none_or(|bytes| hash(bytes) != **wanted)) {
        None => Ok(Some((state, files))),
        Some((file, _)) => Err(Error::new(format!("{file} is missing or altered since it was written")).at(name)),
    }
}

/// The name of a checkpoint's folder.
pub fn folder_name(step: u64) -> String {
    format!("step-{step:07}")
}

/// Where a run has its checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";
/// 1 had no checksum of `state.json` itself, and none of the records.
const VERSION: u32 = 2;

/// What [`Checkpoints::last_whole`] found.
#[derive(Debug)]
pub struct LastWhole {
    /// The last checkpoint that is whole, and what it says of itself; none where there are none at all.
    pub found: Option<(PathBuf, State)>,
    /// A line on each later one that is not whole, and on one of an older layout.
    pub notes: Vec<String>,
}

/// The checkpoints of one run.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
    /// Those that this process has written, or read in full: they are not read again for every one that follows.
    whole: RefCell<BTreeSet<PathBuf>>,
    /// Damaged checkpoints that a note was given about already.
    told: RefCell<BTreeSet<PathBuf>>,
}

impl Checkpoints {
    /// The checkpoints of a run directory; there may be none yet.
    pub fn of_run(run: &Path) -> Self {
        Self { folder: run.join(CHECKPOINTS), whole: RefCell::default(), told: RefCell::default() }
    }

    /// Writes a checkpoint whole: `fill` writes the models' files into the folder it is given.
    ///
    /// # Errors
    /// When it can't be written, or the run's folder is gone; earlier checkpoints stay.
    pub fn save(&self, reached: Reached, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        make_folder(&self.folder)?;
        let path = self.folder.join(folder_name(reached.step));
        write_folder(&path, |inside| {
            fill(inside)?;
            let mut files = hashes_within(inside, inside)?;
            files.remove(STATE);
            write_text(&inside.join(STATE), &to_json(&State { version: VERSION, reached, files }))
        })?;
        self.whole.borrow_mut().insert(path.clone());
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
            if step_of(&path).is_some() && path.is_dir() {
                found.push(path);
            }
        }
        found.sort_by_key(|path| step_of(path));
        Ok(found)
    }

    /// The last one that is whole and, where `plan_hash` is given, of this plan; with a line on each later one that is
    /// not.
    ///
    /// # Errors
    /// When there are checkpoints but none is whole.
    pub fn last_whole(&self, plan_hash: Option<&str>) -> Result<LastWhole> {
        let mut notes = Vec::new();
        for path in self.list()?.into_iter().rev() {
            let of_this_plan = |state: &State| match plan_hash {
                Some(hash) if state.reached.plan_hash != hash => {
                    Err(Error::new(format!("{}: the checkpoint of another plan", path.display())))
                }
                _ => Ok(()),
            };
            match verify(&path).and_then(|state| of_this_plan(&state).map(|()| state)) {
                Ok(state) => {
                    if state.version < VERSION {
                        notes.push(format!("{}: of an older version, which kept fewer checksums", path.display()));
                    }
                    self.whole.borrow_mut().insert(path.clone());
                    return Ok(LastWhole { found: Some((path, state)), notes });
                }
                Err(error) => notes.push(format!("skipped a damaged checkpoint: {}", error.what())),
            }
        }
        match notes.is_empty() {
            true => Ok(LastWhole { found: None, notes }),
            false => Err(Error::new(format!("no checkpoint is whole:\n  {}", notes.join("\n  ")))
                .at(self.folder.display())
                .help("copy the folder again; or delete it and steps.jsonl beside it, and --resume begins anew")),
        }
    }

    /// Deletes all but the last `keep`, the one with the lowest held-out loss, and those of the steps `keep_at`; the
    /// last one always stays. Damaged ones neither count nor are deleted. Gives a line on each of those, and on what
    /// could not be deleted: a run does not end for it.
    ///
    /// # Errors
    /// When the folder can't be listed.
    pub fn prune(&self, keep: usize, keep_at: &[u64]) -> Result<Vec<String>> {
        let (mut notes, mut whole) = (Vec::new(), Vec::new());
        let all = self.list()?;
        if all.len() <= keep.max(1) {
            return Ok(notes);
        }
        for path in all {
            match self.whole_state(&path) {
                Ok(state) => whole.push((path, state.reached.held_out_loss)),
                Err(error) if self.told.borrow_mut().insert(path) => {
                    notes.push(format!("a damaged checkpoint is left as it is, and not counted: {}", error.what()));
                }
                Err(_) => {}
            }
        }
        let mut best: Option<(f64, &Path)> = None;
        for (path, loss) in &whole {
            if let Some(loss) = *loss
                && best.is_none_or(|(lowest, _)| loss <= lowest)
            {
                best = Some((loss, path));
            }
        }
        let kept_from = whole.len().saturating_sub(keep.max(1));
        for (path, _) in &whole[..kept_from] {
            let is_wanted = step_of(path).is_some_and(|step| keep_at.contains(&step));
            if !is_wanted
                && best.is_none_or(|(_, best)| best != path)
                && let Err(error) = remove_folder(path)
            {
                notes.push(error.what().to_owned());
            }
        }
        Ok(notes)
    }

    /// A checkpoint's state, when it is whole: files of one that this process knows are not read again.
    fn whole_state(&self, path: &Path) -> Result<State> {
        if self.whole.borrow().contains(path) {
            let state = read_state(path)?;
            return match state.files.keys().find(|name| !path.join(name).is_file()) {
                Some(name) => Err(Error::new(format!("{}: {name} is missing", path.display()))),
                None => Ok(state),
            };
        }
        let state = verify(path)?;
        self.whole.borrow_mut().insert(path.to_owned());
        Ok(state)
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
    let wrong = differing(path, &state.files)?;
    if wrong.is_empty() {
        return Ok(state);
    }
    Err(Error::new(format!("{}: missing or altered since it was written: {}", path.display(), wrong.join(", ")))
        .help("go on from an earlier checkpoint: delete this folder"))
}

fn read_state(path: &Path) -> Result<State> {
    let file = path.join(STATE);
    let text = fs::read(&file).doing("read", &file)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    parse_state(&String::from_utf8_lossy(&text), &name)
        .map_err(|error| Error::new(format!("{}: {}", file.display(), error.what())))
}

/// `name` is the folder's, which says the step too.
fn parse_state(text: &str, name: &str) -> Result<State> {
    let json = Json::open(text)?;
    let state: State = json.parse("a checkpoint's state")?;
    match state.version {
        VERSION if !json.is_sealed => Err(Error::new("the file was altered since upstill wrote it: its checksum is missing")),
        1 | VERSION if folder_name(state.reached.step) != name => {
            Err(Error::new(format!("the state of step {}, in the folder {name}", state.reached.step)))
        }
        1 | VERSION => Ok(state),
        other => Err(Error::new(format!("a checkpoint of layout {other}, and this version reads {VERSION}"))
            .help("use the version of upstill that wrote it (run.json names it)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(step: u64, held_out_loss: Option<f64>) -> Reached {
        Reached { step, plan_hash: "plan".into(), held_out_loss, records: None }
    }

    fn save(checkpoints: &Checkpoints, step: u64, loss: Option<f64>) {
        checkpoints.save(reached(step, loss), |inside| write_text(&inside.join("weights"), &step.to_string())).unwrap();
    }

    fn steps(checkpoints: &Checkpoints) -> Vec<u64> {
        checkpoints.list().unwrap().iter().map(|path| verify(path).unwrap().reached.step).collect()
    }

    #[test]
    fn retention_keeps_the_last_ones_and_the_best() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of_run(dir.path());
        for (step, loss) in [(1, 3.0), (2, 1.0), (3, 2.0), (4, 2.5)] {
            save(&checkpoints, step, Some(loss));
        }
        assert!(checkpoints.prune(1, &[1]).unwrap().is_empty());
        assert_eq!(steps(&checkpoints), [1, 2, 4]);
        assert!(checkpoints.prune(1, &[]).unwrap().is_empty());
        assert_eq!(steps(&checkpoints), [2, 4]);
        assert!(checkpoints.prune(0, &[]).unwrap().is_empty());
        assert_eq!(steps(&checkpoints), [2, 4], "the last one is never deleted");
    }

    #[test]
    fn a_damaged_last_checkpoint_is_passed_over_and_said() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of_run(dir.path());
        assert!(checkpoints.last_whole(None).unwrap().found.is_none());
        save(&checkpoints, 1, None);
        save(&checkpoints, 2, None);
        write_text(&checkpoints.list().unwrap()[1].join("weights"), "altered").unwrap();
        let LastWhole { found, notes: said } = checkpoints.last_whole(None).unwrap();
        assert_eq!(found.unwrap().1.reached.step, 1);
        assert!(said[0].contains("missing or altered"), "{said:?}");
        fs::remove_file(checkpoints.list().unwrap()[0].join("weights")).unwrap();
        let error = checkpoints.last_whole(None).unwrap_err().to_string();
        assert!(error.contains("no checkpoint is whole"), "{error}");
    }

    #[test]
    fn a_failed_save_leaves_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of_run(dir.path());
        save(&checkpoints, 1, None);
        checkpoints.save(reached(2, None), |_| Err(Error::new("disk full"))).unwrap_err();
        assert_eq!(steps(&checkpoints), [1]);
    }

    #[test]
    fn a_damaged_checkpoint_neither_counts_as_kept_nor_ends_a_run() {
        for how in 0..4 {
            let dir = tempfile::tempdir().unwrap();
            let checkpoints = Checkpoints::of_run(dir.path());
            (1..=3).for_each(|step| save(&checkpoints, step, None));
            // Damaged before this process came.
            let damaged = checkpoints.list().unwrap()[2].clone();
            match how {
                0 => fs::remove_file(damaged.join(STATE)).unwrap(),
                1 => fs::write(damaged.join(STATE), "{").unwrap(),
                2 => fs::write(damaged.join("weights"), "4").unwrap(),
                _ => fs::remove_file(damaged.join("weights")).unwrap(),
            }
            let checkpoints = Checkpoints::of_run(dir.path());
            let said = checkpoints.prune(1, &[]).unwrap();
            assert!(said.len() == 1 && said[0].contains("step-0000003") && said[0].contains("not counted"), "{said:?}");
            assert_eq!(checkpoints.last_whole(None).unwrap().found.unwrap().1.reached.step, 2, "the last whole one stays");
            assert!(damaged.is_dir());
            save(&checkpoints, 4, None);
            assert!(checkpoints.prune(1, &[]).unwrap().is_empty(), "said once");
            let left: Vec<_> = checkpoints.list().unwrap().iter().filter_map(|path| step_of(path)).collect();
            assert_eq!(left, [3, 4]);
        }
    }

    #[test]
    fn no_bit_of_a_checkpoint_can_turn() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of_run(dir.path());
        save(&checkpoints, 1, Some(2.5));
        let path = checkpoints.list().unwrap().remove(0);
        let said = verify(&path).unwrap();
        for name in [STATE, "weights"] {
            let bytes = fs::read(path.join(name)).unwrap();
            for bit in 0..8 * bytes.len() {
                let mut other = bytes.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                fs::write(path.join(name), &other).unwrap();
                match verify(&path) {
                    Err(error) => assert!(error.to_string().contains("step-0000001"), "{name}, bit {bit}: {error}"),
                    // White space at the end.
                    Ok(found) => assert_eq!(found, said, "{name}, bit {bit}"),
                }
            }
            fs::write(path.join(name), bytes).unwrap();
        }
        assert_eq!(verify(&path).unwrap(), said);
    }

    #[test]
    fn checkpoints_of_other_plans_and_steps_are_passed_over_and_older_ones_read() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of_run(dir.path());
        save(&checkpoints, 1, None);
        save(&checkpoints, 2, None);
        fs::rename(dir.path().join("checkpoints/step-0000002"), dir.path().join("checkpoints/step-0000003")).unwrap();
        let LastWhole { found, notes } = checkpoints.last_whole(Some("plan")).unwrap();
        assert_eq!(found.unwrap().1.reached.step, 1);
        assert!(notes[0].contains("the state of step 2, in the folder step-0000003"), "{notes:?}");
        let error = checkpoints.last_whole(Some("another")).unwrap_err().to_string();
        assert!(error.contains("the checkpoint of another plan"), "{error}");

        // As version 0.1 wrote it.
        let older = dir.path().join("checkpoints/step-0000004");
        fs::create_dir(&older).unwrap();
        fs::write(older.join("weights"), "4").unwrap();
        let state = r#"{"version": 1, "step": 4, "plan_hash": "plan", "files": {"weights": "HASH"}}"#;
        fs::write(older.join(STATE), state.replace("HASH", &hash(b"4"))).unwrap();
        let LastWhole { found, notes } = checkpoints.last_whole(Some("plan")).unwrap();
        assert_eq!(found.unwrap().1.reached.step, 4);
        assert!(notes[0].contains("of an older version"), "{notes:?}");
    }

    // Elsewhere a folder whose lock is open can't be removed.
    #[cfg(unix)]
    #[test]
    fn where_the_run_is_gone_nothing_is_saved() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let _lock = crate::files::Lock::take(&run).unwrap();
        let checkpoints = Checkpoints::of_run(&run);
        save(&checkpoints, 1, None);
        fs::remove_dir_all(&run).unwrap();
        let error = checkpoints.save(reached(2, None), |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("was removed or replaced") && !run.exists(), "{error}");
    }
}
