//! Files of text: every format, and what bad input gets.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use upstill::Result;
use upstill::text::{Document, ReadOptions, Reader, find};

fn read_with(options: ReadOptions, inputs: &[&Path]) -> Result<Vec<Document>> {
    let inputs: Vec<_> = inputs.iter().map(|path| path.to_str().unwrap().to_owned()).collect();
    Reader::new(find(&inputs)?, options).collect()
}

fn read(path: &Path) -> Result<Vec<Document>> {
    read_with(ReadOptions::default(), &[path])
}

fn texts(path: &Path) -> Vec<String> {
    read(path).unwrap().into_iter().map(|document| document.text.trim_end().to_owned()).collect()
}

/// A scratch folder that takes its own name out of messages.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Scratch(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> std::path::PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn error(&self, path: &Path) -> String {
        self.clean(&read(path).unwrap_err().to_string())
    }

    fn clean(&self, text: &str) -> String {
        text.replace(self.0.path().to_str().unwrap(), "DIR")
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// A parquet file of two row groups with a text column (nulls as none) and a number column.
pub fn parquet(groups: &[&[Option<&str>]]) -> Vec<u8> {
    parquet_packed(groups, parquet::basic::Compression::UNCOMPRESSED)
}

fn parquet_packed(groups: &[&[Option<&str>]], packing: parquet::basic::Compression) -> Vec<u8> {
    use parquet::data_type::{ByteArrayType, Int64Type};
    use parquet::file::writer::SerializedFileWriter;
    let schema = "message rows { REQUIRED INT64 id; OPTIONAL BYTE_ARRAY text (UTF8); }";
    let schema = Arc::new(parquet::schema::parser::parse_message_type(schema).unwrap());
    let mut bytes = Vec::new();
    let properties = parquet::file::properties::WriterProperties::builder().set_compression(packing).build();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
    for rows in groups {
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let ids: Vec<i64> = (0..rows.len() as i64).collect();
        column.typed::<Int64Type>().write_batch(&ids, None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.is_some())).collect();
        let values: Vec<_> = rows.iter().flatten().map(|text| (*text).into()).collect();
        column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
    bytes
}

#[test]
fn every_format_gives_its_documents() {
    let dir = Scratch::new();
    let expected = ["One. Two.", "Drei \"vier\"\nund, fünf."];
    let txt = "\u{feff}One. Two.\r\n\r\n\n  \nDrei \"vier\"\nund, fünf.";
    let jsonl = "{\"id\": 1, \"text\": \"One. Two.\"}\n\n{\"text\": null}\n{\"text\": \"Drei \\\"vier\\\"\\nund, fünf.\"}\n";
    let csv = "id,text\n1,One. Two.\n2,\"Drei \"\"vier\"\"\nund, fünf.\"\n3,\n";
    let rows: [&[Option<&str>]; 2] = [&[Some(expected[0]), None], &[Some(expected[1]), Some("")]];
    for (name, content) in [("a.txt", txt), ("a.jsonl", jsonl), ("a.csv", csv)] {
        assert_eq!(texts(&dir.file(name, content)), expected, "{name}");
        assert_eq!(texts(&dir.file(&format!("{name}.gz"), gzip(content.as_bytes()))), expected, "{name}.gz");
        assert_eq!(texts(&dir.file(&format!("{name}.zst"), zstd(content.as_bytes()))), expected, "{name}.zst");
    }
    assert_eq!(texts(&dir.file("a.parquet", parquet(&rows))), expected);
    // Quotes are literal where tabs separate.
    assert_eq!(texts(&dir.file("a.tsv", "text\tlabel\n\"One\t1\nTwo\"\t0\n")), ["\"One", "Two\""]);
}

#[test]
fn packed_files_of_several_members_are_read_to_their_end() {
    let dir = Scratch::new();
    let twice = |pack: fn(&[u8]) -> Vec<u8>| [pack(b"One.\n\n"), pack(b"Two.\n")].concat();
    assert_eq!(texts(&dir.file("a.txt.gz", twice(gzip))), ["One.", "Two."]);
    assert_eq!(texts(&dir.file("a.txt.zst", twice(zstd))), ["One.", "Two."]);
}

#[test]
fn many_rows_of_parquet_stream() {
    let dir = Scratch::new();
    let rows: Vec<String> = (0..3000).map(|i| format!("Row {i}.")).collect();
    let rows: Vec<Option<&str>> = rows.iter().map(|row| Some(row.as_str())).collect();
    let read = texts(&dir.file("a.parquet", parquet(&[&rows[..1000], &rows[1000..]])));
    assert_eq!(read.len(), 3000);
    assert_eq!(read[2999], "Row 2999.");
}

#[test]
fn a_document_without_end_is_read_in_parts_and_nothing_is_lost() {
    let dir = Scratch::new();
    let line = "word ".repeat(300_000);
    let read = texts(&dir.file("a.txt", format!("{line}\n{line}\n")));
    assert!(read.len() > 2 && read.iter().all(|text| text.len() <= 2 << 20), "{}", read.len());
    assert_eq!(read.iter().map(|text| text.split_whitespace().count()).sum::<usize>(), 600_000);
}

#[test]
fn what_was_read_is_accounted_for() {
    let dir = Scratch::new();
    let bytes = gzip(b"One.\n\nTwo.\n");
    let path = dir.file("a.txt.gz", &bytes);
    let mut reader = Reader::new(find(&[path.to_str().unwrap().to_owned()]).unwrap(), ReadOptions::default());
    assert_eq!(reader.by_ref().filter(Result::is_ok).count(), 2);
    assert_eq!(reader.bytes_read().load(std::sync::atomic::Ordering::Relaxed), bytes.len() as u64);
    let input = reader.finished().remove(0);
    assert_eq!((input.documents, input.bytes, input.blake3), (2, bytes.len() as u64, blake3::hash(&bytes).to_hex().to_string()));
}

#[test]
fn inputs_that_are_not_there() {
    let dir = Scratch::new();
    let at = |name: &str| dir.0.path().join(name);
    dir.file("a.pdf", "x");
    insta::assert_snapshot!(dir.error(&at("none.txt")), @r"
    no such file or folder: DIR/none.txt
    help: check the path; a glob needs quotes, as in 'books/*.txt.zst'
    ");
    insta::assert_snapshot!(dir.error(&at("*.txt")), @r"
    the glob matches nothing to read
      in: DIR/*.txt
    help: what is read: .txt .jsonl .json .tsv .csv, each also with .gz, .bz2, .xz or .zst, and .parquet
    ");
    insta::assert_snapshot!(dir.error(&at("[.txt")), @r"
    the glob is not well formed: invalid range pattern
      in: DIR/[.txt
    ");
    insta::assert_snapshot!(dir.error(&at("")), @r"
    the folder holds nothing to read
      in: DIR/
    help: what is read: .txt .jsonl .json .tsv .csv, each also with .gz, .bz2, .xz or .zst, and .parquet
    ");
    insta::assert_snapshot!(dir.error(&at("a.pdf")), @r"
    the name says nothing known about how to read it: DIR/a.pdf
    help: what is read: .txt .jsonl .json .tsv .csv, each also with .gz, .bz2, .xz or .zst, and .parquet; rename it or convert it
    ");
}

#[test]
fn text_that_is_not_utf8() {
    let dir = Scratch::new();
    let latin = b"One.\nSch\xf6n.\n";
    let path = dir.file("a.txt", latin);
    insta::assert_snapshot!(dir.error(&path), @r"
    the text is not UTF-8: byte 0xf6 at offset 8
      in: DIR/a.txt:2
    help: convert the file (`iconv -t UTF-8`), or read on with --lossy
    ");
    let lossy = ReadOptions { lossy: true, ..ReadOptions::default() };
    assert_eq!(read_with(lossy.clone(), &[&path]).unwrap()[0].text, "One.\nSch\u{fffd}n.\n");

    let table = dir.file("a.csv", b"text\nOne\nSch\xf6n\n");
    insta::assert_snapshot!(dir.error(&table), @r"
    the text is not UTF-8: byte 0xf6
      in: DIR/a.csv:3
    help: convert the file (`iconv -t UTF-8`), or read on with --lossy
    ");
    assert_eq!(read_with(lossy, &[&table]).unwrap()[1].text, "Sch\u{fffd}n");
}

#[test]
fn broken_archives_are_named() {
    let dir = Scratch::new();
    let text = "A line of text that is long enough to be packed.\n".repeat(200);
    let (gz, zst) = (gzip(text.as_bytes()), zstd(text.as_bytes()));
    insta::assert_snapshot!(dir.error(&dir.file("cut.txt.gz", &gz[..gz.len() / 2])), @r"
    a broken gzip file: it ends too early (incomplete deflate stream)
      in: DIR/cut.txt.gz
    help: fetch or pack the file again
    ");
    insta::assert_snapshot!(dir.error(&dir.file("cut.txt.zst", &zst[..zst.len() / 2])), @r"
    a broken zstd file: it ends too early (incomplete frame)
      in: DIR/cut.txt.zst
    help: fetch or pack the file again
    ");
    insta::assert_snapshot!(dir.error(&dir.file("other.txt.gz", "not packed at all")), @r"
    a broken gzip file: its content is damaged (invalid gzip header)
      in: DIR/other.txt.gz
    help: fetch or pack the file again
    ");
    insta::assert_snapshot!(dir.error(&dir.file("other.txt.zst", "not packed at all")), @r"
    a broken zstd file: its content is damaged (Unknown frame descriptor)
      in: DIR/other.txt.zst
    help: fetch or pack the file again
    ");
    let good = parquet(&[&[Some("One."), Some("Two.")]]);
    insta::assert_snapshot!(dir.error(&dir.file("cut.parquet", &good[..good.len() / 2])), @r"
    a broken parquet file: Parquet error: Invalid Parquet file. Corrupt footer
      in: DIR/cut.parquet
    help: fetch or write the file again
    ");
    insta::assert_snapshot!(dir.error(&dir.file("none.parquet", "")), @r"
    a broken parquet file: EOF: Parquet file too small. Size is 0 but need 8
      in: DIR/none.parquet
    help: fetch or write the file again
    ");
    insta::assert_snapshot!(dir.error(&dir.file("other.parquet", "not parquet at all, by far")), @r"
    a broken parquet file: Parquet error: Invalid Parquet file. Corrupt footer
      in: DIR/other.parquet
    help: fetch or write the file again
    ");
}

#[test]
fn damage_anywhere_is_an_error_or_text_but_never_a_panic() {
    let dir = Scratch::new();
    let rows: Vec<String> = (0..40).map(|i| format!("Row number {i} of a small table.")).collect();
    let rows: Vec<Option<&str>> = rows.iter().map(|row| Some(row.as_str())).collect();
    let text = rows.iter().flatten().copied().collect::<Vec<_>>().join("\n");
    for (name, good) in
        [("a.parquet", parquet(&[&rows])), ("a.txt.gz", gzip(text.as_bytes())), ("a.txt.zst", zstd(text.as_bytes()))]
    {
        for at in (0..good.len()).step_by(3) {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            let _ = read(&dir.file(name, &bad));
        }
    }
}

#[test]
fn fields_and_columns_that_are_not_there() {
    let dir = Scratch::new();
    insta::assert_snapshot!(dir.error(&dir.file("a.jsonl", "{\"text\": \"x\"}\n{\"title\": \"x\", \"body\": \"y\"}\n")), @r"
    there is no field `text`; there is `title`, `body`
      in: DIR/a.jsonl:2
    help: name the field that holds the text with --field
    ");
    insta::assert_snapshot!(dir.error(&dir.file("b.jsonl", "{\"text\": [1]}\n")), @r"
    the field `text` is not a string
      in: DIR/b.jsonl:1
    help: name the field that holds the text with --field
    ");
    insta::assert_snapshot!(dir.error(&dir.file("c.jsonl", "{\"text\": \"x\"}\n{\"text\": \"x\n")), @r"
    the line is not JSON: EOF while parsing a string at column 11
      in: DIR/c.jsonl:2
    help: a .jsonl file holds one JSON object a line
    ");
    insta::assert_snapshot!(dir.error(&dir.file("d.jsonl", "[\"text\"]\n")), @r"
    the line is not a JSON object
      in: DIR/d.jsonl:1
    help: a .jsonl file holds one JSON object a line
    ");
    insta::assert_snapshot!(dir.error(&dir.file("a.tsv", "label\tsentence\n1\tx\n")), @r"
    there is no column `text`; there is `label`, `sentence`
      in: DIR/a.tsv
    help: name the column that holds the text with --column
    ");
    insta::assert_snapshot!(dir.error(&dir.file("b.tsv", "label\ttext\n1\tx\n1\n")), @r"
    the row has 1 columns, and the text is in column 2
      in: DIR/b.tsv:3
    help: mend the row, or choose another column with --column
    ");
    let path = dir.file("a.parquet", parquet(&[&[Some("x")]]));
    let column = |name: &str| {
        let options = ReadOptions { column: name.into(), ..ReadOptions::default() };
        dir.clean(&read_with(options, &[&path]).unwrap_err().to_string())
    };
    insta::assert_snapshot!(column("body"), @r"
    there is no column `body`; there is `id`, `text`
      in: DIR/a.parquet
    help: name the column that holds the text with --column
    ");
    insta::assert_snapshot!(column("id"), @r"
    the column `id` does not hold one string a row
      in: DIR/a.parquet
    help: name the column that holds the text with --column
    ");
}

#[test]
fn an_empty_file_holds_no_documents() {
    let dir = Scratch::new();
    for name in ["a.txt", "a.jsonl", "a.tsv", "a.csv"] {
        assert!(read(&dir.file(name, "")).unwrap().is_empty(), "{name}");
    }
    assert!(read(&dir.file("a.txt.gz", gzip(b""))).unwrap().is_empty());
    assert!(read(&dir.file("a.txt.zst", zstd(b"\n \n"))).unwrap().is_empty());
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[test]
fn what_follows_a_gzip_member_is_read_as_gzip_does() {
    let dir = Scratch::new();
    let (one, two, zeros) = (gzip(b"One.\n\n"), gzip(b"Two.\n"), vec![0; 5000]);
    let read = |parts: &[&[u8]]| {
        let path = dir.file("a.txt.gz", parts.concat());
        let mut reader = Reader::new(find(&[path.to_str().unwrap().to_owned()]).unwrap(), ReadOptions::default());
        let texts: Vec<String> = reader.by_ref().map(|read| read.unwrap().text).collect();
        // The whole file is hashed, whatever is ignored of it.
        assert_eq!(reader.finished()[0].blake3, blake3::hash(&parts.concat()).to_hex().to_string());
        texts.concat()
    };
    assert_eq!(read(&[&one, &zeros]), "One.\n");
    assert_eq!(read(&[&one, &[0], &two, &zeros]), "One.\nTwo.\n");
    assert_eq!(read(&[&one, b"garbage"]), "One.\n");
    assert_eq!(read(&[&one, &zeros, b"\x1fgarbage"]), "One.\n");
    assert_eq!(read(&[&one, &gzip(b""), &two]), "One.\nTwo.\n");
    // A member that is cut is no garbage.
    let cut = dir.error(&dir.file("b.txt.gz", [&one[..], &two[..12]].concat()));
    assert!(cut.contains("it ends too early"), "{cut}");
}

#[test]
fn a_zstd_frame_with_a_window_of_256_mebibytes_is_read() {
    let dir = Scratch::new();
    // Of unknown size, so that the header's second byte says the window; its upper five bits are the exponent above 10.
    let frame = zstd(b"One.\n");
    assert_eq!(frame[4] & 0x20, 0, "not a single segment");
    let with_window = |exponent: u8| {
        let mut frame = frame.clone();
        frame[5] = (exponent - 10) << 3;
        frame
    };
    // What `zstd --long=28` and `--long=31` write.
    assert_eq!(texts(&dir.file("a.txt.zst", with_window(28))), ["One."]);
    assert_eq!(texts(&dir.file("b.txt.zst", with_window(31))), ["One."]);
    let error = dir.error(&dir.file("c.txt.zst", with_window(32)));
    assert!(error.contains("not enough memory to unpack the zstd file"), "more than readers take: {error}");
}

#[test]
fn every_packing_of_parquet_and_bzip2_are_read() {
    use parquet::basic::Compression as C;
    let dir = Scratch::new();
    let rows: Vec<String> = (0..300).map(|at| format!("Row {}.", at % 7)).collect();
    let rows: Vec<Option<&str>> = rows.iter().map(|row| Some(row.as_str())).collect();
    let (gzip, brotli, zstd) = (Default::default(), Default::default(), Default::default());
    for packing in [C::SNAPPY, C::GZIP(gzip), C::BROTLI(brotli), C::LZ4, C::LZ4_RAW, C::ZSTD(zstd)] {
        let read = texts(&dir.file("a.parquet", parquet_packed(&[&rows], packing)));
        assert_eq!((read.len(), read[13].as_str()), (300, "Row 6."), "{packing:?}");
    }
    let twice = [bzip2(b"One.\n\n"), bzip2(b"Two.\n")].concat();
    assert_eq!(texts(&dir.file("a.txt.bz2", twice)), ["One.", "Two."]);
    assert!(dir.error(&dir.file("b.txt.bz2", "no bzip2")).contains("a broken bzip2 file"));
}

#[test]
fn xz_of_any_number_of_streams_is_read() {
    // What xz makes of "One.\n\n" and of "Two.\n".
    let one = [
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00, 0x21, 0x01, 0x16, 0x00, 0x00, 0x00,
        0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00, 0x05, 0x4f, 0x6e, 0x65, 0x2e, 0x0a, 0x0a, 0x00, 0x00, 0x00, 0x57, 0x10, 0xa9, 0x0e,
        0xe1, 0x35, 0x9d, 0xeb, 0x00, 0x01, 0x1e, 0x06, 0xc1, 0x2f, 0xa4, 0x1d, 0x1f, 0xb6, 0xf3, 0x7d, 0x01, 0x00, 0x00, 0x00,
        0x00, 0x04, 0x59, 0x5a,
    ];
    let two = [
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00, 0x21, 0x01, 0x16, 0x00, 0x00, 0x00,
        0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00, 0x04, 0x54, 0x77, 0x6f, 0x2e, 0x0a, 0x00, 0x00, 0x00, 0x00, 0x59, 0x51, 0x92, 0xd3,
        0x69, 0x37, 0xe9, 0x00, 0x00, 0x01, 0x1d, 0x05, 0xb8, 0x2d, 0x80, 0xaf, 0x1f, 0xb6, 0xf3, 0x7d, 0x01, 0x00, 0x00, 0x00,
        0x00, 0x04, 0x59, 0x5a,
    ];
    let dir = Scratch::new();
    assert_eq!(texts(&dir.file("a.txt.xz", one)), ["One."]);
    assert_eq!(texts(&dir.file("b.txt.xz", [&one[..], &[0; 8], &two].concat())), ["One.", "Two."], "with padding between");
    for broken in [&one[..40], b"no xz", &[&one[..], b"garbage"].concat()] {
        let error = dir.error(&dir.file("c.txt.xz", broken));
        assert!(error.contains("a broken xz file"), "{error}");
    }
    // A dictionary of 4 GiB: the block's header says so, and a checksum of it stands behind.
    let mut large = one;
    let at = large.windows(2).position(|window| window == [0x21, 0x01]).unwrap() + 2;
    large[at] = 40;
    let header = 12..at + 1 + (4 - (at + 1) % 4) % 4;
    let sum = crc32(&large[header.clone()]).to_le_bytes();
    large[header.end..header.end + 4].copy_from_slice(&sum);
    let error = dir.error(&dir.file("d.txt.xz", large));
    assert!(error.contains("not enough memory to unpack the xz file"), "{error}");
}

/// CRC-32, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

#[test]
fn a_page_that_holds_more_than_it_says_is_refused() {
    use parquet::basic::Compression as C;
    let dir = Scratch::new();
    let long = "x".repeat(3 << 20);
    for packing in
        [C::GZIP(Default::default()), C::BROTLI(Default::default()), C::SNAPPY, C::ZSTD(Default::default()), C::LZ4_RAW]
    {
        let mut bytes = parquet_packed(&[&[Some("a"), Some(&long)]], packing);
        // A dictionary's header: its kind, then its length, four bytes of seven bits, of which the upper ones go.
        let is_header = |bytes: &[u8]| bytes.starts_with(&[0x15, 0x04, 0x15]) && bytes[3..6].iter().all(|byte| byte & 0x80 != 0);
        let at = bytes.windows(7).position(is_header).unwrap();
        assert_eq!(bytes[at + 6] & 0x80, 0, "{packing:?}: four bytes");
        bytes[at + 5] = 0x80;
        bytes[at + 6] = 0;
        let options = ReadOptions { longest_line: 512 << 10, ..ReadOptions::default() };
        let error = read_with(options, &[&dir.file("a.parquet", bytes)]).unwrap_err().to_string();
        let is_bounded = error.contains("and holds more") || !matches!(packing, C::GZIP(_) | C::BROTLI(_));
        assert!(is_bounded && (error.contains("a page that says") || error.contains("broken parquet")), "{packing:?}: {error}");
    }
}

#[test]
fn utf16_is_read_by_its_mark() {
    let dir = Scratch::new();
    let little = |text: &str| [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let big = |text: &str| [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
    let csv = "id,text\r\n1,\"Größe, 你好\r\n🙂\"\r\n";
    for (name, content, expected) in
        [("a.csv", csv, "Größe, 你好\r\n🙂"), ("a.txt", "Größe 🙂.", "Größe 🙂."), ("a.jsonl", "{\"text\": \"你好\"}\n", "你好")]
    {
        assert_eq!(texts(&dir.file(name, little(content))), [expected], "{name}");
        assert_eq!(texts(&dir.file(name, big(content))), [expected], "{name}");
        assert_eq!(texts(&dir.file(&format!("{name}.gz"), gzip(&big(content)))), [expected], "{name}.gz");
    }
    insta::assert_snapshot!(dir.error(&dir.file("b.txt", &little("One. Two.")[2..])), @r"
    the text looks like UTF-16 without a byte order mark: every other byte is 0
      in: DIR/b.txt
    help: convert the file: `iconv -f UTF-16LE -t UTF-8`
    ");
    insta::assert_snapshot!(dir.error(&dir.file("c.txt", b"\xff\xfe\0\0O\0\0\0")), @r"
    the text is UTF-32
      in: DIR/c.txt
    help: convert the file: `iconv -f UTF-32 -t UTF-8`
    ");
    let cut = little("One.");
    insta::assert_snapshot!(dir.error(&dir.file("d.txt", &cut[..cut.len() - 1])), @r"
    the text is not UTF-16: it ends within a character before offset 9
      in: DIR/d.txt
    help: mend the file, or read on with --lossy
    ");
}

#[test]
fn an_unclosed_quote_names_its_line() {
    let dir = Scratch::new();
    let csv = "id,text\n1,One\n2,\"Two\n3,Three\n4,Four\n";
    insta::assert_snapshot!(dir.error(&dir.file("a.csv", csv)), @r#"
    a quote is opened in this line and not closed: all that follows would be one field
      in: DIR/a.csv:3
    help: close the quote, or write it twice within a quoted field ("a ""word""") where it is text
    "#);
    for (name, packed) in [("a.csv.gz", gzip(csv.as_bytes())), ("a.csv.zst", zstd(csv.as_bytes()))] {
        let error = dir.error(&dir.file(name, packed));
        assert!(error.contains("a quote is opened") && error.contains(&format!("{name}:3")), "{error}");
    }
    // Tabs separate without quoting.
    assert_eq!(texts(&dir.file("a.tsv", csv.replace(',', "\t"))), ["One", "\"Two", "Three", "Four"]);
}

#[test]
fn what_unfolds_beyond_the_longest_line_is_refused() {
    let dir = Scratch::new();
    let long = "x".repeat(3 << 20);
    let said = |name: &str, bytes: Vec<u8>| {
        let path = dir.file(name, bytes);
        let options = |longest_line| ReadOptions { longest_line, ..ReadOptions::default() };
        let read = read_with(options(16 << 20), &[&path]).unwrap();
        assert!(read.iter().any(|document| document.text.contains(&long)), "{name}: with a longer one allowed");
        dir.clean(&read_with(options(512 << 10), &[&path]).unwrap_err().to_string())
    };
    let json = format!("{{\"text\": \"a\"}}\n{{\"text\": \"{long}\"}}\n");
    insta::assert_snapshot!(said("a.jsonl.gz", gzip(json.as_bytes())), @r"
    a line is longer than 524288 bytes
      in: DIR/a.jsonl.gz:2
    help: if the file is right, read longer ones with --longest-line MB, where the command has it
    ");
    insta::assert_snapshot!(said("a.json.zst", zstd(json.as_bytes())), @r"
    an object is longer than 524288 bytes
      in: DIR/a.json.zst:2
    help: if the file is right, read longer ones with --longest-line MB, where the command has it
    ");
    insta::assert_snapshot!(said("a.tsv.gz", gzip(format!("text\na\n{long}\n").as_bytes())), @r"
    the row that begins in this line is longer than 524288 bytes
      in: DIR/a.tsv.gz:3
    help: if the file is right, read longer ones with --longest-line MB, where the command has it
    ");
    insta::assert_snapshot!(said("a.csv.zst", zstd(format!("text\na\n\"b\n{long}\"\n").as_bytes())), @r"
    the field that a quote opens in this line is longer than 524288 bytes
      in: DIR/a.csv.zst:3
    help: the quote is probably never closed; if the file is right, read longer ones with --longest-line MB
    ");
    for packing in [parquet::basic::Compression::SNAPPY, parquet::basic::Compression::ZSTD(Default::default())] {
        let error = said("a.parquet", parquet_packed(&[&[Some("a"), Some(&long)]], packing));
        assert!(error.starts_with("a page of 3 MiB, and at most 2 MiB are read\n  in: DIR/a.parquet\n"), "{error}");
    }
    // Plain text is cut, whatever its lines are.
    let path = dir.file("a.txt", &long);
    let options = ReadOptions { longest_line: 1 << 10, ..ReadOptions::default() };
    assert_eq!(read_with(options, &[&path]).unwrap().iter().map(|document| document.text.trim().len()).sum::<usize>(), 3 << 20);
}

#[test]
fn json_as_python_writes_it_is_read() {
    let dir = Scratch::new();
    let line = "{\"score\": NaN, \"text\": \"One.\", \"rest\": [-Infinity]}\n";
    assert_eq!(texts(&dir.file("a.jsonl", line)), ["One."]);
    let path = dir.file("b.jsonl", "{\"text\": \"One.\"}\n{\"text\": \"a \\ud83d b\"}\n");
    insta::assert_snapshot!(dir.error(&path), @r"
    half of a surrogate pair stands alone in the text: it is no character
      in: DIR/b.jsonl:2
    help: write the character whole, or read on with --lossy
    ");
    let lossy = ReadOptions { lossy: true, ..ReadOptions::default() };
    assert_eq!(read_with(lossy, &[&path]).unwrap()[1].text, "a \u{fffd} b");
}

#[test]
fn a_list_of_objects_is_read() {
    let dir = Scratch::new();
    let list = "\u{feff}[\n  {\"text\": \"One [{\\\"\", \"more\": [{}]},\n  {\n    \"text\": \"Two\"\n  }\n]\n";
    assert_eq!(texts(&dir.file("a.json", list)), ["One [{\"", "Two"]);
    assert_eq!(texts(&dir.file("b.json", "{\"text\": \"One\"}\n{\"text\": \"Two\"}")), ["One", "Two"]);
    assert!(read(&dir.file("c.json", "[]")).unwrap().is_empty());
    let said = |content: &str| dir.error(&dir.file("d.json", content));
    assert!(said("[{\"text\": \"One\"},").starts_with("the file ends within its JSON\n  in: DIR/d.json:1"), "cut");
    assert!(said("[\n\"One\"]").starts_with("the file does not hold JSON objects\n  in: DIR/d.json:2"), "strings");
    assert!(said("[{\"text\": \"One\"},\n{\"text\": x}]").contains("the object is not JSON: expected value"), "broken");
    assert!(said("[\n{\"text\": \"One\"},\n{\"body\": 1}]").contains("there is `body`\n  in: DIR/d.json:3"), "no field");
}
