//! `vcdebian::hostile::deb` against hostile input.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vcdebian::hostile::deb(bytes));
