//! `vcbuild::hostile::provenance` against hostile input.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vcbuild::hostile::provenance(bytes));
