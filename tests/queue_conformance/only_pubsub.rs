//! What only Pub/Sub can show: missing topics, lost connections, exactly-once delivery.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;

async fn emulator(options: SubscriptionOptions) -> support::PubSub {
    let emulator = support::PubSub::start().await;
    for topic in [JOBS, RESULTS, DEAD] {
        emulator.create_topic(topic).await;
    }
    emulator.create_subscription(WORKER, JOBS, options).await;
    emulator
}

async fn connect(config: PubSubConfig) -> PubSub {
    PubSub::connect(config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_reports_everything_that_is_missing_at_once() {
    let emulator = support::PubSub::start().await;
    emulator.create_topic(JOBS).await;
    let client = connect(pubsub_config(&emulator.host())).await;
    let error = client.check().await.unwrap_err();
    assert_eq!(error.code(), Code::ConfigInvalid);
    for missing in [WORKER, RESULTS, DEAD] {
        assert!(error.message().contains(&format!("/{missing} ")), "{error}");
    }
    assert!(!error.message().contains("topics/cutout-jobs "), "{error}");

    emulator.create_topic(RESULTS).await;
    emulator.create_topic(DEAD).await;
    emulator
        .create_subscription(WORKER, JOBS, SubscriptionOptions::default())
        .await;
    client.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_is_unavailable_within_seconds() {
    let config = pubsub_config("127.0.0.1:1");
    let client = connect(config).await;
    let begun = Instant::now();
    let (check, publish) = tokio::join!(client.check(), client.publish(text("rex")));
    for error in [check.unwrap_err(), publish.unwrap_err()] {
        assert_eq!(error.code(), Code::QueueUnavailable, "{}", error.chain());
    }
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulling_from_what_does_not_exist_ends_with_a_lost_queue() {
    let emulator = support::PubSub::start().await;
    let client = connect(pubsub_config(&emulator.host())).await;
    let mut consumer = client.ingress().unwrap();
    let error = tokio::time::timeout(PATIENCE, consumer.next())
        .await
        .unwrap();
    let error = error.err().unwrap();
    assert_eq!(error.code(), Code::QueueLost, "{}", error.chain());
    assert_eq!(error.class(), Class::Fatal);
    assert!(error.message().contains(WORKER), "{error}");
    // It stays lost, and closing it is no trouble.
    assert_eq!(consumer.next().await.err().unwrap().code(), Code::QueueLost);
    Box::new(consumer).close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_is_deleted_while_it_is_pulled_from_is_a_lost_queue() {
    let emulator = emulator(SubscriptionOptions::default()).await;
    let client = connect(pubsub_config(&emulator.host())).await;
    let mut consumer: Box<dyn Ingress> = Box::new(client.ingress().unwrap());
    client.publish(text("rex")).await.unwrap();
    next(&mut consumer).await.lease.ack().await.unwrap();
    let delete = emulator.subscriptions().delete_subscription();
    delete
        .set_subscription(emulator.subscription_path(WORKER))
        .send()
        .await
        .unwrap();
    let error = tokio::time::timeout(PATIENCE, consumer.next())
        .await
        .unwrap();
    assert_eq!(error.err().unwrap().code(), Code::QueueLost);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_gone_is_a_lost_queue_to_its_publisher() {
    let emulator = support::PubSub::start().await;
    let client = connect(pubsub_config(&emulator.host())).await;
    for error in [
        client.publish(text("rex")).await.unwrap_err(),
        client
            .publish_result(&result("rex"), None)
            .await
            .unwrap_err(),
        // An ordering key that failed is not paused for ever.
        client
            .publish_result(&result("rex"), None)
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.code(), Code::QueueLost, "{}", error.chain());
    }
    emulator.create_topic(RESULTS).await;
    client.publish_result(&result("rex"), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exactly_once_ack_is_confirmed() {
    let emulator = emulator(SubscriptionOptions {
        exactly_once: true,
        ..SubscriptionOptions::default()
    })
    .await;
    let client = connect(pubsub_config(&emulator.host())).await;
    let mut consumer: Box<dyn Ingress> = Box::new(client.ingress().unwrap());
    client.publish(text("rex")).await.unwrap();
    next(&mut consumer).await.lease.nack().await.unwrap();
    next(&mut consumer).await.lease.ack().await.unwrap();
    nothing_within(&mut consumer, SILENCE).await;
    consumer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_results_leaves_no_task_behind() {
    let emulator = emulator(SubscriptionOptions::default()).await;
    let client = connect(pubsub_config(&emulator.host())).await;
    client.publish_result(&result("first"), None).await.unwrap();
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    for number in 0..100 {
        client
            .publish_result(&result(&format!("job-{number}")), None)
            .await
            .unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(tasks() <= before + 5, "{before} tasks became {}", tasks());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_followers_subscription_is_gone_when_it_is_closed() {
    let emulator = emulator(SubscriptionOptions::default()).await;
    let client = connect(pubsub_config(&emulator.host())).await;
    let list = async || {
        let list = emulator.topics().list_topic_subscriptions();
        let list = list.set_topic(emulator.topic_path(RESULTS)).send().await;
        list.unwrap().subscriptions
    };
    let followed = client.follow_results().await.unwrap();
    assert_eq!(list().await.len(), 1);
    followed.close().await.unwrap();
    assert_eq!(list().await, Vec::<String>::new());
}

/// Stands between client and emulator, and can be cut.
struct Wire {
    port: u16,
    connections: Arc<tokio::sync::Mutex<JoinSet<()>>>,
    listening: tokio::task::JoinHandle<()>,
    to: String,
}

impl Wire {
    async fn new(to: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::default();
        let listening = Self::listen(listener, Arc::clone(&connections), to.clone());
        Self {
            port,
            connections,
            listening,
            to,
        }
    }

    fn listen(
        listener: TcpListener,
        connections: Arc<tokio::sync::Mutex<JoinSet<()>>>,
        to: String,
    ) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut far = TcpStream::connect(&to).await.unwrap();
                connections.lock().await.spawn(async move {
                    drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
                });
            }
        })
    }

    async fn cut(&mut self) {
        self.listening.abort();
        drop((&mut self.listening).await);
        self.connections.lock().await.shutdown().await;
    }

    async fn mend(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.listening = Self::listen(listener, Arc::clone(&self.connections), self.to.clone());
    }
}

/// Processor time that this process has used, in clock ticks of 10 ms.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulling_and_publishing_outlive_a_lost_connection() {
    let emulator = emulator(SubscriptionOptions::default()).await;
    let mut wire = Wire::new(emulator.host()).await;
    let client = connect(PubSubConfig {
        publish_timeout: Duration::from_secs(30),
        // The emulator may deliver to the lost connection, and then again after this.
        lease_extension: Duration::from_secs(10),
        ..pubsub_config(&format!("127.0.0.1:{}", wire.port))
    })
    .await;
    let mut consumer: Box<dyn Ingress> = Box::new(client.ingress().unwrap());
    client.publish(text("before")).await.unwrap();
    next(&mut consumer).await.lease.ack().await.unwrap();

    wire.cut().await;
    let (publisher, used) = (client.clone(), ticks());
    let published = tokio::spawn(async move { publisher.publish(text("during")).await });
    nothing_within(&mut consumer, Duration::from_secs(3)).await;
    let used = ticks() - used;
    assert!(
        used < 100,
        "{used} ticks of processor time while waiting for 3 s"
    );

    wire.mend().await;
    published.await.unwrap().unwrap();
    loop {
        let delivery = next(&mut consumer).await;
        let data = delivery.message.data.clone();
        delivery.lease.ack().await.unwrap();
        if data == "during" {
            break;
        }
        // Acks are sent in batches: the cut may have come before this one's.
        assert_eq!(data, "before");
    }
    consumer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_and_a_publisher_on_dead_connections_get_new_ones() {
    let emulator = emulator(SubscriptionOptions::default()).await;
    let link = support::Link::to(emulator.host()).await;
    let client = connect(PubSubConfig {
        publish_timeout: Duration::from_secs(1),
        lease_extension: Duration::from_secs(10),
        idle_renewal: Duration::from_secs(8),
        ..pubsub_config(&link.host())
    })
    .await;
    let mut consumer: Box<dyn Ingress> = Box::new(client.ingress().unwrap());
    client.publish(text("before")).await.unwrap();
    next(&mut consumer).await.lease.ack().await.unwrap();

    link.strand();
    let error = client.publish(text("lost")).await.unwrap_err();
    assert_eq!(error.code(), Code::QueueUnavailable);
    // The emulator shares them out between the dead stream and the new one.
    for i in 0..10 {
        client.publish(text(&format!("after {i}"))).await.unwrap();
    }
    loop {
        let delivery = next(&mut consumer).await;
        let after = delivery.message.data.starts_with(b"after");
        delivery.lease.ack().await.unwrap();
        if after {
            break;
        }
    }
    // What was under way on the dead stream never ends, and is waited for in vain.
    drop(consumer.close().await);
}
