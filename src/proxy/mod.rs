//! One request's phases, in order: strip and normalise, find the route, identify the unit, assign the variant, attempt,
//! stream the body, record.
//!
//! Reading order: [`worker`] (what a worker thread owns), [`peer`] (who is connected), [`message`] (what comes in and goes
//! out), [`mod@handle`] (the phases), [`authority`] and [`view`] (the request as pure logic sees it), [`identify`] (what
//! counts of it), [`underscores`] (header names that may pass for others), [`paths`] (paths that may), [`headers`], [`host`] (the host that the upstream is told), [`affinity`] (by what it finds its endpoint), [`attempt`], [`cohort`] (what a response of a split tells),
//! [`outbound`] (the response body on its way), [`record`] (what is counted and logged when it ends), [`failure`] (what
//! goes wrong, who is to blame), [`respond`] (answers of our own), `challenge` (those to an authority that makes sure of a
//! name) and [`grpc`] (answers of our own in the words of gRPC); [`tunnel`] (what is no longer HTTP) and [`stay`] (how long
//! what lives on may do so). How bytes come in and go out is `front`'s and
//! `upstream`'s.

pub mod admission;
pub mod affinity;
pub mod attempt;
pub mod authority;
mod challenge;
pub mod cohort;
pub mod failure;
pub mod grpc;
pub mod handle;
pub mod headers;
pub mod host;
pub mod identify;
pub mod identity;
pub mod message;
pub mod outbound;
pub mod paths;
pub mod peer;
pub mod record;
pub mod respond;
pub mod stay;
pub mod tunnel;
pub mod underscores;
pub mod view;
pub mod worker;

pub use admission::Admission;
pub use failure::Failure;
pub use handle::handle;
pub use identity::Identity;
pub use message::{Request, Response};
pub use outbound::{Outbound, OutboundError, Staying};
pub use tunnel::Tunnel;
pub use worker::{Downstream, Worker};
