#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| netmon_mcp::fuzz::lines(bytes));
