//! How far a photo is, told to whoever listens to its session.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, broadcast};
use utoipa::ToSchema;

use super::Api;
use super::context::is_id;
use super::refusal::{RETRY_AFTER, Refusal};
use crate::telemetry::labels::Stage;

/// Events that a slow listener may be behind; older ones are skipped, as the newest counts.
const BACKLOG: usize = 32;

/// A listener that says nothing and is told nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(600);

/// No photo takes this long; who listens on comes again.
const LONGEST: Duration = Duration::from_secs(3600);

/// Bytes that a listener may leave unread.
const MAX_UNREAD: usize = 64 << 10;

/// Largest message of a listener: a ping.
const MAX_MESSAGE: usize = 4096;

/// One step.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Event {
    /// `connected`, `upload`, `decode`, `infer`, `compose`, `encode`, `effects`, `done` or `error`.
    #[schema(value_type = String, example = "infer")]
    stage: &'static str,
    /// Percent.
    progress: u8,
    /// For people.
    message: String,
    /// When, RFC 3339.
    #[schema(value_type = String)]
    timestamp: Timestamp,
}

impl Event {
    fn new(stage: &'static str, progress: u8, message: impl Into<String>) -> Self {
        Self {
            stage,
            progress,
            message: message.into(),
            timestamp: Timestamp::now(),
        }
    }
}

/// Sessions that somebody listens to or works for, by id.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<String, Weak<Session>>>);

impl Sessions {
    /// The session of an id; it lives as long as somebody holds it.
    pub fn join(&self, id: &str) -> Arc<Session> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = sessions.get(id).and_then(Weak::upgrade) {
            return session;
        }
        sessions.retain(|_, session| session.strong_count() > 0);
        let session = Arc::new(Session {
            last: Mutex::new(None),
            events: broadcast::channel(BACKLOG).0,
        });
        sessions.insert(id.to_owned(), Arc::downgrade(&session));
        session
    }
}

/// What one client's photos are told under.
pub struct Session {
    last: Mutex<Option<Event>>,
    events: broadcast::Sender<Event>,
}

impl Session {
    fn tell(&self, event: Event) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(event.clone());
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    /// The photo is being received.
    pub fn receiving(&self) {
        self.tell(Event::new("upload", 5, "receiving the photo"));
    }

    /// The pipeline's stage has begun.
    pub fn stage(&self, stage: Stage) {
        let (progress, message) = match stage {
            Stage::Decode => (15, "decoding the photo"),
            Stage::Infer => (30, "finding the subject"),
            Stage::Compose => (65, "cutting it out"),
            Stage::Encode => (70, "writing the picture"),
            _ => return,
        };
        self.tell(Event::new(stage.as_str(), progress, message));
    }

    /// The `index`th of `count` effects has begun.
    pub fn effect(&self, name: &str, index: usize, count: usize) {
        let progress = 75 + 20 * index / count.max(1);
        let progress = u8::try_from(progress).unwrap_or(95);
        self.tell(Event::new("effects", progress, format!("effect {name}")));
    }

    /// The answer is on its way.
    pub fn done(&self) {
        self.tell(Event::new("done", 100, "done"));
    }

    /// There will be none.
    pub fn failed(&self, why: &str) {
        self.tell(Event::new("error", 100, why));
    }

    fn listen(&self) -> (Option<Event>, broadcast::Receiver<Event>) {
        // Listening begins first, so that nothing falls between; the last may then come twice.
        let events = self.events.subscribe();
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        (last.clone(), events)
    }
}

/// What a plain GET is told.
#[derive(Debug, Serialize, ToSchema)]
pub struct Explanation {
    /// What this address is for.
    message: &'static str,
    /// The session that was asked for.
    session_id: String,
    /// What the events look like.
    example: Event,
}

/// Progress of a session over WebSocket
///
/// Events are JSON texts. `{"type":"ping"}` is answered `{"type":"pong"}`. Without an upgrade the
/// answer explains.
#[utoipa::path(
    get,
    path = "/api/v2/ws/enhanced-progress/{session_id}",
    tag = "progress",
    params(("session_id" = String, Path, description = "The `session_id` of the request to follow")),
    responses(
        (status = 101, description = "A WebSocket of events"),
        (status = 200, description = "An explanation", body = Explanation),
        (status = 400, description = "Not a session id", body = Refusal),
        (status = 503, description = "Too many listeners", body = Refusal),
    )
)]
pub async fn api_progress(
    state: State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    progress(state, id, upgrade).await
}

/// Progress of a session over WebSocket, under its former name
#[utoipa::path(
    get,
    path = "/ws/enhanced-progress/{session_id}",
    tag = "progress",
    params(("session_id" = String, Path, description = "The `session_id` of the request to follow")),
    responses((status = 101, description = "A WebSocket of events"), (status = 200, body = Explanation))
)]
pub async fn enhanced_progress(
    state: State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    progress(state, id, upgrade).await
}

/// Progress of a session over WebSocket, under its first name
#[utoipa::path(
    get,
    path = "/ws/progress/{session_id}",
    tag = "progress",
    params(("session_id" = String, Path, description = "The `session_id` of the request to follow")),
    responses((status = 101, description = "A WebSocket of events"), (status = 200, body = Explanation))
)]
pub async fn first_progress(
    state: State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    progress(state, id, upgrade).await
}

async fn progress(
    State(api): State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let id = session_id(&id)?.to_owned();
    let Ok(upgrade) = upgrade else {
        return Ok(Json(Explanation {
            message: "open a WebSocket here, then send a photo with this session_id: each step of it is told as such an event",
            session_id: id,
            example: Event::new("infer", 30, "finding the subject"),
        })
        .into_response());
    };
    let place = Arc::clone(&api.listeners)
        .try_acquire_owned()
        .map_err(|_| {
            Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too_many_listeners",
                "too many clients listen; the photo is worked on without, too",
            )
            .retry_after(RETRY_AFTER)
        })?;
    let session = api.sessions.join(&id);
    let stop = api.give_up.clone();
    Ok(upgrade
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        // Else the answers to a listener's pings pile up for as long as it does not read them.
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_UNREAD)
        .on_upgrade(move |socket| async move {
            tokio::select! {
                () = follow(socket, &session, place) => {}
                () = tokio::time::sleep(LONGEST) => {}
                () = stop.cancelled() => {}
            }
        }))
}

/// A session id as clients may choose it.
pub fn session_id(text: &str) -> Result<&str, Refusal> {
    if is_id(text) {
        return Ok(text);
    }
    Err(Refusal::new(
        StatusCode::BAD_REQUEST,
        "invalid_session_id",
        "a session id is 1 to 64 letters, digits, dots, dashes or underscores",
    ))
}

async fn follow(mut socket: WebSocket, session: &Session, _place: OwnedSemaphorePermit) {
    let (last, mut events) = session.listen();
    let first = last.unwrap_or_else(|| Event::new("connected", 0, "waiting for the photo"));
    if send(&mut socket, &first).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) => {
                    if send(&mut socket, &event).await.is_err() {
                        return;
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            },
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) if is_ping(&text) => {
                    let pong = Message::text(r#"{"type":"pong"}"#);
                    if sent(&mut socket, pong).await.is_err() {
                        return;
                    }
                }
                // Pings of the protocol are answered by the library.
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
            () = tokio::time::sleep(SILENCE) => return,
        }
    }
}

fn is_ping(text: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(text).is_ok_and(|value| value["type"] == "ping")
}

async fn send(socket: &mut WebSocket, event: &Event) -> Result<(), ()> {
    let text = serde_json::to_string(event).map_err(drop)?;
    sent(socket, Message::text(text)).await
}

/// A listener that does not read is not waited for.
async fn sent(socket: &mut WebSocket, message: Message) -> Result<(), ()> {
    match tokio::time::timeout(Duration::from_secs(10), socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_comes_late_is_told_the_last_step_and_then_the_next() {
        let sessions = Sessions::default();
        let session = sessions.join("rex");
        session.receiving();
        session.stage(Stage::Infer);
        let (last, mut events) = sessions.join("rex").listen();
        assert_eq!(last.unwrap().stage, "infer");
        session.effect("popart", 1, 2);
        let event = events.recv().await.unwrap();
        assert_eq!((event.stage, event.progress), ("effects", 85));
        assert!(sessions.join("max").listen().0.is_none());
    }

    #[test]
    fn steps_never_go_back() {
        let sessions = Sessions::default();
        let session = sessions.join("rex");
        let (_, mut events) = session.listen();
        session.receiving();
        for stage in [Stage::Decode, Stage::Infer, Stage::Compose, Stage::Encode] {
            session.stage(stage);
        }
        for i in 0..5 {
            session.effect("popart", i, 5);
        }
        session.done();
        let mut last = 0;
        while let Ok(event) = events.try_recv() {
            assert!(event.progress >= last, "{event:?}");
            last = event.progress;
        }
        assert_eq!(last, 100);
    }

    #[test]
    fn sessions_that_nobody_holds_are_forgotten() {
        let sessions = Sessions::default();
        for i in 0..100 {
            drop(sessions.join(&format!("session-{i}")));
        }
        assert!(sessions.0.lock().unwrap().len() <= 1);
    }

    #[test]
    fn an_id_that_could_break_a_header_or_a_log_is_refused() {
        for wrong in ["", "a b", "a\r\nx: y", "../a", &"x".repeat(65)] {
            assert!(session_id(wrong).is_err(), "{wrong:?}");
        }
        assert!(session_id("5f0c2a9e-session_1.2").is_ok());
    }
}
