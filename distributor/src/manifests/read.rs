//! The files that manifests are read from.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use vcmanifests::Document;

use super::Error;

/// The ends of the names of manifests in a folder.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Files that say that another tool has to render a folder first, and the tool.
const RENDERED: [(&str, &str); 4] = [
    ("kustomization.yaml", "kubectl kustomize"),
    ("kustomization.yml", "kubectl kustomize"),
    ("Kustomization", "kubectl kustomize"),
    ("Chart.yaml", "helm template"),
];

/// All documents of files and of the folders' files in the order of their names; `-` is stdin.
pub(super) fn documents(paths: &[Utf8PathBuf]) -> Result<Vec<Document>, Error> {
    let mut documents = Vec::new();
    for path in paths {
        if path == "-" {
            let text = vcstore::text::read_from(io::stdin().lock());
            let text = text.map_err(|source| Error::Read { path: "stdin".into(), source })?;
            documents.extend(vcmanifests::documents(&text, "stdin")?);
            continue;
        }
        for file in files(path)? {
            let text = vcstore::text::read(&file).map_err(|source| Error::Read { path: file.clone(), source })?;
            documents.extend(vcmanifests::documents(&text, file.as_str())?);
        }
    }
    Ok(documents)
}

fn files(path: &Utf8Path) -> Result<Vec<Utf8PathBuf>, Error> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    if let Some((file, tool)) = RENDERED.into_iter().find(|(file, _)| path.join(file).exists()) {
        return Err(Error::Unrendered { path: path.to_owned(), file, command: format!("{tool} {path}") });
    }
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut files = Vec::new();
    for entry in path.read_dir_utf8().map_err(failed)? {
        let file = entry.map_err(failed)?.into_path();
        if file.is_file() && file.extension().is_some_and(|extension| EXTENSIONS.contains(&extension)) {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}
