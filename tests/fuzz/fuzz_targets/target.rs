//! What a path comes to is settled for good, and is what is written and read again; so is a host.
#![no_main]

use weir_fuzz::parsers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parsers::check_target(bytes));
