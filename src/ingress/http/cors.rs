//! Which web pages may call the API from a browser.

use std::str::FromStr;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

/// A page's origin, or a pattern of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `*`: every page.
    Any,
    /// `https://shop.example`: this one.
    Exact(String),
    /// `https://*.myshopify.com`: every host below that one, at any depth, on the default port.
    Below {
        /// With `://`.
        scheme: String,
        /// With its leading dot.
        suffix: String,
    },
}

impl Origin {
    fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(known) => origin.eq_ignore_ascii_case(known),
            Self::Below { scheme, suffix } => {
                let origin = origin.to_ascii_lowercase();
                origin
                    .strip_prefix(scheme.as_str())
                    .and_then(|host| host.strip_suffix(suffix.as_str()))
                    .is_some_and(is_host)
            }
        }
    }
}

/// Labels of a host name: what stands for the star must not smuggle in another host, a port or a
/// user.
fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim().to_ascii_lowercase();
        let wrong = || {
            format!(
                "{text:?} is not an origin: write https://shop.example, https://*.shop.example or *"
            )
        };
        if text == "*" {
            return Ok(Self::Any);
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        if !matches!(scheme, "http" | "https") {
            return Err(wrong());
        }
        if let Some(suffix) = rest.strip_prefix("*.") {
            if !is_host(suffix) {
                return Err(wrong());
            }
            return Ok(Self::Below {
                scheme: format!("{scheme}://"),
                suffix: format!(".{suffix}"),
            });
        }
        let host = match rest.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => host,
            Some(_) => return Err(wrong()),
            None => rest,
        };
        if !is_host(host) {
            return Err(wrong());
        }
        Ok(Self::Exact(text))
    }
}

/// Headers of answers that a page's script may read.
const EXPOSED: [HeaderName; 9] = [
    HeaderName::from_static("x-processing-time"),
    HeaderName::from_static("x-cache-hits"),
    HeaderName::from_static("x-session-id"),
    HeaderName::from_static("x-effect"),
    HeaderName::from_static("x-available-effects"),
    HeaderName::from_static("x-effects-count"),
    HeaderName::from_static("x-cutout-quality"),
    HeaderName::from_static("x-request-id"),
    header::RETRY_AFTER,
];

/// Answers preflights, and lets the pages of `origins` read answers, errors included.
pub fn layer(origins: Vec<Origin>) -> CorsLayer {
    let allowed = if origins.contains(&Origin::Any) {
        AllowOrigin::any()
    } else {
        AllowOrigin::predicate(move |origin: &HeaderValue, _| {
            origin
                .to_str()
                .is_ok_and(|origin| origins.iter().any(|known| known.allows(origin)))
        })
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::OPTIONS])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED)
        .max_age(Duration::from_secs(3600))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(pattern: &str, origin: &str) -> bool {
        pattern.parse::<Origin>().unwrap().allows(origin)
    }

    #[test]
    fn a_pattern_allows_the_hosts_below_it_and_nothing_that_looks_like_them() {
        let pattern = "https://*.myshopify.com";
        assert!(allows(pattern, "https://perkie.myshopify.com"));
        assert!(allows(pattern, "https://a.b.myshopify.com"));
        assert!(allows(pattern, "HTTPS://Perkie.MyShopify.com"));
        for stranger in [
            "https://myshopify.com",
            "http://perkie.myshopify.com",
            "https://evilmyshopify.com",
            "https://perkie.myshopify.com.evil.example",
            "https://evil.example/.myshopify.com",
            "https://evil.example:443#.myshopify.com",
            "https://user@evil.myshopify.com:8443",
            "https://perkie.myshopify.com:8443",
            "https://.myshopify.com",
            "null",
            "",
        ] {
            assert!(!allows(pattern, stranger), "{stranger}");
        }
    }

    #[test]
    fn an_origin_allows_itself_alone() {
        assert!(allows("https://perkie.com", "https://perkie.com"));
        assert!(!allows(
            "https://perkie.com",
            "https://perkie.com.evil.example"
        ));
        assert!(!allows("https://perkie.com", "http://perkie.com"));
        assert!(allows("http://localhost:3000", "http://localhost:3000"));
        assert!(!allows("http://localhost:3000", "http://localhost:3001"));
    }

    #[test]
    fn what_is_not_an_origin_is_refused_when_it_is_configured() {
        for wrong in [
            "perkie.com",
            "https://",
            "https://perkie.com/",
            "https://*",
            "https://*.",
            "https://a*.perkie.com",
            "ftp://perkie.com",
            "https://perkie.com:port",
        ] {
            assert!(wrong.parse::<Origin>().is_err(), "{wrong}");
        }
    }
}
