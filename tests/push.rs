//! Jobs that Pub/Sub pushes: the built program, Google's emulator, a real GCS server, tokens of an
//! issuer of our own.

mod harness;
mod support;

#[path = "push/deliveries.rs"]
mod deliveries;
#[path = "push/emulator.rs"]
mod emulator;
#[path = "push/site.rs"]
mod site;
#[path = "push/tokens.rs"]
mod tokens;
