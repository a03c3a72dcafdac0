//! TensorBoard event files, written by hand: scalars need three messages and one checksum.
//!
//! A file is TFRecords: `u64 length | masked crc of length | data | masked crc of data`, little-endian; each record's
//! data is a protobuf `Event`. TensorBoard 2.21 was seen to read files of this writer (`EventAccumulator`, resume
//! included); the bytes are held by a golden test.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::StepRecord;
use crate::error::{IoContext, Result};

/// Writes `events.out.tfevents.*` in a run directory.
pub struct EventWriter {
    path: PathBuf,
    out: BufWriter<File>,
}

impl EventWriter {
    /// Starts a new event file in `run_dir`; with `resume_step`, readers drop what earlier files hold from that step
    /// on.
    pub fn open(run_dir: &Path, resume_step: Option<u64>) -> Result<Self> {
        let now = wall_time();
        let (path, file) = create_new(run_dir, now as u64)?;
        let mut writer = Self { path, out: BufWriter::new(file) };
        writer.put(&event(now, 0, Content::FileVersion))?;
        if let Some(step) = resume_step {
            writer.put(&event(now, step, Content::SessionStart))?;
        }
        Ok(writer)
    }

    /// Appends the record's numbers to the buffer.
    pub fn write(&mut self, record: &StepRecord) -> Result<()> {
        let scalars: Vec<_> = record.scalars().collect();
        self.put(&event(wall_time(), record.step, Content::Scalars(&scalars)))
    }

    /// Hands the buffer to the system.
    pub fn flush(&mut self) -> Result<()> {
        self.out.flush().doing("write", &self.path)
    }

    /// [`Self::flush`], and waits for the disk.
    pub fn sync(&mut self) -> Result<()> {
        self.flush()?;
        self.out.get_ref().sync_data().doing("write", &self.path)
    }

    fn put(&mut self, event: &[u8]) -> Result<()> {
        self.out.write_all(&framed(event)).doing("write", &self.path)
    }
}

/// TensorBoard reads a folder's event files in the order of their names, so a later file takes a later second.
fn create_new(run_dir: &Path, mut unix_s: u64) -> Result<(PathBuf, File)> {
    loop {
        let path = run_dir.join(format!("events.out.tfevents.{unix_s:010}.upstill"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => unix_s += 1,
            file => return file.doing("create", &path).map(|file| (path, file)),
        }
    }
}

fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

enum Content<'a> {
    FileVersion,
    /// `SessionLog { status: START }`: the step counter went back to the event's step.
    SessionStart,
    Scalars(&'a [(Cow<'static, str>, f64)]),
}

/// `Event { 1: wall_time double, 2: step int64, 3: file_version string | 5: summary Summary | 7: session_log SessionLog }`.
fn event(wall_time: f64, step: u64, content: Content) -> Vec<u8> {
    let mut out = vec![0x09];
    out.extend(wall_time.to_le_bytes());
    if step > 0 {
        out.push(0x10);
        varint(&mut out, step);
    }
    match content {
        Content::FileVersion => field(&mut out, 0x1a, b"brain.Event:2"),
        Content::SessionStart => field(&mut out, 0x3a, &[0x08, 0x01]),
        Content::Scalars(scalars) => {
            let mut summary = Vec::new();
            scalars.iter().for_each(|(tag, value)| field(&mut summary, 0x0a, &scalar(tag, *value)));
            field(&mut out, 0x2a, &summary);
        }
    }
    out
}

/// `Summary.Value { 1: tag string, 2: simple_value float }`.
fn scalar(tag: &str, value: f64) -> Vec<u8> {
    let mut out = Vec::with_capacity(tag.len() + 7);
    field(&mut out, 0x0a, tag.as_bytes());
    out.push(0x15);
    out.extend((value as f32).to_le_bytes());
    out
}

fn field(out: &mut Vec<u8>, key: u8, content: &[u8]) {
    out.push(key);
    varint(out, content.len() as u64);
    out.extend(content);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn framed(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length), data, &masked_crc(data)].concat()
}

/// TFRecord masks its checksums so that a checksum of data that holds checksums stays a good one.
fn masked_crc(data: &[u8]) -> [u8; 4] {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::record::tests::record;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_checksum_is_crc32c() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }

    // What TensorBoard's own protobuf and record writer make of the same events (tests/golden/events.py).
    #[test]
    fn the_bytes_are_tensorboards() {
        assert_eq!(hex(&framed(&event(1.5, 0, Content::FileVersion))), GOLDEN_VERSION);
        assert_eq!(hex(&framed(&event(1.5, 50, Content::SessionStart))), GOLDEN_SESSION);
        let scalars = [("loss/hard".into(), 4.25), ("train/lr".into(), 5e-4)];
        assert_eq!(hex(&framed(&event(1.5, 300, Content::Scalars(&scalars)))), GOLDEN_SCALARS);
    }

    const GOLDEN_VERSION: &str = "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c";
    const GOLDEN_SESSION: &str = "0f000000000000006d532b0909000000000000f83f10323a020801fbaf61d2";
    const GOLDEN_SCALARS: &str = "31000000000000009d8383e909000000000000f83f10ac022a230a100a096c6f73732f6861726415000088400a0f0a08747261696e2f6c72156f12033a23b70827";

    #[test]
    fn a_second_file_in_the_same_second_sorts_after_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = EventWriter::open(dir.path(), None).unwrap();
        let mut second = EventWriter::open(dir.path(), Some(5)).unwrap();
        second.write(&record(5)).unwrap();
        second.flush().unwrap();
        assert!(first.path < second.path);
        assert!(std::fs::metadata(&second.path).unwrap().len() > 200);
    }
}
