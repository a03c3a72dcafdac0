//! The study's file in the study's folder: what was asked, written down before the first answer.

use std::path::Path;

use crate::error::{Error, IoContext, Result};
use crate::files::{Claim, InUse, is_free, write_text};
use crate::log::Console;
use crate::train::waiting;

/// Makes the study's folder with its file, or checks that the one there is this study's. Until the first cell the file
/// may change, where no process works with it: for that long, the second value has to live. The first is the file's
/// text as it stands there.
///
/// # Errors
/// When the folder holds something else, or the study was changed after its first cell or while a process works on it:
/// says in which line.
pub fn register(dir: &Path, text: &str, is_same: impl Fn(&str) -> bool) -> Result<(String, InUse)> {
    let mut stands = text.to_owned();
    let known = |file: &Path| {
        let there = std::fs::read_to_string(file).doing("read", file)?;
        if there == text {
            return Ok(());
        }
        if !dir.join("cells.jsonl").exists() && is_free(&dir.join("cells"))? && !InUse::is(file) {
            return write_text(file, text);
        }
        // Comments and spaces are no part of what is asked.
        if is_same(&there) {
            stands = there;
            return Ok(());
        }
        Err(Error::new(format!(
            "this folder holds another study, or this one was changed after it was begun:\n{}",
            first_difference(&there, text)
        ))
        .at(file.display())
        .help(
            "nothing was changed: undo it, or choose another --out for the changed study; --cells finds the cells that stay the same",
        ))
    };
    let claim = Claim { folder: dir, marker: "study.toml", what: "a study" };
    // Held for a moment: any number of processes may share the folder.
    let lock = claim.wait(&mut waiting(&Console::silent(), "the study's folder"), known, |file| write_text(file, text))?;
    let in_use = InUse::take(&dir.join("study.toml"))?;
    drop(lock);
    Ok((stands, in_use))
}

/// The first line in which two texts differ.
fn first_difference(there: &str, now: &str) -> String {
    let (mut a, mut b, mut number) = (there.lines(), now.lines(), 0);
    loop {
        number += 1;
        match (a.next(), b.next()) {
            (None, None) => return "  (only in how its lines end)".to_owned(),
            (a, b) if a == b => {}
            (a, b) => {
                let shown = |line: Option<&str>| line.map_or("(no such line)".to_owned(), str::to_owned);
                return format!("  line {number} there: {}\n  line {number} now:   {}", shown(a), shown(b));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_study_may_change_until_its_first_cell() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("study");
        let never = |_: &str| false;
        let (first, in_use) = register(&folder, "title = 'a'\nseeds = [1]\n", never).unwrap();
        let error = register(&folder, "title = 'b'\nseeds = [1]\n", never).err().unwrap().to_string();
        assert!(error.contains("  line 1 there: title = 'a'"), "another process works on it: {error}");
        drop(in_use);
        assert_ne!(register(&folder, "title = 'a'\nseeds = [1, 2]\n", never).unwrap().0, first, "no cell is there yet");
        std::fs::create_dir_all(folder.join("cells/0123")).unwrap();
        let error = register(&folder, "title = 'a'\nseeds = [3]\n", never).err().unwrap().to_string();
        assert!(error.contains("  line 2 there: seeds = [1, 2]\n  line 2 now:   seeds = [3]"), "{error}");
        assert!(register(&folder, "# a word\ntitle = 'a'\nseeds = [1, 2]\n", |_| true).is_ok());
    }
}
