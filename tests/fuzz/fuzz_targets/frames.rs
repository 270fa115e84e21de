//! Frames of HTTP/2, HTTP/3 and WebSocket end where they end, however they are cut.
#![no_main]

use weir_fuzz::parsers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parsers::check_frames(bytes));
