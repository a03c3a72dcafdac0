//! A plan in words: what `upstill plan` prints, and what a report notes.

use super::describe_features::{feature_note, features_text};
use super::estimate::Speed;
use super::kept::AnswersPlan;
use super::listening::*;
use super::plan::*;
use super::schedule::number;
use super::shape::{ModelPlan, ObjectiveKind};
use crate::words::{bytes_text, count, grouped, plural, scaled};

impl Plan {
    /// The plan as a person reads it: one line a subject, the time when a speed is known, and [`notes`](Self::notes).
    pub fn describe(&self, speed: Option<Speed>) -> String {
        let mut lines = vec![format!("{}, plan {}", self.headline(), self.hash())];
        let mut add = |name: &str, text: String| lines.push(format!("  {name:<10} {text}"));
        match &self.models[..] {
            [] => add("student", self.student_text()),
            models => models.iter().for_each(|model| add(&model.name, self.learner_text(model))),
        }
        if self.teacher.is_some() {
            add("teacher", self.teacher_text());
        }
        add("data", self.data_text());
        add("rows", self.rows_text());
        match self.objective() {
            ObjectiveKind::Masked => add("masking", self.masking_text()),
            ObjectiveKind::Causal => add("objective", self.causal_text()),
        }
        add("loss", self.loss_text());
        add("start", self.distill.start.to_string());
        add("training", self.training_text());
        add("rate", self.train.lr.to_string());
        add("optimizer", self.optimizer_text());
        add(
            "held out",
            format!(
                "{} rows{} every {} steps",
                grouped(self.train.evaluate_rows as u64),
                match self.train.evaluate_after {
                    0 => String::new(),
                    rows => format!(" after the first {}", grouped(rows as u64)),
                },
                grouped(self.train.evaluate_every)
            ),
        );
        if !self.held_out.is_empty() {
            let names: Vec<&str> = self.held_out.keys().map(String::as_str).collect();
            add("at the end", format!("as many held-out rows of {}", names.join(", ")));
        }
        add("runtime", self.runtime_text());
        add("memory", self.memory_text());
        add("work", self.work_text(speed));
        lines.push("notes".into());
        lines.extend(self.notes().into_iter().map(|note| format!("  - {note}")));
        lines.join("\n") + "\n"
    }

    /// What was chosen here or in the run file, and not by the paper; a line each.
    pub fn notes(&self) -> Vec<String> {
        if !self.models.is_empty() {
            return self.cotrain_notes();
        }
        let mut notes = self.teacher.as_ref().map_or_else(Vec::new, |teacher| self.distillation_notes(teacher));
        let TrainPlan { epsilon, clip, weight_decay, .. } = self.train;
        let (means, epsilon) = (means_text(&self.train), number(epsilon));
        let clipping = if clip > 0.0 { format!("clipping at {}", number(clip)) } else { "no clipping".into() };
        notes.push(format!(
            "{means}, epsilon {epsilon}, weight decay {} and {clipping}: chosen here; the paper only says Adam",
            number(weight_decay)
        ));
        notes.push(match self.data.rows {
            Rows::Sentence => format!("rows of at most {} tokens, a sentence each: chosen here", self.data.length),
            Rows::Packed => {
                format!(
                    "several sentences packed in a row of {} tokens: chosen here; the losses are those of a sentence a row",
                    self.data.length
                )
            }
        });
        notes.push(match self.objective() {
            ObjectiveKind::Masked => {
                format!("masking: {} of the tokens, 80/10/10, is BERT's; the paper only names BERT", self.mask_rate_text())
            }
            ObjectiveKind::Causal => {
                "a causal model: the paper's are masked ones, which hide some tokens; here every token is one to predict".into()
            }
        });
        if self.distill.label_smoothing > 0.0 {
            notes.push(format!("label smoothing {}: a control, not in the paper", number(self.distill.label_smoothing)));
        }
        notes
    }

    fn distillation_notes(&self, teacher: &TeacherPlan) -> Vec<String> {
        let DistillPlan { soft, temperature, tau_squared, gate, fade, positions, .. } = &self.distill;
        let mut notes = vec![
            format!("temperature {temperature}: chosen here; the paper gives none"),
            match tau_squared {
                true => {
                    "the soft loss is multiplied by the temperature squared; the paper's equation 2 has no such factor".into()
                }
                false => "the soft loss has no factor of the temperature squared, as in the paper's equation 2".into(),
            },
            match self.objective() {
                ObjectiveKind::Masked => {
                    format!("the soft loss is taken at {}: chosen here; the paper doesn't say where", positions_text(*positions))
                }
                ObjectiveKind::Causal => "the soft loss is taken at every token, as the hard loss is".into(),
            },
        ];
        if !self.distill.divergence.is_kl() {
            notes.push(format!("the soft loss is {}; the paper's is the KL divergence", self.distill.divergence.kind));
        }
        if !gate.is_open() {
            notes
                .push(format!("the soft loss has a gate, {}: the paper has none; a closed slot counts 0 in its mean", gate.kind));
        }
        notes.extend(self.distill.features().map(|(kind, _)| feature_note(kind).to_owned()));
        if *fade > 0.0 {
            notes.push(format!(
                "the soft weight adapts: between two evaluations it is the written one times 1 - (teacher's - student's held-out loss) / {}, \
                 from 0 to 1; chosen here",
                number(*fade)
            ));
        }
        if soft.as_constant().is_none() {
            notes.push(format!("soft weight {soft}: the paper recommends a decay from 4 to 1, gives no shape and didn't run it"));
        }
        if !teacher.others.is_empty() {
            notes.push(
                "several teachers are heard as one, by the mean of their logits (Timiryasov and Tastet 2023): not in the paper"
                    .into(),
            );
        }
        match &teacher.model {
            None if teacher.timeout_s.is_some() => notes.push("the teacher is a program: chosen here".into()),
            None if !teacher.is_uniform() => notes.push(
                "the teacher's answers were written down once, and cut down: no model of it is in memory, and none of its FLOPs are counted; \
                 chosen here".into(),
            ),
            None => notes.push("the teacher is the uniform distribution: a control, not in the paper".into()),
            Some(_) if self.distill.start == Start::Continue => {}
            Some(model) if self.teacher_ratio().is_some_and(|ratio| ratio >= 1.0) => notes.push(format!(
                "the teacher ({}) is not smaller than the student ({}): conventional distillation, not the paper's",
                plural(model.shape.layers(), "layer"),
                plural(self.model.shape.layers(), "layer")
            )),
            Some(_) => {}
        }
        notes
    }

    /// The teacher's size over the student's, heads left out as in the paper.
    fn teacher_ratio(&self) -> Option<f64> {
        let estimate = self.estimate();
        estimate.teacher.map(|teacher| teacher.without_head as f64 / estimate.student.without_head as f64)
    }

    fn headline(&self) -> String {
        if !self.models.is_empty() {
            return format!("{}: {} train together", self.method, plural(self.models.len(), "model"));
        }
        if let (Some(teacher), Start::Continue) = (&self.teacher, self.distill.start) {
            return format!("{}: {}, of {}, goes on", self.method, teacher.from, plural(self.model.shape.layers(), "layer"));
        }
        let student = format!("a {}-layer student", self.model.shape.layers());
        match &self.teacher {
            None => format!("{}: {student} learns alone", self.method),
            Some(TeacherPlan { model: Some(teacher), .. }) => {
                format!("{}: {student} learns with a {}-layer teacher", self.method, teacher.shape.layers())
            }
            Some(teacher) if teacher.is_uniform() => {
                format!("{}: {student} learns with the uniform distribution", self.method)
            }
            Some(teacher) if teacher.timeout_s.is_some() => format!("{}: {student} learns from a program", self.method),
            Some(_) => format!("{}: {student} learns from what a teacher said", self.method),
        }
    }

    fn student_text(&self) -> String {
        shape_text(&self.model)
    }

    fn teacher_text(&self) -> String {
        let Some(teacher) = &self.teacher else { return "none".into() };
        if let Some(timeout_s) = teacher.timeout_s {
            return format!("the program `{}`, which may take {} s to answer", teacher.from, number(timeout_s));
        }
        if let Some(AnswersPlan { teacher: who, kind, count, temperature, .. }) = &teacher.answers {
            let (who, at) = (who.get(..12).unwrap_or(who), number(*temperature));
            return format!("{}: what {who} answered, {kind} of {count} at temperature {at}", teacher.from);
        }
        match (&teacher.model, self.teacher_ratio()) {
            (Some(model), Some(ratio)) => format!(
                "{}: {}, width {}, {}; {}parameters, {ratio:.2}x the {}'s size (without heads){}",
                teacher.from,
                plural(model.shape.layers(), "layer"),
                model.shape.hidden(),
                plural(model.shape.heads(), "head"),
                count(model.parameters as f64),
                self.models.first().map_or("student", |largest| &largest.name),
                ensemble_text(teacher),
            ),
            _ => "the uniform distribution".into(),
        }
    }

    fn data_text(&self) -> String {
        let DataPlan { shards, sentences, tokens, longest_sentence, .. } = &self.data;
        let name = if shards == "pocket" { "the pocket language" } else { shards };
        let (sentences, vocabulary) = (grouped(*sentences), grouped(self.model.shape.vocab_size() as u64));
        format!(
            "{name}: {sentences} sentences, {}tokens (the longest {longest_sentence}), vocabulary {vocabulary}",
            count(*tokens as f64)
        )
    }

    fn rows_text(&self) -> String {
        let DataPlan { rows, length, rows_per_epoch, tokens_per_row, .. } = &self.data;
        let how = match rows {
            Rows::Sentence => "a sentence each",
            Rows::Packed => "sentences packed",
        };
        let filled = 100.0 * tokens_per_row / (*length).max(1) as f64;
        format!("{length} tokens, {how}, {filled:.0} % filled; {} an epoch", grouped(*rows_per_epoch))
    }

    fn masking_text(&self) -> String {
        let DataPlan { slots, whole_word, rarity, .. } = self.data;
        let unit = if whole_word { "of the tokens, whole words" } else { "of the tokens" };
        let rarity = if rarity > 0.0 { format!(", by count^-{}", number(rarity)) } else { String::new() };
        let held_out = match self.data.held_out_mask_rate {
            Some(rate) => format!("; {} of held-out ones", percent(rate)),
            None => String::new(),
        };
        format!("{} {unit}{rarity}, 80/10/10; {slots} slots a row{held_out}", self.mask_rate_text())
    }

    /// What a causal model is asked, and why this one is.
    fn causal_text(&self) -> String {
        let (family, slots) = (self.model.shape.family(), self.data.slots);
        format!("causal, as a {family}: at every token of a sentence the next, up to its [SEP]; {slots} slots a row")
    }

    /// `15 %`, or `30 % at most (0.3 until 80%, then 0.15)`.
    pub(super) fn mask_rate_text(&self) -> String {
        let (highest, course) = (percent(self.data.mask_rate), self.data.mask_schedule.as_ref());
        course.map_or_else(|| highest.clone(), |course| format!("{highest} at most ({course})"))
    }

    fn loss_text(&self) -> String {
        let DistillPlan { hard, soft, temperature, tau_squared, divergence, gate, fade, .. } = &self.distill;
        let DistillPlan { positions, label_smoothing, .. } = &self.distill;
        if !self.models.is_empty() {
            return self.shared_loss_text();
        }
        let mut text = format!("hard {hard}");
        if *label_smoothing > 0.0 {
            text += &format!(" (smoothed by {})", number(*label_smoothing));
        }
        if self.teacher.is_some() {
            let factor = if *tau_squared { ", times its square" } else { "" };
            let by = if divergence.is_kl() { String::new() } else { divergence_text(*divergence) + ", " };
            text += &format!("; soft {soft} {by}at {}, temperature {temperature}{factor}", self.asked_text(*positions));
            text += &gate_text(*gate);
            if *fade > 0.0 {
                text += &format!(", fading to 0 as the student's held-out loss falls {} nats below the teacher's", number(*fade));
            }
            text += &features_text(&self.distill, self.asked_text(*positions));
        }
        text
    }

    /// Where losses are taken.
    pub(super) fn asked_text(&self, positions: Positions) -> &'static str {
        match self.objective() {
            ObjectiveKind::Masked => positions_text(positions),
            ObjectiveKind::Causal => "every token",
        }
    }

    fn training_text(&self) -> String {
        let TrainPlan { steps, batch, batch_schedule, .. } = &self.train;
        let rows = match batch_schedule {
            None => format!("{batch} rows"),
            Some(rows) => format!("at most {batch} rows ({rows})"),
        };
        format!("{} steps of {rows}, {} epochs, {}tokens", grouped(*steps), rounded(self.epochs()), count(self.estimate().tokens))
    }

    fn optimizer_text(&self) -> String {
        let TrainPlan { optimizer, epsilon, weight_decay, clip, .. } = &self.train;
        let (means, [epsilon, decay]) = (means_text(&self.train), [*epsilon, *weight_decay].map(number));
        let clip = if *clip > 0.0 { format!("clipped at {}", number(*clip)) } else { "not clipped".into() };
        format!("{optimizer}, {means}, epsilon {epsilon}, weight decay {decay}, gradients {clip}")
    }

    fn runtime_text(&self) -> String {
        let RuntimePlan { device, precision, kernels, workers, threads, sum_dtype, .. } = &self.runtime;
        let threads = if *threads == 0 { "all threads".into() } else { format!("{threads} threads") };
        let kernels = kernels.map_or_else(String::new, |kernels| format!("{kernels} kernels, "));
        let workers = if *workers == 1 { String::new() } else { format!("{workers} workers, each ") };
        let sum = if *sum_dtype == SumDtype::F32 { String::new() } else { format!(", gradients sent in {sum_dtype}") };
        let precision = precision.words(device);
        format!("device {device}, {precision}, {kernels}{workers}{} rows at once, {threads}{sum}", self.rows_at_once())
    }

    fn memory_text(&self) -> String {
        let memory = self.estimate().memory;
        let owner = if self.models.is_empty() { "student and optimizer" } else { "models and optimizers" };
        let mut parts = vec![(owner, memory.student)];
        parts.extend((memory.teacher > 0).then_some(("teacher", memory.teacher)));
        parts.extend([("activations", memory.activations), ("logits", memory.logits), ("in passing", memory.passing)]);
        let parts: Vec<_> = parts.into_iter().map(|(name, bytes)| format!("{name} {}", bytes_text(bytes))).collect();
        let of = if self.runtime.workers == 1 { "" } else { " a worker" };
        format!("about {}{of}: {}", bytes_text(memory.total()), parts.join(", "))
    }

    fn work_text(&self, speed: Option<Speed>) -> String {
        let estimate = self.estimate();
        let run = |flops: f64| format!("{}FLOP", scaled(flops * estimate.steps as f64, &["", "k", "M", "G", "T", "P", "E", "Z"]));
        let (ours, others) = match self.models.is_empty() {
            true => ("student", "teacher"),
            false => ("models", "what they take from each other"),
        };
        let mut text = format!("{}: {ours} {}", run(estimate.computed.total()), run(estimate.computed.student));
        if estimate.computed.teacher > 0.0 {
            text += &format!(", {others} {}", run(estimate.computed.teacher));
        }
        if let Some(speed) = speed {
            let at = match speed {
                Speed::Tokens(rate) => format!("{}tokens/s", count(rate)),
                Speed::Flops(rate) => format!("{}FLOP/s", scaled(rate, &["", "k", "M", "G", "T", "P"])),
            };
            text += &format!("; {} at {at}", duration(estimate.seconds(speed)));
        }
        text
    }
}

pub(super) fn shape_text(model: &ModelPlan) -> String {
    let ModelPlan { shape, dropout, .. } = model;
    let parameters = shape.parameters();
    format!(
        "{}, dropout {}; {}parameters, {}without the head",
        shape.words(),
        number(*dropout),
        count(parameters.total as f64),
        count(parameters.without_head as f64)
    )
}

/// `; weighs 1 in an ensemble with b (runs/b, 2 layers, width 64), which weighs 2`.
fn ensemble_text(teacher: &TeacherPlan) -> String {
    let other = |other: &MemberPlan| {
        let MemberPlan { name, from, weight, model } = other;
        let (layers, width) = (plural(model.shape.layers(), "layer"), model.shape.hidden());
        format!("{name} ({from}, {layers}, width {width}), which weighs {}", number(*weight))
    };
    let others: Vec<String> = teacher.others.iter().map(other).collect();
    if others.is_empty() {
        return String::new();
    }
    format!("; weighs {} in an ensemble with {}", number(teacher.weight), others.join(" and "))
}

/// `by reverse-kl`.
fn divergence_text(divergence: Divergence) -> String {
    let beta = if divergence.beta > 0.0 { format!(" with beta {}", number(divergence.beta)) } else { String::new() };
    format!("by {}{beta}", divergence.kind)
}

/// `, where the teacher is right`; nothing without a gate.
fn gate_text(gate: Gate) -> String {
    let at = match gate.kind {
        GateKind::Open => return String::new(),
        GateKind::LowestEntropy => format!("at the {} of a batch's slots with the teacher's lowest entropy", percent(gate.share)),
        GateKind::TeacherRight => "where the teacher's most probable token is the label".into(),
        GateKind::TeacherBetter => "where the teacher's loss on the label is lower than the student's".into(),
    };
    let hard = if gate.switch { "; hard at the other slots alone" } else { "" };
    format!(", only {at}{hard}")
}

fn positions_text(positions: Positions) -> &'static str {
    match positions {
        Positions::Masked => "masked positions",
        Positions::All => "all real tokens",
    }
}

pub(super) fn percent(share: f64) -> String {
    format!("{} %", rounded(share * 100.0))
}

/// At most two digits after the point, none that say nothing.
fn rounded(value: f64) -> String {
    format!("{}", (value * 100.0).round() / 100.0)
}

/// `3 h 20 min`, `12 min`, `40 s`.
fn duration(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() => "no end".into(),
        s if s < 90.0 => format!("{} s", s.ceil()),
        s if s < 5400.0 => format!("{} min", (s / 60.0).ceil()),
        s if s < 172_800.0 => format!("{} h {} min", (s / 3600.0).floor(), (s % 3600.0 / 60.0).floor()),
        s => format!("{} days {} h", (s / 86_400.0).floor(), (s % 86_400.0 / 3600.0).floor()),
    }
}

/// How far back an optimizer's running means reach: its betas, or its rho.
pub(super) fn means_text(train: &TrainPlan) -> String {
    match train.optimizer.rho() {
        Some(rho) => format!("rho {}", number(rho)),
        None => format!("betas ({}, {})", number(train.beta1), number(train.beta2)),
    }
}
