#![no_main]

upstill_fuzz::target!("model_config");
