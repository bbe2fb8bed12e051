//! The checked-in JSON Schemas and the types they describe stay equal.

use std::path::PathBuf;

use cutout::job::{Job, JobResult};
use schemars::Schema;

fn check(name: &str, schema: &Schema) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("schemas")
        .join(name);
    let text = serde_json::to_string_pretty(schema).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        checked_in,
        text,
        "{} differs from the types: run `UPDATE_SCHEMAS=1 cargo test --test schemas` and look at the difference",
        path.display()
    );
}

#[test]
fn the_job_schema_is_what_the_types_say() {
    check("job.schema.json", &schemars::schema_for!(Job));
}

#[test]
fn the_result_schema_is_what_the_types_say() {
    check("result.schema.json", &schemars::schema_for!(JobResult));
}
