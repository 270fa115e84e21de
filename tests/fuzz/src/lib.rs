//! What is pure of Weir and its configuration, and the checks that the plain tests make of it. `make fuzz` at the root
//! runs the targets.
//!
//! The rooms are built from their source and not from the crate: every dependency of what is built here is built for the
//! fuzzer anew, and sockets, pages and commands would be most of them.

#[path = "../../../src/types/mod.rs"]
pub mod types;

#[path = "../../../src/logic/mod.rs"]
pub mod logic;
#[path = "../../../src/wire/mod.rs"]
pub mod wire;

#[path = "../../../src/config/mod.rs"]
pub mod config;

pub mod proxy;

#[path = "../../wire/configuration.rs"]
pub mod configuration;
#[path = "../../wire/grammar.rs"]
pub mod grammar;
#[path = "../../wire/oracle.rs"]
pub mod oracle;
#[path = "../../wire/parsers.rs"]
pub mod parsers;
#[path = "../../wire/reading.rs"]
pub mod reading;
