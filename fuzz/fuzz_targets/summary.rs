#![no_main]

upstill_fuzz::target!("summary");
