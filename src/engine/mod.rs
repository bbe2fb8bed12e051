//! The accelerator.

pub mod tensor;
