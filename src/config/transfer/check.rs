//! What a transfer run file can't mean.

use super::{EncoderKind, Targets, TokenKind, TransferModel, TransferPlan};
use crate::config::RunFile;
use crate::config::mistakes::Mistakes;
use crate::config::schedule::number;

/// All that is wrong with a run file and the plan that it comes to.
pub(super) fn mistakes(file: &RunFile, plan: &TransferPlan) -> Mistakes {
    let mut out = file.mistakes.clone();
    let TransferPlan { model, teacher, data, distill, train, .. } = plan;
    let needs_teacher = distill.targets != Targets::None || model.tokens == TokenKind::Pieces;
    if teacher.is_none() && needs_teacher && !out.names("teacher.from") {
        out.add(
            "teacher.from",
            "is missing: the student takes its targets or its tokens from a teacher",
            "name a fine-tuned classifier's or a pre-trained model's folder; or write targets = \"none\" and tokens = \"words\"",
        );
    }
    if data.task.is_empty() && !out.names("data.task") {
        out.add("data.task", "is missing", "name a pocket task (\"pocket-sentiment\"), or call the files' task something");
    }
    if data.train.is_some() != data.test.is_some() {
        let key = if data.train.is_some() { "data.test" } else { "data.train" };
        out.add(key, "is missing", "files of a task are two at least: data.train and data.test");
    }
    for (key, value) in [
        ("model.words", model.words),
        ("model.hidden", model.hidden),
        ("model.layers", model.layers),
        ("model.heads", model.heads),
        ("model.vocabulary", model.vocabulary),
        ("train.batch", train.batch),
        ("train.rounds", train.rounds as usize),
        ("train.patience", train.patience as usize),
        ("train.round_steps", train.round_steps as usize),
    ] {
        if value == 0 {
            out.add(key, "is 0", "write 1 or more");
        }
    }
    if data.length < 3 {
        out.add("data.length", format!("is {}", data.length), "write 3 or more");
    }
    if train.batch == 1 && distill.targets != Targets::None {
        out.add("train.batch", "is 1, and half of a batch is labelled", "write 2 or more");
    }
    if model.encoder == EncoderKind::Bert {
        bert(model, &mut out);
    }
    for (key, share) in [
        ("model.dropout", model.dropout),
        ("model.input_dropout", model.input_dropout),
        ("model.recurrent_dropout", model.recurrent_dropout),
    ] {
        if !(0.0..1.0).contains(&share) {
            out.add(key, format!("is {}", number(share)), "write a number from 0 to below 1");
        }
    }
    if !(data.validation > 0.0 && data.validation < 1.0) {
        out.add("data.validation", format!("is {}", number(data.validation)), "write a number between 0 and 1, such as 0.1");
    }
    for (key, weight) in [("distill.alpha", distill.alpha), ("distill.beta", distill.beta), ("distill.gamma", distill.gamma)] {
        if weight < 0.0 {
            out.add(key, format!("a weight of {} is negative", number(weight)), "write weights of 0 or more");
        }
    }
    if distill.alpha == 0.0 && (distill.targets != Targets::Soft || distill.beta == 0.0 && distill.gamma == 0.0) {
        out.add("distill.alpha", "is 0: there is nothing to learn", "write alpha = 10.0");
    }
    let rates = [("train.lr", train.lr), ("distill.largest_logit", distill.largest_logit)];
    let tuning = teacher.iter().flat_map(|teacher| [("teacher.lr", teacher.lr), ("teacher.epochs", teacher.epochs)]);
    for (key, value) in rates.into_iter().chain(tuning) {
        if value <= 0.0 {
            out.add(key, format!("is {}", number(value)), "write a number above 0");
        }
    }
    if model.projection == Some(0) && distill.targets == Targets::Soft && distill.beta > 0.0 {
        out.add(
            "model.projection",
            "is 0, and the representation loss wants the teacher's width",
            "leave it out, or write distill.beta = 0.0",
        );
    }
    out
}

fn bert(model: &TransferModel, out: &mut Mistakes) {
    if model.heads > 0 && !model.hidden.is_multiple_of(model.heads) {
        out.add(
            "model.heads",
            format!("{} heads do not divide the width, model.hidden = {}", model.heads, model.hidden),
            "write another number of heads",
        );
    }
    if model.tokens == TokenKind::Words {
        out.add("model.tokens", "a BERT student reads the teacher's pieces", "write tokens = \"pieces\"");
    }
    if model.glove.is_some() {
        out.add("model.glove", "word vectors are for a BiLSTM student", "leave it out");
    }
}
