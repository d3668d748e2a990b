//! Does the decoder `call-page` keep its promise on whatever coverage leads to? See crates/fuzz.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    waystation_fuzz::run("call-page", data);
});
