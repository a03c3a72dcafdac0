//! Files and folders appear whole or not at all: written beside, synced, renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::is_by_the_way;
use super::lock::still_there;
use super::temporary::{Stage, Temporary, advanced, leftovers, sweep};
use crate::error::{Error, IoContext, Result};

/// Writes a file through a temporary neighbour, so that a reader sees the old content or the new, never a part. A link
/// stays one: the file that it names is replaced. A device or a pipe is written to as it is.
///
/// # Errors
/// When the folder can't be written, or `fill` fails; then the old file is as it was and the neighbour is gone.
pub fn write_whole(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
    still_there(path)?;
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(is_folder(path)),
        Ok(found) if !found.is_file() => (|| {
            let mut out = BufWriter::new(OpenOptions::new().write(true).open(path)?);
            fill(&mut out)?;
            out.flush()
        })()
        .doing("write", path),
        _ => match replace_file(path, fill) {
            // The folder was removed after it was looked at.
            Err(error) if error.kind() == ErrorKind::NotFound => still_there(path).and(Err(error).doing("write", path)),
            written => written.doing("write", path),
        },
    }
}

fn replace_file(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = parent(&path);
    let (mut temporary, file) = Temporary::file(folder)?;
    if let Ok(old) = fs::metadata(&path) {
        let _ = file.set_permissions(old.permissions());
    }
    let mut out = BufWriter::new(file);
    fill(&mut out)?;
    out.flush()?;
    out.get_ref().sync_all()?;
    temporary.is_whole();
    match fs::rename(temporary.path(), &path) {
        Ok(()) => temporary.stay(),
        // A file that is mounted has its name for good.
        Err(error) if cannot_move(&error) && path.is_file() => return copy_file(temporary.path(), &path),
        Err(error) => return Err(error),
    }
    // Within a folder that is still temporary itself, names are synced with it.
    if folder.components().any(|part| is_by_the_way(part.as_os_str())) { Ok(()) } else { sync_folder(folder) }
}

/// Finds out before long work whether a file could be written.
///
/// # Errors
/// When its folder can't be written, or it is a folder itself.
pub fn can_write(path: &Path) -> Result<()> {
    sweep(parent(path));
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(is_folder(path)),
        Ok(found) if !found.is_file() => Ok(()),
        _ => Temporary::file(parent(path)).map(drop).doing("write", path),
    }
}

fn is_folder(path: &Path) -> Error {
    Error::new("this is a folder, and a file is to be written").at(path.display()).help("name a file")
}

/// [`write_whole`] for text at hand.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    write_whole(path, |out| out.write_all(text.as_bytes()))
}

/// Makes a folder, and those above it, where they are missing; in one that is there, what killed processes left
/// half-made goes.
///
/// # Errors
/// As the file system says, or when a folder above, which this process has [locked](super::Lock), is no more.
pub fn make_folder(path: &Path) -> Result<()> {
    still_there(path)?;
    sweep(path);
    fs::create_dir_all(path).doing("create", path)
}

/// Removes a folder within one that is upstill's own. Its name goes at once: a process that ends in between leaves no
/// part of it behind that could be taken for it.
///
/// # Errors
/// When it can't be renamed; then it is as it was.
pub fn remove_folder(path: &Path) -> Result<()> {
    still_there(path)?;
    let aside = Temporary::folder(parent(path), Stage::Part).doing("delete", path)?;
    fs::rename(path, aside.path().join(path.file_name().unwrap_or_default())).doing("delete", path)
}

/// Fills a folder through a temporary neighbour and puts it in place; an older folder of that name is replaced. For
/// folders within one that is upstill's own: another's is a [`Target`](super::Target).
///
/// # Errors
/// As `fill` says; then `path` is as it was.
pub fn write_folder<T>(path: &Path, fill: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    Place::find(path)?.write(fill, |_| Ok(()))
}

/// Where a folder will be, and the temporary one that becomes it.
pub(super) struct Place {
    /// The path as it was given.
    named: PathBuf,
    /// The path with its links followed.
    real: PathBuf,
    /// Beside the place, or within it when that can't be renamed.
    temporary: Temporary,
    is_within: bool,
}

impl Place {
    /// Makes the temporary folder where it can be moved from: so it is known before any work whether the place can be
    /// written.
    pub fn find(named: &Path) -> Result<Self> {
        still_there(named)?;
        make_folder(parent(named))?;
        let real = match fs::canonicalize(named) {
            Ok(real) => real,
            Err(_) => named.to_owned(),
        };
        let beside = real.parent().map(|_| parent(&real));
        beside.into_iter().for_each(sweep);
        finish(&real).doing("write", named)?;
        let must_stay = beside.is_none() || stays_in_place(&real);
        let temporary = match beside.filter(|_| !must_stay).map(|beside| Temporary::folder(beside, Stage::Part)) {
            Some(Ok(temporary)) => Ok((temporary, false)),
            Some(Err(error)) if !real.is_dir() => Err(error),
            _ => Temporary::folder(&real, Stage::Part).map(|temporary| (temporary, true)),
        };
        let (temporary, is_within) = temporary.doing("write", named)?;
        Ok(Self { named: named.to_owned(), real, temporary, is_within })
    }

    /// Fills the temporary folder and puts it in place, where `accept` still agrees to what is there.
    pub fn write<T>(mut self, fill: impl FnOnce(&Path) -> Result<T>, accept: impl FnOnce(&Path) -> Result<()>) -> Result<T> {
        let within = self.temporary.path().to_owned();
        let filled = fill(&within).and_then(|filled| {
            sync_tree(&within).doing("write", &within)?;
            still_there(&self.named)?;
            accept(&self.named)?;
            self.put().doing("write", &self.named)?;
            Ok(filled)
        });
        filled.map_err(|error| error.renamed(&within, &self.named))
    }

    fn put(&mut self) -> io::Result<()> {
        self.temporary.is_whole();
        if self.is_within {
            return put_within(&mut self.temporary, &self.real);
        }
        let folder = parent(&self.real).to_owned();
        let moved = match fs::metadata(&self.real) {
            Err(_) => fs::rename(self.temporary.path(), &self.real).map(|()| self.temporary.stay()),
            Ok(old) => {
                let _ = fs::set_permissions(self.temporary.path(), old.permissions());
                swap(&mut self.temporary, &self.real)
            }
        };
        match moved {
            Err(error) if cannot_move(&error) && self.real.is_dir() => {
                let mut copy = Temporary::folder(&self.real, Stage::Part)?;
                copy_tree(self.temporary.path(), copy.path())?;
                put_within(&mut copy, &self.real)
            }
            moved => moved.and_then(|()| sync_folder(&folder)),
        }
    }
}

/// Whether a folder can't get another one's place: where it is mounted or held, or this process stands in it.
fn stays_in_place(real: &Path) -> bool {
    let stands_in_it = std::env::current_dir().and_then(fs::canonicalize).is_ok_and(|current| current.starts_with(real));
    stands_in_it || is_held(real)
}

#[cfg(target_os = "linux")]
fn is_held(real: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    // The fifth word of a line; what would divide words is written as an octal number there.
    let Ok(mounts) = fs::read("/proc/self/mountinfo") else { return false };
    let escaped = real.as_os_str().as_bytes().iter().flat_map(|byte| match byte {
        b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
        other => vec![*other],
    });
    let escaped: Vec<u8> = escaped.collect();
    mounts.split(|byte| *byte == b'\n').any(|line| line.split(|byte| *byte == b' ').nth(4) == Some(escaped.as_slice()))
}

#[cfg(all(unix, not(target_os = "linux")))]
fn is_held(real: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).ok().map(|found| found.dev());
    real.is_dir() && device(real) != device(parent(real))
}

/// On Windows a folder with an open file in it gets no other name, and the lock in it is open.
#[cfg(not(unix))]
fn is_held(real: &Path) -> bool {
    real.is_dir()
}

/// Whether a name can't be given away, or not across this border; then content can still be copied.
fn cannot_move(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ResourceBusy | ErrorKind::CrossesDevices | ErrorKind::PermissionDenied)
}

/// Puts a folder in another one's place; the other is removed with the temporary.
fn swap(temporary: &mut Temporary, real: &Path) -> io::Result<()> {
    match exchange(temporary.path(), real) {
        Ok(()) => {
            temporary.was_swapped();
            return Ok(());
        }
        Err(error) if cannot_move(&error) => return Err(error),
        Err(_) => {}
    }
    // A file system that can't do this at once: until the second rename, the old content is found again by `sweep`.
    let mut aside = Temporary::folder(parent(real), Stage::Old)?;
    let old = aside.path().join(real.file_name().unwrap_or_default());
    fs::rename(real, &old)?;
    if let Err(error) = fs::rename(temporary.path(), real) {
        if fs::rename(&old, real).is_err() {
            aside.stay();
        }
        return Err(error);
    }
    temporary.stay();
    Ok(())
}

#[cfg(any(target_os = "linux", target_os = "macos"))]
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Replaces a folder's content by that of a whole folder within it. From the first rename on, [`finish`] can do the
/// rest.
fn put_within(temporary: &mut Temporary, real: &Path) -> io::Result<()> {
    temporary.advance(Stage::Ready)?;
    temporary.stay();
    sync_folder(real)?;
    move_up(temporary.path(), Stage::Ready, real)
}

/// Does the rest of what a process that is no more began in a folder with [`put_within`].
pub(super) fn finish(real: &Path) -> io::Result<()> {
    let begun = |(_, stage): &(PathBuf, Stage)| [Stage::Ready, Stage::Moving].contains(stage);
    leftovers(real).into_iter().filter(begun).try_for_each(|(path, stage)| move_up(&path, stage, real))?;
    sweep(real);
    Ok(())
}

/// Whether [`finish`] has something to do.
pub(super) fn is_unfinished(folder: &Path) -> bool {
    leftovers(folder).iter().any(|(_, stage)| [Stage::Ready, Stage::Moving].contains(stage))
}

/// The files that say what a folder is: they come last.
const LAST: [&str; 2] = ["manifest.json", "config.json"];

fn move_up(whole: &Path, stage: Stage, real: &Path) -> io::Result<()> {
    let mut whole = whole.to_owned();
    if stage == Stage::Ready {
        let mut old = content(real)?;
        old.sort_by_key(|path| !LAST.iter().any(|name| path.ends_with(name)));
        for path in old {
            match fs::symlink_metadata(&path)?.is_dir() {
                true => fs::remove_dir_all(&path)?,
                false => fs::remove_file(&path)?,
            }
        }
        whole = advanced(&whole, Stage::Moving)?;
        sync_folder(real)?;
    }
    let mut new = content(&whole)?;
    new.sort_by_key(|path| LAST.iter().any(|name| path.ends_with(name)));
    for path in new {
        fs::rename(&path, real.join(path.file_name().unwrap_or_default()))?;
    }
    fs::remove_dir_all(&whole)?;
    sync_folder(real)
}

/// What a folder holds, in the order of the names.
fn content(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    let mut found: Vec<PathBuf> =
        entries.into_iter().filter(|entry| !is_by_the_way(&entry.file_name())).map(|entry| entry.path()).collect();
    found.sort();
    Ok(found)
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    for path in content(from)? {
        let there = to.join(path.file_name().unwrap_or_default());
        match path.is_dir() {
            true => fs::create_dir(&there).and_then(|()| copy_tree(&path, &there))?,
            false => copy_file(&path, &there)?,
        }
    }
    sync_folder(to)
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(to)?;
    io::copy(&mut File::open(from)?, &mut file)?;
    file.sync_all()
}

/// The names within a folder reach the disk; the files themselves did when they were written.
fn sync_tree(folder: &Path) -> io::Result<()> {
    for path in content(folder)?.into_iter().filter(|path| path.is_dir()) {
        sync_tree(&path)?;
    }
    sync_folder(folder)
}

/// New names in a folder reach the disk.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(()); // elsewhere a folder can't be opened
    }
    match File::open(folder)?.sync_all() {
        // Some file systems have no such call for a folder.
        Err(error) if [ErrorKind::InvalidInput, ErrorKind::Unsupported].contains(&error.kind()) => Ok(()),
        synced => synced,
    }
}

/// The folder that a path is in.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
