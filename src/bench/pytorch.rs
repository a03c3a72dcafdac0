//! PyTorch in a child process that measures when told to, so that it takes turns with our own forms.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::meter::{MEMORY_ROUND, Taken};
use crate::device::{Device, DeviceKind, Precision};

const SCRIPT: &str = include_str!("pytorch.py");

/// A Python with PyTorch, waiting for work.
pub(super) struct PyTorch {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Its version, and its GPU or threads.
    pub about: String,
}

impl PyTorch {
    /// Starts `python` for the GPU of `device`, when it is one of CUDA's, else for the CPU; it times `steps` steps
    /// together. `Err` says why there is no PyTorch.
    pub fn start(python: &str, device: &Device, precision: Precision, steps: usize) -> Result<Self, String> {
        let on = if device.kind == DeviceKind::Cuda { "cuda" } else { "cpu" };
        let command = Command::new(python)
            .args(["-c", SCRIPT, on, precision.word(), &steps.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = command.map_err(|error| format!("{python}: {error}"))?;
        let input = child.stdin.take().expect("standard input is a pipe");
        let mut output = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
        let mut line = String::new();
        let _ = output.read_line(&mut line);
        match line.trim().strip_prefix("ready ").and_then(|about| about.split_once(' ')) {
            Some((version, place)) => Ok(Self { child, input, output, about: format!("PyTorch {version}, {place}") }),
            None => {
                let _ = child.wait();
                Err(format!("{python} has no PyTorch for {on}"))
            }
        }
    }

    /// One measurement of a round; `Err` has PyTorch's own words.
    pub fn measure(&mut self, round: usize, request: &str) -> Result<Taken, String> {
        let mut answer = String::new();
        let what = if round == MEMORY_ROUND { "memory" } else { "time" };
        let talked = writeln!(self.input, "{what} {request}").and_then(|()| self.output.read_line(&mut answer));
        talked.map_err(|error| error.to_string())?;
        let mut words = answer.split_whitespace();
        match (words.next().and_then(|word| word.parse().ok()), words.next().and_then(|word| word.parse().ok())) {
            (Some(seconds), peak_bytes) => Ok(Taken { seconds, peak_bytes }),
            _ => Err(answer.trim().trim_start_matches("failed ").to_owned()),
        }
    }
}

impl Drop for PyTorch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
