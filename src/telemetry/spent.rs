//! Where the time of one photo goes: one account that the result, the metrics and the trace are made
//! from, so that no stage is in one of them and not in another.

use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;

use super::labels::Stage;
use super::metrics::Metrics;
use super::traces::Spans;
use crate::error::Error;

/// Waits that are shorter have no span: every hand-over to another thread takes some microseconds.
const WORTH_A_SPAN: Duration = Duration::from_millis(1);

/// The account of one photo. A stage may have several parts: an upload for each output, a wait for
/// each thing that is waited for.
#[derive(Default)]
pub struct Spent {
    spans: Spans,
    sums: [Option<Duration>; Stage::ALL.len()],
    under_way: Option<(Stage, Instant)>,
}

impl Spent {
    /// An account whose parts become children of `spans`.
    pub fn new(spans: Spans) -> Self {
        Self {
            spans,
            ..Self::default()
        }
    }

    /// The span that parts become children of.
    pub const fn spans(&self) -> &Spans {
        &self.spans
    }

    /// A part begins now, and is under way until [`end`](Self::end) or [`fail`](Self::fail).
    pub fn begin(&mut self, stage: Stage) {
        self.under_way = Some((stage, Instant::now()));
    }

    /// The part that is under way is over. `about` is what its span says, asked only if there is one.
    pub fn end(&mut self, about: impl FnOnce() -> Vec<KeyValue>) {
        if let Some((stage, begun)) = self.under_way.take() {
            self.add(stage, begun, begun.elapsed(), about);
        }
    }

    /// The part that is under way, if one is, failed. It has a span that says why, and no time: what
    /// was not finished says nothing of how long a photo takes.
    pub fn fail(&mut self, error: &Error) {
        if let Some((stage, begun)) = self.under_way.take() {
            self.failed(stage, begun, begun.elapsed(), error);
        }
    }

    /// A part that began then and took so long.
    pub fn add(
        &mut self,
        stage: Stage,
        begun: Instant,
        took: Duration,
        about: impl FnOnce() -> Vec<KeyValue>,
    ) {
        *self.sums[stage as usize].get_or_insert_default() += took;
        if stage != Stage::Wait || took >= WORTH_A_SPAN {
            self.span(stage, begun, took, None, about);
        }
    }

    /// A part that failed, likewise.
    pub fn failed(&mut self, stage: Stage, begun: Instant, took: Duration, error: &Error) {
        self.span(stage, begun, took, Some(error), Vec::new);
    }

    fn span(
        &self,
        stage: Stage,
        begun: Instant,
        took: Duration,
        failure: Option<&Error>,
        about: impl FnOnce() -> Vec<KeyValue>,
    ) {
        let kind = match stage {
            Stage::Download | Stage::Upload => SpanKind::Client,
            Stage::Publish => SpanKind::Producer,
            _ => SpanKind::Internal,
        };
        let (name, ended) = (stage.as_str(), begun + took);
        self.spans.child(name, kind, begun, ended, failure, about);
    }

    /// What a stage took, all its parts together.
    pub fn of(&self, stage: Stage) -> Duration {
        self.sums[stage as usize].unwrap_or_default()
    }

    /// Enters every stage that there was something to do in; once for each account, at its end.
    pub fn book(&self, metrics: &Metrics) {
        for (stage, took) in Stage::ALL.iter().zip(self.sums) {
            if let Some(took) = took.filter(|took| !took.is_zero()) {
                metrics.stage(*stage, took);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn parts_of_a_stage_add_up_and_count_once_and_failed_ones_do_not() {
        let second = Duration::from_secs(1);
        let now = Instant::now();
        let mut spent = Spent::default();
        spent.add(Stage::Upload, now, second, Vec::new);
        spent.add(Stage::Upload, now, second, Vec::new);
        spent.failed(Stage::Encode, now, second, &Error::new(Code::Internal, "x"));
        spent.begin(Stage::Admit);
        spent.fail(&Error::new(Code::Internal, "x"));
        spent.end(Vec::new);
        assert_eq!(spent.of(Stage::Upload), 2 * second);
        assert_eq!(spent.of(Stage::Encode), Duration::ZERO);
        let metrics = Metrics::new();
        spent.book(&metrics);
        let text = metrics.render().unwrap();
        let count = |stage: &str| {
            let name = format!("cutout_stage_seconds_count{{stage=\"{stage}\"}} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&name));
            line.unwrap().to_owned()
        };
        assert_eq!(count("upload"), "1");
        assert_eq!(count("encode"), "0");
        assert_eq!(count("admit"), "0");
    }

    #[test]
    fn every_stage_has_a_place_of_its_own() {
        let mut spent = Spent::default();
        for (i, stage) in Stage::ALL.iter().enumerate() {
            let took = Duration::from_secs(i as u64);
            spent.add(*stage, Instant::now(), took, Vec::new);
        }
        for (i, stage) in Stage::ALL.iter().enumerate() {
            assert_eq!(spent.of(*stage).as_secs(), i as u64);
        }
    }
}
