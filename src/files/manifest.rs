//! What was written, by hash, so that what is read again is what was written, or an error.
//!
//! A JSON file that upstill writes and reads again ends with a `checksum` of all before it ([`to_json`]). Those that
//! speak of a folder have blake3 of its files under `files`, by their paths from there: `summary.json` of a finished
//! run, `state.json` of a checkpoint, and `checksums.json` of any other folder ([`write_checksums`]). [`check`] holds a
//! file or a folder against whichever of them lies beside or above it. Files that nobody listed are nobody's business.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Files, is_by_the_way, write_text};
use crate::error::{Error, IoContext, Result};

/// blake3 of files, in hexadecimal, by their paths within a folder, `/` between folders.
pub type Hashes = BTreeMap<String, String>;

/// The file that lists a folder which has no other file to do it.
pub const CHECKSUMS: &str = "checksums.json";
/// A checkpoint's.
pub const STATE: &str = "state.json";
/// A finished run's.
pub const SUMMARY: &str = "summary.json";

/// What comes before the checksum of a JSON text, and after it.
const BEFORE: &str = ",\n  \"checksum\": \"";
const AFTER: &str = "\"\n}";
/// Keys that end files of older versions, and whose values may look like a checksum.
const LAST_KEYS: [&str; 2] = ["run", "token_counts"];
/// What comes before the checksum of a TOML text: it stands above the text, so that no cut leaves it out.
const TOML_BEFORE: &str = "# checksum: ";
/// What comes after it, and at the top of a file of an older version or one that was changed on purpose.
const TOML_HEAD: &str = "# Everything about this run, resolved; written by upstill.\n";

/// blake3 in hexadecimal.
pub fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// A JSON file's text, with its checksum.
pub fn to_json(content: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(content).expect("what is in memory can be written");
    let inside = text.strip_suffix("\n}").expect("an object with fields");
    format!("{inside}{BEFORE}{}{AFTER}\n", hash(text.as_bytes()))
}

/// Writes what [`to_json`] gives, whole or not at all.
///
/// # Errors
/// As the file system says.
pub fn write_json(path: &Path, content: &impl Serialize) -> Result<()> {
    write_text(path, &to_json(content))
}

/// A JSON text that was read.
pub struct Json {
    /// The text without its checksum.
    pub text: String,
    /// Whether it had one: files of older versions have none.
    pub is_sealed: bool,
}

impl Json {
    /// Checks a text against the checksum at its end, where it has one.
    ///
    /// # Errors
    /// When it was altered.
    pub fn open(text: &str) -> Result<Self> {
        let found = text.trim_end().strip_suffix(AFTER).and_then(|text| text.rsplit_once(BEFORE));
        let Some((inside, wanted)) = found.filter(|(_, wanted)| is_hash(wanted)) else {
            return match ends_in_a_checksum(text) {
                true => Err(altered()),
                false => Ok(Self { text: text.to_owned(), is_sealed: false }),
            };
        };
        let text = format!("{inside}\n}}");
        match hash(text.as_bytes()) == wanted {
            true => Ok(Self { text, is_sealed: true }),
            false => Err(altered()),
        }
    }

    /// Reads a file, and checks it as [`open`](Self::open) does.
    ///
    /// # Errors
    /// When it can't be read, is not text, or was altered.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).doing("read", path)?;
        let text = text(bytes).map_err(|error| error.at(path.display()))?;
        Self::open(&text).map_err(|error| error.at(path.display()))
    }

    /// What it says. `what` completes "this is not ..." ("a run's summary").
    ///
    /// # Errors
    /// When it says something else, or is cut short.
    pub fn parse<T: DeserializeOwned>(&self, what: &str) -> Result<T> {
        serde_json::from_str(&self.text).map_err(|error| {
            let how = if error.is_eof() { "the file is cut short, and not" } else { "this is not" };
            Error::new(format!("{how} {what}: {error}")).help(AGAIN)
        })
    }
}

/// Reads a file that [`write_json`] wrote, or a version of upstill that knew no checksums. `what` completes "this is
/// not ...".
///
/// # Errors
/// When it can't be read, was altered, or says something else.
pub fn read_json<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T> {
    Json::read(path)?.parse(what).map_err(|error| error.at(path.display()))
}

/// A plan's TOML text below a comment with its checksum and one that says what it is.
pub fn sealed_toml(text: &str) -> String {
    let text = format!("{TOML_HEAD}{text}");
    format!("{TOML_BEFORE}{}\n{text}", hash(text.as_bytes()))
}

/// Checks a text that [`sealed_toml`] gave. One without a checksum is taken as it is where nothing speaks of one that
/// was there: the comment that stands below it is at the top, or the text has neither and begins with no comment.
///
/// # Errors
/// When it was altered.
pub fn check_toml(text: &str) -> Result<()> {
    match text.strip_prefix(TOML_BEFORE).map(|sealed| sealed.split_once('\n')) {
        Some(Some((wanted, text))) if hash(text.as_bytes()) == wanted => Ok(()),
        None if text.starts_with(TOML_HEAD) => Ok(()),
        None if !text.trim_start().starts_with('#') && !text.contains(TOML_HEAD) => Ok(()),
        _ => Err(altered()),
    }
}

/// Reads a text that [`sealed_toml`] gave, or one without a checksum.
///
/// # Errors
/// When it can't be read, or was altered.
pub fn read_toml(path: &Path) -> Result<String> {
    let text = text(fs::read(path).doing("read", path)?);
    text.and_then(|text| check_toml(&text).map(|()| text)).map_err(|error| error.at(path.display()))
}

/// What to do about a damaged file, where nobody knows better.
const AGAIN: &str = "copy the file again; or delete it, and have it made again";

fn altered() -> Error {
    Error::new("the file was altered since upstill wrote it: its checksum is another").help(AGAIN)
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| Error::new("the file is not text: it is damaged").help(AGAIN))
}

/// Whether a text's last member was a checksum, whatever became of it: a string with hexadecimal digits in a row, or
/// with such a key.
fn ends_in_a_checksum(text: &str) -> bool {
    last_string(text).is_some_and(|(key, value)| {
        let is_like_a_hash = value.split(|c: char| !c.is_ascii_hexdigit()).any(|run| run.len() >= 8);
        key.contains("checks") || key.contains("ecksum") || is_like_a_hash && !LAST_KEYS.contains(&key)
    })
}

/// The key and the value of an object's last member, where that is a string.
fn last_string(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_end().strip_suffix('}')?.trim_end().strip_suffix('"')?;
    let (before, value) = text.rsplit_once('"')?;
    let key = before.trim_end().strip_suffix(':')?.trim_end().strip_suffix('"')?.rsplit('"').next()?;
    Some((key, value))
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The hashes of files in memory.
pub fn hashes_of(files: &Files) -> Hashes {
    files.iter().map(|(name, bytes)| (name.clone(), hash(bytes))).collect()
}

/// The hashes of all files in a folder and below, by their paths from `from`, which is the folder or above it.
///
/// # Errors
/// When one can't be read.
pub fn hashes_within(folder: &Path, from: &Path) -> Result<Hashes> {
    let (mut out, mut open) = (Hashes::new(), vec![folder.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).doing("read", &next)? {
            let entry = entry.doing("read", &next)?;
            let path = entry.path();
            if is_by_the_way(&entry.file_name()) {
                continue;
            }
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let name = path.strip_prefix(from).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            out.insert(name, hash_file(&path)?);
        }
    }
    Ok(out)
}

fn hash_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).doing("open", path)?;
    let (mut hasher, mut buffer) = (blake3::Hasher::new(), vec![0; 1 << 18]);
    loop {
        match file.read(&mut buffer).doing("read", path)? {
            0 => return Ok(hasher.finalize().to_hex().to_string()),
            read => hasher.update(&buffer[..read]),
        };
    }
}

/// What a file says of the files around it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Listed {
    #[serde(default)]
    files: Hashes,
}

/// Lists a folder's files in its `checksums.json`; what is meant to be changed by hand (a `README.md`) is left out. For
/// folders that are still being made.
///
/// # Errors
/// When one can't be read, or the list not written.
pub fn write_checksums(folder: &Path) -> Result<()> {
    let mut files = hashes_within(folder, folder)?;
    files.retain(|name, _| name != CHECKSUMS && name != "README.md");
    write_json(&folder.join(CHECKSUMS), &Listed { files })
}

/// Holds a file, or a folder's files, against the lists that lie beside or above it: `checksums.json`, a checkpoint's
/// `state.json`, a run's `summary.json`. Where none of them lists it, there is nothing to check.
///
/// # Errors
/// When a file is missing or altered, or such a list is; all of them are named.
pub fn check(path: &Path) -> Result<()> {
    let whole = std::path::absolute(path).doing("find", path)?;
    // A file lies at most three folders deep in its run: RUN/model/NAME/FILE.
    for above in whole.ancestors().take(4) {
        for name in [CHECKSUMS, STATE, SUMMARY] {
            let list = above.join(name);
            if list == whole || !list.is_file() {
                continue;
            }
            let json = Json::read(&list).map_err(|error| error.help(help(name)))?;
            // Not every file of such a name is ours.
            let Ok(listed) = serde_json::from_str::<Listed>(&json.text) else { continue };
            let inside = whole.strip_prefix(above).unwrap_or(&whole).to_string_lossy().replace('\\', "/");
            let is_wanted = |name: &str| {
                inside.is_empty()
                    || name.strip_prefix(inside.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            let wrong = differing(above, listed.files.iter().filter(|(name, _)| is_wanted(name)))?;
            if !wrong.is_empty() {
                return Err(Error::new(format!("not as upstill wrote it: {}", wrong.join(", ")))
                    .at(above.display())
                    .help(help(name)));
            }
        }
    }
    Ok(())
}

fn help(list: &str) -> &'static str {
    match list {
        STATE => "the checkpoint is damaged: take an earlier one, or copy this one again",
        SUMMARY => {
            "the run's folder is damaged: copy it again; or delete summary.json, and `upstill train` with --resume writes the models \
             again from the last checkpoint"
        }
        _ => "copy or make the folder again; if the change was meant, delete checksums.json there",
    }
}

/// The files of a list that are not as it says, and how.
///
/// # Errors
/// When one is there and can't be read.
pub fn differing<'a>(folder: &Path, wanted: impl IntoIterator<Item = (&'a String, &'a String)>) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (name, hash) in wanted {
        let path = folder.join(name);
        // A damaged list must not lead elsewhere.
        let is_inside = Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !is_inside || !path.is_file() {
            wrong.push(format!("{name} is missing"));
        } else if hash_file(&path)? != *hash {
            wrong.push(format!("{name} is altered"));
        }
    }
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Said {
        name: String,
        loss: f64,
    }

    fn said() -> Said {
        Said { name: "checksum".into(), loss: 0.25 }
    }

    /// Every single bit of some bytes turned, in turn.
    fn turned(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
        (0..8 * bytes.len()).map(|bit| {
            let mut other = bytes.to_vec();
            other[bit / 8] ^= 1 << (bit % 8);
            other
        })
    }

    #[test]
    fn no_bit_of_a_sealed_text_can_turn_and_change_what_it_says() {
        let text = to_json(&said());
        assert!(text.ends_with("\"\n}\n") && serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
        let read = |bytes: &[u8]| Json::open(std::str::from_utf8(bytes).ok()?).ok()?.parse::<Said>("it").ok();
        assert_eq!(read(text.as_bytes()), Some(said()));
        for other in turned(text.as_bytes()) {
            assert!(read(&other).is_none_or(|found| found == said()), "{}", String::from_utf8_lossy(&other));
            // What is shown as it stands is as it was, too.
            let shown = std::str::from_utf8(&other).ok().and_then(|text| Json::open(text).ok());
            let shown = shown.filter(|json| serde_json::from_str::<serde_json::Value>(&json.text).is_ok());
            let is_white = other.last() != text.as_bytes().last();
            assert!(is_white || shown.is_none_or(|json| json.is_sealed), "{}", String::from_utf8_lossy(&other));
        }
        for cut in 0..text.len() - 1 {
            assert!(read(&text.as_bytes()[..cut]).is_none(), "cut at {cut}");
        }
        // The checksum is damaged wherever it is, and what stands above it says something else.
        let other = text.replace("0.25", "0.99");
        for at in text.find(BEFORE).unwrap()..text.len() {
            for piece in [&b"99"[..], b"xyz", b" ", b"\n", b"\"", b"-1"] {
                let (mut within, mut instead) = (other.clone().into_bytes(), other.clone().into_bytes());
                within.splice(at..at, piece.iter().copied());
                instead.splice(at..(at + 30).min(other.len()), piece.iter().copied());
                for damaged in [within, instead] {
                    assert!(read(&damaged).is_none(), "{}", String::from_utf8_lossy(&damaged));
                }
            }
        }
        let toml = sealed_toml("loss = 25\n");
        let read = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).ok()?;
            check_toml(text).ok()?;
            Some(text.parse::<toml::Table>().ok()?["loss"].as_integer())
        };
        assert_eq!(read(toml.as_bytes()), Some(Some(25)));
        for other in turned(toml.as_bytes()) {
            assert!(read(&other).is_none(), "{}", String::from_utf8_lossy(&other));
        }
        let other = toml.replace("25", "99");
        for at in 0..toml.find(TOML_HEAD).unwrap() {
            for end in [at, at + 1, at + 30] {
                let mut damaged = other.clone().into_bytes();
                damaged.splice(at..end, *b" ");
                assert!(read(&damaged).is_none(), "{}", String::from_utf8_lossy(&damaged));
            }
        }
        // A person changed it on purpose, and deleted the first line.
        assert_eq!(read(other.split_once('\n').unwrap().1.as_bytes()), Some(Some(99)));
        for cut in TOML_BEFORE.len()..toml.len() {
            assert!(read(&toml.as_bytes()[..cut]).is_none(), "cut at {cut}");
        }
    }

    #[test]
    fn texts_of_older_versions_are_read() {
        let text = serde_json::to_string_pretty(&said()).unwrap();
        let json = Json::open(&text).unwrap();
        assert_eq!((json.is_sealed, json.parse::<Said>("it").unwrap()), (false, said()));
        for last in ["\"run\": \"cells/0123456789\"", "\"token_counts\":\"0123456789\"", "\"name\": \"a\""] {
            assert!(!Json::open(&format!("{{\n  \"loss\": 1, {last}\n}}\n")).unwrap().is_sealed);
        }
        check_toml(&format!("{TOML_HEAD}seed = 1\n")).unwrap();
        check_toml("seed = 1\n").unwrap();
    }

    #[test]
    fn a_folder_is_what_its_list_says_wherever_the_list_lies() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("model/large");
        fs::create_dir_all(&folder).unwrap();
        write_text(&folder.join("weights"), "1").unwrap();
        write_text(&folder.join("config.json"), "{}").unwrap();
        check(&folder).unwrap();
        write_checksums(&folder).unwrap();
        check(&folder).unwrap();
        write_text(&folder.join("weights"), "2").unwrap();
        fs::remove_file(folder.join("config.json")).unwrap();
        let error = check(&folder).unwrap_err().to_string();
        assert!(error.contains("config.json is missing, weights is altered") && error.contains("checksums.json"), "{error}");
        fs::remove_file(folder.join(CHECKSUMS)).unwrap();
        // Of the run's own list, what lies in the folder counts, and nothing beside it.
        let files = Hashes::from(["model/large/weights", "model/large2", "gone"].map(|name| (name.to_owned(), hash(b"2"))));
        write_json(&dir.path().join(SUMMARY), &Listed { files }).unwrap();
        check(&folder).unwrap();
        check(&folder.join("weights")).unwrap();
        let error = check(dir.path()).unwrap_err().to_string();
        assert!(error.contains("gone is missing") && error.contains("--resume"), "{error}");
        write_text(&folder.join("weights"), "3").unwrap();
        assert!(check(&folder).is_err() && check(&folder.join("weights")).is_err());
        // Another program's file of that name says nothing of ours.
        write_text(&dir.path().join(SUMMARY), "[1, 2]").unwrap();
        check(&folder).unwrap();
    }
}
