//! Nobody but those who are trusted has a say in whose request it is.
#![no_main]

use weir_fuzz::parsers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parsers::check_forwarded(bytes));
