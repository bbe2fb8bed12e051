//! The local queue's database: its file, its tables, and what its errors mean.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use crate::error::{Code, Error, Result};

/// Layout of the tables; a database of another layout is refused rather than guessed at.
const LAYOUT: i64 = 1;

/// Marks the file as ours (`PRAGMA application_id`), so that another program's database is not
/// written into by mistake: "cuto" in ASCII.
const APPLICATION_ID: i64 = 0x6375_746f;

/// How long a statement waits for another process's transaction. Ours take milliseconds, so
/// a longer wait means a stuck process rather than a busy one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Times are milliseconds since 1970. A message may be taken when `available_at` has passed:
/// 0 for a new one, the end of the lease for one that somebody holds, the end of the back-off
/// for one that was given back. New messages are 0 rather than "now" so that a clock set back
/// never hides them.
const TABLES: &str = "
    CREATE TABLE messages (
        id            INTEGER PRIMARY KEY AUTOINCREMENT,
        data          BLOB    NOT NULL,
        attributes    TEXT    NOT NULL,
        ordering_key  TEXT    NOT NULL,
        published     INTEGER NOT NULL,
        attempt       INTEGER NOT NULL DEFAULT 0,
        available_at  INTEGER NOT NULL DEFAULT 0,
        lease_token   TEXT,
        lease_owner   TEXT
    );
    CREATE INDEX messages_by_availability ON messages (available_at, id);
    CREATE INDEX messages_by_key ON messages (ordering_key, id) WHERE ordering_key <> '';
    CREATE INDEX messages_by_owner ON messages (lease_owner) WHERE lease_owner IS NOT NULL;

    CREATE TABLE results (
        id         INTEGER PRIMARY KEY AUTOINCREMENT,
        job_id     TEXT    NOT NULL,
        published  INTEGER NOT NULL,
        data       TEXT    NOT NULL
    );

    CREATE TABLE dead_letters (
        id            INTEGER PRIMARY KEY AUTOINCREMENT,
        data          BLOB    NOT NULL,
        attributes    TEXT    NOT NULL,
        ordering_key  TEXT    NOT NULL,
        published     INTEGER NOT NULL
    );

    CREATE TABLE uploads (
        object      TEXT    NOT NULL PRIMARY KEY,
        generation  INTEGER NOT NULL
    ) WITHOUT ROWID;
";

/// Which file it is, under whatever name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The file that has this name now.
    pub(super) fn of(path: &Path) -> Result<Self> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Self {
                device: metadata.dev(),
                inode: metadata.ino(),
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(replaced(path).caused_by(e)),
            Err(e) => Err(Error::new(
                Code::QueueUnavailable,
                format!(
                    "the local queue {} cannot be looked at; it is tried again",
                    path.display()
                ),
            )
            .caused_by(e)),
        }
    }
}

/// The queue's file lost its name to nothing or to another file.
pub(super) fn replaced(path: &Path) -> Error {
    Error::new(
        Code::QueueLost,
        format!(
            "the local queue {} was deleted or replaced while it was open: start again, and publish again what had no result",
            path.display()
        ),
    )
}

/// Opens the database, creating file, folder and tables where there are none.
pub(super) fn connect(path: &Path) -> Result<Connection> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder).map_err(|e| {
            Error::new(
                Code::QueueLost,
                format!(
                    "the local queue's folder {} cannot be created: choose another place or mend its permissions",
                    folder.display()
                ),
            )
            .caused_by(e)
        })?;
    }
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        match try_connect(path) {
            // The switch to WAL does not wait for others by itself: two processes that meet
            // an empty file at the same moment would otherwise fail one of them.
            Err(Opening::Sqlite(e)) if is_busy(&e) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(Opening::Sqlite(e)) => return Err(explain("open", path, e)),
            Err(Opening::Foreign(what)) => {
                return Err(Error::new(
                    Code::QueueLost,
                    format!("{} is not a queue of this program: {what}", path.display()),
                ));
            }
            Ok(connection) => return Ok(connection),
        }
    }
}

enum Opening {
    Sqlite(rusqlite::Error),
    Foreign(String),
}

impl From<rusqlite::Error> for Opening {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn try_connect(path: &Path) -> Result<Connection, Opening> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;

    let (application, layout, tables) = identity(&mut connection)?;
    match (application, layout, tables) {
        (0, 0, 0) | (APPLICATION_ID, LAYOUT, _) => {}
        (APPLICATION_ID, layout, _) => {
            return Err(Opening::Foreign(format!(
                "its layout is number {layout}, this version writes number {LAYOUT}; let the version that made it empty it first, or use a new file"
            )));
        }
        _ => {
            return Err(Opening::Foreign(
                "it is another program's SQLite database; name another file".into(),
            ));
        }
    }

    // A publisher's message and a worker's ack must survive a power cut the moment the call
    // returns; WAL lets the two sides work without waiting for each other's reads.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;

    // The check is repeated inside the transaction: another process may have won the race.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if pragma(&transaction, "user_version")? == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", LAYOUT)?;
    }
    transaction.commit()?;
    Ok(connection)
}

/// Application id, layout and number of tables, as they were at one moment: read apart, another
/// process that creates the tables in between makes a new queue look like a foreign database.
fn identity(connection: &mut Connection) -> rusqlite::Result<(i64, i64, i64)> {
    let moment = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
    Ok((
        pragma(&moment, "application_id")?,
        pragma(&moment, "user_version")?,
        moment.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?,
    ))
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// Says what an error of the database means for the queue, and what to do about it.
pub(super) fn explain(doing: &str, path: &Path, error: rusqlite::Error) -> Error {
    let path = path.display();
    let (code, message) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => (
            Code::QueueLost,
            format!(
                "the local queue {path} is damaged or not a database: move it away with its -wal and -shm files and publish again what was in it"
            ),
        ),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => (
            Code::QueueLost,
            format!(
                "the local queue {path} cannot be opened for writing: check the folder and its permissions"
            ),
        ),
        Some(ErrorCode::DiskFull) => (
            Code::QueueUnavailable,
            format!("the disk of the local queue {path} is full: make room on it"),
        ),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            Code::QueueUnavailable,
            format!(
                "the local queue {path} has been locked by another process for {BUSY_TIMEOUT:?}; it is tried again"
            ),
        ),
        _ => (
            Code::QueueUnavailable,
            format!("the local queue {path} could not {doing}; it is tried again"),
        ),
    };
    Error::new(code, message).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path) -> Error {
        connect(path).expect_err("must be refused")
    }

    #[test]
    fn a_file_that_is_not_a_database_is_a_lost_queue() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.db");
        std::fs::write(&path, "photos, not messages ".repeat(100)).unwrap();
        let error = refused(&path);
        assert_eq!(error.code(), Code::QueueLost);
        assert!(error.message().contains("queue.db"), "{error}");
    }

    #[test]
    fn another_programs_database_and_a_newer_layout_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let foreign = folder.path().join("foreign.db");
        Connection::open(&foreign)
            .unwrap()
            .execute_batch("CREATE TABLE orders (id)")
            .unwrap();
        assert!(refused(&foreign).message().contains("another program"));

        let newer = folder.path().join("newer.db");
        let connection = connect(&newer).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        drop(connection);
        assert!(refused(&newer).message().contains("number 99"));
    }

    #[test]
    fn a_place_that_cannot_be_written_is_a_lost_queue() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert_eq!(
            refused(&folder.path().join("file/queue.db")).code(),
            Code::QueueLost
        );
        assert_eq!(refused(folder.path()).code(), Code::QueueLost);
    }

    #[test]
    fn a_full_disk_is_told_as_such_and_passes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.db");
        let connection = connect(&path).unwrap();
        let pages = pragma(&connection, "page_count").unwrap();
        connection
            .pragma_update(None, "max_page_count", pages)
            .unwrap();
        let publish =
            "INSERT INTO results (job_id, published, data) VALUES ('j', 0, zeroblob(9999))";
        let error = connection.execute(publish, []).unwrap_err();
        let error = explain("take a result", &path, error);
        assert_eq!(error.code(), Code::QueueUnavailable);
        assert!(error.message().contains("is full: make room"), "{error}");
        connection
            .pragma_update(None, "max_page_count", pages + 9)
            .unwrap();
        connection.execute(publish, []).unwrap();
    }

    #[test]
    fn many_may_open_a_new_queue_at_the_same_moment() {
        let folder = tempfile::tempdir().unwrap();
        // The moments that matter are short: enough rounds meet each of them.
        for round in 0..40 {
            let path = folder.path().join(format!("queue-{round}.db"));
            let start = std::sync::Barrier::new(8);
            std::thread::scope(|scope| {
                let opens: Vec<_> = (0..8)
                    .map(|_| {
                        scope.spawn(|| {
                            start.wait();
                            connect(&path).map(drop)
                        })
                    })
                    .collect();
                for open in opens {
                    open.join().unwrap().unwrap();
                }
            });
        }
    }
}
