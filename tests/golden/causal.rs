//! Causal models, Llama, Qwen3, SmolLM3, GPT-2 and ModernBERT's decoders: goldens by tests/golden/llama.py,
//! tests/golden/gpt2.py and tests/golden/modernbert_decoder.py.

use burn::tensor::Device;
use serde::Deserialize;
use serde_json::Value;
use upstill::batch::{Batch, TokenOrder};
use upstill::device::Compute;
use upstill::methods::{Choice, Generate, generate_ids};
use upstill::model::{AnyModel, Dropout, Gpt2Shape, Inputs, LanguageModel, LlamaShape, ModernBertShape, RopeScaling};

use super::families::{ModelCase, hold_export, model, taught_by};
use super::training::{BatchCase, Fixed, Losses, adamw, hold_losses, hold_steps};
use super::{Places, golden, tokenizer};
use crate::close::Kind;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
    distillation: Distillation,
}

#[derive(Deserialize)]
struct Case {
    #[serde(flatten)]
    logits: ModelCase,
    prompt: Vec<u32>,
    /// What the model goes on with after the prompt.
    greedy: Vec<u32>,
}

#[derive(Deserialize)]
struct Distillation {
    teacher: Value,
    batches: Vec<BatchCase>,
    gradients: Vec<GradientCase>,
    /// Of twenty steps of the first student.
    losses: Vec<f64>,
    norms: Vec<f64>,
}

#[derive(Deserialize)]
struct GradientCase {
    name: String,
    config: Value,
    #[serde(flatten)]
    losses: Losses,
}

/// A golden file each.
const FAMILIES: [&str; 3] = ["llama", "gpt2", "modernbert-decoder"];

/// Every model of every family.
fn cases(device: &Device) -> Vec<(Case, AnyModel)> {
    let of = |family: &'static str| {
        golden::<Golden>(&format!("{family}.json")).cases.into_iter().map(move |case| (family.to_owned(), case))
    };
    let read = |(family, case): (String, Case)| {
        let read = model(&family, &case.logits.name, &case.logits.config, device);
        (case, read)
    };
    FAMILIES.into_iter().flat_map(of).map(read).collect()
}

#[test]
fn logits_of_causal_models_are_those_of_transformers_padded_and_packed() {
    for (case, model) in cases(&Device::flex()) {
        case.logits.hold(&model);
    }
}

#[test]
#[ignore = "needs a GPU: UPSTILL_TEST_GPU=software cargo test -- --ignored gpu"]
fn a_software_gpus_logits_and_text_of_causal_models_are_those_of_transformers() {
    let gpu = crate::common::gpu();
    for (case, model) in cases(&gpu.handle) {
        case.logits.hold_padded(&model, &gpu.handle);
        assert_eq!(greedy(&model, &case, &gpu.handle), case.greedy);
    }
}

fn greedy(model: &AnyModel, case: &Case, device: &Device) -> Vec<u32> {
    let options = Generate { tokens: case.greedy.len(), choice: Choice::GREEDY, seed: 0 };
    let mut told = Vec::new();
    let mut each = |id| {
        told.push(id);
        Ok(())
    };
    let known = model.shape().vocab_size();
    let found = generate_ids(model, &case.prompt, None, known, &options, device, &mut each).unwrap();
    assert_eq!(found, told);
    found
}

#[test]
fn what_a_model_goes_on_with_is_what_it_goes_on_with_in_transformers() {
    let device = Device::flex();
    for (case, model) in cases(&device) {
        let name = &case.logits.name;
        assert_eq!(greedy(&model, &case, &device), case.greedy, "{name}");
        // What it says of a row that is read as a whole.
        let row: Vec<i32> = case.prompt.iter().chain(&case.greedy).map(|&id| id as i32).collect();
        let positions: Vec<i32> = (0..row.len() as i32).collect();
        let inputs = Inputs::new(&row, &positions, &vec![1; row.len()], 1, &Compute::of(&device));
        let at: Vec<i32> = (case.prompt.len() as i32 - 1..row.len() as i32 - 1).collect();
        let likeliest = model.logits(&inputs, &Places::new(&at, &device), &mut Dropout::off()).argmax(1);
        let likeliest: Vec<u32> = likeliest.into_data().iter::<i64>().map(|id| id as u32).collect();
        assert_eq!(likeliest, case.greedy, "{name}");
    }
}

fn causal(batch: BatchCase) -> Batch {
    Batch { order: TokenOrder::Causal, ..batch.batch() }
}

#[test]
fn causal_students_have_pytorchs_losses_and_gradients() {
    let device = Device::flex();
    for family in FAMILIES {
        let Distillation { teacher, batches, gradients, .. } = golden::<Golden>(&format!("{family}.json")).distillation;
        let batch = causal(batches[0].clone());
        for case in gradients {
            let method = taught_by(model(family, "teacher", &teacher, &device), &device);
            let student = model(family, &format!("student-{}", case.name), &case.config, &device.clone().autodiff());
            let gradients = format!("{family}-gradients-{}", case.name);
            hold_losses(&method, student.into(), &batch, case.losses, Some(&gradients), [Kind::LossCpu, Kind::GradientCpu]);
        }
    }
}

#[test]
fn twenty_steps_of_a_causal_student_are_pytorchs() {
    let device = Device::flex();
    for family in FAMILIES {
        let golden = golden::<Golden>(&format!("{family}.json"));
        let Distillation { teacher, batches, gradients, losses, norms } = golden.distillation;
        let batches: Vec<Batch> = batches.into_iter().map(causal).collect();
        let train = adamw(losses.len(), batches[0].rows, "0 -> 2e-3 over 5 steps, then -> 0 linear");
        let student = &gradients[0];
        for micro_batch in [train.batch, 3] {
            let method = taught_by(model(family, "teacher", &teacher, &device), &device);
            let model = model(family, &format!("student-{}", student.name), &student.config, &device.clone().autodiff());
            let method = Fixed { method, batches: batches.clone() };
            hold_steps(&method, model.into(), (&train, micro_batch), [&losses, &norms], &format!("{family}-after"));
        }
    }
}

#[test]
fn an_exported_causal_model_is_the_same_model_and_exports_to_the_same_bytes() {
    let (device, tokenizer) = (Device::flex(), tokenizer("cased"));
    let usual = LlamaShape { kv_heads: 2, ..LlamaShape::new(tokenizer.vocab_size(), 16, 3, 4, 512) };
    let scaling = RopeScaling { factor: 4.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_positions: 128 };
    for (name, shape) in [
        ("llama", LlamaShape { tied: false, rope_scaling: Some(scaling), attention_bias: true, ..usual.clone() }),
        ("qwen3", LlamaShape { qk_norm: true, head_dim: 6, ..usual.clone() }),
        ("smollm3", LlamaShape { no_rope_every: 2, mlp_bias: true, ..usual }),
    ] {
        let model: AnyModel = shape.init(5, 0.5, &device).into();
        hold_export(name, name, &model, &tokenizer);
    }
    let model: AnyModel =
        Gpt2Shape { intermediate: 40, ..Gpt2Shape::new(tokenizer.vocab_size(), 16, 3, 4, 512) }.init(5, 0.5, &device).into();
    hold_export("gpt2", "gpt2", &model, &tokenizer);
    let shape = ModernBertShape { window: 8, global_every: 2, ..ModernBertShape::new(tokenizer.vocab_size(), 16, 3, 2, 512) };
    let model: AnyModel = shape.init_decoder(5, 0.5, &device).into();
    hold_export("modernbert-decoder", "modernbert-decoder", &model, &tokenizer);
}
