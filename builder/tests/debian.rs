//! The `debian` base against a real mirror: the one the machine's apt sources or VCBUILD_DEBIAN_MIRROR name.

use std::time::Instant;

use camino::Utf8Path;
use vcbuild::base::debian::{Request, lock, realise};
use vcstore::{Compression, Store};

#[test]
fn locks_and_realises() {
    let start = Instant::now();
    let request = Request::default();
    let pinned = lock(&request).unwrap();
    eprintln!("lock: {:?}", start.elapsed());
    for r in &pinned.releases {
        eprintln!("{r:?}");
    }
    eprintln!("{} packages", pinned.packages.len());
    let folder = std::env::var("DEBWORK").unwrap();
    let store = Store::open(&Utf8Path::new(&folder).join("store")).unwrap();
    let start = Instant::now();
    let base = realise(&store, &pinned, &request, Compression::None).unwrap();
    eprintln!("realise: {:?} {:?}", start.elapsed(), base.layer);
}
