//! Who may push: the OIDC token that Pub/Sub signs each push with.
//!
//! Google's verifier (google-cloud-auth 1.18) fetches the issuer's keys, keeps each for an hour,
//! asks again at once for a key that it does not know, and checks the signature. It leaves gaps,
//! each closed here and held by tests:
//! - `iss` and `aud` are compared only where they are there, and may be lists; `nbf` and `iat`
//!   are not looked at. So all claims are checked here.
//! - Asked for an address, it panics at a token without `email_verified`. So it is not asked.
//! - Any algorithm whose key the issuer lists is taken. Google signs with RS256.
//! - While it fetches keys, every other question fails at once, and a fetch has no time limit. So
//!   questions wait for their turn, with a limit, and tokens of keys that have proved themselves
//!   do not wait behind those of strangers.

use std::collections::HashSet;
use std::error::Error as StdError;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::http::HeaderValue;
use google_cloud_auth::credentials::idtoken::verifier;
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use super::claims::{Refused, TokenRules, Unproved, refused};
use crate::telemetry::labels::PushRefusal;

/// For one download of the keys, which are 2 kB. Pub/Sub pushes again.
const KEYS_WITHIN: Duration = Duration::from_secs(5);

/// After a look for keys in vain, nobody else's unknown key makes us look again for this long:
/// otherwise a stranger would decide how often the issuer is asked.
const PAUSE: Duration = Duration::from_secs(1);

/// The check of every push's token.
pub(super) struct Gate {
    rules: TokenRules,
    /// For tokens whose key has proved itself.
    known: Asker,
    /// For all others.
    strangers: Asker,
    /// Keys that valid tokens were signed with. The issuer lists them, so they are few.
    proved: RwLock<HashSet<String>>,
}

impl Gate {
    pub(super) fn new(rules: TokenRules) -> Self {
        Self {
            known: Asker::new(&rules),
            strangers: Asker::new(&rules),
            proved: RwLock::default(),
            rules,
        }
    }

    /// Lets a request with this `Authorization` in, or says why not.
    pub(super) async fn check(&self, authorization: Option<&HeaderValue>) -> Result<(), Refused> {
        let token = authorization
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or_else(|| refused(PushRefusal::Missing, "the request has no bearer token"))?;
        let unproved = Unproved::read(token)?;
        // What cannot be valid, whoever signed it, makes nobody look for keys.
        self.rules.check(&unproved.claims, now())?;
        // Not to be believed: whoever reaches the port without Cloud Run could write it too.
        if unproved.signature_removed {
            return Err(refused(
                PushRefusal::SignatureRemoved,
                "Cloud Run took the token's signature away, so that nobody can check it again: deploy the service with --no-invoker-iam-check and --ingress=internal",
            ));
        }
        let key = unproved.key;
        let known = self.proved().contains(&key);
        let asker = if known { &self.known } else { &self.strangers };
        let claims = match asker.verify(token).await {
            Ok(claims) => claims,
            Err(unverified) => {
                if known && unverified.reason == PushRefusal::Signature && unverified.unlisted {
                    // Withdrawn by the issuer: its tokens are strangers' again.
                    self.proved_mut().remove(&key);
                }
                return Err(refused(unverified.reason, unverified.detail));
            }
        };
        self.rules.check(&claims, now())?;
        if !known {
            self.proved_mut().insert(key);
        }
        Ok(())
    }

    fn proved(&self) -> std::sync::RwLockReadGuard<'_, HashSet<String>> {
        self.proved.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn proved_mut(&self) -> std::sync::RwLockWriteGuard<'_, HashSet<String>> {
        self.proved.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of Google's verifiers, asked one question at a time.
struct Asker {
    verifier: verifier::Verifier,
    /// Held for a question; when keys were last looked for in vain.
    turn: Mutex<Option<Instant>>,
}

/// A token whose signature is not proved.
struct Unverified {
    reason: PushRefusal,
    detail: String,
    /// The issuer does not list its key.
    unlisted: bool,
}

impl Asker {
    fn new(rules: &TokenRules) -> Self {
        let verifier =
            verifier::Builder::new([rules.audience.clone()]).with_clock_skew(rules.clock_skew);
        let verifier = match &rules.keys_url {
            Some(url) => verifier.with_jwks_url(url),
            None => verifier,
        };
        Self {
            verifier: verifier.build(),
            turn: Mutex::default(),
        }
    }

    async fn verify(&self, token: &str) -> Result<Map<String, Value>, Unverified> {
        let unavailable = |detail: String| Unverified {
            reason: PushRefusal::KeysUnavailable,
            detail,
            unlisted: false,
        };
        let mut in_vain = self.turn.lock().await;
        if in_vain.is_some_and(|at| at.elapsed() < PAUSE) {
            let what = "the issuer's keys were looked for in vain a moment ago";
            return Err(unavailable(what.into()));
        }
        let answer = tokio::time::timeout(KEYS_WITHIN, self.verifier.verify(token)).await;
        let error = match answer {
            Ok(Ok(claims)) => return Ok(claims),
            Ok(Err(error)) => error,
            Err(_elapsed) => {
                *in_vain = Some(Instant::now());
                let what = format!("the issuer's keys did not come within {KEYS_WITHIN:?}");
                return Err(unavailable(what));
            }
        };
        let detail = chain(&error);
        if !error.is_load_cert() {
            return Err(Unverified {
                reason: PushRefusal::Signature,
                detail,
                unlisted: false,
            });
        }
        *in_vain = Some(Instant::now());
        // The verifier has no other word for it. If that one changes, such tokens are still
        // refused, and told to come again.
        if detail.contains("did not contain a matching") {
            return Err(Unverified {
                reason: PushRefusal::Signature,
                detail,
                unlisted: true,
            });
        }
        Err(unavailable(detail))
    }
}

fn chain(error: &dyn StdError) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !line.contains(&said) {
            line.push_str(": ");
            line.push_str(&said);
        }
        cause = error.source();
    }
    line
}

fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::claims::MAX_TOKEN_BYTES;
    use super::super::claims::tests::{rules, with};
    use super::*;
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use serde_json::json;

    #[tokio::test]
    async fn what_is_no_token_makes_nobody_look_for_keys() {
        // A look would fail otherwise, and the reason would be another.
        let gate = Gate::new(TokenRules {
            keys_url: Some("http://127.0.0.1:1/".into()),
            ..rules()
        });
        let part = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        let header = |alg: &str| part(&json!({ "alg": alg, "kid": "k", "typ": "JWT" }));
        let claims = part(&Value::Object(with(
            &json!({ "exp": now() + 60, "iat": null }),
        )));
        let stale = part(&Value::Object(with(&json!({ "exp": 5 }))));
        let without_key = part(&json!({ "alg": "RS256" }));
        use PushRefusal::{Expired, KeysUnavailable, Malformed, Missing, SignatureRemoved};
        for (authorization, expected) in [
            (String::new(), Missing),
            ("Bearer".into(), Missing),
            ("Basic dXNlcjpwYXNz".into(), Missing),
            ("Bearer garbage".into(), Malformed),
            ("Bearer a.b.c".into(), Malformed),
            (
                format!("Bearer {}", "x".repeat(MAX_TOKEN_BYTES + 1)),
                Malformed,
            ),
            (format!("Bearer {}.{claims}.", header("none")), Malformed),
            (
                format!("Bearer {}.{claims}.AAAA", header("HS256")),
                Malformed,
            ),
            (format!("Bearer {without_key}.{claims}.AAAA"), Malformed),
            (format!("Bearer {}.{stale}.AAAA", header("RS256")), Expired),
            (
                format!(
                    "Bearer {}.{claims}.SIGNATURE_REMOVED_BY_GOOGLE",
                    header("RS256")
                ),
                SignatureRemoved,
            ),
            (
                format!("bearer {}.{claims}.AAAA", header("RS256")),
                KeysUnavailable,
            ),
        ] {
            let value = HeaderValue::from_str(&authorization).unwrap();
            let refused = gate.check(Some(&value)).await.unwrap_err();
            assert_eq!(refused.reason, expected, "{authorization}: {refused}");
        }
        assert_eq!(gate.check(None).await.unwrap_err().reason, Missing);
    }
}
