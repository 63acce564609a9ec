//! Why a command that brings images to nodes, or asks nodes for them, could not begin or could not tell.

use std::io;

use miette::Diagnostic;
use thiserror::Error;

use super::images;
use crate::{nodes, session};

/// Why there were no images, no nodes, or no result.
#[derive(Debug, Error, Diagnostic)]
pub(super) enum Error {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Images(#[from] images::Error),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Nodes(#[from] nodes::Error),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Helper(#[from] session::Error),
    #[error("printing the report")]
    Print(#[source] io::Error),
}
