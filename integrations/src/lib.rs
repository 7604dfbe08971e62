//! `httptrace`'s client as the transport of other libraries: what to copy where the types do not fit by themselves.
//!
//! | library | what to do | tested in |
//! |---|---|---|
//! | object_store | [`object_store::Traced`] | `tests/it/object_store.rs` |
//! | the AWS SDK (Smithy) | [`smithy::Traced`] | `tests/it/aws.rs` |
//! | reqwest | [`reqwest::execute`] | `tests/it/reqwest.rs` |
//! | reqwest-middleware | [`reqwest::Traced`] | `tests/it/reqwest.rs` |
//! | tonic | nothing: `FooClient::with_origin(client, uri)` | `tests/it/tonic.rs` |
//! | kube | nothing: `kube::Client::new(client, "default")`, below its layers | `tests/it/kube.rs` |
//! | octocrab | nothing: `with_service(client)` | `tests/it/octocrab.rs` |
//! | hyper-util's legacy client | nothing: the calls are the same | `tests/it/hyper_util.rs` |
//!
//! Not published, so that nobody has to wait for a release of this when one of those has a new version: each is one file
//! that needs nothing of the others.

pub mod object_store;
pub mod reqwest;
pub mod smithy;
