//! Which files an input names, and how each is to be read.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, IoContext, Result, note};

/// The names that are read, for messages.
const KNOWN: &str = ".txt .jsonl .json .tsv .csv, each also with .gz, .bz2, .xz or .zst, and .parquet";

/// How a file's content is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// A paragraph or a sentence a line, an empty line between documents.
    Text,
    /// A JSON object a line.
    JsonLines,
    /// A list of JSON objects, or objects one after another.
    Json,
    /// Tab-separated columns with a header; quotes are literal.
    Tsv,
    /// Comma-separated columns with a header; quoted as in RFC 4180.
    Csv,
    /// Columns in row groups.
    Parquet,
}

/// How a file's bytes are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Packing {
    pub(super) fn name(self) -> &'static str {
        match self {
            Packing::Plain => "plain",
            Packing::Gzip => "gzip",
            Packing::Zstd => "zstd",
            Packing::Bzip2 => "bzip2",
            Packing::Xz => "xz",
        }
    }
}

/// One file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where it lies.
    pub path: PathBuf,
    /// Its size on disk.
    pub bytes: u64,
    pub(super) format: Format,
    pub(super) packing: Packing,
}

/// The files that `inputs` name, in the order given; each is a file, a folder (read with everything below it, in the
/// order of the names) or a glob. A file named twice is read once, by a link too. Folders and globs pass over hidden
/// files in silence; what else they hold and is left out, a note names.
///
/// # Errors
/// When an input doesn't exist, matches nothing that can be read, or names a file of an unknown kind.
pub fn find(inputs: &[String]) -> Result<Vec<Source>> {
    let mut seen: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    let mut sources = Vec::new();
    for input in inputs {
        let mut found = Found::default();
        found.expand(input)?;
        for source in std::mem::take(&mut found.sources) {
            let real = fs::canonicalize(&source.path).unwrap_or_else(|_| source.path.clone());
            match seen.get(&real) {
                None => {
                    seen.insert(real, source.path.clone());
                    sources.push(source);
                }
                Some(first) if *first != source.path => found.leave_out(&source.path, AGAIN),
                Some(_) => {}
            }
        }
        found.say(input);
    }
    if sources.is_empty() {
        return Err(Error::new("no input was given").help("name files, folders or globs of text"));
    }
    Ok(sources)
}

/// The one file that `path` names.
///
/// # Errors
/// When there is none, or it is of an unknown kind.
pub(super) fn named(path: &Path) -> Result<Source> {
    match look(path)? {
        Seen::Source(source) => Ok(source),
        Seen::Folder => Err(Error::new(format!("{} is a folder", path.display())).help("name a file in it")),
        Seen::Nothing => Err(Error::new(format!("there is no file {}", path.display())).help("check the path")),
        Seen::LeftOut(why) => Err(refused(&path.display().to_string(), why)),
    }
}

// Why a file is left out, after "N files: ".
const UNKNOWN: &str = "the name says nothing known about how to read it";
const NO_PACKING: &str = "packed in a way that is not read; unpack it, or pack it with gzip, xz or zstd";
const JSON: &str = "a .json file in a folder may be anything: name it to have it read";
const FOLDER_LINK: &str = "a link to a folder";
const DEAD_LINK: &str = "a link to nothing";
const SPECIAL: &str = "no regular file, but a pipe, a socket or a device";
const AGAIN: &str = "a link to a file that is read already";

/// What an input comes to.
#[derive(Default)]
struct Found {
    sources: Vec<Source>,
    /// The names of what is left out, by the reason.
    left_out: BTreeMap<&'static str, Vec<String>>,
}

impl Found {
    fn expand(&mut self, input: &str) -> Result<()> {
        let path = Path::new(input);
        let seen = look(path)?;
        match &seen {
            Seen::Source(source) => self.sources.push(source.clone()),
            Seen::LeftOut(why) => return Err(refused(input, why)),
            Seen::Folder => self.walk(path)?,
            Seen::Nothing if input.contains(['*', '?', '[']) => self.walk_glob(input)?,
            Seen::Nothing => {
                return Err(Error::new(format!("no such file or folder: {input}"))
                    .help("check the path; a glob needs quotes, as in 'books/*.txt.zst'"));
            }
        }
        if self.sources.is_empty() {
            let is_folder = matches!(seen, Seen::Folder);
            let what = if is_folder { "the folder holds nothing to read" } else { "the glob matches nothing to read" };
            self.say(input);
            return Err(Error::new(what).at(input).help(format!("what is read: {KNOWN}")));
        }
        Ok(())
    }

    fn walk(&mut self, folder: &Path) -> Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder).doing("read", folder)? {
            entries.push(entry.doing("read", folder)?);
        }
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries.iter().filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')) {
            let path = entry.path();
            let is_link = entry.file_type().doing("read", &path)?.is_symlink();
            match look(&path)? {
                // Folders behind symbolic links are left out: they may lead back here.
                Seen::Folder if is_link => self.leave_out(&path, FOLDER_LINK),
                Seen::Folder => self.walk(&path)?,
                Seen::Source(Source { format: Format::Json, .. }) => self.leave_out(&path, JSON),
                seen => self.take(&path, seen),
            }
        }
        Ok(())
    }

    fn walk_glob(&mut self, pattern: &str) -> Result<()> {
        let mut matches = Vec::new();
        let components: Vec<Component> = Path::new(pattern).components().collect();
        let malformed = |error: glob::PatternError| Error::new(format!("the glob is not well formed: {}", error.msg)).at(pattern);
        glob::Pattern::new(pattern).map_err(malformed)?;
        matching(PathBuf::new(), &components, &mut matches)?;
        for path in matches {
            match look(&path)? {
                Seen::Folder => self.walk(&path)?,
                seen => self.take(&path, seen),
            }
        }
        Ok(())
    }

    fn take(&mut self, path: &Path, seen: Seen) {
        match seen {
            Seen::Source(source) => self.sources.push(source),
            Seen::LeftOut(why) => self.leave_out(path, why),
            Seen::Folder | Seen::Nothing => self.leave_out(path, DEAD_LINK),
        }
    }

    fn leave_out(&mut self, path: &Path, why: &'static str) {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        self.left_out.entry(why).or_default().push(name);
    }

    /// Says what is left out, a note for each reason.
    fn say(&self, input: &str) {
        for (why, names) in &self.left_out {
            let shown = names.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
            let more = match names.len().saturating_sub(3) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            note(format!("left out of {input}: {shown}{more} ({why})"));
        }
    }
}

/// The paths that a glob's components match, below `base` and in the order of the names. The glob library's own walk
/// panics where a name is not UTF-8.
fn matching(base: PathBuf, pattern: &[Component], found: &mut Vec<PathBuf>) -> Result<()> {
    let Some((component, rest)) = pattern.split_first() else {
        // Of `**` alone nothing is left but the folder at hand.
        let base = if base.as_os_str().is_empty() { PathBuf::from(".") } else { base };
        found.extend(fs::symlink_metadata(&base).is_ok().then_some(base));
        return Ok(());
    };
    let text = component.as_os_str().to_string_lossy();
    let is_any_depth = text == "**";
    if is_any_depth {
        matching(base.clone(), rest, found)?;
        if rest.is_empty() {
            return Ok(());
        }
    } else if !matches!(component, Component::Normal(_)) || !text.contains(['*', '?', '[']) {
        return matching(base.join(component), rest, found);
    }
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
    // It is a part of one that is well formed.
    let Ok(name) = glob::Pattern::new(if is_any_depth { "*" } else { &text }) else { return Ok(()) };
    let folder = if base.as_os_str().is_empty() { Path::new(".") } else { &base };
    let entries = match fs::read_dir(folder) {
        Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => return Ok(()),
        entries => entries.doing("read", folder)?.collect::<std::io::Result<Vec<_>>>().doing("read", folder)?,
    };
    let mut names: Vec<_> = entries.iter().map(fs::DirEntry::file_name).collect();
    names.retain(|entry| name.matches_with(&entry.to_string_lossy(), options));
    names.sort();
    for entry in names {
        let path = base.join(entry);
        if !is_any_depth {
            matching(path, rest, found)?;
        } else if path.is_dir() && !path.is_symlink() {
            matching(path, pattern, found)?;
        }
    }
    Ok(())
}

fn refused(input: &str, why: &str) -> Error {
    let help = match why {
        SPECIAL => "write its content to a file first".to_owned(),
        _ => format!("what is read: {KNOWN}; rename it or convert it"),
    };
    match why {
        UNKNOWN => Error::new(format!("{UNKNOWN}: {input}")).help(help),
        _ => Error::new(format!("the file is not read: it is {why}")).at(input).help(help),
    }
}

/// What is at a path.
enum Seen {
    Source(Source),
    Folder,
    /// Something else, and why it is not read.
    LeftOut(&'static str),
    Nothing,
}

/// Looks at what is at a path, through links, without opening it: opening a pipe would wait for its writer.
fn look(path: &Path) -> Result<Seen> {
    let data = match fs::metadata(path) {
        Ok(data) => data,
        Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => return Ok(Seen::Nothing),
        // A glob's characters, or a link to itself, need not make a name.
        Err(error) if [ErrorKind::InvalidInput, ErrorKind::InvalidFilename].contains(&error.kind()) => {
            return Ok(Seen::Nothing);
        }
        Err(_) if fs::symlink_metadata(path).is_ok_and(|link| link.is_symlink()) => return Ok(Seen::LeftOut(DEAD_LINK)),
        Err(error) => return Err(Error::io("read", path, &error)),
    };
    if data.is_dir() {
        return Ok(Seen::Folder);
    }
    if !data.is_file() {
        return Ok(Seen::LeftOut(SPECIAL));
    }
    let (format, packing) = match kind(path) {
        Ok(kind) => kind,
        Err(why) => return Ok(Seen::LeftOut(why)),
    };
    Ok(Seen::Source(Source { path: path.to_path_buf(), bytes: data.len(), format, packing }))
}

/// What the name says about the content, or why it is not read. A name need not be UTF-8 for that.
fn kind(path: &Path) -> Result<(Format, Packing), &'static str> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let (stem, packing) = match name.rsplit_once('.') {
        Some((stem, "gz")) => (stem, Packing::Gzip),
        Some((stem, "zst")) => (stem, Packing::Zstd),
        Some((stem, "bz2")) => (stem, Packing::Bzip2),
        Some((stem, "xz")) => (stem, Packing::Xz),
        Some((_, "7z" | "zip" | "lz4" | "lzma" | "z" | "br" | "rar" | "tar" | "tgz")) => return Err(NO_PACKING),
        _ => (name.as_str(), Packing::Plain),
    };
    let format = match stem.rsplit_once('.').ok_or(UNKNOWN)?.1 {
        "txt" => Format::Text,
        "jsonl" => Format::JsonLines,
        "json" => Format::Json,
        "tsv" => Format::Tsv,
        "csv" => Format::Csv,
        // Parquet packs its own pages, and is read from its end.
        "parquet" if packing == Packing::Plain => Format::Parquet,
        _ => return Err(UNKNOWN),
    };
    Ok((format, packing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_how_to_read() {
        assert_eq!(kind(Path::new("a/b.txt")), Ok((Format::Text, Packing::Plain)));
        assert_eq!(kind(Path::new("b.v2.JSONL.gz")), Ok((Format::JsonLines, Packing::Gzip)));
        assert_eq!(kind(Path::new("b.csv.zst")), Ok((Format::Csv, Packing::Zstd)));
        assert_eq!(kind(Path::new("b.parquet")), Ok((Format::Parquet, Packing::Plain)));
        assert_eq!(kind(Path::new("b.json.bz2")), Ok((Format::Json, Packing::Bzip2)));
        assert_eq!(kind(Path::new("b.txt.xz")), Ok((Format::Text, Packing::Xz)));
        assert_eq!(kind(Path::new("b.txt.7z")), Err(NO_PACKING));
        for unknown in ["b.parquet.gz", "b.gz", "txt", "b.pdf", ".."] {
            assert_eq!(kind(Path::new(unknown)), Err(UNKNOWN), "{unknown}");
        }
    }

    #[test]
    fn folders_are_read_in_order_and_once() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.txt", "a/z.tsv", "a/y.jsonl.gz", ".hidden.txt", "notes.md"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let folder = dir.path().to_str().unwrap().to_owned();
        let found = find(&[format!("{folder}/*.txt"), folder.clone()]).unwrap();
        let names: Vec<_> = found.iter().map(|source| source.path.strip_prefix(&folder).unwrap().to_owned()).collect();
        assert_eq!(names, ["b.txt", "a/y.jsonl.gz", "a/z.tsv"].map(std::path::PathBuf::from));
    }

    #[cfg(unix)]
    #[test]
    fn what_a_folder_holds_besides_is_left_out_by_its_kind() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("inner")).unwrap();
        for name in ["a.txt", "c.json", "d.7z", "e.md", "inner/f.txt"] {
            fs::write(at(name), "x").unwrap();
        }
        fs::write(dir.path().join(OsStr::from_bytes(b"b\xff.txt")), "x").unwrap();
        symlink(at("a.txt"), at("g.txt")).unwrap();
        symlink(at("nowhere"), at("h.txt")).unwrap();
        symlink(at("inner"), at("i")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("j.txt")).unwrap();
        let mut found = Found::default();
        found.walk(dir.path()).unwrap();
        let left_out: Vec<(&str, String)> = found.left_out.iter().map(|(why, names)| (*why, names.join(" "))).collect();
        let mut expected = [
            (JSON, "c.json"),
            (DEAD_LINK, "h.txt"),
            (FOLDER_LINK, "i"),
            (SPECIAL, "j.txt"),
            (NO_PACKING, "d.7z"),
            (UNKNOWN, "e.md"),
        ]
        .map(|(why, name)| (why, name.to_owned()));
        expected.sort();
        assert_eq!(left_out, expected);
        let folder = dir.path().to_str().unwrap().to_owned();
        let read: Vec<_> = find(std::slice::from_ref(&folder)).unwrap().into_iter().map(|source| source.path).collect();
        assert_eq!(read, [at("a.txt"), dir.path().join(OsStr::from_bytes(b"b\xff.txt")), at("inner/f.txt")]);
        let by_glob = |pattern: &str| find(&[format!("{folder}/{pattern}")]).unwrap().len();
        assert_eq!((by_glob("*.txt"), by_glob("**/*.txt"), by_glob("i*/f.???"), by_glob("[bi]*")), (2, 3, 1, 2));
        let error = find(&[format!("{folder}/j.txt")]).unwrap_err().to_string();
        assert!(error.contains("a pipe, a socket or a device"), "{error}");
        assert_eq!(find(&[format!("{folder}/c.json")]).unwrap()[0].format, Format::Json);
    }
}
