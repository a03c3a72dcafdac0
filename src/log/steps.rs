//! `steps.jsonl`: a [`StepRecord`] a line, only ever appended to.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::StepRecord;
use crate::error::{Error, IoContext, Result};
use crate::files::still_there;

/// Appends records to `steps.jsonl`.
pub struct StepWriter {
    path: PathBuf,
    out: BufWriter<File>,
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
        Ok(Self { path: path.into(), out: BufWriter::new(file.doing("create", path)?) })
    }

    /// Goes on with a file whose next record will be that of `step`: records of `step` and later are cut off, and so is a
    /// last line that a crash left half-written. A run that was stopped and resumed so leaves the file of one that was not.
    ///
    /// # Errors
    /// When a line before that is not a record; then the file is as it was.
    pub fn resume(path: &Path, step: u64) -> Result<Self> {
        if !path.exists() {
            return Self::create(path);
        }
        let mut keep = 0;
        scan(path, |line| {
            let earlier = line.record.step < step;
            if earlier {
                keep = line.end;
            }
            earlier
        })?;
        let mut file = OpenOptions::new().read(true).write(true).open(path).doing("open", path)?;
        file.set_len(keep).doing("cut", path)?;
        if keep > 0 && !ends_with_newline(&mut file).doing("read", path)? {
            file.write_all(b"\n").doing("write", path)?;
        }
        file.seek(SeekFrom::End(0)).doing("read", path)?;
        Ok(Self { path: path.into(), out: BufWriter::new(file) })
    }

    /// Appends a record to the buffer.
    pub fn write(&mut self, record: &StepRecord) -> Result<()> {
        let mut line =
            serde_json::to_vec(record).map_err(|error| Error::new(format!("a record that JSON can't hold: {error}")))?;
        line.push(b'\n');
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

/// The same of the bytes of such a file.
///
/// # Errors
/// As [`read_steps`].
pub fn parse_steps(bytes: &[u8]) -> Result<Vec<StepRecord>> {
    let mut records = Vec::new();
    scan_lines(bytes, Path::new("steps.jsonl"), |line| {
        records.push(line.record);
        true
    })?;
    Ok(records)
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

fn ends_with_newline(file: &mut File) -> std::io::Result<bool> {
    file.seek(SeekFrom::End(-1))?;
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

    #[test]
    fn a_resumed_file_equals_an_uninterrupted_one() {
        let dir = tempfile::tempdir().unwrap();
        let (whole, resumed) = (dir.path().join("a"), dir.path().join("b"));
        write(&mut StepWriter::create(&whole).unwrap(), 0..20);

        write(&mut StepWriter::create(&resumed).unwrap(), 0..13);
        let mut torn = OpenOptions::new().append(true).open(&resumed).unwrap();
        torn.write_all(br#"{"step":13,"lo"#).unwrap();
        assert_eq!(read_steps(&resumed).unwrap().len(), 13);
        write(&mut StepWriter::resume(&resumed, 10).unwrap(), 10..20);
        assert_eq!(fs::read_to_string(&whole).unwrap(), fs::read_to_string(&resumed).unwrap());
    }

    #[test]
    fn resuming_where_the_file_tore_cuts_only_the_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("steps.jsonl");
        write(&mut StepWriter::create(&path).unwrap(), 0..3);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}{{\"step\":3")).unwrap();
        drop(StepWriter::resume(&path, 3).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        fs::write(&path, text.trim_end()).unwrap();
        drop(StepWriter::resume(&path, 3).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_broken_line_is_named_and_nothing_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("steps.jsonl");
        write(&mut StepWriter::create(&path).unwrap(), 0..1);
        let text = fs::read_to_string(&path).unwrap() + "{\"step\": \"two\"}\n" + "{}\n";
        fs::write(&path, &text).unwrap();
        for error in [read_steps(&path).unwrap_err(), StepWriter::resume(&path, 5).err().unwrap()] {
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
}
