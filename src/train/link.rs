//! What carries bytes between ranks: MPI (`src/train/mpi.rs`), or threads in a test.

use std::fmt::Debug;

use crate::error::Error;

/// How ranks reach each other. Every rank makes the same calls in the same order.
pub trait Link: Debug + Send + Sync {
    /// This process's number, from 0.
    fn rank(&self) -> usize;
    /// How many processes there are.
    fn size(&self) -> usize;
    /// Sends `outgoing[p]` to each rank p, and gives what each sent; `lengths[p]` bytes come from rank p. A rank's own
    /// place is empty. Where a rank isn't heard of for too long, the job is ended with a message that names it.
    fn exchange(&self, outgoing: &[&[u8]], lengths: &[usize]) -> Vec<Vec<u8>>;
    /// Ends all ranks at once, this one with what went wrong.
    fn abort(&self, error: &Error) -> !;
}
