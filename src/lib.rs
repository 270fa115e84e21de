//! Weir: an L7 traffic-splitting reverse proxy.
//!
//! The map of the house, its floors and its invariants stand in `src/ARCHITECTURE.md`. Modules are listed here from
//! the ground floor up; a module imports only from the floors below it.

pub mod types;

pub mod logic;

pub mod config;
pub mod telemetry;

pub mod upstream;

pub mod state;

pub mod front;
pub mod proxy;

pub mod admin;

pub mod app;
pub mod cli;
