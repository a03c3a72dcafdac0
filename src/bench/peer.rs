//! A child process that measures when told to, so that it takes turns with our own forms: PyTorch, or several processes
//! of PyTorch or of upstill that share a step.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::meter::{MEMORY_ROUND, Taken};
use crate::device::{Device, DeviceKind, Precision};

const SCRIPT: &str = include_str!("pytorch.py");

/// A process that waits for work.
pub(super) struct Peer {
    child: Child,
    /// None once it has been told to end.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// Its version, and its GPU or threads.
    pub about: String,
}

impl Peer {
    /// Starts PyTorch in `python` for the GPU of `device`, when it is one of CUDA's, else for the CPU; it times `steps`
    /// steps together. `Err` says why there is no PyTorch.
    pub fn pytorch(python: &str, device: &Device, precision: Precision, steps: usize) -> Result<Self, String> {
        let on = if device.kind == DeviceKind::Cuda { "cuda" } else { "cpu" };
        let mut command = Command::new(python);
        command.args(["-c", SCRIPT, on, precision.word(), &steps.to_string()]);
        let mut peer = Self::start(command).map_err(|why| format!("{python} has no PyTorch for {on}{why}"))?;
        peer.about.insert_str(0, "PyTorch ");
        Ok(peer)
    }

    /// Starts so many processes of PyTorch with a thread each, which share every batch (DistributedDataParallel, gloo).
    pub fn pytorch_processes(python: &str, processes: usize) -> Result<Self, String> {
        let mut command = Command::new(python);
        command.args(["-c", SCRIPT, "cpu", "f32", "1", &processes.to_string()]).env("OMP_NUM_THREADS", "1");
        Self::start(command).map_err(|why| format!("{python} has no PyTorch that could start {processes} processes{why}"))
    }

    /// Starts a command that says `ready` and what it is, then answers [`measure`](Self::measure).
    pub fn start(mut command: Command) -> Result<Self, String> {
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = started.map_err(|error| format!(": {error}"))?;
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
        let mut line = String::new();
        let _ = output.read_line(&mut line);
        match line.trim().strip_prefix("ready ").and_then(|about| about.split_once(' ')) {
            Some((version, place)) => Ok(Self { child, input, output, about: format!("{version}, {place}") }),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                Err(String::new())
            }
        }
    }

    /// One measurement of a round; `Err` has PyTorch's own words.
    pub fn measure(&mut self, round: usize, request: &str) -> Result<Taken, String> {
        let mut answer = String::new();
        let what = if round == MEMORY_ROUND { "memory" } else { "time" };
        let input = self.input.as_mut().ok_or("it has ended")?;
        let talked = writeln!(input, "{what} {request}").and_then(|()| self.output.read_line(&mut answer));
        talked.map_err(|error| error.to_string())?;
        let mut words = answer.split_whitespace();
        match (words.next().and_then(|word| word.parse().ok()), words.next().and_then(|word| word.parse().ok())) {
            (Some(seconds), peak_bytes) => Ok(Taken { seconds, peak_bytes }),
            _ => Err(answer.trim().trim_start_matches("failed ").to_owned()),
        }
    }
}

impl Drop for Peer {
    /// Ends it by the end of its input, so that those which it started end too.
    fn drop(&mut self) {
        self.input = None;
        for _ in 0..40 {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
