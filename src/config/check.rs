//! What can't be, in a plan: each check adds to one list, so that all is said at once.

use super::batch_rows::MOST_CHANGING_STEPS;
use super::check_sizes::sizes;
use super::facts::{Facts, TeacherFacts};
use super::keys::{self, KEYS};
use super::mistakes::Mistakes;
use super::plan::*;
use super::schedule::number;
use super::shape::{Family, ObjectiveKind, Shape, Size};
use super::{RunFile, Schedule};
use super::{answers, check_features, check_listening, check_models};
use crate::words::bytes_text;

/// What a plan's file and the schedules' arithmetic hold exactly.
const MOST_STEPS: u64 = 1 << 53;

/// Rows of a step and workers of a run: beyond any machine, and far below what would overflow a size.
const MOST_ROWS: usize = 1 << 24;
const MOST_WORKERS: usize = 1 << 10;

/// Every mistake: those kept while reading, then those of the values, then those against the facts.
pub(super) fn check(file: &RunFile, plan: &Plan, facts: &Facts) -> Mistakes {
    let mut out = file.mistakes.clone();
    file.out_of_bounds(&mut out);
    method(file, plan, &mut out);
    match file.method() {
        Some(Method::Cotrain) => check_models::models(file, plan, &mut out),
        method => {
            sizes(file, "model.", &plan.model.shape, &mut out);
            method.into_iter().for_each(|method| check_models::refuse(file, method, &mut out));
        }
    }
    program(file, plan, &mut out);
    sizes_of_others(file, plan, &mut out);
    data(file, plan, facts, &mut out);
    masking(file, plan, &mut out);
    distill(plan, &mut out);
    check_listening::divergence(file, plan, &mut out);
    check_listening::gate(file, plan, &mut out);
    check_listening::fade(file, plan, &mut out);
    check_features::features(file, plan, &mut out);
    train(file, plan, &mut out);
    runtime(plan, &mut out);
    if let Some(found) = &facts.teacher {
        match found {
            Ok(found) => {
                fits("teacher.from", plan, found, facts, &mut out);
                starts(file, plan, found, &mut out);
            }
            Err(error) => out.add("teacher.from", error.to_string(), "name a run directory or a Hugging Face folder"),
        }
    }
    ensemble(file, plan, facts, &mut out);
    if let (Some(found), Ok(_)) = (&facts.answers, &facts.data) {
        answers::check(plan, found, &mut out);
    }
    // A memory estimate of a plan that can't be would be noise.
    if out == Mistakes::default() {
        memory(plan, facts.memory_bytes, &mut out);
    }
    out
}

fn method(file: &RunFile, plan: &Plan, out: &mut Mistakes) {
    match file.method() {
        None if out.names("method") || out.names("preset") => {}
        None => out.add("method", "is missing", "write method = \"dwt\" or \"standalone\", or preset = \"dwt-normal\""),
        Some(Method::Dwt) if plan.teacher.is_none() && !out.names("teacher.from") => {
            out.add(
                "teacher.from",
                "a dwt run needs a teacher",
                "write [teacher] from = \"runs/...\", or method = \"standalone\"",
            );
        }
        Some(Method::Standalone) => {
            for key in ["teacher.from", "teacher.command", "teacher.timeout_s"] {
                if file.has_written(key) {
                    out.add(key, "a standalone run has no teacher", "remove it, or write method = \"dwt\"");
                }
            }
            for key in keys::section(KEYS, "distill").into_iter().filter(|key| !["hard", "label_smoothing"].contains(key)) {
                let path = format!("distill.{key}");
                if file.has_written(&path) {
                    out.add(&path, "a standalone run has no soft loss", "remove it, or write method = \"dwt\"");
                }
            }
        }
        Some(Method::Dwt | Method::Cotrain) => {}
        Some(Method::Transfer) => {
            out.add(
                "method",
                "a transfer run's keys are others: --set and presets don't make one",
                "write method = \"transfer\" in the file",
            );
        }
    }
}

/// Sizes that are written, and that no model of the run has.
fn sizes_of_others(file: &RunFile, plan: &Plan, out: &mut Mistakes) {
    let families: Vec<Family> = plan.learners().iter().map(|learner| learner.model.shape.family()).collect();
    for path in file.written_paths() {
        let Some(size) = path.strip_prefix("model.") else { continue };
        if let Some(of) = Family::of_size(size).filter(|_| !families.iter().any(|family| family.has_size(size))) {
            let found = families.first().copied().unwrap_or_default();
            out.add(
                path,
                format!("is a size of {of}, and the model is a {found}"),
                format!("remove it, or write family = \"{of}\""),
            );
        }
    }
}

fn data(file: &RunFile, plan: &Plan, facts: &Facts, out: &mut Mistakes) {
    let length = plan.data.length;
    let named = file.text("data.shards").is_some();
    match &facts.data {
        _ if !named && out.names("data.shards") => {}
        _ if !named => out.add("data.shards", "is missing", "write a folder made by `upstill data build`, or \"pocket\""),
        Err(error) => out.add("data.shards", error.to_string(), "make the shards with `upstill data build`, or write \"pocket\""),
        Ok(found) if found.sentences == 0 || found.rows_per_epoch == 0 => {
            out.add("data.shards", "no sentence to train on", "build the shards from more text");
        }
        Ok(found) if found.held_out_sentences == 0 => {
            out.add("data.shards", "no sentence held out", "build the shards from more text, or hold out a larger share");
        }
        Ok(_) => {}
    }
    let positions = plan.model.shape.max_positions();
    if length > positions && positions > 0 {
        let what = format!("is {length}, but the student has model.max_positions = {positions}");
        out.add("data.length", what, "shorten the rows or raise max_positions");
    }
}

/// What is hidden from a model, and that nothing is of a causal one.
fn masking(file: &RunFile, plan: &Plan, out: &mut Mistakes) {
    if plan.objective() == ObjectiveKind::Causal {
        let family = plan.model.shape.family();
        let of_masks = ["data.mask_rate", "data.held_out_mask_rate", "data.whole_word", "data.rarity"];
        for key in of_masks.into_iter().filter(|key| file.has_written(key)) {
            let what = format!("is of masked language models, and a {family} predicts every token from those before it");
            out.add(key, what, "remove it");
        }
        if file.has_written("distill.positions") {
            let what = format!("is of masked language models: of a {family} every token is asked, and listens");
            out.add("distill.positions", what, "remove it");
        }
        return;
    }
    if plan.data.mask_schedule.is_some() && file.try_number("data.held_out_mask_rate").is_none() {
        let what = "is missing, and mask_rate changes: held-out rows are masked alike throughout a run";
        out.add("data.held_out_mask_rate", what, "write held_out_mask_rate = 0.15, or another share");
    }
}

fn distill(plan: &Plan, out: &mut Mistakes) {
    let DistillPlan { hard, soft, .. } = &plan.distill;
    let zero = |weight: &Schedule| weight.as_constant() == Some(0.0);
    if zero(hard) && zero(soft) && plan.distill.features().next().is_none() && plan.method != Method::Cotrain {
        out.add("distill.hard", "no weight is ever above 0: there is nothing to learn", "write hard = 1.0");
    }
    if plan.distill.start != Start::Fresh && plan.teacher.as_ref().is_some_and(|teacher| teacher.from == UNIFORM) {
        out.add("distill.start", "the uniform teacher has no layers to start from", "write start = \"fresh\"");
    }
}

/// A teacher that is a program.
fn program(file: &RunFile, plan: &Plan, out: &mut Mistakes) {
    let Some(timeout_s) = plan.teacher.as_ref().and_then(|teacher| teacher.timeout_s) else {
        if file.has_written("teacher.timeout_s") && file.method() != Some(Method::Standalone) {
            out.add("teacher.timeout_s", "is for a program, and there is none", "remove it, or write teacher.command");
        }
        return;
    };
    if file.has_written("teacher.from") {
        out.add("teacher.command", "is given together with teacher.from", "write one of them");
    }
    if !(timeout_s > 0.0 && timeout_s <= 1e6) {
        out.add("teacher.timeout_s", format!("is {}", number(timeout_s)), "write a number above 0 and up to 1000000");
    }
    if plan.distill.start == Start::Remap {
        out.add("distill.start", "a program has no layers to start from", "write start = \"fresh\"");
    }
}

/// Rows of a step: whole numbers, and steps that are counted, where they change.
fn batch(file: &RunFile, plan: &Plan, out: &mut Mistakes) {
    let (train, rows) = (&plan.train, file.schedule("train.batch"));
    let lowest = rows.bounds().0;
    if train.batch > MOST_ROWS {
        out.add("train.batch", format!("is {}", train.batch), format!("write at most {MOST_ROWS}"));
    }
    let Some(rows) = &train.batch_schedule else {
        if lowest < 1.0 {
            out.add("train.batch", format!("is {}", number(lowest)), "write 1 or more");
        } else if lowest.fract() != 0.0 {
            out.add("train.batch", format!("is {}", number(lowest)), "write a whole number of rows");
        }
        return;
    };
    let workers = plan.runtime.workers.max(1);
    if lowest.round() < 1.0 {
        out.add("train.batch", format!("goes down to {}", number(lowest)), "write 1 or more");
    } else if lowest.round() < workers as f64 {
        let what = format!("goes down to {}, and runtime.workers = {workers} each take a row at least", number(lowest));
        out.add("train.batch", what, "write more rows, or fewer workers");
    }
    if file.try_whole("train.steps").is_none() {
        out.add("train.batch", "changes, so that train.epochs doesn't say how many steps there are", "write train.steps");
    } else if rows.settles_at(train.steps) > MOST_CHANGING_STEPS {
        let what = format!("still changes after {MOST_CHANGING_STEPS} steps");
        out.add("train.batch", what, format!("let it reach its last value earlier: `over {MOST_CHANGING_STEPS} steps`"));
    }
}

fn train(file: &RunFile, plan: &Plan, out: &mut Mistakes) {
    let train = &plan.train;
    if file.has_written("train.steps") && file.has_written("train.epochs") {
        out.add("train.steps", "is given together with train.epochs", "write one of them");
    } else if train.steps > MOST_STEPS {
        out.add("train.epochs", format!("comes to more than {MOST_STEPS} steps"), "write fewer epochs");
    } else if !file.has_written("train.steps") && plan.data.rows_per_epoch > 0 && file.number("train.epochs") > 0.0 {
        let rows = file.number("train.epochs") * plan.data.rows_per_epoch as f64;
        if rows < 1.0 {
            let epochs = number(file.number("train.epochs"));
            let what = format!("{epochs} is less than one of the {} rows of an epoch", plan.data.rows_per_epoch);
            out.add("train.epochs", what, "write a larger number, or train.steps");
        }
    }
    batch(file, plan, out);
    if train.steps > 0 {
        let DistillPlan { hard, soft, temperature, .. } = &plan.distill;
        let always =
            [("train.lr", &train.lr), ("distill.hard", hard), ("distill.soft", soft), ("distill.temperature", temperature)];
        let rates = plan.data.mask_schedule.as_ref().map(|rates| ("data.mask_rate", rates));
        let rows = train.batch_schedule.as_ref().map(|rows| ("train.batch", rows));
        let features = plan.distill.features().map(|(kind, weight)| (kind.keys().0, weight));
        for (key, schedule) in always.into_iter().chain(features).chain(rates).chain(rows) {
            if let Err(error) = schedule.fits(train.steps) {
                out.add(key, error.what(), "make the piece shorter or the run longer; `over 5%` follows the run's length");
            }
        }
    }
}

fn runtime(plan: &Plan, out: &mut Mistakes) {
    let RuntimePlan { micro_batch, workers, .. } = plan.runtime;
    if micro_batch > plan.train.batch {
        let what = format!("is {micro_batch}, more than train.batch = {}", plan.train.batch);
        out.add("runtime.micro_batch", what, format!("write {} or less", plan.train.batch));
    }
    if workers > MOST_WORKERS {
        out.add("runtime.workers", format!("is {workers}"), format!("write at most {MOST_WORKERS}"));
    } else if workers > plan.train.batch && plan.train.batch > 0 {
        let what = format!("is {workers}, but train.batch = {}, and each takes a row at least", plan.train.batch);
        out.add("runtime.workers", what, format!("write {} or less, or a larger train.batch", plan.train.batch));
    }
}

/// The other teachers of an ensemble.
fn ensemble(file: &RunFile, plan: &Plan, facts: &Facts, out: &mut Mistakes) {
    let names = file.ensemble();
    let Some(first) = plan.teacher.as_ref() else {
        if let (Some(name), false) = (names.first(), plan.method == Method::Dwt) {
            let fix = "name one of them in [teacher] from, or remove [teachers]";
            out.add(&format!("teachers.{name}"), "is of an ensemble, and there is no first teacher", fix);
        }
        return;
    };
    if names.is_empty() && file.has_written("teacher.weight") {
        out.add("teacher.weight", "is of an ensemble, and there is one teacher", "remove it, or write [teachers.NAME] from");
    }
    if let (Some(name), Some(what)) = (names.first(), first.no_model()) {
        let what = format!("an ensemble is of models in memory, and the first teacher is {what}");
        let fix = "name a model in teacher.from, or remove [teachers]";
        return out.add(&format!("teachers.{name}"), what, fix);
    }
    for name in names {
        let key = format!("teachers.{name}.from");
        match facts.others.iter().find(|(found, _)| found == name) {
            Some((_, Ok(found))) => fits(&key, plan, found, facts, out),
            Some((_, Err(error))) => out.add(&key, error.to_string(), "name a run directory or a Hugging Face folder"),
            None if file.text(&key).is_none() => out.add(&key, "is missing", "name a run directory or a Hugging Face folder"),
            None => out.add(&key, "can't be looked up here", "remove it"),
        }
    }
}

/// Whether a teacher, which `key` names, can be asked about the run's rows.
fn fits(key: &str, plan: &Plan, found: &TeacherFacts, facts: &Facts, out: &mut Mistakes) {
    let (own, theirs) = (plan.model.shape.family(), found.shape.family());
    if own.objective() != theirs.objective() {
        let of = |family: Family| match family.objective() {
            ObjectiveKind::Masked => "predicts masked tokens",
            ObjectiveKind::Causal => "predicts the next token",
        };
        let what = format!("the teacher is a {theirs}, which {}, and the model a {own}, which {}", of(theirs), of(own));
        out.add(key, what, format!("name another teacher, or write [model] family = \"{theirs}\""));
    } else if !found.has_head {
        match own.objective() {
            ObjectiveKind::Masked => out.add(
                key,
                "the teacher has no masked-language-model head",
                "name a model pre-trained by masked language modelling",
            ),
            ObjectiveKind::Causal => out.add(key, "the teacher has no language-model head", "name a model that predicts tokens"),
        }
    }
    let positions = found.shape.max_positions();
    if positions < plan.data.length {
        let what = format!("the teacher takes rows of at most {positions} tokens, but data.length = {}", plan.data.length);
        out.add("data.length", what, format!("write {positions} or less"));
    }
    if let Ok(data) = &facts.data
        && (found.shape.vocab_size() != data.vocab_size || found.tokenizer_hash != data.tokenizer_hash)
    {
        vocabulary(key, found, data.vocab_size, out);
    }
}

/// Whether a student can start from its teacher as the plan says.
fn starts(file: &RunFile, plan: &Plan, found: &TeacherFacts, out: &mut Mistakes) {
    if plan.distill.start == Start::Remap && plan.method == Method::Dwt {
        remap(&plan.model.shape, &found.shape, out);
    }
    if plan.distill.start == Start::Continue && plan.method == Method::Dwt {
        goes_on(file, &found.shape, out);
    }
}

fn vocabulary(key: &str, found: &TeacherFacts, vocab_size: usize, out: &mut Mistakes) {
    let mut what = "the teacher's vocabulary is not the data's".to_owned();
    let rows = found.shape.vocab_size();
    if rows != vocab_size {
        what += &format!(": {rows} tokens, not {vocab_size}");
    }
    for (id, in_data, in_teacher) in &found.first_differing_tokens {
        what += &format!("\n  id {id}: `{in_data}` in the data, `{in_teacher}` in the teacher");
    }
    if found.first_differing_tokens.is_empty() && rows == vocab_size {
        what += ": the tokens are the same, but not the text normalisation";
    }
    out.add(key, what, "build the shards with the teacher's own tokenizer: `upstill data build --tokenizer TEACHER ...`");
}

/// Remapping copies whole layers and tables: every size must be the teacher's; only the number of layers may differ.
fn remap(student: &Shape, teacher: &Shape, out: &mut Mistakes) {
    let (own, theirs) = (student.family(), teacher.family());
    if own != theirs {
        let what = format!("start = \"remap\" copies the teacher's layers, and the teacher is a {theirs}, the student a {own}");
        return out.add("distill.start", what, format!("write start = \"fresh\", or [model] family = \"{theirs}\""));
    }
    for (own, theirs) in student.keys().into_iter().zip(teacher.keys()).filter(|(own, _)| own.key != "layers") {
        let (key, student, teacher) = (own.key, own.value, theirs.value);
        if student != teacher {
            let what = format!(
                "start = \"remap\" copies the teacher's layers, but {key} is {student} here and {teacher} in the teacher"
            );
            out.add(&format!("model.{key}"), what, format!("write {key} = {teacher}, or start = \"fresh\""));
        }
    }
}

/// A model that goes on has the sizes that it has: what is written must be they.
fn goes_on(file: &RunFile, teacher: &Shape, out: &mut Mistakes) {
    let family = file.word("model.family", Family::from_word, teacher.family());
    if file.has_written("model.family") && family != teacher.family() {
        let what = format!("start = \"continue\" takes the teacher as it is, and it is a {}", teacher.family());
        out.add("model.family", what, "remove it");
    }
    for Size { key, value, .. } in teacher.keys() {
        let path = format!("model.{key}");
        let written = file.size(&path).filter(|_| file.has_written(&path));
        if let Some(written) = written.filter(|written| *written != value) {
            let what = format!("start = \"continue\" takes the teacher as it is, and {key} is {written} here and {value} there");
            out.add(&path, what, "remove it");
        }
    }
}

fn memory(plan: &Plan, known: Option<u64>, out: &mut Mistakes) {
    let (Some(known), estimate) = (known, plan.estimate()) else { return };
    let batches = plan.batches_bytes();
    if batches > known {
        let what = format!(
            "the batches of {} rows that are prepared ahead take {}, but the machine has {}",
            plan.train.batch,
            bytes_text(batches),
            bytes_text(known)
        );
        return out.add("train.batch", what, "write a smaller batch");
    }
    let needed = estimate.memory.total();
    if needed <= known {
        return;
    }
    let what = format!("rows at once need about {}, but the device has {}", bytes_text(needed), bytes_text(known));
    let fits = Some(plan.rows_in(known)).filter(|rows| *rows > 0);
    let fix = fits.map_or_else(
        || "not even one row fits: make the model or data.length smaller, or use another device".into(),
        |rows| format!("write micro_batch = {rows} or less; the result stays the same"),
    );
    out.add("runtime.micro_batch", format!("{} {what}", plan.rows_at_once()), fix);
}
