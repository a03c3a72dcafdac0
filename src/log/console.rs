//! What a person sees on standard error while runs go on: bars on a terminal, as wide as it is; a line every few
//! seconds in a pipe, a notebook or a terminal that can't move its cursor; or nothing. None of it has a colour.

use std::collections::BTreeMap;
use std::env::var;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::StepRecord;

const LINE_EVERY: Duration = Duration::from_secs(5);

/// Where progress goes. Cheap to clone; all clones share one screen.
#[derive(Clone)]
pub struct Console(Arc<Screen>);

struct Screen {
    mode: Mode,
    bars: MultiProgress,
    study: Option<(ProgressBar, Mutex<Cells>)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Silent,
    Lines,
    Bars,
}

impl Console {
    /// Standard error: bars when it is a terminal, plain lines when it is not.
    pub fn stderr() -> Self {
        Self::of(Mode::detect(), None)
    }

    /// Says nothing.
    pub fn silent() -> Self {
        Self::of(Mode::Silent, None)
    }

    /// [`Console::stderr`] for a study of `total_cells` runs: also cells done, time elapsed and time left.
    pub fn study(total_cells: u64) -> Self {
        Self::of(Mode::detect(), Some(total_cells))
    }

    /// A silent [`Console::study`]: the counts are kept, nothing is printed.
    pub fn silent_study(total_cells: u64) -> Self {
        Self::of(Mode::Silent, Some(total_cells))
    }

    fn of(mode: Mode, cells: Option<u64>) -> Self {
        let bars = MultiProgress::new();
        let study = cells.map(|total| {
            let bar = if mode == Mode::Bars { bars.add(bar(1000, "{wide_msg}")) } else { ProgressBar::hidden() };
            (bar, Mutex::new(Cells::new(total)))
        });
        let console = Self(Arc::new(Screen { mode, bars, study }));
        console.show_study();
        console
    }

    /// Starts showing a run of `steps` steps, of which `done` were done before (0 unless it is resumed).
    pub fn run(&self, name: &str, steps: u64, done: u64) -> Progress {
        let bar = match (self.0.mode, &self.0.study) {
            (Mode::Bars, Some((below, _))) => Some(self.0.bars.insert_before(below, bar(steps, Room::here().of_run()))),
            (Mode::Bars, None) => Some(self.0.bars.add(bar(steps, Room::here().of_run()))),
            _ => None,
        };
        if let Some(bar) = &bar {
            bar.set_prefix(name.to_owned());
            bar.set_position(done);
        }
        Progress { console: self.clone(), name: name.into(), bar, pace: Pace::new(steps), printed: None, held_out: None }
    }

    /// A line of text, above the bars.
    pub fn note(&self, text: &str) {
        match self.0.mode {
            Mode::Silent => {}
            Mode::Lines => say(text),
            Mode::Bars => drop(self.0.bars.println(text)),
        }
    }

    /// Cells that the study is known to have, by name, each with its work: time left goes by work. Those told before
    /// are kept.
    pub fn expect(&self, of: impl IntoIterator<Item = (String, f64)>) {
        if let Some((_, cells)) = &self.0.study {
            lock(cells).expect(of);
            self.show_study();
        }
    }

    /// A cell of the study ended: trained now, or `found` from an earlier time.
    pub fn cell_done(&self, name: &str, found: bool) {
        if let Some((_, cells)) = &self.0.study {
            lock(cells).end(name, found);
            self.show_study();
            if self.0.mode == Mode::Lines {
                say(&lock(cells).line(Instant::now()));
            }
        }
    }

    /// Removes the study's own line.
    pub fn finish(&self) {
        if let Some((bar, _)) = &self.0.study {
            bar.finish_and_clear();
        }
    }

    fn show_study(&self) {
        if let (Mode::Bars, Some((bar, cells))) = (self.0.mode, &self.0.study) {
            let (cells, now) = (lock(cells), Instant::now());
            bar.set_message(if Room::here() == Room::Little { cells.short(now) } else { cells.line(now) });
        }
    }
}

impl Mode {
    fn detect() -> Self {
        let told = |name: &str| var(name).unwrap_or_default();
        match std::io::stderr().is_terminal() && can_move_its_cursor(&told("TERM")) && !is_notebook(told) {
            true => Mode::Bars,
            false => Mode::Lines,
        }
    }
}

/// Whether a terminal of this name can draw over what it has shown. indicatif draws nothing at all on others.
fn can_move_its_cursor(name: &str) -> bool {
    cfg!(windows) || !matches!(name, "" | "dumb")
}

/// Whether a notebook shows what is written: it looks like a terminal, and keeps every line that was ever drawn.
/// Jupyter sets the first of these, every IPython kernel the second.
fn is_notebook(told: impl Fn(&str) -> String) -> bool {
    !told("JPY_PARENT_PID").is_empty() || told("MPLBACKEND").contains("inline")
}

/// How much fits on a line.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Room {
    /// Fewer than 40 columns: the step, the loss, the time left.
    Little,
    /// Fewer than 72: no bar.
    Some,
    /// A bar and all numbers.
    Enough,
}

impl Room {
    fn here() -> Self {
        Self::of(console::Term::stderr().size_checked().map(|(_, columns)| columns))
    }

    fn of(columns: Option<u16>) -> Self {
        match columns {
            Some(..40) => Room::Little,
            Some(..72) => Room::Some,
            _ => Room::Enough,
        }
    }

    /// The template of a run's bar; what does not fit of `wide_msg` is cut.
    fn of_run(self) -> &'static str {
        match self {
            Room::Little => "{pos}/{len} {wide_msg}",
            Room::Some => "{prefix} {pos}/{len} {wide_msg}",
            Room::Enough => "{prefix} {bar:16} {pos}/{len} {wide_msg}",
        }
    }

    /// The template of a bar of bytes.
    fn of_bytes(self) -> &'static str {
        match self {
            Room::Little => "{percent}% {eta} left",
            Room::Some => "{bytes} of {total_bytes}, {eta} left",
            Room::Enough => "{bar:16} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left {wide_msg}",
        }
    }
}

/// The progress of one run.
pub struct Progress {
    console: Console,
    name: String,
    bar: Option<ProgressBar>,
    pace: Pace,
    printed: Option<Instant>,
    held_out: Option<StepRecord>,
}

impl Progress {
    /// Shows a step.
    pub fn show(&mut self, record: &StepRecord) {
        if record.held_out_loss.is_some() {
            self.held_out = Some(record.clone());
        }
        if self.counts(record.step + 1) {
            let left = self.pace.left();
            match self.bar.is_some() && Room::here() == Room::Little {
                true => self.print(&short(record, left)),
                false => self.print(&status(record, self.held_out.as_ref(), left)),
            }
        }
    }

    /// Shows that so much is done, where steps have no records.
    pub fn reach(&mut self, done: u64) {
        if self.counts(done) {
            let left = self.pace.left().map_or(String::new(), |left| format!("{} left", clock(left)));
            self.print(&left);
        }
    }

    /// Counts what is done; whether it is time to say so.
    fn counts(&mut self, done: u64) -> bool {
        let now = Instant::now();
        self.pace.count(done, now);
        if let Some((_, cells)) = &self.console.0.study {
            lock(cells).under_way(&self.name, self.pace.share());
        }
        if self.console.0.mode == Mode::Silent || self.printed.is_some_and(|at| now - at < self.interval()) {
            return false;
        }
        self.printed = Some(now);
        true
    }

    fn print(&self, status: &str) {
        let done = self.pace.last.0;
        match &self.bar {
            Some(bar) => {
                // The terminal may be another width than it was.
                bar.set_style(style(Room::here().of_run()));
                bar.set_position(done);
                bar.set_message(status.to_owned());
                self.console.show_study();
            }
            None => say(format!("{}  {done}/{}  {status}", self.name, self.pace.steps).trim_end()),
        }
    }

    /// Takes the run off the screen; on a terminal outside a study, and in plain lines, a last line `text` stays.
    pub fn finish(self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.console.note(&format!("{}  {text}", self.name));
    }

    fn interval(&self) -> Duration {
        if self.bar.is_some() { Duration::from_millis(100) } else { LINE_EVERY }
    }
}

/// Steps done against time. The first step seen starts the clock: it holds compilation and tuning, the others don't.
struct Pace {
    steps: u64,
    first: Option<(u64, Instant)>,
    last: (u64, Option<Instant>),
}

impl Pace {
    fn new(steps: u64) -> Self {
        Self { steps, first: None, last: (0, None) }
    }

    fn count(&mut self, done: u64, now: Instant) {
        self.first.get_or_insert((done, now));
        self.last = (done, Some(now));
    }

    fn share(&self) -> f64 {
        self.last.0 as f64 / self.steps.max(1) as f64
    }

    fn left(&self) -> Option<Duration> {
        let ((from, start), (done, Some(now))) = (self.first?, self.last) else { return None };
        let seconds = (now - start).as_secs_f64() / done.checked_sub(from).filter(|&n| n > 0)? as f64;
        Some(Duration::from_secs_f64(seconds * self.steps.saturating_sub(done) as f64))
    }
}

/// The cells of a study: how many are done, and how far those under way are.
struct Cells {
    total: u64,
    trained: u64,
    found: u64,
    under_way: BTreeMap<String, f64>,
    started: Instant,
    /// Of the cells that were told, in any unit; without them each counts 1.
    work: BTreeMap<String, f64>,
    trained_work: f64,
    found_work: f64,
}

impl Cells {
    fn new(total: u64) -> Self {
        Self {
            total,
            trained: 0,
            found: 0,
            under_way: BTreeMap::new(),
            started: Instant::now(),
            work: BTreeMap::new(),
            trained_work: 0.0,
            found_work: 0.0,
        }
    }

    fn expect(&mut self, of: impl IntoIterator<Item = (String, f64)>) {
        self.work.extend(of);
        self.total = self.work.len() as u64;
    }

    fn work_of(&self, name: &str) -> f64 {
        // A run that nobody told of is a teacher that is trained again.
        if self.work.is_empty() { 1.0 } else { self.work.get(name).copied().unwrap_or(0.0) }
    }

    fn under_way(&mut self, name: &str, share: f64) {
        self.under_way.insert(name.into(), share.min(1.0));
    }

    fn end(&mut self, name: &str, found: bool) {
        self.under_way.remove(name);
        let work = self.work_of(name);
        match found {
            true => (self.found, self.found_work) = (self.found + 1, self.found_work + work),
            false => (self.trained, self.trained_work) = (self.trained + 1, self.trained_work + work),
        }
    }

    /// What of [`line`](Self::line) fits on 20 columns.
    fn short(&self, now: Instant) -> String {
        format!("{}/{} runs {}", self.trained + self.found, self.total, clock(now - self.started))
    }

    fn line(&self, now: Instant) -> String {
        let done = self.trained + self.found;
        let mut line = format!("{done} of {} runs done", self.total);
        if self.found > 0 {
            let _ = write!(line, " ({} found)", self.found);
        }
        let elapsed = now - self.started;
        let _ = write!(line, " · {} elapsed", clock(elapsed));
        let under_way: f64 = self.under_way.iter().map(|(name, share)| share * self.work_of(name)).sum();
        let worked = self.trained_work + under_way;
        let total = if self.work.is_empty() { self.total as f64 } else { self.work.values().sum() };
        let left = total - self.found_work - worked;
        // Too early to tell from less than a twentieth of a run.
        if worked * self.total as f64 > 0.05 * total && left > 0.0 {
            let _ = write!(line, " · about {} left", clock(elapsed.mul_f64(left / worked)));
        }
        line
    }
}

/// What fits beside the step on 20 columns: `4.50 1:23`.
fn short(record: &StepRecord, left: Option<Duration>) -> String {
    let left = left.map_or(String::new(), |left| format!(" {}", clock(left)));
    format!("{:.2}{left}", record.loss)
}

/// `held_out` is the last step that was scored.
fn status(record: &StepRecord, held_out: Option<&StepRecord>, left: Option<Duration>) -> String {
    let mut text = match &record.models[..] {
        [] => format!("loss {}", loss(record.loss, record.loss_hard, record.loss_soft)),
        models => {
            let each = models.iter().map(|own| format!("{} {}", own.name, loss(own.loss, own.loss_hard, own.loss_soft())));
            each.collect::<Vec<_>>().join(", ")
        }
    };
    let _ = write!(text, " · {} tokens/s", thousands(record.tokens_per_s));
    if let Some(scored) = held_out {
        let each = scored.models.iter().map(|own| own.held_out_loss);
        let losses: Vec<String> = if scored.models.is_empty() { vec![scored.held_out_loss] } else { each.collect() }
            .into_iter()
            .flatten()
            .map(|loss| format!("{loss:.3}"))
            .collect();
        let _ = write!(text, " · held-out {}", losses.join(" and "));
    }
    if let Some(left) = left {
        let _ = write!(text, " · {} left", clock(left));
    }
    text
}

fn loss(total: f64, hard: f64, soft: Option<f64>) -> String {
    match soft {
        Some(soft) => format!("{total:.3} (hard {hard:.3}, soft {soft:.3})"),
        None => format!("{total:.3}"),
    }
}

fn thousands(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2}M", v / 1e6),
        v if v >= 1e4 => format!("{:.1}k", v / 1e3),
        v => format!("{v:.0}"),
    }
}

/// `0:07`, `12:30`, `3:05:00`.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

fn bar(length: u64, template: &str) -> ProgressBar {
    ProgressBar::new(length).with_style(style(template))
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are constants, and tested").progress_chars("━━╌")
}

/// How much of some files is read: a bar on a terminal, elsewhere a line every few seconds.
pub struct Reading {
    bar: Option<ProgressBar>,
    printed: Mutex<Instant>,
    mode: Mode,
}

impl Reading {
    /// A bar on standard error, or none where it is `quiet`.
    pub fn new(quiet: bool) -> Self {
        let mode = if quiet { Mode::Silent } else { Mode::detect() };
        let bar = (mode == Mode::Bars).then(|| bar(0, Room::here().of_bytes()));
        Self { bar, printed: Mutex::new(Instant::now()), mode }
    }

    /// Shows that so many bytes of so many are read, and what came of them.
    pub fn show(&self, bytes: u64, total_bytes: u64, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_length(total_bytes);
            bar.set_position(bytes);
            bar.set_message(what.to_owned());
        }
        let mut printed = lock(&self.printed);
        if self.mode == Mode::Lines && printed.elapsed() >= LINE_EVERY {
            *printed = Instant::now();
            say(format!("{} of {} read  {what}", megabytes(bytes), megabytes(total_bytes)).trim_end());
        }
    }

    /// Takes it off the screen.
    pub fn finish(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// A closed standard error ends no run.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::record::tests::record;

    #[test]
    fn a_step_reads_as_one_line() {
        let with_teacher =
            status(&record(9), Some(&StepRecord { held_out_loss: Some(4.125), ..record(8) }), Some(Duration::from_secs(83)));
        insta::assert_snapshot!(with_teacher, @"loss 4.500 (hard 4.000, soft 0.500) · 12.3k tokens/s · held-out 4.125 · 1:23 left");
        let alone = StepRecord { loss_soft: None, tokens_per_s: 950.4, ..record(0) };
        insta::assert_snapshot!(status(&alone, None, None), @"loss 4.500 · 950 tokens/s");
    }

    #[test]
    fn time_left_leaves_out_the_first_steps_compilation_and_what_was_resumed() {
        let (start, mut pace) = (Instant::now(), Pace::new(100));
        pace.count(51, start);
        assert_eq!(pace.left(), None);
        pace.count(61, start + Duration::from_secs(20));
        assert_eq!(pace.left(), Some(Duration::from_secs(78)));
        pace.count(120, start + Duration::from_secs(30));
        assert_eq!(pace.left(), Some(Duration::ZERO));
    }

    #[test]
    fn a_study_counts_found_cells_as_done_but_not_as_work() {
        let mut cells = Cells::new(10);
        let now = cells.started + Duration::from_secs(90);
        insta::assert_snapshot!(cells.line(now), @"0 of 10 runs done · 1:30 elapsed");
        ["a", "b", "c", "d"].into_iter().for_each(|name| cells.end(name, true));
        cells.under_way("e", 1.0);
        cells.end("e", false);
        cells.under_way("f", 0.5);
        insta::assert_snapshot!(cells.line(now), @"5 of 10 runs done (4 found) · 1:30 elapsed · about 4:30 left");
    }

    #[test]
    fn time_left_goes_by_the_work_of_the_cells_that_were_told() {
        let mut cells = Cells::new(0);
        let now = cells.started + Duration::from_secs(60);
        cells.expect([("teacher", 1.0), ("a", 4.0), ("b", 4.0), ("c", 1.0)].map(|(name, work)| (name.to_owned(), work)));
        cells.end("c", true);
        cells.end("teacher", false);
        cells.under_way("a", 0.25);
        insta::assert_snapshot!(cells.line(now), @"2 of 4 runs done (1 found) · 1:00 elapsed · about 3:30 left");
    }

    #[test]
    fn a_narrow_terminal_is_shown_what_fits() {
        let of = |columns| Room::of(Some(columns));
        assert_eq!([of(20), of(39), of(40), of(71), of(72)], [Room::Little, Room::Little, Room::Some, Room::Some, Room::Enough]);
        assert_eq!(Room::of(None), Room::Enough);
        for room in [Room::Little, Room::Some, Room::Enough] {
            drop([style(room.of_run()), style(room.of_bytes())]);
        }
        let line = format!("526/600 {}", short(&record(525), Some(Duration::from_secs(83))));
        assert_eq!((line.as_str(), line.len() <= 20), ("526/600 4.50 1:23", true));
        let cells = Cells::new(10);
        assert_eq!(cells.short(cells.started + Duration::from_secs(90)), "0/10 runs 1:30");
    }

    #[test]
    fn a_notebook_and_a_dumb_terminal_are_given_lines() {
        assert!(cfg!(windows) || !can_move_its_cursor("dumb") && !can_move_its_cursor(""));
        assert!(can_move_its_cursor("xterm-256color"));
        let only = |name: &'static str, value: &'static str| move |asked: &str| if asked == name { value } else { "" }.to_owned();
        assert!(is_notebook(only("JPY_PARENT_PID", "7")));
        assert!(is_notebook(only("MPLBACKEND", "module://matplotlib_inline.backend_inline")));
        assert!(!is_notebook(only("MPLBACKEND", "agg")) && !is_notebook(only("TERM", "xterm")));
    }

    #[test]
    fn bars_build_and_silence_is_silent() {
        let console = Console::of(Mode::Bars, Some(2));
        let mut progress = console.run("teacher", 10, 0);
        progress.show(&record(0));
        progress.finish("done");
        console.cell_done("teacher", false);
        console.finish();
        let mut silent = Console::silent().run("alone", 10, 0);
        silent.show(&record(0));
        assert!(silent.printed.is_none());
    }

    #[test]
    fn clocks() {
        let times = [0, 7, 750, 11_100].map(|s| clock(Duration::from_secs(s)));
        assert_eq!(times, ["0:00", "0:07", "12:30", "3:05:00"]);
    }
}
