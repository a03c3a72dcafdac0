#![no_main]

upstill_fuzz::target!("transfer_cache");
