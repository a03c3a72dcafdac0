//! A transfer run's task and texts: a pocket task, or files.

use std::path::Path;

use crate::config::{TransferData, TransferPlan};
use crate::error::{Error, IoContext, Result};
use crate::model::ModelFolder;
use crate::tasks::{
    Example, Label, PocketSizes, SplitOptions, TableSpec, Task, TransferTask, Unlabelled, draw_pocket_task, pocket_names,
    split_for_transfer, table_task,
};
use crate::text::{ReadOptions, Reader, Wanted, find, read_rows};

/// Pocket texts to draw: labelled ones to choose from, test rows, and unlabelled text.
const POCKET: PocketSizes = PocketSizes { train: 4000, dev: 1000 };
const POCKET_UNLABELLED: usize = 6000;

/// Reads and divides a run's task; `seed` draws who keeps a label.
///
/// # Errors
/// As the files and [`split_for_transfer`] say.
pub fn transfer_task(data: &TransferData, seed: u64) -> Result<TransferTask> {
    let (task, unlabelled) = match (&data.train, &data.test) {
        (Some(train), Some(test)) => (of_files(data, train, test)?, read_unlabelled(data)?),
        _ => of_pocket(&data.task)?,
    };
    let most = |rows: usize| (rows > 0).then_some(rows);
    let options = SplitOptions {
        per_class: most(data.per_class),
        validation: data.validation,
        transfer: most(data.transfer),
        test: most(data.test_rows),
        seed,
    };
    split_for_transfer(&task, &unlabelled, &options)
}

/// What the paths of a plan hold, for [`TransferPlan::hash`]: rows, word vectors, and the teacher's and the student's
/// weights.
///
/// # Errors
/// When one can't be read.
pub fn transfer_contents(plan: &TransferPlan, task: &TransferTask) -> Result<String> {
    let mut text = task.fingerprint();
    let folders = plan.teacher.iter().map(|teacher| &teacher.from).chain(&plan.model.from);
    for folder in folders {
        text += &ModelFolder::open(Path::new(folder))?.tensors()?.hash();
    }
    if let Some(path) = &plan.model.glove {
        text += blake3::hash(&std::fs::read(path).doing("read", path)?).to_hex().as_str();
    }
    Ok(text)
}

/// A pocket task, and text of the language at large (its test sentences left out): as a transfer set is in-domain text
/// that nobody labelled, it holds all of the language's words, as the test set does.
fn of_pocket(name: &str) -> Result<(Task, Vec<Unlabelled>)> {
    if !pocket_names().contains(&name) {
        return Err(Error::new(format!("there is no pocket task {name:?}, and no files are named"))
            .help(format!("one of: {}; or write data.train and data.test", pocket_names().join(", "))));
    }
    let task = draw_pocket_task(name, 0, POCKET)?;
    let more = draw_pocket_task(name, 1, PocketSizes { train: 0, dev: POCKET_UNLABELLED })?;
    let unlabelled = more.dev.iter().flat_map(|split| &split.examples).map(Unlabelled::from).collect();
    Ok((task, unlabelled))
}

fn of_files(data: &TransferData, train: &str, test: &str) -> Result<Task> {
    table_task(&TableSpec {
        name: data.task.clone(),
        train: train.into(),
        dev: test.into(),
        test: None,
        text: data.text.clone(),
        text2: data.text2.clone(),
        label: data.label.clone(),
        regression: false,
        metrics: Vec::new(),
        skip_empty: true,
        read: ReadOptions::default(),
    })
}

/// Texts without labels: of a table the columns of the text (a column of labels is not read), of a text file the lines.
fn read_unlabelled(data: &TransferData) -> Result<Vec<Unlabelled>> {
    let Some(path) = &data.unlabelled else { return Ok(Vec::new()) };
    let is_table = [".tsv", ".csv", ".json", ".parquet"].iter().any(|ending| path.contains(ending));
    let mut out = Vec::new();
    if is_table {
        let columns: Vec<String> = std::iter::once(&data.text).chain(&data.text2).cloned().collect();
        let wanted = Wanted { columns: &columns, help: "name it with data.text" };
        let rows = read_rows(Path::new(path), true, &wanted, &ReadOptions::default())?;
        for row in rows {
            let mut fields = row.fields.into_iter();
            let first = fields.next().flatten().unwrap_or_default();
            out.push(Unlabelled { first, second: fields.next().flatten() });
        }
    } else {
        if data.text2.is_some() {
            return Err(Error::new("pairs of texts are read from a table").at(path).help("give a .tsv with both columns"));
        }
        for document in Reader::new(find(std::slice::from_ref(path))?, ReadOptions::default()) {
            let document = document?;
            out.extend(document.sentences(true).into_iter().map(|line| Unlabelled { first: line.to_owned(), second: None }));
        }
    }
    out.retain(|text| !text.first.trim().is_empty());
    Ok(out)
}

/// The class of an example of a divided task.
pub(super) fn class(example: &Example) -> usize {
    match example.label {
        Label::Class(class) => class,
        _ => unreachable!("labelled and test rows have classes"),
    }
}
