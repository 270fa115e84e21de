//! Requests that `wire` accepts are those that hyper sees, and stay the same when they are written.
#![no_main]

use weir_fuzz::{oracle, reading};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    oracle::check_requests(bytes);
    reading::check_request_is_kept(bytes);
});
