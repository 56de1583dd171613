//! Stories of the simulated runtime.

mod cluster;
mod lab;
