//! `vcregistry::caches::hostile` against hostile input.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vcregistry::caches::hostile(bytes));
