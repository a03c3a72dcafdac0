//! Records of a run: console progress, `steps.jsonl`, TensorBoard events.
