//! Deliveries of the local queue: taking, keeping, answering and giving back leases.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::owner::{self, OwnerFile};
use super::{LocalQueue, POLL, insert_dead_letter, insert_result, message, millis, now_ms};
use crate::error::{Code, Error, Result};
use crate::ingress::{
    BurialHook, Delivery, Ingress, Lease, Message, OutgoingMessage, Source, dead_letter,
    notification,
};
use crate::job::{JobResult, Timings};

/// What spans call this queue; OpenTelemetry has no name for it.
pub const SYSTEM: &str = "cutout.local";

/// How often a consumer looks whether the owners of others' leases still live: often enough
/// for a restart to seem immediate, seldom enough to cost nothing.
const FUNERAL_INTERVAL: Duration = Duration::from_secs(1);

/// How often old results are forgotten: a worker may run for months.
const FORGET_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// The extension of leases never spins, whatever the configured lease.
const SHORTEST_PULSE: Duration = Duration::from_millis(10);

/// How long `close` waits for answers that are being written.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How a consumer of the local queue behaves. The defaults are those of a Pub/Sub
/// subscription as the deployment creates it, but for the shorter back-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalIngressConfig {
    /// How long a delivery stays with a process that shows no sign of life; it is extended
    /// three times within this while the delivery is worked on.
    pub lease: Duration,
    /// Wait before a given-back message comes again; doubles with each delivery.
    pub min_backoff: Duration,
    /// The longest such wait, before up to half of it is added by chance.
    pub max_backoff: Duration,
    /// Deliveries until a message that was never acked goes to the dead letters.
    pub max_attempts: u32,
}

impl Default for LocalIngressConfig {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            min_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(60),
            max_attempts: 5,
        }
    }
}

/// A consumer of the local queue.
pub struct LocalIngress {
    consumer: Arc<Consumer>,
    /// A look-up under way. It outlives a cancelled `next`, so that what it finds is delivered
    /// by the following call instead of being lost until its lease ends.
    claim: Option<JoinHandle<Result<Option<Delivery>>>>,
}

/// What to do with the message of a lease; how many messages that concerned.
type Answer = fn(&Connection, &str) -> rusqlite::Result<usize>;

/// What the ingress and the leases that it handed out share.
struct Consumer {
    queue: LocalQueue,
    config: LocalIngressConfig,
    owner: OwnerFile,
    owners: PathBuf,
    /// Tokens of unanswered deliveries.
    held: Mutex<HashSet<String>>,
    last_funeral: Mutex<Option<Instant>>,
    /// When old results were last forgotten; the queue did so when it was opened.
    last_forgotten: Mutex<Instant>,
    /// Answers being written.
    answers: TaskTracker,
    /// Answers that could not be written, by the token of their lease: the disk was full, say.
    late: Mutex<Vec<(String, Answer)>>,
    /// Who wants to hear of messages that were delivered too often.
    on_burial: OnceLock<BurialHook>,
}

impl LocalIngress {
    pub(super) fn new(queue: LocalQueue, config: LocalIngressConfig) -> Result<Self> {
        let mut owners = queue.shared.path.clone().into_os_string();
        owners.push("-owners");
        let owners = PathBuf::from(owners);
        let id = queue.shared.with("name a consumer", |connection| {
            connection.query_row("SELECT lower(hex(randomblob(16)))", [], |row| row.get(0))
        })?;
        let owner = OwnerFile::create(&owners, id).map_err(|e| {
            Error::new(
                Code::QueueLost,
                format!(
                    "the local queue's folder {} cannot be written: mend its permissions",
                    owners.display()
                ),
            )
            .caused_by(e)
        })?;
        owner::sweep(&owners);
        let consumer = Arc::new(Consumer {
            queue,
            config,
            owner,
            owners,
            held: Mutex::default(),
            last_funeral: Mutex::default(),
            last_forgotten: Mutex::new(Instant::now()),
            answers: TaskTracker::new(),
            late: Mutex::default(),
            on_burial: OnceLock::new(),
        });
        tokio::spawn(keep_alive(
            Arc::downgrade(&consumer),
            (config.lease / 3).max(SHORTEST_PULSE),
        ));
        Ok(Self {
            consumer,
            claim: None,
        })
    }
}

#[async_trait]
impl Ingress for LocalIngress {
    fn name(&self) -> &'static str {
        "local"
    }

    fn source(&self) -> Source {
        Source {
            system: SYSTEM,
            subscription: None,
        }
    }

    fn on_burial(&mut self, told: BurialHook) {
        drop(self.consumer.on_burial.set(told));
    }

    async fn next(&mut self) -> Result<Delivery> {
        loop {
            let queue = self.consumer.queue.clone();
            // Registered before looking, so that no message falls between look and wait.
            let published = queue.shared.messages.notified();
            let claim = self.claim.get_or_insert_with(|| {
                let consumer = Arc::clone(&self.consumer);
                tokio::task::spawn_blocking(move || consumer.claim())
            });
            let claimed = claim.await;
            self.claim = None;
            let claimed = claimed.map_err(|e| {
                Error::new(Code::Internal, "looking for a message failed").caused_by(e)
            })?;
            if let Some(delivery) = claimed? {
                return Ok(delivery);
            }
            drop(tokio::time::timeout(POLL, published).await);
        }
    }

    async fn close(mut self: Box<Self>) -> Result<()> {
        if let Some(claim) = self.claim.take() {
            // A delivery that nobody asked for any more was never tried.
            if let Ok(Ok(Some(delivery))) = claim.await
                && let Err(error) = delivery.lease.release().await
            {
                tracing::warn!(
                    error = error.chain(),
                    "could not give a message back; it comes again when its lease ends"
                );
            }
        }
        let consumer = &self.consumer;
        consumer.answers.close();
        let written = tokio::time::timeout(CLOSE_TIMEOUT, consumer.answers.wait()).await;

        let tokens: Vec<_> = lock(&consumer.held).drain().collect();
        let late = std::mem::take(&mut *lock(&consumer.late));
        let given_back = consumer
            .queue
            .transaction("take back messages", move |transaction| {
                for (token, answer) in &late {
                    answer(transaction, token)?;
                }
                tokens
                    .iter()
                    // Closing is the worker's decision, not the job's failure.
                    .map(|token| release(transaction, token))
                    .sum::<rusqlite::Result<usize>>()
            })
            .await?;
        if given_back > 0 {
            tracing::info!(
                given_back,
                "gave unanswered messages back to the local queue"
            );
            consumer.queue.shared.messages.notify_waiters();
        }
        written.map_err(|_| {
            Error::new(
                Code::QueueUnavailable,
                format!("some answers were not written within {CLOSE_TIMEOUT:?}; their messages come again"),
            )
        })
    }
}

/// Extends the leases of unanswered deliveries for as long as anybody holds one.
async fn keep_alive(consumer: std::sync::Weak<Consumer>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(consumer) = consumer.upgrade() else {
            return;
        };
        let tokens: Vec<_> = lock(&consumer.held).iter().cloned().collect();
        if tokens.is_empty() {
            continue;
        }
        let until = now_ms() + millis(consumer.config.lease);
        let extended = consumer
            .queue
            .transaction("extend leases", move |transaction| {
                let mut extend = transaction.prepare_cached(
                    "UPDATE messages SET available_at = ?1 WHERE lease_token = ?2",
                )?;
                tokens
                    .iter()
                    .map(|token| extend.execute(params![until, token]))
                    .sum::<rusqlite::Result<usize>>()
            })
            .await;
        if let Err(error) = extended {
            // Two more chances before the leases end.
            tracing::warn!(code = %error.code(), error = error.chain(), "could not extend leases; trying again");
        }
    }
}

/// A message on its way out of the database.
enum Taken {
    Delivery {
        message: Message,
        token: String,
    },
    /// Delivered too often; it is a dead letter now.
    Died,
}

impl Consumer {
    /// Takes the next available message, if there is one. Blocks.
    fn claim(self: Arc<Self>) -> Result<Option<Delivery>> {
        self.bury_owners()?;
        self.answer_late()?;
        loop {
            let taken = self
                .queue
                .shared
                .with("deliver a message", |connection| self.take(connection))?;
            match taken {
                None => return Ok(None),
                Some(Taken::Died) => self.buried(),
                Some(Taken::Delivery { message, token }) => {
                    lock(&self.held).insert(token.clone());
                    let lease = Box::new(LocalLease {
                        id: message.id.clone(),
                        attempt: message.attempt,
                        token: Some(token),
                        consumer: Arc::clone(&self),
                    });
                    return Ok(Some(Delivery { message, lease }));
                }
            }
        }
    }

    fn take(&self, connection: &mut Connection) -> rusqlite::Result<Option<Taken>> {
        let now = now_ms();
        // The usual look finds nothing: it must not take the write lock to learn so.
        if available(connection, now)?.is_none() {
            return Ok(None);
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let Some((id, attempt)) = available(&transaction, now)? else {
            return Ok(None);
        };
        let taken = if attempt >= self.config.max_attempts {
            bury_message(&transaction, id)?;
            Taken::Died
        } else {
            let until = now + millis(self.config.lease);
            transaction
                .prepare_cached(
                    "UPDATE messages SET
                         attempt = attempt + 1, available_at = ?1,
                         lease_owner = ?2, lease_token = lower(hex(randomblob(16)))
                     WHERE id = ?3
                     RETURNING id, data, attributes, ordering_key, published, attempt, lease_token",
                )?
                .query_row(params![until, self.owner.id(), id], |row| {
                    Ok(Taken::Delivery {
                        message: message(row)?,
                        token: row.get(6)?,
                    })
                })?
        };
        transaction.commit()?;
        Ok(Some(taken))
    }

    /// A message went to the dead letters, and that is committed.
    fn buried(&self) {
        if let Some(told) = self.on_burial.get() {
            told(Code::AttemptsExhausted);
        }
    }

    /// Frees the leases of owners that died, so that a restart need not wait for their end.
    fn bury_owners(&self) -> Result<()> {
        {
            let mut last = lock(&self.last_funeral);
            if last.is_some_and(|last| last.elapsed() < FUNERAL_INTERVAL) {
                return Ok(());
            }
            *last = Some(Instant::now());
        }
        self.queue.shared.check_file()?;
        self.forget_old_results()?;
        self.queue
            .shared
            .with("free the leases of the dead", |connection| {
                let owners: Vec<String> = connection
                    .prepare_cached(
                        "SELECT DISTINCT lease_owner FROM messages
                     WHERE lease_owner IS NOT NULL AND lease_owner <> ?1",
                    )?
                    .query_map([self.owner.id()], |row| row.get(0))?
                    .collect::<rusqlite::Result<_>>()?;
                for dead in owners {
                    if !owner::is_dead(&self.owners, &dead) {
                        continue;
                    }
                    let freed = connection.execute(
                    "UPDATE messages SET available_at = 0, lease_token = NULL, lease_owner = NULL
                     WHERE lease_owner = ?1",
                    [&dead],
                )?;
                    tracing::warn!(
                        freed,
                        "a consumer of the queue died; its messages are delivered again"
                    );
                }
                Ok(())
            })
    }

    fn forget_old_results(&self) -> Result<()> {
        {
            let mut last = lock(&self.last_forgotten);
            if last.elapsed() < FORGET_INTERVAL {
                return Ok(());
            }
            *last = Instant::now();
        }
        self.queue.shared.forget_old_results()
    }

    /// Writes the answers that could not be written before, without which their messages would
    /// stay away until their leases end.
    fn answer_late(&self) -> Result<()> {
        // Cloned, as they are late for another time if they cannot be written now either.
        let late = lock(&self.late).clone();
        if late.is_empty() {
            return Ok(());
        }
        self.queue.shared.with("take answers", |connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for (token, answer) in &late {
                answer(&transaction, token)?;
            }
            transaction.commit()
        })?;
        lock(&self.late).drain(..late.len());
        Ok(())
    }

    /// Writes an answer; `false` when the lease had been lost to somebody else. If it cannot be
    /// written now, `otherwise` is what is written as soon as anything can be.
    async fn answer(
        self: &Arc<Self>,
        doing: &'static str,
        token: String,
        otherwise: Answer,
        work: impl FnOnce(&Transaction<'_>, &str) -> rusqlite::Result<usize> + Send + 'static,
    ) -> Result<bool> {
        let consumer = Arc::clone(self);
        // Tracked and detached: an answer that was begun is finished even if nobody waits.
        let task = self.answers.spawn(async move {
            let of = token.clone();
            let written = consumer
                .queue
                .transaction(doing, move |transaction| work(transaction, &of))
                .await;
            if written.is_err() {
                lock(&consumer.late).push((token, otherwise));
            }
            written
        });
        let changed = task.await.map_err(|e| {
            Error::new(Code::Internal, format!("the local queue could not {doing}")).caused_by(e)
        })?;
        Ok(changed? > 0)
    }
}

fn available(connection: &Connection, now: i64) -> rusqlite::Result<Option<(i64, u32)>> {
    connection
        .prepare_cached(
            "SELECT id, attempt FROM messages AS candidate
             WHERE available_at <= ?1
               AND (ordering_key = '' OR NOT EXISTS (
                   SELECT 1 FROM messages AS earlier
                   WHERE earlier.ordering_key <> ''
                     AND earlier.ordering_key = candidate.ordering_key
                     AND earlier.id < candidate.id))
             ORDER BY available_at, id LIMIT 1",
        )?
        .query_row([now], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

/// Moves a message to the dead letters, with the reason in its attributes.
fn bury_message(transaction: &Transaction<'_>, id: i64) -> rusqlite::Result<()> {
    let dead = transaction
        .prepare_cached(
            "DELETE FROM messages WHERE id = ?1
             RETURNING id, data, attributes, ordering_key, published, attempt",
        )?
        .query_row([id], message)?;
    let error = Error::new(
        Code::AttemptsExhausted,
        format!(
            "delivered {} times without success; see the worker's log for the failures",
            dead.attempt
        ),
    );
    // Whoever waits for the job must hear of its end, in the same transaction.
    let job = notification::job(&dead);
    let timings = Timings::default();
    let result = JobResult::failed(
        &dead.id,
        &dead.data,
        job.as_ref(),
        &error,
        dead.attempt,
        timings,
    );
    insert_result(transaction, &result)?;
    let letter = OutgoingMessage {
        attributes: dead_letter::attributes(&dead, &error),
        data: dead.data,
        ordering_key: dead.ordering_key,
    };
    tracing::error!(
        message_id = dead.id,
        attempt = dead.attempt,
        code = %error.code(),
        "a message was delivered too often without success; it goes to the dead letters"
    );
    insert_dead_letter(transaction, &letter)
}

/// Moves the message of a lease to the dead letters, if the lease still holds.
fn bury_leased(transaction: &Transaction<'_>, token: &str) -> rusqlite::Result<usize> {
    let id = transaction
        .query_row(
            "SELECT id FROM messages WHERE lease_token = ?1",
            [token],
            |row| row.get(0),
        )
        .optional()?;
    match id {
        Some(id) => bury_message(transaction, id).map(|()| 1),
        None => Ok(0),
    }
}

/// Done with the message.
fn ack(connection: &Connection, token: &str) -> rusqlite::Result<usize> {
    connection
        .prepare_cached("DELETE FROM messages WHERE lease_token = ?1")?
        .execute([token])
}

/// Makes a delivered message available at once, as if its lease had ended.
fn give_back(connection: &Connection, token: &str) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "UPDATE messages SET available_at = 0, lease_token = NULL, lease_owner = NULL
             WHERE lease_token = ?1",
        )?
        .execute([token])
}

/// As [`release`], but available only after `wait` and up to half as much again by chance.
fn postpone(connection: &Connection, token: &str, wait: i64) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "UPDATE messages SET
                 attempt = max(attempt - 1, 0),
                 available_at = ?1 + abs(random() % (?2 + 1)),
                 lease_token = NULL, lease_owner = NULL
             WHERE lease_token = ?3",
        )?
        .execute(params![now_ms() + wait, wait / 2, token])
}

/// As [`give_back`], and as if the delivery had not been made: the attempt is taken back too.
fn release(connection: &Connection, token: &str) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "UPDATE messages SET
                 attempt = max(attempt - 1, 0),
                 available_at = 0, lease_token = NULL, lease_owner = NULL
             WHERE lease_token = ?1",
        )?
        .execute([token])
}

/// The wait after an unsuccessful delivery, before chance is added.
fn backoff(config: &LocalIngressConfig, attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(1).min(31);
    config
        .min_backoff
        .saturating_mul(1 << doublings)
        .min(config.max_backoff)
}

struct LocalLease {
    consumer: Arc<Consumer>,
    id: String,
    attempt: u32,
    /// `None` once answered.
    token: Option<String>,
}

impl LocalLease {
    /// Takes the token out: from here on the lease is neither extended nor given back.
    fn settle(&mut self) -> String {
        let token = self
            .token
            .take()
            .expect("a lease is answered by value, once");
        lock(&self.consumer.held).remove(&token);
        token
    }

    fn lost(&self) -> Error {
        Error::new(
            Code::QueueUnavailable,
            format!(
                "the lease on message {} had ended and another worker took it; this answer has no effect",
                self.id
            ),
        )
    }
}

#[async_trait]
impl Lease for LocalLease {
    async fn ack(mut self: Box<Self>) -> Result<()> {
        let token = self.settle();
        let acked = self
            .consumer
            .answer("ack a message", token, ack, |transaction, token| {
                ack(transaction, token)
            })
            .await?;
        // The next message of the same ordering key may have waited for this ack.
        self.consumer.queue.shared.messages.notify_waiters();
        if acked { Ok(()) } else { Err(self.lost()) }
    }

    async fn nack(mut self: Box<Self>) -> Result<()> {
        let token = self.settle();
        let wait = backoff(&self.consumer.config, self.attempt);
        let last = self.attempt >= self.consumer.config.max_attempts;
        let nacked = self
            .consumer
            .answer(
                "nack a message",
                token,
                give_back,
                move |transaction, token| {
                    if last {
                        return bury_leased(transaction, token);
                    }
                    // Up to half as much again by chance, lest messages that failed together, say
                    // because the disk was full, come back together for ever.
                    let wait = millis(wait);
                    transaction
                        .prepare_cached(
                            "UPDATE messages SET
                             available_at = ?1 + abs(random() % (?2 + 1)),
                             lease_token = NULL, lease_owner = NULL
                         WHERE lease_token = ?3",
                        )?
                        .execute(params![now_ms() + wait, wait / 2, token])
                },
            )
            .await?;
        if !nacked {
            return Err(self.lost());
        }
        if last {
            self.consumer.buried();
        }
        Ok(())
    }

    async fn postpone(mut self: Box<Self>) -> Result<()> {
        let token = self.settle();
        let wait = millis(self.consumer.config.min_backoff);
        let postponed = self
            .consumer
            .answer(
                "postpone a message",
                token,
                release,
                move |transaction, token| postpone(transaction, token, wait),
            )
            .await?;
        if postponed { Ok(()) } else { Err(self.lost()) }
    }

    async fn release(mut self: Box<Self>) -> Result<()> {
        let token = self.settle();
        let released = self
            .consumer
            .answer(
                "take back a message",
                token,
                release,
                |transaction, token| release(transaction, token),
            )
            .await?;
        self.consumer.queue.shared.messages.notify_waiters();
        if released { Ok(()) } else { Err(self.lost()) }
    }
}

impl Drop for LocalLease {
    fn drop(&mut self) {
        let Some(token) = self.token.take() else {
            return;
        };
        lock(&self.consumer.held).remove(&token);
        let consumer = Arc::clone(&self.consumer);
        let id = std::mem::take(&mut self.id);
        let work = move || {
            let shared = &consumer.queue.shared;
            match shared.with("take back a message", |c| give_back(c, &token)) {
                Ok(_) => shared.messages.notify_waiters(),
                Err(error) => {
                    lock(&consumer.late).push((token, give_back));
                    tracing::warn!(
                        message_id = id,
                        error = error.chain(),
                        "could not give a message back; trying again, else it comes when its lease ends"
                    );
                }
            }
        };
        // Without a runtime the process is on its way out, and blocking is harmless.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(self.consumer.answers.spawn_blocking_on(work, &runtime)),
            Err(_) => work(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Every critical section is one call on a collection; a panic cannot leave it half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
