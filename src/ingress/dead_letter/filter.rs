//! Which dead letters an operator means.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::DeadLetter;
use crate::error::{Class, Code};

/// The code of letters that carry no reason.
pub const UNKNOWN_CODE: &str = "unknown";

/// The codes that a dead letter can have: those of permanent failures, and that of none.
pub fn known_codes() -> impl Iterator<Item = &'static str> {
    Code::ALL
        .iter()
        .filter(|code| code.class() == Class::Permanent)
        .map(|code| code.as_str())
        .chain([UNKNOWN_CODE])
}

/// Conditions that a letter must meet, all of them; those that are empty hold for every letter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// One of these codes.
    pub codes: BTreeSet<String>,
    /// One of these jobs.
    pub job_ids: BTreeSet<String>,
    /// A photo whose name starts with this.
    pub source: Option<String>,
    /// Dead for at least this long.
    pub older_than: Option<Duration>,
    /// Dead for less than this.
    pub newer_than: Option<Duration>,
}

impl Filter {
    /// Whether there is no condition.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the letter is meant. One whose time, job or source is not known meets no
    /// condition on it.
    pub fn matches(&self, letter: &DeadLetter, now: Timestamp) -> bool {
        let age = letter.time.map(|time| now.duration_since(time));
        let named = |names: &BTreeSet<String>, name: Option<&str>| {
            names.is_empty() || name.is_some_and(|name| names.contains(name))
        };
        named(&self.codes, Some(&letter.code))
            && named(&self.job_ids, letter.job_id.as_deref())
            && self.source.as_deref().is_none_or(|prefix| {
                let source = letter.source.as_deref();
                source.is_some_and(|source| source.starts_with(prefix))
            })
            && self
                .older_than
                .is_none_or(|least| age.is_some_and(|age| age >= signed(least)))
            && self
                .newer_than
                .is_none_or(|most| age.is_some_and(|age| age < signed(most)))
    }
}

/// The longest that there is stands for what is longer.
fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingress::Message;
    use crate::ingress::dead_letter::ERROR_CODE;

    const NOW: i64 = 1_800_000_000;

    fn now() -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    fn letter(code: &str, data: &'static str, age_s: i64) -> DeadLetter {
        DeadLetter::read(Message {
            data: data.into(),
            attributes: [(ERROR_CODE.to_owned(), code.to_owned())].into(),
            published: Timestamp::from_second(NOW - age_s).ok(),
            ..Message::default()
        })
    }

    fn texts<const N: usize>(texts: [&str; N]) -> BTreeSet<String> {
        texts.map(str::to_owned).into()
    }

    #[test]
    fn every_condition_must_hold_and_any_of_its_values_will_do() {
        let rex = letter(
            "image_corrupt",
            r#"{"job_id":"rex","source":"gs://perkie/2026/rex.jpg"}"#,
            3600,
        );
        let meets = |filter: Filter| filter.matches(&rex, now());
        assert!(meets(Filter::default()));
        let all = Filter {
            codes: texts(["image_corrupt", "invalid_job"]),
            job_ids: texts(["rex", "tom"]),
            source: Some("gs://perkie/2026/".into()),
            older_than: Some(Duration::from_secs(3600)),
            newer_than: Some(Duration::from_secs(3601)),
        };
        assert!(meets(all.clone()));
        assert!(!all.is_empty());
        let hour = Some(Duration::from_secs(3600));
        for missed in [
            Filter {
                codes: texts(["invalid_job"]),
                ..all.clone()
            },
            Filter {
                job_ids: texts(["re"]),
                ..all.clone()
            },
            Filter {
                source: Some("gs://perkie/2025/".into()),
                ..all.clone()
            },
            Filter {
                older_than: Some(Duration::from_secs(3601)),
                ..all.clone()
            },
            Filter {
                newer_than: hour,
                ..all
            },
        ] {
            assert!(!meets(missed.clone()), "{missed:?}");
        }
    }

    #[test]
    fn what_a_letter_does_not_say_meets_no_condition_on_it() {
        let bare = DeadLetter::read(Message::default());
        let age = Some(Duration::from_secs(1));
        for filter in [
            Filter {
                job_ids: texts([""]),
                ..Filter::default()
            },
            Filter {
                source: Some(String::new()),
                ..Filter::default()
            },
            Filter {
                older_than: age,
                ..Filter::default()
            },
            Filter {
                newer_than: age,
                ..Filter::default()
            },
        ] {
            assert!(!filter.matches(&bare, now()), "{filter:?}");
        }
        let unknown = Filter {
            codes: texts([UNKNOWN_CODE]),
            ..Filter::default()
        };
        assert!(unknown.matches(&bare, now()));
    }

    #[test]
    fn a_clock_that_runs_behind_makes_a_letter_new_not_old() {
        let tomorrow = letter("invalid_job", "", -86_400);
        let age = Some(Duration::from_secs(60));
        let newer = Filter {
            newer_than: age,
            ..Filter::default()
        };
        let older = Filter {
            older_than: age,
            ..Filter::default()
        };
        assert!(newer.matches(&tomorrow, now()) && !older.matches(&tomorrow, now()));
    }

    #[test]
    fn the_codes_of_dead_letters_are_those_of_permanent_failures() {
        let codes: Vec<_> = known_codes().collect();
        for known in ["image_corrupt", "attempts_exhausted", UNKNOWN_CODE] {
            assert!(codes.contains(&known), "{known}");
        }
        assert!(!codes.contains(&"storage_unavailable"));
    }
}
