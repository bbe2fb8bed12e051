//! Disks of a test's own, that fill up and turn read-only, and workers whom permissions stop.
//!
//! Mounting takes a mount namespace, which root has for the asking and others where user namespaces are
//! allowed. Where neither is, a test says so and checks nothing.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

/// Set in a process that may mount.
const INSIDE: &str = "CUTOUT_TEST_OWN_MOUNTS";

/// Runs `body` in a process that has mounts of its own: this test again, by its name. What it mounts
/// is gone with its last process, however that ends.
pub fn with_own_mounts(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let Some(flags) = ways_to_mount() else {
        println!("SKIPPED {test}: neither root nor a user namespace may mount here");
        return;
    };
    let status = Command::new("unshare")
        .args(flags)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} in its own mounts: {status}");
}

/// Whether [`with_own_mounts`] runs anything.
pub fn can_mount() -> bool {
    std::env::var_os(INSIDE).is_some() || ways_to_mount().is_some()
}

fn ways_to_mount() -> Option<&'static [&'static str]> {
    let try_it = "mount -t tmpfs -o size=64k tmpfs \"$0\" && umount \"$0\"";
    let folder = tempfile::tempdir().unwrap();
    let ways: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    ways.into_iter().find(|flags| {
        let mut command = Command::new("unshare");
        command.args(*flags).args(["sh", "-c", try_it]);
        let tried = command.arg(folder.path()).output();
        tried.is_ok_and(|output| output.status.success())
    })
}

/// A file system in memory, of any size at any time.
pub struct SmallDisk {
    folder: tempfile::TempDir,
    bytes: u64,
}

impl SmallDisk {
    pub fn mount(bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={bytes},mode=0755");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]);
        assert!(mount.arg(folder.path()).status().unwrap().success());
        Self { folder, bytes }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// From now on only about so many bytes more fit.
    pub fn leave(&self, bytes: u64) {
        // Whoever writes meanwhile makes the size that was meant too small.
        for _ in 0..100 {
            if self.remount(&format!("size={}", self.used() + bytes)) {
                return;
            }
        }
        panic!("the disk cannot be made full");
    }

    /// There is room again.
    pub fn make_room(&self) {
        assert!(self.remount(&format!("size={}", self.bytes)));
    }

    /// Turns it read-only; nobody may have a file of it open for writing.
    pub fn turn_read_only(&self) {
        assert!(self.remount("ro"));
    }

    pub fn turn_writable(&self) {
        assert!(self.remount("rw"));
    }

    fn remount(&self, options: &str) -> bool {
        // With type and source told, mount does not add the options that it finds itself, among
        // which an owner from outside of a user namespace makes the kernel refuse.
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("remount,{options}"), "tmpfs"]);
        let output = mount.arg(self.path()).output().unwrap();
        output.status.success()
    }

    fn used(&self) -> u64 {
        let mut stat = Command::new("stat");
        stat.args(["-f", "-c", "%b %f %S"]).arg(self.path());
        let told = String::from_utf8(stat.output().unwrap().stdout).unwrap();
        let numbers: Vec<u64> = told
            .split_whitespace()
            .map(|n| n.parse().unwrap())
            .collect();
        (numbers[0] - numbers[1]) * numbers[2]
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// The same command without root's right to write everywhere. `None` where root cannot give it up.
pub fn powerless(command: &Command) -> Option<Command> {
    let root = std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    let give_up = [
        "--inh-caps=-all",
        "--ambient-caps=-all",
        "--bounding-set=-all",
    ];
    let mut wrapped = if root {
        let tried = Command::new("setpriv").args(give_up).arg("true").status();
        if !tried.is_ok_and(|status| status.success()) {
            println!("SKIPPED: root cannot give its power up here (setpriv)");
            return None;
        }
        let mut setpriv = Command::new("setpriv");
        setpriv.args(give_up).arg(command.get_program());
        setpriv
    } else {
        Command::new(command.get_program())
    };
    // What the harness gave it is all that a command of its has.
    wrapped.args(command.get_args()).env_clear();
    for (name, value) in command.get_envs() {
        wrapped.envs(value.map(|value| (name, value)));
    }
    Some(wrapped)
}
