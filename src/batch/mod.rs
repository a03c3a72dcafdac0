//! Order, masking, packing: a batch is a pure function of (shards, seed, step).
