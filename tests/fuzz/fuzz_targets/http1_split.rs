//! A head gives the same verdict however it is cut.
#![no_main]

use weir_fuzz::reading;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let bytes = &bytes[..bytes.len().min(1024)];
    reading::check_request_cuts(bytes);
    reading::check_response_cuts(bytes);
});
