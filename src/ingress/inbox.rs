//! The watched folder of the local mode: a file dropped into it is an upload, announced on the
//! queue exactly as Cloud Storage announces one.
//!
//! Events of the file system make it quick, a rescan makes it certain: events are lost when
//! the kernel's queue overflows, when a folder is new, and on mounts that have none.

use std::collections::{HashMap, HashSet};
use std::fs::Metadata;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{EventKind, RecursiveMode, Watcher};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::local::{LocalQueue, Upload};
use super::notification::{OBJECT_FINALIZE, PAYLOAD_JSON, attribute, image_type_of};
use crate::error::{Code, Error, Result};
use crate::ingress::OutgoingMessage;
use crate::object::Generation;
use crate::store::dir::generation_of;

/// A file that nobody was seen writing is complete when it stayed the same for this long.
const QUIET: Duration = Duration::from_millis(500);

/// A file that was seen being written, but not closed, gets longer: a copy over a network
/// stalls for more than [`QUIET`]. If it was taken too early, its next version comes after it.
const QUIET_WHILE_OPEN: Duration = Duration::from_secs(2);

/// An empty file is usually one whose first byte is still to come.
const QUIET_WHILE_EMPTY: Duration = Duration::from_secs(5);

/// How often files that may be incomplete are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How often the whole folder is walked.
const RESCAN: Duration = Duration::from_secs(5);

/// How long a walk that events ask for waits for further ones.
const HURRY: Duration = Duration::from_millis(200);

/// Names that browsers, editors and copying tools give to files that are not finished.
const UNFINISHED: &[&str] = &[
    "~",
    ".part",
    ".partial",
    ".tmp",
    ".crdownload",
    ".download",
    ".filepart",
    ".swp",
];

/// A folder under watch; ends when it is dropped or closed.
#[derive(Debug)]
pub struct Inbox {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Inbox {
    /// Watches `root/dir` and its subfolders, creating the folder if there is none. Objects
    /// are named relative to `root`, the directory store's root. Files that are there already
    /// are uploads too, unless the queue knows them from before.
    ///
    /// Errors: `config_invalid` when `dir` is not a plain relative path or cannot be created;
    /// the queue's own.
    pub async fn watch(root: &Path, dir: &str, queue: LocalQueue) -> Result<Self> {
        let inside = !dir.is_empty()
            && Path::new(dir)
                .components()
                .all(|part| matches!(part, Component::Normal(_)));
        if !inside {
            return Err(Error::new(
                Code::ConfigInvalid,
                format!(
                    "the inbox {dir:?} must be a folder inside the store's root, such as \"inbox\""
                ),
            ));
        }
        let folder = root.join(dir);
        let unusable = |e: std::io::Error| {
            Error::new(
                Code::ConfigInvalid,
                format!(
                    "the inbox {} cannot be created: mend its permissions",
                    folder.display()
                ),
            )
            .caused_by(e)
        };
        std::fs::create_dir_all(&folder).map_err(unusable)?;
        // File events name files by the absolute path of what is watched.
        let root = root.canonicalize().map_err(unusable)?;
        let folder = root.join(dir);

        let (send, events) = mpsc::unbounded_channel();
        let watcher = start_watcher(&folder, send);
        let published = queue.published_uploads().await?;
        let mut keeper = Keeper {
            root,
            folder,
            queue,
            settling: Settling::default(),
            readable: true,
            published: published
                .into_iter()
                .filter(|(object, _)| Path::new(object).starts_with(dir))
                .collect(),
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let _watcher = watcher;
            keeper.keep(events, &stopped).await;
        });
        Ok(Self { stop, task })
    }

    /// Stops watching. Files that are not announced yet are found by the next watch.
    pub async fn close(mut self) {
        self.stop.cancel();
        if let Err(e) = (&mut self.task).await {
            tracing::error!(error = %e, "the inbox's task failed");
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What an event says about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// Being written.
    Open,
    /// Written and closed, or moved into place as a whole.
    Complete,
    /// Something happened somewhere; only a walk can tell what.
    Lost,
}

fn start_watcher(
    folder: &Path,
    send: mpsc::UnboundedSender<(PathBuf, Sign)>,
) -> Option<notify::RecommendedWatcher> {
    let handler = move |event: notify::Result<notify::Event>| {
        let (sign, paths) = match event {
            Ok(event) if event.need_rescan() => (Some(Sign::Lost), vec![PathBuf::new()]),
            Ok(event) => (sign(&event.kind), event.paths),
            Err(error) => {
                tracing::warn!(%error, "the inbox lost events; the rescan finds the files");
                (Some(Sign::Lost), vec![PathBuf::new()])
            }
        };
        for path in paths {
            if let Some(sign) = sign {
                // The receiver is gone when the inbox is closed; nobody misses the event.
                drop(send.send((path, sign)));
            }
        }
    };
    let watcher = notify::recommended_watcher(handler).and_then(|mut watcher| {
        watcher.watch(folder, RecursiveMode::Recursive)?;
        Ok(watcher)
    });
    watcher
        .inspect_err(|error| {
            tracing::warn!(%error, rescan = ?RESCAN, "the inbox gets no events from the file system; files are found by rescanning");
        })
        .ok()
}

fn sign(kind: &EventKind) -> Option<Sign> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => {
            Some(Sign::Complete)
        }
        EventKind::Create(_)
        | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any)
        | EventKind::Any => Some(Sign::Open),
        // Moved away: the next walk forgets it.
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) => None,
        EventKind::Modify(ModifyKind::Name(_)) => Some(Sign::Lost),
        _ => None,
    }
}

/// The watching task's state.
struct Keeper {
    root: PathBuf,
    folder: PathBuf,
    queue: LocalQueue,
    settling: Settling,
    /// Whether the last walk could read everything.
    readable: bool,
    /// What was announced, by object name.
    published: HashMap<String, Generation>,
}

impl Keeper {
    async fn keep(
        &mut self,
        mut events: mpsc::UnboundedReceiver<(PathBuf, Sign)>,
        stop: &CancellationToken,
    ) {
        let mut walk = tokio::time::interval(RESCAN);
        let mut look = tokio::time::interval(LOOK);
        for timer in [&mut walk, &mut look] {
            timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
        let mut hurried = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                // `None`: there is no watcher; the timers go on.
                Some((path, sign)) = events.recv() => {
                    if sign == Sign::Lost || path.is_dir() {
                        // A new folder may have been filled before it was watched. One walk
                        // serves a burst of such events.
                        if !std::mem::replace(&mut hurried, true) {
                            walk.reset_after(HURRY);
                        }
                    } else {
                        self.notice(&path, Some(sign));
                    }
                }
                _ = walk.tick() => {
                    hurried = false;
                    self.walk().await;
                }
                _ = look.tick(), if !self.settling.is_empty() => {}
            }
            for ready in self.settling.ready(Instant::now()) {
                // What keeps one from the queue keeps them all from it, and each look at a locked
                // queue takes seconds. The next walk comes back to them.
                if !self.announce(&ready).await {
                    break;
                }
            }
        }
    }

    /// Looks at one file, unless its present version was announced before.
    fn notice(&mut self, path: &Path, sign: Option<Sign>) {
        if !is_wanted(&self.folder, path) {
            return;
        }
        match std::fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_file() => self.observe(path, &metadata, sign),
            // Gone, a folder, or a symbolic link, which could point out of the store.
            _ => self.settling.forget(path),
        }
    }

    fn observe(&mut self, path: &Path, metadata: &Metadata, sign: Option<Sign>) {
        let state = State::of(metadata);
        let known = self
            .object(path)
            .and_then(|object| self.published.get(&object));
        if known == Some(&state.generation) {
            self.settling.forget(path);
        } else {
            self.settling.observe(path, state, sign, Instant::now());
        }
    }

    /// Walks the whole folder: finds what events did not tell, forgets what is gone.
    async fn walk(&mut self) {
        let folder = self.folder.clone();
        let walked = tokio::task::spawn_blocking(move || files(&folder)).await;
        let (files, unreadable) = match walked {
            Ok(walked) => walked,
            Err(e) => {
                tracing::error!(error = %e, "the inbox could not be walked");
                return;
            }
        };
        let mut present = HashSet::with_capacity(files.len());
        for (path, metadata) in &files {
            present.extend(self.object(path));
            self.observe(path, metadata, None);
        }
        self.tell_unreadable(&unreadable);
        // A folder that could not be read says nothing about its files.
        if !unreadable.is_empty() {
            return;
        }
        let gone: Vec<_> = self
            .published
            .keys()
            .filter(|object| !present.contains(*object))
            .cloned()
            .collect();
        if gone.is_empty() {
            return;
        }
        match self.queue.forget_uploads(gone.clone()).await {
            Ok(()) => self.published.retain(|object, _| !gone.contains(object)),
            Err(error) => tracing::warn!(error = error.chain(), "could not forget removed uploads"),
        }
    }

    /// Tells once what cannot be read, not with every walk, and once that all can.
    fn tell_unreadable(&mut self, unreadable: &[walkdir::Error]) {
        let readable = unreadable.is_empty();
        if readable == self.readable {
            return;
        }
        self.readable = readable;
        match unreadable.first() {
            Some(error) => tracing::warn!(
                %error,
                parts = unreadable.len(),
                "a part of the inbox cannot be read; its files wait until it can"
            ),
            None => tracing::info!("all of the inbox can be read again"),
        }
    }

    /// Announces a complete file; `false` when the queue does not take it.
    async fn announce(&mut self, path: &Path) -> bool {
        let state = match std::fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_file() => State::of(&metadata),
            _ => return true,
        };
        let Some(object) = self.object(path) else {
            tracing::warn!(path = %path.display(), "the name of a file in the inbox is not UTF-8; rename it");
            return true;
        };
        let upload = Upload {
            object: object.clone(),
            generation: state.generation,
            message: announcement(&object, state),
        };
        match self.queue.publish_upload(upload).await {
            Ok(new) => {
                self.published.insert(object.clone(), state.generation);
                if new {
                    tracing::info!(object, generation = %state.generation, bytes = state.size, "upload");
                }
                true
            }
            // Not in `published`, so the next walk comes back to it.
            Err(error) => {
                tracing::warn!(object, code = %error.code(), error = error.chain(), "could not announce an upload; trying again");
                false
            }
        }
    }

    /// The object's name: the path relative to the root, with forward slashes.
    fn object(&self, path: &Path) -> Option<String> {
        let relative = path.strip_prefix(&self.root).ok()?;
        let parts: Option<Vec<_>> = relative.iter().map(|part| part.to_str()).collect();
        Some(parts?.join("/"))
    }
}

/// Every wanted file under the folder, and what could not be read of it.
fn files(folder: &Path) -> (Vec<(PathBuf, Metadata)>, Vec<walkdir::Error>) {
    let mut unreadable = Vec::new();
    let mut files = Vec::new();
    let walk = walkdir::WalkDir::new(folder)
        .follow_links(false)
        .into_iter()
        .filter_entry(|entry| entry.depth() == 0 || is_wanted(folder, entry.path()));
    for entry in walk {
        let entry = entry.and_then(|entry| match entry.file_type().is_file() {
            true => Ok(Some((entry.metadata()?, entry.into_path()))),
            false => Ok(None),
        });
        match entry {
            Ok(Some((metadata, path))) => files.push((path, metadata)),
            Ok(None) => {}
            // Moved away while we walk; but the folder itself must be there.
            Err(error) if error.depth() > 0 && is_gone(&error) => {}
            Err(error) => unreadable.push(error),
        }
    }
    (files, unreadable)
}

fn is_gone(error: &walkdir::Error) -> bool {
    let kind = error.io_error().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::NotFound)
}

/// Whether a path under the folder is neither hidden nor unfinished, by its names.
fn is_wanted(folder: &Path, path: &Path) -> bool {
    let Ok(relative) = path.strip_prefix(folder) else {
        return false;
    };
    let names = || relative.iter().map(|name| name.to_string_lossy());
    let hidden = names().any(|name| name.starts_with('.'));
    let unfinished = names().next_back().is_none_or(|name| {
        let name = name.to_ascii_lowercase();
        UNFINISHED.iter().any(|ending| name.ends_with(ending))
    });
    !hidden && !unfinished
}

/// The notification of an upload, in Cloud Storage's words.
fn announcement(object: &str, state: State) -> OutgoingMessage {
    let generation = state.generation.to_string();
    let resource = json!({
        "name": object,
        "generation": generation,
        "size": state.size.to_string(),
        "contentType": image_type_of(object).unwrap_or("application/octet-stream"),
    });
    let attributes = [
        (attribute::EVENT_TYPE, OBJECT_FINALIZE),
        (attribute::PAYLOAD_FORMAT, PAYLOAD_JSON),
        (attribute::OBJECT_ID, object),
        (attribute::OBJECT_GENERATION, &generation),
    ];
    OutgoingMessage {
        data: resource.to_string().into(),
        attributes: attributes
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ordering_key: String::new(),
    }
}

/// What is seen of a file from outside; it is complete when this stops changing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    size: u64,
    generation: Generation,
}

impl State {
    fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.len(),
            generation: generation_of(metadata),
        }
    }

    /// Whether the file was written within the last [`QUIET_WHILE_OPEN`].
    fn is_fresh(self) -> bool {
        let written = Duration::from_nanos(self.generation.0.unsigned_abs());
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .is_ok_and(|now| now.saturating_sub(written) < QUIET_WHILE_OPEN)
    }
}

/// Files that may still be growing.
#[derive(Debug, Default)]
struct Settling {
    files: HashMap<PathBuf, Watched>,
}

#[derive(Debug)]
struct Watched {
    state: State,
    since: Instant,
    quiet: Duration,
}

impl Settling {
    fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    fn forget(&mut self, path: &Path) {
        self.files.remove(path);
    }

    /// Notes a file's state. A change, or a sign of writing, starts its quiet time anew.
    fn observe(&mut self, path: &Path, state: State, sign: Option<Sign>, now: Instant) {
        let known = self.files.get(path);
        let quiet = match sign {
            _ if state.size == 0 => QUIET_WHILE_EMPTY,
            Some(Sign::Complete) => Duration::ZERO,
            Some(_) => QUIET_WHILE_OPEN,
            None => match known {
                Some(known) if known.state == state => return,
                // Seen growing: somebody has it open.
                Some(_) => QUIET_WHILE_OPEN,
                // Just written, perhaps into a folder whose watch was not in place yet.
                None if state.is_fresh() => QUIET_WHILE_OPEN,
                None => QUIET,
            },
        };
        let watched = Watched {
            state,
            since: now,
            quiet,
        };
        self.files.insert(path.to_path_buf(), watched);
    }

    /// Takes out the files whose quiet time has passed. A file that changed meanwhile starts
    /// anew.
    fn ready(&mut self, now: Instant) -> Vec<PathBuf> {
        let due: Vec<_> = self
            .files
            .iter()
            .filter(|(_, watched)| now.duration_since(watched.since) >= watched.quiet)
            .map(|(path, _)| path.clone())
            .collect();
        due.into_iter()
            .filter(|path| {
                let state = std::fs::symlink_metadata(path).map(|metadata| State::of(&metadata));
                match (state, self.files.get(path)) {
                    (Ok(state), Some(watched)) if state != watched.state => {
                        self.observe(path, state, None, now);
                        false
                    }
                    _ => self.files.remove(path).is_some(),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingress::local::LocalIngressConfig;
    use crate::ingress::notification::{Admission, NotificationPolicy, SkipReason, admit};
    use crate::ingress::{Delivery, Ingress};
    use std::fs;
    use std::io::Write;
    use std::time::UNIX_EPOCH;

    struct Watching {
        root: tempfile::TempDir,
        queue: LocalQueue,
        inbox: Option<Inbox>,
        ingress: crate::ingress::local::LocalIngress,
    }

    impl Watching {
        /// A store whose inbox holds `before` when the watch starts.
        async fn new(before: &[&str]) -> Self {
            let root = tempfile::tempdir().unwrap();
            let queue = LocalQueue::open(root.path().join("queue.db")).unwrap();
            let ingress = queue.ingress(LocalIngressConfig::default()).unwrap();
            for name in before {
                let path = root.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "photo").unwrap();
            }
            let mut watching = Self {
                root,
                queue,
                inbox: None,
                ingress,
            };
            watching.watch().await;
            watching
        }

        async fn watch(&mut self) {
            let inbox = Inbox::watch(self.root.path(), "inbox", self.queue.clone()).await;
            self.inbox = Some(inbox.unwrap());
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        async fn next(&mut self, within: Duration) -> Option<Delivery> {
            tokio::time::timeout(within, self.ingress.next())
                .await
                .ok()
                .map(Result::unwrap)
        }

        /// The object of the next upload, acked.
        async fn upload(&mut self) -> String {
            let delivery = self
                .next(Duration::from_secs(10))
                .await
                .expect("no upload in 10 s");
            delivery.lease.ack().await.unwrap();
            delivery.message.attributes["objectId"].clone()
        }

        async fn nothing_for(&mut self, time: Duration) {
            if let Some(delivery) = self.next(time).await {
                panic!("unexpected {:?}", delivery.message);
            }
        }
    }

    #[tokio::test]
    async fn a_dropped_photo_is_announced_as_cloud_storage_would_and_pinned_to_its_version() {
        let mut watching = Watching::new(&[]).await;
        let path = watching.path("inbox/rex.jpg");
        fs::write(&path, "photo").unwrap();
        let begun = Instant::now();
        let delivery = watching.next(Duration::from_secs(5)).await.unwrap();
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "{:?}",
            begun.elapsed()
        );

        let policy = NotificationPolicy {
            prefixes: Vec::new(),
            destination: "{dir}/{stem}.cutout.{ext}".parse().unwrap(),
        };
        let Admission::Job(job) = admit(&delivery.message, &policy).unwrap() else {
            panic!("skipped");
        };
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let nanoseconds = modified.duration_since(UNIX_EPOCH).unwrap().as_nanos();
        assert_eq!(
            job.source.to_string(),
            format!("inbox/rex.jpg#{nanoseconds}")
        );
        // The worker's own output beside it is announced as well, and skipped.
        fs::write(watching.path("inbox/rex.cutout.png"), "cut").unwrap();
        let delivery = watching.next(Duration::from_secs(5)).await.unwrap();
        let skipped = admit(&delivery.message, &policy).unwrap();
        assert_eq!(skipped, Admission::Skip(SkipReason::OwnOutput));
    }

    #[tokio::test]
    async fn what_lay_there_before_is_announced_once_and_not_again_after_a_restart() {
        let mut watching = Watching::new(&["inbox/a.jpg", "inbox/2026/11/b.jpg"]).await;
        let mut uploads = [watching.upload().await, watching.upload().await];
        uploads.sort();
        assert_eq!(uploads, ["inbox/2026/11/b.jpg", "inbox/a.jpg"]);

        watching.inbox.take().unwrap().close().await;
        fs::write(watching.path("inbox/while-closed.jpg"), "photo").unwrap();
        watching.watch().await;
        assert_eq!(watching.upload().await, "inbox/while-closed.jpg");
        watching.nothing_for(Duration::from_secs(1)).await;
    }

    #[tokio::test]
    async fn a_photo_that_is_still_being_copied_is_not_taken() {
        let mut watching = Watching::new(&[]).await;
        let mut file = fs::File::create(watching.path("inbox/big.jpg")).unwrap();
        for _ in 0..8 {
            file.write_all(b"part").unwrap();
            watching.nothing_for(Duration::from_millis(200)).await;
        }
        drop(file);
        let delivery = watching.next(Duration::from_secs(5)).await.unwrap();
        let resource: serde_json::Value = serde_json::from_slice(&delivery.message.data).unwrap();
        assert_eq!(resource["size"], "32");
    }

    #[tokio::test]
    async fn hidden_unfinished_and_linked_files_are_left_alone() {
        let mut watching = Watching::new(&[]).await;
        for name in [
            ".hidden.jpg",
            "rex.jpg.part",
            "rex.jpg~",
            "rex.TMP",
            "rex.jpg.crdownload",
        ] {
            fs::write(watching.path("inbox").join(name), "photo").unwrap();
        }
        fs::create_dir(watching.path("inbox/.thumbnails")).unwrap();
        fs::write(watching.path("inbox/.thumbnails/rex.jpg"), "photo").unwrap();
        fs::write(watching.path("secret.jpg"), "photo").unwrap();
        std::os::unix::fs::symlink(watching.path("secret.jpg"), watching.path("inbox/link.jpg"))
            .unwrap();
        watching.nothing_for(Duration::from_secs(1)).await;
        // The unfinished file gets its name.
        fs::rename(
            watching.path("inbox/rex.jpg.part"),
            watching.path("inbox/rex.jpg"),
        )
        .unwrap();
        assert_eq!(watching.upload().await, "inbox/rex.jpg");
        watching.nothing_for(Duration::from_secs(6)).await;
    }

    #[tokio::test]
    async fn a_new_version_and_a_file_that_comes_back_are_new_uploads() {
        let mut watching = Watching::new(&["inbox/rex.jpg"]).await;
        let path = watching.path("inbox/rex.jpg");
        assert_eq!(watching.upload().await, "inbox/rex.jpg");
        fs::write(&path, "another photo").unwrap();
        assert_eq!(watching.upload().await, "inbox/rex.jpg");

        // Moved away and back with its old time, as `cp -p` and `mv` leave it.
        fs::rename(&path, watching.path("rex.jpg")).unwrap();
        watching.nothing_for(RESCAN + Duration::from_secs(1)).await;
        fs::rename(watching.path("rex.jpg"), &path).unwrap();
        assert_eq!(watching.upload().await, "inbox/rex.jpg");
    }

    #[tokio::test]
    async fn a_folder_filled_before_it_is_watched_is_found() {
        let mut watching = Watching::new(&[]).await;
        let staging = watching.path("staging/2026");
        fs::create_dir_all(&staging).unwrap();
        fs::write(staging.join("rex.jpg"), "photo").unwrap();
        fs::rename(watching.path("staging"), watching.path("inbox/album")).unwrap();
        assert_eq!(watching.upload().await, "inbox/album/2026/rex.jpg");
    }

    #[tokio::test]
    async fn an_inbox_outside_the_root_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let queue = LocalQueue::open(root.path().join("queue.db")).unwrap();
        for dir in ["", "../inbox", "/inbox", "a/../../b"] {
            let error = Inbox::watch(root.path(), dir, queue.clone())
                .await
                .unwrap_err();
            assert_eq!(error.code(), Code::ConfigInvalid, "{dir:?}");
        }
    }

    #[test]
    fn quiet_times_depend_on_what_was_seen_of_a_file() {
        let path = Path::new("/nowhere/rex.jpg");
        let state = |size| State {
            size,
            generation: Generation(1),
        };
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let due = |observe: &dyn Fn(&mut Settling)| {
            let mut settling = Settling::default();
            observe(&mut settling);
            (0..8000)
                .step_by(100)
                .find(|ms| !settling.ready(after(*ms)).is_empty())
        };
        assert_eq!(
            due(&|s| s.observe(path, state(9), Some(Sign::Complete), start)),
            Some(0)
        );
        assert_eq!(due(&|s| s.observe(path, state(9), None, start)), Some(500));
        assert_eq!(
            due(&|s| s.observe(path, state(9), Some(Sign::Open), start)),
            Some(2000)
        );
        assert_eq!(
            due(&|s| s.observe(path, state(0), Some(Sign::Complete), start)),
            Some(5000)
        );
        // A rescan that sees no change does not start the time anew; one that does, does.
        assert_eq!(
            due(&|s| {
                s.observe(path, state(9), None, start);
                s.observe(path, state(9), None, after(400));
            }),
            Some(500)
        );
        assert_eq!(
            due(&|s| {
                s.observe(path, state(9), None, start);
                s.observe(path, state(10), None, after(400));
            }),
            Some(2400)
        );
    }
}
