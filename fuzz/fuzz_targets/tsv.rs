#![no_main]

upstill_fuzz::target!("tsv");
