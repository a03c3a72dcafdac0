#![no_main]

upstill_fuzz::target!("bzip2");
