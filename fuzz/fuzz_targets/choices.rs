#![no_main]

upstill_fuzz::target!("choices");
