//! The machine-readable description of all routes: made from the handlers that answer them.

use axum::Extension;
use axum::http::header;
use axum::response::IntoResponse;
use bytes::Bytes;
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;

use crate::side::routes as side;

/// The routes that every worker has, and what stands above all of them.
#[derive(OpenApi)]
#[openapi(
    info(description = "Removes the background of photos. Limits and errors: docs/http-api.md."),
    paths(
        side::service,
        side::startup,
        side::health,
        side::metrics_text,
        side::model_info,
        side::warm_up,
        side::load_model
    )
)]
struct Side;

/// The document's beginning.
pub fn head() -> utoipa::openapi::OpenApi {
    Side::openapi()
}

/// Every route as `METHOD /path`, for the root's answer.
pub fn endpoints(document: &utoipa::openapi::OpenApi) -> Vec<String> {
    let mut endpoints = Vec::new();
    for (path, item) in &document.paths.paths {
        let operations: [(&str, &Option<Operation>); 2] =
            [("GET", &item.get), ("POST", &item.post)];
        for (method, operation) in operations {
            if operation.is_some() {
                endpoints.push(format!("{method} {path}"));
            }
        }
    }
    endpoints
}

/// The document as it is served.
#[derive(Clone)]
pub struct Document(pub Bytes);

/// This description
#[utoipa::path(get, path = "/openapi.json", tag = "about", responses((status = 200, description = "OpenAPI 3.1")))]
pub async fn document(Extension(Document(text)): Extension<Document>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], text)
}
