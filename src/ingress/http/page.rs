//! The page that a browser gets at `GET /`: one photo in, its cut-out and effects out.
//!
//! Three files, written by hand and compiled in. They name nothing outside of this origin, and the
//! policy that they are served with would not let them.

use std::sync::LazyLock;

use axum::Router;
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

const INDEX: &str = include_str!("page/index.html");

static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("text/css; charset=utf-8", include_str!("page/page.css")));

static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        "text/javascript; charset=utf-8",
        include_str!("page/page.js"),
    )
});

/// All that the page may do. `connect-src 'self'` covers the WebSocket too: CSP 3 lets the origin's
/// `http` stand for `ws`. Photos and results are `blob:`, the icon is `data:`. Trusted types make
/// a browser refuse any text that would become markup, whatever a later edit of the script does.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' blob: data:; connect-src 'self'; form-action 'none'; frame-ancestors 'none'; \
    base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const GUARDS: [(HeaderName, HeaderValue); 4] = [
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    // A browser asks every time, so that page and script are always of one version.
    (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
];

/// A file with its digest.
struct Asset {
    content_type: &'static str,
    body: &'static str,
    etag: HeaderValue,
}

impl Asset {
    fn new(content_type: &'static str, body: &'static str) -> Self {
        let digest = hex::encode(Sha256::digest(body));
        let etag = HeaderValue::from_str(&format!("\"{}\"", &digest[..32]));
        Self {
            content_type,
            body,
            etag: etag.expect("hex in quotes is a header value"),
        }
    }

    /// The file, or 304 for who has it already.
    fn answer(&self, headers: &HeaderMap) -> Response {
        let tag = [(ETAG, self.etag.clone())];
        if holds(headers, &self.etag) {
            return (StatusCode::NOT_MODIFIED, GUARDS, tag).into_response();
        }
        let content_type = [(CONTENT_TYPE, self.content_type)];
        (GUARDS, tag, content_type, self.body).into_response()
    }
}

/// Whether `If-None-Match` names this tag. A proxy that compresses makes a tag weak, which is the
/// same file still.
fn holds(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim())
        .any(|tag| tag == "*" || tag.trim_start_matches("W/").as_bytes() == etag.as_bytes())
}

/// The routes of what the page loads; the page itself is [`index`], for who [`wants_page`].
pub fn routes() -> Router {
    let style = async |headers: HeaderMap| STYLE.answer(&headers);
    let script = async |headers: HeaderMap| SCRIPT.answer(&headers);
    Router::new()
        .route("/page.css", get(style))
        .route("/page.js", get(script))
}

/// The page.
pub fn index() -> Response {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        // The same address answers JSON to others.
        (VARY, "accept"),
    ];
    (GUARDS, headers, INDEX).into_response()
}

/// Whether a request's `Accept` asks for a page: it names `text/html` and likes it better than JSON,
/// or as much as a JSON that only a wildcard covers. `*/*` alone (curl, most libraries) and no
/// `Accept` at all get JSON, as does who likes both named types the same.
pub fn wants_page(headers: &HeaderMap) -> bool {
    let mut html = None;
    // By how precisely a range names JSON: `*/*`, `application/*`, `application/json`.
    let mut json = [None; 3];
    for value in headers.get_all(ACCEPT) {
        let ranges = value.to_str().unwrap_or_default().split(',');
        for (range, quality) in ranges.filter_map(media_range) {
            let place = match range.as_str() {
                "text/html" => &mut html,
                "*/*" => &mut json[0],
                "application/*" => &mut json[1],
                "application/json" => &mut json[2],
                _ => continue,
            };
            *place = (*place).max(Some(quality));
        }
    }
    let html = html.unwrap_or(0);
    let named = json[2].is_some();
    let json = json.into_iter().rev().flatten().next().unwrap_or(0);
    html > 0 && (html > json || html == json && !named)
}

/// A media range in lower case and its quality in thousandths; `None` when the quality is nonsense.
fn media_range(text: &str) -> Option<(String, u16)> {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next()?.to_ascii_lowercase();
    let mut quality = 1000;
    for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
        if name.trim().eq_ignore_ascii_case("q") {
            let q: f32 = value.trim().parse().ok()?;
            if !(0.0..=1.0).contains(&q) {
                return None;
            }
            quality = (q * 1000.0).round() as u16;
        }
    }
    Some((range, quality))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::asks_nobody_and_makes_no_markup;
    use axum::body::{Body, to_bytes};
    use axum::http::{Method, Request};
    use tower::ServiceExt;

    fn accepting(values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT, value.parse().unwrap());
        }
        wants_page(&headers)
    }

    async fn ask(method: Method, path: &str, known: Option<&str>) -> Response {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(tag) = known {
            request = request.header(IF_NONE_MATCH, tag);
        }
        let request = request.body(Body::empty()).unwrap();
        routes().oneshot(request).await.unwrap()
    }

    async fn text(response: Response) -> String {
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    fn assert_guarded(response: &Response) {
        for (name, value) in &GUARDS {
            assert_eq!(response.headers().get(name), Some(value), "{name}");
        }
    }

    #[test]
    fn browsers_get_the_page() {
        let chromium = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,\
            image/webp,*/*;q=0.8";
        assert!(accepting(&[chromium]));
        assert!(accepting(&["text/html"]));
        assert!(accepting(&["text/html, */*"]), "named beats a wildcard");
        assert!(accepting(&["TEXT/HTML; charset=utf-8; Q=0.5"]));
        assert!(accepting(&["application/json;q=0.8, text/html;q=0.9"]));
        assert!(
            accepting(&["application/json;q=0.1", "text/html"]),
            "two headers"
        );
        assert!(accepting(&["text/html;q=0.5, */*, application/json;q=0.4"]));
    }

    #[test]
    fn programs_get_json() {
        assert!(!accepting(&[]));
        assert!(!accepting(&[""]));
        assert!(!accepting(&["*/*"]), "curl");
        assert!(!accepting(&["text/*"]), "no page was named");
        assert!(!accepting(&["application/json"]));
        assert!(!accepting(&["application/json, text/plain, */*"]), "axios");
        assert!(
            !accepting(&["application/json, text/html"]),
            "a draw of named types"
        );
        assert!(!accepting(&["text/html;q=0.8, application/json;q=0.9"]));
        assert!(
            !accepting(&["text/html;q=0.5, */*"]),
            "anything else is better"
        );
        assert!(!accepting(&["text/html;q=0.5, application/*;q=0.6"]));
        assert!(!accepting(&["text/html;q=0"]));
        assert!(
            !accepting(&["text/html;q=2"]),
            "nonsense counts for nothing"
        );
        assert!(!accepting(&["text/html;q=NaN"]));
        assert!(!accepting(&["text/html5"]));
    }

    #[tokio::test]
    async fn every_file_is_served_with_its_type_and_the_policy() {
        let page = index();
        assert_guarded(&page);
        assert_eq!(page.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(page.headers()[VARY], "accept");
        assert_eq!(text(page).await, INDEX);
        for (path, asset) in [("/page.css", &STYLE), ("/page.js", &SCRIPT)] {
            let answer = ask(Method::GET, path, None).await;
            assert_guarded(&answer);
            assert_eq!(answer.headers()[CONTENT_TYPE], asset.content_type);
            assert_eq!(text(answer).await, asset.body);
            assert_eq!(ask(Method::HEAD, path, None).await.status(), 200);
            assert_eq!(ask(Method::POST, path, None).await.status(), 405);
        }
    }

    #[tokio::test]
    async fn a_browser_that_has_a_file_is_not_sent_it_again() {
        let first = ask(Method::GET, "/page.css", None).await;
        let tag = first.headers()[ETAG].to_str().unwrap().to_owned();
        let weak = format!("\"other\", W/{tag}");
        for known in [tag.as_str(), &weak, "*"] {
            let answer = ask(Method::GET, "/page.css", Some(known)).await;
            assert_eq!(answer.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_guarded(&answer);
            assert_eq!(answer.headers()[ETAG], tag);
            assert_eq!(text(answer).await, "");
        }
        let script = ask(Method::GET, "/page.js", Some(&tag)).await;
        assert_eq!(script.status(), 200, "another file's tag");
    }

    #[test]
    fn the_page_has_nothing_inline_and_names_no_other_place() {
        for (name, text) in [
            ("index.html", INDEX),
            ("page.css", STYLE.body),
            ("page.js", SCRIPT.body),
        ] {
            asks_nobody_and_makes_no_markup(name, text);
        }
        assert!(
            !INDEX.contains(" style="),
            "the policy forbids inline styles"
        );
        assert!(
            !INDEX.contains("<style"),
            "the policy forbids inline styles"
        );
        for opening in INDEX.split("<script").skip(1) {
            let (attributes, rest) = opening.split_once('>').unwrap();
            assert!(attributes.contains("src=\"page.js\""), "{attributes}");
            assert!(rest.starts_with("</script>"), "an inline script");
        }
        let handler = INDEX.split_whitespace().find(|word| {
            let name = word.split('=').next().unwrap_or_default();
            word.contains('=') && name.starts_with("on")
        });
        assert_eq!(handler, None, "an inline handler");
    }
}
