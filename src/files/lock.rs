//! One process at a time in a folder: an operating system's lock on a file in it, which ends with the process however
//! it ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf, absolute};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::is_free;
use crate::error::{Error, IoContext, Result};

/// The file in a folder that a process locks; there for as long as it works in it.
const LOCK: &str = ".upstill-lock";
/// How often a lock that another process has is asked for.
const POLL: Duration = Duration::from_millis(100);
/// Folders and lock files come and go with other processes; more turns than this are something else.
const TURNS: usize = 1000;

/// This process's alone: a folder, or what a lock file stands for, for as long as the value lives.
///
/// What is written below the folder by the functions of this room finds out whether it is still the same one
/// ([`still_there`]). A lock that ends leaves no file behind, and no folder that it made and that is empty.
pub struct Lock {
    file: PathBuf,
    /// Locked while it is open. None where the file system has no locks; then the user's care is what there is.
    _open: Option<File>,
}

/// Another process has what was asked for.
#[derive(Debug, Clone)]
pub struct Busy {
    /// The number of the process, where its lock says it.
    pub process: Option<u32>,
    folder: PathBuf,
}

impl Busy {
    /// "another process (4711)", the number where it is known.
    pub fn whose(&self) -> String {
        self.process.map_or("another process".to_owned(), |number| format!("another process ({number})"))
    }

    /// As an error.
    pub fn into_error(self) -> Error {
        Error::new(format!("{} is working in this folder", self.whose()))
            .at(self.folder.display())
            .help("wait for it to end, or choose another folder")
    }
}

impl Lock {
    /// Takes a folder, which is made where it is missing.
    ///
    /// # Errors
    /// When another process has it, or it can't be written in.
    pub fn take(folder: &Path) -> Result<Self> {
        Self::wait(folder, &mut |busy| Err(busy.into_error()))
    }

    /// [`Lock::take`], but waits for another process to end; `each` is called a few times a second meanwhile.
    ///
    /// # Errors
    /// When the folder can't be written in, or `each` says so.
    pub fn wait(folder: &Path, each: &mut dyn FnMut(Busy) -> Result<()>) -> Result<Self> {
        Self::wait_file(&folder.join(LOCK), each)
    }

    /// A lock file that stands for something else than its folder, if no other process has it.
    ///
    /// # Errors
    /// When its folder can't be written in.
    pub fn try_file(file: &Path) -> Result<Option<Self>> {
        let mut is_busy = false;
        let tried = Self::wait_file(file, &mut |busy| {
            is_busy = true;
            Err(busy.into_error())
        });
        if is_busy { Ok(None) } else { tried.map(Some) }
    }

    /// Takes a lock file that stands for something else than its folder, and waits for it as [`Lock::wait`] does.
    ///
    /// # Errors
    /// As [`Lock::wait`].
    pub fn wait_file(file: &Path, each: &mut dyn FnMut(Busy) -> Result<()>) -> Result<Self> {
        let folder = file.parent().unwrap_or(Path::new(""));
        still_there(folder)?;
        let mut made = Made(Vec::new());
        let mut vanished = 0;
        while vanished < TURNS {
            made.0.extend(make_folders(folder).doing("create", folder)?);
            match attempt(file) {
                Ok(Ok(open)) => {
                    let file = absolute(Path::new(".").join(file)).doing("find", file)?;
                    let identity = open.as_ref().and_then(|open| Some(identity_of(&open.metadata().ok()?)));
                    held().push(Held { file: file.clone(), identity, made: std::mem::take(&mut made.0) });
                    return Ok(Self { file, _open: open });
                }
                Ok(Err(process)) => {
                    each(Busy { process, folder: folder.to_owned() })?;
                    std::thread::sleep(POLL);
                }
                // Another process has just removed the folder that it made for nothing.
                Err(error) if error.kind() == ErrorKind::NotFound => vanished += 1,
                Err(error) => return Err(error).doing("write in", folder),
            }
        }
        Err(Error::new("the folder comes and goes").at(folder.display()).help("choose another"))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut held = held();
        if let Some(at) = held.iter().position(|other| other.file == self.file) {
            held.swap_remove(at).clean_up();
        }
    }
}

/// Folders that were made, and are removed again while they are empty.
struct Made(Vec<PathBuf>);

impl Drop for Made {
    fn drop(&mut self) {
        self.0.iter().rev().for_each(|path| drop(fs::remove_dir(path)));
    }
}

/// Makes a folder and those above it; gives the ones that weren't there.
fn make_folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    let mut made = Made(Vec::new());
    for path in missing.into_iter().rev() {
        match fs::create_dir(path) {
            Ok(()) => made.0.push(path.to_owned()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
            Err(error) => return Err(error),
        }
    }
    if folder.is_file() {
        return Err(ErrorKind::NotADirectory.into());
    }
    Ok(std::mem::take(&mut made.0))
}

/// The locked file, if there are locks, or the number of the process that has it.
fn attempt(path: &Path) -> io::Result<std::result::Result<Option<File>, Option<u32>>> {
    for _ in 0..TURNS {
        let mut open = open(path)?;
        match open.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = open.read_to_string(&mut text);
                return Ok(Err(text.trim().parse().ok()));
            }
            Err(TryLockError::Error(_)) => return Ok(Ok(None)),
        }
        let own = open.metadata().ok().map(|found| identity_of(&found));
        if own.is_none() || own != identity(path) {
            continue; // its last holder removed it between our opening and our lock
        }
        // For people and for messages: what counts is the lock.
        let _ = open.set_len(0).and_then(|()| writeln!(open, "{}", std::process::id()));
        return Ok(Ok(Some(open)));
    }
    Err(ErrorKind::ResourceBusy.into())
}

fn open(path: &Path) -> io::Result<File> {
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    match open {
        // Left by another user's process, in a folder that both may write in: a lock needs no more than reading.
        Err(error) if error.kind() == ErrorKind::PermissionDenied && path.exists() => File::open(path),
        open => open,
    }
}

/// What makes a file this file and no other of its name.
type Identity = (u64, u64);

#[cfg(unix)]
fn identity_of(found: &fs::Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (found.dev(), found.ino())
}

/// Without numbers of files, that it is there has to do.
#[cfg(not(unix))]
fn identity_of(_: &fs::Metadata) -> Identity {
    (0, 0)
}

fn identity(path: &Path) -> Option<Identity> {
    fs::symlink_metadata(path).ok().map(|found| identity_of(&found))
}

/// A lock file that this process holds.
struct Held {
    file: PathBuf,
    /// None where the file system has no locks.
    identity: Option<Identity>,
    /// Folders that were made for it, the outermost first.
    made: Vec<PathBuf>,
}

static HELD: Mutex<Vec<Held>> = Mutex::new(Vec::new());

fn held() -> MutexGuard<'static, Vec<Held>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Held {
    fn is_the_same(&self) -> bool {
        self.identity.is_none() || self.identity == identity(&self.file)
    }

    /// Whoever waits for the lock looks whether what was locked is what lies there.
    fn clean_up(self) {
        if cfg!(unix) && self.identity.is_some() && self.is_the_same() {
            let _ = fs::remove_file(&self.file);
        }
        drop(Made(self.made));
    }
}

/// Removes the lock files of this process, at its end: a thread that would take or leave one, or write in a locked
/// folder, waits for that end.
pub(super) fn leave_all() {
    let mut held = held();
    std::mem::take(&mut *held).into_iter().for_each(Held::clean_up);
    std::mem::forget(held);
}

/// Checks that the folders which this process has locked around `path` are still the ones that it locked: else what is
/// written would go into another's folder, or nowhere.
///
/// # Errors
/// When one of them was removed, moved or replaced.
pub fn still_there(path: &Path) -> Result<()> {
    #[cfg(test)]
    super::fault::next_write()?;
    let path = absolute(Path::new(".").join(path)).doing("find", path)?;
    let held = held();
    let folder = |held: &Held| held.file.parent().map(Path::to_owned).unwrap_or_default();
    match held.iter().find(|held| path.starts_with(folder(held)) && !held.is_the_same()) {
        None => Ok(()),
        Some(held) => Err(Error::new("the folder, or the lock in it, was removed or replaced while this process worked in it")
            .at(folder(held).display())
            .help("run the command again; nothing more was written")),
    }
}

/// What a folder is taken for: a run, a study, known by a file that is in it from the beginning.
pub struct Claim<'a> {
    /// The folder.
    pub folder: &'a Path,
    /// The file's name.
    pub marker: &'a str,
    /// What the folder is then, with its article: "a run".
    pub what: &'a str,
}

impl Claim<'_> {
    /// Takes the folder, and looks and writes only then: where the file is there, `known` says whether it is the one
    /// that is meant; in a folder that is free, `begin` writes it.
    ///
    /// # Errors
    /// When another process has the folder, it holds something else, or as `known` and `begin` say. Then it is as it
    /// was.
    pub fn take(&self, known: impl FnOnce(&Path) -> Result<()>, begin: impl FnOnce(&Path) -> Result<()>) -> Result<Lock> {
        self.wait(&mut |busy| Err(busy.into_error()), known, begin)
    }

    /// [`Claim::take`], but waits for another process as [`Lock::wait`] does.
    ///
    /// # Errors
    /// As [`Claim::take`], and as `each` says.
    pub fn wait(
        &self,
        each: &mut dyn FnMut(Busy) -> Result<()>,
        known: impl FnOnce(&Path) -> Result<()>,
        begin: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Lock> {
        self.is_there()?; // somebody's own folder is not even locked
        let lock = Lock::wait(self.folder, each)?;
        super::temporary::sweep(self.folder);
        let file = self.folder.join(self.marker);
        match self.is_there()? {
            true => known(&file)?,
            false => begin(&file)?,
        }
        Ok(lock)
    }

    /// Whether the file is there; else the folder has to be free.
    fn is_there(&self) -> Result<bool> {
        if self.folder.join(self.marker).exists() {
            return Ok(true);
        }
        match is_free(self.folder)? {
            true => Ok(false),
            false => Err(Error::new(format!("this folder holds something that is not {}; it was left as it is", self.what))
                .at(self.folder.display())
                .help("choose another --out")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_holders_and_the_other_is_told_whose() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        let lock = Lock::take(&folder).unwrap();
        let said = Lock::take(&folder).err().unwrap().to_string();
        assert!(said.contains(&format!("another process ({})", std::process::id())), "{said}");
        assert!(said.contains(&folder.display().to_string()), "{said}");
        assert!(is_free(&folder).unwrap(), "a lock is no content");
        drop(lock);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "an empty folder that was made for it goes with it");
        Lock::take(&folder).unwrap();
    }

    #[test]
    fn a_lock_that_a_dead_process_left_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(LOCK), "4194999\n").unwrap();
        let lock = Lock::take(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(LOCK)).unwrap(), format!("{}\n", std::process::id()));
        drop(lock);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn threads_that_take_and_leave_a_folder_never_have_it_together() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("made/again");
        let inside = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let Ok(_lock) = Lock::take(&folder) else { continue };
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    }
                });
            }
        });
    }

    #[test]
    fn a_folder_that_vanished_is_found_out() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("run");
        let _lock = Lock::take(&folder).unwrap();
        still_there(&folder.join("checkpoints/x")).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let gone = still_there(&folder.join("checkpoints/x")).unwrap_err().to_string();
        assert!(gone.contains("was removed or replaced"), "{gone}");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(LOCK), "another's").unwrap();
        still_there(&folder.join("x")).unwrap_err();
        still_there(dir.path()).unwrap();
    }

    #[test]
    fn a_claimed_folder_is_begun_once_and_nobodys_own_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let claim = |folder: &Path, text: &str| {
            let known = |file: &Path| match fs::read_to_string(file).unwrap() == text {
                true => Ok(()),
                false => Err(Error::new("another plan")),
            };
            let begin = |file: &Path| fs::write(file, text).doing("write", file);
            Claim { folder, marker: "plan.toml", what: "a run" }.take(known, begin).map(drop)
        };
        claim(&at("run"), "one").unwrap();
        claim(&at("run"), "one").unwrap();
        claim(&at("run"), "two").unwrap_err();
        assert_eq!(fs::read_to_string(at("run/plan.toml")).unwrap(), "one");
        fs::create_dir(at("mine")).unwrap();
        fs::write(at("mine/thesis.tex"), "mine").unwrap();
        assert!(claim(&at("mine"), "one").unwrap_err().to_string().contains("not a run"));
        // Killed between the folder and its file: what was left is no content.
        fs::create_dir(at("cut")).unwrap();
        fs::write(at("cut").join(LOCK), "4194999\n").unwrap();
        fs::write(at("cut/.upstill-4194999-0123456789abcdef.part"), "ha").unwrap();
        claim(&at("cut"), "one").unwrap();
        assert_eq!(fs::read_dir(at("cut")).unwrap().count(), 1);
    }
}
