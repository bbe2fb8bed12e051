//! The side port: what the platform's probes, Prometheus and operators ask of a worker.
//!
//! It answers before the model is loaded and until the drain is over, so its server owns
//! nothing but a [`SideState`], which the rest of the program keeps up to date.

pub mod answers;
pub mod gpu;
pub mod health;
pub mod memory;
pub mod routes;
pub mod server;
pub mod state;

pub use health::{Health, Pulse, QueueStatus};
pub use routes::router;
pub use server::{bind, serve};
pub use state::{ModelInfo, Phase, SideState, WarmUp};
