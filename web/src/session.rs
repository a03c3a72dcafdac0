//! A teacher and two students, trained side by side in memory.

use serde::Serialize;
use upstill::config::RunFile;
use upstill::device::Device;
use upstill::files::{Files, within};
use upstill::log::StepRecord;
use upstill::methods::{Candidate, Choice, Generate, fill_mask_async, generate_async};
use upstill::model::{LanguageModel, Weights};
use upstill::tokens::{Shards, pocket_shards};
use upstill::train::{GivenTeacher, MemoryRun, plan_in_memory};
use upstill::{Error, Result};

use crate::archive;
use crate::own_text::shards_of;
use crate::settings::{Role, Settings};

/// Where own text's shards lie in the files.
const DATA: &str = "data";
/// The visitor's choices among the files.
const SETTINGS: &str = "settings.json";

/// What is being trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The teacher.
    Teacher,
    /// Both students, a step of each in turn.
    Students,
    /// Nothing more.
    Done,
}

/// What one turn brought.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Turn {
    /// What comes next.
    pub phase: Phase,
    /// Steps done, in the order of [`Role::ALL`].
    pub done: [u64; 3],
    /// The records that were read since the last turn.
    pub records: Vec<(Role, StepRecord)>,
}

/// The three runs. The students begin once the teacher is trained.
pub struct Session {
    settings: Settings,
    device: Device,
    shards: Shards,
    is_own_text: bool,
    read_every: usize,
    teacher: MemoryRun,
    given: Option<GivenTeacher>,
    students: Option<[MemoryRun; 2]>,
    /// Records of each run that a turn has given.
    told: [usize; 3],
}

impl Session {
    /// Before the first step. Without a `text` the pocket language is learnt.
    ///
    /// # Errors
    /// Every mistake of the settings in one message; a text that can't be used.
    pub fn new(settings: Settings, text: Option<&str>, device: Device, read_every: usize) -> Result<Self> {
        let shards = text.map_or_else(pocket_shards, shards_of)?;
        Self::with(settings, shards, text.is_some(), device, read_every)
    }

    fn with(settings: Settings, shards: Shards, is_own_text: bool, device: Device, read_every: usize) -> Result<Self> {
        let plan =
            |role: Role, given: Option<&GivenTeacher>| plan_in_memory(&run_file(&settings, role, is_own_text)?, &shards, given);
        let plans = [plan(Role::Teacher, None)?, plan(Role::Alone, None)?];
        // The teacher that the distilled student will have does not exist yet; one of its shape finds the mistakes now.
        let shape = plans[0].model.shape.clone();
        let weights = Weights::of(&shape.init(0, 0.0, &Device::cpu("a stand-in").handle));
        plan(Role::Distilled, Some(&GivenTeacher { shape, weights }))?;
        let [teacher, _] = plans;
        let teacher = MemoryRun::new(teacher, &shards, None, &device, read_every)?;
        Ok(Self { settings, device, shards, is_own_text, read_every, teacher, given: None, students: None, told: [0; 3] })
    }

    /// Goes on with files that [`Session::save`] or the command has left.
    ///
    /// # Errors
    /// When the archive is none of a session, or damaged.
    pub fn open(packed: &[u8], device: Device, read_every: usize) -> Result<Self> {
        let files = archive::unpack(packed)?;
        let settings = files.get(SETTINGS).ok_or_else(|| {
            Error::new(format!("the archive has no {SETTINGS}, so it is no session of this page"))
                .help("open a .zip that this page has saved; drop a steps.jsonl or a report.json to see its charts")
        })?;
        let settings = Settings::parse(&String::from_utf8_lossy(settings))?;
        let data = within(&files, DATA);
        let shards = if data.is_empty() { pocket_shards()? } else { Shards::from_files(&data)? };
        let mut session = Self::with(settings, shards, !data.is_empty(), device, read_every)?;
        let open = |session: &Session, role: Role, given: Option<&GivenTeacher>| {
            let plan = session.plan(role, given)?;
            let run = within(&files, &role.folder());
            MemoryRun::open(&run, plan, &session.shards, given, &session.device, session.read_every)
                .map_err(|error| error.at(role.folder()))
        };
        session.teacher = open(&session, Role::Teacher, None)?;
        if session.teacher.is_done()
            && let Some(weights) = files.get(&format!("{}/model/model.safetensors", Role::Teacher.folder()))
        {
            let shape = session.teacher.model().shape();
            let given = GivenTeacher { shape, weights: Weights::from_bytes(weights)? };
            let students = [open(&session, Role::Alone, None)?, open(&session, Role::Distilled, Some(&given))?];
            (session.students, session.given) = (Some(students), Some(given));
        }
        session.news();
        Ok(session)
    }

    fn plan(&self, role: Role, given: Option<&GivenTeacher>) -> Result<upstill::config::Plan> {
        plan_in_memory(&run_file(&self.settings, role, self.is_own_text)?, &self.shards, given)
    }

    /// Takes one step of what is being trained.
    ///
    /// # Errors
    /// When a step isn't finite or the device fails; then only what was saved can go on.
    pub async fn turn(&mut self) -> Result<Turn> {
        if !self.teacher.is_done() {
            self.teacher.step().await?;
        } else {
            if self.students.is_none() {
                let given = self.teacher.as_teacher().await;
                let new = |role: Role, given: Option<&GivenTeacher>| {
                    MemoryRun::new(self.plan(role, given)?, &self.shards, given, &self.device, self.read_every)
                };
                self.students = Some([new(Role::Alone, None)?, new(Role::Distilled, Some(&given))?]);
                self.given = Some(given);
            }
            let [alone, distilled] = self.students.as_mut().expect("made above");
            alone.step().await?;
            distilled.step().await?;
        }
        Ok(Turn { phase: self.phase(), done: self.done(), records: self.news() })
    }

    /// The records that are new since this was asked last: saving reads some, too.
    fn news(&mut self) -> Vec<(Role, StepRecord)> {
        let mut told = self.told;
        let mut news = Vec::new();
        for (role, run) in self.runs() {
            let told = &mut told[role as usize];
            news.extend(run.records()[*told..].iter().map(|record| (role, record.clone())));
            *told = run.records().len();
        }
        self.told = told;
        news
    }

    /// What comes next.
    pub fn phase(&self) -> Phase {
        match &self.students {
            _ if !self.teacher.is_done() => Phase::Teacher,
            Some([alone, distilled]) if alone.is_done() && distilled.is_done() => Phase::Done,
            _ => Phase::Students,
        }
    }

    /// Steps done, in the order of [`Role::ALL`].
    pub fn done(&self) -> [u64; 3] {
        let [alone, distilled] = self.students.as_ref().map_or([0, 0], |students| students.each_ref().map(MemoryRun::done));
        [self.teacher.done(), alone, distilled]
    }

    /// The runs that there are.
    pub fn runs(&self) -> impl Iterator<Item = (Role, &MemoryRun)> {
        let students = self.students.iter().flat_map(|[alone, distilled]| [(Role::Alone, alone), (Role::Distilled, distilled)]);
        std::iter::once((Role::Teacher, &self.teacher)).chain(students)
    }

    /// For each model that there is, the likeliest words for each `[MASK]` of a sentence.
    ///
    /// # Errors
    /// When the sentence has no `[MASK]` or is too long.
    pub async fn fill(&self, sentence: &str, top: usize) -> Result<Vec<(Role, Vec<Vec<Candidate>>)>> {
        let mut out = Vec::new();
        for (role, run) in self.runs() {
            let (model, device) = (run.model(), &run.device().handle);
            out.push((role, fill_mask_async(&model, self.shards.tokenizer(), sentence, top, device).await?));
        }
        Ok(out)
    }

    /// For each model that there is, how it goes on with a text: what it was given and up to `tokens` more, drawn at
    /// the temperature 0.7.
    ///
    /// # Errors
    /// When the models are no causal ones, or the text leaves no room for more.
    pub async fn write(&self, text: &str, tokens: usize) -> Result<Vec<(Role, String)>> {
        let choice = Choice { temperature: 0.7, ..Choice::GREEDY };
        let options = Generate { tokens, choice, seed: u64::from(self.settings.seed) };
        let tokenizer = self.shards.tokenizer();
        let mut out = Vec::new();
        for (role, run) in self.runs() {
            let (model, device) = (run.model(), &run.device().handle);
            let more = generate_async(&model, tokenizer, text, &options, device, &mut |_| Ok(())).await?;
            let ids = [tokenizer.encode(text)?, more].concat();
            out.push((role, tokenizer.decode(&ids)));
        }
        Ok(out)
    }

    /// Some sentences of the held-out text, to try.
    pub fn examples(&self, count: usize) -> Vec<String> {
        let held_out = self.shards.held_out();
        let mut ids = Vec::new();
        let sentence = |at: usize| {
            held_out.read(at, &mut ids);
            self.shards.tokenizer().decode(&ids)
        };
        (0..held_out.len().min(count)).map(sentence).collect()
    }

    /// What is trained: settings, data, device, parameters.
    pub fn about(&self) -> serde_json::Value {
        let parameters: Vec<u64> = self.runs().map(|(_, run)| run.model().shape().parameters().total).collect();
        serde_json::json!({
            "settings": self.settings,
            "own_text": self.is_own_text,
            "device": self.device.to_string(),
            "is_gpu": self.device.kind != upstill::device::DeviceKind::Cpu,
            "sentences": self.shards.train().len(),
            "tokens": self.shards.train().tokens(),
            "vocabulary": self.shards.tokenizer().vocab_size(),
            "parameters": parameters,
            "phase": self.phase(),
            "done": self.done(),
            "examples": self.examples(8),
        })
    }

    /// All runs as the command's run folders, with their run files, in one archive.
    ///
    /// # Errors
    /// When steps that weren't read yet turn out not to be finite.
    pub async fn save(&mut self) -> Result<Vec<u8>> {
        let mut files = Files::new();
        let shards = data_name(self.is_own_text);
        for role in Role::ALL {
            files.insert(format!("{}.toml", role.name()), self.settings.run_file(role, shards).into_bytes());
        }
        files.insert(SETTINGS.into(), serde_json::to_vec(&self.settings).expect("settings are JSON"));
        files.insert("README.txt".into(), README.into());
        if self.is_own_text {
            files.extend(self.shards.files()?.into_iter().map(|(name, bytes)| (format!("{DATA}/{name}"), bytes)));
        }
        let students = self.students.iter_mut().flatten().zip([Role::Alone, Role::Distilled]);
        for (run, role) in std::iter::once((&mut self.teacher, Role::Teacher)).chain(students) {
            let folder = role.folder();
            files.extend(run.files().await?.into_iter().map(|(name, bytes)| (format!("{folder}/{name}"), bytes)));
        }
        archive::pack(&files)
    }
}

fn data_name(is_own_text: bool) -> &'static str {
    if is_own_text { DATA } else { "pocket" }
}

fn run_file(settings: &Settings, role: Role, is_own_text: bool) -> Result<RunFile> {
    RunFile::parse(&settings.run_file(role, data_name(is_own_text)), role.name())
}

const README: &str = "Runs of upstill's page: a teacher, a student alone and a distilled student.\n\
The command goes on with them, in this folder, teacher first:\n\n\
  upstill train teacher.toml --resume\n  upstill train alone.toml --resume\n  upstill train distilled.toml --resume\n\n\
runs/ has what each run left; the page opens this archive again.\n";
