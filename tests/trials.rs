//! Other networks beside the worker's own: the shadow, which no job ever notices, and the arms of an A/B test.

mod harness;
mod support;

#[path = "trials/arms.rs"]
mod arms;
#[path = "trials/cloud.rs"]
mod cloud;
#[path = "trials/give_way.rs"]
mod give_way;
#[path = "trials/home.rs"]
mod home;
#[path = "trials/shadow.rs"]
mod shadow;
