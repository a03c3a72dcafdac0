//! A program as the teacher: it is asked on its standard input and answers on its standard output.
//!
//! A question, and an answer, is a u64 (little-endian), the bytes of a safetensors file, and that file. A question has
//! i32 tensors: `input_ids`, `segments` (the row's sentence that a token belongs to, 0 at padding; tokens see those of
//! their own) and `positions` `[b, s]`, and `slots` `[n]`, places among the `b * s` tokens, row after row. The answer
//! has `logits` `[n, v]`, f32. The program ends when its standard input does.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::batch::Batch;
use crate::error::{Error, Result};

/// A program that runs, and the threads that talk to it.
pub struct CommandTeacher {
    command: String,
    vocabulary: usize,
    timeout: Duration,
    talk: Mutex<Talk>,
}

struct Talk {
    child: Child,
    /// None once it is to end.
    questions: Option<Sender<Vec<u8>>>,
    answers: Receiver<std::io::Result<Vec<u8>>>,
}

impl CommandTeacher {
    /// Starts a command line, which the system's shell reads. An answer may take so long.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(command: &str, vocabulary: usize, timeout: Duration) -> Result<Self> {
        let (shell, flag) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
        let mut child = Command::new(shell)
            .args([flag, command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(command, format!("could not be started: {error}")))?;
        let (stdin, stdout) = (child.stdin.take().expect("it is a pipe"), child.stdout.take().expect("it is a pipe"));
        let (questions, to_ask) = channel();
        let (heard, answers) = channel();
        // Threads of their own, so that a program that neither reads nor writes is waited for no longer than it may
        // take.
        let most = MOST_BYTES;
        std::thread::spawn(move || ask(stdin, &to_ask));
        std::thread::spawn(move || hear(stdout, &heard, most));
        let talk = Mutex::new(Talk { child, questions: Some(questions), answers });
        Ok(Self { command: command.to_owned(), vocabulary, timeout, talk })
    }

    /// Its logits `[n, v]` at places among a batch's tokens.
    ///
    /// # Errors
    /// When it has ended, takes too long, or its answer is none.
    pub fn logits(&self, batch: &Batch, at: &[i32], device: &Device) -> Result<Tensor<2>> {
        let question = question(batch, at)?;
        let mut talk = self.talk.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(questions) = &talk.questions {
            // Where the thread is gone the program is, which the answer says.
            let _ = questions.send(question);
        }
        let answer = match talk.answers.recv_timeout(self.timeout) {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(self.ended(&mut talk.child, &error.to_string())),
            Err(RecvTimeoutError::Disconnected) => return Err(self.ended(&mut talk.child, "it says no more")),
            Err(RecvTimeoutError::Timeout) => {
                let what = format!("did not answer within {} s", self.timeout.as_secs_f64());
                return Err(failed(&self.command, what).help("raise teacher.timeout_s, or see what it waits for"));
            }
        };
        let shape = [at.len(), self.vocabulary];
        let logits = read(&answer, shape).map_err(|why| failed(&self.command, format!("answered wrongly: {why}")))?;
        Ok(Tensor::from_data(TensorData::new(logits, shape), device))
    }

    /// Why it answers no more, with its exit status where it has one by now.
    fn ended(&self, child: &mut Child, why: &str) -> Error {
        let until = Instant::now() + Duration::from_secs(1);
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return failed(&self.command, format!("ended ({status}) while it was asked")),
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
                _ => return failed(&self.command, format!("can't be heard: {why}")),
            }
        }
    }
}

impl Drop for CommandTeacher {
    /// Its standard input ends, and it has a moment to end too.
    fn drop(&mut self) {
        let talk = self.talk.get_mut().unwrap_or_else(PoisonError::into_inner);
        talk.questions = None;
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until && matches!(talk.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = talk.child.kill();
        let _ = talk.child.wait();
    }
}

/// More bytes than any answer has.
const MOST_BYTES: u64 = 1 << 36;

fn failed(command: &str, what: String) -> Error {
    Error::new(format!("the teacher's program {what}"))
        .at(command)
        .help("its own messages are above; upstill's documentation of methods::CommandTeacher says what it is asked")
}

fn ask(mut stdin: ChildStdin, questions: &Receiver<Vec<u8>>) {
    for question in questions {
        let length = (question.len() as u64).to_le_bytes();
        if stdin.write_all(&length).and_then(|()| stdin.write_all(&question)).and_then(|()| stdin.flush()).is_err() {
            return; // it has ended, which its output says
        }
    }
}

fn hear(mut stdout: ChildStdout, answers: &Sender<std::io::Result<Vec<u8>>>, most: u64) {
    loop {
        let mut length = [0; 8];
        let answer = stdout.read_exact(&mut length).and_then(|()| {
            let length = u64::from_le_bytes(length);
            if length > most {
                return Err(std::io::Error::other(format!("an answer begins with its length, and {length} bytes are none")));
            }
            let mut bytes = Vec::new();
            match (&mut stdout).take(length).read_to_end(&mut bytes)? as u64 == length {
                true => Ok(bytes),
                false => Err(std::io::ErrorKind::UnexpectedEof.into()),
            }
        });
        let is_over = answer.is_err();
        if answers.send(answer).is_err() || is_over {
            return;
        }
    }
}

fn question(batch: &Batch, at: &[i32]) -> Result<Vec<u8>> {
    let grid = [batch.rows, batch.length];
    integers(&[
        ("input_ids", &grid, &batch.input_ids_bs),
        ("positions", &grid, &batch.positions_bs),
        ("segments", &grid, &batch.segments_bs),
        ("slots", &[at.len()], at),
    ])
}

/// A safetensors file of i32: names, shapes and values.
pub(crate) fn integers(tensors: &[(&str, &[usize], &[i32])]) -> Result<Vec<u8>> {
    let bytes = |values: &[i32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let bytes: Vec<Vec<u8>> = tensors.iter().map(|(.., values)| bytes(values)).collect();
    let views = tensors.iter().zip(&bytes);
    let views = views.map(|((name, shape, _), bytes)| Ok((*name, TensorView::new(Dtype::I32, shape.to_vec(), bytes)?)));
    let views = views.collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>();
    let file = views.and_then(|views| safetensors::serialize(views, None));
    file.map_err(|error| Error::new(format!("a batch can't be written for a teacher: {error}")))
}

fn read(answer: &[u8], [n, v]: [usize; 2]) -> std::result::Result<Vec<f32>, String> {
    let file = SafeTensors::deserialize(answer).map_err(|error| format!("it is no safetensors file ({error})"))?;
    let logits = file.tensor("logits").map_err(|_| "it has no tensor `logits`".to_owned())?;
    if logits.dtype() != Dtype::F32 || logits.shape() != [n, v] {
        return Err(format!("its `logits` are {:?} {:?}, not F32 [{n}, {v}]", logits.dtype(), logits.shape()));
    }
    let values: Vec<f32> = logits.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(values),
        Some(at) => Err(format!("its logits at slot {} are not finite", at / v)),
    }
}
