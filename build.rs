//! Tells the program which commit it was built from, for `run.json`; "unknown" outside a checkout.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=.git/HEAD");
    // The branch's own file alone: other branches, and other checkouts that share the folder, have nothing to say.
    if let Some(branch) =
        std::fs::read_to_string(".git/HEAD").ok().and_then(|head| Some(head.strip_prefix("ref: ")?.trim().to_owned()))
    {
        println!("cargo::rerun-if-changed=.git/{branch}");
    }
    let described = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let commit = described.ok().filter(|output| output.status.success()).and_then(|output| String::from_utf8(output.stdout).ok());
    println!("cargo::rustc-env=UPSTILL_COMMIT={}", commit.as_deref().unwrap_or("unknown").trim());
}
