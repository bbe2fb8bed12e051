//! docs/operations.md, and what must be in it.

use std::collections::BTreeSet;

use cutout::error::Code;

use crate::read;

pub const RUNBOOK: &str = "docs/operations.md";

/// What GitHub makes of a heading for links.
fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_' || *c == ' ')
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// The runbook's sections, as links name them.
pub fn sections() -> Vec<String> {
    read(RUNBOOK)
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#').trim()))
        .collect()
}

#[test]
fn the_runbook_lists_every_failure_code_with_its_class_and_no_other() {
    let runbook = read(RUNBOOK);
    let (_, table) = runbook.split_once("## Failure codes").expect("the section");
    let table = table.split("\n## ").next().unwrap();
    // | `code` | class | ... |
    let listed: BTreeSet<(String, String)> = table
        .lines()
        .filter_map(|line| {
            let (code, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            let (class, what) = rest.split_once(" | ")?;
            assert!(what.len() > 40, "{code} says too little: {what}");
            Some((code.to_owned(), class.to_owned()))
        })
        .collect();
    let known: BTreeSet<_> = Code::ALL
        .iter()
        .map(|code| (code.to_string(), code.class().to_string()))
        .collect();
    assert_eq!(listed, known, "{RUNBOOK} and src/error.rs differ");
}
