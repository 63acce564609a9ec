//! The common code of `vcbuild` and `vcdist` for remote machines: valid names of hosts and users for ssh, its required
//! options, and a script that runs a program there so that no other user of that machine can replace it.

pub mod destination;
pub mod folder;
pub mod options;
pub mod script;
