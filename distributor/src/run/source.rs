//! Where the images of a run come from, in the order of the Ansible role: archives that are named, the cache that the role keeps, a
//! build. Decides only; reads whether files exist, and nothing in them.

use camino::{Utf8Path, Utf8PathBuf};
use miette::Diagnostic;
use thiserror::Error;
use vcmanifests::Component;

/// Where images come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// These archives, imported into the store.
    Archives(Vec<(Option<Component>, Utf8PathBuf)>),
    /// The role's cache: these archives.
    Cache(Vec<(Option<Component>, Utf8PathBuf)>),
    /// A build by vcbuild, with these arguments.
    Build(Vec<String>),
    /// The store, where they are: why.
    Store(String),
}

/// What the variables of the role say of it.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The archive of each component, and the variable that names it; empty if it names none.
    pub archives: Vec<(Component, &'static str, String)>,
    /// The folder of the role's cache.
    pub cache: Utf8PathBuf,
    /// Whether the cache is passed over.
    pub skip_cache: bool,
    /// The arguments for vcbuild; none if the images are not to be built.
    pub build: Option<Vec<String>>,
}

/// Why there are no images.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// Some archives are named and others are not, or are not there.
    #[error("finding the images: archives are named, and not all of them can be used: {}", wrong.join("; "))]
    #[diagnostic(help(
        "name an archive of each of manager, syncer and vn-agent, or of none: then the cache is used, or the images are built"
    ))]
    Archives {
        /// What is wrong with each.
        wrong: Vec<String>,
    },

    /// There are none, and none are to be built.
    #[error("finding the images: virtualcluster_build_from_source is false, and there are none: {}", looked.join("; "))]
    #[diagnostic(help(
        "set virtualcluster_build_from_source to true, name archives with virtualcluster_manager_image_tar_path, \
         virtualcluster_syncer_image_tar_path and virtualcluster_vn_agent_image_tar_path, or bring images into the store: \
         `vcbuild images`"
    ))]
    Nothing {
        /// What was looked for, and where.
        looked: Vec<String>,
    },
}

/// Decides. `exists` tells whether a file does, `lacking` which images the store lacks, with its path.
///
/// # Errors
/// When only some archives are named, or there are no images and none are to be built.
pub fn choose(
    wanted: &Wanted,
    exists: impl Fn(&Utf8Path) -> bool,
    lacking: impl FnOnce() -> Result<(), String>,
) -> Result<Source, Error> {
    let is_named = |(_, _, path): &&(Component, &'static str, String)| !path.is_empty();
    if wanted.archives.iter().any(|one| is_named(&one)) {
        let wrong = |(_, variable, path): &(Component, &'static str, String)| match path.as_str() {
            "" => Some(format!("{variable} names none")),
            path if !exists(Utf8Path::new(path)) => Some(format!("{variable}: there is no file {path}")),
            _ => None,
        };
        let wrong: Vec<String> = wanted.archives.iter().filter_map(wrong).collect();
        let archives = wanted.archives.iter().map(|(component, _, path)| (Some(*component), path.into()));
        return if wrong.is_empty() {
            Ok(Source::Archives(archives.collect()))
        } else {
            Err(Error::Archives { wrong })
        };
    }
    let cached: Vec<(Option<Component>, Utf8PathBuf)> =
        Component::ALL.into_iter().map(|component| (Some(component), cached(&wanted.cache, component))).collect();
    let absent: Vec<&str> = cached.iter().filter(|(_, path)| !exists(path)).map(|(_, path)| path.as_str()).collect();
    if absent.is_empty() && !wanted.skip_cache {
        return Ok(Source::Cache(cached));
    }
    if let Some(arguments) = &wanted.build {
        return Ok(Source::Build(arguments.clone()));
    }
    let Err(lack) = lacking() else {
        return Ok(Source::Store("the store has them, and virtualcluster_build_from_source is false".to_owned()));
    };
    let cache = if absent.is_empty() { Vec::new() } else { vec![format!("the cache has no {}", absent.join(", "))] };
    let archives = "no archive is named".to_owned();
    Err(Error::Nothing { looked: [archives].into_iter().chain(cache).chain([lack]).collect() })
}

/// The archive of a component in the role's cache.
fn cached(folder: &Utf8Path, component: Component) -> Utf8PathBuf {
    folder.join(format!("latest/images/{component}-amd64.tar"))
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;
    use vcmanifests::Component;

    use super::{Error, Source, Wanted, choose};

    fn wanted(archives: [&str; 3]) -> Wanted {
        let names = ["manager_tar", "syncer_tar", "vn_agent_tar"];
        let of = |at: usize| (Component::ALL[at], names[at], archives[at].to_owned());
        Wanted {
            archives: (0..3).map(of).collect(),
            cache: "/cache".into(),
            skip_cache: false,
            build: Some(Vec::new()),
        }
    }

    fn in_cache(path: &Utf8Path) -> bool {
        path.starts_with("/cache/latest/images")
    }

    #[test]
    fn archives_come_before_the_cache_and_the_cache_before_a_build() {
        let lacks = || Err("the store is empty".to_owned());
        let all = wanted(["/a", "/b", "/c"]);
        let Ok(Source::Archives(archives)) = choose(&all, |_| true, lacks) else { panic!("archives") };
        assert_eq!(archives[2], (Some(Component::VnAgent), "/c".into()));
        let none = wanted(["", "", ""]);
        let Ok(Source::Cache(cached)) = choose(&none, in_cache, lacks) else { panic!("the cache") };
        assert_eq!(cached[0].1, "/cache/latest/images/manager-amd64.tar");
        assert_eq!(choose(&none, |_| false, lacks).expect("a build"), Source::Build(Vec::new()));
        let one = |path: &Utf8Path| path.as_str().contains("manager");
        assert_eq!(choose(&none, one, lacks).expect("a build"), Source::Build(Vec::new()), "the cache needs all");
        let skipping = Wanted { skip_cache: true, ..none.clone() };
        assert_eq!(choose(&skipping, in_cache, lacks).expect("a build"), Source::Build(Vec::new()));
        let no_build = Wanted { build: None, ..none };
        assert!(matches!(choose(&no_build, |_| false, || Ok(())), Ok(Source::Store(_))));
    }

    #[test]
    fn archives_that_are_named_in_part_are_refused_and_never_passed_over() {
        let error = choose(&wanted(["/a", "", "/c"]), |path| path != "/c", || Ok(())).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "finding the images: archives are named, and not all of them can be used: syncer_tar names none; vn_agent_tar: there \
             is no file /c"
        );
    }

    #[test]
    fn without_images_and_a_build_it_is_said_what_was_looked_for_and_where() {
        let wanted = Wanted { build: None, ..wanted(["", "", ""]) };
        let error = choose(&wanted, |_| false, || Err("the store /s has no x".to_owned())).expect_err("no images");
        assert!(matches!(error, Error::Nothing { .. }));
        let text = error.to_string();
        for part in ["no archive is named", "/cache/latest/images/syncer-amd64.tar", "the store /s has no x"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
