//! The embedded queue: one SQLite file with the guarantees of Pub/Sub and no server.
//!
//! Published means on disk. A delivery is a lease in time (`consumer`), bound to a living
//! owner (`owner`): leases of a killed process are free at once, those of a stuck one when
//! they end. Messages of one ordering key are delivered one at a time, in order. Any number
//! of processes on one machine may share a queue; the file must be on a local file system.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, Row, Transaction, TransactionBehavior, params};
use tokio::sync::Notify;

use crate::error::{Class, Code, Error, Result};
use crate::ingress::{Egress, JobPublisher, Message, OutgoingMessage, ResultStream, dead_letter};
use crate::job::JobResult;
use crate::object::Generation;
use crate::telemetry::context::TraceContext;

mod consumer;
mod morgue;
mod owner;
mod schema;

pub use consumer::{LocalIngress, LocalIngressConfig, SYSTEM};
pub use morgue::LocalMorgue;

/// How often waiting sides look for what other processes wrote. One indexed look-up costs some
/// 20 µs, so this is 0.01 % of a core for at most 200 ms of delay; within a process there is
/// no delay.
const POLL: Duration = Duration::from_millis(200);

/// How long results are kept for followers: as long as Pub/Sub keeps messages by default.
const RESULT_RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A queue in a file. Clones share one connection; other processes open their own.
#[derive(Clone)]
pub struct LocalQueue {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    /// The file that was opened, whatever `path` names later.
    file: schema::FileId,
    connection: Mutex<Connection>,
    /// Rung when a message may have become available in this process.
    messages: Notify,
    /// Rung when a result was published in this process.
    results: Notify,
}

/// What waits in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Messages that are not acked, leased ones included.
    pub messages: u64,
    /// When the oldest of them was published.
    pub oldest: Option<jiff::Timestamp>,
}

/// The notification of one uploaded file.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Path relative to the store's root.
    pub object: String,
    /// The file's version.
    pub generation: Generation,
    /// The message that announces it.
    pub message: OutgoingMessage,
}

impl LocalQueue {
    /// Opens the queue in `path`, creating it if there is none. Blocks for some milliseconds
    /// (up to 5 s while another process creates it).
    ///
    /// Errors: `queue_lost` when the file is damaged, of another program or not writable;
    /// `queue_unavailable` when it is locked or the disk is full.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let connection = schema::connect(&path)?;
        let file = schema::FileId::of(&path)?;
        let queue = Self {
            shared: Arc::new(Shared {
                path,
                file,
                connection: Mutex::new(connection),
                messages: Notify::new(),
                results: Notify::new(),
            }),
        };
        queue.shared.forget_old_results()?;
        Ok(queue)
    }

    /// A consumer of this queue.
    pub fn ingress(&self, config: LocalIngressConfig) -> Result<LocalIngress> {
        LocalIngress::new(self.clone(), config)
    }

    /// How much waits.
    pub async fn backlog(&self) -> Result<Backlog> {
        self.call("count its messages", |connection| {
            connection.query_row("SELECT count(*), min(published) FROM messages", [], |row| {
                Ok(Backlog {
                    messages: row.get::<_, i64>(0)?.unsigned_abs(),
                    oldest: row.get::<_, Option<i64>>(1)?.and_then(timestamp),
                })
            })
        })
        .await
    }

    /// The newest dead letters, newest first.
    pub async fn dead_letters(&self, limit: u32) -> Result<Vec<Message>> {
        self.call("read its dead letters", move |connection| {
            connection
                .prepare_cached(
                    "SELECT id, data, attributes, ordering_key, published, 1
                     FROM dead_letters ORDER BY id DESC LIMIT ?1",
                )?
                .query_map([limit], message)?
                .collect()
        })
        .await
    }

    /// The dead letters, to be looked at, replayed and dropped.
    pub fn morgue(&self) -> LocalMorgue {
        LocalMorgue::new(self.clone())
    }

    /// Publishes the notification of an upload unless this version of the file was published
    /// before; says whether it was published now. Both are one transaction, so an upload is
    /// announced exactly once whatever crashes in between.
    pub async fn publish_upload(&self, upload: Upload) -> Result<bool> {
        let new = self
            .transaction("take an upload", move |transaction| {
                let changed = transaction.execute(
                    "INSERT INTO uploads (object, generation) VALUES (?1, ?2)
                     ON CONFLICT (object) DO UPDATE SET generation = excluded.generation
                     WHERE generation <> excluded.generation",
                    params![upload.object, upload.generation.0],
                )?;
                if changed > 0 {
                    insert_message(transaction, &upload.message)?;
                }
                Ok(changed > 0)
            })
            .await?;
        if new {
            self.shared.messages.notify_waiters();
        }
        Ok(new)
    }

    /// The uploads that were published, with the newest version of each.
    pub async fn published_uploads(&self) -> Result<Vec<(String, Generation)>> {
        self.call("list its uploads", |connection| {
            connection
                .prepare("SELECT object, generation FROM uploads")?
                .query_map([], |row| Ok((row.get(0)?, Generation(row.get(1)?))))?
                .collect()
        })
        .await
    }

    /// Forgets uploads whose files are gone, so that the record does not grow for ever and a
    /// file that comes back is a new upload.
    pub async fn forget_uploads(&self, objects: Vec<String>) -> Result<()> {
        self.transaction("forget uploads", move |transaction| {
            let mut delete = transaction.prepare("DELETE FROM uploads WHERE object = ?1")?;
            for object in &objects {
                delete.execute([object])?;
            }
            Ok(())
        })
        .await
    }

    /// Runs `work` on the connection, off the runtime's threads.
    async fn call<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || shared.with(doing, work))
            .await
            .map_err(|e| {
                Error::new(Code::Internal, format!("the local queue could not {doing}"))
                    .caused_by(e)
            })?
    }

    /// Runs `work` in one transaction; it takes effect as a whole or not at all.
    async fn transaction<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.call(doing, move |connection| {
            // Immediate: a transaction that begins by reading and then writes would fail with
            // "busy" at once, instead of waiting, when another process wrote in between.
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
        .await
    }
}

impl Shared {
    fn with<T>(
        &self,
        doing: &str,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        // A panic leaves no half-done state behind: an open transaction rolls back on drop.
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        work(&mut connection).map_err(|e| schema::explain(doing, &self.path, e))
    }

    /// Makes room. That it cannot be done now (the disk is full, the queue is locked) is no reason to
    /// do nothing else.
    fn forget_old_results(&self) -> Result<()> {
        let oldest = now_ms() - millis(RESULT_RETENTION);
        let forgotten = self.with("forget old results", |connection| {
            connection.execute("DELETE FROM results WHERE published < ?1", [oldest])
        });
        match forgotten {
            Err(error) if error.class() == Class::Retryable => {
                tracing::warn!(code = %error.code(), error = error.chain(), "old results stay for now");
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// Checks that the queue still is the file that others open. Without its name SQLite goes on
    /// with it, on a queue that no publisher will ever reach.
    fn check_file(&self) -> Result<()> {
        if schema::FileId::of(&self.path)? == self.file {
            return Ok(());
        }
        Err(schema::replaced(&self.path))
    }
}

#[async_trait]
impl JobPublisher for LocalQueue {
    async fn publish(&self, message: OutgoingMessage) -> Result<String> {
        let id = self
            .call("take a message", move |connection| {
                insert_message(connection, &message)
            })
            .await?;
        self.shared.messages.notify_waiters();
        Ok(id.to_string())
    }

    async fn follow_results(&self) -> Result<Box<dyn ResultStream>> {
        let after = self
            .call("read its results", |connection| {
                connection.query_row("SELECT coalesce(max(id), 0) FROM results", [], |row| {
                    row.get(0)
                })
            })
            .await?;
        Ok(Box::new(LocalResults {
            queue: self.clone(),
            after,
            read: VecDeque::new(),
        }))
    }
}

#[async_trait]
impl Egress for LocalQueue {
    /// Local results are rows without attributes: who follows them is on this machine and has asked.
    async fn publish_result(
        &self,
        result: &JobResult,
        _trace: Option<&TraceContext>,
    ) -> Result<()> {
        let result = result.clone();
        self.call("take a result", move |connection| {
            insert_result(connection, &result)
        })
        .await?;
        self.shared.results.notify_waiters();
        Ok(())
    }

    async fn dead_letter(&self, message: &Message, error: &Error) -> Result<()> {
        let letter = OutgoingMessage {
            data: message.data.clone(),
            attributes: dead_letter::attributes(message, error),
            ordering_key: message.ordering_key.clone(),
        };
        self.call("take a dead letter", move |connection| {
            insert_dead_letter(connection, &letter)
        })
        .await
    }

    async fn probe(&self) -> Result<()> {
        // Reads a page of the file, which a bare `SELECT 1` would not.
        let look = "SELECT EXISTS (SELECT 1 FROM messages)";
        self.call("answer", move |connection| {
            connection.query_row(look, [], |_| Ok(()))
        })
        .await?;
        self.shared.check_file()
    }
}

/// Results by polling from one on.
struct LocalResults {
    queue: LocalQueue,
    after: i64,
    read: VecDeque<String>,
}

#[async_trait]
impl ResultStream for LocalResults {
    async fn next(&mut self) -> Result<JobResult> {
        loop {
            while let Some(text) = self.read.pop_front() {
                match serde_json::from_str(&text) {
                    Ok(result) => return Ok(result),
                    Err(e) => {
                        tracing::warn!(error = %e, "skipped a result that this version cannot read");
                    }
                }
            }
            let shared = Arc::clone(&self.queue.shared);
            // Registered before looking, so that no result falls between look and wait.
            let published = shared.results.notified();
            let after = self.after;
            let rows: Vec<(i64, String)> = self
                .queue
                .call("read its results", move |connection| {
                    connection
                        .prepare_cached(
                            "SELECT id, data FROM results WHERE id > ?1 ORDER BY id LIMIT 256",
                        )?
                        .query_map([after], |row| Ok((row.get(0)?, row.get(1)?)))?
                        .collect()
                })
                .await?;
            if let Some((last, _)) = rows.last() {
                self.after = *last;
                self.read.extend(rows.into_iter().map(|(_, text)| text));
                continue;
            }
            drop(tokio::time::timeout(POLL, published).await);
        }
    }

    async fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

fn insert_message(connection: &Connection, message: &OutgoingMessage) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "INSERT INTO messages (data, attributes, ordering_key, published)
             VALUES (?1, ?2, ?3, ?4)",
        )?
        .insert(params![
            &message.data[..],
            attributes_text(&message.attributes),
            message.ordering_key,
            now_ms(),
        ])
}

fn insert_result(connection: &Connection, result: &JobResult) -> rusqlite::Result<()> {
    let data = serde_json::to_string(result)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    connection
        .prepare_cached("INSERT INTO results (job_id, published, data) VALUES (?1, ?2, ?3)")?
        .execute(params![result.job_id, now_ms(), data])?;
    Ok(())
}

fn insert_dead_letter(connection: &Connection, letter: &OutgoingMessage) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO dead_letters (data, attributes, ordering_key, published)
             VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            &letter.data[..],
            attributes_text(&letter.attributes),
            letter.ordering_key,
            now_ms(),
        ])?;
    Ok(())
}

/// Reads `id, data, attributes, ordering_key, published, attempt`.
fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    let attributes: String = row.get(2)?;
    Ok(Message {
        id: row.get::<_, i64>(0)?.to_string(),
        data: Bytes::from(row.get::<_, Vec<u8>>(1)?),
        attributes: serde_json::from_str(&attributes).map_err(|e| {
            rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, Box::new(e))
        })?,
        ordering_key: row.get(3)?,
        published: timestamp(row.get(4)?),
        attempt: row.get(5)?,
    })
}

fn attributes_text(attributes: &BTreeMap<String, String>) -> String {
    serde_json::to_string(attributes).expect("a map of strings is always JSON")
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    millis(since.unwrap_or_default())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn timestamp(ms: i64) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(ms).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(object: &str, generation: i64) -> Upload {
        Upload {
            object: object.into(),
            generation: Generation(generation),
            message: OutgoingMessage::default(),
        }
    }

    #[tokio::test]
    async fn a_version_of_an_upload_is_announced_once_even_across_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.db");
        let queue = LocalQueue::open(&path).unwrap();
        assert!(
            queue
                .publish_upload(upload("inbox/rex.jpg", 1))
                .await
                .unwrap()
        );
        drop(queue);
        let queue = LocalQueue::open(&path).unwrap();
        assert!(
            !queue
                .publish_upload(upload("inbox/rex.jpg", 1))
                .await
                .unwrap()
        );
        assert!(
            queue
                .publish_upload(upload("inbox/rex.jpg", 2))
                .await
                .unwrap()
        );
        assert!(
            queue
                .publish_upload(upload("inbox/tom.jpg", 1))
                .await
                .unwrap()
        );
        assert_eq!(queue.backlog().await.unwrap().messages, 3);
        assert_eq!(
            queue.published_uploads().await.unwrap(),
            [
                ("inbox/rex.jpg".into(), Generation(2)),
                ("inbox/tom.jpg".into(), Generation(1))
            ]
        );

        queue
            .forget_uploads(vec!["inbox/rex.jpg".into()])
            .await
            .unwrap();
        assert!(
            queue
                .publish_upload(upload("inbox/rex.jpg", 2))
                .await
                .unwrap()
        );
    }

    #[tokio::test]
    async fn results_are_kept_for_a_week() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.db");
        let queue = LocalQueue::open(&path).unwrap();
        let count = |queue: &LocalQueue| {
            queue
                .shared
                .with("count", |c| {
                    c.query_row("SELECT count(*) FROM results", [], |r| r.get::<_, i64>(0))
                })
                .unwrap()
        };
        let day = millis(Duration::from_secs(24 * 60 * 60));
        for age in [1, 6, 8] {
            queue
                .shared
                .with("insert", |c| {
                    c.execute(
                        "INSERT INTO results (job_id, published, data) VALUES ('j', ?1, '{}')",
                        [now_ms() - age * day],
                    )
                })
                .unwrap();
        }
        assert_eq!(count(&queue), 3);
        drop(queue);
        assert_eq!(count(&LocalQueue::open(&path).unwrap()), 2);
    }
}
