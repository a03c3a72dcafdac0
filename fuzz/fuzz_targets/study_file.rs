#![no_main]

upstill_fuzz::target!("study_file");
