//! The tasks that workers take, and how many of the workers may.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A queue for numbered workers. Those whose number is too high wait, however much there is to do.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    tasks: VecDeque<T>,
    /// Workers from this number on wait.
    open_to: usize,
    closed: bool,
}

impl<T> Queue<T> {
    /// An empty queue, open to the first so many workers.
    pub(super) fn new(open_to: usize) -> Queue<T> {
        Queue { state: Mutex::new(State { tasks: VecDeque::new(), open_to, closed: false }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing that holds the lock can panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a task behind all others.
    pub(super) fn push(&self, task: T) {
        self.lock().tasks.push_back(task);
        // Not one alone: it could be one that has to wait.
        self.changed.notify_all();
    }

    /// From now on the first so many workers take tasks.
    pub(super) fn open_to(&self, workers: usize) {
        self.lock().open_to = workers;
        self.changed.notify_all();
    }

    /// There will be no more tasks: those that are there are still taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits for a task that this worker may take; nothing once the queue is closed and empty, or closed to it.
    pub(super) fn take(&self, worker: usize) -> Option<T> {
        let mut state = self.lock();
        loop {
            if worker < state.open_to
                && let Some(task) = state.tasks.pop_front()
            {
                return Some(task);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn only_the_first_workers_take_tasks_and_a_closed_queue_is_emptied() {
        let queue = Arc::new(Queue::new(1));
        let (send, taken) = channel();
        let workers: Vec<_> = (0..3)
            .map(|worker| {
                let (queue, send) = (queue.clone(), send.clone());
                std::thread::spawn(move || {
                    while let Some(task) = queue.take(worker) {
                        send.send((worker, task)).unwrap();
                    }
                })
            })
            .collect();
        (0..20).for_each(|task| queue.push(task));
        let first: Vec<(usize, i32)> = (0..20).map(|_| taken.recv().unwrap()).collect();
        assert_eq!(first, (0..20).map(|task| (0, task)).collect::<Vec<_>>());
        queue.open_to(2);
        (20..40).for_each(|task| queue.push(task));
        queue.close();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        let mut rest: Vec<(usize, i32)> = taken.try_iter().collect();
        rest.sort_by_key(|&(_, task)| task);
        assert_eq!(rest.iter().map(|&(_, task)| task).collect::<Vec<_>>(), (20..40).collect::<Vec<_>>());
        assert!(rest.iter().all(|&(worker, _)| worker < 2));
    }
}
