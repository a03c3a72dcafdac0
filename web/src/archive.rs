//! Files as one zip archive, stored as they are: weights hardly compress.

use std::io::{Cursor, Read, Write};

use upstill::files::Files;
use upstill::{Error, Result};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// An archive that says it unpacks to more than this is refused.
const LARGEST: u64 = 1 << 30;

/// The archive of some files.
///
/// # Errors
/// When a name or a size is beyond the format.
pub fn pack(files: &Files) -> Result<Vec<u8>> {
    let mut out = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let failed = |error: &dyn std::fmt::Display| Error::new(format!("the archive can't be written: {error}"));
    for (name, bytes) in files {
        out.start_file(name.as_str(), options).map_err(|error| failed(&error))?;
        out.write_all(bytes).map_err(|error| failed(&error))?;
    }
    Ok(out.finish().map_err(|error| failed(&error))?.into_inner())
}

/// The files of an archive.
///
/// # Errors
/// When it is none, damaged, or would not fit.
pub fn unpack(bytes: &[u8]) -> Result<Files> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::new(format!("this is no archive of a session: {error}")).help("open a .zip that this page has saved")
    };
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| failed(&error))?;
    let (mut files, mut total) = (Files::new(), 0);
    for at in 0..archive.len() {
        let mut file = archive.by_index(at).map_err(|error| failed(&error))?;
        if file.is_dir() {
            continue;
        }
        total += file.size();
        if total > LARGEST {
            return Err(failed(&"it unpacks to more than a gigabyte"));
        }
        let name = file.name().map_err(|error| failed(&error))?.into_owned();
        let mut content = Vec::new();
        // One byte more than promised: a size that lies is found, and memory stays bounded.
        let size = file.size();
        file.by_ref().take(size + 1).read_to_end(&mut content).map_err(|error| failed(&error))?;
        files.insert(name, content);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_back_and_damage_is_found() {
        let files: Files = [("a/b.txt".to_owned(), b"one".to_vec()), ("c".to_owned(), vec![0; 100_000])].into();
        let packed = pack(&files).unwrap();
        assert_eq!(unpack(&packed).unwrap(), files);
        assert!(unpack(&packed[..packed.len() / 2]).is_err());
        assert!(unpack(b"not a zip").unwrap_err().to_string().contains("no archive"));
        let mut altered = packed.clone();
        let at = altered.iter().position(|&byte| byte == b'o').unwrap();
        altered[at] ^= 1;
        assert!(unpack(&altered).is_err());
    }
}
