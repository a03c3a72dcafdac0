//! What a transfer run file can't mean.

use super::{EncoderKind, Targets, TokenKind, TransferModel, TransferPlan};
use crate::config::RunFile;
use crate::config::mistakes::Mistakes;

/// All that is wrong with a run file and the plan that it comes to.
pub(super) fn mistakes(file: &RunFile, plan: &TransferPlan) -> Mistakes {
    let mut out = file.mistakes.clone();
    file.out_of_bounds(&mut out);
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
    if train.batch == 1 && distill.targets != Targets::None {
        out.add("train.batch", "is 1, and half of a batch is labelled", "write 2 or more");
    }
    if model.encoder != EncoderKind::BiLstm {
        transformer(model, &mut out);
    }
    if distill.alpha == 0.0 && (distill.targets != Targets::Soft || distill.beta == 0.0 && distill.gamma == 0.0) {
        out.add("distill.alpha", "is 0: there is nothing to learn", "write alpha = 10.0");
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

/// What a student of attention layers can't have.
fn transformer(model: &TransferModel, out: &mut Mistakes) {
    if model.heads > 0 && !model.hidden.is_multiple_of(model.heads) {
        out.add(
            "model.heads",
            format!("{} heads do not divide the width, model.hidden = {}", model.heads, model.hidden),
            "write another number of heads",
        );
    }
    if model.encoder == EncoderKind::ModernBert && model.heads > 0 && model.hidden / model.heads % 2 == 1 {
        out.add(
            "model.heads",
            format!("{} heads are {} wide each, and positions turn pairs of numbers", model.heads, model.hidden / model.heads),
            "write a number that leaves an even width",
        );
    }
    if model.tokens == TokenKind::Words {
        out.add(
            "model.tokens",
            format!("a student with model.encoder = \"{}\" reads the teacher's pieces", model.encoder),
            "write tokens = \"pieces\"",
        );
    }
    if model.glove.is_some() {
        out.add("model.glove", "word vectors are for a BiLSTM student", "leave it out");
    }
}
