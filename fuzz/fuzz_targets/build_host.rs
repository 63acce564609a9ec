//! `vcbuild::hostile::build_host` against hostile input.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vcbuild::hostile::build_host(bytes));
