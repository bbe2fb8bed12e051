//! The chaos test of local mode: two workers on one root, and everything that can go wrong with disk,
//! directory, queue and process, in an order that a seed decides. At the end the invariants are counted.
//!
//! `make soak` runs it with many jobs; the suite runs a few. A run is repeated by its `CHAOS_SEED`, as
//! far as the machine's own timing lets it.

mod harness;
mod support;

#[path = "chaos_local/count.rs"]
mod count;
#[path = "chaos_local/fault.rs"]
mod fault;
#[path = "chaos_local/plan.rs"]
mod plan;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use count::Seen;
use cutout::ingress::local::LocalQueue;
use cutout::ingress::{JobPublisher, OutgoingMessage};
use harness::{Worker, file, quick};
use plan::{Planned, Way};
use support::chaos::{Account, setting};
use support::disk::{SmallDisk, can_mount, powerless, with_own_mounts};

/// The queue's file, in the root.
const QUEUE: &str = ".cutout/queue.sqlite";

/// The shortest that can be configured.
const LEASE: Duration = Duration::from_secs(10);

/// Ends a run that does not come to its end.
const PATIENCE_PER_JOB: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(240);

/// A worker, and what a service manager does for it: starting it again when it ends.
struct Slot {
    worker: Option<Worker>,
    ended: u32,
    most_memory: u64,
}

struct Run {
    /// None where nobody may mount: then the disk is never full.
    disk: Option<SmallDisk>,
    root: PathBuf,
    /// Whether permissions stop the workers.
    powerless: bool,
    queue: LocalQueue,
    runtime: tokio::runtime::Runtime,
    slots: [Slot; 2],
    /// Which worker is stopped, and until when.
    hung: Option<(usize, Instant)>,
    random: fastrand::Rng,
    /// Faults that are still to come before any comes again.
    deck: Vec<u8>,
    account: Account,
    jobs: Vec<Planned>,
    /// Jobs that were given to the workers at least once.
    handed_in: BTreeSet<usize>,
    /// Messages and uploads given.
    given: u64,
    /// Slow copies under way.
    copies: Vec<JoinHandle<()>>,
    seen: Seen,
}

impl Run {
    fn worker(&self) -> Command {
        worker(&self.root, self.powerless)
    }

    /// Gives jobs to the workers, each in its own way.
    fn hand_in(&mut self, jobs: &[usize]) {
        let mut by_program = Vec::new();
        for &index in jobs {
            let again = !self.handed_in.insert(index);
            let job = &self.jobs[index];
            self.given += 1;
            match job.way {
                Way::Published => self.publish(OutgoingMessage {
                    data: job.message.clone().into(),
                    ..OutgoingMessage::default()
                }),
                Way::ByProgram => by_program.push(job.message.clone()),
                Way::Dropped(_) if again => {
                    // It is announced once more when it is there as a whole.
                    for copy in self.copies.drain(..) {
                        copy.join().unwrap();
                    }
                    self.publish(self.jobs[index].announcement(&self.root));
                }
                Way::Dropped(_) => self.copies.extend(job.upload(&self.root)),
            }
        }
        if !by_program.is_empty() {
            self.publish_by_program(&by_program);
        }
    }

    /// A worker that hangs may keep the queue locked for as long.
    fn publish(&self, message: OutgoingMessage) {
        harness::wait_until("the queue to take a message", || {
            self.wake_if_due();
            let published = self.runtime.block_on(self.queue.publish(message.clone()));
            published.ok()
        });
    }

    fn publish_by_program(&self, messages: &[String]) {
        harness::wait_until("a publisher that succeeds", || {
            self.wake_if_due();
            let mut publisher = quick();
            publisher
                .args(["publish", "--file", "-", "--ingress", "local", "--root"])
                .arg(&self.root)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let mut publisher = publisher.spawn().unwrap();
            let mut input = publisher.stdin.take().unwrap();
            let written = input.write_all(messages.join("\n").as_bytes());
            drop(input);
            (publisher.wait().unwrap().success() && written.is_ok()).then_some(())
        });
    }

    fn wake_if_due(&self) {
        if let Some((slot, until)) = self.hung
            && Instant::now() >= until
            && let Some(worker) = &self.slots[slot].worker
        {
            worker.signal("CONT");
        }
    }

    fn look(&mut self) {
        self.wake();
        for slot in 0..2 {
            self.restart_if_ended(slot);
        }
        self.seen.look(&self.root);
    }

    fn restart_if_ended(&mut self, slot: usize) {
        let command = self.worker();
        let slot = &mut self.slots[slot];
        let Some(worker) = &mut slot.worker else {
            return;
        };
        slot.most_memory = slot.most_memory.max(worker.peak_memory());
        if let Some(said) = worker.ended() {
            println!("a worker ended by itself: {said}");
            slot.ended += 1;
            slot.worker = Some(Worker::start(command));
        }
    }

    fn unanswered(&self) -> usize {
        let unanswered = self.jobs.iter().filter(|job| !self.seen.answered(job));
        unanswered.count()
    }

    /// One line for who watches a long run.
    fn tell(&self, begun: Instant) {
        let (answered, all) = (self.jobs.len() - self.unanswered(), self.jobs.len());
        println!(
            "{:.0?}: {answered} of {all} jobs are answered",
            begun.elapsed()
        );
    }
}

fn worker(root: &Path, without_power: bool) -> Command {
    let mut command = quick();
    command
        .args(["worker", "--ingress", "local", "--lease-extension", "10s"])
        .args(["--drain-timeout", "3s", "--job-timeout", "30s"])
        // More than a job has with a photo that kills workers: here every worker is killed.
        .args(["--max-attempts", "100", "--root"])
        .arg(root);
    match powerless(&command) {
        Some(command) if without_power => command,
        _ => command,
    }
}

#[test]
fn nothing_is_lost_and_nothing_is_done_twice_whatever_breaks_here() {
    let name = "nothing_is_lost_and_nothing_is_done_twice_whatever_breaks_here";
    if can_mount() {
        with_own_mounts(name, || chaos(true));
    } else {
        println!("SKIPPED: the full disk, as nobody may mount here; all else is tried");
        chaos(false);
    }
}

fn chaos(mounts: bool) {
    let count = usize::try_from(setting("CHAOS_JOBS", 100)).unwrap();
    let seed = setting("CHAOS_SEED", 20_261_125);
    let mut random = fastrand::Rng::with_seed(seed);
    let begun = Instant::now();
    println!("seed {seed}, {count} jobs");

    let bytes = (64 << 20) + (count as u64) * (600 << 10);
    let disk = mounts.then(|| SmallDisk::mount(bytes));
    let folder = tempfile::tempdir().unwrap();
    let root = disk.as_ref().map_or(folder.path(), SmallDisk::path);
    let root = root.canonicalize().unwrap();
    for folder in ["inbox", "outbox", "out"] {
        std::fs::create_dir(root.join(folder)).unwrap();
    }
    let jobs = plan::plan(count, &mut random, &root, &file("samples/cat.jpg"));
    let powerless = powerless(&quick()).is_some();
    let slot = || Slot {
        worker: Some(Worker::start(worker(&root, powerless))),
        ended: 0,
        most_memory: 0,
    };
    let mut run = Run {
        slots: [slot(), slot()],
        queue: LocalQueue::open(root.join(QUEUE)).unwrap(),
        disk,
        root,
        powerless,
        runtime: tokio::runtime::Runtime::new().unwrap(),
        hung: None,
        random,
        deck: Vec::new(),
        account: Account::default(),
        jobs,
        handed_in: BTreeSet::new(),
        given: 0,
        copies: Vec::new(),
        seen: Seen::default(),
    };

    // 20 % come twice, some at once and some much later.
    let mut order: Vec<usize> = (0..count).collect();
    order.extend((0..count).filter(|i| i % 5 == 2));
    run.random.shuffle(&mut order);
    let patience = PATIENCE + PATIENCE_PER_JOB * u32::try_from(count).unwrap();
    // All faults, at least once.
    let steps = 14;
    for chunk in order.chunks(order.len().div_ceil(count.div_ceil(20).max(steps))) {
        run.hand_in(chunk);
        run.fault();
        run.look();
        run.tell(begun);
    }
    while run.unanswered() > 0 || run.hung.is_some() || count::messages(&run.root) > 0 {
        assert!(
            begun.elapsed() < patience,
            "{} of {count} jobs are not answered after {:?}",
            run.unanswered(),
            begun.elapsed()
        );
        if run.unanswered() > count / 10 {
            run.fault();
            run.tell(begun);
        }
        std::thread::sleep(Duration::from_millis(200));
        run.look();
    }

    let (mut ended, mut memory) = (0, 0);
    for slot in &mut run.slots {
        (ended, memory) = (ended + slot.ended, memory.max(slot.most_memory));
        if let Some(mut worker) = slot.worker.take() {
            worker.signal("TERM");
            let (code, _) = worker.exit();
            assert_eq!(code, Some(0), "the drain: {:#?}", worker.logs().last());
        }
    }
    run.seen.look(&run.root);
    count::finish(&run, ended, memory, seed, begun);
}
