//! `vcvariables::hostile::variables` against hostile input.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vcvariables::hostile::variables(bytes));
