//! Work done ahead by a background thread.

use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

/// What `make` gives for each step of a range, in order.
pub(super) enum Prefetch<T, F> {
    /// A thread makes them. The receiver goes before the thread is waited for, which ends it; both are `None` at the
    /// end.
    Ahead { ready: Option<Receiver<T>>, thread: Option<JoinHandle<()>> },
    /// No thread could be started: they are made when asked for.
    Here { make: F, steps: Range<u64> },
}

impl<T: Send + 'static, F: Fn(u64) -> T + Send + Clone + 'static> Prefetch<T, F> {
    /// Starts a thread that keeps up to `ahead` results ready.
    pub fn start(make: F, steps: Range<u64>, ahead: usize) -> Self {
        let (send, ready) = sync_channel(ahead);
        let (its_make, its_steps) = (make.clone(), steps.clone());
        let work = move || {
            // Sending fails when the receiver is gone: nobody wants the rest.
            let _ = its_steps.map(its_make).try_for_each(|made| send.send(made));
        };
        match Builder::new().name("upstill-batches".into()).spawn(work) {
            Ok(thread) => Self::Ahead { ready: Some(ready), thread: Some(thread) },
            Err(_) => Self::Here { make, steps },
        }
    }
}

impl<T, F: Fn(u64) -> T> Iterator for Prefetch<T, F> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match self {
            Self::Here { make, steps } => steps.next().map(make),
            Self::Ahead { ready, thread } => {
                if let Ok(made) = ready.as_ref()?.recv() {
                    return Some(made);
                }
                *ready = None;
                if let Some(Err(panic)) = thread.take().map(JoinHandle::join) {
                    std::panic::resume_unwind(panic);
                }
                None
            }
        }
    }
}

impl<T, F> Drop for Prefetch<T, F> {
    fn drop(&mut self) {
        if let Self::Ahead { ready, thread } = self {
            *ready = None;
            // A panic that nobody waited for is let go: the iterator was dropped before reaching it.
            let _ = thread.take().map(JoinHandle::join);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn results_come_in_order_and_end() {
        for ahead in [0, 1, 100] {
            let mut squares = Prefetch::start(|step| step * step, 3..6, ahead);
            assert_eq!(squares.by_ref().collect::<Vec<_>>(), [9, 16, 25]);
            assert_eq!(squares.next(), None);
        }
        assert_eq!(Prefetch::start(|step| step, 5..5, 1).count(), 0);
    }

    #[test]
    fn dropping_it_ends_the_thread() {
        let made = Arc::new(AtomicU64::new(0));
        let counter = made.clone();
        let mut steps = Prefetch::start(move |step| counter.fetch_max(step, Ordering::SeqCst), 0..u64::MAX, 2);
        steps.next();
        drop(steps);
        let after = made.load(Ordering::SeqCst);
        assert!(after <= 4, "{after}: no further ahead than asked");
        assert_eq!(Arc::strong_count(&made), 1, "the thread and its closure are gone");
    }

    #[test]
    fn a_panic_of_the_thread_surfaces() {
        let mut steps = Prefetch::start(|step| if step < 2 { step } else { panic!("step {step} is broken") }, 0..9, 4);
        assert_eq!((steps.next(), steps.next()), (Some(0), Some(1)));
        let panic = catch_unwind(AssertUnwindSafe(|| steps.next())).expect_err("the panic goes on here");
        assert_eq!(panic.downcast_ref::<String>().map(String::as_str), Some("step 2 is broken"));
        assert_eq!(steps.next(), None);
    }

    #[test]
    fn without_threads_it_works_on_the_spot() {
        let here = Prefetch::Here { make: |step| step + 1, steps: 0..3 };
        assert_eq!(here.collect::<Vec<_>>(), [1, 2, 3]);
    }
}
