//! The `upstill` command.

fn main() {}
