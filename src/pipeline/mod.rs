//! The walk of one job.

pub mod compose;
pub mod decode;
pub mod encode;
pub mod matte;
pub mod preprocess;

mod resample;

#[cfg(test)]
mod fixtures;
