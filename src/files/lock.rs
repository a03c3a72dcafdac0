//! One process at a time in a folder: an operating system's lock on a file in it, which ends with the process however
//! it ends. Where the file system has no locks, a file that one process alone can make says whose the folder is.
//!
//! A folder is locked before it is looked at. Everything that is written below it checks that the lock file is still
//! the one that was locked. A study's cells lock each other out (`locks/` in its folder), so that any number of
//! processes may share the study.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf, absolute};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::owner::{Owner, Taken};
use crate::error::{Error, IoContext, Result, note};

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
    /// Locked while it is open. None where the file system has no locks.
    _open: Option<File>,
}

/// Another process has what was asked for.
#[derive(Debug, Clone)]
pub struct Busy {
    /// The number of the process, where its lock says it.
    pub process: Option<u32>,
    folder: PathBuf,
    /// Where the file system has no locks, the file that says so; a process of another machine that was killed leaves
    /// it behind.
    said_by: Option<PathBuf>,
}

impl Busy {
    /// "another process (4711)", the number where it is known.
    pub fn whose(&self) -> String {
        self.process.map_or("another process".to_owned(), |number| format!("another process ({number})"))
    }

    /// The error that says so.
    pub fn into_error(self) -> Error {
        let help = match &self.said_by {
            Some(file) => format!("wait for it to end, or choose another folder; if it is no more, delete {}", file.display()),
            None => "wait for it to end, or choose another folder".to_owned(),
        };
        Error::new(format!("{} is working in this folder", self.whose())).at(self.folder.display()).help(help)
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
                Ok(Attempt::Locked(open)) => {
                    let identity = open.metadata().ok().map(|found| Mark::Lock(identity_of(&found)));
                    return Self::hold(file, Some(open), identity, &mut made);
                }
                Ok(Attempt::Named(owner)) => return Self::hold(file, None, Some(Mark::Name(owner)), &mut made),
                Ok(Attempt::Busy { process, said_by }) => {
                    each(Busy { process, folder: folder.to_owned(), said_by })?;
                    std::thread::sleep(POLL);
                }
                // Another process has just removed the folder that it made for nothing.
                Err(error) if error.kind() == ErrorKind::NotFound => vanished += 1,
                Err(error) => return Err(error).doing("write in", folder),
            }
        }
        Err(Error::new("the folder comes and goes").at(folder.display()).help("choose another"))
    }

    fn hold(file: &Path, open: Option<File>, mark: Option<Mark>, made: &mut Made) -> Result<Self> {
        let file = absolute(Path::new(".").join(file)).doing("find", file)?;
        held().push(Held { file: file.clone(), mark, made: std::mem::take(&mut made.0) });
        Ok(Self { file, _open: open })
    }
}

/// A file that any number of processes use as it stands, so that none replaces it meanwhile.
pub struct InUse {
    /// Locked for sharing while it is open; none where the file system has no locks.
    _open: Option<File>,
}

impl InUse {
    /// Uses a file.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn take(file: &Path) -> Result<Self> {
        let open = File::open(file).doing("open", file)?;
        // Who looks whether it is in use has it for a moment.
        Ok(Self { _open: open.lock_shared().is_ok().then_some(open) })
    }

    /// Whether a process uses a file.
    pub fn is(file: &Path) -> bool {
        File::open(file).is_ok_and(|open| matches!(open.try_lock(), Err(TryLockError::WouldBlock)))
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

/// What came of asking for a lock.
enum Attempt {
    Locked(File),
    /// There are no locks, and the file beside says that it is this process's.
    Named(Taken),
    Busy {
        process: Option<u32>,
        said_by: Option<PathBuf>,
    },
}

/// Who looks whether a lock was left behind has it for less than this.
const MOMENT: Duration = Duration::from_millis(10);

fn attempt(path: &Path) -> io::Result<Attempt> {
    let mut blocked = 0;
    for _ in 0..TURNS {
        let mut open = open(path)?;
        match try_lock(&open) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if blocked < 3 => {
                blocked += 1;
                std::thread::sleep(MOMENT);
                continue;
            }
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = open.read_to_string(&mut text);
                return Ok(Attempt::Busy { process: text.trim().parse().ok(), said_by: None });
            }
            Err(TryLockError::Error(_)) => return by_name(path),
        }
        let own = open.metadata().ok().map(|found| identity_of(&found));
        if own.is_none() || own != identity(path) {
            continue; // its last holder removed it between our opening and our lock
        }
        // For people and for messages: what counts is the lock.
        let _ = open.set_len(0).and_then(|()| writeln!(open, "{}", std::process::id()));
        return Ok(Attempt::Locked(open));
    }
    Err(ErrorKind::ResourceBusy.into())
}

fn try_lock(open: &File) -> Result<(), TryLockError> {
    #[cfg(test)]
    if super::fault::is_without_locks() {
        return Err(TryLockError::Error(ErrorKind::Unsupported.into()));
    }
    open.try_lock()
}

/// A lock where the file system has none.
fn by_name(path: &Path) -> io::Result<Attempt> {
    let folder = path.parent().unwrap_or(Path::new("."));
    note(format!(
        "the file system of {} has no locks: a file in it says which process works there, and on some network file \
         systems that is not safe either; give no two commands the same folder at once",
        folder.display()
    ));
    Ok(match Owner::this().take(path)? {
        Ok(taken) => Attempt::Named(taken),
        Err(other) => Attempt::Busy { process: other.process, said_by: Some(other.file) },
    })
}

/// Removes a lock file that a killed process has left in a folder.
pub(super) fn clear_stale(folder: &Path) {
    let path = folder.join(LOCK);
    let Ok(open) = File::open(&path) else { return };
    let is_left = cfg!(unix) && try_lock(&open).is_ok();
    if is_left && open.metadata().is_ok_and(|found| identity(&path) == Some(identity_of(&found))) {
        let _ = fs::remove_file(&path);
    }
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

/// Where files have no numbers, it is enough that the file is there.
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
    /// What tells it from another's; `None` where nothing is known.
    mark: Option<Mark>,
    /// Folders that were made for it, the outermost first.
    made: Vec<PathBuf>,
}

/// What tells a lock of this process from another's.
enum Mark {
    Lock(Identity),
    /// The file that says whose it is, on a file system without locks.
    Name(Taken),
}

static HELD: Mutex<Vec<Held>> = Mutex::new(Vec::new());

fn held() -> MutexGuard<'static, Vec<Held>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Held {
    fn is_the_same(&self) -> bool {
        match &self.mark {
            None => true,
            Some(Mark::Lock(own)) => Some(*own) == identity(&self.file),
            Some(Mark::Name(taken)) => taken.is_there(),
        }
    }

    /// Whoever waits for the lock looks whether what was locked is what lies there.
    fn clean_up(self) {
        if cfg!(unix) && self.mark.is_some() && self.is_the_same() {
            let _ = fs::remove_file(&self.file);
            if let Some(Mark::Name(taken)) = &self.mark {
                taken.leave();
            }
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

#[cfg(test)]
mod tests {
    use super::super::is_free;
    use super::*;

    /// What a lock that ended leaves: elsewhere than on Unix its file, which another process may be about to lock.
    const LEFT: usize = if cfg!(unix) { 0 } else { 1 };

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
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), LEFT, "an empty folder that was made for it goes with it");
        Lock::take(&folder).unwrap();
    }

    #[test]
    fn a_lock_that_a_dead_process_left_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(LOCK), "4194999\n").unwrap();
        let lock = Lock::take(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(LOCK)).unwrap(), format!("{}\n", std::process::id()));
        drop(lock);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), LEFT);
    }

    #[test]
    fn without_locks_a_file_says_whose_a_folder_is() {
        let dir = tempfile::tempdir().unwrap();
        super::super::fault::without_locks(|| {
            let lock = Lock::take(dir.path()).unwrap();
            let said = Lock::take(dir.path()).err().unwrap().to_string();
            assert!(said.contains(&format!("another process ({})", std::process::id())), "{said}");
            assert!(said.contains("if it is no more, delete "), "{said}");
            assert!(is_free(dir.path()).unwrap(), "a lock is no content");
            still_there(&dir.path().join("x")).unwrap();
            drop(lock);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
            let lock = Lock::take(dir.path()).unwrap();
            fs::read_dir(dir.path()).unwrap().for_each(|entry| fs::remove_file(entry.unwrap().path()).unwrap());
            assert!(still_there(dir.path()).is_err());
            drop(lock);
        });
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_that_was_left_behind_is_swept_and_one_in_use_is_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(LOCK), "4194999\n").unwrap();
        clear_stale(dir.path());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let lock = Lock::take(dir.path()).unwrap();
        clear_stale(dir.path());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        drop(lock);
    }

    #[test]
    fn a_file_in_use_is_known_to_be() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(!InUse::is(file.path()));
        let (one, two) = (InUse::take(file.path()).unwrap(), InUse::take(file.path()).unwrap());
        assert!(InUse::is(file.path()));
        drop(one);
        assert!(InUse::is(file.path()));
        drop(two);
        assert!(!InUse::is(file.path()));
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

    // Elsewhere a folder whose lock is open does not vanish.
    #[cfg(unix)]
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
}
