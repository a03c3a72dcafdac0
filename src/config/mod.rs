//! Run files: what was written and what it comes to.
