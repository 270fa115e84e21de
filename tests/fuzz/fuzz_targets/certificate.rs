//! What is read of a certificate can be shown and compared.
#![no_main]

use weir_fuzz::parsers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parsers::check_certificate(bytes));
