//! Networks: what is known of them, and where their files are.

pub mod fetch;
pub mod manifest;
pub mod origin;
pub mod registry;
mod verify;

pub use registry::{DEFAULT, find, known};
pub use verify::verify;
