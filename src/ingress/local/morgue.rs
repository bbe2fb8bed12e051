//! The local queue's dead letters, for the operator.

use std::collections::VecDeque;

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Transaction};

use super::{LocalQueue, insert_message, message};
use crate::error::Result;
use crate::ingress::dead_letter::{DeadLetter, Morgue, Outcome};

/// Letters read at once: some hundred kilobytes of jobs.
const PAGE: u32 = 256;

/// The dead letters of a local queue, oldest first. Reading takes nothing and locks nothing.
pub struct LocalMorgue {
    queue: LocalQueue,
    /// The last id that was read; ids only grow.
    after: i64,
    read: VecDeque<DeadLetter>,
}

impl LocalMorgue {
    pub(super) fn new(queue: LocalQueue) -> Self {
        Self {
            queue,
            after: 0,
            read: VecDeque::new(),
        }
    }

    /// Takes all letters that are still there out of the morgue, in one transaction, and does
    /// `with` each; returns how many there were.
    async fn take(
        &self,
        doing: &'static str,
        letters: Vec<DeadLetter>,
        with: impl Fn(&Transaction<'_>, &DeadLetter) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<usize> {
        self.queue
            .transaction(doing, move |transaction| {
                let mut delete = transaction
                    .prepare_cached("DELETE FROM dead_letters WHERE id = ?1 RETURNING id")?;
                let mut taken = 0;
                for letter in &letters {
                    let there = delete
                        .query_row([&letter.id], |row| row.get::<_, i64>(0))
                        .optional()?;
                    // Another operator was faster.
                    if there.is_none() {
                        continue;
                    }
                    with(transaction, letter)?;
                    taken += 1;
                }
                Ok(taken)
            })
            .await
    }
}

#[async_trait]
impl Morgue for LocalMorgue {
    async fn next(&mut self) -> Result<Option<DeadLetter>> {
        if let Some(letter) = self.read.pop_front() {
            return Ok(Some(letter));
        }
        let after = self.after;
        let page: Vec<_> = self
            .queue
            .call("read its dead letters", move |connection| {
                connection
                    .prepare_cached(
                        "SELECT id, data, attributes, ordering_key, published, 1
                         FROM dead_letters WHERE id > ?1 ORDER BY id LIMIT ?2",
                    )?
                    .query_map([after, PAGE.into()], |row| {
                        Ok((row.get::<_, i64>(0)?, DeadLetter::read(message(row)?)))
                    })?
                    .collect::<rusqlite::Result<_>>()
            })
            .await?;
        if let Some((last, _)) = page.last() {
            self.after = *last;
        }
        self.read.extend(page.into_iter().map(|(_, letter)| letter));
        Ok(self.read.pop_front())
    }

    async fn replay(
        &mut self,
        letters: Vec<DeadLetter>,
        done: &(dyn Fn() + Send + Sync),
    ) -> Outcome {
        let replayed = self
            .take("replay dead letters", letters, |transaction, letter| {
                insert_message(transaction, &letter.original).map(drop)
            })
            .await;
        self.queue.shared.messages.notify_waiters();
        outcome(replayed, done)
    }

    async fn discard(
        &mut self,
        letters: Vec<DeadLetter>,
        done: &(dyn Fn() + Send + Sync),
    ) -> Outcome {
        outcome(
            self.take("drop dead letters", letters, |_, _| Ok(())).await,
            done,
        )
    }

    async fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// All of a transaction, or nothing.
fn outcome(taken: Result<usize>, done: &(dyn Fn() + Send + Sync)) -> Outcome {
    match taken {
        Ok(count) => {
            (0..count).for_each(|_| done());
            Outcome {
                done: count,
                failure: None,
            }
        }
        Err(error) => Outcome {
            done: 0,
            failure: Some(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Code, Error};
    use crate::ingress::{Egress, Ingress, Message};

    async fn queue(letters: u32) -> (tempfile::TempDir, LocalQueue) {
        let folder = tempfile::tempdir().unwrap();
        let queue = LocalQueue::open(folder.path().join("queue.db")).unwrap();
        for number in 0..letters {
            let original = Message {
                id: format!("original-{number}"),
                data: format!("job {number}").into(),
                attributes: [("shop".to_owned(), "perkie".to_owned())].into(),
                ordering_key: "rex".into(),
                attempt: 3,
                ..Message::default()
            };
            let error = Error::new(Code::ImageCorrupt, "the JPEG ends early");
            queue.dead_letter(&original, &error).await.unwrap();
        }
        (folder, queue)
    }

    async fn all(queue: &LocalQueue) -> Vec<DeadLetter> {
        let mut morgue = queue.morgue();
        let mut letters = Vec::new();
        while let Some(letter) = morgue.next().await.unwrap() {
            letters.push(letter);
        }
        letters
    }

    fn rows(queue: &LocalQueue, table: &str) -> i64 {
        let count = format!("SELECT count(*) FROM {table}");
        queue
            .shared
            .with("count", |c| c.query_row(&count, [], |row| row.get(0)))
            .unwrap()
    }

    #[tokio::test]
    async fn reading_gives_every_letter_once_oldest_first_and_changes_nothing() {
        let (_folder, queue) = queue(2 * PAGE + 10).await;
        let letters = all(&queue).await;
        let expected: Vec<_> = (0..2 * PAGE + 10).map(|n| format!("job {n}")).collect();
        let read: Vec<_> = letters.iter().map(|l| &l.original.data[..]).collect();
        assert_eq!(
            read,
            expected.iter().map(String::as_bytes).collect::<Vec<_>>()
        );
        assert_eq!(all(&queue).await, letters);
    }

    #[tokio::test]
    async fn a_replayed_letter_is_a_message_again_as_it_was_published() {
        let (_folder, queue) = queue(3).await;
        let chosen = all(&queue).await.remove(1);
        let outcome = queue
            .morgue()
            .replay(vec![chosen.clone(), chosen], &|| {})
            .await;
        assert!(outcome.failure.is_none());
        assert_eq!(outcome.done, 1, "a letter is replayed once");
        assert_eq!(all(&queue).await.len(), 2);
        let mut consumer = queue.ingress(Default::default()).unwrap();
        let message = consumer.next().await.unwrap().message;
        assert_eq!(message.data, "job 1");
        assert_eq!(message.ordering_key, "rex");
        assert_eq!(message.attempt, 1);
        let shop = ("shop".to_owned(), "perkie".to_owned());
        assert_eq!(message.attributes, [shop].into());
    }

    #[tokio::test]
    async fn a_replay_that_fails_in_its_middle_has_done_nothing() {
        let (_folder, queue) = queue(5).await;
        let letters = all(&queue).await;
        queue
            .shared
            .with("break", |c| {
                c.execute_batch(
                    "CREATE TRIGGER full BEFORE INSERT ON messages WHEN new.data = CAST('job 3' AS BLOB)
                     BEGIN SELECT raise(ABORT, 'no more'); END",
                )
            })
            .unwrap();
        let outcome = queue.morgue().replay(letters, &|| panic!("none is")).await;
        assert_eq!(outcome.done, 0);
        assert_eq!(outcome.failure.unwrap().code(), Code::QueueUnavailable);
        assert_eq!(
            (rows(&queue, "dead_letters"), rows(&queue, "messages")),
            (5, 0)
        );
    }

    #[tokio::test]
    async fn dropped_letters_are_gone_and_their_neighbours_stay() {
        let (_folder, queue) = queue(3).await;
        let chosen = all(&queue).await.remove(1);
        let kept = chosen.id.clone();
        let outcome = queue.morgue().discard(vec![chosen], &|| {}).await;
        assert_eq!((outcome.done, outcome.failure.is_none()), (1, true));
        assert!(all(&queue).await.iter().all(|letter| letter.id != kept));
        assert_eq!(
            (rows(&queue, "dead_letters"), rows(&queue, "messages")),
            (2, 0)
        );
    }
}
