//! The integration tests, one module each.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::float_cmp,
    clippy::type_complexity,
    clippy::unused_async,
    unreachable_pub,
    reason = "a test says what it expects by panicking, prints what it measured, works on files and clocks, compares exact counts, has tables of rows, and shares its support"
)]

mod support;

mod acme;
mod addresses;
mod balancing;
mod bodies;
mod cli;
mod clients;
mod demo;
mod drain;
mod failures;
mod fast;
mod faults;
mod forwarding;
mod grpc;
mod health;
mod hostile;
#[cfg(feature = "http3")]
mod http3;
mod limits;
mod nghttp2;
mod observe;
mod process;
mod proxy_protocol;
mod reload;
mod retries;
mod routing;
mod splitting;
mod strictness;
mod tls;
mod trust;
mod tunnels;
mod upgrade;
mod upstream_tls;
mod watch;
