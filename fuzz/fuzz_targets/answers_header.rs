#![no_main]

upstill_fuzz::target!("answers_header");
