#![no_main]

upstill_fuzz::target!("safetensors_index");
