//! The HTTP API, end to end: the built program, and clients that were written for the service before
//! it.

mod harness;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Worker, file, quick, run, told, wait_until};
use serde_json::Value;

/// A worker with the API, a network that takes a millisecond, and no rate limit but `args`' own.
fn worker(root: &Path, args: &[&str]) -> Worker {
    let mut command = quick();
    command
        .args(["worker", "--ingress", "local", "--root"])
        .arg(root)
        .args(["--http-api", "--rate-limit", "0"])
        .args(args);
    Worker::start(command).ready()
}

/// A client of this many requests at once.
fn http() -> reqwest::Client {
    reqwest::Client::builder()
        .pool_max_idle_per_host(0)
        .build()
        .unwrap()
}

/// A form with one part `file`.
fn form(photo: &[u8]) -> (&'static str, Vec<u8>) {
    let mut body =
        b"--X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"rex.jpg\"\r\n\r\n"
            .to_vec();
    body.extend_from_slice(photo);
    body.extend_from_slice(b"\r\n--X--\r\n");
    ("multipart/form-data; boundary=X", body)
}

async fn send(
    client: &reqwest::Client,
    worker: &Worker,
    path: &str,
    photo: &[u8],
) -> (u16, reqwest::header::HeaderMap, Vec<u8>) {
    let (kind, body) = form(photo);
    let answer = client
        .post(format!("{}{path}", worker.url("")))
        .header("content-type", kind)
        .body(body)
        .send()
        .await
        .unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    (status, headers, answer.bytes().await.unwrap().to_vec())
}

/// A request of `length` bytes of a photo, as far as its head; `headers` each end in CRLF.
fn begin(worker: &Worker, headers: &str, length: usize) -> TcpStream {
    let mut stream = TcpStream::connect(worker.address()).unwrap();
    let head = format!(
        "POST /remove-background HTTP/1.1\r\nhost: x\r\n{headers}content-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// The header of [`form`]'s type.
const OF_A_FORM: &str = "content-type: multipart/form-data; boundary=X\r\n";

/// A request whose photo stops in its middle.
fn half(worker: &Worker, headers: &str) -> TcpStream {
    let mut stream = begin(worker, headers, 1000);
    stream.write_all(b"half").unwrap();
    stream
}

/// Waits until so many requests are in work.
fn under_way(worker: &Worker, count: u64) {
    wait_until("the requests under way", || {
        (worker.get_json("/api/v2/stats")["requests_under_way"] == count).then_some(())
    });
}

/// A photo of some bytes that is like no other: noise does not compress.
fn noise(seed: u64, side: u32) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let picture = image::RgbImage::from_fn(side, side, |_, _| {
        image::Rgb(random.u32(..).to_le_bytes()[..3].try_into().unwrap())
    });
    let mut file = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut file, image::ImageFormat::Png)
        .unwrap();
    file.into_inner()
}

fn cat() -> Vec<u8> {
    std::fs::read(file("samples/cat.jpg")).unwrap()
}

#[test]
fn clients_of_the_former_service_run_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let worker = worker(
        dir.path(),
        &[
            "--max-file-bytes",
            "2MB",
            "--cors-origins",
            "https://*.myshopify.com",
        ],
    );
    let table = Path::new(env!("CARGO_TARGET_TMPDIR")).join("http-routes.md");
    let ran = run(
        Command::new(std::env::var("PYTHON").unwrap_or("python3".into()))
            .arg(file("tests/http_api/client.py"))
            .arg(worker.url(""))
            .arg(file("samples/cat.jpg"))
            .arg(&table),
    );
    assert!(ran.status.success(), "{}\n{:#?}", told(&ran), worker.logs());
    let rows = std::fs::read_to_string(&table).unwrap();
    let page = file("docs/http-api.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text
        .split_once("<!-- routes -->\n\n")
        .expect("a place for the table");
    let (told, after) = rest.split_once("\n<!-- end -->").expect("its end");
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        let text = format!("{before}<!-- routes -->\n\n{rows}\n<!-- end -->{after}");
        std::fs::write(&page, text).unwrap();
    } else {
        assert!(
            told == rows,
            "docs/http-api.md tells other answers than the worker: UPDATE_SCHEMAS=1 cargo test --test http_api"
        );
    }
    // Every documented route is in the table.
    let document: Value = serde_json::from_str(&cutout::ingress::http::openapi_document()).unwrap();
    for path in document["paths"].as_object().unwrap().keys() {
        let stem = path.split('{').next().unwrap();
        assert!(rows.contains(stem), "{path} is not in the table");
    }
}

#[test]
fn the_document_is_checked_in_and_every_route_in_it_answers() {
    let document = cutout::ingress::http::openapi_document();
    let checked_in = file("schemas/openapi.json");
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::write(&checked_in, format!("{document}\n")).unwrap();
    }
    let there = std::fs::read_to_string(&checked_in).unwrap_or_default();
    assert!(
        there.trim_end() == document,
        "schemas/openapi.json is out of date: UPDATE_SCHEMAS=1 cargo test --test http_api"
    );

    let dir = tempfile::tempdir().unwrap();
    let worker = worker(dir.path(), &[]);
    let served: Value = worker.get_json("/openapi.json");
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(served, document);
    let listed = worker.get_json("/")["endpoints"].clone();
    let mut documented = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            documented += 1;
            let endpoint = format!("{} {path}", method.to_uppercase());
            assert!(
                listed
                    .as_array()
                    .unwrap()
                    .contains(&endpoint.clone().into()),
                "{endpoint}"
            );
            let url = format!(
                "{}{}",
                worker.url(""),
                path.replace("{name}", "popart")
                    .replace("{session_id}", "rex")
            );
            let status = block_on(async {
                let request = http().request(method.to_uppercase().parse().unwrap(), url);
                request.send().await.unwrap().status().as_u16()
            });
            assert!(![404, 405].contains(&status), "{endpoint}: {status}");
        }
    }
    assert_eq!(listed.as_array().unwrap().len(), documented, "{listed}");
}

#[test]
fn without_the_switch_there_is_no_api_and_no_page() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = quick();
    command.args(["worker", "--root"]).arg(dir.path());
    let worker = Worker::start(command).ready();
    for path in ["/api/v2/", "/openapi.json", "/page.js"] {
        assert_eq!(worker.get(path).0, 404, "{path}");
    }
    let (status, _, _) = block_on(send(&http(), &worker, "/remove-background", &cat()));
    assert_eq!(status, 404);
}

#[test]
fn fifty_uploads_at_once_are_answered_or_told_when_to_come_again_and_stay_within_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    let worker = worker(dir.path(), &["--memory-budget", "400MiB"]);
    let before = worker.peak_memory();
    // 3 MB each.
    let photos: Vec<_> = (0..50).map(|i| noise(i, 1000)).collect();
    assert!(photos[0].len() > 2_900_000, "{}", photos[0].len());
    let client = http();
    let answers = block_on(async {
        // Noise is all edge to an unoptimised build, and this is about memory.
        let path = "/remove-background?decontaminate=false";
        let sends = photos
            .iter()
            .map(|photo| send(&client, &worker, path, photo));
        futures::future::join_all(sends).await
    });
    let mut pictures = 0;
    for (status, headers, body) in &answers {
        match status {
            200 => {
                pictures += 1;
                let picture = image::load_from_memory(body).unwrap();
                assert_eq!((picture.width(), picture.height()), (1000, 1000));
            }
            429 | 503 => assert!(headers.contains_key("retry-after")),
            _ => panic!("{status}: {}", String::from_utf8_lossy(body)),
        }
    }
    assert!(pictures >= 40, "{pictures}");
    let grown = (worker.peak_memory() - before) >> 20;
    eprintln!(
        "{pictures} of 50 answered with pictures; memory grew by {grown} MiB of a budget of 400"
    );
    // Beside what is budgeted there are the finished files on their way out (4 MB each) and the allocator's slack.
    assert!(grown < 400 + 250, "{grown} MiB");
    wait_until("the budget's return", || {
        (worker.metric("cutout_memory_budget_bytes", &["state=\"used\""]) == 0.0).then_some(())
    });
}

#[test]
fn ten_of_the_same_at_once_run_the_network_once() {
    let dir = tempfile::tempdir().unwrap();
    let worker = worker(dir.path(), &[]);
    let runs = || worker.metric("cutout_inference_seconds_count", &[]);
    let (client, photo, before) = (http(), cat(), runs());
    let answers = block_on(async {
        let sends = (0..10).map(|_| send(&client, &worker, "/remove-background", &photo));
        futures::future::join_all(sends).await
    });
    for (status, _, body) in &answers {
        assert_eq!((*status, body), (200, &answers[0].2));
    }
    assert_eq!(runs() - before, 1.0);
    let hits = answers
        .iter()
        .filter(|(_, headers, _)| headers["x-cache-hits"] == "1")
        .count();
    assert_eq!(hits, 9);
    // Durable, and neither a job nor a reason to work again.
    wait_until("the cached file", || {
        let found = walkdir::WalkDir::new(dir.path().join("inspirenet-cache"));
        found
            .into_iter()
            .filter_map(Result::ok)
            .any(|entry| entry.file_type().is_file())
            .then_some(())
    });
    let (status, headers, _) = block_on(send(
        &client,
        &worker,
        "/api/v2/process?effect=popart",
        &photo,
    ));
    assert_eq!(
        (status, headers["x-cache-hits"].to_str().unwrap()),
        (200, "1")
    );
    assert_eq!(runs() - before, 1.0);
    assert_eq!(
        worker.metric("cutout_cache_requests_total", &["outcome=\"miss\""]),
        1.0
    );
    assert_eq!(
        worker.metric("cutout_jobs_total", &["ingress=\"local\""]),
        0.0
    );
}

/// Pixels of a PNG.
fn rgba(png: &[u8]) -> image::RgbaImage {
    image::load_from_memory(png).unwrap().into_rgba8()
}

#[test]
fn a_client_may_have_the_photos_own_colours_and_neither_is_taken_for_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let worker = worker(dir.path(), &[]);
    let (client, photo) = (http(), cat());
    let ask = |path: &str| {
        let (status, headers, body) = block_on(send(&client, &worker, path, &photo));
        assert_eq!(status, 200, "{path}");
        (headers["x-cache-hits"].to_str().unwrap().to_owned(), body)
    };
    let (_, own) = ask("/remove-background");
    wait_until("the cached file", || {
        (ask("/remove-background").0 == "1").then_some(())
    });
    let (hits, plain) = ask("/remove-background?decontaminate=false");
    assert_eq!(hits, "0");
    let (own, plain) = (rgba(&own), rgba(&plain));
    assert_ne!(own, plain);
    let photo = image::load_from_memory(&photo).unwrap().into_rgb8();
    for ((own, plain), photo) in own.pixels().zip(plain.pixels()).zip(photo.pixels()) {
        assert_eq!(own[3], plain[3], "alpha is the same");
        if plain[3] > 0 {
            // Two decoders of a JPEG are a few levels apart.
            let apart = (0..3).map(|i| plain[i].abs_diff(photo[i])).max().unwrap();
            assert!(apart < 16, "{plain:?} {photo:?}");
        }
    }
    // Effects begin with the cut-out that was asked for, from the cache too.
    let effect = |flag| {
        ask(&format!(
            "/api/v2/process?effect=color&decontaminate={flag}"
        ))
        .1
    };
    assert_eq!(rgba(&effect("true")), own);
    assert_eq!(rgba(&effect("false")), plain);
    let (status, _, _) = block_on(send(
        &client,
        &worker,
        "/remove-background?decontaminate=perhaps",
        b"x",
    ));
    assert_eq!(status, 422);
}

#[test]
fn an_answer_says_whether_somebody_should_look_at_it_and_so_does_one_from_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let unusual = worker(dir.path(), &["--review-max-coverage", "0"]);
    let (client, photo) = (http(), cat());
    let ask = |worker: &Worker, path: &str| block_on(send(&client, worker, path, &photo));
    let told = |headers: &reqwest::header::HeaderMap| {
        let told = headers["x-cutout-quality"].to_str().unwrap().to_owned();
        (told, headers["x-cache-hits"] == "1")
    };
    let (_, headers, _) = ask(&unusual, "/remove-background");
    let (first, hit) = told(&headers);
    assert!(first.starts_with("review: full") && !hit, "{first}");
    wait_until("the cached cut-out", || {
        told(&ask(&unusual, "/remove-background").1).1.then_some(())
    });
    assert_eq!(told(&ask(&unusual, "/remove-background").1), (first, true));

    let effects = "/api/v2/process-with-effects?return_all_effects=true&effects=color,popart";
    let (_, headers, body) = ask(&unusual, effects);
    assert!(told(&headers).0.starts_with("review: full"));
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["quality"]["verdict"], "review");
    assert_eq!(body["quality"]["reasons"][0], "full");
    drop(unusual);

    // What is kept are the numbers: another worker's thresholds are its own.
    let other = worker(dir.path(), &["--review=false"]);
    assert_eq!(
        told(&ask(&other, "/remove-background").1),
        ("unjudged".into(), true)
    );
}

#[test]
fn a_client_has_its_number_of_photos_a_minute_and_questions_do_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = quick();
    command.args(["worker", "--root"]).arg(dir.path()).args([
        "--http-api",
        "--rate-limit",
        "3",
        "--client-ip",
        "RightmostXForwardedFor",
    ]);
    let worker = Worker::start(command).ready();
    let (client, url) = (http(), format!("{}/remove-background", worker.url("")));
    let post = |forwarded: &'static str| {
        let (kind, body) = form(&cat());
        let request = client.post(&url).header("content-type", kind);
        let request = request.header("x-forwarded-for", forwarded).body(body);
        block_on(async {
            let answer = request.send().await.unwrap();
            (
                answer.status().as_u16(),
                answer.headers().get("retry-after").cloned(),
            )
        })
    };
    for _ in 0..3 {
        assert_eq!(post("198.51.100.1, 203.0.113.7").0, 200);
    }
    // What the client claims to be does not count, only what the proxy has seen.
    let (status, after) = post("192.0.2.99, 203.0.113.7");
    assert_eq!(status, 429);
    let seconds: u64 = after.unwrap().to_str().unwrap().parse().unwrap();
    assert!((1..=20).contains(&seconds), "{seconds}");
    assert_eq!(post("198.51.100.1, 203.0.113.8").0, 200);
    for _ in 0..20 {
        assert_eq!(worker.get("/api/v2/effects").0, 200);
    }
    // A client that sends all of a large photo before it reads is told so too, not of a broken connection.
    let bytes = 8 << 20;
    let headers = "connection: close\r\nx-forwarded-for: 203.0.113.7\r\n";
    let mut large = begin(&worker, headers, bytes);
    large.write_all(&vec![0; bytes]).unwrap();
    let mut answer = String::new();
    large.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    let refused = ["route=\"/remove-background\"", "status=\"429\""];
    assert_eq!(worker.metric("cutout_http_requests_total", &refused), 2.0);
}

#[test]
fn requests_beyond_the_places_are_told_to_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let worker = worker(
        dir.path(),
        &["--http-max-requests", "1", "--upload-pause", "30s"],
    );
    // Takes the only place, as its body does not end.
    let slow = half(&worker, "");
    under_way(&worker, 1);
    let (status, headers, body) = block_on(send(&http(), &worker, "/remove-background", &cat()));
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &answer["code"]), (429, &"queue_full".into()));
    assert!(headers.contains_key("retry-after"));
    // Probes are not refused.
    assert_eq!(worker.get("/health").0, 200);
    drop(slow);
    wait_until("the place", || {
        (block_on(send(&http(), &worker, "/remove-background", &cat())).0 == 200).then_some(())
    });
}

#[test]
fn an_upload_that_stops_is_cut_off_and_gives_its_memory_back() {
    let dir = tempfile::tempdir().unwrap();
    let worker = worker(dir.path(), &["--upload-pause", "300ms"]);
    let mut stalled = half(&worker, "connection: close\r\n");
    let mut answer = String::new();
    stalled.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("upload_timeout"), "{answer}");
    wait_until("the memory", || {
        let api = worker.get_json("/api/v2/health/detailed")["api"].clone();
        (api["uploads"]["used"] == 0 && api["requests_under_way"] == 0).then_some(())
    });
}

#[test]
fn a_client_that_goes_away_costs_no_run_of_the_network_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let worker = worker(dir.path(), &[]);
    let before = worker.metric("cutout_inference_seconds_count", &[]);
    let (_, body) = form(&cat());
    let mut gone = begin(&worker, OF_A_FORM, body.len());
    gone.write_all(&body[..body.len() / 2]).unwrap();
    under_way(&worker, 1);
    gone.shutdown(Shutdown::Both).unwrap();
    drop(gone);
    under_way(&worker, 0);
    assert_eq!(worker.metric("cutout_inference_seconds_count", &[]), before);
    let api = worker.get_json("/api/v2/health/detailed")["api"].clone();
    assert_eq!(
        (&api["uploads"]["used"], &api["pixels"]["used"]),
        (&0.into(), &0.into())
    );
}

#[test]
fn a_drain_finishes_what_is_under_way_and_refuses_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = worker(
        dir.path(),
        &["--drain-timeout", "20s", "--upload-pause", "20s"],
    );
    let (_, body) = form(&cat());
    let headers = format!("connection: close\r\n{OF_A_FORM}");
    let mut slow = begin(&worker, &headers, body.len());
    slow.write_all(&body[..1000]).unwrap();
    under_way(&worker, 1);
    worker.signal("TERM");
    wait_until("the drain", || {
        (worker.get("/health").0 == 503).then_some(())
    });
    let (status, headers, answer) = block_on(send(&http(), &worker, "/remove-background", &cat()));
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!((status, &answer["code"]), (503, &"draining".into()));
    assert!(headers.contains_key("retry-after"));
    slow.write_all(&body[1000..]).unwrap();
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).unwrap();
    assert!(
        answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer[..200])
    );
    assert_eq!(worker.exit().0, Some(0));
}

#[test]
fn a_drain_does_not_wait_for_a_client_that_does_not_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = worker(
        dir.path(),
        &["--drain-timeout", "1s", "--upload-pause", "600s"],
    );
    let mut slow = half(&worker, "");
    under_way(&worker, 1);
    let begun = Instant::now();
    worker.signal("TERM");
    assert_eq!(worker.exit().0, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(60));
    let mut answer = String::new();
    let _ = slow.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

#[test]
fn before_the_model_is_loaded_photos_are_told_to_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = harness::cutout();
    command
        .args(["worker", "--http-api", "--root"])
        .arg(dir.path());
    let worker = Worker::start(command);
    let (status, headers, body) = block_on(send(&http(), &worker, "/remove-background", &cat()));
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &answer["code"]), (503, &"not_ready".into()));
    assert!(headers.contains_key("retry-after"));
}

/// The network is busy with one photo while another's client goes away.
#[cfg(feature = "failpoints")]
#[test]
fn a_client_that_goes_away_while_it_waits_for_the_network_costs_no_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = quick();
    command
        .args(["worker", "--http-api", "--rate-limit", "0", "--root"])
        .arg(dir.path())
        .env("FAILPOINTS", "network_running=1*sleep(3000)->off");
    let worker = Worker::start(command).ready();
    let before = worker.metric("cutout_inference_seconds_count", &[]);
    let waits = || worker.metric("cutout_stage_queue_depth", &["stage=\"infer\""]);
    std::thread::scope(|scope| {
        let first =
            scope.spawn(|| block_on(send(&http(), &worker, "/remove-background", &noise(1, 64))));
        wait_until("the first one's run", || {
            (worker.get_json("/api/v2/stats")["requests_under_way"] == 1 && waits() == 0.0)
                .then_some(())
        });
        std::thread::sleep(Duration::from_millis(300));
        let (_, body) = form(&noise(2, 64));
        let mut second = begin(&worker, OF_A_FORM, body.len());
        second.write_all(&body).unwrap();
        wait_until("the second one's place in the queue", || {
            (waits() == 1.0).then_some(())
        });
        // Alerts about the queue's jobs must not see them.
        let in_flight = |ingress: &str| {
            worker.metric(
                "cutout_jobs_in_flight",
                &[&format!("ingress=\"{ingress}\"")],
            )
        };
        assert_eq!((in_flight("http"), in_flight("local")), (2.0, 0.0));
        drop(second);
        wait_until("its end", || (waits() == 0.0).then_some(()));
        assert_eq!(first.join().unwrap().0, 200);
    });
    assert_eq!(
        worker.metric("cutout_inference_seconds_count", &[]) - before,
        1.0
    );
    let gone = ["route=\"/remove-background\"", "status=\"499\""];
    assert_eq!(worker.metric("cutout_http_requests_total", &gone), 1.0);
}

#[cfg(feature = "failpoints")]
#[test]
fn an_effect_that_fails_does_not_fail_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = quick();
    command
        .args(["worker", "--http-api", "--root"])
        .arg(dir.path())
        .env("FAILPOINTS", "effect_encoded=1*off->1*panic->off");
    let worker = Worker::start(command).ready();
    let path =
        "/api/v2/process-with-effects?return_all_effects=true&effects=popart,dithering,retro8bit";
    let (status, headers, body) = block_on(send(&http(), &worker, path, &cat()));
    assert_eq!(status, 200);
    let answer: Value = serde_json::from_slice(&body).unwrap();
    let made: Vec<_> = answer["effects"].as_object().unwrap().keys().collect();
    assert_eq!(made, ["popart", "retro8bit"]);
    assert_eq!(answer["failed_effects"], serde_json::json!(["dithering"]));
    assert_eq!(
        (&answer["success"], &answer["total_effects"]),
        (&true.into(), &2.into())
    );
    assert_eq!(headers["x-effects-count"], "2");
    assert_eq!(
        worker.metric("cutout_effects_failed_total", &["effect=\"dithering\""]),
        1.0
    );
    assert_eq!(worker.get("/health").0, 200);
}

/// A listener that floods the worker with pings and reads nothing.
#[test]
fn a_listener_that_does_not_read_costs_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let worker = worker(dir.path(), &[]);
    let mut socket = TcpStream::connect(worker.address()).unwrap();
    socket
        .write_all(b"GET /ws/progress/rex HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        .unwrap();
    let mut head = [0; 64];
    let read = socket.read(&mut head).unwrap();
    assert!(
        head[..read].starts_with(b"HTTP/1.1 101"),
        "{}",
        String::from_utf8_lossy(&head)
    );
    // A ping of 125 bytes, masked with zeroes.
    let mut ping = vec![0x89, 0x80 | 125, 0, 0, 0, 0];
    ping.resize(6 + 125, b'x');
    let flood = ping.repeat(1000);
    let before = worker.peak_memory();
    socket
        .set_write_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let mut sent = 0;
    // Pongs for all of it would be 128 MiB.
    while sent < 128 << 20 && socket.write_all(&flood).is_ok() {
        sent += flood.len();
    }
    let grown = (worker.peak_memory() - before) >> 20;
    assert!(grown < 64, "{grown} MiB after {} MiB of pings", sent >> 20);
    assert_eq!(worker.get("/health").0, 200);
}

#[test]
fn clients_that_do_not_read_hold_only_what_was_set_apart_for_answers() {
    let dir = tempfile::tempdir().unwrap();
    let worker = worker(
        dir.path(),
        &["--memory-budget", "300MiB", "--job-timeout", "60s"],
    );
    let photo = noise(1, 1500);
    let (_, body) = form(&photo);
    let slow: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = begin(&worker, OF_A_FORM, body.len());
            stream.write_all(&body).unwrap();
            stream
        })
        .collect();
    let answers = || worker.get_json("/api/v2/health/detailed")["api"].clone();
    // All are answered, and nobody takes the answers: each is larger than what sockets hold.
    wait_until("the answers", || {
        let api = answers();
        let held = api["answers"]["used"].as_u64()?;
        let idle = api["uploads"]["used"] == 0 && api["pixels"]["used"] == 0;
        (idle && held > 4 * photo.len() as u64 / 2).then_some(())
    });
    let done = ["ingress=\"http\"", "outcome=\"done\""];
    assert_eq!(worker.metric("cutout_jobs_total", &done), 4.0);
    // Neither the queue nor another client waits for them.
    std::fs::create_dir_all(dir.path().join("inbox")).unwrap();
    std::fs::copy(file("samples/cat.jpg"), dir.path().join("inbox/cat.jpg")).unwrap();
    wait_until("the queue's job", || {
        dir.path()
            .join("outbox/cat.cutout.png")
            .exists()
            .then_some(())
    });
    assert_eq!(
        block_on(send(&http(), &worker, "/remove-background", &cat())).0,
        200
    );
    drop(slow);
    wait_until("what they held", || {
        (answers()["answers"]["used"] == 0).then_some(())
    });
}

#[test]
fn a_kept_cut_out_that_takes_more_memory_than_its_photo_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    // Enough for the photo, and not always for its PNG.
    for budget in ["100MiB", "130MiB", "160MiB", "200MiB"] {
        let root = dir.path().join(budget);
        let args = ["--memory-budget", budget, "--max-file-bytes", "4MiB"];
        std::fs::create_dir(&root).unwrap();
        let worker = worker(&root, &args);
        let mut photo = std::io::Cursor::new(Vec::new());
        image::open(file("samples/cat.jpg"))
            .unwrap()
            .resize_exact(1800, 1800, image::imageops::FilterType::Nearest)
            .write_to(&mut photo, image::ImageFormat::Jpeg)
            .unwrap();
        let photo = photo.into_inner();
        let path = "/api/v2/process?effect=popart&decontaminate=false";
        let (first, _, picture) = block_on(send(&http(), &worker, path, &photo));
        let (second, _, again) = block_on(send(&http(), &worker, path, &photo));
        assert_eq!((first, &picture), (second, &again), "{budget}");
        let path = "/api/v2/process-with-effects?return_all_effects=true&effects=color,popart&decontaminate=false";
        let (third, _, _) = block_on(send(&http(), &worker, path, &photo));
        assert_eq!(third, first, "{budget}");
    }
}

#[test]
fn an_upload_of_unknown_length_may_be_what_the_budget_allows() {
    let dir = tempfile::tempdir().unwrap();
    let worker = worker(dir.path(), &["--memory-budget", "128MiB"]);
    let chunks = futures::stream::iter([Ok::<_, std::io::Error>(cat())]);
    let status = block_on(async {
        let request = http().post(worker.url("/remove-background"));
        let body = reqwest::Body::wrap_stream(chunks);
        request.body(body).send().await.unwrap().status().as_u16()
    });
    assert_eq!(status, 200);
}

#[test]
fn a_form_that_is_all_headers_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let worker = worker(dir.path(), &[]);
    let mut body = b"--X\r\nContent-Disposition: form-data; name=\"".to_vec();
    body.resize(body.len() + (8 << 20), b'x');
    let (status, answer) = block_on(async {
        let request = http().post(worker.url("/remove-background"));
        let request = request.header("content-type", "multipart/form-data; boundary=X");
        let answer = request.body(body).send().await.unwrap();
        (
            answer.status().as_u16(),
            answer.json::<Value>().await.unwrap(),
        )
    });
    assert_eq!((status, &answer["code"]), (400, &"malformed_form".into()));
}

#[test]
fn what_is_no_text_in_a_path_is_refused_in_json() {
    let dir = tempfile::tempdir().unwrap();
    let worker = worker(dir.path(), &[]);
    for (path, status) in [("/api/v2/effect/%ff", 404), ("/ws/progress/%ff", 400)] {
        let (told, body) = worker.get(path);
        assert_eq!(told, status, "{path}");
        assert!(
            serde_json::from_str::<Value>(&body).unwrap()["code"].is_string(),
            "{path}"
        );
    }
}

#[test]
fn rotated_phone_photos_come_back_upright() {
    let dir = tempfile::tempdir().unwrap();
    let worker = worker(dir.path(), &[]);
    let photo = std::fs::read(file("tests/fixtures/images/orientation-6.jpg")).unwrap();
    let (status, _, body) = block_on(send(&http(), &worker, "/remove-background", &photo));
    assert_eq!(status, 200);
    let stored = image::load_from_memory(&photo).unwrap();
    let upright = image::load_from_memory(&body).unwrap();
    assert_eq!(
        (upright.width(), upright.height()),
        (stored.height(), stored.width())
    );
}

#[test]
fn an_answer_never_shows_the_inside() {
    let dir = tempfile::tempdir().unwrap();
    let worker = worker(dir.path(), &[]);
    let root = dir.path().to_str().unwrap().to_owned();
    let bodies = [
        (
            "/remove-background",
            b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>".to_vec(),
        ),
        ("/remove-background", cat()[..20_000].to_vec()),
        ("/api/v2/process?effect=%0d%0aset-cookie:x", cat()),
        ("/api/v2/process?effect_params=%5B%5D", cat()),
        ("/api/v2/process?session_id=a%0d%0ab", cat()),
    ];
    for (path, photo) in bodies {
        let (status, headers, body) = block_on(send(&http(), &worker, path, &photo));
        let text = String::from_utf8_lossy(&body).into_owned();
        assert!((400..500).contains(&status), "{path}: {status} {text}");
        for inside in [root.as_str(), "src/", "panicked", "Error {", ".rs:"] {
            assert!(!text.contains(inside), "{path}: {text}");
        }
        assert!(!headers.contains_key("set-cookie"));
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}
