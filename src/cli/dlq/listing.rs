//! Dead letters as text: a table for people, JSON lines for programs, counts for both.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde::Serialize;

use crate::ingress::dead_letter::DeadLetter;

const HEAD: [&str; 7] = [
    "TIME", "CODE", "CLASS", "ATTEMPTS", "JOB", "SOURCE", "MESSAGE",
];

/// A table with a head; columns are as wide as their widest cell.
pub fn table(letters: &[DeadLetter]) -> String {
    let rows: Vec<[String; 7]> = letters.iter().map(row).collect();
    let mut widths = HEAD.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let head = HEAD.map(str::to_owned);
    for row in std::iter::once(&head).chain(&rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            // Writing into a string cannot fail.
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn row(letter: &DeadLetter) -> [String; 7] {
    let absent = || "-".to_owned();
    let known = |text: &Option<String>| text.as_deref().map_or_else(absent, one_line);
    let time = letter.time.map(|time| format!("{time:.0}"));
    [
        time.unwrap_or_else(absent),
        one_line(&letter.code),
        Some(one_line(&letter.class))
            .filter(|class| !class.is_empty())
            .unwrap_or_else(absent),
        letter
            .attempts
            .map_or_else(absent, |attempts| attempts.to_string()),
        known(&letter.job_id),
        known(&letter.source),
        one_line(&letter.message),
    ]
}

/// The first line, without what a terminal would obey: publishers write these texts.
fn one_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// One letter as `--json` prints it.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    time: Option<Timestamp>,
    origin: &'static str,
    code: &'a str,
    class: &'a str,
    attempts: Option<u32>,
    job_id: Option<&'a str>,
    source: Option<&'a str>,
    message: &'a str,
    message_id: Option<&'a str>,
    attributes: &'a BTreeMap<String, String>,
    ordering_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    /// Instead of `data` where that is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

/// One JSON object on one line, everything that is known included.
pub fn json(letter: &DeadLetter) -> serde_json::Result<String> {
    let data = std::str::from_utf8(&letter.original.data).ok();
    serde_json::to_string(&Line {
        id: &letter.id,
        time: letter.time,
        origin: letter.origin.as_str(),
        code: &letter.code,
        class: &letter.class,
        attempts: letter.attempts,
        job_id: letter.job_id.as_deref(),
        source: letter.source.as_deref(),
        message: &letter.message,
        message_id: letter.message_id.as_deref(),
        attributes: &letter.original.attributes,
        ordering_key: &letter.original.ordering_key,
        data,
        data_base64: data
            .is_none()
            .then(|| BASE64_STANDARD.encode(&letter.original.data)),
    })
}

/// `3 dead letters: 2 image_corrupt, 1 invalid_job`.
pub fn counts(letters: &[DeadLetter]) -> String {
    let mut by_code: BTreeMap<Cow<'_, str>, usize> = BTreeMap::new();
    for letter in letters {
        *by_code.entry(one_line(&letter.code).into()).or_default() += 1;
    }
    let mut text = number(letters.len());
    for (index, (code, count)) in by_code.iter().enumerate() {
        let _ = write!(
            text,
            "{} {count} {code}",
            if index == 0 { ":" } else { "," }
        );
    }
    text
}

/// `1 dead letter`, `2 dead letters`.
pub fn number(count: usize) -> String {
    format!("{count} dead letter{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingress::Message;
    use crate::ingress::dead_letter::{ERROR_CODE, ERROR_MESSAGE};

    fn letter(code: &str, message: &str, data: &'static [u8]) -> DeadLetter {
        DeadLetter::read(Message {
            id: "7".into(),
            data: data.into(),
            attributes: [(ERROR_CODE, code), (ERROR_MESSAGE, message)]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            published: "2026-11-25T03:04:05.678Z".parse().ok(),
            ..Message::default()
        })
    }

    #[test]
    fn the_table_is_aligned_and_a_hostile_text_cannot_command_the_terminal() {
        let letters = [
            letter("invalid_job", "no job\nsecond line", br#"{"job_id":"rex"}"#),
            letter("image_corrupt", "\u{1b}[2Jgone", br#"{"source":"a b.jpg"}"#),
        ];
        assert_eq!(
            table(&letters),
            "TIME                  CODE           CLASS  ATTEMPTS  JOB                            SOURCE   MESSAGE\n\
             2026-11-25T03:04:05Z  invalid_job    -      -         rex                            -        no job\n\
             2026-11-25T03:04:05Z  image_corrupt  -      -         auto-JOB  a b.jpg  \u{fffd}[2Jgone\n"
                .replace("auto-JOB", letters[1].job_id.as_deref().unwrap())
        );
    }

    #[test]
    fn a_json_line_tells_everything_even_of_data_that_is_no_text() {
        let line = json(&letter("invalid_job", "one\ntwo", b"{}")).unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["message"], "one\ntwo");
        assert_eq!((&line["data"], &line["id"]), (&"{}".into(), &"7".into()));
        assert_eq!(line["time"], "2026-11-25T03:04:05.678Z");
        assert!(line["attributes"].as_object().unwrap().is_empty());
        let line = json(&letter("invalid_job", "", b"\xff\x00")).unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["data_base64"], "/wA=");
    }

    #[test]
    fn letters_are_counted_by_code() {
        let letters = [
            letter("invalid_job", "", b""),
            letter("image_corrupt", "", b""),
            letter("invalid_job", "", b""),
        ];
        assert_eq!(
            counts(&letters),
            "3 dead letters: 1 image_corrupt, 2 invalid_job"
        );
        assert_eq!(counts(&letters[..1]), "1 dead letter: 1 invalid_job");
        assert_eq!(counts(&[]), "0 dead letters");
    }
}
