//! An issuer of OIDC tokens: keys that sign, and a server that lists those to be trusted.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// A key that signs tokens, as Google's do: RS256.
pub struct Key {
    id: String,
    pair: KeyPair,
}

fn part(json: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(json.to_string())
}

impl Key {
    /// A new key of this name.
    pub fn new(id: &str) -> Self {
        let id = id.to_owned();
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        Self { id, pair }
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.id, claims)
    }

    /// A token that says to be signed with the key of another name.
    pub fn sign_as(&self, id: &str, claims: &Value) -> String {
        let header = json!({ "alg": "RS256", "kid": id, "typ": "JWT" });
        let signed = format!("{}.{}", part(&header), part(claims));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .unwrap();
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    /// A token "signed" with the public key as if it were a shared secret: what a verifier that
    /// goes by the token's own algorithm falls for.
    pub fn sign_with_public_key(&self, claims: &Value) -> String {
        let header = json!({ "alg": "HS256", "kid": self.id, "typ": "JWT" });
        let signed = format!("{}.{}", part(&header), part(claims));
        let public: PublicKeyX509Der<'_> = self.pair.public_key().as_der().unwrap();
        let secret = hmac::Key::new(hmac::HMAC_SHA256, public.as_ref());
        let tag = hmac::sign(&secret, signed.as_bytes());
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag))
    }

    /// A token that says to need no signature.
    pub fn unsigned(&self, claims: &Value) -> String {
        let header = json!({ "alg": "none", "kid": self.id, "typ": "JWT" });
        format!("{}.{}.", part(&header), part(claims))
    }

    fn listed(&self) -> Value {
        let public = self.pair.public_key();
        let number = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        json!({
            "kid": self.id, "kty": "RSA", "alg": "RS256", "use": "sig",
            "n": number(public.modulus().big_endian_without_leading_zero()),
            "e": number(public.exponent().big_endian_without_leading_zero()),
        })
    }
}

#[derive(Default)]
struct Shared {
    /// `None` while it is broken.
    keys: Mutex<Option<Vec<Value>>>,
    asked: AtomicUsize,
}

/// A running server; it ends when this is dropped.
pub struct Issuer {
    url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Issuer {
    /// Starts a server that lists these keys.
    pub async fn start(keys: &[&Key]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/certs", listener.local_addr().unwrap());
        let shared = Arc::<Shared>::default();
        let app = Router::new()
            .route("/certs", get(certs))
            .with_state(shared.clone());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let issuer = Self { url, shared, task };
        issuer.list(keys);
        issuer
    }

    /// Where the keys are.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on these are the keys.
    pub fn list(&self, keys: &[&Key]) {
        let listed = keys.iter().map(|key| key.listed()).collect();
        *self.shared.keys.lock().unwrap() = Some(listed);
    }

    /// From now on every answer is 500.
    pub fn break_down(&self) {
        *self.shared.keys.lock().unwrap() = None;
    }

    /// How often the keys were asked for.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn certs(State(shared): State<Arc<Shared>>) -> Response {
    shared.asked.fetch_add(1, Ordering::Relaxed);
    match &*shared.keys.lock().unwrap() {
        Some(keys) => Json(json!({ "keys": keys })).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
