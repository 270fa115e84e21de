//! A PROXY header gives the same verdict however it is cut, and announces the same once it was written again.
#![no_main]

use weir_fuzz::reading;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| reading::check_proxy_header(bytes));
