//! What goes wrong, one after the other, in an order that the seed decides.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::harness::{Worker, quick};
use crate::plan::Way;
use crate::{LEASE, QUEUE, Run};

/// Cards in the deck; some faults have several.
const FAULTS: u8 = 14;

impl Run {
    /// One fault of the schedule, from its beginning to its end. They are drawn as cards are: each
    /// comes before any comes again.
    pub fn fault(&mut self) {
        let moment = Duration::from_millis(self.random.u64(300..2000));
        if self.deck.is_empty() {
            self.deck = (0..FAULTS).collect();
            self.random.shuffle(&mut self.deck);
        }
        match self.deck.pop().unwrap_or_default() {
            0..=2 => self.kill_a_worker(moment),
            3 => self.stop_a_worker(),
            4 => self.freeze_a_worker(moment),
            5 => self.hang_a_worker(),
            6..=7 => self.fill_the_disk(moment * 2),
            8 => self.close_folders("outputs read-only", &["out", "outbox"], 0o555, moment * 2),
            9 => self.close_folders("inbox unreadable", &["inbox"], 0o000, moment * 2),
            // Longer than a statement waits, too.
            10..=11 => self.lock_the_queue(moment * 4),
            12 => self.restart_both(),
            _ => self.kill_a_publisher(moment / 4),
        }
    }

    /// One of the two that does not hang.
    fn awake(&mut self) -> usize {
        let any = self.random.usize(..2);
        match self.hung {
            Some((hung, _)) => 1 - hung,
            None => any,
        }
    }

    fn kill_a_worker(&mut self, pause: Duration) {
        self.account.note("kill -9 of a worker");
        let slot = self.awake();
        if let Some(worker) = self.slots[slot].worker.take() {
            worker.kill();
        }
        std::thread::sleep(pause);
        self.slots[slot].worker = Some(Worker::start(self.worker()));
    }

    fn stop_a_worker(&mut self) {
        self.account.note("SIGTERM to a worker");
        let slot = self.awake();
        if let Some(mut worker) = self.slots[slot].worker.take() {
            worker.signal("TERM");
            worker.exit();
        }
        self.slots[slot].worker = Some(Worker::start(self.worker()));
    }

    fn freeze_a_worker(&mut self, moment: Duration) {
        self.account.note("SIGSTOP for a moment");
        let slot = self.awake();
        if let Some(worker) = &self.slots[slot].worker {
            worker.signal("STOP");
            std::thread::sleep(moment);
            worker.signal("CONT");
        }
    }

    /// Stopped for longer than its leases last, while other things happen.
    fn hang_a_worker(&mut self) {
        if self.hung.is_some() {
            return;
        }
        self.account.note("SIGSTOP for longer than the leases");
        let slot = self.awake();
        if let Some(worker) = &self.slots[slot].worker {
            worker.signal("STOP");
            let until = Instant::now() + LEASE + Duration::from_secs(2);
            self.hung = Some((slot, until));
        }
    }

    /// Lets the hung worker go on when its time has come.
    pub fn wake(&mut self) {
        let Some((slot, until)) = self.hung else {
            return;
        };
        if Instant::now() < until {
            return;
        }
        self.hung = None;
        if let Some(worker) = &self.slots[slot].worker {
            worker.signal("CONT");
        }
    }

    fn fill_the_disk(&mut self, moment: Duration) {
        let left = self.random.u64(..64 << 10);
        let Some(disk) = &self.disk else {
            return;
        };
        self.account.note("disk full");
        disk.leave(left);
        std::thread::sleep(moment);
        disk.make_room();
    }

    fn close_folders(&mut self, name: &'static str, folders: &[&str], mode: u32, moment: Duration) {
        if !self.powerless {
            return;
        }
        self.account.note(name);
        let set = |mode| {
            for folder in folders {
                let folder = self.root.join(folder);
                fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap();
            }
        };
        set(mode);
        std::thread::sleep(moment);
        set(0o755);
    }

    fn lock_the_queue(&mut self, moment: Duration) {
        let stranger = Connection::open(self.root.join(QUEUE)).unwrap();
        stranger.busy_timeout(Duration::from_secs(5)).unwrap();
        // A worker that hangs may hold the lock itself.
        if stranger.execute_batch("BEGIN EXCLUSIVE").is_ok() {
            self.account.note("queue locked by another process");
            std::thread::sleep(moment);
            stranger.execute_batch("ROLLBACK").unwrap();
        }
    }

    fn restart_both(&mut self) {
        if self.hung.is_some() {
            return;
        }
        self.account.note("restart of both workers");
        let [first, second] = &mut self.slots;
        if let Some(worker) = first.worker.take() {
            worker.kill();
        }
        if let Some(mut worker) = second.worker.take() {
            worker.signal("TERM");
            worker.exit();
        }
        for slot in 0..2 {
            self.slots[slot].worker = Some(Worker::start(self.worker()));
        }
    }

    /// A publisher is killed over jobs that were handed in before.
    fn kill_a_publisher(&mut self, moment: Duration) {
        let mut jobs: Vec<_> = self.handed_in.iter().map(|&job| &self.jobs[job]).collect();
        jobs.retain(|job| job.way == Way::ByProgram);
        if jobs.is_empty() {
            return;
        }
        self.account.note("kill -9 of a publisher");
        let mut publisher = quick();
        publisher
            .args(["publish", "--file", "-", "--ingress", "local", "--root"])
            .arg(&self.root)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut publisher = publisher.spawn().unwrap();
        let mut input = publisher.stdin.take().unwrap();
        for job in jobs.iter().take(20) {
            writeln!(input, "{}", job.message).unwrap();
        }
        drop(input);
        std::thread::sleep(moment);
        publisher.kill().unwrap();
        publisher.wait().unwrap();
    }
}
