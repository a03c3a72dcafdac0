//! Tells the program which commit it was built from, for `run.json`; "unknown" outside a checkout.

use std::path::Path;
use std::process::Command;

fn main() {
    // A file that isn't there would make cargo run this at every build, and compile everything after it.
    println!("cargo::rerun-if-changed=build.rs");
    let head = git(&["rev-parse", "--git-path", "HEAD"]);
    // The branch's own file alone: other branches, and other checkouts that share the folder, have nothing to say.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]).and_then(|branch| git(&["rev-parse", "--git-path", &branch]));
    for file in [head, branch].into_iter().flatten().filter(|file| Path::new(file).exists()) {
        println!("cargo::rerun-if-changed={file}");
    }
    println!("cargo::rustc-env=UPSTILL_COMMIT={}", git(&["describe", "--always", "--dirty"]).as_deref().unwrap_or("unknown"));
}

/// What git answers, when there is a git and it has an answer.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
