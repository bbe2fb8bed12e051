//! What bounds the worker is given back, whatever happens to a job on its way: real pixels and a
//! real (tiny) network, whose thread is held where a test wants it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use cutout::engine::Engine;
use cutout::engine::session::SessionConfig;
use cutout::engine::tensor::{Tensor, TensorData};
use cutout::error::{Class, Code, Error, Result};
use cutout::job::{Job, JobResult};
use cutout::model;
use cutout::object::{ObjectName, ObjectRef};
use cutout::pipeline::admit::Policy;
use cutout::pipeline::budget::{Budget, Share};
use cutout::pipeline::cpu::CpuPool;
use cutout::pipeline::cutout::Cutter;
use cutout::pipeline::decode::Limits;
use cutout::pipeline::presence::Presence;
use cutout::pipeline::{Arrival, Pipeline};
use cutout::store::dir::DirStore;
use cutout::store::{NewObject, ObjectMeta, OpenObject, Precondition, Store, Written};
use cutout::telemetry::metrics::Metrics;
use cutout::telemetry::traces::Spans;
use fail::FailScenario;
use futures::StreamExt;
use tokio::task::JoinHandle;

/// Nothing here takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Long enough for a job to get to where it is to wait, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(4);

const PLENTY: u64 = 1 << 30;

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

async fn engine() -> Engine {
    let models = file("tests/fixtures/home/models");
    let manifest = model::find(models.join("brightness.toml").to_str().unwrap(), None).unwrap();
    let started = Engine::start(SessionConfig::new(
        file(".cache/lib/libonnxruntime.so"),
        model::verify(&manifest, &models).unwrap(),
        manifest,
        1,
    ));
    started.await.unwrap()
}

/// A directory whose downloads may hang after the first bytes.
struct Shelf {
    dir: DirStore,
    hangs: bool,
}

#[async_trait]
impl Store for Shelf {
    async fn stat(&self, object: &ObjectRef) -> Result<ObjectMeta> {
        self.dir.stat(object).await
    }

    async fn open(&self, object: &ObjectRef) -> Result<OpenObject> {
        let mut opened = self.dir.open(object).await?;
        if self.hangs {
            let first = futures::stream::iter([Ok(Bytes::from_static(b"\x89PNG"))]);
            opened.body = first.chain(futures::stream::pending()).boxed();
        }
        Ok(opened)
    }

    async fn write(
        &self,
        name: &ObjectName,
        object: NewObject,
        precondition: Precondition,
    ) -> Result<Written> {
        self.dir.write(name, object, precondition).await
    }

    async fn list(&self, bucket: Option<&str>, prefix: &str) -> Result<Vec<ObjectMeta>> {
        self.dir.list(bucket, prefix).await
    }

    async fn probe(&self, bucket: Option<&str>) -> Result<()> {
        self.dir.probe(bucket).await
    }
}

/// A pipeline over a directory of its own.
struct Site {
    dir: tempfile::TempDir,
    pipeline: Pipeline,
}

impl Site {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Metrics::new();
        let engine = engine().await;
        let pipeline = Pipeline {
            store: Arc::new(Shelf {
                dir: DirStore::open(dir.path()).unwrap(),
                hangs: false,
            }),
            policy: Policy {
                sources: None,
                destinations: None,
                bucket: None,
                template: "out/{stem}.{ext}".parse().unwrap(),
                uploads: None,
                overwrite: false,
                model: engine.info().manifest.name.clone(),
                others: Vec::new(),
                review: None,
            },
            cutter: Cutter {
                engine,
                memory: Budget::new(PLENTY),
                cpu: CpuPool::new(2),
                limits: Limits::default(),
                review: None,
                presence: Presence::default(),
                metrics: metrics.clone(),
            },
            arms: None,
            shadow: None,
            downloads: Budget::new(PLENTY),
            max_file_bytes: 50 << 20,
            job_timeout: DEADLINE,
            metrics,
        };
        Self { dir, pipeline }
    }

    fn hang_downloads(&mut self) {
        self.pipeline.store = Arc::new(Shelf {
            dir: DirStore::open(self.dir.path()).unwrap(),
            hangs: true,
        });
    }

    /// Puts a photo there, and returns the length of its file.
    fn photo(&self, name: &str, width: u32, height: u32) -> u64 {
        let photo = image::RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([if x * 2 >= width { 255 } else { 0 }, (y % 256) as u8, 0])
        });
        let path = self.dir.path().join(format!("{name}.png"));
        photo.save(&path).unwrap();
        path.metadata().unwrap().len()
    }

    fn start(self) -> Running {
        Running {
            dir: self.dir,
            pipeline: Arc::new(self.pipeline),
        }
    }
}

type Answer = Result<Option<JobResult>>;

struct Running {
    dir: tempfile::TempDir,
    pipeline: Arc<Pipeline>,
}

impl Running {
    fn memory(&self) -> &Budget {
        &self.pipeline.cutter.memory
    }

    fn job(&self, name: &str) -> JoinHandle<Answer> {
        let job = Job::new(format!("{name}.png").parse().unwrap());
        let pipeline = Arc::clone(&self.pipeline);
        let arrival = Arrival {
            attempt: 1,
            queued: Duration::ZERO,
            notified: false,
            spans: Spans::default(),
        };
        tokio::spawn(async move {
            let walked = pipeline.run(job, arrival).await?;
            Ok(walked.map(|walked| walked.result))
        })
    }

    /// Jobs that wait for a stage, as the metrics tell.
    fn waiting(&self, stage: &str) -> u64 {
        let name = format!("cutout_stage_queue_depth{{stage=\"{stage}\"}} ");
        let text = self.pipeline.metrics.render().unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Nothing is out, nobody waits, and every place is free.
    async fn everything_is_back(&self) {
        let (memory, downloads) = (self.memory(), &self.pipeline.downloads);
        until("all memory", || memory.used() + downloads.used() == 0).await;
        assert_eq!(memory.waiting() + downloads.waiting(), 0);
        for stage in ["download", "decode", "infer", "compose"] {
            assert_eq!(self.waiting(stage), 0, "{stage}");
        }
        until("an idle engine", || {
            self.pipeline.cutter.engine.pulse().busy_for().is_none()
        })
        .await;
    }

    fn outputs(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("out")).map_or(0, Iterator::count)
    }
}

async fn until(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn failed(job: JoinHandle<Answer>) -> Error {
    job.await.unwrap().expect_err("its deadline has passed")
}

/// A place in the program where whoever comes by tells and waits to be let go.
struct Gate {
    arrivals: Arc<AtomicUsize>,
    open: Mutex<Option<mpsc::Sender<()>>>,
}

impl Gate {
    fn at(point: &str) -> Self {
        let arrivals = Arc::new(AtomicUsize::new(0));
        let (open, closed) = mpsc::channel::<()>();
        let (seen, closed) = (Arc::clone(&arrivals), Mutex::new(closed));
        fail::cfg_callback(point, move || {
            seen.fetch_add(1, Ordering::SeqCst);
            // An error means that the gate is open.
            let _ = closed.lock().unwrap().recv();
        })
        .unwrap();
        Self {
            arrivals,
            open: Mutex::new(Some(open)),
        }
    }

    fn arrivals(&self) -> usize {
        self.arrivals.load(Ordering::SeqCst)
    }

    async fn arrived(&self, count: usize) {
        until("arrivals", || self.arrivals() >= count).await;
    }

    fn let_one_go(&self) {
        let open = self.open.lock().unwrap();
        open.as_ref().unwrap().send(()).unwrap();
    }

    fn open(&self) {
        self.open.lock().unwrap().take();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_deadline_passes_while_it_waits_for_memory_gives_everything_back() {
    let site = Site::new().await;
    site.photo("rex", 64, 64);
    let site = site.start();
    for budget in [site.memory(), &site.pipeline.downloads] {
        let all = budget.take(PLENTY).await.unwrap();
        let job = site.job("rex");
        until("the job's turn", || budget.waiting() > 0).await;
        let error = failed(job).await;
        assert_eq!(error.code(), Code::OutOfBudget);
        assert_eq!(error.class(), Class::Retryable);
        drop(all);
        site.everything_is_back().await;
    }
    site.job("rex").await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_deadline_passes_while_it_waits_for_a_core_gives_everything_back() {
    let mut site = Site::new().await;
    site.photo("rex", 64, 64);
    site.pipeline.cutter.cpu = CpuPool::new(1);
    let site = site.start();
    let (end, ended) = mpsc::channel::<()>();
    let cpu = site.pipeline.cutter.cpu.clone();
    let (placed, place) = tokio::sync::oneshot::channel();
    let other = tokio::spawn(async move {
        let work = move || {
            placed.send(()).unwrap();
            let _ = ended.recv();
            Ok(())
        };
        cpu.run((), work).await
    });
    place.await.unwrap();
    let job = site.job("rex");
    until("the job's turn", || site.memory().used() > 0).await;
    assert_eq!(failed(job).await.code(), Code::DeadlineExceeded);
    site.everything_is_back().await;
    drop(end);
    other.await.unwrap().unwrap();
    site.job("rex").await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_deadline_passes_while_it_waits_for_the_engine_is_never_run() {
    let _scenario = FailScenario::setup();
    let site = Site::new().await;
    site.photo("rex", 64, 64);
    let site = site.start();
    let gate = Gate::at("network_running");
    let engine = site.pipeline.cutter.engine.clone();
    let other = tokio::spawn(async move {
        let free = || Box::new(());
        engine.infer(grey(), free(), free()).await
    });
    gate.arrived(1).await;
    let job = site.job("rex");
    until("the job's turn", || site.waiting("infer") == 1).await;
    let error = failed(job).await;
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(error.class(), Class::Retryable);
    // While the engine is still busy with the other one.
    until("the job's memory", || site.memory().used() == 0).await;
    assert_eq!(site.waiting("infer"), 0);
    assert_eq!(gate.arrivals(), 1);
    gate.open();
    other.await.unwrap().unwrap();
    // Runs happen in the order in which they were asked for, so the next one tells.
    site.job("rex").await.unwrap().unwrap();
    assert_eq!(gate.arrivals(), 2, "the job that was given up was run");
    site.everything_is_back().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_deadline_passes_in_a_download_that_hangs_gives_everything_back() {
    let mut site = Site::new().await;
    site.photo("rex", 64, 64);
    site.hang_downloads();
    let site = site.start();
    let job = site.job("rex");
    until("the download", || site.pipeline.downloads.used() > 0).await;
    let error = failed(job).await;
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(error.class(), Class::Retryable);
    site.everything_is_back().await;
}

/// Neither the pixels of a thread nor the tensor of a run go away because nobody wants them.
#[tokio::test(flavor = "multi_thread")]
async fn work_under_way_keeps_its_memory_until_it_ends_although_its_job_is_gone() {
    for point in ["photo_decoded", "network_running", "picture_composed"] {
        let _scenario = FailScenario::setup();
        let site = Site::new().await;
        site.photo("rex", 64, 64);
        let site = site.start();
        let gate = Gate::at(point);
        let job = site.job("rex");
        gate.arrived(1).await;
        let paid = site.memory().used();
        assert!(paid > 0, "{point}");
        assert_eq!(failed(job).await.code(), Code::DeadlineExceeded, "{point}");
        assert_eq!(site.memory().used(), paid, "{point}");
        gate.open();
        site.everything_is_back().await;
        assert_eq!(site.outputs(), 0, "{point}");
    }
}

fn grey() -> Tensor {
    Tensor {
        width: 64,
        height: 64,
        data: TensorData::NhwcU8(vec![128; 64 * 64 * 3]),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_request_takes_its_tensor_out_of_the_queue_at_once() {
    let _scenario = FailScenario::setup();
    let engine = engine().await;
    let gate = Gate::at("network_running");
    let (running, queued) = (Arc::new(()), Arc::new(()));
    let ask = |paid: &Arc<()>| {
        let (engine, paid) = (engine.clone(), Box::new(Arc::clone(paid)));
        tokio::spawn(async move { engine.infer(grey(), Box::new(()), paid).await })
    };
    let first = ask(&running);
    gate.arrived(1).await;
    let mut second = Box::pin(engine.infer(grey(), Box::new(()), Box::new(Arc::clone(&queued))));
    assert!(futures::poll!(&mut second).is_pending());
    drop(second);
    assert_eq!(Arc::strong_count(&queued), 1);
    // The one that runs cannot be withdrawn.
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    assert_eq!(Arc::strong_count(&running), 2);
    gate.open();
    ask(&queued).await.unwrap().unwrap();
    assert_eq!(Arc::strong_count(&running), 1);
    assert_eq!(gate.arrivals(), 2);
}

/// What a photo takes from the memory budget: what a job waits for when there is none.
async fn need(site: &Running, name: &str) -> u64 {
    let all = site.memory().take(site.memory().total()).await.unwrap();
    let job = site.job(name);
    until("a need", || site.memory().waiting() > 0).await;
    let need = site.memory().waiting();
    job.abort();
    assert!(job.await.unwrap_err().is_cancelled());
    drop(all);
    need
}

/// A site whose memory is enough for the big photo and for nothing beside it.
async fn tight_site(smalls: usize, bigs: usize) -> (Running, u64, u64) {
    let mut site = Site::new().await;
    site.pipeline.job_timeout = PATIENCE;
    for i in 0..bigs {
        site.photo(&format!("big-{i}"), 1600, 1200);
    }
    for i in 0..smalls {
        site.photo(&format!("small-{i}"), 16, 16);
    }
    let mut site = site.start();
    let (big, small) = (need(&site, "big-0").await, need(&site, "small-0").await);
    let pipeline = Arc::get_mut(&mut site.pipeline).expect("no job is under way");
    pipeline.cutter.memory = Budget::new(pages(big + small / 2));
    assert!(site.memory().total() < big + small);
    (site, big, small)
}

/// A job that arrives at the memory budget as the last one of those that wait.
async fn arrives(site: &Running, name: &str) -> JoinHandle<Answer> {
    let before = site.memory().waiting();
    let job = site.job(name);
    until("its turn", || site.memory().waiting() > before).await;
    job
}

async fn all_done(site: &Running, jobs: Vec<JoinHandle<Answer>>) {
    let count = jobs.len();
    for job in jobs {
        job.await.unwrap().unwrap();
    }
    assert_eq!(site.outputs(), count);
    site.everything_is_back().await;
}

async fn half(site: &Running) -> Share {
    site.memory().take(site.memory().total() / 2).await.unwrap()
}

fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(4096)
}

#[tokio::test(flavor = "multi_thread")]
async fn small_photos_do_not_pass_a_big_one_that_came_first() {
    let _scenario = FailScenario::setup();
    const SMALLS: usize = 12;
    let (site, _, small) = tight_site(SMALLS, 1).await;
    let gate = Gate::at("photo_decoded");
    // Half is out, which leaves room for small ones but not for the big one.
    let other = half(&site).await;
    assert!(site.memory().total() / 2 > small);
    let mut jobs = vec![arrives(&site, "big-0").await];
    for i in 0..SMALLS {
        jobs.push(arrives(&site, &format!("small-{i}")).await);
    }
    assert_eq!(gate.arrivals(), 0, "a small one passed");
    drop(other);
    gate.arrived(1).await;
    let left = SMALLS as u64 * small;
    assert_eq!(site.memory().waiting(), left, "the big one is first");
    gate.open();
    all_done(&site, jobs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn big_photos_do_not_pass_a_small_one_that_came_first() {
    let _scenario = FailScenario::setup();
    const BIGS: usize = 4;
    let (site, big, small) = tight_site(1, BIGS).await;
    let gate = Gate::at("photo_decoded");
    let other = half(&site).await;
    let mut jobs = vec![arrives(&site, "big-0").await];
    jobs.push(arrives(&site, "small-0").await);
    for i in 1..BIGS {
        jobs.push(arrives(&site, &format!("big-{i}")).await);
    }
    drop(other);
    gate.arrived(1).await;
    let later = (BIGS as u64 - 1) * big;
    assert_eq!(site.memory().waiting(), small + later);
    gate.let_one_go();
    gate.arrived(2).await;
    // The next big one does not fit beside it.
    assert_eq!(site.memory().waiting(), later);
    gate.open();
    all_done(&site, jobs).await;
}

/// A hundred jobs of any size, with room for two or three, of which a third are given up somewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_is_given_up_on_the_way_all_jobs_end_and_everything_comes_back() {
    const JOBS: usize = 100;
    let seed = std::env::var("CUTOUT_TEST_SEED")
        .map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap());
    println!("CUTOUT_TEST_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut site = Site::new().await;
    site.pipeline.job_timeout = PATIENCE;
    let mut largest = site.photo("largest", 640, 480);
    for i in 0..JOBS {
        let (width, height) = (random.u32(1..640), random.u32(1..480));
        largest = largest.max(site.photo(&format!("photo-{i}"), width, height));
    }
    let mut site = site.start();
    let need = pages(need(&site, "largest").await);
    let pipeline = Arc::get_mut(&mut site.pipeline).expect("no job is under way");
    pipeline.cutter.memory = Budget::new(2 * need);
    pipeline.downloads = Budget::new(pages(largest));
    pipeline.cutter.cpu = CpuPool::new(2);

    let jobs: Vec<_> = (0..JOBS).map(|i| site.job(&format!("photo-{i}"))).collect();
    let doomed: Vec<_> = jobs
        .iter()
        .filter(|_| random.u8(..3) == 0)
        .map(JoinHandle::abort_handle)
        .collect();
    let mut delays = random.fork();
    let killer = tokio::spawn(async move {
        for job in doomed {
            tokio::time::sleep(Duration::from_micros(delays.u64(..20_000))).await;
            job.abort();
        }
    });
    let mut done = 0;
    for job in jobs {
        match tokio::time::timeout(PATIENCE, job).await.expect("it hangs") {
            Ok(answer) => {
                answer.unwrap();
                done += 1;
            }
            Err(error) => assert!(error.is_cancelled(), "{error}"),
        }
    }
    killer.await.unwrap();
    site.everything_is_back().await;
    assert!(done >= JOBS / 3, "{done}");
    // One that was given up may have written before it was.
    assert!(site.outputs() >= done);
    let all = site.memory().take(2 * need).await.unwrap();
    assert_eq!(site.memory().used(), site.memory().total());
    drop(all);
    site.job("largest").await.unwrap().unwrap();
}
