#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| synesis_decoders::run("carrier", data));
