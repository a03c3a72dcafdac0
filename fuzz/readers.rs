//! Every reader of a file that comes from a disk or from somebody else, called with bytes. `fuzz_targets/` gives them
//! what cargo-fuzz draws, `tests/readers.rs` mutations of the [`seeds`](Scene::seeds).

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use upstill::answers::{Block, Cache, Slots};
use upstill::checkpoint::verify;
use upstill::config::{AnswersHeader, AnswersKind, Plan, RunFile};
use upstill::device::{Device, wait};
use upstill::error::Error;
use upstill::files::write_files;
use upstill::log::read_steps;
use upstill::model::{HostTensor, ModelFolder, Weights};
use upstill::study::report::write_report;
use upstill::study::{CellLine, StudySpec, jobs};
use upstill::tasks::{TableSpec, read_choices, table_task};
use upstill::text::pocket::{Pocket, words};
use upstill::text::{ReadOptions, Reader as TextReader, find};
use upstill::tokens::{Shards, Tokenizer};
use upstill::train::{MemoryRun, plan_in_memory};
use upstill::{Result, config::TransferPlan};

/// A reader of one kind of file.
pub struct Reader {
    /// What cargo-fuzz calls it.
    pub name: &'static str,
    /// Where its file lies in a scene.
    file: &'static str,
    /// Reads it there; what it read, to compare.
    read: fn(&Scene) -> Result<String>,
    /// Whether a checksum holds it: altered bytes are refused, or what is read is the same.
    pub is_sealed: bool,
}

const fn reader(name: &'static str, file: &'static str, is_sealed: bool, read: fn(&Scene) -> Result<String>) -> Reader {
    Reader { name, file, read, is_sealed }
}

/// All of them.
pub const READERS: [Reader; 31] = [
    reader("run_file", "run.toml", false, |scene| {
        let file = RunFile::load(&scene.at("run.toml"))?;
        if file.is_transfer() {
            return Ok(format!("{:?}", file.resolve_transfer()?));
        }
        let plan = plan_in_memory(&file, &scene.shards, None)?;
        Ok(plan.describe(None))
    }),
    reader("study_file", "study.toml", false, |scene| {
        let spec = StudySpec::load(&scene.at("study.toml"))?;
        Ok(format!("{spec:?} {:?}", jobs(&spec, &["upstill".to_owned()])))
    }),
    reader("vocab", "vocab/vocab.txt", false, |scene| show(&scene.at("vocab"))),
    reader("tokenizer", "words/tokenizer.json", false, |scene| show(&scene.at("words"))),
    reader("tokenizer_config", "settings/tokenizer_config.json", false, |scene| show(&scene.at("settings"))),
    reader("text", "a.txt", false, |scene| documents(&scene.at("a.txt"))),
    reader("csv", "a.csv", false, |scene| table(&scene.at("a.csv"))),
    reader("tsv", "a.tsv", false, |scene| table(&scene.at("a.tsv"))),
    reader("jsonl", "a.jsonl", false, |scene| table(&scene.at("a.jsonl"))),
    reader("json", "a.json", false, |scene| table(&scene.at("a.json"))),
    reader("choices", "choices.jsonl", false, |scene| read_choices(&scene.at("choices.jsonl")).map(|read| format!("{read:?}"))),
    reader("parquet", "a.parquet", false, |scene| table(&scene.at("a.parquet"))),
    reader("gzip", "a.txt.gz", false, |scene| documents(&scene.at("a.txt.gz"))),
    reader("zstd", "a.txt.zst", false, |scene| documents(&scene.at("a.txt.zst"))),
    reader("bzip2", "a.txt.bz2", false, |scene| documents(&scene.at("a.txt.bz2"))),
    reader("xz", "a.txt.xz", false, |scene| documents(&scene.at("a.txt.xz"))),
    reader("model_config", "model/config.json", false, |scene| model(&scene.at("model"))),
    reader("safetensors", "model/model.safetensors", false, |scene| model(&scene.at("model"))),
    reader("safetensors_index", "parts/model.safetensors.index.json", false, |scene| model(&scene.at("parts"))),
    reader("pickle", "pickle/pytorch_model.bin", false, |scene| model(&scene.at("pickle"))),
    reader("gguf", "a.gguf", false, |scene| model(&scene.at("a.gguf"))),
    reader("shard", "data/train-00000.tok", true, |scene| data(&scene.at("data"))),
    reader("manifest", "data/manifest.json", true, |scene| data(&scene.at("data"))),
    reader("plan", "run/plan.toml", true, |scene| match Plan::load(&scene.at("run/plan.toml")) {
        Ok(plan) => Ok(plan.hash()),
        // A transfer run's plan has the same name.
        Err(error) => TransferPlan::load(&scene.at("run/plan.toml")).map(|plan| format!("{plan:?}")).map_err(|_| error),
    }),
    reader("records", "run/steps.jsonl", false, |scene| {
        read_steps(&scene.at("run/steps.jsonl")).map(|records| format!("{records:?}"))
    }),
    reader("checkpoint", "run/checkpoints/step-0000002/state.json", true, |scene| {
        let folder = scene.at("run/checkpoints/step-0000002");
        let state = verify(&folder)?;
        Ok(format!("{:?} {}", state.reached, model(&folder)?))
    }),
    reader("summary", "run/summary.json", true, |scene| report(&scene.at("run"))),
    reader("cells", "cells.jsonl", false, |scene| {
        let text = String::from_utf8_lossy(&fs::read(scene.at("cells.jsonl")).map_err(unreadable)?).into_owned();
        text.lines().map(CellLine::parse).collect::<Result<Vec<_>>>().map(|lines| format!("{lines:?}"))
    }),
    reader("transfer_cache", "cache/00000.safetensors", true, |scene| {
        let bytes = fs::read(scene.at("cache/00000.safetensors")).map_err(unreadable)?;
        let weights =
            Weights::of_sealed(&bytes, "0 0").ok_or_else(|| Error::new("not as it was written").help("make it again"))?;
        Ok(weights.hash())
    }),
    reader("answers", "answers/blocks/00000000.answers", true, |scene| answers(&scene.at("answers"))),
    reader("answers_header", "asked/cache.json", true, |scene| answers(&scene.at("asked"))),
];

/// The reader of a name.
#[allow(dead_code, reason = "cargo-fuzz's targets use it")]
pub fn find_reader(name: &str) -> &'static Reader {
    READERS.iter().find(|reader| reader.name == name).expect("a reader of that name")
}

/// A folder with a file of each kind, whole.
pub struct Scene {
    folder: TempDir,
    shards: Shards,
}

const RUN: &str = "preset = \"standalone\"\nseed = 7\n[model]\nlayers = 1\nhidden = 8\nheads = 2\nmax_positions = 16\n\
[data]\nshards = \"in memory\"\nlength = 16\n[train]\nsteps = 2\nbatch = 2\nlr = \"0 -> 2e-3 over 10%, then -> 0 linear\"\nevaluate_rows = 4\n";
const TRANSFER: &str = "method = \"transfer\"\n[model]\ntokens = \"pieces\"\n[data]\ntask = \"mine\"\ntrain = \"a.csv\"\ntest = \"a.csv\"\n\
[teacher]\nfrom = \"model\"\nepochs = 3.0\n[distill]\ntargets = \"soft\"\nschedule = \"joint\"\n";
const STUDY: &str = "title = \"A study\"\nseeds = [1, 2]\nbase = \"\"\"\n[model]\nlayers = 1\nhidden = 32\n[data]\nshards = \"pocket\"\n\"\"\"\n\
[[teachers]]\nname = \"teacher\"\nset = [\"preset=standalone\"]\n[[arms]]\nname = \"alone\"\nset = [\"preset=standalone\"]\n\
[[arms]]\nname = \"soft\"\nteacher = \"teacher\"\nset = [\"preset=dwt-normal\", \"train.lr={lr}\"]\n[tune]\nname = \"lr\"\nvalues = [1e-3, 1e-4, 1e-5]\nseeds = [1001]\n";
const CSV: &str = "text,label\nThe dog sees a cat.,0\n\"The \"\"cat\"\" sleeps,\nand wakes.\",1\nA horse.,0\n";
const TSV: &str = "text\tlabel\nThe dog sees a cat.\t0.0\nThe \"cat\" sleeps.\t1\n";
const JSONL: &str =
    "{\"text\": \"The dog \\ud83d\\ude42 sees\", \"label\": 0}\n{\"label\": \"1\", \"text\": \"A cat.\", \"more\": [NaN, {}]}\n";
const JSON: &str = "[{\"text\": \"The dog\", \"label\": 0},\n {\"text\": \"A cat.\", \"label\": 1}]\n";
const CHOICES: &str = "{\"context\": \"The dog\", \"choices\": [\"sees \\ud83d\\ude42\", \"see\"], \"answer\": \"A\"}\n\
{\"ctx\": \"A [title] b\", \"endings\": [\"c [d]\", \"e\"], \"label\": 1}\n{\"goal\": \"A\", \"sol1\": \"b\", \"sol2\": \"c\", \"label\": 0}\n\
{\"question\": {\"stem\": \"A?\", \"choices\": [{\"text\": \"b\", \"label\": \"1\"}, {\"text\": \"c\", \"label\": \"2\"}]}, \"answerKey\": \"2\"}\n";
const SETTINGS: &str = "{\"do_lower_case\": false, \"strip_accents\": null, \"tokenize_chinese_chars\": true, \"tokenizer_class\": \"BertTokenizer\"}";

impl Scene {
    /// Makes one.
    ///
    /// # Errors
    /// When files can't be written.
    pub fn new() -> Result<Self> {
        let pocket = Pocket::new(1);
        let tokenizer = Tokenizer::train(words().into_iter().map(str::to_owned), 300, 1)?;
        let encode = |range: std::ops::Range<u64>| -> Result<Vec<Vec<u32>>> {
            range.flat_map(|i| pocket.document(i).sentences).map(|sentence| tokenizer.encode(&sentence)).collect()
        };
        let shards = Shards::from_sentences(tokenizer.clone(), encode(0..4)?, encode(4..6)?);
        let folder = tempfile::tempdir().map_err(unreadable)?;
        let scene = Self { folder, shards };
        let plan = plan_in_memory(&RunFile::parse(RUN, "the scene")?, &scene.shards, None)?;
        let mut run = MemoryRun::new(plan, &scene.shards, None, &Device::cpu("readers"), 1)?;
        while !run.is_done() {
            wait(run.step())?;
        }
        let files = wait(run.files())?;
        let of_model = upstill::files::within(&files, "model");
        scene.write("run", &files)?;
        scene.write("model", &of_model)?;
        scene.write("parts", &of_model)?;
        fs::rename(scene.at("parts/model.safetensors"), scene.at("parts/one.safetensors")).map_err(unreadable)?;
        scene.write("pickle", &of_model)?;
        fs::remove_file(scene.at("pickle/model.safetensors")).map_err(unreadable)?;
        scene.write("data", &scene.shards.files()?)?;
        scene.write("words", &tokenizer.files()?)?;
        for cache in ["answers", "asked"] {
            scene.write_answers(cache)?;
        }
        for reader in &READERS {
            let path = scene.at(reader.file);
            fs::create_dir_all(path.parent().unwrap_or(&path)).map_err(unreadable)?;
            if !path.exists()
                && let Some(seed) = scene.seeds(reader).first()
            {
                fs::write(&path, seed).map_err(unreadable)?;
            }
        }
        fs::write(scene.at("settings/vocab.txt"), tokenizer.vocab().join("\n")).map_err(unreadable)?;
        Ok(scene)
    }

    /// A cache of a teacher's answers with one block.
    fn write_answers(&self, name: &str) -> Result<()> {
        let plan = plan_in_memory(&RunFile::parse(RUN, "the scene")?, &self.shards, None)?;
        let header = AnswersHeader::of(&plan, "nobody", AnswersKind::TopK, 2, 3);
        let cache = Cache::take(&self.at(name), header, &mut |busy| Err(busy.into_error()))?;
        let slots = Slots {
            log_sum_exp: vec![1.0; 3],
            entropy: vec![0.5; 3],
            label_loss: vec![2.0; 3],
            rest: vec![0.25; 3],
            named: vec![2; 3],
            ids: vec![7, 8, 9, 7, 8, 9],
            shares: vec![0.5, 0.25, 0.5, 0.25, 0.5, 0.25],
        };
        cache.write(&Block { number: 0, used: vec![2, 0, 1], slots }).map(drop)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, files: &upstill::files::Files) -> Result<()> {
        fs::create_dir_all(self.at(name)).map_err(unreadable)?;
        write_files(&self.at(name), files)
    }

    /// Whole files of a reader's kind, to begin from.
    pub fn seeds(&self, reader: &Reader) -> Vec<Vec<u8>> {
        let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        let index = || {
            let weights = Weights::read(&self.at("model/model.safetensors")).expect("it was just written");
            let names: Vec<String> = weights.iter().map(|(name, _)| format!("\"{name}\": \"one.safetensors\"")).collect();
            format!("{{\"metadata\": {{\"total_size\": 1}}, \"weight_map\": {{{}}}}}", names.join(", "))
        };
        match reader.name {
            "run_file" => texts(&[RUN, TRANSFER]),
            "study_file" => texts(&[STUDY]),
            "vocab" => vec![self.shards.tokenizer().vocab().join("\n").into_bytes()],
            "tokenizer_config" => texts(&[SETTINGS]),
            "text" => vec![include_bytes!("seeds/a.txt").to_vec(), utf16("A dog.\n\nA cat.\n")],
            "csv" => vec![CSV.as_bytes().to_vec(), utf16(CSV)],
            "tsv" => texts(&[TSV]),
            "jsonl" => texts(&[JSONL]),
            "json" => texts(&[JSON, JSONL]),
            "choices" => texts(&[CHOICES]),
            "parquet" => vec![
                include_bytes!("seeds/snappy.parquet").to_vec(),
                include_bytes!("seeds/gzip.parquet").to_vec(),
                include_bytes!("seeds/brotli.parquet").to_vec(),
                include_bytes!("seeds/lz4.parquet").to_vec(),
                include_bytes!("seeds/zstd.parquet").to_vec(),
            ],
            "gzip" => vec![include_bytes!("seeds/a.txt.gz").to_vec()],
            "zstd" => vec![include_bytes!("seeds/a.txt.zst").to_vec()],
            "bzip2" => vec![include_bytes!("seeds/a.txt.bz2").to_vec()],
            "xz" => vec![include_bytes!("seeds/a.txt.xz").to_vec()],
            "gguf" => vec![
                include_bytes!("../tests/golden/gguf-smol.gguf").to_vec(),
                include_bytes!("../tests/golden/gguf-llama3.gguf").to_vec(),
                include_bytes!("../tests/golden/gguf-qwen3.gguf").to_vec(),
            ],
            "pickle" => vec![include_bytes!("seeds/pytorch_model.bin").to_vec()],
            "safetensors_index" => vec![index().into_bytes()],
            "cells" => {
                let file = RunFile::parse(RUN, "the scene").expect("a run file");
                let plan = plan_in_memory(&file, &self.shards, None).expect("a plan");
                let line = CellLine {
                    numerics: upstill::study::NUMERICS,
                    cell: plan.hash(),
                    plan: plan.to_file(),
                    ..CellLine::default()
                };
                vec![serde_json::to_vec(&line).expect("a line in memory can be written")]
            }
            "transfer_cache" => {
                let rows = |shape: [usize; 2]| HostTensor { shape: shape.to_vec(), values: vec![0.5; shape[0] * shape[1]] };
                let mut weights = Weights::default();
                weights.insert("logits", rows([3, 2]));
                weights.insert("representations", rows([3, 4]));
                vec![weights.sealed("0 0")]
            }
            _ => vec![fs::read(self.at(reader.file)).unwrap_or_default()],
        }
    }

    /// Has `reader` read these bytes. An error has to say what to do.
    ///
    /// # Errors
    /// As the reader says.
    ///
    /// # Panics
    /// Where the reader does, which is a fault, and where an error has no words.
    pub fn read(&self, reader: &Reader, bytes: &[u8]) -> Result<String> {
        fs::write(self.at(reader.file), bytes).expect("a scratch folder can be written");
        let read = (reader.read)(self);
        if let Err(error) = &read {
            assert!(!error.what().trim().is_empty(), "an error without words");
        }
        read
    }
}

fn unreadable(error: std::io::Error) -> Error {
    Error::new(format!("the scene can't be made: {error}"))
}

fn utf16(text: &str) -> Vec<u8> {
    std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

fn answers(folder: &Path) -> Result<String> {
    let cache = Cache::open(folder)?;
    Ok(format!("{:?} {:?}", cache.header(), cache.read(0)?))
}

fn show(folder: &Path) -> Result<String> {
    let tokenizer = Tokenizer::load(folder)?;
    let ids = tokenizer.encode("The dog sees [MASK] a schön 日本語 cat, 3.5 times.")?;
    Ok(format!("{ids:?} {}", tokenizer.decode(&ids)))
}

fn documents(path: &Path) -> Result<String> {
    let inputs = [path.display().to_string()];
    let mut out = String::new();
    for lossy in [false, true] {
        for each_line in [false, true] {
            let options = ReadOptions { lossy, each_line, longest_line: 1 << 20, ..ReadOptions::default() };
            for document in TextReader::new(find(&inputs)?, options) {
                out += &document?.text;
            }
        }
    }
    Ok(out)
}

fn table(path: &Path) -> Result<String> {
    let read = documents(path);
    let spec = |regression| TableSpec {
        name: "task".into(),
        train: path.to_owned(),
        dev: path.to_owned(),
        test: Some(path.to_owned()),
        text: "text".into(),
        text2: None,
        label: "label".into(),
        regression,
        metrics: Vec::new(),
        skip_empty: true,
        read: ReadOptions { longest_line: 1 << 20, ..ReadOptions::default() },
    };
    let classes = table_task(&spec(false)).map(|task| task.fingerprint());
    let scores = table_task(&spec(true)).map(|task| task.fingerprint());
    Ok(read? + &classes? + &scores?)
}

fn model(folder: &Path) -> Result<String> {
    let model = ModelFolder::open(folder)?;
    model.check()?;
    let weights = model.tensors()?;
    Ok(format!("{:?} {} {}", model.shape, weights.hash(), model.tokenizer()?.hash()))
}

fn data(folder: &Path) -> Result<String> {
    let shards = Shards::open(folder)?;
    let mut ids = Vec::new();
    let mut all = shards.hash().to_owned();
    for sentences in [shards.train(), shards.held_out()] {
        for at in 0..sentences.len() {
            sentences.read(at, &mut ids);
            all += &format!("{ids:?}");
        }
    }
    Ok(all)
}

fn report(run: &Path) -> Result<String> {
    let path = run.join("report.html");
    write_report(&[run.to_owned()], &path)?;
    fs::read_to_string(&path).map_err(unreadable)
}
