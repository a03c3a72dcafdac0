//! The model card of an exported model: what it was trained on, by which plan, and what it scored.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::life::finished;
use super::seeds::read_checkpoint_scores;
use crate::config::{AnswersPlan, LearnerPlan, ObjectiveKind, Plan, TeacherPlan};
use crate::error::Result;
use crate::log::Summary;
use crate::model::ModelFolder;

/// The folder of the run that a model belongs to: beside it, or above its checkpoint.
pub fn run_of(model: &Path) -> Option<PathBuf> {
    // A checkpoint's model of several lies deepest: RUN/checkpoints/STEP/model/NAME.
    model.ancestors().take(5).find(|folder| folder.join("plan.toml").is_file()).map(Path::to_owned)
}

/// A `README.md` with the front matter that model hubs read.
///
/// # Errors
/// When the plan beside the model can't be read.
pub fn model_card(folder: &ModelFolder) -> Result<String> {
    let shape = &folder.shape;
    let objective = shape.family().objective();
    let mut out = format!(
        "---\nlibrary_name: transformers\npipeline_tag: {}\ntags: [{}, upstill]\n---\n\n# {}\n\n\
         {} for {} language modelling: {} layers, width {}, {} heads, {} tokens, rows of at most {}; {} parameters. \
         Written by upstill {}.\n",
        match objective {
            ObjectiveKind::Masked => "fill-mask",
            ObjectiveKind::Causal => "text-generation",
        },
        shape.family(),
        folder.name(),
        shape.family().title(),
        match objective {
            ObjectiveKind::Masked => "masked",
            ObjectiveKind::Causal => "causal",
        },
        shape.layers(),
        shape.hidden(),
        shape.heads(),
        shape.vocab_size(),
        shape.max_positions(),
        shape.parameters().total,
        env!("CARGO_PKG_VERSION"),
    );
    let Some(run) = run_of(&folder.path) else {
        let _ = write!(
            out,
            "\nConverted from a model of architecture `{}`; how it was trained is not known here.\n",
            folder.architecture
        );
        return Ok(out);
    };
    let plan = Plan::load(&run.join("plan.toml"))?;
    let several = one_of_several(&plan, folder);
    let _ = write!(
        out,
        "\n## Training\n\n| | |\n|---|---|\n| method | {} |\n{}| teacher | {} |\n| text | {} sentences, {} tokens (`{}`) |\n\
         | steps | {} of {}{} rows of {} tokens |\n| learning rate | {} |\n| seed | {} |\n",
        plan.method,
        several.map_or(String::new(), partners),
        teacher(&plan),
        plan.data.sentences,
        plan.data.tokens,
        name_of(&plan.data.shards),
        plan.train.steps,
        if plan.train.batch_schedule.is_some() { "at most " } else { "" },
        plan.train.batch,
        plan.data.length,
        several.map_or(&plan.train.lr, |own| &own.lr),
        several.map_or(plan.seed, |own| own.seed),
    );
    out += &scores(folder, &run, several.map(|own| own.name.as_str()))?;
    let mut public = plan.clone();
    public.data.shards = name_of(&plan.data.shards);
    if let Some(teacher) = &mut public.teacher {
        teacher.from = if teacher.timeout_s.is_some() { "a program".into() } else { name_of(&teacher.from) };
    }
    let _ = write!(out, "\n## Plan\n\n```toml\n{}```\n", public.to_toml());
    Ok(out)
}

/// What the run says of this very model: its held-out loss, and its scores as a starting point of fine-tuning.
fn scores(folder: &ModelFolder, run: &Path, model: Option<&str>) -> Result<String> {
    let mut out = String::new();
    // A checkpoint is not what the run's summary speaks of.
    if !folder.path.components().any(|part| part.as_os_str() == "checkpoints")
        && let Some(summary) = finished::<Summary>(run)?
        && let Some(loss) = summary.held_out_loss_of(model)
    {
        let perplexity = loss.exp();
        let _ = writeln!(
            out,
            "Held-out loss {loss:.4} nats a {} (perplexity {perplexity:.2}) after {} steps.",
            folder.shape.family().objective().token(),
            summary.steps
        );
    }
    let mut by_metric: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
    let weights = folder.tensors()?.hash();
    for (_, found) in read_checkpoint_scores(run, model)?.into_iter().filter(|(_, found)| found.settings.model == weights) {
        for (metric, score) in found.scores {
            by_metric.entry((found.task.clone(), metric)).or_default().push(score);
        }
    }
    if !by_metric.is_empty() {
        out += "\n| fine-tuned on | metric | mean | seeds |\n|---|---|---|---|\n";
    }
    for ((task, metric), values) in by_metric {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let _ = writeln!(out, "| {task} | {metric} | {mean:.4} | {} |", values.len());
    }
    Ok(if out.is_empty() { out } else { format!("\n## Scores\n\n{out}") })
}

/// The plan of a model that was trained together with others: its folder has its name.
fn one_of_several<'a>(plan: &'a Plan, folder: &ModelFolder) -> Option<&'a LearnerPlan> {
    let name = folder.path.file_name()?.to_str()?;
    plan.models.iter().find(|own| own.name == name)
}

fn partners(own: &LearnerPlan) -> String {
    let soft: Vec<String> = own
        .from
        .iter()
        .map(|from| format!("{} (soft weight {}, temperature {})", from.name, from.soft, from.temperature))
        .collect();
    format!("| trained as | {}, learning from {} |\n", own.name, if soft.is_empty() { "nobody".into() } else { soft.join(", ") })
}

fn teacher(plan: &Plan) -> String {
    let Some(teacher) = &plan.teacher else { return "none".to_owned() };
    let TeacherPlan { model, answers, timeout_s, others, .. } = teacher;
    if timeout_s.is_some() {
        return "a program".to_owned();
    }
    match (model, answers) {
        (Some(model), _) => {
            let others = if others.is_empty() { String::new() } else { format!(", in an ensemble of {}", others.len() + 1) };
            format!("{} layers, width {}, {} parameters{others}", model.shape.layers(), model.shape.hidden(), model.parameters)
        }
        (None, Some(AnswersPlan { teacher, kind, count, .. })) => format!("what {teacher} answered, {kind} of {count}"),
        (None, None) => "the uniform distribution (a control)".to_owned(),
    }
}

/// A folder's own name: where it lay on the training machine is nobody's business.
fn name_of(path: &str) -> String {
    Path::new(path).file_name().map_or(path.to_owned(), |name| name.to_string_lossy().into_owned())
}
