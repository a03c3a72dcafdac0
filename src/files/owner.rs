//! Whose a folder is where the file system has no locks: a file that only one process can make, with the process's
//! number, when it began and the machine, so that what a dead process left is told from what another has.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A process: its number, when it began, and where.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Owner {
    process: u32,
    /// In the kernel's ticks after its start: a number that is given again is another process's.
    began: String,
    /// The machine's or container's name.
    host: String,
    /// Another after each start of the machine.
    boot: String,
}

/// A file that says that something is this process's.
pub(super) struct Taken {
    file: PathBuf,
    text: String,
}

/// Another process has it.
pub(super) struct Other {
    /// The process's number, where the file says it.
    pub process: Option<u32>,
    /// The file.
    pub file: PathBuf,
}

/// A file without a whole line that is older than this was left so by a process that is no more.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);
/// More turns than this are something else than processes that come and go.
const TURNS: usize = 100;

impl Owner {
    /// This process.
    pub(super) fn this() -> Self {
        let process = std::process::id();
        Self { process, began: began(process).unwrap_or_default(), host: kernel("hostname"), boot: kernel("random/boot_id") }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "{}\n{}\n{}\n{}\nend", self.process, self.began, self.host, self.boot);
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().collect();
        let [process, began, host, boot, "end"] = lines[..] else { return None };
        Some(Self { process: process.parse().ok()?, began: began.into(), host: host.into(), boot: boot.into() })
    }

    /// Whether it is known to be no more, seen from `this` process. What can't be told is not.
    fn is_gone(&self, this: &Self) -> bool {
        let is_here = self.host == this.host && !this.boot.is_empty();
        let is_alive = || began(self.process).is_some_and(|began| began == self.began);
        is_here && (self.boot != this.boot || !is_alive())
    }

    /// Takes what the lock file `path` stands for.
    pub(super) fn take(&self, path: &Path) -> io::Result<Result<Taken, Other>> {
        let file = beside(path);
        for _ in 0..TURNS {
            match OpenOptions::new().write(true).create_new(true).open(&file) {
                Ok(mut new) => {
                    let text = self.text();
                    new.write_all(text.as_bytes())?;
                    return Ok(Ok(Taken { file, text }));
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            let text = match fs::read_to_string(&file) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                text => text?,
            };
            let other = Self::parse(&text);
            let is_left = match &other {
                Some(other) => other.is_gone(self),
                None => is_old(&file),
            };
            if !is_left {
                return Ok(Err(Other { process: other.map(|other| other.process), file }));
            }
            // Only what was just read: another process may have taken it in the meantime.
            if fs::read_to_string(&file).is_ok_and(|now| now == text) {
                let _ = fs::remove_file(&file);
            }
        }
        Err(ErrorKind::ResourceBusy.into())
    }
}

impl Taken {
    /// Whether the file is still this one.
    pub(super) fn is_there(&self) -> bool {
        fs::read_to_string(&self.file).is_ok_and(|text| text == self.text)
    }

    /// Gives it back.
    pub(super) fn leave(&self) {
        let _ = fs::remove_file(&self.file);
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".owner");
    name.into()
}

fn is_old(file: &Path) -> bool {
    fs::metadata(file).and_then(|found| found.modified()).is_ok_and(|at| at.elapsed().is_ok_and(|age| age > WRITTEN_WITHIN))
}

/// When a process began, where there is one of this number and the system says it (Linux).
fn began(process: u32) -> Option<String> {
    // The command's name, in brackets, may hold anything; the time is the 20th word after it.
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}

fn kernel(name: &str) -> String {
    fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default().trim().to_owned()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_process_left_is_taken_over_and_what_cannot_be_told_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("lock");
        let this = Owner::this();
        assert!(!this.began.is_empty() && !this.is_gone(&this));
        let other = |change: &dyn Fn(&mut Owner)| {
            let mut other = this.clone();
            change(&mut other);
            fs::write(beside(&lock), other.text()).unwrap();
            this.take(&lock).unwrap().map(|taken| taken.leave()).map_err(|other| other.process)
        };
        // No process has this number: it is above the most that Linux gives.
        assert_eq!(other(&|other| other.process = 4_194_999), Ok(()));
        assert_eq!(other(&|other| other.began = "1".into()), Ok(()), "the number was given again");
        assert_eq!(other(&|other| other.boot = "before".into()), Ok(()), "the machine was started anew");
        assert_eq!(other(&|_| ()), Err(Some(this.process)));
        assert_eq!(other(&|other| (other.host, other.process) = ("elsewhere".into(), 4_194_999)), Err(Some(4_194_999)));
        fs::write(beside(&lock), "47").unwrap();
        assert!(this.take(&lock).unwrap().is_err_and(|other| other.process.is_none()), "it is being written");
    }
}
