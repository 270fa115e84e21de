//! The response that `wire` accepts is the one that hyper sees, and stays the same when it is written.
#![no_main]

use http::Method;
use weir_fuzz::{oracle, reading};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for method in [Method::GET, Method::HEAD] {
        oracle::check_response(bytes, &method);
    }
    reading::check_response_is_kept(bytes);
});
