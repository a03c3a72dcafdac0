//! Temporary neighbours: what is half-made lies under a name that says whose it is, and is removed with its maker.
//!
//! `.upstill-PID-RANDOM.part` is a file or folder that is being written, and `.upstill-PID-RANDOM.old` holds a folder
//! that is about to be replaced. Their maker has an operating system's lock on each, where there are such locks, so
//! that another process can tell what was left behind from what is still needed, on another machine too.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::is_free;

/// What begins the name of all that is upstill's own and nobody's result.
const OURS: &str = ".upstill-";

/// Held while a temporary is made and while leftovers are looked for: between its making and its lock, it looks like
/// one.
static MAKING: Mutex<()> = Mutex::new(());

/// What this process is filling under temporary names.
static HALF_MADE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn half_made() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    HALF_MADE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes what this process has half-made, and its locks. For the end of a process that a signal asks to end: a thread
/// that would begin another temporary, or put one in its place, waits for that end.
pub fn remove_half_made() {
    let paths = half_made();
    paths.iter().for_each(|path| remove(path));
    std::mem::forget(paths);
    super::lock::leave_all();
}

/// What a temporary is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Being written.
    Part,
    /// Holds what a folder held, until the new content is in place.
    Old,
    /// A whole folder's content within the folder; what is there goes next.
    Ready,
    /// What was there is gone, and the content moves one level up.
    Moving,
}

const STAGES: [(Stage, &str); 4] =
    [(Stage::Part, ".part"), (Stage::Old, ".old"), (Stage::Ready, ".ready"), (Stage::Moving, ".moving")];

impl Stage {
    fn ending(self) -> &'static str {
        STAGES[self as usize].1
    }
}

/// Whether a name in a folder says nothing of what the folder is for: a lock, a temporary, what `mkfs` leaves in a new
/// disk.
pub fn is_by_the_way(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(OURS.as_bytes()) || name == "lost+found"
}

/// A file or folder under a temporary name; removed when the value ends, unless it was put in its place.
pub(super) struct Temporary {
    path: PathBuf,
    /// Locked for as long as it is open.
    held: Option<File>,
    stays: bool,
}

impl Temporary {
    /// A new file in `folder`, open for writing.
    pub fn file(folder: &Path) -> io::Result<(Self, File)> {
        let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let path = folder.join(new_name(Stage::Part));
            half_made().insert(path.clone());
            let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
            if !is_taken_for_a_leftover(&file) {
                return Ok((Self { path, held: None, stays: false }, file));
            }
        }
    }

    /// A new, empty folder in `folder`.
    pub fn folder(folder: &Path, stage: Stage) -> io::Result<Self> {
        let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let path = folder.join(new_name(stage));
            if stage == Stage::Part {
                half_made().insert(path.clone());
            }
            fs::create_dir(&path)?;
            // Some systems don't open a folder: there, nobody takes it for a leftover.
            let held = File::open(&path).ok();
            if !held.as_ref().is_some_and(is_taken_for_a_leftover) {
                return Ok(Self { path, held, stays: false });
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it the name of a later stage.
    pub fn advance(&mut self, stage: Stage) -> io::Result<()> {
        half_made().remove(&self.path);
        self.path = advanced(&self.path, stage)?;
        Ok(())
    }

    /// It gets its place now: from here on it is not half-made, whatever signal comes.
    pub fn is_whole(&self) {
        half_made().remove(&self.path);
    }

    /// What lies under the name, if anything, is to stay.
    pub fn stay(&mut self) {
        self.stays = true;
    }

    /// What lies under the name now is another folder, which is to be removed.
    pub fn was_swapped(&mut self) {
        self.held = None;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.stays {
            remove(&self.path);
        }
        half_made().remove(&self.path);
    }
}

/// Locks what was just made, unless a process elsewhere, to which our number says nothing, was faster. Where there are
/// no locks, nobody takes it for a leftover.
fn is_taken_for_a_leftover(file: &File) -> bool {
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// Renames a temporary to a later stage.
pub(super) fn advanced(path: &Path, stage: Stage) -> io::Result<PathBuf> {
    let to = path.with_extension(&stage.ending()[1..]);
    fs::rename(path, &to)?;
    Ok(to)
}

fn remove(path: &Path) {
    let _ = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
}

fn new_name(stage: Stage) -> String {
    let random = RandomState::new().hash_one(stage as u8);
    format!("{OURS}{}-{random:016x}{}", std::process::id(), stage.ending())
}

/// The process and the stage that a temporary's name has.
fn parse(name: &str) -> Option<(u32, Stage)> {
    let rest = name.strip_prefix(OURS)?;
    let (stage, rest) = STAGES.iter().find_map(|(stage, ending)| Some((*stage, rest.strip_suffix(ending)?)))?;
    let (pid, random) = rest.split_once('-')?;
    let is_random = random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some((pid.parse().ok().filter(|_| is_random)?, stage))
}

/// The temporaries in a folder that processes which are no more have left behind.
pub(super) fn leftovers(folder: &Path) -> Vec<(PathBuf, Stage)> {
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let ours = entries.filter_map(|entry| Some((entry.path(), parse(entry.file_name().to_str()?)?)));
    ours.filter(|(path, (pid, stage))| is_abandoned(path, *pid, *stage)).map(|(path, (_, stage))| (path, stage)).collect()
}

/// Whether nobody works on a temporary any more. What can't be told is not abandoned.
fn is_abandoned(path: &Path, pid: u32, stage: Stage) -> bool {
    let is_plain = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() || found.is_file());
    // A container has the same few numbers again and again: our own number may have been another's.
    let is_other = pid != std::process::id() && cfg!(target_os = "linux") && Path::new(&format!("/proc/{pid}")).exists();
    let is_unlocked = match File::open(path) {
        Ok(file) => file.try_lock().is_ok(),
        // Windows opens no folder. One that lies within its place is for whoever has the place's lock to finish.
        Err(_) => cfg!(windows) && pid != std::process::id() && matches!(stage, Stage::Ready | Stage::Moving),
    };
    is_plain && !is_other && is_unlocked
}

/// Removes what processes that are no more have left half-made in a folder, and puts back what one of them had set
/// aside; and the lock of one that is no more.
pub(super) fn sweep(folder: &Path) {
    super::lock::clear_stale(folder);
    for (path, stage) in leftovers(folder) {
        match stage {
            Stage::Part => remove(&path),
            Stage::Old => put_back(&path, folder),
            // Whole content; `publish::finish` puts it in place, when its folder is written next.
            Stage::Ready | Stage::Moving => {}
        }
    }
}

/// A folder that was set aside goes back to its place, unless the new one got there.
fn put_back(aside: &Path, folder: &Path) {
    for entry in fs::read_dir(aside).into_iter().flatten().flatten() {
        let place = folder.join(entry.file_name());
        let is_needed = is_free(&place).unwrap_or(false);
        let _ = fs::remove_dir(&place);
        if is_needed && fs::rename(entry.path(), &place).is_err() {
            return;
        }
    }
    remove(aside);
}

#[cfg(test)]
mod tests {
    use super::*;

    // Elsewhere a folder that is half-made has no lock, and stays.
    #[cfg(unix)]
    #[test]
    fn only_what_a_dead_process_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        // No process has this number: it is above the most that Linux gives.
        let dead = at(".upstill-4194999-0123456789abcdef.part");
        let alive = at(".upstill-1-0123456789abcdef.part");
        let others = [".upstill-x.part", ".upstill-12-ff.part", "a.part", "a.old~", ".upstill-lock"].map(at);
        for path in others.iter().chain([&dead, &alive]) {
            fs::create_dir(path).unwrap();
            fs::write(path.join("x"), "x").unwrap();
        }
        let own = Temporary::folder(dir.path(), Stage::Part).unwrap();
        let (own_file, _file) = Temporary::file(dir.path()).unwrap();
        sweep(dir.path());
        assert!(!dead.exists());
        assert!(others.iter().all(|path| path.join("x").exists()));
        if cfg!(target_os = "linux") {
            assert!(alive.exists());
        }
        assert!(own.path().exists() && own_file.path().exists(), "another thread's work is no leftover");
        let (own, own_file) = (own.path().to_owned(), own_file.path().to_owned());
        assert!(own.exists() && own_file.exists());
    }

    #[cfg(unix)]
    #[test]
    fn what_was_set_aside_goes_back_unless_the_new_one_got_there() {
        let dir = tempfile::tempdir().unwrap();
        for (name, is_there) in [("cut", false), ("done", true)] {
            let aside = dir.path().join(format!(".upstill-4194999-0123456789abcde{}.old", name.len()));
            fs::create_dir_all(aside.join(name)).unwrap();
            fs::write(aside.join(name).join("x"), "old").unwrap();
            if is_there {
                fs::create_dir(dir.path().join(name)).unwrap();
                fs::write(dir.path().join(name).join("x"), "new").unwrap();
            }
        }
        sweep(dir.path());
        assert_eq!(fs::read_to_string(dir.path().join("cut/x")).unwrap(), "old");
        assert_eq!(fs::read_to_string(dir.path().join("done/x")).unwrap(), "new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
