//! What was written: a run file, its preset, and what the command line sets over it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::bounds::Bounds;
use super::keys::{self, KEYS, Key, Kind, Setting};
use super::lines::lines;
use super::mistakes::Mistakes;
use super::{Family, Method, Rows, Schedule, Start, TRANSFER_KEYS, Wanted};
use crate::error::{Error, IoContext, Result};

/// The presets: name and text.
const PRESETS: &[(&str, &str)] = &[
    ("standalone", include_str!("presets/standalone.toml")),
    ("dwt-normal", include_str!("presets/dwt-normal.toml")),
    ("dwt-strong", include_str!("presets/dwt-strong.toml")),
    ("dwt-decay", include_str!("presets/dwt-decay.toml")),
    ("inherit", include_str!("presets/inherit.toml")),
    ("salt", include_str!("presets/salt.toml")),
    ("lu-liu", include_str!("presets/lu-liu.toml")),
    ("switch", include_str!("presets/switch.toml")),
    ("let", include_str!("presets/let.toml")),
    ("minilmv2", include_str!("presets/minilmv2.toml")),
    ("distilbert", include_str!("presets/distilbert.toml")),
    ("continue", include_str!("presets/continue.toml")),
];

/// A run as it was written: any part of [`keys::KEYS`], from a file, a preset and `--set`.
///
/// Mistakes in it are kept, not raised: [`RunFile::resolve`] says them all at once, together with what doesn't fit the
/// facts.
#[derive(Debug, Clone, PartialEq)]
pub struct RunFile {
    place: String,
    /// What may be written: a transfer run's keys are others.
    keys: &'static [Key],
    written: BTreeMap<String, Setting>,
    preset: BTreeMap<String, Setting>,
    /// The names of `[models.NAME]`.
    models: BTreeSet<String>,
    /// Where its keys stand in the file that it was read from.
    lines: BTreeMap<String, usize>,
    pub(super) mistakes: Mistakes,
}

/// Models of a cotrain run: each may learn from every other, and what a run comes to is worked out for every pair.
const MOST_MODELS: usize = 64;

impl RunFile {
    /// Nothing written, but a preset under what will be [`set`](Self::set).
    ///
    /// # Errors
    /// An unknown name; the known ones are listed.
    pub fn preset(name: &str) -> Result<Self> {
        let mut file = RunFile::empty(&format!("preset {name}"));
        file.take_preset(name).map_err(|(what, help)| Error::new(what).help(help))?;
        Ok(file)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// A file that can't be read, is not UTF-8 or is not TOML. Wrong keys and values are kept for [`RunFile::resolve`].
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).doing("read", path)?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Error::new(format!("the run file is not UTF-8 from byte {at} on")).at(path.display()).help("save it as UTF-8 text")
        })?;
        let mut file = Self::parse(&text, &path.display().to_string())?;
        file.lines = lines(&text);
        Ok(file)
    }

    /// Reads a run file's text; `place` names it in messages.
    ///
    /// # Errors
    /// Text that is not TOML, with line and column.
    pub fn parse(text: &str, place: &str) -> Result<Self> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            Error::new(format!("the run file is not TOML\n{}", error.to_string().trim_end()))
                .at(place)
                .help("a line is `key = value`, a section is `[name]`, text is in quotes")
        })?;
        let mut file = RunFile::empty(place);
        if table.get("method").and_then(Value::as_str) == Some(Method::Transfer.word()) {
            file.keys = TRANSFER_KEYS;
        }
        for (name, value) in &table {
            match value {
                // The keys of an unknown section are complained about one by one.
                Value::Table(section) if keys::find(file.keys, name).is_none() && !section.is_empty() => file.take(name, section),
                Value::Table(_) if keys::is_section(file.keys, name) => {}
                _ => file.put(name, value),
            }
        }
        Ok(file)
    }

    /// A section, and those within it.
    fn take(&mut self, name: &str, section: &Table) {
        for (leaf, value) in section {
            let path = format!("{name}.{leaf}");
            match value {
                Value::Table(inner) if keys::is_section(self.keys, &path) => {
                    self.note_model(&path);
                    self.take(&path, inner);
                }
                _ => self.put(&path, value),
            }
        }
    }

    /// Remembers the name of the model that a path is about, if it is about one.
    fn note_model(&mut self, path: &str) {
        let mut parts = path.split('.');
        let (Some("models"), Some(name)) = (parts.next(), parts.next()) else { return };
        if self.models.len() < MOST_MODELS || self.models.contains(name) {
            self.models.insert(name.to_owned());
        } else if !self.mistakes.names("models") {
            self.mistakes.add("models", format!("there are more than {MOST_MODELS} models"), "write fewer [models.NAME]");
        }
    }

    fn empty(place: &str) -> Self {
        RunFile {
            place: place.into(),
            keys: KEYS,
            written: BTreeMap::new(),
            preset: BTreeMap::new(),
            models: BTreeSet::new(),
            lines: BTreeMap::new(),
            mistakes: Mistakes::default(),
        }
    }

    /// Sets a key over what the file says: `distill.soft=4 -> 1 linear`. Text needs no quotes here. The last one
    /// counts, and of `train.steps` and `train.epochs` the one set here.
    pub fn set(&mut self, assignment: &str) {
        let Some((path, text)) = assignment.split_once('=') else {
            return self.mistakes.add(assignment, "not `key=value`", "for example: --set train.batch=64");
        };
        let (path, text) = (path.trim(), text.trim());
        let as_text = || Value::String(text.into());
        let value = match keys::find(self.keys, path).map(|key| key.kind) {
            Some(Kind::Text | Kind::Word(_)) if !text.starts_with(['"', '\'']) => as_text(),
            _ => format!("x = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("x")).unwrap_or_else(as_text),
        };
        self.put_over(path, &value);
    }

    /// This file with a key set over what it says, from code: as [`set`](Self::set) does, with a value in place of its
    /// text. A wrong key or a value of another type is a mistake that [`RunFile::resolve`] tells.
    ///
    /// ```
    /// use upstill::RunFile;
    ///
    /// let file = RunFile::preset("dwt-decay")?
    ///     .with("data.shards", "data/wiki")
    ///     .with("teacher.from", "runs/teacher")
    ///     .with("model.layers", 6)
    ///     .with("train.lr", "0 -> 5e-4 over 5%, then -> 0 linear");
    /// assert_eq!(file.wanted().teacher.as_deref(), Some("runs/teacher"));
    /// # Ok::<(), upstill::Error>(())
    /// ```
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.put_over(key, &value.into());
        self
    }

    /// Puts a key in place of what was written for it, and of `train.steps` and `train.epochs` in place of the other.
    fn put_over(&mut self, path: &str, value: &Value) {
        match path {
            "train.steps" => self.unset("train.epochs"),
            "train.epochs" => self.unset("train.steps"),
            _ => {}
        }
        self.unset(path);
        self.put(path, value);
    }

    /// Forgets a key that was written, so that its preset or default holds.
    pub fn unset(&mut self, path: &str) {
        self.written.remove(path);
        self.lines.remove(path);
        self.mistakes.forget(path);
    }

    /// Whether it is a transfer run's: [`RunFile::resolve_transfer`] is for it, and not [`RunFile::resolve`].
    pub fn is_transfer(&self) -> bool {
        self.keys == TRANSFER_KEYS
    }

    /// The names of all presets.
    pub fn preset_names() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|(name, _)| *name)
    }

    /// What to look up before [`RunFile::resolve`].
    pub fn wanted(&self) -> Wanted {
        let teacher = self.text("teacher.from").filter(|from| from != "uniform" && self.method() != Some(Method::Standalone));
        let teacher = teacher.filter(|_| self.text("teacher.command").is_none());
        let length = self.whole("data.length") as usize;
        // A model that goes on has the positions that it has, which are not known yet.
        let goes_on = self.method() != Some(Method::Standalone)
            && self.word("distill.start", Start::from_word, Start::Fresh) == Start::Continue;
        let longest = if goes_on { usize::MAX } else { self.whole("model.max_positions") as usize };
        let batch = self.schedule("train.batch").bounds().1.round() as usize;
        let mask_rate = self.schedule("data.mask_rate").bounds().1;
        let rarity = self.number("data.rarity");
        let member = |name: &str| Some((name.to_owned(), self.text(&format!("teachers.{name}.from"))?));
        let others = self.ensemble().into_iter().filter_map(member).take(MOST_MODELS).collect();
        Wanted {
            shards: self.text("data.shards"),
            others: if teacher.is_some() { others } else { Vec::new() },
            teacher,
            family: if goes_on { None } else { Some(self.first_family()) },
            rows: self.word("data.rows", Rows::from_word, Rows::Sentence),
            length: if (super::MIN_LENGTH..=longest).contains(&length) { length } else { 128 },
            batch: batch.max(1),
            mask_rate: if mask_rate > 0.0 && mask_rate < 1.0 { mask_rate } else { 0.15 },
            held_out_mask_rate: self.try_number("data.held_out_mask_rate").unwrap_or(mask_rate),
            whole_word: self.flag("data.whole_word"),
            rarity: rarity.max(0.0),
            seed: self.whole("seed"),
            device: self.text("runtime.device").unwrap_or_default(),
        }
    }

    /// The family of its model; of several models, of the first by name.
    fn first_family(&self) -> Family {
        let named = self.models.iter().find_map(|name| self.text(&format!("models.{name}.family")));
        let named = named.filter(|_| self.method() == Some(Method::Cotrain));
        let all = self.word("model.family", Family::from_word, Family::Bert);
        named.and_then(|word| Family::from_word(&word)).unwrap_or(all)
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// One error of all mistakes, each with the line that its key is on; none where there are no mistakes.
    pub(super) fn error(&self, mistakes: Mistakes) -> Option<Error> {
        mistakes.into_error(&self.place, &self.lines)
    }

    /// Whether the file (or `--set`) has this key, whatever its preset says.
    pub(super) fn has_written(&self, path: &str) -> bool {
        self.written.contains_key(path)
    }

    /// Every key that the file (or `--set`) has.
    pub(super) fn written_paths(&self) -> impl Iterator<Item = &str> {
        self.written.keys().map(String::as_str)
    }

    /// Adds the keys whose values are out of their own bounds.
    pub(super) fn out_of_bounds(&self, out: &mut Mistakes) {
        for (path, setting) in &self.written {
            let bounds = keys::find(self.keys, path).map_or(Bounds::Any, |key| key.bounds);
            if let Some((what, fix)) = setting.range().and_then(|range| bounds.mistake(range)) {
                out.add(path, what, fix);
            }
        }
    }

    /// The names and folders of `[held_out]`.
    pub(super) fn held_out(&self) -> impl Iterator<Item = (String, String)> {
        let named = self.written_paths().filter_map(|path| Some((path, path.strip_prefix("held_out.")?)));
        named.filter_map(|(path, name)| Some((name.to_owned(), self.text(path)?)))
    }

    /// The names of `[models.NAME]`, in their order.
    pub(super) fn models(&self) -> impl Iterator<Item = &str> {
        self.models.iter().map(String::as_str)
    }

    /// The names of `[teachers.NAME]`, in their order.
    pub(super) fn ensemble(&self) -> BTreeSet<&str> {
        self.written_paths().filter_map(|path| path.strip_prefix("teachers.")?.split('.').next()).collect()
    }

    /// What a teacher weighs in an ensemble.
    pub(super) fn weight_of(&self, section: &str) -> f64 {
        self.try_number(&format!("{section}.weight")).unwrap_or(1.0)
    }

    pub(super) fn method(&self) -> Option<Method> {
        self.text("method").and_then(|word| Method::from_word(&word))
    }

    fn put(&mut self, path: &str, value: &Value) {
        let Some(key) = keys::find(self.keys, path) else { return self.unknown(path) };
        self.note_model(path);
        match key.kind.read(value) {
            Ok(Setting::Text(name)) if key.path == "preset" => {
                if let Err((what, fix)) = self.take_preset(&name) {
                    self.mistakes.add("preset", what, fix);
                }
            }
            Ok(setting) => drop(self.written.insert(path.to_owned(), setting)),
            Err(what) => self.mistakes.add(path, what, format!("write {}", key.kind.wanted())),
        }
    }

    fn unknown(&mut self, path: &str) {
        let (section, _) = keys::split(path);
        let is_section = keys::is_section(self.keys, path);
        let known = keys::section(self.keys, if is_section || section.is_empty() { path } else { section });
        let fix = match keys::nearest(self.keys, path) {
            _ if is_section && known.is_empty() => format!("write the sections [{path}.NAME], one for each"),
            _ if is_section => format!("write [{path}] on a line of its own, then its keys: {}", known.join(", ")),
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => format!("the sections are: {}", sections(self.keys).join(", ")),
            None => format!("[{section}] has: {}", known.join(", ")),
        };
        self.mistakes.add(path, if is_section { "is a section, not a key" } else { "no such key" }, fix);
    }

    fn take_preset(&mut self, name: &str) -> Result<(), (String, String)> {
        let Some((_, text)) = PRESETS.iter().find(|(known, _)| *known == name) else {
            let names: Vec<_> = Self::preset_names().collect();
            return Err((format!("there is no preset `{name}`"), format!("the presets are: {}", names.join(", "))));
        };
        let preset = Self::parse(text, name).map_err(|error| (error.to_string(), "this is a defect of upstill".into()))?;
        self.preset = preset.written;
        Ok(())
    }

    // Typed reading: what was written, else the preset, else the default. Asking for a key that there is not is a
    // programming error that the tests of this room meet.

    fn get(&self, path: &str) -> Option<Setting> {
        if cfg!(test) {
            assert!(keys::find(self.keys, path).is_some(), "no key is called {path}");
        }
        let given = self.written.get(path).or_else(|| self.preset.get(path)).cloned();
        given.or_else(|| keys::find(self.keys, path).and_then(Key::default_setting))
    }

    /// A section of the plan: each of its fields from the key of its name. Of the keys that are named here, those that
    /// are `worked_out` by the caller stand as 0 meanwhile, and those `apart` are no fields.
    pub(super) fn section<T: DeserializeOwned>(&self, name: &str, worked_out: &[&str], apart: &[&str]) -> T {
        let keys = self.keys.iter().filter(|key| keys::split(key.path).0 == name);
        let field = |key: &Key| match keys::split(key.path).1 {
            leaf if worked_out.contains(&leaf) => Some((leaf.to_owned(), Value::Integer(0))),
            leaf if apart.contains(&leaf) => None,
            leaf => Some((leaf.to_owned(), self.get(key.path)?.into_value())),
        };
        let fields: Table = keys.filter_map(field).collect();
        Value::Table(fields).try_into().expect("a section's keys are its plan's fields, which a test reads all of")
    }

    pub(super) fn text(&self, path: &str) -> Option<String> {
        if let Some(Setting::Text(text)) = self.get(path) { Some(text) } else { None }
    }

    pub(super) fn word<T>(&self, path: &str, from_word: impl Fn(&str) -> Option<T>, default: T) -> T {
        self.text(path).and_then(|word| from_word(&word)).unwrap_or(default)
    }

    pub(super) fn try_whole(&self, path: &str) -> Option<u64> {
        if let Some(Setting::Whole(number)) = self.get(path) { Some(number) } else { None }
    }

    pub(super) fn whole(&self, path: &str) -> u64 {
        self.try_whole(path).unwrap_or_default()
    }

    /// A size of a model; of a switch 1 or 0.
    pub(super) fn size(&self, path: &str) -> Option<usize> {
        match self.get(path) {
            Some(Setting::Whole(number)) => Some(number as usize),
            Some(Setting::Flag(set)) => Some(usize::from(set)),
            _ => None,
        }
    }

    pub(super) fn try_number(&self, path: &str) -> Option<f64> {
        if let Some(Setting::Number(number)) = self.get(path) { Some(number) } else { None }
    }

    pub(super) fn number(&self, path: &str) -> f64 {
        self.try_number(path).unwrap_or(0.0)
    }

    pub(super) fn flag(&self, path: &str) -> bool {
        matches!(self.get(path), Some(Setting::Flag(true)))
    }

    pub(super) fn try_schedule(&self, path: &str) -> Option<Schedule> {
        if let Some(Setting::Schedule(schedule)) = self.get(path) { Some(schedule) } else { None }
    }

    pub(super) fn schedule(&self, path: &str) -> Schedule {
        self.try_schedule(path).unwrap_or_else(|| Schedule::constant(0.0))
    }
}

/// Names of all sections, in order.
fn sections(table: &'static [Key]) -> Vec<&'static str> {
    let mut names: Vec<_> = table.iter().map(|key| keys::split(key.path).0).filter(|name| !name.is_empty()).collect();
    names.dedup();
    names
}
