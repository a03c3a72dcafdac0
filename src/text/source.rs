//! Which files an input names, and how each is to be read.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, IoContext, Result};

/// The names that are read, for messages.
const KNOWN: &str = ".txt .jsonl .tsv .csv, each also with .gz or .zst, and .parquet";

/// How a file's content is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// A paragraph or a sentence a line, an empty line between documents.
    Text,
    /// A JSON object a line.
    JsonLines,
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
}

impl Packing {
    pub(super) fn name(self) -> &'static str {
        match self {
            Packing::Plain => "plain",
            Packing::Gzip => "gzip",
            Packing::Zstd => "zstd",
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
/// order of the names) or a glob. A file named twice is read once. Folders and globs pass over files whose names end in
/// nothing known, and over hidden ones.
///
/// # Errors
/// When an input doesn't exist, matches nothing that can be read, or names a file of an unknown kind.
pub fn find(inputs: &[String]) -> Result<Vec<Source>> {
    let mut seen = BTreeSet::new();
    let mut sources = Vec::new();
    for input in inputs {
        let found = expand(input)?;
        sources.extend(found.into_iter().filter(|source| seen.insert(source.path.clone())));
    }
    if sources.is_empty() {
        return Err(Error::new("no input was given").help("name files, folders or globs of text"));
    }
    Ok(sources)
}

fn expand(input: &str) -> Result<Vec<Source>> {
    let path = Path::new(input);
    if path.is_file() {
        let source = recognise(path)?;
        return source.map(|source| vec![source]).ok_or_else(|| unknown_kind(input));
    }
    let mut found = Vec::new();
    if path.is_dir() {
        walk(path, &mut found)?;
    } else if input.contains(['*', '?', '[']) {
        walk_glob(input, &mut found)?;
    } else {
        return Err(Error::new(format!("no such file or folder: {input}"))
            .help("check the path; a glob needs quotes, as in 'books/*.txt.zst'"));
    }
    if found.is_empty() {
        let what = if path.is_dir() { "the folder holds nothing to read" } else { "the glob matches nothing to read" };
        return Err(Error::new(what).at(input).help(format!("what is read: {KNOWN}")));
    }
    Ok(found)
}

fn unknown_kind(input: &str) -> Error {
    Error::new(format!("the name says nothing known about how to read it: {input}"))
        .help(format!("what is read: {KNOWN}; rename it or convert it"))
}

fn walk(folder: &Path, found: &mut Vec<Source>) -> Result<()> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).doing("read", folder)? {
        entries.push(entry.doing("read", folder)?);
    }
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries.iter().filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')) {
        let path = entry.path();
        // Folders behind symbolic links are left out: they may lead back here.
        if entry.file_type().doing("read", &path)?.is_dir() {
            walk(&path, found)?;
        } else if path.is_file() {
            found.extend(recognise(&path)?);
        }
    }
    Ok(())
}

fn walk_glob(pattern: &str, found: &mut Vec<Source>) -> Result<()> {
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
    let matches = glob::glob_with(pattern, options)
        .map_err(|error| Error::new(format!("the glob is not well formed: {}", error.msg)).at(pattern))?;
    for path in matches {
        let path = path.map_err(|error| Error::io("read", error.path(), error.error()))?;
        if path.is_dir() {
            walk(&path, found)?;
        } else {
            found.extend(recognise(&path)?);
        }
    }
    Ok(())
}

/// The file as a source, or nothing when its name ends in nothing known.
fn recognise(path: &Path) -> Result<Option<Source>> {
    let Some((format, packing)) = kind(path) else { return Ok(None) };
    let bytes = fs::metadata(path).doing("read", path)?.len();
    Ok(Some(Source { path: path.to_path_buf(), bytes, format, packing }))
}

fn kind(path: &Path) -> Option<(Format, Packing)> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let (stem, packing) = match name.rsplit_once('.') {
        Some((stem, "gz")) => (stem, Packing::Gzip),
        Some((stem, "zst")) => (stem, Packing::Zstd),
        _ => (name.as_str(), Packing::Plain),
    };
    let format = match stem.rsplit_once('.')?.1 {
        "txt" => Format::Text,
        "jsonl" => Format::JsonLines,
        "tsv" => Format::Tsv,
        "csv" => Format::Csv,
        // Parquet packs its own pages, and is read from its end.
        "parquet" if packing == Packing::Plain => Format::Parquet,
        _ => return None,
    };
    Some((format, packing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_how_to_read() {
        assert_eq!(kind(Path::new("a/b.txt")), Some((Format::Text, Packing::Plain)));
        assert_eq!(kind(Path::new("b.v2.JSONL.gz")), Some((Format::JsonLines, Packing::Gzip)));
        assert_eq!(kind(Path::new("b.csv.zst")), Some((Format::Csv, Packing::Zstd)));
        assert_eq!(kind(Path::new("b.parquet")), Some((Format::Parquet, Packing::Plain)));
        for unknown in ["b.parquet.gz", "b.gz", "txt", "b.pdf", ".."] {
            assert_eq!(kind(Path::new(unknown)), None, "{unknown}");
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
        let names: Vec<_> = found.iter().map(|source| source.path.strip_prefix(&folder).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["b.txt", "a/y.jsonl.gz", "a/z.tsv"]);
    }
}
