//! Reads any bytes as an archive of images: that ends in images or in an error that says what is wrong with the archive, and
//! whatever it was, the store is sound afterwards.

#![no_main]

use camino::Utf8PathBuf;
use libfuzzer_sys::fuzz_target;
use vcstore::{Error, Store, archive};

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = |name: &str| Utf8PathBuf::try_from(folder.path().join(name)).unwrap();
    let store = Store::open(&path("store")).unwrap();
    std::fs::write(path("archive.tar"), bytes).unwrap();
    match archive::import(&store, &path("archive.tar")) {
        Ok(_) | Err(Error::BadArchive { .. } | Error::DigestMismatch { .. }) => {}
        Err(other) => panic!("the store is to blame: {other}"),
    }
    assert!(store.verify().unwrap().passed());
    drop(store);
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 2, "the store and the archive, and nothing beside");
});
