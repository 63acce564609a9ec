//! The `debian` and `static` bases: images in the store, built from packages that the lock file pins.

use std::collections::HashMap;

use oci_spec::image::{Arch, ConfigBuilder, ImageConfiguration, Os, RootFs};
use vcdebian::{Layering, Options, Pin, Pinned, Request, Selection};
use vcstore::{Action, Blob, Compression, Digest, Layer, Platform, Store};

use super::Base;
use crate::lock::Lock;
use crate::offline_inputs::InputsDir;
use crate::progress::Progress;
use crate::{Error, manifest, platform};

/// A base that vcbuild assembles from packages.
#[derive(Debug, Clone, Copy)]
pub(super) struct FromPackages<'a> {
    pub(super) options: &'a Options,
    pub(super) selection: Selection,
    pub(super) platform: &'a Platform,
}

impl FromPackages<'_> {
    /// Builds the base from the packages that the lock pins. Without a pin, pins the current packages first.
    ///
    /// # Errors
    /// As [`vcdebian::lock`] and [`vcdebian::realise`].
    pub(super) fn realise(
        &self,
        compression: Compression,
        store: &Store,
        lock: &Lock,
        progress: &Progress,
    ) -> Result<Base, Error> {
        let (request, pinned) = self.resolve(store, lock)?;
        let name = format!("{} {} {}", self.name(), self.options.suite, self.platform);
        // The package that required another one is relevant only if it determines the layers.
        let sets = match (self.selection, self.options.layers) {
            (Selection::System, Layering::PerPackageSet) => Some(sets(&pinned)),
            _ => None,
        };
        let packages: Vec<_> = pinned.packages.iter().map(|pin| Pin { set: None, ..pin.clone() }).collect();
        let action = Action::new("base", name)
            .input("assembly", vcdebian::ASSEMBLY)?
            .input("selection", self.selection)?
            .input("packages", &packages)?
            .input("sets", &sets)?
            .input("platform", self.platform)?
            .input("compression", compression.identity())?;
        let outputs = progress.realise(store, &action, || {
            if let Some(folder) = InputsDir::of(lock.network()) {
                let attempt = |pin: &Pin| format!("taking Debian package {} {}", pin.name, pin.version);
                pinned.packages.iter().try_for_each(|pin| folder.take(&pin.sha256, store, &attempt(pin)))?;
            }
            let base = vcdebian::realise(store, &pinned, &request, compression)?;
            let config = self.configuration(&base.layers)?;
            let mut outputs = manifest::put(store, &config, &base.layers, HashMap::new())?;
            for (number, layer) in base.layers.iter().enumerate() {
                let blob = Blob { digest: layer.digest, size: layer.size };
                outputs = outputs.with_blob(&format!("layer {number}"), blob);
            }
            Ok(outputs)
        })?;
        Base::open(store, self.name(), None, &manifest::of(&outputs)?, self.platform)
    }

    /// Fetches the pinned packages without building the base, and returns the digests of their files. Without a pin,
    /// pins the current packages first.
    ///
    /// # Errors
    /// As [`vcdebian::lock`] and [`vcdebian::fetch`].
    pub(super) fn fetch(&self, store: &Store, lock: &Lock) -> Result<Vec<Digest>, Error> {
        let (request, pinned) = self.resolve(store, lock)?;
        vcdebian::fetch(store, &pinned, &request)?;
        Ok(pinned.packages.iter().map(|pin| pin.sha256).collect())
    }

    /// Returns the request and its pinned packages. Without a pin for this request, pins the current packages in
    /// `lock`; packages that an outdated pin has in common with the request keep their versions.
    ///
    /// # Errors
    /// As [`vcdebian::lock`].
    pub(super) fn resolve(&self, store: &Store, lock: &Lock) -> Result<(Request, Pinned), Error> {
        let request = Request {
            options: self.options.clone(),
            selection: self.selection,
            architecture: platform::debian_architecture(self.platform).to_owned(),
            network: lock.network().clone(),
        };
        let suite = &self.options.suite;
        let key = match self.selection {
            Selection::System => suite.clone(),
            Selection::Static => format!("{suite} static"),
        };
        let pinned = match lock.packages(&key, self.platform)? {
            Some(pinned) if pinned.answers(&request) => pinned,
            before => vcdebian::lock(store, &request, before.as_ref())?,
        };
        lock.pin_packages(&key, self.platform, pinned.clone());
        // Report drift before the packages are fetched and unpacked.
        lock.check()?;
        Ok((request, pinned))
    }

    fn name(&self) -> &'static str {
        match self.selection {
            Selection::System => "debian",
            Selection::Static => "static",
        }
    }

    /// Returns the run configuration of debian:bookworm-slim; `static` has no program, so its configuration has only
    /// the environment.
    fn configuration(&self, layers: &[Layer]) -> Result<ImageConfiguration, Error> {
        let environment = vcdebian::ENVIRONMENT.map(str::to_owned);
        let run = match self.selection {
            Selection::System => ConfigBuilder::default().env(environment).cmd(vcdebian::COMMAND.map(str::to_owned)),
            Selection::Static => {
                ConfigBuilder::default().env([environment.to_vec(), vec![vcdebian::CERTIFICATES.to_owned()]].concat())
            }
        };
        let run = run.build().map_err(|why| Error::Internal(format!("making the base's configuration: {why}")))?;
        let mut rootfs = RootFs::default();
        let diff_ids = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        rootfs.set_typ("layers".to_owned()).set_diff_ids(diff_ids);
        let mut config = ImageConfiguration::default();
        config
            .set_os(Os::from(self.platform.os.as_str()))
            .set_architecture(Arch::from(self.platform.architecture.as_str()))
            .set_variant(self.platform.variant.clone())
            .set_config(Some(run))
            .set_rootfs(rootfs);
        Ok(config)
    }
}

/// The inputs of layer assignment: the requested packages in order, and the package set of each package.
fn sets(pinned: &Pinned) -> (&[String], Vec<(&str, Option<&str>)>) {
    let set_of = pinned.packages.iter().map(|pin| (pin.name.as_str(), pin.set.as_deref()));
    (&pinned.include, set_of.collect())
}
