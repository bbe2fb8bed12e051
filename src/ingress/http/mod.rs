//! The HTTP API's own files.

pub mod page;
