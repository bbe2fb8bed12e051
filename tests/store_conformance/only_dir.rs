use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use super::*;

/// Tells a child process of a test which directory to write to.
const CHILD_DIR: &str = "CUTOUT_TEST_CHILD_DIR";

async fn open_with(dir: &Path, key: &str) -> Result<OpenObject> {
    let store = DirStore::open(dir).unwrap();
    let name = ObjectName::local(key).unwrap();
    store.open(&name.into()).await
}

/// Starts this test binary again, to run one of the ignored tests below in another process.
fn child(test: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            &format!("only_dir::{test}"),
            "--ignored",
            "--nocapture",
        ])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn damaged_content_is_a_checksum_mismatch_at_the_end_of_the_stream() {
    let subject = Subject::dir().await;
    let meta = subject.create("rex.png", noise(600_000)).await;
    let dir = subject._alive.downcast_ref::<tempfile::TempDir>().unwrap();
    let path = dir.path().join("rex.png");
    for damage in [
        // One bit, and half of the file missing: both with the time left as it was.
        |bytes: &mut Vec<u8>| bytes[300_000] ^= 1,
        |bytes: &mut Vec<u8>| bytes.truncate(299_999),
    ] {
        let mut bytes = fs::read(&path).unwrap();
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(time).unwrap();
        let opened = subject.store.open(&meta.name.clone().into()).await.unwrap();
        assert_eq!(opened.meta.generation, meta.generation);
        let error = collect(opened).await.unwrap_err();
        assert_eq!(error.code(), Code::ChecksumMismatch, "{error}");
    }
}

#[tokio::test]
async fn a_file_that_somebody_copied_in_is_an_object() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("in")).unwrap();
    fs::write(dir.path().join("in/Rex.JPEG"), "photo").unwrap();
    let opened = open_with(dir.path(), "in/Rex.JPEG").await.unwrap();
    assert_eq!(opened.meta.content_type, "image/jpeg");
    assert_eq!((opened.meta.size, opened.meta.crc32c), (5, None));
    assert!(opened.meta.metadata.is_empty());
    assert_eq!(collect(opened).await.unwrap(), "photo");
}

#[tokio::test]
async fn a_file_that_somebody_changes_is_another_object_without_our_marker() {
    let subject = Subject::dir().await;
    let ours = subject.create("rex.png", "ours").await;
    let dir = subject._alive.downcast_ref::<tempfile::TempDir>().unwrap();
    fs::write(dir.path().join("rex.png"), "theirs").unwrap();
    let theirs = subject.store.stat(&ours.name.into()).await.unwrap();
    assert_ne!(theirs.generation, ours.generation);
    assert!(theirs.metadata.is_empty());
}

#[tokio::test]
async fn a_photo_that_grows_while_it_is_read_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rex.jpg");
    fs::write(&path, noise(600_000)).unwrap();
    let mut opened = open_with(dir.path(), "rex.jpg").await.unwrap();
    opened.body.try_next().await.unwrap().unwrap();
    fs::write(&path, noise(900_000)).unwrap();
    let error = collect(opened).await.unwrap_err();
    assert_eq!(error.code(), Code::StorageUnavailable, "{error}");
}

#[tokio::test]
async fn a_link_that_leads_out_is_neither_read_nor_listed_nor_written_through() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret.jpg"), "secret").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let link = |target: &Path, name: &str| {
        std::os::unix::fs::symlink(target, dir.path().join(name)).unwrap();
    };
    link(&outside.path().join("secret.jpg"), "file.jpg");
    link(outside.path(), "folder");
    link(&outside.path().join("nothing"), "dangling.jpg");
    fs::write(dir.path().join("inside.jpg"), "inside").unwrap();
    link(&dir.path().join("inside.jpg"), "link.jpg");

    let store = DirStore::open(dir.path()).unwrap();
    for key in ["file.jpg", "folder/secret.jpg"] {
        let name = ObjectName::local(key).unwrap();
        let error = store.open(&name.clone().into()).await.err().unwrap();
        assert_eq!(error.code(), Code::BucketForbidden, "{key}");
        let error = store.stat(&name.into()).await.unwrap_err();
        assert_eq!(error.code(), Code::BucketForbidden, "{key}");
    }
    for key in ["folder/new.png", "folder/deep/new.png"] {
        let name = ObjectName::local(key).unwrap();
        let write = store.write(&name, object("x"), Precondition::Absent);
        assert_eq!(write.await.unwrap_err().code(), Code::BucketForbidden);
    }
    let dangling = ObjectName::local("dangling.jpg").unwrap();
    let write = store.write(&dangling, object("x"), Precondition::Absent);
    assert_eq!(write.await.unwrap(), Written::Conflict);
    let outside: Vec<_> = fs::read_dir(outside.path()).unwrap().collect();
    assert_eq!(outside.len(), 1, "something was written outside");

    let listed = store.list(None, "").await.unwrap();
    let keys: Vec<_> = listed.iter().map(|meta| meta.name.key()).collect();
    assert_eq!(keys, ["inside.jpg", "link.jpg"]);
    let opened = open_with(dir.path(), "link.jpg").await.unwrap();
    assert_eq!(collect(opened).await.unwrap(), "inside");
}

#[tokio::test]
async fn a_list_leaves_out_hidden_files_and_the_stores_own_state() {
    let subject = Subject::dir().await;
    subject.create("rex.png", "x").await;
    let dir = subject._alive.downcast_ref::<tempfile::TempDir>().unwrap();
    fs::write(dir.path().join(".DS_Store"), "x").unwrap();
    fs::create_dir(dir.path().join(".trash")).unwrap();
    fs::write(dir.path().join(".trash/old.jpg"), "x").unwrap();
    assert_eq!(subject.keys("").await, ["rex.png"]);
    for prefix in [".trash/", ".cutout/", ".cutout/meta/", "."] {
        let listed = subject.store.list(None, prefix).await;
        assert!(
            listed.is_err_and(|e| e.code() == Code::InvalidJob)
                || subject.keys(prefix).await.is_empty()
        );
    }
    let outside = subject.store.list(None, "../").await.unwrap_err();
    assert_eq!(outside.code(), Code::InvalidJob);
}

#[tokio::test]
async fn a_directory_and_a_pipe_are_no_objects() {
    let subject = Subject::dir().await;
    subject.create("folder/rex.png", "x").await;
    let dir = subject._alive.downcast_ref::<tempfile::TempDir>().unwrap();
    let pipe = Command::new("mkfifo")
        .arg(dir.path().join("pipe.jpg"))
        .status();
    assert!(pipe.unwrap().success());
    for key in ["folder", "pipe.jpg"] {
        let open = subject.store.open(&subject.name(key).into()).await;
        assert_eq!(open.err().unwrap().code(), Code::SourceNotFound, "{key}");
    }
    let write = |key| {
        let name = subject.name(key);
        let store = Arc::clone(&subject.store);
        async move { store.write(&name, object("x"), Precondition::Absent).await }
    };
    for key in ["folder", "folder/rex.png/below.png"] {
        let error = write(key).await.unwrap_err();
        assert_eq!(error.code(), Code::DestinationExists, "{key}: {error}");
    }
    let long = "x".repeat(300);
    let error = write(&long).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidJob, "{error}");
}

#[tokio::test]
async fn an_object_in_a_bucket_is_refused() {
    let subject = Subject::dir().await;
    let name = ObjectName::in_bucket(BUCKET, "rex.jpg").unwrap();
    let error = subject.store.stat(&name.into()).await.unwrap_err();
    assert_eq!(error.code(), Code::BucketForbidden);
    let error = subject.store.probe(Some(BUCKET)).await.unwrap_err();
    assert_eq!(error.code(), Code::ConfigInvalid);
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_to_is_found_by_the_probe() {
    let dir = tempfile::tempdir().unwrap();
    // A file in the way works also as root, whom permissions do not stop.
    fs::write(dir.path().join(".cutout"), "in the way").unwrap();
    fs::write(dir.path().join("rex.jpg"), "photo").unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    let error = store.probe(None).await.unwrap_err();
    assert_eq!(error.code(), Code::StorageUnavailable);
    let path = dir.path().to_str().unwrap();
    assert!(error.message().contains(path), "{error}");
    fs::remove_file(dir.path().join(".cutout")).unwrap();
    store.probe(None).await.unwrap();
}

#[test]
fn a_file_is_no_root() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = DirStore::open(file.path()).unwrap_err();
    assert_eq!(error.code(), Code::ConfigInvalid);
}

#[tokio::test]
async fn of_many_processes_that_create_the_same_objects_exactly_one_wins_each() {
    let dir = tempfile::tempdir().unwrap();
    let mut children: Vec<_> = (0..4)
        .map(|_| child("child_that_creates_twenty", dir.path()))
        .collect();
    let mut created = Vec::new();
    for child in &mut children {
        let output = BufReader::new(child.stdout.take().unwrap());
        let lines = output.lines().map_while(std::io::Result::ok);
        created.extend(lines.filter_map(|line| {
            let (_, key) = line.split_once("created ")?;
            Some(key.to_owned())
        }));
        assert!(child.wait().unwrap().success());
    }
    created.sort();
    let expected: Vec<_> = (0..20).map(|number| format!("{number:02}.png")).collect();
    assert_eq!(created, expected);
    for key in expected {
        let store = DirStore::open(dir.path()).unwrap();
        let name = ObjectName::local(key).unwrap();
        let stat = store.stat(&name.into()).await.unwrap();
        assert_eq!(stat.metadata, object("").metadata);
    }
}

#[tokio::test]
#[ignore = "run by of_many_processes_that_create_the_same_objects_exactly_one_wins_each"]
async fn child_that_creates_twenty() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else {
        return;
    };
    let store = DirStore::open(dir).unwrap();
    for number in 0..20 {
        let name = ObjectName::local(format!("{number:02}.png")).unwrap();
        let body = std::process::id().to_string();
        let write = store.write(&name, object(body), Precondition::Absent);
        if let Written::Created(_) = write.await.unwrap() {
            println!("\ncreated {name}");
        }
    }
}

#[tokio::test]
async fn whatever_a_killed_writer_made_visible_is_whole_and_its_rest_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = 0;
    // Killed at different moments: while content, sidecar or name are being written.
    for round in 0..8 {
        let mut writer = child("child_that_writes_until_it_is_killed", dir.path());
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let started = lines.find(|line| line.as_ref().is_ok_and(|l| l.contains("created")));
        started.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(7 * round)).await;
        writer.kill().unwrap();
        writer.wait().unwrap();
        let store = DirStore::open(dir.path()).unwrap();
        for meta in store.list(None, "").await.unwrap() {
            assert_eq!(meta.metadata, object("").metadata, "{}", meta.name);
            let opened = store.open(&meta.name.into()).await.unwrap();
            assert_eq!(opened.meta.size, 3 << 20);
            collect(opened).await.unwrap();
            seen += 1;
        }
    }
    assert!(seen > 0);

    let staging = dir.path().join(".cutout/tmp");
    let staged = || fs::read_dir(&staging).unwrap().count();
    File::create(staging.join("object-of-a-killed-writer")).unwrap();
    DirStore::open(dir.path()).unwrap();
    assert_ne!(staged(), 0, "young files may have a living writer");
    for entry in fs::read_dir(&staging).unwrap() {
        let file = File::options().write(true).open(entry.unwrap().path());
        let hours = Duration::from_secs(2 * 3600);
        file.unwrap()
            .set_modified(SystemTime::now() - hours)
            .unwrap();
    }
    DirStore::open(dir.path()).unwrap();
    assert_eq!(staged(), 0);
}

#[tokio::test]
#[ignore = "run by whatever_a_killed_writer_made_visible_is_whole_and_its_rest_is_swept"]
async fn child_that_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else {
        return;
    };
    let store = DirStore::open(dir).unwrap();
    let body = noise(3 << 20);
    for number in 0..10_000 {
        let name = format!("{}-{number}.png", std::process::id());
        let name = ObjectName::local(name).unwrap();
        let write = store.write(&name, object(body.clone()), Precondition::Absent);
        write.await.unwrap();
        println!("\ncreated {name}");
    }
}
