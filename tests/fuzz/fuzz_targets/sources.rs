//! Cookies, parameters and segments are those that a slower reading finds.
#![no_main]

use weir_fuzz::parsers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parsers::check_sources(bytes));
