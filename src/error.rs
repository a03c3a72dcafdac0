//! The one error of the crate: what went wrong, where, and what to do next.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once, PoisonError};

/// `Result` with upstill's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure an [`Error`] is; it decides the command's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Something given is wrong or missing: a file, a key, a device.
    Input,
    /// A check ran and failed: a self-test, a comparison.
    Check,
    /// The user asked to stop, and everything was saved.
    Interrupted,
    /// A device's memory ran out: less at once may fit.
    Memory,
    /// A loss, a gradient or a weight is infinite or not a number.
    NotFinite,
}

/// What went wrong, where, and what to do next.
///
/// Printed as three parts, each on its own line, the last two only when known:
///
/// ```text
/// the vocabulary has no [MASK] token
///   in: vocab.txt
/// help: add a line `[MASK]`, or make a vocabulary with `upstill tokenizer train`
/// ```
///
/// A program asks what kind of failure it is, and for the file system's error behind it:
///
/// ```
/// use std::error::Error;
/// use std::io::ErrorKind;
///
/// let error = upstill::RunFile::load("no/such/file.toml".as_ref()).unwrap_err();
/// assert!(error.is_input() && error.advice() == Some("check the path"));
/// let source = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
/// assert_eq!(source.map(|source| source.kind()), Some(ErrorKind::NotFound));
/// ```
#[derive(Debug, Clone)]
pub struct Error(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    kind: Kind,
    what: String,
    place: Option<String>,
    help: Option<String>,
    /// The file system's own error, where it was one.
    source: Option<Arc<std::io::Error>>,
}

impl Error {
    /// An error about what was given. `what` is a sentence without a full stop, starting in lower case.
    pub fn new(what: impl Into<String>) -> Self {
        Self::of(Kind::Input, what)
    }

    /// A check that ran and failed.
    pub fn check(what: impl Into<String>) -> Self {
        Self::of(Kind::Check, what)
    }

    /// A clean stop on request; what was reached is saved.
    pub fn interrupted(what: impl Into<String>) -> Self {
        Self::of(Kind::Interrupted, what)
    }

    /// A device's memory ran out.
    pub fn out_of_memory(what: impl Into<String>) -> Self {
        Self::of(Kind::Memory, what)
    }

    /// A step of training whose loss or gradient is no number.
    pub fn not_finite(what: impl Into<String>) -> Self {
        Self::of(Kind::NotFinite, what)
    }

    fn of(kind: Kind, what: impl Into<String>) -> Self {
        Error(Box::new(Parts { kind, what: what.into(), place: None, help: None, source: None }))
    }

    /// A file system error: `doing` completes "could not ..." ("write", "open").
    pub fn io(doing: &str, path: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as K;
        let help = match error.kind() {
            K::NotFound => "check the path",
            K::PermissionDenied => "check the permissions of the file and of its folder",
            K::StorageFull | K::QuotaExceeded => {
                "the disk is full: make room, then run the same command again (a training run with --resume); nothing half-written was left"
            }
            K::FileTooLarge => "a file may not be that large here (`ulimit -f`, the file system): nothing half-written was left",
            K::ReadOnlyFilesystem => "nothing can be written there: choose another folder, or mount it for writing",
            // EIO has no kind.
            _ if cfg!(unix) && error.raw_os_error() == Some(5) => {
                "the disk did not do what it was asked: look into the system's log (`dmesg`); run the same command again, or choose another disk"
            }
            _ => "",
        };
        let mut out = Error::new(format!("could not {doing} {}: {error}", path.display()));
        if !help.is_empty() {
            out = out.help(help);
        }
        // `io::Error` can't be cloned; a number of the system's, or a kind and words, is all that is in most.
        let copy = error
            .raw_os_error()
            .map_or_else(|| std::io::Error::new(error.kind(), error.to_string()), std::io::Error::from_raw_os_error);
        out.0.source = Some(Arc::new(copy));
        out
    }

    /// Says where: a path, a line, a key.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.0.place = Some(place.to_string());
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// Calls a path by another one in all that is said: what lies under a temporary name is known by the one that it
    /// will have.
    #[must_use]
    pub fn renamed(mut self, from: &Path, to: &Path) -> Self {
        let (from, to) = (from.display().to_string(), to.display().to_string());
        let Parts { what, place, help, .. } = &mut *self.0;
        [Some(what), place.as_mut(), help.as_mut()].into_iter().flatten().for_each(|text| *text = text.replace(&from, &to));
        self
    }

    /// What went wrong, without place and advice.
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// Where: a path, a line, a key; none where that is not known.
    pub fn place(&self) -> Option<&str> {
        self.0.place.as_deref()
    }

    /// What to do next; none where that is not known.
    pub fn advice(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// Whether something given is wrong or missing: a file, a key, a device.
    pub fn is_input(&self) -> bool {
        self.0.kind == Kind::Input
    }

    /// Whether a check ran and failed: a self-test, a comparison.
    pub fn is_check(&self) -> bool {
        self.0.kind == Kind::Check
    }

    /// Whether this is a clean stop on request.
    pub fn is_interrupted(&self) -> bool {
        self.0.kind == Kind::Interrupted
    }

    /// Whether a device's memory ran out.
    pub fn is_out_of_memory(&self) -> bool {
        self.0.kind == Kind::Memory
    }

    /// Whether a loss, a gradient or a weight became infinite or not a number: the settings are to blame, not the
    /// machine.
    pub fn is_not_finite(&self) -> bool {
        self.0.kind == Kind::NotFinite
    }

    /// The command's exit code: 1 a check failed, 2 could not run, 130 interrupted after saving.
    pub fn exit_code(&self) -> u8 {
        match self.0.kind {
            Kind::Check => 1,
            Kind::Input | Kind::Memory | Kind::NotFinite => 2,
            Kind::Interrupted => 130,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.what)?;
        if let Some(place) = &self.0.place {
            write!(f, "\n  in: {place}")?;
        }
        if let Some(help) = &self.0.help {
            write!(f, "\nhelp: {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    /// The file system's error, where this one is about that.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// Says on standard error what a reader of files assumed or left out: what nobody asked for, but changes what is read.
/// Each note is said once a process, however often a file is read. A standard error that is closed takes nothing, and
/// fails nothing.
pub fn note(text: impl fmt::Display) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let line = format!("note: {text}\n");
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(line.clone()) {
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

/// Runs a library that may panic on a file it can't read. A panic comes back as its words, and prints nothing: what it
/// means is for the caller to say. Where panics abort, as in a browser, it can't.
pub(crate) fn quietly<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    thread_local!(static QUIET: Cell<bool> = const { Cell::new(false) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = take_hook();
        set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                loud(panic);
            }
        }));
    });
    let before = QUIET.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(before);
    done.map_err(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        words.unwrap_or("it gave no reason").to_owned()
    })
}

/// Attaches upstill's words to file system results.
pub trait IoContext<T> {
    /// `doing` completes "could not ..." ("write", "open"); `path` is what it was done to.
    fn doing(self, doing: &str, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn doing(self, doing: &str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|error| Error::io(doing, &path.into(), &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_where_and_what_to_do() {
        let error = Error::new("the vocabulary has no [MASK] token").at("vocab.txt").help("add a line `[MASK]`");
        assert_eq!(error.to_string(), "the vocabulary has no [MASK] token\n  in: vocab.txt\nhelp: add a line `[MASK]`");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn a_full_disk_is_named() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = Error::io("write", Path::new("a/b"), &full).to_string();
        assert!(error.contains("could not write a/b"), "{error}");
        assert!(error.contains("the disk is full"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_disk_that_fails_is_named_and_so_is_a_file_under_a_temporary_name() {
        let broken = std::io::Error::from_raw_os_error(5);
        let error =
            Error::io("write", Path::new("/a/.part/b"), &broken).at("/a/.part").renamed(Path::new("/a/.part"), Path::new("c"));
        let said = error.to_string();
        assert!(said.starts_with("could not write c/b: ") && said.contains("\n  in: c\n") && said.contains("dmesg"), "{said}");
    }
}
