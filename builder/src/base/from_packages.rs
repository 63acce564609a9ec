//! The `debian` base as the other bases are: an image in the store, its packages pinned by the lock.

use std::collections::HashMap;

use oci_spec::image::{Arch, ConfigBuilder, ImageConfiguration, Os, RootFs};
use vcstore::{Action, Blob, Compression, Layer, Platform, Store};

use super::{Base, debian};
use crate::lock::Lock;
use crate::progress::Progress;
use crate::{Error, image, platform};

/// The suite and the components that the base comes from: those of debian:bookworm-slim.
const SUITE: &str = "bookworm";
const COMPONENTS: [&str; 1] = ["main"];

/// Makes the base of the packages that the lock pins, or of those that are current, which the lock then pins.
///
/// # Errors
/// As [`debian::lock`] and [`debian::realise`].
pub(super) fn realise(
    platform: &Platform,
    compression: Compression,
    store: &Store,
    lock: &Lock,
    progress: &Progress,
) -> Result<Base, Error> {
    let (request, pinned) = resolve(platform, lock)?;
    let action = Action::new("base", format!("debian {SUITE} {platform}"))
        .input("assembly", debian::ASSEMBLY)?
        .input("packages", &pinned.packages)?
        .input("platform", platform)?
        .input("compression", compression.identity())?;
    let outputs = progress.realise(store, &action, || {
        let base = debian::realise(store, &pinned, &request, compression)?;
        let config = configuration(platform, &base.layer)?;
        let outputs = image::put(store, &config, [&base.layer], HashMap::new())?;
        Ok(outputs.with_blob("layer", Blob { digest: base.layer.digest, size: base.layer.size }))
    })?;
    Base::open(store, "debian", None, &image::manifest_of(&outputs)?, platform)
}

/// The packages that are pinned, or those that are current and that `lock` then pins; and where they come from.
///
/// # Errors
/// As [`debian::lock`].
pub(super) fn resolve(platform: &Platform, lock: &Lock) -> Result<(debian::Request, debian::Pinned), Error> {
    let request = debian::Request {
        suite: SUITE.to_owned(),
        components: COMPONENTS.map(str::to_owned).to_vec(),
        // The processors that images are built for have the same names in Debian.
        architecture: platform::debian_architecture(platform).to_owned(),
        mirror: None,
        keyring: None,
        include: Vec::new(),
        security: true,
        network: lock.network(),
    };
    let pinned = match lock.packages(SUITE, platform)? {
        Some(pinned) => pinned,
        None => debian::lock(&request)?,
    };
    lock.pin_packages(SUITE, platform, pinned.clone());
    Ok((request, pinned))
}

/// What debian:bookworm-slim says of how it runs.
fn configuration(platform: &Platform, layer: &Layer) -> Result<ImageConfiguration, Error> {
    let run = ConfigBuilder::default()
        .env(debian::ENVIRONMENT.map(str::to_owned))
        .cmd(debian::COMMAND.map(str::to_owned))
        .build()
        .map_err(|why| Error::Internal(format!("making the base's configuration: {why}")))?;
    let mut rootfs = RootFs::default();
    rootfs.set_typ("layers".to_owned()).set_diff_ids(vec![layer.diff_id.to_string()]);
    let mut config = ImageConfiguration::default();
    config
        .set_os(Os::from(platform.os.as_str()))
        .set_architecture(Arch::from(platform.architecture.as_str()))
        .set_variant(platform.variant.clone())
        .set_config(Some(run))
        .set_rootfs(rootfs);
    Ok(config)
}
