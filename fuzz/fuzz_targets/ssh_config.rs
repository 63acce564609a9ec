//! `vcdist::hostile::ssh_config` against hostile input.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vcdist::hostile::ssh_config(bytes));
