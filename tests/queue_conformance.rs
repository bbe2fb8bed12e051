//! One suite of behaviours for every queue: what holds of Pub/Sub holds of the local queue.

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use cutout::error::{Class, Code, Error};
use cutout::ingress::local::{LocalIngressConfig, LocalQueue};
use cutout::ingress::pubsub::{PubSub, PubSubConfig};
use cutout::ingress::{Delivery, Egress, Ingress, JobPublisher, Message, OutgoingMessage};
use cutout::job::{JobResult, Status, Timings, VERSION};
use support::SubscriptionOptions;

/// Long enough for a busy machine, and only waited for by a test that fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a test waits to see that nothing comes. The local queue looks every 200 ms, the
/// emulator delivers within milliseconds.
const SILENCE: Duration = Duration::from_secs(1);

const JOBS: &str = "cutout-jobs";
const WORKER: &str = "cutout-jobs-worker";
const RESULTS: &str = "cutout-results";
const DEAD: &str = "cutout-dead-letters";
/// A subscription to the dead letters, through which the tests look at them.
const MORGUE: &str = "cutout-dead-letters-all";

/// A queue under test, and what must stay alive for it.
enum Subject {
    Local {
        queue: LocalQueue,
        config: LocalIngressConfig,
        folder: tempfile::TempDir,
    },
    PubSub {
        client: PubSub,
        emulator: support::PubSub,
    },
}

impl Subject {
    async fn local() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::Local {
            queue: LocalQueue::open(folder.path().join("queue.db")).unwrap(),
            config: LocalIngressConfig {
                // Longer than any test, but for the one about long leases.
                lease: Duration::from_secs(600),
                min_backoff: Duration::from_millis(100),
                ..LocalIngressConfig::default()
            },
            folder,
        }
    }

    async fn local_with_short_leases() -> Self {
        let mut subject = Self::local().await;
        if let Self::Local { config, .. } = &mut subject {
            config.lease = Duration::from_millis(600);
        }
        subject
    }

    async fn pubsub() -> Self {
        Self::pubsub_with(Duration::from_secs(600)).await
    }

    async fn pubsub_with_short_leases() -> Self {
        // The shortest that Pub/Sub allows.
        Self::pubsub_with(Duration::from_secs(10)).await
    }

    async fn pubsub_with(lease: Duration) -> Self {
        let emulator = support::PubSub::start().await;
        for topic in [JOBS, RESULTS, DEAD] {
            emulator.create_topic(topic).await;
        }
        let options = SubscriptionOptions {
            ack_deadline_seconds: Some(i32::try_from(lease.as_secs()).unwrap()),
            dead_letter: Some((DEAD.to_owned(), 5)),
            ordering: true,
            ..SubscriptionOptions::default()
        };
        emulator.create_subscription(WORKER, JOBS, options).await;
        let all = SubscriptionOptions::default();
        emulator.create_subscription(MORGUE, DEAD, all).await;
        let config = PubSubConfig {
            lease_extension: lease,
            ..pubsub_config(&emulator.host())
        };
        Self::PubSub {
            client: PubSub::connect(config).await.unwrap(),
            emulator,
        }
    }

    fn consumer(&self) -> Box<dyn Ingress> {
        match self {
            Self::Local { queue, config, .. } => Box::new(queue.ingress(*config).unwrap()),
            Self::PubSub { client, .. } => Box::new(client.ingress().unwrap()),
        }
    }

    fn publisher(&self) -> &dyn JobPublisher {
        match self {
            Self::Local { queue, .. } => queue,
            Self::PubSub { client, .. } => client,
        }
    }

    fn egress(&self) -> &dyn Egress {
        match self {
            Self::Local { queue, .. } => queue,
            Self::PubSub { client, .. } => client,
        }
    }

    /// Publishes a message of only data.
    async fn publish(&self, data: &str) -> String {
        self.publisher().publish(text(data)).await.unwrap()
    }

    /// The oldest dead letter: data, attributes, ordering key.
    async fn dead_letter(&self) -> (Vec<u8>, BTreeMap<String, String>, String) {
        match self {
            Self::Local { queue, .. } => {
                let letter = queue.dead_letters(1).await.unwrap().remove(0);
                (letter.data.to_vec(), letter.attributes, letter.ordering_key)
            }
            Self::PubSub { emulator, .. } => {
                let letter = emulator.pull(MORGUE, 1, PATIENCE).await.remove(0);
                (letter.data, letter.attributes, letter.ordering_key)
            }
        }
    }
}

fn pubsub_config(host: &str) -> PubSubConfig {
    PubSubConfig {
        emulator_host: Some(host.to_owned()),
        project: Some("cutout-test".into()),
        subscription: Some(WORKER.into()),
        jobs_topic: Some(JOBS.into()),
        results_topic: Some(RESULTS.into()),
        dead_letter_topic: Some(DEAD.into()),
        max_outstanding_messages: 100,
        max_outstanding_bytes: ByteSize::mib(10),
        publish_timeout: Duration::from_secs(5),
        ..PubSubConfig::default()
    }
}

fn text(data: &str) -> OutgoingMessage {
    OutgoingMessage {
        data: data.to_owned().into(),
        ..OutgoingMessage::default()
    }
}

fn result(job_id: &str) -> JobResult {
    JobResult {
        version: VERSION,
        job_id: job_id.into(),
        status: Status::Done,
        source: Some("gs://perkie-uploads/rex.jpg#17".parse().unwrap()),
        outputs: Vec::new(),
        model: None,
        experiment: None,
        arm: None,
        quality: None,
        timings_ms: Timings::default(),
        attempt: 2,
        error: None,
        metadata: BTreeMap::from([("order".into(), "5512".into())]),
    }
}

/// The next delivery. A queue that does not answer for a moment is asked again, as the worker
/// does; a fatal error is none.
async fn delivered(consumer: &mut Box<dyn Ingress>) -> Delivery {
    loop {
        match consumer.next().await {
            Ok(delivery) => return delivery,
            Err(error) if error.class() == Class::Retryable => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(error) => panic!("{}", error.chain()),
        }
    }
}

async fn next(consumer: &mut Box<dyn Ingress>) -> Delivery {
    let delivery = tokio::time::timeout(PATIENCE, delivered(consumer)).await;
    delivery.expect("nothing was delivered")
}

async fn nothing_within(consumer: &mut Box<dyn Ingress>, time: Duration) {
    if let Ok(delivery) = tokio::time::timeout(time, delivered(consumer)).await {
        panic!("unexpected {:?}", delivery.message);
    }
}

/// Makes a test of each behaviour for each queue.
macro_rules! behaviours {
    ($group:ident($local:ident, $pubsub:ident): $($name:ident)+) => {
        mod $group {
            mod local {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    crate::behaviour::$name(crate::Subject::$local().await).await;
                })+
            }

            mod pubsub {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    crate::behaviour::$name(crate::Subject::$pubsub().await).await;
                })+
            }
        }
    };
}

behaviours! {
    delivery(local, pubsub):
    a_message_arrives_as_it_was_published
    an_acked_message_never_comes_again
    a_nacked_message_comes_again_and_the_attempt_is_counted
    an_unanswered_message_comes_again_when_it_is_dropped
    several_consumers_share_the_messages_without_duplicates
    a_cancelled_wait_loses_no_message
    messages_of_one_ordering_key_come_in_order
    results_reach_those_who_follow_from_then_on
    a_dead_letter_holds_the_original_and_the_reason
}

behaviours! {
    long_work(local_with_short_leases, pubsub_with_short_leases):
    a_message_in_work_for_longer_than_its_lease_is_not_delivered_again
}

// The emulator goes on delivering to a stream that its client has reset, about every second
// time, and such a delivery returns only when the lease of that stream ends. Therefore its
// leases are short here, and patience is longer than they are.
behaviours! {
    closing(local, pubsub_with_short_leases):
    closing_gives_back_what_is_held_and_keeps_what_was_acked
    an_answer_after_closing_is_an_error_and_does_no_harm
}

mod behaviour {
    use super::*;

    pub async fn a_message_arrives_as_it_was_published(subject: Subject) {
        let before = jiff::Timestamp::now();
        let message = OutgoingMessage {
            data: vec![0, 159, 146, 150].into(),
            attributes: BTreeMap::from([("order".into(), "N° 5512".into())]),
            ordering_key: "rex".into(),
        };
        let id = subject.publisher().publish(message.clone()).await.unwrap();
        let mut consumer = subject.consumer();
        let received = next(&mut consumer).await.message;
        let published = received.published.unwrap();
        assert!((published - before).abs().as_secs() < 30, "{published}");
        let expected = Message {
            id,
            data: message.data,
            attributes: message.attributes,
            ordering_key: message.ordering_key,
            published: Some(published),
            attempt: 1,
        };
        assert_eq!(received, expected);
    }

    pub async fn an_acked_message_never_comes_again(subject: Subject) {
        subject.publish("rex").await;
        let mut consumer = subject.consumer();
        next(&mut consumer).await.lease.ack().await.unwrap();
        nothing_within(&mut consumer, SILENCE).await;
        consumer.close().await.unwrap();
        nothing_within(&mut subject.consumer(), SILENCE).await;
    }

    pub async fn a_nacked_message_comes_again_and_the_attempt_is_counted(subject: Subject) {
        let id = subject.publish("rex").await;
        let mut consumer = subject.consumer();
        for attempt in 1..=3 {
            let delivery = next(&mut consumer).await;
            assert_eq!(delivery.message.id, id);
            assert_eq!(delivery.message.attempt, attempt);
            delivery.lease.nack().await.unwrap();
        }
    }

    pub async fn an_unanswered_message_comes_again_when_it_is_dropped(subject: Subject) {
        let id = subject.publish("rex").await;
        let mut consumer = subject.consumer();
        drop(next(&mut consumer).await);
        let again = next(&mut consumer).await;
        assert_eq!(again.message.id, id);
        assert_eq!(again.message.attempt, 2);
    }

    pub async fn several_consumers_share_the_messages_without_duplicates(subject: Subject) {
        const MESSAGES: usize = 60;
        let mut published = Vec::new();
        for number in 0..MESSAGES {
            published.push(subject.publish(&number.to_string()).await);
        }
        let (send, mut acked) = tokio::sync::mpsc::channel(MESSAGES);
        for _ in 0..4 {
            let (mut consumer, send) = (subject.consumer(), send.clone());
            tokio::spawn(async move {
                loop {
                    let delivery = consumer.next().await.unwrap();
                    delivery.lease.ack().await.unwrap();
                    send.send(delivery.message.id).await.unwrap();
                }
            });
        }
        let mut received = Vec::new();
        for _ in 0..MESSAGES {
            let id = tokio::time::timeout(PATIENCE, acked.recv()).await.unwrap();
            received.push(id.unwrap());
        }
        // A duplicate would have taken the place of another, or come now.
        assert!(tokio::time::timeout(SILENCE, acked.recv()).await.is_err());
        published.sort();
        received.sort();
        assert_eq!(received, published);
    }

    pub async fn a_cancelled_wait_loses_no_message(subject: Subject) {
        let mut consumer = subject.consumer();
        for number in 0..10 {
            subject.publish(&number.to_string()).await;
        }
        let mut received = Vec::new();
        let begun = Instant::now();
        while received.len() < 10 && begun.elapsed() < PATIENCE {
            let wait = Duration::from_micros(300);
            if let Ok(delivery) = tokio::time::timeout(wait, consumer.next()).await {
                let delivery = delivery.unwrap();
                assert_eq!(delivery.message.attempt, 1);
                delivery.lease.ack().await.unwrap();
                received.push(delivery.message.data);
            }
        }
        received.sort();
        assert_eq!(received, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
    }

    pub async fn messages_of_one_ordering_key_come_in_order(subject: Subject) {
        for number in 0..6 {
            let message = OutgoingMessage {
                ordering_key: ["rex", "tom"][number % 2].into(),
                ..text(&number.to_string())
            };
            subject.publisher().publish(message).await.unwrap();
        }
        let mut consumer = subject.consumer();
        let mut received = BTreeMap::<_, Vec<_>>::new();
        for _ in 0..6 {
            let delivery = next(&mut consumer).await;
            delivery.lease.ack().await.unwrap();
            let Message {
                ordering_key, data, ..
            } = delivery.message;
            received.entry(ordering_key).or_default().push(data);
        }
        assert_eq!(received["rex"], ["0", "2", "4"]);
        assert_eq!(received["tom"], ["1", "3", "5"]);
    }

    pub async fn results_reach_those_who_follow_from_then_on(subject: Subject) {
        let egress = subject.egress();
        egress
            .publish_result(&result("before"), None)
            .await
            .unwrap();
        let mut followed = subject.publisher().follow_results().await.unwrap();
        let mut expected = Vec::new();
        for number in 0..5 {
            let result = result(&format!("job-{number}"));
            egress.publish_result(&result, None).await.unwrap();
            expected.push(result);
        }
        let mut received = Vec::new();
        for _ in 0..5 {
            let result = tokio::time::timeout(PATIENCE, followed.next()).await;
            received.push(result.expect("no result").unwrap());
        }
        received.sort_by(|a, b| a.job_id.cmp(&b.job_id));
        assert_eq!(received, expected);
        followed.close().await.unwrap();
    }

    pub async fn a_dead_letter_holds_the_original_and_the_reason(subject: Subject) {
        let original = Message {
            id: "17".into(),
            data: "not a job".into(),
            attributes: BTreeMap::from([("order".into(), "5512".into())]),
            ordering_key: "rex".into(),
            published: None,
            attempt: 3,
        };
        let error = Error::new(Code::InvalidJob, "not JSON".repeat(200));
        subject
            .egress()
            .dead_letter(&original, &error)
            .await
            .unwrap();
        let (data, attributes, ordering_key) = subject.dead_letter().await;
        assert_eq!(data, original.data);
        assert_eq!(ordering_key, "rex");
        let mut message = "not JSON".repeat(200);
        message.truncate(1024);
        let expected = [
            ("order", "5512"),
            ("cutout-error-code", "invalid_job"),
            ("cutout-error-class", "permanent"),
            ("cutout-error-message", &message),
            ("cutout-message-id", "17"),
            ("cutout-attempt", "3"),
        ];
        assert_eq!(
            attributes,
            expected.map(|(k, v)| (k.into(), v.into())).into()
        );
    }

    pub async fn closing_gives_back_what_is_held_and_keeps_what_was_acked(subject: Subject) {
        for data in ["a", "b", "c", "d"] {
            subject.publish(data).await;
        }
        let mut consumer = subject.consumer();
        next(&mut consumer).await.lease.ack().await.unwrap();
        let held = [next(&mut consumer).await, next(&mut consumer).await];
        consumer.close().await.unwrap();

        // Local leases are 600 s long, so what comes now was given back.
        let mut other = subject.consumer();
        let mut received = Vec::new();
        for _ in 0..3 {
            let delivery = next(&mut other).await;
            received.push(delivery.message.id);
            delivery.lease.ack().await.unwrap();
        }
        for delivery in &held {
            assert!(received.contains(&delivery.message.id), "{received:?}");
        }
        nothing_within(&mut other, SILENCE).await;
    }

    pub async fn an_answer_after_closing_is_an_error_and_does_no_harm(subject: Subject) {
        subject.publish("rex").await;
        subject.publish("tom").await;
        let mut consumer = subject.consumer();
        let [first, second] = [next(&mut consumer).await, next(&mut consumer).await];
        consumer.close().await.unwrap();
        for error in [first.lease.ack().await, second.lease.nack().await] {
            let error = error.unwrap_err();
            assert_eq!(error.code(), Code::QueueUnavailable);
            assert_eq!(error.class(), Class::Retryable);
        }
        let mut other = subject.consumer();
        for _ in 0..2 {
            next(&mut other).await.lease.ack().await.unwrap();
        }
        nothing_within(&mut other, SILENCE).await;
    }

    pub async fn a_message_in_work_for_longer_than_its_lease_is_not_delivered_again(
        subject: Subject,
    ) {
        let in_work = match &subject {
            Subject::Local { config, .. } => config.lease * 5,
            Subject::PubSub { .. } => Duration::from_secs(25),
        };
        subject.publish("rex").await;
        let mut consumer = subject.consumer();
        let delivery = next(&mut consumer).await;
        nothing_within(&mut subject.consumer(), in_work).await;
        delivery.lease.ack().await.unwrap();
        nothing_within(&mut consumer, SILENCE).await;
    }
}

#[path = "queue_conformance/only_local.rs"]
mod only_local;
#[path = "queue_conformance/only_pubsub.rs"]
mod only_pubsub;
