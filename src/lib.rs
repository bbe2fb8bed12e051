//! `cutout` removes the background from product and pet photos at shop scale.
//!
//! A job enters from one of several ingresses, walks through one pipeline of bounded stages,
//! leaves as objects in a store and a result message; one engine thread owns the accelerator.
//! `docs/architecture.md` walks along with one job.

#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod crash;
pub mod destination;
pub mod effect;
pub mod engine;
pub mod error;
pub mod evaluate;
pub mod experiment;
pub mod ingress;
pub mod job;
pub mod model;
pub mod object;
pub mod pipeline;
#[cfg(test)]
mod scripted;
pub mod shadow;
pub mod side;
pub mod store;
pub mod telemetry;
pub mod version;
pub mod worker;
