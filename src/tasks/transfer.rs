//! A labelled task with few labels and much text (Mukherjee and Awadallah 2019, section 6.1): labelled rows, a transfer
//! set whose type has no place for a label, and a test set that neither training nor selection sees.

use std::collections::HashSet;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::{Example, Kind, Label, Split, Task};
use crate::error::{Error, Result};
use crate::text::pocket::grammar::below;

/// A text or a pair, without a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Unlabelled {
    /// The text, or the pair's first.
    pub first: String,
    /// The pair's second.
    pub second: Option<String>,
}

impl From<&Example> for Unlabelled {
    /// The text alone: the label stays behind.
    fn from(example: &Example) -> Self {
        Self { first: example.first.clone(), second: example.second.clone() }
    }
}

impl Unlabelled {
    /// An example whose label is hidden, for code that reads both.
    pub fn hidden(&self) -> Example {
        Example { first: self.first.clone(), second: self.second.clone(), label: Label::Hidden }
    }
}

/// A task divided.
#[derive(Debug, Clone, PartialEq)]
pub struct TransferTask {
    /// The task's name.
    pub name: String,
    /// Its classes.
    pub classes: Vec<String>,
    /// Whether texts come in pairs.
    pub pair: bool,
    /// Labelled rows to learn from.
    pub labelled: Vec<Example>,
    /// Labelled rows that early stopping looks at.
    pub labelled_validation: Vec<Example>,
    /// Text for the teacher to label.
    pub transfer: Vec<Unlabelled>,
    /// Text for the teacher to label, that early stopping looks at.
    pub transfer_validation: Vec<Unlabelled>,
    /// Scored at the end, once.
    pub test: Split,
    /// What a reader of the scores should know.
    pub notes: Vec<String>,
}

/// How a task is divided.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitOptions {
    /// Labelled rows of each class, those for validation included; none keeps all labels.
    pub per_class: Option<usize>,
    /// Share of the labelled rows, and of the transfer set, that is for validation; 0.1 in the paper.
    pub validation: f64,
    /// Transfer rows at most; none takes all.
    pub transfer: Option<usize>,
    /// Test rows at most, drawn from all of them; none takes all.
    pub test: Option<usize>,
    /// Draws who is who.
    pub seed: u64,
}

/// Divides a task: its dev splits are the test set; of its training rows `per_class` of each class keep their labels,
/// and the others join `unlabelled` in the transfer set. Rows whose text is in the test set are left out, and counted
/// in the notes.
///
/// # Errors
/// For a regression, a class with too few rows, a training row with a hidden label, no test rows, or a validation share
/// outside 0 to 1.
pub fn split_for_transfer(task: &Task, unlabelled: &[Unlabelled], options: &SplitOptions) -> Result<TransferTask> {
    let Kind::Classification { classes } = &task.kind else {
        return Err(Error::new(format!("{} asks for scores, and a teacher's labels are classes", task.name))
            .help("choose a task with classes"));
    };
    if !(0.0..1.0).contains(&options.validation) || options.validation == 0.0 {
        return Err(Error::new(format!("the validation share is {}", options.validation))
            .help("early stopping needs some: write a number between 0 and 1, such as 0.1"));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut all_test: Vec<Example> = task.dev.iter().flat_map(|split| split.examples.iter().cloned()).collect();
    if all_test.is_empty() {
        return Err(Error::new(format!("{} has no examples to score", task.name)).help("give a file with labelled rows"));
    }
    // Of all test rows, also of those that are not scored.
    let tested: HashSet<Unlabelled> = all_test.iter().map(Unlabelled::from).collect();
    if let Some(most) = options.test {
        shuffle(&mut all_test, &mut rng);
        all_test.truncate(most);
    }
    let mut notes = task.notes.clone();
    let mut left_out = 0;
    let mut is_free = |text: &Unlabelled| {
        let free = !tested.contains(text);
        left_out += usize::from(!free);
        free
    };
    let mut train: Vec<&Example> = task.train.iter().filter(|example| is_free(&Unlabelled::from(*example))).collect();
    let unlabelled: Vec<&Unlabelled> = unlabelled.iter().filter(|text| is_free(text)).collect();
    if left_out > 0 {
        notes.push(format!("left out of training because their text is in the test set: {left_out}"));
    }
    shuffle(&mut train, &mut rng);

    let (mut labelled, mut labelled_validation, mut transfer) = (Vec::new(), Vec::new(), Vec::new());
    for (class, name) in classes.iter().enumerate() {
        let of_class: Vec<&Example> = train.iter().copied().filter(|example| example.label == Label::Class(class)).collect();
        let wanted = options.per_class.unwrap_or(of_class.len());
        if wanted < 2 || wanted > of_class.len() {
            return Err(Error::new(format!(
                "{wanted} labelled rows of the class {name:?} are wanted, and there are {} (2 at least: one to learn from, one for validation)",
                of_class.len()
            ))
            .help("write another data.per_class, or give more labelled rows"));
        }
        let held = ((wanted as f64 * options.validation).round() as usize).clamp(1, wanted - 1);
        let (kept, rest) = of_class.split_at(wanted);
        labelled_validation.extend(kept[..held].iter().map(|&example| example.clone()));
        labelled.extend(kept[held..].iter().map(|&example| example.clone()));
        transfer.extend(rest.iter().map(|&example| Unlabelled::from(example)));
    }
    if let Some(row) = train.iter().find(|example| !matches!(example.label, Label::Class(class) if class < classes.len())) {
        return Err(Error::new(format!("a training row of {} has no label: {:?}", task.name, row.first))
            .help("rows without labels belong in the unlabelled file"));
    }
    transfer.extend(unlabelled.into_iter().cloned());
    shuffle(&mut labelled, &mut rng);
    shuffle(&mut transfer, &mut rng);
    transfer.truncate(options.transfer.unwrap_or(usize::MAX));
    let held = match transfer.len() {
        0 | 1 => 0,
        n => ((n as f64 * options.validation).round() as usize).clamp(1, n - 1),
    };
    let transfer_validation = transfer.split_off(transfer.len() - held);
    Ok(TransferTask {
        name: task.name.clone(),
        classes: classes.clone(),
        pair: task.pair,
        labelled,
        labelled_validation,
        transfer,
        transfer_validation,
        test: Split { name: "test".to_owned(), examples: all_test },
        notes,
    })
}

fn shuffle<T>(rows: &mut [T], rng: &mut ChaCha8Rng) {
    for at in (1..rows.len()).rev() {
        rows.swap(at, below(rng, at + 1));
    }
}

impl TransferTask {
    /// The labelled rows as a task for fine-tuning a teacher: it is scored on the validation rows. The test set is not
    /// in it.
    pub fn labelled_task(&self) -> Task {
        Task {
            name: self.name.clone(),
            kind: Kind::Classification { classes: self.classes.clone() },
            pair: self.pair,
            metrics: vec![super::Metric::Accuracy],
            train: self.labelled.clone(),
            dev: vec![Split { name: "dev".to_owned(), examples: self.labelled_validation.clone() }],
            test: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Every transfer row: those to learn from, then those for validation.
    pub fn all_transfer(&self) -> impl Iterator<Item = &Unlabelled> {
        self.transfer.iter().chain(&self.transfer_validation)
    }

    /// BLAKE3 of all that is learnt from and scored.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let labelled = [("labelled", &self.labelled), ("validation", &self.labelled_validation), ("test", &self.test.examples)];
        for (what, row) in labelled.iter().flat_map(|(what, rows)| rows.iter().map(move |row| (what, row))) {
            hasher.update(format!("{what} {row:?}").as_bytes());
        }
        let texts = [("transfer", &self.transfer), ("transfer validation", &self.transfer_validation)];
        for (what, row) in texts.iter().flat_map(|(what, rows)| rows.iter().map(move |row| (what, row))) {
            hasher.update(format!("{what} {row:?}").as_bytes());
        }
        hasher.finalize().to_hex()[..16].to_owned()
    }
}
