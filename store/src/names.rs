//! Finds images by full or short names.

use std::collections::BTreeMap;

use oci_spec::image::Descriptor;

use crate::{Error, Image, Store};

impl Store {
    /// Returns the image with this name: its full name, the name without registry or tag, or only its last word
    /// ("manager" for `docker.io/virtualcluster/manager-amd64:latest`).
    ///
    /// # Errors
    /// When no image or several images have the name, or the image cannot be read.
    pub fn image(&self, name: &str) -> Result<Image, Error> {
        let images = self.images()?;
        let full = find(&images, name)?;
        Image::open(self, full, &images[full])
    }

    /// Returns the full name of the image with this name, even if the image cannot be read.
    ///
    /// # Errors
    /// When no image or several images have the name.
    pub fn full_name(&self, name: &str) -> Result<String, Error> {
        find(&self.images()?, name).map(ToOwned::to_owned)
    }
}

fn find<'a>(images: &'a BTreeMap<String, Descriptor>, name: &str) -> Result<&'a str, Error> {
    if let Some((full, _)) = images.get_key_value(name) {
        return Ok(full);
    }
    let fits: Vec<&String> = images.keys().filter(|full| shortens(full, name)).collect();
    let names = |names: Vec<&String>| names.into_iter().cloned().collect();
    match fits.as_slice() {
        [one] => Ok(one),
        [] => Err(Error::NoSuchImage { name: name.to_owned(), known: names(images.keys().collect()) }),
        _ => Err(Error::AmbiguousImage { name: name.to_owned(), fits: names(fits) }),
    }
}

/// Returns whether `name` refers to the image with this full name, as in [`Store::image`].
#[must_use]
pub fn is_short_for(full: &str, name: &str) -> bool {
    full == name || shortens(full, name)
}

/// Returns whether `name` is a short form of the full name.
fn shortens(full: &str, name: &str) -> bool {
    let repository = match full.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => full,
    };
    [full, repository, repository.rsplit_once('-').map_or(repository, |(stem, _)| stem)]
        .iter()
        .any(|long| long.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('/')))
}

#[cfg(test)]
mod tests {
    use super::shortens;

    #[test]
    fn short_names_stand_for_whole_words() {
        let full = "docker.io/virtualcluster/manager-amd64:latest";
        for name in [full, "virtualcluster/manager-amd64", "manager-amd64:latest", "manager-amd64", "manager"] {
            assert!(shortens(full, name), "{name}");
        }
        for name in ["", "anager", "amd64", "latest", "virtualcluster", "manager:latest"] {
            assert!(!shortens(full, name), "{name}");
        }
        assert!(shortens("localhost:5000/vn-agent-amd64:v1", "vn-agent"));
        assert!(!shortens("localhost:5000/vn-agent-amd64:v1", "agent"));
    }
}
