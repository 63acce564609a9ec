//! `vcdist::hostile::inventory` against hostile input.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vcdist::hostile::inventory(bytes));
