//! Cloud Monitoring, where nothing is scraped: what terraform/modules/cutout/monitoring.tf counts out of
//! the log is logged by a running worker, in those words.

use serde_json::Value;

use crate::read;
use crate::scraped::busy_worker;

const FILE: &str = "terraform/modules/cutout/monitoring.tf";

/// What stands between two texts in a file, each time.
fn between<'a>(text: &'a str, before: &'a str, after: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(before)
        .skip(1)
        .map(move |rest| rest.split(after).next().unwrap())
}

#[test]
fn what_terraform_counts_out_of_the_log_is_logged() {
    let dir = tempfile::tempdir().unwrap();
    let (worker, _) = busy_worker(dir.path());
    let logs = worker.logs();
    let logged = |wanted: &dyn Fn(&str) -> bool| {
        let message = |entry: &&Value| wanted(entry["message"].as_str().unwrap_or_default());
        logs.iter().find(message)
    };

    let file = read(FILE);
    let exact: Vec<_> = between(&file, r#"jsonPayload.message=\""#, r#"\""#).collect();
    let patterns: Vec<_> = between(&file, r#"jsonPayload.message=~\""#, r#"\""#).collect();
    assert_eq!((exact.len(), patterns.len()), (1, 1), "{FILE} has changed");
    let start = logged(&|message| message == exact[0]).unwrap_or_else(|| {
        panic!(
            "{FILE} waits for {:?}, which nobody says: {logs:#?}",
            exact[0]
        )
    });
    let pattern = regex_lite::Regex::new(patterns[0]).unwrap();
    for outcome in ["job done", "job failed"] {
        assert!(pattern.is_match(outcome), "{outcome}");
        assert!(logged(&|message| message == outcome).is_some(), "{outcome}");
    }

    // EXTRACT(jsonPayload.FIELD) must be a number for a distribution.
    let fields: Vec<_> = between(&file, "EXTRACT(jsonPayload.", ")").collect();
    let fields = fields.iter().filter(|field| !field.contains(','));
    for field in fields {
        assert!(start[*field].is_number(), "{field} in {start}");
    }
}
