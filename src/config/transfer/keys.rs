//! The keys of a transfer run file: names, types, defaults, meanings.

use super::{ElementKind, EncoderKind, LogitTargets, Padding, States, Targets, TokenKind, TransferSchedule, Vector};
use crate::config::bounds::Bounds::{AtLeast, Inside, Positive, Share, Weight};
use crate::config::keys::{
    Fallback::{Rule, Value as Is},
    Key, Kind, key,
};
use crate::config::{Method, OptimizerKind};

/// Every key of a transfer run file.
pub const TRANSFER_KEYS: &[Key] = &[
    key("method", Kind::Word(Method::WORDS), Rule("required"), "\"transfer\""),
    key("seed", Kind::Whole, Is("0"), "decides the split, initial weights, order and dropout"),
    key("model.encoder", Kind::Word(EncoderKind::WORDS), Is("\"bilstm\""), "what the student reads texts with"),
    key("model.tokens", Kind::Word(TokenKind::WORDS), Is("\"pieces\""), "the teacher's pieces, or words split at white space"),
    key("model.vocabulary", Kind::Whole, Is("30000"), "words at most, where it reads words").within(AtLeast(1.0)),
    key("model.words", Kind::Whole, Is("300"), "width of a word vector").within(AtLeast(1.0)),
    key("model.hidden", Kind::Whole, Is("600"), "units of a direction, or a BERT's or ModernBERT's width").within(AtLeast(1.0)),
    key("model.layers", Kind::Whole, Is("2"), "a BERT's or ModernBERT's layers").within(AtLeast(1.0)),
    key("model.heads", Kind::Whole, Rule("hidden / 64"), "its attention heads").within(AtLeast(1.0)),
    key("model.from", Kind::Text, Rule("none"), "a pre-trained model of the encoder's family to start the student from"),
    key("model.glove", Kind::Text, Rule("none"), "word vectors: a GloVe text file of model.words numbers a line"),
    key("model.states", Kind::Word(States::WORDS), Is("\"max\""), "how the states of all steps become one vector"),
    key(
        "model.padding",
        Kind::Word(Padding::WORDS),
        Is("\"left-out\""),
        "whether the BiLSTM reads padding (the authors' code does)",
    ),
    key("model.projection", Kind::Whole, Rule("the teacher's width"), "width of the projection; 0 leaves it out"),
    key("model.dropout", Kind::Number, Is("0.4"), "dropout after every layer; 0 switches all dropout off").within(Share),
    key("model.input_dropout", Kind::Number, Is("0.2"), "dropout of what the LSTMs read").within(Share),
    key("model.recurrent_dropout", Kind::Number, Is("0.2"), "dropout of their states").within(Share),
    key(
        "teacher.from",
        Kind::Text,
        Rule("none"),
        "a fine-tuned classifier, or a pre-trained model to fine-tune on the labelled rows",
    ),
    key("teacher.representation", Kind::Word(Vector::WORDS), Is("\"pooled\""), "the vector that the student comes close to"),
    key("teacher.lr", Kind::Number, Is("2e-5"), "rate of fine-tuning").within(Positive("2e-5")),
    key("teacher.epochs", Kind::Number, Is("3.0"), "passes of fine-tuning").within(Positive("3.0")),
    key("teacher.batch", Kind::Whole, Is("32"), "rows a step of fine-tuning"),
    key("data.task", Kind::Text, Rule("required"), "a pocket task, or what the files' task is called"),
    key("data.train", Kind::Text, Rule("none"), "a labelled .tsv, .csv, .jsonl or .parquet file"),
    key("data.test", Kind::Text, Rule("none"), "a labelled file to be scored on at the end"),
    key(
        "data.unlabelled",
        Kind::Text,
        Rule("none"),
        "texts without labels: a table with the text's column, or text with one a line",
    ),
    key("data.text", Kind::Text, Is("\"text\""), "the column of the text"),
    key("data.text2", Kind::Text, Rule("none"), "the column of a pair's second text"),
    key("data.label", Kind::Text, Is("\"label\""), "the column of the label"),
    key(
        "data.per_class",
        Kind::Whole,
        Is("500"),
        "rows of each class that keep their label; the others join the transfer set; 0 keeps all",
    ),
    key("data.transfer", Kind::Whole, Is("0"), "transfer rows at most; 0 takes all"),
    key("data.test_rows", Kind::Whole, Is("0"), "test rows at most, drawn; 0 takes all"),
    key("data.validation", Kind::Number, Is("0.1"), "share of labelled and transfer rows that early stopping looks at")
        .within(Inside("0.1")),
    key("data.length", Kind::Whole, Is("128"), "longest row in tokens").within(AtLeast(3.0)),
    key("distill.targets", Kind::Word(Targets::WORDS), Is("\"soft\""), "what the student takes from the teacher"),
    key("distill.schedule", Kind::Word(TransferSchedule::WORDS), Is("\"joint\""), "in which order the losses are taken"),
    key("distill.alpha", Kind::Number, Is("10.0"), "weight of the cross-entropy").within(Weight),
    key("distill.beta", Kind::Number, Is("10.0"), "weight of the representation loss").within(Weight),
    key("distill.gamma", Kind::Number, Is("1.0"), "weight of the logit loss").within(Weight),
    key("distill.logits", Kind::Word(LogitTargets::WORDS), Is("\"log-odds\""), "log(p / (1 - p)), or logits as they are"),
    key("distill.largest_logit", Kind::Number, Is("13.8"), "log-odds are cut here; 13.8 is p = 0.999999")
        .within(Positive("13.8")),
    key("distill.elements", Kind::Word(ElementKind::WORDS), Is("\"mean\""), "mean of squares, or half their sum as printed"),
    key("distill.new_heads", Kind::Flag, Is("false"), "draw new heads for the stages with labels (the authors' code)"),
    key("train.batch", Kind::Whole, Is("64"), "rows a step; half labelled, half transfer, where both are read")
        .within(AtLeast(1.0)),
    key("train.rounds", Kind::Whole, Is("200"), "rounds of a phase at most; a round is a pass, or round_steps")
        .within(AtLeast(1.0)),
    key("train.patience", Kind::Whole, Is("5"), "rounds without a better validation loss before a phase ends")
        .within(AtLeast(1.0)),
    key("train.round_steps", Kind::Whole, Is("20"), "steps of a round at least").within(AtLeast(1.0)),
    key("train.lr", Kind::Number, Rule("1 for Adadelta, 1e-3 else"), "learning rate").within(Positive("1e-3")),
    key("train.optimizer", Kind::Word(OptimizerKind::WORDS), Is("\"adadelta-keras\""), "update rule"),
    key("train.clip", Kind::Number, Is("0.0"), "largest global gradient norm; 0 does not clip"),
    key("runtime.device", Kind::Text, Is("\"auto\""), "auto, cpu or wgpu"),
];
