//! What `vcbuild` and `vcdist` have in common on other machines: which names ssh takes for hosts and users, what its options
//! must be, and how a program of ours comes to run there so that no other user of that machine can put another in its place.

pub mod destination;
pub mod folder;
pub mod options;
pub mod script;
