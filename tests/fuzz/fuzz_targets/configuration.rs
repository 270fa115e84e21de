//! A text is refused with what is wrong and where, or means the same when it is written out.
#![no_main]

use weir_fuzz::configuration;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| configuration::check_configuration(bytes));
