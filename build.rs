//! Tells the program which commit it is built from, as `CUTOUT_COMMIT`.
//!
//! Of that name in the environment, if it is there (an image is built without the repository); else
//! what git says, in release builds alone: a development build would be linked anew for every commit.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CUTOUT_COMMIT");
    let given = std::env::var_os("CUTOUT_COMMIT").is_some();
    if given || std::env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    // Every commit, checkout and reset appends to the log of HEAD.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
        println!("cargo::rerun-if-changed=src");
    }
    if let Some(commit) = git(&[
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]) {
        println!("cargo::rustc-env=CUTOUT_COMMIT={commit}");
    }
}

/// What git says, or nothing where there is no git or no repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !said.trim().is_empty()).then(|| said.trim().to_owned())
}
