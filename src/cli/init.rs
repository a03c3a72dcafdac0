//! `upstill init`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::data::build_shown;
use super::study_transfer;
use super::tokenizer::{train_shown, warn};
use crate::config::{Plan, RunFile};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files::{can_write, write_text};
use crate::model::{ModelFolder, Shape, Weights};
use crate::study::{StudySpec, plan_study};
use crate::text::{ReadOptions, Reader, find};
use crate::tokens::{BuildOptions, Manifest, Shards, Tokenizer, TrainOptions};
use crate::train::{GivenTeacher, open_shards, plan_in_memory, plan_run};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill init                                       a teacher and a student on the pocket language
  upstill init dwt articles/                         reads text into data/articles, then writes both run files
  upstill init dwt data/mine --teacher bert-mini/    one run file: the teacher is there
  upstill init cotrain data/mine --out both.toml
  upstill init transfer imdb/ --teacher bert-mini/   a folder with train.tsv, test.tsv and unsup.txt or the like
  upstill init study data/mine

Text is read with a vocabulary that is made of it, unless --tokenizer or --teacher has one. `upstill data build` and `upstill
tokenizer train` have all options for text. Nothing that is there is written over.")]
pub struct Args {
    /// What is to be trained
    #[arg(value_enum, default_value = "dwt")]
    kind: What,
    /// A folder or file of text, a folder of token shards, or `pocket`, the embedded language
    #[arg(default_value = "pocket")]
    data: String,
    /// The teacher: a run, a checkpoint or a Hugging Face folder; without one, its run file is written too
    #[arg(long, value_name = "MODEL")]
    teacher: Option<PathBuf>,
    /// What text is read with: a folder with tokenizer.json or vocab.txt, or one of those files
    #[arg(long, value_name = "DIR|FILE")]
    tokenizer: Option<PathBuf>,
    /// The run file to write; student.toml, cotrain.toml, transfer.toml or study.toml unless given
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What a run file is for.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// A student that learns from a weaker teacher (Lee et al. 2023)
    Dwt,
    /// Two models that teach each other (Lee et al. 2023b)
    Cotrain,
    /// A fine-tuned BERT into a BiLSTM (Mukherjee and Awadallah 2019)
    Transfer,
    /// Seeds of a student alone and of students with a teacher, compared
    Study,
}

impl What {
    fn file(self) -> &'static str {
        match self {
            What::Dwt => "student.toml",
            What::Cotrain => "cotrain.toml",
            What::Transfer => "transfer.toml",
            What::Study => "study.toml",
        }
    }
}

/// A file to write.
struct Draft {
    path: PathBuf,
    text: String,
}

pub fn run(args: Args) -> Result<()> {
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(args.kind.file()));
    let teacher_file = out.with_file_name("teacher.toml");
    let writes_teacher = args.kind == What::Dwt && args.teacher.is_none();
    let files: Vec<&PathBuf> = std::iter::once(&out).chain(writes_teacher.then_some(&teacher_file)).collect();
    if writes_teacher && out == teacher_file {
        return Err(
            Error::new("the teacher's run file will be called teacher.toml").help("choose another --out for the student's")
        );
    }
    // Before text is read for minutes.
    files.iter().try_for_each(|file| must_be_new(file))?;
    let drafts = match args.kind {
        What::Transfer => vec![Draft { path: out.clone(), text: transfer(&args)? }],
        _ => of_shards(&args, &out, &teacher_file)?,
    };
    for draft in &drafts {
        must_be_new(&draft.path)?;
        write_text(&draft.path, &draft.text)?;
        eprintln!("wrote {}", draft.path.display());
    }
    println!("next:");
    let name = |path: &Path| path.display().to_string();
    match args.kind {
        What::Study => {
            println!("  upstill plan {}          # what each of its runs comes to", name(&out));
            println!("  upstill study {}", name(&out));
        }
        _ => {
            println!("  upstill plan {}          # what it comes to, and how long it will take", name(&drafts[0].path));
            drafts.iter().for_each(|draft| println!("  upstill train {}", name(&draft.path)));
        }
    }
    Ok(())
}

fn must_be_new(path: &Path) -> Result<()> {
    if path.exists() {
        return Err(Error::new("this file is there already; it was left as it is")
            .at(path.display())
            .help("name another with --out"));
    }
    can_write(path)
}

/// Run files over shards, which are made first where `data` is text; each is planned before it is given.
fn of_shards(args: &Args, out: &Path, teacher_file: &Path) -> Result<Vec<Draft>> {
    let given = args.teacher.as_deref().map(ModelFolder::open).transpose()?;
    let name = shards_named(args, given.as_ref())?;
    let shards = open_shards(&name)?;
    let scale = Scale::of(&name, shards.train().tokens());
    let draft = |path: &Path, text: String| Draft { path: path.to_owned(), text };
    let from = args.teacher.as_ref().map_or_else(|| "runs/teacher".to_owned(), |path| path.display().to_string());
    Ok(match args.kind {
        What::Dwt => {
            let (teacher, student) = (scale.teacher(&name, teacher_file), scale.student(&name, &from, out));
            match given.is_some() {
                true => {
                    plan_run(&RunFile::parse(&student, "what init writes")?)?;
                    vec![draft(out, student)]
                }
                false => {
                    let (plan, _) = plan_run(&RunFile::parse(&teacher, "what init writes")?)?;
                    plan_with_stand_in(&student, plan.model.shape, &shards)?;
                    vec![draft(teacher_file, teacher), draft(out, student)]
                }
            }
        }
        What::Cotrain => {
            let text = scale.cotrain(&name, args.teacher.is_some().then_some(&*from), out);
            plan_run(&RunFile::parse(&text, "what init writes")?)?;
            vec![draft(out, text)]
        }
        What::Study | What::Transfer => {
            let text = scale.study(&name, args.teacher.is_some().then_some(&*from), out);
            plan_study(&StudySpec::parse(&text)?, &shards, Path::new("runs"))?;
            vec![draft(out, text)]
        }
    })
}

/// Checks a student's run file with a model of its teacher's shape in place of the teacher that is still to be trained.
fn plan_with_stand_in(student: &str, shape: Shape, shards: &Shards) -> Result<Plan> {
    let weights = Weights::of(&shape.init(0, 0.0, &Device::cpu("a stand-in").handle));
    plan_in_memory(&RunFile::parse(student, "what init writes")?, shards, Some(&GivenTeacher { shape, weights }))
}

/// The name of the shards: `data` where it is such a folder or the pocket language, else a folder that is made of its
/// text.
fn shards_named(args: &Args, teacher: Option<&ModelFolder>) -> Result<String> {
    let data = Path::new(&args.data);
    if args.data == "pocket" || data.join("manifest.json").is_file() {
        if args.tokenizer.is_some() {
            return Err(Error::new("--tokenizer is for text, and token shards have their vocabulary")
                .at(&args.data)
                .help("leave it out"));
        }
        return Ok(args.data.clone());
    }
    let inputs = [args.data.clone()];
    let sources = find(&inputs)?;
    let place = data.file_name().unwrap_or(data.as_os_str()).to_string_lossy();
    let place = place.split('.').next().filter(|name| !name.is_empty() && !name.contains('*')).unwrap_or("text");
    let folder = Path::new("data").join(place);
    if Manifest::read(&folder).is_ok() {
        return Err(Error::new(format!("{} holds token shards already", folder.display()))
            .at(&args.data)
            .help(format!("give that folder in place of the text: upstill init ... {}; or remove it first", folder.display())));
    }
    let tokenizer = match (&args.tokenizer, teacher) {
        (Some(path), _) => Tokenizer::load(path)?,
        (None, Some(teacher)) => teacher.tokenizer()?,
        (None, None) => {
            eprintln!("making a vocabulary of at most {VOCABULARY} tokens");
            let options = TrainOptions { vocab_size: VOCABULARY, ..TrainOptions::default() };
            let (tokenizer, coverage) = train_shown(Reader::new(sources, ReadOptions::default()), &options, false)?;
            warn(&coverage, options.alphabet);
            tokenizer
        }
    };
    eprintln!("reading text into {}", folder.display());
    let options = BuildOptions { keep_one_of: 1, ..BuildOptions::default() };
    let manifest = build_shown(&inputs, &folder, false, &tokenizer, &options, 0, false)?;
    eprintln!("{manifest}");
    Ok(folder.display().to_string())
}

/// Tokens of a vocabulary that is made of the text.
const VOCABULARY: usize = 8192;

/// Sizes that suit an amount of text: a model learns little from a text that has fewer tokens than it has parameters.
struct Scale {
    hidden: usize,
    heads: usize,
    teacher_layers: usize,
    student_layers: usize,
    length: usize,
    batch: usize,
    extent: &'static str,
    rate: &'static str,
}

impl Scale {
    fn of(shards: &str, tokens: u64) -> Self {
        let layers = (2, 4);
        let (hidden, (teacher_layers, student_layers), rate) = match tokens {
            _ if shards == "pocket" => (64, layers, "5e-3"),
            0..2_000_000 => (128, layers, "1e-3"),
            2_000_000..50_000_000 => (256, layers, "1e-3"),
            _ => (512, (3, 6), "5e-4"),
        };
        let is_pocket = shards == "pocket";
        let (length, batch, extent) = if is_pocket {
            (64, 16, "steps  = 600                       # or epochs")
        } else {
            (128, 32, "epochs = 10                        # passes over the text; or steps")
        };
        Self {
            hidden,
            heads: hidden / if is_pocket { 32 } else { 64 },
            teacher_layers,
            student_layers,
            length,
            batch,
            extent,
            rate,
        }
    }

    fn teacher(&self, shards: &str, file: &Path) -> String {
        let Self { hidden, heads, teacher_layers, length, .. } = self;
        format!(
            "# The teacher: a small model, trained alone. Written by `upstill init`; `upstill plan --keys` lists every key.\n\
             #   upstill plan  {file}\n\
             #   upstill train {file} --out runs/teacher\n\
             preset = \"standalone\"              # masked language modelling, with no teacher\n\
             seed   = 1                         # decides initial weights, order, masks and dropout\n\
             \n[model]\n\
             layers        = {teacher_layers}\n\
             hidden        = {hidden:<19} # width\n\
             heads         = {heads:<19} # attention heads; they divide the width\n\
             max_positions = {length:<19} # the longest row that the model can read, in tokens\n\
             {}{}",
            self.data(shards),
            self.train(),
            file = file.display()
        )
    }

    fn student(&self, shards: &str, from: &str, file: &Path) -> String {
        let Self { hidden, heads, student_layers, length, .. } = self;
        format!(
            "# A student that learns from the text and from a weaker teacher (Lee et al. 2023). Written by `upstill init`.\n\
             #   upstill plan  {file}       # once the teacher is there\n\
             #   upstill train {file} --out runs/student\n\
             preset = \"dwt-decay\"               # the paper's recommendation; or dwt-normal, dwt-strong\n\
             seed   = 1\n\
             \n[model]                            # the student; the teacher may be of any other size\n\
             layers        = {student_layers}\n\
             hidden        = {hidden}\n\
             heads         = {heads}\n\
             max_positions = {length}\n\
             \n[teacher]\n\
             from = {from:<27} # a run, a checkpoint, a Hugging Face folder; or \"uniform\", a control\n\
             \n[distill]\n\
             soft        = \"4 -> 1 linear\"      # weight of the soft loss, here falling over the run; a number keeps it\n\
             temperature = 2.0\n\
             # start     = \"remap\"              # begin with the teacher's layers, if it is as wide, in place of random weights\n\
             {}{}",
            self.data(shards),
            self.train(),
            from = quoted(from),
            file = file.display()
        )
    }

    fn cotrain(&self, shards: &str, from: Option<&str>, file: &Path) -> String {
        let Self { hidden, heads, teacher_layers, student_layers, length, .. } = self;
        let teacher = from.map_or_else(String::new, |from| {
            format!("\n[teacher]                          # teaches both\nfrom = {}\n", quoted(from))
        });
        format!(
            "# Two models that teach each other while they train (Lee et al. 2023b). Written by `upstill init`.\n\
             #   upstill train {file} --out runs/cotrain\n\
             #   upstill eval runs/cotrain/model/large\n\
             method = \"cotrain\"\n\
             seed   = 1\n\
             \n[model]                            # what the models share, unless one says otherwise\n\
             hidden        = {hidden}\n\
             heads         = {heads}\n\
             max_positions = {length}\n\
             \n[models.large]                     # any number of [models.NAME], from two up\n\
             layers = {student_layers}\n\
             \n[models.small]\n\
             layers = {teacher_layers}\n\
             \n[models.large.from.small]          # how the large one learns from the small one; soft = 0 drops the direction\n\
             soft        = \"4 -> 1 linear\"\n\
             temperature = 2.0\n\
             \n[distill]                          # every other direction\n\
             soft        = 1.0\n\
             temperature = 2.0\n\
             {teacher}{}{}",
            self.data(shards),
            self.train(),
            file = file.display()
        )
    }

    fn study(&self, shards: &str, from: Option<&str>, file: &Path) -> String {
        let Self { hidden, heads, teacher_layers, student_layers, length, .. } = self;
        let (teachers, taught) = match from {
            Some(from) => (String::new(), format!("teacher = {}       # a model that is there", quoted(from))),
            None => (
                format!(
                    "[[teachers]]                       # trained first\n\
                     name = \"teacher\"\n\
                     set  = [\"preset=standalone\", \"model.layers={teacher_layers}\"]\n\n"
                ),
                "teacher = \"teacher\"".to_owned(),
            ),
        };
        let seeds = if from.is_some() {
            ""
        } else {
            "teacher_seeds = \"paired\"           # each student seed has a teacher of its own\n"
        };
        let base = format!(
            "[model]\nlayers = {student_layers}\nhidden = {hidden}\nheads = {heads}\nmax_positions = {length}\n{}{}",
            self.data(shards),
            self.train()
        );
        format!(
            "# Does a weak teacher help on this text? Seeds of a student alone and of students with a teacher, compared. Written by\n\
             # `upstill init`. The same command again repeats nothing that is done.\n\
             #   upstill plan  {file}\n\
             #   upstill study {file}\n\
             title    = {title}\n\
             seeds    = [1, 2, 3, 4]             # every arm is trained with each\n\
             {seeds}\
             baseline = \"alone\"                 # what the others are compared with\n\
             base     = \"\"\"                     # the run file that every run starts from\n\
             {base}\"\"\"\n\n\
             [test]                             # fixed before the first run\n\
             margin = 0.01                      # nats a masked token: less counts as no difference\n\n\
             {teachers}\
             [[arms]]\n\
             name = \"alone\"\n\
             set  = [\"preset=standalone\"]\n\n\
             [[arms]]\n\
             name = \"soft 4 -> 1\"\n\
             {taught}\n\
             set  = [\"preset=dwt-decay\"]\n\n\
             [[arms]]                           # a control: a teacher that knows nothing\n\
             name = \"uniform teacher\"\n\
             set  = [\"preset=dwt-decay\", \"teacher.from=uniform\"]\n",
            title = quoted(&format!("Does a weak teacher help on {shards}?")),
            file = file.display()
        )
    }

    fn data(&self, shards: &str) -> String {
        format!(
            "\n[data]\n\
             shards = {shards:<25} # a folder that `upstill data build` made, or \"pocket\"\n\
             rows   = \"packed\"                  # several sentences a row, each attending only to itself\n\
             length = {:<25} # tokens of a row\n",
            self.length,
            shards = quoted(shards)
        )
    }

    fn train(&self) -> String {
        format!(
            "\n[train]\n\
             {}\n\
             batch  = {:<25} # rows an optimizer step\n\
             lr     = \"0 -> {} over 10%, then -> 0 linear\"\n",
            self.extent, self.batch, self.rate
        )
    }
}

/// A transfer run's file, over a folder with labelled files or a task of the pocket language.
fn transfer(args: &Args) -> Result<String> {
    if args.tokenizer.is_some() {
        return Err(Error::new("--tokenizer is not for transfer: the student reads the teacher's tokens").help("leave it out"));
    }
    let from = args.teacher.as_ref().map_or_else(|| "runs/teacher".to_owned(), |path| path.display().to_string());
    let data = match args.data.as_str() {
        "pocket" => "task      = \"pocket-acceptability\"   # or -sentiment, -paraphrase, -entailment, -similarity\n".to_owned(),
        folder => labelled(Path::new(folder))?,
    };
    let file = args.out.as_deref().unwrap_or(Path::new(What::Transfer.file()));
    let text = format!(
        "# A fine-tuned BERT into a BiLSTM over unlabelled text (Mukherjee and Awadallah 2019). Written by `upstill init`.\n\
         #   upstill train {file} --out runs/transfer\n\
         # What is not written here is the paper's: 300 and 600 wide, dropout 0.4, Adadelta.\n\
         method = \"transfer\"\n\
         seed   = 1\n\
         \n[model]\n\
         encoder = \"bilstm\"                 # or \"bert\", a smaller one\n\
         tokens  = \"pieces\"                 # the teacher's; or \"words\", split at white space\n\
         # glove = \"glove.840B.300d.txt\"    # word vectors to start from\n\
         \n[teacher]\n\
         from   = {from:<25} # a fine-tuned classifier, or a pre-trained model that is fine-tuned first\n\
         lr     = 2e-5\n\
         epochs = 3.0\n\
         \n[data]\n\
         {data}\
         per_class = 500                    # rows of each class that keep their label; the others are read without it\n\
         length    = 128\n\
         \n[distill]\n\
         targets  = \"soft\"                  # or \"hard\", \"none\"\n\
         schedule = \"stagewise\"             # or \"joint\", \"distil-once\"\n",
        from = quoted(&from),
        file = file.display()
    );
    RunFile::parse(&text, "what init writes")?.resolve_transfer()?;
    Ok(text)
}

/// The lines of `[data]` for a folder with a file of training rows and one of test rows.
fn labelled(folder: &Path) -> Result<String> {
    let needed = |name: &str, what: &str| {
        study_transfer::find(folder, &[name])?.ok_or_else(|| {
            Error::new(format!("the folder has no file of {what}")).at(folder.display()).help(format!(
                "call it {name}.tsv, .csv, .jsonl or .parquet (or .zst, .gz of it), with the columns `text` and `label`"
            ))
        })
    };
    let (train, test) = (needed("train", "labelled rows")?, needed("test", "test rows")?);
    let unlabelled = study_transfer::find(folder, &["unsup", "unlabelled", "unlabeled"])?;
    let name = folder.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let mut lines = format!("task      = {}\n", quoted(&name.unwrap_or_else(|| "files".to_owned())));
    lines += &format!("train     = {:<22} # columns `text` and `label`\n", quoted(&train.display().to_string()));
    lines += &format!("test      = {:<22} # scored once, at the end\n", quoted(&test.display().to_string()));
    if let Some(path) = unlabelled {
        lines += &format!("unlabelled = {:<21} # a text a line\n", quoted(&path.display().to_string()));
    }
    Ok(lines)
}

/// Text as TOML has it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
