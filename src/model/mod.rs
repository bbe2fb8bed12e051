//! Networks: what is known of them, and where their files are.

pub mod manifest;
