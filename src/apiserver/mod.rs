//! The embedded Kubernetes-style API server: store, watch, patch, discovery, serving.
//!
//! It knows nothing of clusters: it serves the kinds that are registered with it, to any number of tenants, each a
//! world of objects of its own. Everything else in this program is a client of it, mostly in the same process:
//!
//! ```
//! use std::sync::Arc;
//! use kina::apiserver::{ApiServer, kind::Kind, store::RedbStore, user::User};
//! use kina::world::World;
//! use kube::{Api, CustomResourceExt, api::PostParams};
//!
//! #[derive(kube::CustomResource, Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
//! #[kube(group = "example.dev", version = "v1", kind = "Garden")]
//! struct GardenSpec {
//!     trees: u32,
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let world = World::simulated(1, "2026-01-01T00:00:00Z".parse()?);
//! let store = RedbStore::in_memory("an-id")?;
//! let server = ApiServer::builder(store, world.clock, world.random).kind(Kind::from_crd(&Garden::crd())?).build()?;
//! let client = server.tenant("kina").client(User::named("me"));
//!
//! let gardens: Api<Garden> = Api::all(client);
//! let made = gardens.create(&PostParams::default(), &Garden::new("back", GardenSpec { trees: 2 })).await?;
//! assert_eq!(made.metadata.generation, Some(1));
//! # Ok(())
//! # }
//! ```

pub mod admission;
pub mod apply;
pub mod audit;
pub mod batch;
pub mod body;
pub mod core;
mod discovery;
pub mod documents;
mod gc;
mod hub;
pub mod jsonpath;
pub mod kind;
pub mod labels;
mod object;
mod openapi;
pub mod protobuf;
pub mod raw;
mod registry;
mod render;
mod request;
pub mod schema;
pub mod serve;
mod server;
mod service;
pub mod status;
pub mod store;
pub mod strategic;
pub mod table;
#[cfg(test)]
mod tests;
mod txn;
pub mod user;
mod verbs;
mod wake;
mod writer;

pub use hub::History;
pub use server::{ApiServer, Authorizer, Builder, Observer, Tenant};
pub use service::TenantService;
pub use status::ApiError;
