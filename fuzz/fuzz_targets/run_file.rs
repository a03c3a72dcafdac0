#![no_main]

upstill_fuzz::target!("run_file");
