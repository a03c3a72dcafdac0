//! `steps.jsonl`: a [`StepRecord`] a line, only ever appended to, from step 0 on without a gap.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::StepRecord;
use crate::error::{Error, IoContext, Result};
use crate::files::still_there;

/// The file's name in a run directory.
pub const STEPS: &str = "steps.jsonl";

/// Appends records to `steps.jsonl`.
pub struct StepWriter {
    path: PathBuf,
    out: BufWriter<File>,
    /// The hash of all lines so far.
    hasher: blake3::Hasher,
    next: u64,
}

/// The step that a run resumes at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume<'a> {
    /// The step of the next record.
    pub step: u64,
    /// What [`StepWriter::hash`] was there, when it is known.
    pub records: Option<&'a str>,
}

impl StepWriter {
    /// Starts a new file.
    ///
    /// # Errors
    /// When the file is already there: it holds another run's records.
    pub fn create(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        if file.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::AlreadyExists) {
            return Err(Error::new("the folder already holds a run")
                .at(path.display())
                .help("go on with `--resume`, or give another `--out`"));
        }
        Ok(Self { path: path.into(), out: BufWriter::new(file.doing("create", path)?), hasher: blake3::Hasher::new(), next: 0 })
    }

    /// Goes on with a file whose next record will be that of `from.step`: records of that step and later are cut off,
    /// and so is a last line that a crash left half-written. A run that was stopped and resumed so leaves the file of
    /// one that was not.
    ///
    /// # Errors
    /// When a line before that is not a record, a step before that has none, or the records are not those that the
    /// checkpoint knew; then the file is as it was.
    pub fn resume(path: &Path, from: Resume) -> Result<Self> {
        if !path.exists() {
            return match from.step {
                0 => Self::create(path),
                _ => Err(lost("steps.jsonl is missing".to_owned(), 0).at(path.display())),
            };
        }
        let (mut keep, mut next) = (0, 0);
        scan(path, |line| {
            let earlier = line.record.step < from.step && line.record.step == next;
            if earlier {
                (keep, next) = (line.end, next + 1);
            }
            earlier
        })?;
        if next < from.step {
            return Err(lost(format!("the record of step {} is missing", next + 1), next).at(path.display()));
        }
        let mut file = OpenOptions::new().read(true).write(true).open(path).doing("open", path)?;
        let mut hasher = blake3::Hasher::new();
        std::io::copy(&mut Read::by_ref(&mut file).take(keep), &mut hasher).doing("read", path)?;
        let ends_a_line = keep == 0 || ends_with_newline(&mut file, keep).doing("read", path)?;
        if !ends_a_line {
            hasher.update(b"\n");
        }
        if from.records.is_some_and(|wanted| wanted != hasher.finalize().to_hex().as_str()) {
            return Err(altered().at(path.display()));
        }
        file.set_len(keep).doing("cut", path)?;
        file.seek(SeekFrom::End(0)).doing("read", path)?;
        if !ends_a_line {
            file.write_all(b"\n").doing("write", path)?;
        }
        Ok(Self { path: path.into(), out: BufWriter::new(file), hasher, next })
    }

    /// The step of the next record.
    pub fn next_step(&self) -> u64 {
        self.next
    }

    /// blake3 of all lines, those before a resume included.
    pub fn hash(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }

    /// Appends a record to the buffer.
    pub fn write(&mut self, record: &StepRecord) -> Result<()> {
        let mut line =
            serde_json::to_vec(record).map_err(|error| Error::new(format!("a record that JSON can't hold: {error}")))?;
        line.push(b'\n');
        self.hasher.update(&line);
        self.next = record.step + 1;
        self.out.write_all(&line).doing("write", &self.path)
    }

    /// Hands the buffer to the system, so that others can read it.
    pub fn flush(&mut self) -> Result<()> {
        // What is appended to a removed file is lost without an error.
        still_there(&self.path)?;
        self.out.flush().doing("write", &self.path)
    }

    /// [`Self::flush`], and waits for the disk: what was written survives a power cut.
    pub fn sync(&mut self) -> Result<()> {
        self.flush()?;
        self.out.get_ref().sync_data().doing("write", &self.path)
    }
}

/// Reads a `steps.jsonl`, also while it is being written: a half-written last line is left out.
///
/// # Errors
/// When the file can't be read, or another line is not a record (says which).
pub fn read_steps(path: &Path) -> Result<Vec<StepRecord>> {
    let mut records = Vec::new();
    scan(path, |line| {
        records.push(line.record);
        true
    })?;
    Ok(records)
}

/// The records of the steps before a checkpoint, from the bytes of such a file.
///
/// # Errors
/// When one of them is missing or broken, or they are not those that the checkpoint knew.
pub fn steps_before(bytes: &[u8], from: Resume) -> Result<Vec<StepRecord>> {
    let (mut records, mut end) = (Vec::new(), 0);
    scan_lines(bytes, Path::new(STEPS), |line| {
        let is_next = line.record.step < from.step && line.record.step == records.len() as u64;
        if is_next {
            records.push(line.record);
            end = line.end as usize;
        }
        is_next
    })?;
    let whole = records.len() as u64;
    if whole < from.step {
        return Err(lost(format!("the record of step {} is missing", whole + 1), whole).at(STEPS));
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(bytes[..end].strip_suffix(b"\n").unwrap_or(&bytes[..end]));
    if whole > 0 {
        hasher.update(b"\n");
    }
    match from.records {
        Some(wanted) if wanted != hasher.finalize().to_hex().as_str() => Err(altered().at(STEPS)),
        _ => Ok(records),
    }
}

struct Line {
    record: StepRecord,
    /// Bytes from the start of the file to the end of this line, its newline included.
    end: u64,
}

/// Calls `each` on every record until it says false.
fn scan(path: &Path, each: impl FnMut(Line) -> bool) -> Result<()> {
    scan_lines(BufReader::new(File::open(path).doing("open", path)?), path, each)
}

fn scan_lines(mut reader: impl BufRead, path: &Path, mut each: impl FnMut(Line) -> bool) -> Result<()> {
    let (mut bytes, mut end) = (Vec::new(), 0);
    for number in 1_u64.. {
        bytes.clear();
        let read = reader.read_until(b'\n', &mut bytes).doing("read", path)?;
        end += read as u64;
        if read == 0 {
            break;
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(&bytes) {
            Ok(record) => {
                if !each(Line { record, end }) {
                    break;
                }
            }
            Err(_) if !bytes.ends_with(b"\n") => break,
            Err(error) => {
                // The error counts lines within the line.
                let why = error.to_string().replace(" at line 1 column", ", column");
                return Err(Error::new(format!("not a step record: {why}"))
                    .at(format!("{}:{number}", path.display()))
                    .help("mend or remove that line"));
            }
        }
    }
    Ok(())
}

fn altered() -> Error {
    lost("the records were altered since the checkpoint was written".to_owned(), 0)
}

/// What to do where a checkpoint is further than the records of its steps; `whole` steps have one.
fn lost(what: String, whole: u64) -> Error {
    let from = match whole {
        0 => "delete it and the folder checkpoints beside it, and --resume begins anew".to_owned(),
        _ => format!("delete the checkpoints after step {whole}, and --resume takes those steps again"),
    };
    Error::new(format!("{what}, though a checkpoint has that step")).help(format!("put the file back as it was; or {from}"))
}

/// Whether the first `length` bytes do.
fn ends_with_newline(file: &mut File, length: u64) -> std::io::Result<bool> {
    file.seek(SeekFrom::Start(length - 1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::record::tests::record;
    use std::fs;

    fn write(writer: &mut StepWriter, steps: std::ops::Range<u64>) {
        steps.for_each(|step| writer.write(&record(step)).unwrap());
        writer.flush().unwrap();
    }

    fn at(step: u64) -> Resume<'static> {
        Resume { step, records: None }
    }

    #[test]
    fn a_resumed_file_equals_an_uninterrupted_one() {
        let dir = tempfile::tempdir().unwrap();
        let (whole, resumed) = (dir.path().join("a"), dir.path().join("b"));
        write(&mut StepWriter::create(&whole).unwrap(), 0..20);

        write(&mut StepWriter::create(&resumed).unwrap(), 0..13);
        let mut torn = OpenOptions::new().append(true).open(&resumed).unwrap();
        torn.write_all(br#"{"step":13,"lo"#).unwrap();
        assert_eq!(read_steps(&resumed).unwrap().len(), 13);
        write(&mut StepWriter::resume(&resumed, at(10)).unwrap(), 10..20);
        assert_eq!(fs::read_to_string(&whole).unwrap(), fs::read_to_string(&resumed).unwrap());
    }

    #[test]
    fn resuming_where_the_file_tore_cuts_only_the_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("steps.jsonl");
        write(&mut StepWriter::create(&path).unwrap(), 0..3);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}{{\"step\":3")).unwrap();
        drop(StepWriter::resume(&path, at(3)).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        fs::write(&path, text.trim_end()).unwrap();
        drop(StepWriter::resume(&path, at(3)).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_broken_line_is_named_and_nothing_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("steps.jsonl");
        write(&mut StepWriter::create(&path).unwrap(), 0..1);
        let text = fs::read_to_string(&path).unwrap() + "{\"step\": \"two\"}\n" + "{}\n";
        fs::write(&path, &text).unwrap();
        for error in [read_steps(&path).unwrap_err(), StepWriter::resume(&path, at(5)).err().unwrap()] {
            assert!(error.to_string().contains("steps.jsonl:2"), "{error}");
            assert!(error.to_string().contains("expected u64"), "{error}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn another_runs_records_are_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("steps.jsonl");
        write(&mut StepWriter::create(&path).unwrap(), 0..2);
        let error = StepWriter::create(&path).err().unwrap().to_string();
        assert!(error.contains("already holds a run") && error.contains("--resume"), "{error}");
        assert_eq!(read_steps(&path).unwrap().len(), 2);
    }

    #[test]
    fn a_file_behind_its_checkpoint_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("steps.jsonl");
        let mut writer = StepWriter::create(&path).unwrap();
        write(&mut writer, 0..5);
        let (text, hash) = (fs::read_to_string(&path).unwrap(), writer.hash());
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let whole = Resume { step: 5, records: Some(&hash) };
        for (without, said) in [(0, "step 1"), (2, "step 3"), (4, "step 5")] {
            let other: String = lines.iter().enumerate().filter(|(at, _)| *at != without).map(|(_, line)| *line).collect();
            fs::write(&path, &other).unwrap();
            for from in [at(5), whole] {
                let error = StepWriter::resume(&path, from).err().unwrap().to_string();
                assert!(error.contains(&format!("the record of {said} is missing")), "{error}");
                assert_eq!(fs::read_to_string(&path).unwrap(), other);
            }
        }
        let error = StepWriter::resume(&dir.path().join("gone"), at(5)).err().unwrap().to_string();
        assert!(error.contains("steps.jsonl is missing") && error.contains("--resume begins anew"), "{error}");
        // A number that turned.
        fs::write(&path, text.replacen("4.5", "4.4", 1)).unwrap();
        let error = StepWriter::resume(&path, whole).err().unwrap().to_string();
        assert!(error.contains("were altered"), "{error}");
        // Whole, with what a crash left behind it, or without its last line's end.
        for whole_text in [text.clone() + "{\"step\":5", text.trim_end().to_owned()] {
            fs::write(&path, whole_text).unwrap();
            assert_eq!(StepWriter::resume(&path, whole).unwrap().hash(), hash);
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
