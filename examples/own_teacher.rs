//! A teacher of your own: anything that gives logits. Here, one that only knows how frequent each word is.
//! `cargo run --release --example own_teacher`

use burn::tensor::{Tensor, TensorData};
use upstill::batch::{BatchOptions, Batches, Masking, Split};
use upstill::config::{Rows, RunFile};
use upstill::device::{Compute, Device};
use upstill::kernels::Places;
use upstill::methods::{Dwt, LmData, Teacher, TeacherSignal};
use upstill::model::{BertShape, Inputs};
use upstill::train::{FitOptions, Flow, Learner, fit, plan_run};

/// Predicts every masked word by its frequency.
struct Unigram {
    log_counts_v: Vec<f32>,
}

impl Teacher for Unigram {
    fn signal(&self, inputs: &Inputs, at: &Places) -> TeacherSignal {
        let v = self.log_counts_v.len();
        let row_1v = Tensor::<2>::from_data(TensorData::new(self.log_counts_v.clone(), [1, v]), &inputs.ids_bs.device());
        TeacherSignal::new(row_1v.repeat_dim(0, at.count()))
    }
}

fn main() -> upstill::Result<()> {
    let text =
        "preset = \"dwt-normal\"\n[teacher]\nfrom = \"uniform\"\n[data]\nshards = \"pocket\"\n[train]\nsteps = 40\nbatch = 16";
    let (plan, shards) = plan_run(&RunFile::parse(text, "this example")?)?;
    let device = Device::cpu("an example").handle;
    let options = BatchOptions { layout: Rows::Packed, length: 64, batch: 16, seed: 1, objective: Masking::default().into() };
    let data = LmData {
        train: Batches::new(&shards, Split::Train, options)?,
        held_out: Batches::new(&shards, Split::HeldOut, options)?,
        evaluate_rows: 64,
        compute: Compute::of(&device),
    };
    let teacher = Unigram { log_counts_v: shards.token_counts().iter().map(|&count| (count as f32 + 1.0).ln()).collect() };
    let method = Dwt::new(data, plan.distill.clone(), plan.train.steps, Box::new(teacher));

    let shape = BertShape::new(shards.tokenizer().vocab_size(), 64, 2, 4, 64);
    let student = Learner::new(shape.init(1, 0.02, &device.autodiff()), &plan.train, 0.0, 1);
    let fit_options = FitOptions { train: &plan.train, micro_batch: 16, done: 0, evaluated: None, worker: None };
    fit(&method, vec![student], &fit_options, |record, _| {
        println!("step {:>2}  hard {:.3}  soft {:.3}", record.step, record.loss_hard, record.loss_soft.unwrap_or(0.0));
        Ok(Flow::Continue)
    })?;
    Ok(())
}
