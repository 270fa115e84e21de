//! What operators, scrapers and probes ask: `/metrics`, `/healthz`, `/readyz`, and on the admin address `/status`.
//!
//! Nothing here changes what serves. The admin address checks `Host`, so that a web page cannot reach it by a name of
//! its own (DNS rebinding), and answers no cross-origin request.

mod certificates;
mod endpoints;
mod page;
pub mod server;

pub use server::{Ask, Pages, serve};
