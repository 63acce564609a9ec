//! `vcbuild` as its users run it: the real program on real sources, read by other people's tools.

mod bases;
mod bench;
mod errors;
mod images;
mod sources;
