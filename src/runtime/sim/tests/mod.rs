//! Stories of the simulated runtime.

mod cluster;
mod faults;
mod lab;
mod nodes;
mod restart;
mod scale;
mod sockets;

use super::{Latency, SimOptions, SimRuntime, SimStore};
use crate::runtime::contract::{self, Setup};

fn setup() -> Setup {
    Setup {
        image: lab::NODE.into(),
        missing_image: "example.org/none/such:v1".into(),
        prefix: "contract".into(),
        subnet: (210, 7),
        port: 39_999,
        has_ipv6: true,
    }
}

#[tokio::test(start_paused = true)]
async fn the_simulated_runtime_keeps_the_contract_in_memory() {
    let sim = SimRuntime::open(lab::world(), SimStore::Memory, SimOptions::default()).unwrap();
    contract::run(&*sim, &setup()).await;
}

#[tokio::test(start_paused = true)]
async fn the_simulated_runtime_keeps_the_contract_where_it_pins_no_addresses() {
    let options = SimOptions { pins_addresses: false, ..SimOptions::default() };
    let sim = SimRuntime::open(lab::world(), SimStore::Memory, options).unwrap();
    contract::run(&*sim, &setup()).await;
}

#[tokio::test(start_paused = true)]
async fn the_simulated_runtime_keeps_the_contract_in_a_file_and_without_latency() {
    let home = tempfile::tempdir().unwrap();
    let options = SimOptions { latency: Latency::zero(), ..SimOptions::default() };
    let sim = SimRuntime::open(lab::world(), SimStore::File(home.path().join("sim")), options).unwrap();
    contract::run(&*sim, &setup()).await;
}
