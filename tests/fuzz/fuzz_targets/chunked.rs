//! A chunked body is the one that the grammar tells, however it is cut.
#![no_main]

use weir_fuzz::reading;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| reading::check_chunks_with_cuts(bytes));
