//! Pulls deliveries, walks each through the pipeline, answers it: result first, ack last.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::crash::crash_point;
use crate::error::{Class, Code, Error, Result};
use crate::experiment::ArmUsed;
use crate::ingress::notification::{self, Admission, NotificationPolicy, SkipReason};
use crate::ingress::{Delivery, Egress, Ingress, Lease, Message, Source};
use crate::job::{Job, JobResult, Quality, Status, Timings};
use crate::pipeline::{Arrival, Chosen, Pipeline, Walked, millis};
use crate::side::health::{Health, QueueStatus};
use crate::side::state::{Phase, SideState};
use crate::telemetry::attribute::{self, number, text};
use crate::telemetry::context::TraceContext;
use crate::telemetry::labels::{Outcome, RetryOp, Stage};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::spent::Spent;
use crate::telemetry::traces::{Beginning, Spans, Traces};

/// How often the queue is looked at while the store is waited for.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// What one worker is made of.
pub struct Worker {
    /// What turns jobs into outputs.
    pub pipeline: Pipeline,
    /// Where results and dead letters go.
    pub egress: Arc<dyn Egress>,
    /// Which upload notifications become jobs.
    pub notifications: NotificationPolicy,
    /// Jobs in work at once.
    pub max_jobs: usize,
    /// Time that one run of the network may take before the worker ends.
    pub give_up_after: Duration,
    /// Time that jobs in work have after a stop.
    pub drain_timeout: Duration,
    /// What is under way beside the queue's jobs (requests of the HTTP API): a drain waits for it too.
    pub requests: TaskTracker,
    /// Cancelled when the drain waits no longer, for those requests.
    pub give_up: CancellationToken,
    /// What /health tells: the worker reports the queue and its own draining.
    pub side: Arc<SideState>,
    /// Counters.
    pub metrics: Metrics,
    /// Spans.
    pub traces: Traces,
}

/// One delivery on its way, told to metrics and trace as it ends.
struct Course<'a> {
    metrics: &'a Metrics,
    ingress: &'static str,
    begun: Instant,
    spans: Spans,
    /// By which results refer to the trace: our span, or the publisher's where traces are off.
    trace: Option<TraceContext>,
    /// Where its job belongs in an experiment.
    arm: Mutex<Option<ArmUsed>>,
}

impl Course<'_> {
    fn set_arm(&self, arm: Option<ArmUsed>) {
        if let Some(used) = &arm {
            tracing::Span::current().record("arm", &*used.arm);
            self.spans.set(|| {
                vec![
                    text(attribute::EXPERIMENT, &*used.experiment),
                    text(attribute::ARM, &*used.arm),
                ]
            });
        }
        *self.arm.lock().unwrap_or_else(PoisonError::into_inner) = arm;
    }

    fn arm(&self) -> Option<ArmUsed> {
        let arm = self.arm.lock().unwrap_or_else(PoisonError::into_inner);
        arm.clone()
    }

    /// The delivery is over, except for its answer.
    fn finished(&self, outcome: Outcome, failure: Option<&Error>) {
        let code = failure.map(Error::code);
        let elapsed = self.begun.elapsed();
        self.metrics
            .job_finished(outcome, code, self.ingress, elapsed);
        if let Some(used) = self.arm() {
            self.metrics.arms().finished(&used.arm, outcome, elapsed);
        }
        self.spans
            .set(|| vec![text(attribute::OUTCOME, outcome.as_str())]);
        if let Some(error) = failure {
            self.spans.fail(error);
        }
    }
}

/// What to tell the queue about a delivery.
enum Verdict {
    Ack,
    /// It failed, which counts as an attempt.
    Nack,
    /// It failed because the store is away, which every job would meet now.
    Postpone,
    /// Its time was cut short by the worker's end, which is not the job's fault.
    Release,
}

impl Worker {
    /// Works until `stop` is cancelled or a fatal error occurs; drains either way. After the
    /// drain timeout the jobs still in work are given back to the queue at once.
    pub async fn run(self, mut ingress: Box<dyn Ingress>, stop: CancellationToken) -> Result<()> {
        let worker = Arc::new(self);
        let ingress_name = ingress.name();
        let source = Arc::new(ingress.source());
        let metrics = worker.metrics.clone();
        ingress.on_burial(Box::new(move |code| metrics.dead_letter(code)));
        let places = Arc::new(Semaphore::new(worker.max_jobs));
        let (tasks, requests) = (TaskTracker::new(), worker.requests.clone());
        let give_up = worker.give_up.clone();
        let (fatal, mut fatalities) = mpsc::channel::<Error>(1);

        // A worker that has lost one of several networks cannot tell which jobs it may still take.
        let engines = worker.pipeline.engines();
        let lost = engines
            .iter()
            .map(|engine| Box::pin(engine.lost(worker.give_up_after)));
        let mut engine_lost = futures::future::select_all(lost);

        let ended = loop {
            let delivery = tokio::select! {
                biased;
                () = stop.cancelled() => break Ok(()),
                Some(error) = fatalities.recv() => break Err(error),
                // The jobs that the engine owes an answer say so too, if there are any.
                (error, _, _) = &mut engine_lost => break Err(error),
                next = next_delivery(ingress.as_mut(), &places, &worker.side.health) => next,
            };
            let (delivery, place) = match delivery {
                Ok(pair) => pair,
                Err(error) if error.class() == Class::Fatal => {
                    worker
                        .side
                        .health
                        .set_queue(QueueStatus::Lost(error.message().to_owned()));
                    break Err(error);
                }
                Err(error) => {
                    tracing::warn!(code = %error.code(), error = error.chain(), "the queue did not answer; trying again");
                    let why = error.message().to_owned();
                    worker.side.health.set_queue(QueueStatus::Unreachable(why));
                    worker.metrics.retry(RetryOp::Pull, error.code());
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            worker.side.health.set_queue(QueueStatus::Connected);
            let (worker, give_up, fatal) = (worker.clone(), give_up.clone(), fatal.clone());
            let source = source.clone();
            tasks.spawn(async move {
                let _place = place;
                let answered = worker.answer(delivery, ingress_name, &source, &give_up);
                if let Err(error) = answered.await {
                    // One fatal error is enough; the channel being full means there is one.
                    drop(fatal.try_send(error));
                }
            });
        };

        worker.side.set_phase(Phase::Draining);
        let in_work = tasks.len() + requests.len();
        tracing::info!(in_work, "draining: no more jobs are pulled");
        tasks.close();
        requests.close();
        let all = async || {
            tokio::join!(tasks.wait(), requests.wait());
        };
        let patience = match &ended {
            Ok(()) => worker.drain_timeout,
            // A poisoned worker finishes nothing.
            Err(_) => Duration::ZERO,
        };
        if tokio::time::timeout(patience, all()).await.is_err() {
            tracing::warn!(
                in_work = tasks.len() + requests.len(),
                "drain timeout: giving the rest back to the queue"
            );
            give_up.cancel();
            tasks.wait().await;
        }
        let closed = ingress.close().await;
        if let Err(error) = &closed {
            tracing::warn!(
                error = error.chain(),
                "the queue did not confirm every answer"
            );
        }
        ended
    }

    /// Answers one delivery. Only a fatal error comes back, after the lease was given back.
    async fn answer(
        &self,
        delivery: Delivery,
        ingress: &'static str,
        source: &Source,
        give_up: &CancellationToken,
    ) -> Result<()> {
        let Delivery { message, lease } = delivery;
        let span = tracing::info_span!(
            "job",
            job_id = tracing::field::Empty,
            message_id = message.id,
            attempt = message.attempt,
            arm = tracing::field::Empty,
            trace_id = tracing::field::Empty,
            span_id = tracing::field::Empty,
            trace_sampled = tracing::field::Empty,
        );
        let queued = queued_for(&message);
        let parent = TraceContext::of_attributes(&message.attributes);
        let admission = notification::admit(&message, &self.notifications);
        let spans = match &admission {
            // Of every output of ours there is a notification; nobody wants a trace of each.
            Ok(Admission::Skip(_)) => Spans::default(),
            _ => self.traces.begin(|| Beginning {
                name: format!("process {}", source.name()),
                kind: SpanKind::Consumer,
                parent: parent.clone(),
                attributes: of_delivery(&message, queued, ingress, source),
            }),
        };
        let trace = spans.context().or(parent);
        if let Some(trace) = &trace {
            trace.record(&span);
        }
        let course = Course {
            metrics: &self.metrics,
            ingress,
            begun: Instant::now(),
            spans,
            trace,
            arm: Mutex::default(),
        };
        let mut shadow = None;
        async {
            let _in_flight = self.metrics.in_flight_guard(ingress);
            self.metrics.queue_age(queued);
            // The pool's threads catch panics of their own; this is for those of the walk itself.
            let work = self.work(&message, admission, queued, &course, &mut shadow);
            let work = AssertUnwindSafe(work).catch_unwind();
            let verdict = tokio::select! {
                biased;
                ended = work => ended.unwrap_or_else(|panic| {
                    let defect = Error::of_panic(panic.as_ref());
                    self.give_back(RetryOp::Job, defect, &course)
                }),
                () = give_up.cancelled() => {
                    let why = "given back to the queue: the worker is shutting down";
                    tracing::warn!(code = Code::Draining.as_str(), "{why}");
                    course.finished(Outcome::Retried, Some(&Error::new(Code::Draining, why)));
                    Ok(Verdict::Release)
                }
            };
            match verdict {
                Ok(verdict) => {
                    let over = matches!(verdict, Verdict::Ack);
                    settle(lease, verdict).await;
                    crash_point!("message_acked");
                    // One that comes again is chosen again, if it was.
                    if let Some(chosen) = shadow.filter(|_| over) {
                        chosen.offer();
                    }
                }
                Err(fatal) => {
                    tracing::error!(code = %fatal.code(), class = %fatal.class(), error = fatal.chain(), "the worker cannot go on");
                    course.finished(Outcome::Aborted, Some(&fatal));
                    settle(lease, Verdict::Nack).await;
                    return Err(fatal);
                }
            }
            Ok(())
        }
        .instrument(span)
        .await
    }

    /// The job's walk and its answer; an error is fatal.
    async fn work(
        &self,
        message: &Message,
        admission: Result<Admission>,
        queued: Duration,
        course: &Course<'_>,
        shadow: &mut Option<Chosen>,
    ) -> Result<Verdict> {
        let arrival = Arrival {
            attempt: message.attempt,
            queued,
            notified: notification::is_notification(message),
            spans: course.spans.clone(),
        };
        let mut known = None;
        let outcome = match admission {
            Ok(Admission::Skip(reason)) => {
                self.skip(message, reason);
                return Ok(Verdict::Ack);
            }
            Ok(Admission::Job(job)) => {
                let job = *job;
                let id = job.id();
                tracing::Span::current().record("job_id", &id);
                course.spans.set(|| vec![text(attribute::JOB_ID, id)]);
                course.set_arm(self.pipeline.arm(&job));
                known = Some(job.clone());
                self.pipeline.run(job, arrival.clone()).await
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(Some(walked)) => {
                let Walked {
                    result,
                    shadow: chosen,
                } = walked;
                *shadow = chosen;
                self.report(&result, course).await
            }
            Ok(None) => {
                self.skip(message, SkipReason::OwnOutput);
                Ok(Verdict::Ack)
            }
            Err(error) => match error.class() {
                Class::Permanent => {
                    self.refuse(message, known.as_ref(), &error, &arrival, course)
                        .await
                }
                Class::Retryable | Class::Fatal => {
                    let code = error.code();
                    let verdict = self.give_back(RetryOp::Job, error, course)?;
                    let blamed = matches!(code, Code::StorageUnavailable | Code::StorageForbidden);
                    if blamed && self.side.health.storage_is_away().await {
                        return Ok(Verdict::Postpone);
                    }
                    Ok(verdict)
                }
            },
        }
    }

    fn skip(&self, message: &Message, reason: SkipReason) {
        tracing::debug!(
            reason = reason.as_str(),
            object = message.attributes.get(notification::attribute::OBJECT_ID),
            "notification skipped"
        );
        self.metrics.notification_skipped(reason.as_str());
    }

    /// Publishes a result; the message may be acked when that is durable.
    async fn report(&self, result: &JobResult, course: &Course<'_>) -> Result<Verdict> {
        // A former delivery may have begun it in another arm.
        let used = result.experiment.as_deref().zip(result.arm.as_deref());
        course.set_arm(used.map(|(experiment, arm)| ArmUsed {
            experiment: experiment.into(),
            arm: arm.into(),
        }));
        if let Err(error) = self.publish(result, course).await {
            return self.give_back(RetryOp::PublishResult, error, course);
        }
        crash_point!("result_published");
        let doubtful = result.quality.as_ref().is_some_and(Quality::needs_review);
        if let Some(used) = course.arm()
            && result.status == Status::Done
            && doubtful
        {
            self.metrics.arms().review(&used.arm);
        }
        course.finished(Outcome::from(result.status), None);
        let json = serde_json::to_string(result).unwrap_or_default();
        tracing::info!(
            status = result.status.as_str(),
            total_ms = result.timings_ms.total,
            result = json,
            "job {}",
            result.status.as_str()
        );
        Ok(Verdict::Ack)
    }

    /// Publishes a result of whatever kind; durable when this returns.
    async fn publish(&self, result: &JobResult, course: &Course<'_>) -> Result<()> {
        let mut spent = Spent::new(course.spans.clone());
        spent.begin(Stage::Publish);
        let published = self
            .egress
            .publish_result(result, course.trace.as_ref())
            .await;
        match &published {
            Ok(()) => spent.end(|| vec![text(attribute::MESSAGING_OPERATION_TYPE, "send")]),
            Err(error) => spent.fail(error),
        }
        spent.book(&self.metrics);
        published
    }

    /// Answers a job that can never succeed: `failed` result, dead letter, ack.
    async fn refuse(
        &self,
        message: &Message,
        job: Option<&Job>,
        error: &Error,
        arrival: &Arrival,
        course: &Course<'_>,
    ) -> Result<Verdict> {
        let timings = Timings {
            queued: millis(arrival.queued),
            total: millis(course.begun.elapsed()),
            ..Timings::default()
        };
        let used = course.arm();
        let result = JobResult {
            experiment: used.as_ref().map(|used| used.experiment.to_string()),
            arm: used.map(|used| used.arm.to_string()),
            ..JobResult::failed(
                &message.id,
                &message.data,
                job,
                error,
                arrival.attempt,
                timings,
            )
        };
        if let Err(error) = self.publish(&result, course).await {
            return self.give_back(RetryOp::PublishResult, error, course);
        }
        crash_point!("failure_published");
        if let Err(error) = self.egress.dead_letter(message, error).await {
            return self.give_back(RetryOp::DeadLetter, error, course);
        }
        crash_point!("dead_letter_published");
        self.metrics.dead_letter(error.code());
        course.finished(Outcome::Failed, Some(error));
        let json = serde_json::to_string(&result).unwrap_or_default();
        tracing::warn!(code = %error.code(), class = %error.class(), error = error.chain(), result = json, "job failed");
        Ok(Verdict::Ack)
    }

    /// Lets the job come again after what `op` met; also when only its answer could not be
    /// published, as without one the message must not be acked. A fatal error comes back.
    fn give_back(&self, op: RetryOp, error: Error, course: &Course<'_>) -> Result<Verdict> {
        if error.class() == Class::Fatal {
            return Err(error);
        }
        tracing::warn!(
            op = op.as_str(), code = %error.code(), class = %error.class(), error = error.chain(),
            "the job failed and goes back to the queue"
        );
        self.metrics.retry(op, error.code());
        course.finished(Outcome::Retried, Some(&error));
        Ok(Verdict::Nack)
    }
}

/// Waits for a free place and a store that answers, then for a delivery. Cancel-safe: a delivery
/// is never lost, because the place is there before it is pulled.
///
/// A job that is pulled while the store is away can only fail, which uses up one of its attempts:
/// an outage of an hour would send a whole backlog to the dead letters.
async fn next_delivery(
    ingress: &mut dyn Ingress,
    places: &Arc<Semaphore>,
    health: &Health,
) -> Result<(Delivery, OwnedSemaphorePermit)> {
    let place = places
        .clone()
        .acquire_owned()
        .await
        .expect("the worker never closes its places");
    loop {
        let waiting = health.storage_turns(false);
        if tokio::time::timeout(LOOK_AROUND, waiting).await.is_err() {
            // Who waits does not pull, and would not be told.
            if let QueueStatus::Lost(why) = health.queue() {
                return Err(Error::new(Code::QueueLost, why));
            }
            continue;
        }
        tokio::select! {
            biased;
            next = ingress.next() => return Ok((next?, place)),
            () = health.storage_turns(true) => {}
        }
    }
}

/// Tells the queue. A failure here costs a redelivery, which the output's marker makes harmless.
async fn settle(lease: Box<dyn Lease>, verdict: Verdict) {
    let told = match verdict {
        Verdict::Ack => lease.ack().await,
        Verdict::Nack => lease.nack().await,
        Verdict::Postpone => lease.postpone().await,
        Verdict::Release => lease.release().await,
    };
    if let Err(error) = told {
        tracing::warn!(
            error = error.chain(),
            "the queue did not take the answer; the message may come again"
        );
    }
}

fn queued_for(message: &Message) -> Duration {
    message
        .published
        .and_then(|published| {
            Duration::try_from(jiff::Timestamp::now().duration_since(published)).ok()
        })
        .unwrap_or_default()
}

/// What a span says of a delivery, after OpenTelemetry's conventions for messaging.
fn of_delivery(
    message: &Message,
    queued: Duration,
    ingress: &'static str,
    source: &Source,
) -> Vec<KeyValue> {
    let mut attributes = vec![
        text(attribute::MESSAGING_SYSTEM, source.system),
        text(attribute::MESSAGING_OPERATION_NAME, "process"),
        text(attribute::MESSAGING_OPERATION_TYPE, "process"),
        text(attribute::MESSAGING_MESSAGE_ID, &message.id),
        number(attribute::MESSAGING_BODY_SIZE, message.data.len() as u64),
        text(attribute::INGRESS, ingress),
        number(attribute::ATTEMPT, message.attempt.into()),
        number(attribute::QUEUED_MS, millis(queued)),
    ];
    if let Some(subscription) = &source.subscription {
        attributes.push(text(attribute::MESSAGING_SUBSCRIPTION, subscription));
    }
    if !message.ordering_key.is_empty() {
        attributes.push(text(
            attribute::MESSAGING_ORDERING_KEY,
            &message.ordering_key,
        ));
    }
    attributes
}
