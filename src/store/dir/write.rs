//! Writing: stage, describe, then make visible in one step.

use std::fs::File;
use std::io::{self, Read, Write};
use std::time::{Duration, SystemTime};

use tempfile::NamedTempFile;

use super::failure;
use super::root::{Root, create_dirs, generation_of, sync_dir, time_of};
use super::sidecar::{self, Sidecar};
use crate::crash::crash_point;
use crate::error::{Class, Code, Error, Result};
use crate::object::{Generation, ObjectName};
use crate::store::{NewObject, ObjectMeta, Precondition, Written};

/// The coarsest modification time of a file system in use (FAT's, in the steps of two seconds).
const COARSEST_TIME: Duration = Duration::from_secs(2);

/// The most that a probe writes to see whether there is room again. A disk on which this much fits is
/// not full, and an output that still does not fit is a case of its own.
const LARGEST_PROBE: u64 = 64 << 20;

/// Writes an object if the precondition holds; durable and described when this returns.
///
/// A crash at any point leaves either nothing visible or the whole object with its sidecar.
pub(super) fn write(
    root: &Root,
    name: &ObjectName,
    object: &NewObject,
    precondition: Precondition,
) -> Result<Written> {
    let key = root.key(name)?;
    let destination = root.destination(key)?;
    if destination.is_dir() {
        return Err(Error::new(
            Code::DestinationExists,
            format!("{key} is a directory; choose another destination"),
        ));
    }
    // Looked at first without the lock: a duplicate should not cost a copy of the content.
    if !holds(precondition, root.live(key)?) {
        return Ok(Written::Conflict);
    }
    let writing = |e: io::Error| {
        if is_full(&e) {
            root.set_needed(object.body.len() as u64);
        }
        failure::writing(key, e)
    };
    let staged = stage(root, |file| file.write_all(&object.body)).map_err(writing)?;
    crash_point!("output_staged");

    let _lock = root.lock(key).map_err(writing)?;
    let live = root.live(key)?;
    if !holds(precondition, live) {
        return Ok(Written::Conflict);
    }
    // Deleted generations count: a number must never come back with other content.
    let newest = live.max(sidecar::newest(root, key).map_err(writing)?);
    let generation = stamp(staged.as_file(), newest).map_err(writing)?;
    let described = Sidecar {
        key: key.to_owned(),
        size: object.body.len() as u64,
        content_type: object.content_type.to_owned(),
        crc32c: crc32c::crc32c(&object.body),
        metadata: object.metadata.clone(),
    };
    described.save(root, generation).map_err(writing)?;
    crash_point!("output_described");
    let published = match precondition {
        // Refuses to replace even what another program put there meanwhile.
        Precondition::Absent => staged.persist_noclobber(&destination),
        Precondition::Generation(_) => staged.persist(&destination),
    };
    if let Err(refused) = published {
        sidecar::remove(root, key, generation);
        return match refused.error.kind() {
            io::ErrorKind::AlreadyExists => Ok(Written::Conflict),
            _ => Err(writing(refused.error)),
        };
    }
    let parent = destination.parent().unwrap_or(root.path());
    sync_dir(parent).map_err(writing)?;
    if let Err(error) = sidecar::keep_only(root, key, generation) {
        tracing::debug!(object = key, %error, "old sidecars stay until the next sweep");
    }
    Ok(Written::Created(ObjectMeta {
        name: name.clone(),
        generation,
        size: described.size,
        content_type: described.content_type,
        crc32c: Some(described.crc32c),
        metadata: described.metadata,
    }))
}

/// Checks that objects can be written here, and into the folder of outputs: with as much room as
/// the last write wanted that found none, since a few bytes always fit somewhere.
pub(super) fn probe(root: &Root, outputs: &str) -> Result<()> {
    let what = root.path().display().to_string();
    if !root.path().is_dir() {
        return Err(Error::new(
            Code::ConfigInvalid,
            format!("the store's directory {what} is gone"),
        ));
    }
    let needed = root.needed().min(LARGEST_PROBE);
    stage(root, |file| write_zeros(file, needed.max(1))).map_err(|e| refused(&what, e))?;
    let folder = root.path().join(outputs);
    create_dirs(&folder)
        .and_then(|()| tempfile::tempfile_in(&folder))
        .map_err(|e| refused(&folder.display().to_string(), e))?;
    root.set_needed(0);
    Ok(())
}

/// Nothing can be written to a directory of the store. Whatever the reason, it is the operator's to
/// mend, and no fault of a job.
fn refused(what: &str, error: io::Error) -> Error {
    let error = failure::writing(what, error);
    if error.class() == Class::Retryable {
        return error;
    }
    Error::new(
        Code::StorageUnavailable,
        format!("nothing can be written to {what}: see what is in the way"),
    )
    .caused_by(error)
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn write_zeros(file: &mut File, bytes: u64) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(bytes), file).map(drop)
}

fn holds(precondition: Precondition, live: Option<Generation>) -> bool {
    match precondition {
        Precondition::Absent => live.is_none(),
        Precondition::Generation(expected) => live == Some(expected),
    }
}

/// Fills a file that nobody sees yet; the content is durable when this returns.
/// The file is locked for as long as its writer lives, which keeps the sweep away.
fn stage(root: &Root, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<NamedTempFile> {
    create_dirs(&root.staging())?;
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    let permissions = {
        use std::os::unix::fs::PermissionsExt;
        // The user's umask decides who may read results, not the privacy of temporary files.
        std::fs::Permissions::from_mode(0o666)
    };
    #[cfg(unix)]
    builder.permissions(permissions);
    let mut file = builder.prefix("object-").tempfile_in(root.staging())?;
    file.as_file().lock()?;
    fill(file.as_file_mut())?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Gives a staged file a generation above `newest`, durably.
fn stamp(file: &File, newest: Option<Generation>) -> io::Result<Generation> {
    let above = newest.map_or(SystemTime::UNIX_EPOCH, time_of);
    let next = SystemTime::now().max(above + Duration::from_nanos(1));
    // The second try is for file systems that round the time down.
    for time in [next, above.max(next) + COARSEST_TIME] {
        file.set_modified(time)?;
        let generation = generation_of(&file.metadata()?);
        if Some(generation) > newest {
            file.sync_all()?;
            return Ok(generation);
        }
    }
    Err(io::Error::other(
        "the file system does not keep modification times",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_above_the_newest_even_when_the_clock_stands_before_it() {
        let file = tempfile::tempfile().unwrap();
        let day = Duration::from_secs(86_400);
        let tomorrow = SystemTime::now() + day;
        file.set_modified(tomorrow).unwrap();
        let newest = generation_of(&file.metadata().unwrap());
        let next = stamp(&file, Some(newest)).unwrap();
        assert!(next > newest, "{next} after {newest}");
        assert_eq!(generation_of(&file.metadata().unwrap()), next);
    }
}
