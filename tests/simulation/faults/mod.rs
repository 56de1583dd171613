//! A world that breaks on purpose.
//!
//! Everything Kina does to its world goes through one [`gate`]: calls of the container runtime, requests to clusters and
//! to Kina's own API, files, and commits of the store. A [`plan::Plan`] says what is done to Kina (its workload) and what
//! goes wrong where (its faults); [`run::execute`] carries it out in a thread of its own, in virtual time, while the
//! [`oracle`] watches every effect and every commit. What a plan does follows from the plan alone.

mod clock;
pub mod effect;
mod files;
mod gate;
mod http;
mod neighbour;
mod oracle;
pub mod plan;
pub mod run;
mod runtime;
mod store;
mod upset;
pub mod workload;

pub mod shrink;
pub mod sweep;
