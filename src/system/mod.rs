//! A whole Kina in one process: server, sources, controllers and runtimes, wired together. What `kina serve` runs, and
//! what tests run in a simulated world.

pub mod admission;
