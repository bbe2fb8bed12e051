//! What a token must say, whoever signed it.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::telemetry::labels::PushRefusal;

/// Google's, in both forms that it has used.
const ISSUERS: [&str; 2] = ["https://accounts.google.com", "accounts.google.com"];

/// Longer than any token of Google's (some 900 bytes), shorter than what costs time to decode.
pub(super) const MAX_TOKEN_BYTES: usize = 8 << 10;

/// What Cloud Run puts in the place of a signature that it has checked itself.
/// <https://cloud.google.com/run/docs/troubleshooting#signature-removed>
const SIGNATURE_REMOVED: &str = "SIGNATURE_REMOVED_BY_GOOGLE";

/// What a token must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRules {
    /// The audience that the subscription was created with.
    pub audience: String,
    /// The address of the service account that the subscription pushes as.
    pub service_account: String,
    /// Where the issuer's keys are; `None` for Google's.
    pub keys_url: Option<String>,
    /// How far the issuer's clock and ours may be apart.
    pub clock_skew: Duration,
}

/// A push that is not let in: the reason to count, and what to log.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub(super) struct Refused {
    pub reason: PushRefusal,
    pub detail: String,
}

pub(super) fn refused(reason: PushRefusal, detail: impl Into<String>) -> Refused {
    let detail = detail.into();
    Refused { reason, detail }
}

impl TokenRules {
    /// The claims of a token, `now` being seconds since 1970.
    pub(super) fn check(&self, claims: &Map<String, Value>, now: u64) -> Result<(), Refused> {
        let text = |name| claims.get(name).and_then(Value::as_str);
        let shown = |name| claims.get(name).map_or("none".into(), Value::to_string);
        if !text("iss").is_some_and(|issuer| ISSUERS.contains(&issuer)) {
            let what = format!("the token's issuer is {}", shown("iss"));
            return Err(refused(PushRefusal::Issuer, what));
        }
        if text("aud") != Some(self.audience.as_str()) {
            let what = format!("the token's audience is {}", shown("aud"));
            return Err(refused(PushRefusal::Audience, what));
        }
        if text("email") != Some(self.service_account.as_str()) {
            let what = format!("the token's email is {}", shown("email"));
            return Err(refused(PushRefusal::Email, what));
        }
        if claims.get("email_verified") != Some(&Value::Bool(true)) {
            let what = "the token's email is not verified";
            return Err(refused(PushRefusal::Email, what));
        }
        let skew = self.clock_skew.as_secs();
        let seconds = |name| match claims.get(name) {
            None => Ok(None),
            Some(time) => time.as_u64().map(Some).ok_or_else(|| {
                let what = format!("the token's {name} is {time}");
                refused(PushRefusal::Malformed, what)
            }),
        };
        let expires = seconds("exp")?
            .ok_or_else(|| refused(PushRefusal::Malformed, "the token never expires"))?;
        if expires.saturating_add(skew) < now {
            let what = format!("the token expired {} s ago", now - expires);
            return Err(refused(PushRefusal::Expired, what));
        }
        for name in ["nbf", "iat"] {
            if let Some(from) = seconds(name)?
                && from > now.saturating_add(skew)
            {
                let what = format!("the token's time begins in {} s", from - now);
                return Err(refused(PushRefusal::Early, what));
            }
        }
        Ok(())
    }
}

/// What stands in a token, before anybody knows who wrote it.
pub(super) struct Unproved {
    /// The name of the key that it claims to be signed with.
    pub key: String,
    pub claims: Map<String, Value>,
    /// Cloud Run has checked it, and taken its signature away.
    pub signature_removed: bool,
}

impl Unproved {
    pub(super) fn read(token: &str) -> Result<Self, Refused> {
        #[derive(Deserialize)]
        struct Header {
            alg: String,
            kid: Option<String>,
        }
        let malformed = |what: &str| refused(PushRefusal::Malformed, what);
        if token.len() > MAX_TOKEN_BYTES {
            return Err(malformed("the token is too long"));
        }
        let parts: Vec<_> = token.split('.').collect();
        let [header, claims, signature] = parts.as_slice() else {
            return Err(malformed("the token does not have three parts"));
        };
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        let header: Header = part(header)
            .and_then(|json| serde_json::from_slice(&json).ok())
            .ok_or_else(|| malformed("the token's header is not JSON in base64"))?;
        if header.alg != "RS256" {
            let what = format!("the token's algorithm is {:?}, not RS256", header.alg);
            return Err(malformed(&what));
        }
        Ok(Self {
            signature_removed: *signature == SIGNATURE_REMOVED,
            key: header
                .kid
                .ok_or_else(|| malformed("the token names no key"))?,
            claims: part(claims)
                .and_then(|json| serde_json::from_slice(&json).ok())
                .ok_or_else(|| malformed("the token's claims are not JSON in base64"))?,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    const NOW: u64 = 1_800_000_000;

    pub fn rules() -> TokenRules {
        TokenRules {
            audience: "https://cutout.example/pubsub/push".into(),
            service_account: "pusher@perkie.iam.gserviceaccount.com".into(),
            keys_url: None,
            clock_skew: Duration::from_secs(10),
        }
    }

    /// Valid claims, changed; null takes one away.
    pub fn with(change: &Value) -> Map<String, Value> {
        let mut claims = json!({
            "iss": "https://accounts.google.com", "aud": "https://cutout.example/pubsub/push",
            "email": "pusher@perkie.iam.gserviceaccount.com", "email_verified": true,
            "iat": NOW - 60, "exp": NOW + 3540,
        });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let Value::Object(mut claims) = claims else {
            unreachable!()
        };
        claims.retain(|_, value| !value.is_null());
        claims
    }

    fn verdict(change: &Value) -> Option<PushRefusal> {
        let checked = rules().check(&with(change), NOW);
        checked.err().map(|refused| refused.reason)
    }

    #[test]
    fn every_claim_must_be_there_and_be_right() {
        use PushRefusal::{Audience, Email, Issuer, Malformed};
        assert_eq!(verdict(&json!({})), None);
        assert_eq!(verdict(&json!({ "iss": "accounts.google.com" })), None);
        for (change, expected) in [
            (json!({ "iss": "https://accounts.google.com.evil" }), Issuer),
            (json!({ "iss": ["https://accounts.google.com"] }), Issuer),
            (json!({ "iss": null }), Issuer),
            (json!({ "aud": "https://cutout.example" }), Audience),
            (
                json!({ "aud": ["https://cutout.example/pubsub/push"] }),
                Audience,
            ),
            (json!({ "aud": 5 }), Audience),
            (json!({ "aud": null }), Audience),
            (
                json!({ "email": "else@perkie.iam.gserviceaccount.com" }),
                Email,
            ),
            (json!({ "email": null }), Email),
            (json!({ "email_verified": false }), Email),
            (json!({ "email_verified": "true" }), Email),
            (json!({ "email_verified": null }), Email),
            (json!({ "exp": null }), Malformed),
            (json!({ "exp": "soon" }), Malformed),
            (json!({ "exp": -1 }), Malformed),
            (json!({ "iat": "once" }), Malformed),
        ] {
            assert_eq!(verdict(&change), Some(expected), "{change}");
        }
    }

    #[test]
    fn times_are_taken_with_the_skew_and_no_more() {
        use PushRefusal::{Early, Expired};
        for (change, expected) in [
            (json!({ "exp": NOW - 10 }), None),
            (json!({ "exp": NOW - 11 }), Some(Expired)),
            (json!({ "exp": 0 }), Some(Expired)),
            (json!({ "exp": u64::MAX }), None),
            (json!({ "nbf": NOW + 10 }), None),
            (json!({ "nbf": NOW + 11 }), Some(Early)),
            (json!({ "iat": NOW + 10 }), None),
            (json!({ "iat": NOW + 11 }), Some(Early)),
            (json!({ "iat": null, "nbf": null }), None),
        ] {
            assert_eq!(verdict(&change), expected, "{change}");
        }
    }
}
