//! `vcdebian::hostile::packages` against hostile input.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vcdebian::hostile::packages(bytes));
