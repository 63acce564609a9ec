//! Builds a request: from a source to images and archives.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};
use rayon::prelude::*;
use vcinspect::graph::Records;
use vcregistry::caches;
use vcstore::{Action, Digest, Image, Outputs, Platform, Store};

use crate::base::Base;
use crate::build_context::{BuildContext, BuildTarget, BuiltFile, BuiltFiles};
use crate::files::OriginFolders;
use crate::image::{self, ImageBuild, OwnLayer};
use crate::layer::LayerSpec;
use crate::lock::Lock;
use crate::lower_layers::LowerLayers;
use crate::progress::Progress;
use crate::project::{CargoProgram, CommandBuild, Component, GoProgram, Kind, Prebuilt, is_file_name};
use crate::provenance::Provenance;
use crate::request::Request;
use crate::source::real_path;
use crate::{Error, cargo, command, files, go, prebuilt, provenance_header};

/// A built image.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) component: String,
    pub(crate) image: Image,
    pub(crate) archive: Utf8PathBuf,
}

/// The layers that a component adds to its base, for one platform.
struct ComponentLayers<'a> {
    component: &'a Component,
    platform: &'a Platform,
    layers: Vec<OwnLayer>,
}

/// Builds the images of `request` into the store, without tagging them, and writes their archives.
///
/// # Errors
/// When an input is not available, or a component does not compile. Of several failures, the first component's is
/// returned.
pub(crate) fn images(
    request: &Request<'_>,
    store: &Store,
    lock: &Lock,
    progress: &Progress,
) -> Result<Vec<Built>, Error> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(request.jobs).build();
    let pool = pool.map_err(|why| Error::Internal(format!("starting {} threads: {why}", request.jobs)))?;
    let names = Names::of(request)?;
    let context = build_context(request, &names, store, lock, progress)?;
    let programs = Programs::of(request);
    // Fetch the base over the network while compilers use the processors.
    let (built_files, bases) = std::thread::scope(|scope| {
        let bases = scope.spawn(|| bases(request, store, lock, progress));
        let built_files = pool.install(|| built_files(&programs, &context));
        let bases = bases.join().unwrap_or_else(|_| Err(Error::Internal("the base's thread failed".to_owned())));
        (built_files, bases)
    });
    let (built_files, bases) = (built_files?, bases?);
    let component_layers = pool.install(|| component_layers(request, built_files, &bases, &context))?;
    let manifest = |part: &ComponentLayers<'_>| {
        let (component, platform, layers) = (part.component, part.platform, part.layers.as_slice());
        let (base, about, epoch) = (&bases[platform].base, &request.about, request.epoch);
        let image_build = ImageBuild { component, platform, base, layers, about, epoch };
        image_build.realise(store, progress).map(|manifest| (platform.clone(), manifest))
    };
    let mut images = BTreeMap::new();
    for (reference, (component, platforms)) in &names.images {
        let wanted =
            |part: &&ComponentLayers<'_>| part.component.name == component.name && platforms.contains(part.platform);
        let manifests = component_layers.iter().filter(wanted).map(manifest).collect::<Result<Vec<_>, _>>()?;
        let target = image::target(store, component, &request.about, &manifests)?;
        images.insert(reference.as_str(), Image::open(store, reference, &target)?);
    }
    let archives: Vec<_> = names.archives.iter().collect();
    let records = Records::of(store, progress.used())?;
    let write = |(name, references): &(&String, &BTreeSet<String>)| {
        let components = references.iter().map(|reference| names.images[reference].0.name.as_str()).collect();
        let images: Vec<_> = references.iter().map(|reference| images[reference.as_str()].clone()).collect();
        let provenance = Provenance::of(request, &images, &components, lock, &records)?.to_bytes()?;
        archive(store, &images, &provenance, &request.out.join(name), progress)
    };
    pool.install(|| archives.par_iter().map(write).collect::<Result<(), Error>>())?;
    caches::remember(store, images.values(), progress.used())?;
    let built = names.images.iter().map(|(reference, (component, _))| Built {
        component: component.name.clone(),
        image: images[reference.as_str()].clone(),
        archive: request.out.join(names.archive(reference)),
    });
    Ok(built.collect())
}

/// Pins all inputs of `request` without building.
///
/// # Errors
/// When an input is not available, or differs from the lock.
pub(crate) fn pin(request: &Request<'_>, store: &Store, lock: &Lock, progress: &Progress) -> Result<(), Error> {
    for platform in &request.platforms {
        request.base.resolve(platform, store, lock, progress)?;
    }
    let context = build_context(request, &Names::of(request)?, store, lock, progress)?;
    let programs = Programs::of(request);
    prebuilt::pin(&programs.prebuilt, &context)?;
    cargo::pin(&programs.cargo, &context)?;
    go::pin(&programs.go, &context)
}

fn build_context<'a>(
    request: &'a Request<'_>,
    names: &Names,
    store: &'a Store,
    lock: &'a Lock,
    progress: &'a Progress,
) -> Result<BuildContext<'a>, Error> {
    let Request { source, go, version, jobs, sandbox, .. } = request;
    let outside = outside(request, store, lock, names.archives.keys())?;
    let (go, jobs) = (go.as_deref(), *jobs);
    Ok(BuildContext { source, go, version, store, lock, outside, jobs, sandbox, progress })
}

/// The components of a request for all its platforms, grouped by kind.
#[derive(Default)]
struct Programs<'a> {
    go: Vec<BuildTarget<'a, GoProgram>>,
    cargo: Vec<BuildTarget<'a, CargoProgram>>,
    command: Vec<BuildTarget<'a, CommandBuild>>,
    prebuilt: Vec<BuildTarget<'a, Prebuilt>>,
}

impl<'a> Programs<'a> {
    fn of(request: &'a Request<'a>) -> Self {
        let mut programs = Self::default();
        for &component in &request.components {
            for platform in &request.platforms {
                match &component.kind {
                    Kind::Go(program) => programs.go.push(BuildTarget { component, platform, program }),
                    Kind::Cargo(program) => programs.cargo.push(BuildTarget { component, platform, program }),
                    Kind::Command(program) => programs.command.push(BuildTarget { component, platform, program }),
                    Kind::Prebuilt(program) => programs.prebuilt.push(BuildTarget { component, platform, program }),
                }
            }
        }
        programs
    }
}

/// The images and archives that a request produces, computed before the build.
struct Names<'a> {
    /// The component and the platforms of each reference.
    images: BTreeMap<String, (&'a Component, BTreeSet<Platform>)>,
    /// The references in each archive.
    archives: BTreeMap<String, BTreeSet<String>>,
}

impl<'a> Names<'a> {
    fn of(request: &Request<'a>) -> Result<Self, Error> {
        let mut names = Self { images: BTreeMap::new(), archives: BTreeMap::new() };
        let version = request.version.version.as_deref().unwrap_or_default();
        for component in &request.components {
            for platform in &request.platforms {
                let values = [("arch", platform.architecture.as_str()), ("version", version)];
                let reference = vcstore::reference::full(&component.image.fill(&values)).map_err(Error::Usage)?;
                let archive = component.archive.fill(&values);
                if !is_file_name(&archive) {
                    let why = format!(
                        "the archive of {} would be called {archive:?}, which is not a valid file name",
                        component.name
                    );
                    return Err(Error::Usage(why));
                }
                let entry = names.images.entry(reference.clone());
                let (owner, platforms) = entry.or_insert_with(|| (*component, BTreeSet::new()));
                if owner.name != component.name {
                    let why = format!(
                        "components {} and {} have the same image name {reference}",
                        owner.name, component.name
                    );
                    return Err(Error::Usage(why));
                }
                platforms.insert(platform.clone());
                names.archives.entry(archive).or_default().insert(reference);
            }
        }
        Ok(names)
    }

    /// Returns the first archive that contains the image.
    fn archive(&self, reference: &str) -> &str {
        let holds = |(_, references): &(&String, &BTreeSet<String>)| references.contains(reference);
        self.archives.iter().find(holds).map_or("", |(name, _)| name)
    }
}

/// A base and the outline of its file system.
struct BaseAndOutline {
    base: Base,
    outline: Option<Digest>,
}

/// The base for each platform.
fn bases(
    request: &Request<'_>,
    store: &Store,
    lock: &Lock,
    progress: &Progress,
) -> Result<BTreeMap<Platform, BaseAndOutline>, Error> {
    let realise = |platform: &Platform| {
        Ok((platform.clone(), request.base.realise(platform, request.compression, store, lock, progress)?))
    };
    let bases = request.platforms.iter().map(realise).collect::<Result<Vec<_>, Error>>();
    lock.check()?;
    let with_outline = |(platform, base): (Platform, Base)| {
        let outline = base.outline(&format!("{} {platform}", request.base), store, progress)?;
        Ok((platform, BaseAndOutline { base, outline }))
    };
    bases?.into_iter().map(with_outline).collect()
}

/// Returns the files that vcbuild writes while it reads the source, and that are not part of it.
fn outside<'a>(
    request: &Request<'_>,
    store: &Store,
    lock: &Lock,
    archives: impl Iterator<Item = &'a String>,
) -> Result<Vec<Utf8PathBuf>, Error> {
    let mut outside = vec![real_path(lock.path())?, store.path().to_owned()];
    outside.extend(request.outside.iter().chain(&request.source.outside).cloned());
    // The output folder may be the source itself.
    for archive in archives {
        outside.push(real_path(&request.out.join(archive))?);
    }
    Ok(outside)
}

/// Builds the files of all components for all platforms, each with the builder of its kind.
fn built_files<'a>(programs: &'a Programs<'a>, context: &BuildContext<'_>) -> Result<Vec<BuiltFiles<'a>>, Error> {
    let mut built_files = prebuilt::build(&programs.prebuilt, context)?;
    built_files.extend(go::build(&programs.go, context)?);
    built_files.extend(cargo::build(&programs.cargo, context)?);
    built_files.extend(command::build(&programs.command, context)?);
    Ok(built_files)
}

/// Creates the layers of the built files.
fn component_layers<'a>(
    request: &Request<'_>,
    built_files: Vec<BuiltFiles<'a>>,
    bases: &BTreeMap<Platform, BaseAndOutline>,
    context: &BuildContext<'_>,
) -> Result<Vec<ComponentLayers<'a>>, Error> {
    let part = |BuiltFiles { component, platform, files }: BuiltFiles<'a>| {
        let lower_layers = LowerLayers::of(context.store, &component.name, bases[platform].outline);
        Ok(ComponentLayers {
            component,
            platform,
            layers: layers(component, platform, request, &files, lower_layers, context)?,
        })
    };
    let component_layers: Vec<Result<ComponentLayers<'a>, Error>> = built_files.into_par_iter().map(part).collect();
    component_layers.into_iter().collect()
}

/// Creates the layers of a component: the files that the project adds, which change less often, below the built files.
/// The built files have their own layer, so that a change of them transfers nothing else.
fn layers(
    component: &Component,
    platform: &Platform,
    request: &Request<'_>,
    built_files: &[BuiltFile],
    mut lower_layers: LowerLayers<'_>,
    context: &BuildContext<'_>,
) -> Result<Vec<OwnLayer>, Error> {
    let origins = OriginFolders { project: &request.project_dir, source: context.source, outside: &context.outside };
    let added = files::layer_spec(component, platform, origins)?;
    let mut program = LayerSpec::new();
    for file in built_files {
        program.blob(&file.path, file.mode, file.content.digest);
    }
    let named = [(added, "files".to_owned()), (program, component.binary.clone())];
    let layers = named.into_iter().filter(|(contents, _)| !contents.is_empty()).map(|(contents, holds)| {
        let contents = lower_layers.put(&contents)?;
        let layer =
            contents.layer(context.store, &component.name, request.compression, request.epoch, context.progress)?;
        Ok(OwnLayer { layer, holds })
    });
    layers.collect()
}

/// Writes an archive, unless the file exists and has the recorded content.
fn archive(
    store: &Store,
    images: &[Image],
    provenance: &[u8],
    path: &Utf8Path,
    progress: &Progress,
) -> Result<(), Error> {
    let start = Instant::now();
    let content: BTreeMap<_, _> = images.iter().map(|image| (&image.name, image.digest())).collect();
    let action = Action::new("archive", path.file_name().unwrap_or_default())
        .input("writer", env!("CARGO_PKG_VERSION"))?
        .input("images", content)?
        .input("provenance", Digest::of(provenance))?;
    let recorded = store.recall(&action.key()?)?;
    let known = recorded.as_ref().and_then(|outputs| outputs.note("archive"));
    let size = recorded.as_ref().and_then(|outputs| outputs.note("size"));
    let same_size = || std::fs::metadata(path).is_ok_and(|meta| Some(meta.len().to_string().as_str()) == size);
    if let Some(known) = known
        && same_size()
        && vcstore::archive::hash(path)?.digest.to_string() == known
    {
        progress.reused(&action);
        return Ok(());
    }
    let written = vcstore::archive::write(store, images, &[(provenance_header::NAME, provenance)], path)?;
    let outputs =
        Outputs::new().with_note("archive", written.digest.to_string()).with_note("size", written.size.to_string());
    store.realise(&action, || Ok::<_, Error>(outputs))?;
    progress.done(&action, start.elapsed());
    Ok(())
}
