//! How many photos are being worked on, and what gives way to them.
//!
//! A photo's side takes no lock: a thread of idle priority that was preempted with one in its hands would hold up
//! everybody else.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};

/// The photos in work, whoever sent them. Cheap to clone.
#[derive(Clone, Default)]
pub struct Presence(Arc<Inner>);

#[derive(Default)]
struct Inner {
    photos: AtomicUsize,
    ended: AtomicBool,
    idler: OnceLock<Idler>,
}

struct Idler {
    thread: Thread,
    give_way: Box<dyn Fn() + Send + Sync>,
}

/// A photo in work, for as long as it lives.
pub struct Present(Presence);

/// Waiting is over for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended;

impl Presence {
    /// A photo is about to take cores. The first one has whatever runs in the meantime give way.
    pub fn enter(&self) -> Present {
        // Before the signal to give way: who takes that back looks at this number afterwards.
        if self.0.photos.fetch_add(1, Ordering::SeqCst) == 0
            && let Some(idler) = self.0.idler.get()
        {
            (idler.give_way)();
        }
        Present(self.clone())
    }

    /// Whether no photo is in work.
    pub fn is_quiet(&self) -> bool {
        self.0.photos.load(Ordering::SeqCst) == 0
    }

    /// The calling thread is the one that works in the meantime; `give_way` stops it, and must not block. The first
    /// one given stays.
    pub fn idle_here(&self, give_way: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.idler.set(Idler {
            thread: thread::current(),
            give_way: Box::new(give_way),
        });
    }

    /// Blocks until no photo is in work. For the thread of [`idle_here`](Self::idle_here) alone.
    pub fn wait_until_quiet(&self) -> Result<(), Ended> {
        loop {
            if self.0.ended.load(Ordering::SeqCst) {
                return Err(Ended);
            }
            if self.is_quiet() {
                return Ok(());
            }
            thread::park();
        }
    }

    /// Nothing works in the meantime any more: what does gives way, and who waits for quiet is told.
    pub fn end(&self) {
        self.0.ended.store(true, Ordering::SeqCst);
        if let Some(idler) = self.0.idler.get() {
            (idler.give_way)();
            idler.thread.unpark();
        }
    }

    /// Whether [`end`](Self::end) was called.
    pub fn has_ended(&self) -> bool {
        self.0.ended.load(Ordering::SeqCst)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let inner = &self.0.0;
        if inner.photos.fetch_sub(1, Ordering::SeqCst) == 1
            && let Some(idler) = inner.idler.get()
        {
            idler.thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn the_first_photo_has_the_idler_give_way_and_the_last_one_lets_it_go_on() {
        let presence = Presence::default();
        let (told, asked) = mpsc::channel();
        let (quiet, until_quiet) = mpsc::channel();
        let idle = presence.clone();
        let first = presence.enter();
        let idler = thread::spawn(move || {
            idle.idle_here(move || told.send(()).unwrap());
            quiet.send(None).unwrap();
            loop {
                let answer = idle.wait_until_quiet();
                quiet.send(Some(answer)).unwrap();
                if answer.is_err() {
                    return;
                }
                while idle.is_quiet() && !idle.has_ended() {
                    thread::yield_now();
                }
            }
        });
        assert_eq!(until_quiet.recv(), Ok(None));
        let second = presence.enter();
        drop(first);
        assert!(until_quiet.try_recv().is_err(), "one photo is still there");
        drop(second);
        assert_eq!(until_quiet.recv(), Ok(Some(Ok(()))));
        assert!(
            asked.try_recv().is_err(),
            "nobody came to an idle worker yet"
        );
        let third = presence.enter();
        let fourth = presence.enter();
        assert_eq!(asked.recv(), Ok(()));
        assert!(asked.try_recv().is_err(), "once is enough");
        presence.end();
        assert_eq!(until_quiet.recv(), Ok(Some(Err(Ended))));
        drop((third, fourth));
        idler.join().unwrap();
    }
}
