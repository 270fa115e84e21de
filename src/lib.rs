//! Weir: an L7 traffic-splitting reverse proxy.
//!
//! The map of the house, its floors and its invariants stand in `src/ARCHITECTURE.md`. Modules are listed here from
//! the ground floor up; a module imports only from the floors below it.
//!
//! The assignment is a pure function that other programs may use to compute the same cohort:
//!
//! ```
//! use weir::logic::split::{Split, assign_key};
//! use weir::types::{Share, SplitName, UnitKey, VariantName};
//!
//! let name = |text| VariantName::new(text).unwrap();
//! let others = [(name("green"), Share::parse("9%").unwrap()), (name("canary"), Share::parse("1%").unwrap())];
//! let split = Split::new(SplitName::new("checkout").unwrap(), name("blue"), &others).unwrap();
//!
//! let assignment = assign_key(&split, UnitKey::new(*b"20").unwrap());
//! assert_eq!(split.variants[assignment.variant].name, name("canary"));
//! ```

pub mod types;

pub mod logic;
pub mod wire;

pub mod config;
pub mod telemetry;

pub mod net;
pub mod upstream;

pub mod acme;

pub mod state;

pub mod front;
pub mod proxy;

pub mod admin;

pub mod app;
pub mod cli;
