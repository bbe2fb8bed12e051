//! The page that a browser gets, in a real browser before the real worker: see page/page.mjs.

mod harness;

use std::process::Command;

use harness::{Worker, cutout, file, run, told};

#[test]
fn people_cut_photos_out_in_a_browser_with_mouse_keyboard_and_phone() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = cutout();
    command
        .args(["worker", "--ingress", "local", "--root"])
        .arg(dir.path())
        // All walks come from one address.
        .env("CUTOUT_RATE_LIMIT", "0")
        .env("CUTOUT_HTTP_API", "true");
    let worker = Worker::start(command).ready();

    let mut driver = Command::new("node");
    driver
        .arg(file("tests/page/page.mjs"))
        .arg(worker.url("/"))
        .arg(file("target/page"));
    let walked = run(&mut driver);
    assert!(walked.status.success(), "{}", told(&walked));
    println!("{}", told(&walked));
}
