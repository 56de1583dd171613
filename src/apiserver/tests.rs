//! What a client of the API would see, with real `kube` clients and in virtual time.

mod crud;
mod disk;
mod faults;
mod gc;
mod model;
mod pipeline;
mod runtime;
mod subresources;
mod support;
