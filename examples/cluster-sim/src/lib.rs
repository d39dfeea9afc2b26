//! A cluster of simulated inference engines on virtual time, routed by the very library that a
//! gateway embeds: to choose a policy and size a fleet before the GPUs are bought.
//!
//! Deterministic: the same seed gives the same bytes.

pub mod batch;
pub mod cluster;
pub mod command;
pub mod engine;
pub mod policy;
pub mod published;
pub mod report;
pub mod router;
pub mod scenario;
pub mod stats;
pub mod wire;
pub mod workload;
