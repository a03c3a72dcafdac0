//! Labelled files: GLUE's with their quirks, any other table, and every way in which they are broken.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::{TempDir, tempdir};
use upstill::tasks::{GlueFiles, Kind, Label, Metric, TableSpec, Task, glue_folder, glue_task, table_task};
use upstill::text::ReadOptions;

use crate::text::{parquet, zstd};

fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn glue(dir: &TempDir, name: &str) -> Task {
    glue_task(name, dir.path(), &GlueFiles::default()).unwrap()
}

/// An error's words, with the scratch folder called DIR.
fn said<T: std::fmt::Debug>(dir: &TempDir, result: upstill::Result<T>) -> String {
    result.unwrap_err().to_string().replace(&dir.path().display().to_string(), "DIR")
}

/// Every example on a line: label, first, second.
fn shown(examples: &[upstill::tasks::Example]) -> String {
    let line = |example: &upstill::tasks::Example| {
        let second = example.second.as_ref().map_or(String::new(), |second| format!(" | {second}"));
        format!("{:?}: {}{second}", example.label, example.first)
    };
    examples.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn cola_has_no_header_except_in_test_and_quotes_are_literal() {
    let dir = folder(&[
        ("CoLA/train.tsv", "gj04\t1\t\t\"The sailors\" rode.\ngj04\t0\t*\tThey drank \"the pub.\r\n"),
        ("CoLA/dev.tsv", "gj04\t1\t\tOne \"more.\n"),
        ("CoLA/test.tsv", "index\tsentence\n0\tBill \"whistled.\n1\t\n"),
    ]);
    let task = glue(&dir, "CoLA");
    insta::assert_snapshot!(shown(&task.train), @r#"
    Class(1): "The sailors" rode.
    Class(0): They drank "the pub.
    "#);
    insta::assert_snapshot!(shown(&task.test[0].examples), @r#"
    Hidden: Bill "whistled.
    Hidden:
    "#);
    insta::assert_snapshot!(task.notes.join("\n"), @"
    CoLA/train.tsv: row count 2, and the official file's is 8551
    CoLA/dev.tsv: row count 1, and the official file's is 1043
    CoLA/test.tsv: row count 2, and the official file's is 1063
    ");
    assert_eq!((task.name.as_str(), task.pair, &task.metrics[..]), ("cola", false, &[Metric::Matthews][..]));
}

#[test]
fn mrpc_begins_with_a_byte_order_mark() {
    let header = "\u{feff}Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n";
    let file = format!("{header}1\t1\t2\tHe said \"so.\tSo \"he said.\n0\t3\t4\tA\tB\n");
    let test = "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t1\t2\tA\tB\n";
    let dir = folder(&[("MRPC/train.tsv", &file), ("MRPC/dev.tsv", &file), ("MRPC/test.tsv", test)]);
    let task = glue(&dir, "mrpc");
    insta::assert_snapshot!(shown(&task.train), @r#"
    Class(1): He said "so. | So "he said.
    Class(0): A | B
    "#);
    assert_eq!(task.predictions(&vec![vec![0.0, 1.0]]), "index\tprediction\n0\t1\n");
    // The task's own folder does as well.
    assert_eq!(glue_task("mrpc", &dir.path().join("MRPC"), &GlueFiles::default()).unwrap(), task);
}

#[test]
fn mnlis_label_is_the_gold_column_and_it_has_two_dev_splits() {
    let row = |labels: &[&str]| format!("0\tp\tx\tg\tb1\tb2\tp1\tp2\tA man.\tNo man.\t{}\n", labels.join("\t"));
    let columns = "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse\tsentence1\tsentence2";
    let train =
        format!("{columns}\tlabel1\tgold_label\n{}{}", row(&["neutral", "contradiction"]), row(&["neutral", "entailment"]));
    let dev = format!(
        "{columns}\tlabel1\tlabel2\tlabel3\tlabel4\tlabel5\tgold_label\n{}",
        row(&["neutral", "entailment", "neutral", "neutral", "neutral", "neutral"])
    );
    let test = format!("{columns}\n{}", row(&[]));
    let dir = folder(&[
        ("MNLI/train.tsv", &train),
        ("MNLI/dev_matched.tsv", &dev),
        ("MNLI/dev_mismatched.tsv", &dev),
        ("MNLI/test_mismatched.tsv", &test),
        ("MNLI/diagnostic.tsv", "index\tsentence1\tsentence2\n0\tA cat.\tNo cat.\n"),
    ]);
    let task = glue(&dir, "mnli");
    insta::assert_snapshot!(shown(&task.train), @"
    Class(2): A man. | No man.
    Class(0): A man. | No man.
    ");
    let names = |splits: &[upstill::tasks::Split]| splits.iter().map(|split| split.name.clone()).collect::<Vec<_>>();
    assert_eq!(
        (names(&task.dev), names(&task.test)),
        (vec!["matched".into(), "mismatched".into()], vec!["MNLI-mm".into(), "AX".into()])
    );
    assert_eq!(task.predictions(&vec![vec![0.0, 0.0, 1.0]]), "index\tprediction\n0\tcontradiction\n");
    fs::remove_file(dir.path().join("MNLI/dev_mismatched.tsv")).unwrap();
    assert!(glue(&dir, "mnli").notes.contains(&"MNLI: scored on matched alone".to_owned()));
}

#[test]
fn broken_rows_of_qqp_are_counted_and_test_rows_are_kept() {
    let header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n";
    let train = format!(
        "{header}1\t2\t3\tWhy?\tWhy not?\t0\n4\t5\t6\tHow \n?\tHow come?\t1\n7\t8\t9\tWho?\tWho else?\t1\n10\t1\t1\t\tEh?\t0\n"
    );
    let test = "id\tquestion1\tquestion2\n0\tWho?\n1\tWhat?\tWhat else?\n";
    let dir = folder(&[("QQP/train.tsv", &train), ("QQP/dev.tsv", &train), ("QQP/test.tsv", test)]);
    let task = glue(&dir, "qqp");
    insta::assert_snapshot!(shown(&task.train), @"
    Class(0): Why? | Why not?
    Class(1): Who? | Who else?
    ");
    insta::assert_snapshot!(shown(&task.test[0].examples), @"
    Hidden: Who? | 
    Hidden: What? | What else?
    ");
    insta::assert_snapshot!(task.notes.join("\n"), @"
    QQP/train.tsv: rows passed over that lack a question or a label: 3
    QQP/train.tsv: row count 5, and the official file's is 363846
    QQP/dev.tsv: rows passed over that lack a question or a label: 3
    QQP/dev.tsv: row count 5, and the official file's is 40430
    QQP/test.tsv: row count 2, and the official file's is 390965
    ");
}

#[test]
fn the_other_tasks_are_read_by_their_headers() {
    let nli = "index\tsentence1\tsentence2\tlabel\n0\tA\tB\tnot_entailment\n1\tC\tD\tentailment\n";
    let sts = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n0\tg\tf\ty\t1\tn\tn\tA\tB\t4.250\n1\tg\tf\ty\t1\tn\tn\tC\tD\t0\n";
    let dir = folder(&[
        ("RTE/train.tsv", nli),
        ("RTE/dev.tsv", nli),
        ("QNLI/train.tsv", "index\tquestion\tsentence\tlabel\n0\tA?\tB\tentailment\n1\tC?\tD\tnot_entailment\n"),
        ("QNLI/dev.tsv", "index\tquestion\tsentence\tlabel\n0\tA?\tB\tentailment\n"),
        ("STS-B/train.tsv", sts),
        ("STS-B/dev.tsv", sts),
        ("SST-2/train.tsv", "sentence\tlabel\nit 's fine \t1\nbad \t0\n"),
        ("SST-2/dev.tsv", "sentence\tlabel\nso so \t0\n"),
        ("WNLI/train.tsv", "index\tsentence1\tsentence2\tlabel\n0\tA\tB\t1\n"),
    ]);
    let (there, left_out) = glue_folder(dir.path()).unwrap();
    assert_eq!(there, ["sst-2", "sts-b", "qnli", "rte"]);
    insta::assert_snapshot!(left_out.join("\n"), @"
    cola: there is no CoLA/
    mrpc: there is no MRPC/
    qqp: there is no QQP/
    mnli: there is no MNLI/
    wnli: there is no WNLI/dev.tsv
    ");
    for name in ["rte", "qnli", "sts-b", "SST2"] {
        let task = glue(&dir, name);
        assert_eq!(task.train.len(), 2, "{name}");
    }
    assert_eq!(glue(&dir, "rte").train[0].label, Label::Class(1));
    assert_eq!(glue(&dir, "sts-b").train[0].label, Label::Score(4.25));
    assert_eq!(glue(&dir, "sts-b").kind, Kind::Regression { low: 0.0, high: 5.0 });
}

fn spec(dir: &Path, train: &str, dev: &str) -> TableSpec {
    TableSpec {
        name: "reviews".into(),
        train: dir.join(train),
        dev: dir.join(dev),
        test: None,
        text: "text".into(),
        text2: None,
        label: "label".into(),
        regression: false,
        metrics: vec![],
        skip_empty: false,
        read: ReadOptions::default(),
    }
}

#[test]
fn a_table_in_any_format_is_the_same_task() {
    let dir = folder(&[
        ("a.tsv", "id\ttext\tlabel\n1\tGood \"one\t10\n2\tBad\t9\n3\tOdd\tx\n"),
        ("a.csv", "label,text\n10,\"Good \"\"one\"\n9,Bad\nx,Odd\n"),
        (
            "a.jsonl",
            "{\"text\": \"Good \\\"one\", \"label\": 10}\n\n{\"label\": 9, \"text\": \"Bad\"}\n{\"text\": \"Odd\", \"label\": \"x\"}\n",
        ),
    ]);
    fs::write(dir.path().join("a.csv.zst"), zstd(&fs::read(dir.path().join("a.csv")).unwrap())).unwrap();
    let read = |name: &str| table_task(&spec(dir.path(), name, name)).unwrap();
    let task = read("a.tsv");
    assert_eq!(task.kind, Kind::Classification { classes: ["9", "10", "x"].map(String::from).to_vec() });
    insta::assert_snapshot!(shown(&task.train), @r#"
    Class(1): Good "one
    Class(0): Bad
    Class(2): Odd
    "#);
    for name in ["a.csv", "a.jsonl", "a.csv.zst"] {
        assert_eq!(read(name), task, "{name}");
    }
    let rows: [&[Option<&str>]; 2] = [&[Some("Good")], &[Some("Bad"), Some("Odd")]];
    fs::write(dir.path().join("a.parquet"), parquet(&rows)).unwrap();
    let scores = TableSpec { label: "id".into(), regression: true, ..spec(dir.path(), "a.parquet", "a.parquet") };
    let task = table_task(&scores).unwrap();
    assert_eq!(shown(&task.train), "Score(0.0): Good\nScore(0.0): Bad\nScore(1.0): Odd");
    assert_eq!(task.metrics, [Metric::Pearson, Metric::Spearman]);
}

#[test]
fn broken_tables_are_named() {
    let good = "text\tlabel\nA\tyes\nB\tno\n";
    let dir = folder(&[
        ("good.tsv", good),
        ("outside.tsv", "text\tlabel\nA\tyes\nB\tmaybe\n"),
        ("empty-text.tsv", "text\tlabel\nA\tyes\n \tno\n"),
        ("short.tsv", "text\tlabel\nA\tyes\nB\n"),
        ("one-class.tsv", "text\tlabel\nA\tyes\nB\tyes\n"),
        ("columns.tsv", "sentence\tlabel\nA\tyes\n"),
        ("nothing.tsv", ""),
        ("header.tsv", "text\tlabel\n"),
        ("a.txt", "A\n"),
        ("list.jsonl", "{\"text\": [\"A\"], \"label\": 1}\n"),
        ("half.jsonl", "{\"text\": \"A\", \"label\": 1}\n{\"text\": "),
        ("inner.csv", "text,label\n\"A,1\nB,2\n"),
        ("late.jsonl", "{\"text\": \"A\"}\n{\"text\": \"B\", \"label\": 1}\n"),
        ("null.jsonl", "{\"text\": \"A\", \"label\": 1}\n{\"text\": \"B\", \"label\": NaN}\n"),
        ("never.jsonl", "\n{\"text\": \"A\", \"x\": 1}\n{\"text\": \"B\"}\n"),
        ("inf.csv", "text,label\nA,1.5\nB,inf\n"),
        ("nan.tsv", "text\tlabel\nA\t1\nB\t2\nC\tnan\n"),
        ("huge.tsv", "text\tlabel\nA\t1\nB\t1e39\n"),
    ]);
    fs::write(dir.path().join("latin.tsv"), b"text\tlabel\nA\tyes\nB\xe9\tno\n").unwrap();
    fs::write(dir.path().join("cut.parquet"), &parquet(&[&[Some("A")]])[..60]).unwrap();
    let task = |train: &str, dev: &str| table_task(&spec(dir.path(), train, dev));
    let dev = ["outside.tsv", "empty-text.tsv", "short.tsv", "columns.tsv", "nothing.tsv", "header.tsv", "none.tsv"];
    let mut errors: Vec<String> = dev.iter().map(|dev| said(&dir, task("good.tsv", dev))).collect();
    let train = [
        "one-class.tsv",
        "header.tsv",
        "a.txt",
        "list.jsonl",
        "half.jsonl",
        "late.jsonl",
        "null.jsonl",
        "never.jsonl",
        "inner.csv",
        "inf.csv",
        "nan.tsv",
        "latin.tsv",
        "cut.parquet",
    ];
    errors.extend(train.iter().map(|train| said(&dir, task(train, "good.tsv"))));
    errors.push(said(&dir, table_task(&TableSpec { name: "../up".into(), ..spec(dir.path(), "good.tsv", "good.tsv") })));
    let regression = TableSpec { regression: true, ..spec(dir.path(), "good.tsv", "good.tsv") };
    errors.push(said(&dir, table_task(&regression)));
    for train in ["inf.csv", "nan.tsv", "huge.tsv"] {
        errors.push(said(&dir, table_task(&TableSpec { train: dir.path().join(train), ..regression.clone() })));
    }
    insta::assert_snapshot!(errors.join("\n\n"), @r#"
    the label "maybe" is none of the classes no, yes
      in: DIR/outside.tsv:3
    help: mend the row; a table's classes are the labels of its --train file

    the column `text` is empty in this row
      in: DIR/empty-text.tsv:3
    help: mend or remove the row; of a table read with --text, --skip-empty passes over such rows

    this row has no value for the column `label`
      in: DIR/short.tsv:3
    help: mend or remove the row; of a table read with --text, --skip-empty passes over such rows

    there is no column `text`; there is `sentence`, `label`
      in: DIR/columns.tsv
    help: mend the file, or read it as a table: --train, --dev, --text, --text2 and --label name files and columns

    there is no column `text` and no column `label`; the file is empty
      in: DIR/nothing.tsv
    help: mend the file, or read it as a table: --train, --dev, --text, --text2 and --label name files and columns

    there are no examples to score
      in: DIR/header.tsv
    help: give a file with labelled rows

    there is no file DIR/none.tsv
    help: check the path

    every row has the same label, "yes"
      in: DIR/one-class.tsv
    help: a task needs two answers at least; is the file sorted and cut, or --label wrong?

    there are no examples to train on
      in: DIR/header.tsv
    help: give a file with labelled rows

    a text file has no columns
      in: DIR/a.txt
    help: give a .tsv, .csv, .jsonl or .parquet file

    the field `text` is not a plain value
      in: DIR/list.jsonl:1

    the line is not JSON: EOF while parsing a value at column 9
      in: DIR/half.jsonl:2
    help: a .jsonl file holds one JSON object a line

    this row has no value for the column `label`
      in: DIR/late.jsonl:1
    help: mend or remove the row; of a table read with --text, --skip-empty passes over such rows

    the column `label` is empty in this row
      in: DIR/null.jsonl:2
    help: mend or remove the row; of a table read with --text, --skip-empty passes over such rows

    there is no column `label`; there is `text`, `x`
      in: DIR/never.jsonl:2
    help: mend the file, or read it as a table: --train, --dev, --text, --text2 and --label name files and columns

    a quote is opened in this line and not closed: all that follows would be one field
      in: DIR/inner.csv:2
    help: close the quote, or write it twice within a quoted field ("a ""word""") where it is text

    the label "inf" is no class among numbers
      in: DIR/inf.csv:3
    help: mend or remove the row

    the label "nan" is no class among numbers
      in: DIR/nan.tsv:4
    help: mend or remove the row

    the text is not UTF-8: byte 0xe9
      in: DIR/latin.tsv:3
    help: convert the file (`iconv -t UTF-8`), or read on with --lossy

    a broken parquet file: Parquet error: Invalid Parquet file. Corrupt footer
      in: DIR/cut.parquet
    help: fetch or write the file again

    a task can't be called "../up": files are named for it
    help: give a plain name with --task

    the label "yes" is no number
      in: DIR/good.tsv:2
    help: mend the row, name another column with --label, or leave out --regression

    the label "inf" is no finite number that a model can learn
      in: DIR/inf.csv:3
    help: mend or remove the row: a score is a number of ordinary size

    the label "nan" is no finite number that a model can learn
      in: DIR/nan.tsv:4
    help: mend or remove the row: a score is a number of ordinary size

    the label "1e39" is no finite number that a model can learn
      in: DIR/huge.tsv:3
    help: mend or remove the row: a score is a number of ordinary size
    "#);
    let skipping = TableSpec { skip_empty: true, ..spec(dir.path(), "good.tsv", "empty-text.tsv") };
    let task = table_task(&skipping).unwrap();
    assert_eq!(task.dev[0].examples.len(), 1);
    assert!(task.notes[0].ends_with("empty-text.tsv: rows passed over that lack a text or a label: 1"), "{:?}", task.notes);
}

#[test]
fn what_a_glue_folder_lacks_is_named() {
    let sst = "sentence\tlabel\nA\t1\nB\t0\n";
    let dir = folder(&[
        ("SST-2/train.tsv", sst),
        ("SST-2/SOURCE.txt", ""),
        ("RTE/train.tsv", "index\tsentence1\tsentence2\tlabel\n0\tA\tB\tneutral\n"),
        ("RTE/dev.tsv", "index\tsentence1\tsentence2\n0\tA\tB\n"),
        ("CoLA/train.tsv", "sentence\tlabel\nA\t1\n"),
        ("CoLA/dev.tsv", ""),
        ("STS-B/train.tsv", "index\tsentence1\tsentence2\tscore\n0\tA\tB\t7\n"),
        ("STS-B/dev.tsv", ""),
        ("empty/x", ""),
    ]);
    let task = |name: &str, data: PathBuf| said(&dir, glue_task(name, &data, &GlueFiles::default()));
    let here = || dir.path().to_owned();
    let errors = [
        task("sst-2", here()),
        task("wnli", here()),
        task("wnli", dir.path().join("nowhere")),
        task("rte", here()),
        task("cola", here()),
        task("sts-b", here()),
        said(&dir, glue_task("sst-2", dir.path(), &GlueFiles { dev: Some(dir.path().join("no.tsv")), ..GlueFiles::default() })),
        said(&dir, glue_folder(&dir.path().join("empty"))),
    ];
    insta::assert_snapshot!(errors.join("\n\n"), @r#"
    sst-2 needs dev.tsv; the folder holds SOURCE.txt, train.tsv
      in: DIR/SST-2
    help: --data takes the folder that holds SST-2/ or that folder itself; --dev FILE takes any other file

    wnli needs train.tsv; the folder holds CoLA, RTE, SST-2, STS-B, empty
      in: DIR
    help: --data takes the folder that holds WNLI/ or that folder itself; --train FILE takes any other file

    wnli needs train.tsv; there is no such folder
      in: DIR/nowhere
    help: --data takes the folder that holds WNLI/ or that folder itself; --train FILE takes any other file

    the label "neutral" is none of the classes entailment, not_entailment
      in: DIR/RTE/train.tsv:2
    help: mend the row; a table's classes are the labels of its --train file

    there is no column `3`; there is `0`, `1`
      in: DIR/CoLA/train.tsv
    help: mend the file, or read it as a table: --train, --dev, --text, --text2 and --label name files and columns

    the label "7" is no number from 0 to 5
      in: DIR/STS-B/train.tsv:2
    help: mend the row

    there is no file DIR/no.tsv
    help: check the path

    the folder holds no task of GLUE; it holds x
      in: DIR/empty
    help: --data takes the folder that holds CoLA/, SST-2/ and so on, as GLUE's own download makes it
    "#);
    let files = GlueFiles { dev: Some(dir.path().join("SST-2/train.tsv")), ..GlueFiles::default() };
    assert_eq!(glue_task("sst-2", dir.path(), &files).unwrap().dev[0].examples.len(), 2);
}

#[test]
fn labels_that_are_numbers_are_told_as_numbers() {
    let dir = folder(&[
        ("float.csv", "text,label\nA,10\nB,2.0\nC,-0.5\nD,2\n"),
        ("whole.csv", "text,label\nA,10\nB,2\nC,0\n"),
        ("float-dev.csv", "text,label\nA,10.0\nB,2.\n"),
        ("words.csv", "text,label\nA,nan\nB,eng\nC,inf\n"),
        ("float.jsonl", "{\"text\": \"A\", \"label\": 0.0}\n{\"text\": \"B\", \"label\": 1.0}\n"),
    ]);
    let task = |train: &str, dev: &str| table_task(&spec(dir.path(), train, dev)).unwrap();
    let classes = |task: &Task| match &task.kind {
        Kind::Classification { classes } => classes.join(" "),
        Kind::Regression { .. } => unreachable!("labels are classes"),
    };
    let float = task("float.csv", "float-dev.csv");
    assert_eq!(classes(&float), "-0.5 2.0 10.0");
    assert_eq!(shown(&float.train), "Class(2): A\nClass(1): B\nClass(0): C\nClass(1): D");
    let whole = task("whole.csv", "float-dev.csv");
    assert_eq!((classes(&whole).as_str(), shown(&whole.dev[0].examples).as_str()), ("0 2 10", "Class(2): A\nClass(1): B"));
    // Languages may be called so.
    assert_eq!(classes(&task("words.csv", "words.csv")), "eng inf nan");
    assert_eq!(classes(&task("float.jsonl", "float.jsonl")), "0.0 1.0");
    fs::write(dir.path().join("a.parquet"), doubles(&[0.0, 1.0])).unwrap();
    assert_eq!(classes(&task("a.parquet", "a.parquet")), "0.0 1.0");
    fs::write(dir.path().join("b.parquet"), doubles(&[0.0, f64::NAN])).unwrap();
    insta::assert_snapshot!(said(&dir, table_task(&spec(dir.path(), "b.parquet", "a.parquet"))), @"
    this row has no value for the column `label`
      in: DIR/b.parquet:2
    help: mend or remove the row; of a table read with --text, --skip-empty passes over such rows
    ");
}

/// A Parquet file with a text and a double a row, and a list that nobody reads.
fn doubles(labels: &[f64]) -> Vec<u8> {
    use parquet::data_type::{ByteArrayType, DoubleType, Int32Type};
    let schema = "message rows { REPEATED INT32 other; REQUIRED DOUBLE label; REQUIRED BYTE_ARRAY text (UTF8); }";
    let schema = std::sync::Arc::new(parquet::schema::parser::parse_message_type(schema).unwrap());
    let mut bytes = Vec::new();
    let mut writer = parquet::file::writer::SerializedFileWriter::new(&mut bytes, schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let levels = vec![0; labels.len()];
    column.typed::<Int32Type>().write_batch(&[], Some(&levels), Some(&levels)).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<DoubleType>().write_batch(labels, None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let texts: Vec<_> = labels.iter().map(|_| "A".into()).collect();
    column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn a_metric_has_to_fit_the_labels() {
    let dir = folder(&[("three.csv", "text,label\nA,dog\nB,cat\nC,horse\n"), ("two.csv", "text,label\nA,0\nB,1\n")]);
    let task = |file: &str, regression: bool, metric: Metric| {
        table_task(&TableSpec { regression, metrics: vec![metric], ..spec(dir.path(), file, file) })
    };
    let errors = [
        said(&dir, task("three.csv", false, Metric::F1)),
        said(&dir, task("three.csv", false, Metric::F1Binary)),
        said(&dir, task("two.csv", false, Metric::Pearson)),
        said(&dir, task("two.csv", true, Metric::F1Macro)),
    ];
    insta::assert_snapshot!(errors.join("\n\n"), @"
    f1 is a score of two classes, and there are 3: cat, dog, horse
    help: say how the classes' scores are averaged: --metric f1-macro, f1-micro or f1-weighted

    f1-binary is a score of two classes, and there are 3: cat, dog, horse
    help: say how the classes' scores are averaged: --metric f1-macro, f1-micro or f1-weighted

    pearson is a correlation of numbers, and the labels are classes
    help: add --regression where the answers are numbers, or choose another --metric

    f1-macro is a score of classes, and with --regression the answers are numbers
    help: choose --metric pearson or spearman, or leave out --regression
    ");
    for metric in [Metric::F1Macro, Metric::F1Micro, Metric::F1Weighted, Metric::Matthews] {
        assert!(task("three.csv", false, metric).is_ok(), "{metric:?}");
    }
    assert!(task("two.csv", false, Metric::F1).is_ok() && task("two.csv", true, Metric::Spearman).is_ok());
}

#[test]
fn predicted_scores_read_back_as_they_were() {
    let dir = folder(&[("a.csv", "text,label\nA,1e-4\nB,5e-4\n")]);
    let task = table_task(&TableSpec { regression: true, ..spec(dir.path(), "a.csv", "a.csv") }).unwrap();
    let outputs: Vec<Vec<f32>> = [1e-4, 0.1, -3.4e-30, 123_456.79, 2.0].map(|score| vec![score]).to_vec();
    let read = task.predictions(&outputs);
    let scores: Vec<f32> = read.lines().skip(1).map(|line| line.split('\t').nth(1).unwrap().parse().unwrap()).collect();
    assert_eq!(scores, outputs.concat());
    assert!(read.contains("0\t0.0001\n") && read.contains("4\t2.0\n"), "{read}");
}
