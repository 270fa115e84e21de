//! No token passes that was not signed, and none that was changed.
#![no_main]

use weir_fuzz::parsers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parsers::check_token(bytes));
