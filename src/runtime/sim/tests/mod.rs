//! Stories of the simulated runtime.

mod cluster;
mod faults;
mod lab;
mod nodes;
mod restart;
