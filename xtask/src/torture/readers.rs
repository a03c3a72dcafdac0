//! Readers given damaged bytes within one process: thousands of files in the time of one command. What they are is in
//! `fuzz/readers.rs`, and `tests/readers.rs` runs them, which this starts.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::Count;
use crate::Result;

/// As `--only` names it, and the table.
pub const NAME: &str = "readers";

const TEST: &str = "readers::damaged_files_are_refused_or_read_as_they_were";

/// Runs the test for so long, and counts what it says.
pub fn read_damaged(tests: Option<&Path>, share: Duration, seed: u64) -> Result<Count> {
    let tests = tests.map_or_else(compiled, |path| Ok(path.to_owned()))?;
    let at = env::temp_dir().join(format!("upstill-torture-readers-{}", std::process::id()));
    let ended = Command::new(tests)
        .args(["--exact", TEST, "--nocapture"])
        .env("UPSTILL_TORTURE", format!("{} {seed} {}", share.as_secs_f64(), at.display()))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    let last = std::fs::read_to_string(&at).unwrap_or_default();
    let _ = std::fs::remove_file(&at);
    let mut count = Count::default();
    for line in String::from_utf8_lossy(&ended.stdout).lines() {
        let Some(numbers) = line.strip_prefix("readers: ") else { continue };
        println!("  {line}");
        let numbers: Vec<u32> = numbers.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [tried, wrong, panics] = numbers[..] else { continue };
        count.tried += tried;
        count.wrong += wrong;
        count.panics += panics;
    }
    if !ended.status.success() && count.wrong + count.panics == 0 {
        // An allocation beyond the limit, a stack that ran over: the process is gone with its counts.
        println!("  readers: {} in {last}", ended.status);
        count.panics += 1;
        count.tried += 1;
    }
    count.survived = count.tried - count.wrong - count.panics;
    Ok(count)
}

/// The tests' program, compiled if it isn't.
fn compiled() -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let made = Command::new(cargo)
        .current_dir(crate::root())
        .args(["test", "--release", "--test", "all", "--no-run", "--message-format=json"])
        .stderr(Stdio::inherit())
        .output()?;
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    program_of_tests(&said).ok_or_else(|| "the tests did not compile; what cargo said is above".into())
}

/// The program of `tests/all.rs` among cargo's messages: the command that the tests start is among them too, before or
/// after it.
fn program_of_tests(messages: &str) -> Option<PathBuf> {
    let tests = messages.lines().find(|line| line.contains("\"kind\":[\"test\"]") && line.contains("\"name\":\"all\""))?;
    Some(tests.split_once("\"executable\":\"")?.1.split('"').next()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_are_told_from_the_command_that_they_start() {
        let tests = r#"{"reason":"compiler-artifact","target":{"kind":["test"],"crate_types":["bin"],"name":"all"},"executable":"/t/all-1"}"#;
        let command = r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"crate_types":["bin"],"name":"upstill"},"executable":"/t/upstill"}"#;
        let library = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"crate_types":["lib"],"name":"upstill"},"executable":null}"#;
        for messages in [[library, tests, command], [library, command, tests]] {
            assert_eq!(program_of_tests(&messages.join("\n")), Some(PathBuf::from("/t/all-1")));
        }
        assert_eq!(program_of_tests(&[library, command].join("\n")), None);
    }
}
