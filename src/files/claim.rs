//! A folder that is taken for one purpose: locked, swept and looked at before anything is written.

use std::path::Path;

use super::is_free;
use super::lock::{Busy, Lock};
use super::temporary::sweep;
use crate::error::{Error, Result};

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
        sweep(self.folder);
        let file = self.folder.join(self.marker);
        match self.is_there()? {
            true => known(&file)?,
            false => begin(&file)?,
        }
        Ok(lock)
    }

    /// Whether the file is there; else the folder has to be free.
    fn is_there(&self) -> Result<bool> {
        let marker = self.folder.join(self.marker);
        if marker.exists() {
            return Ok(true);
        }
        match is_free(self.folder)? {
            true => Ok(false),
            // Another process has begun since the file was looked for; it is the first that is written.
            false if marker.exists() => Ok(true),
            false => Err(Error::new(format!("this folder holds something that is not {}; it was left as it is", self.what))
                .at(self.folder.display())
                .help("choose another --out")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::error::IoContext;

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
        fs::write(at("cut").join(".upstill-lock"), "4194999\n").unwrap();
        fs::write(at("cut/.upstill-4194999-0123456789abcdef.part"), "ha").unwrap();
        claim(&at("cut"), "one").unwrap();
        // Elsewhere than on Unix the lock's file stays.
        assert_eq!(fs::read_dir(at("cut")).unwrap().count(), if cfg!(unix) { 1 } else { 2 });
    }
}
