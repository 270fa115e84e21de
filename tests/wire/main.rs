//! `wire` against another parser and against payloads that are known from attacks on others.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that cannot go on fails its test")]

#[expect(unreachable_pub, reason = "the fuzz targets are built from it too")]
mod configuration;
mod corpus;
mod differential;
#[expect(unreachable_pub, reason = "the fuzz targets are built from it too")]
mod grammar;
#[expect(unreachable_pub, reason = "the fuzz targets are built from it too")]
mod oracle;
#[expect(unreachable_pub, reason = "the fuzz targets are built from it too")]
mod parsers;
#[expect(unreachable_pub, reason = "the fuzz targets are built from it too")]
mod reading;

use weir::{config, logic, proxy, types, wire};
