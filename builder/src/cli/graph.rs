//! `vcbuild graph`: inputs, actions and images as a graph.

use clap::{Args, ValueEnum};
use vcinspect::graph::{Graph, Records, dot, mermaid};
use vcterminal::Exit;

use super::Common;
use crate::Error;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The image, by its full name or a part of it [default: all]
    #[arg(value_name = "IMAGE")]
    image: Option<String>,

    /// The language of the graph
    #[arg(long, value_name = "FORMAT", default_value = "dot")]
    format: Format,

    #[command(flatten)]
    common: Common,
}

/// A language that graphs are drawn from.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Graphviz: `vcbuild graph | dot -Tsvg > graph.svg`.
    Dot,
    /// Mermaid, which forges show in Markdown.
    Mermaid,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    let store = arguments.common.store_to_read()?;
    let images = super::images_of(&store, arguments.image.as_deref())?;
    let graph = Graph::of(&images, &Records::read(&store)?)?;
    super::show(arguments.common.output, &graph, |graph| match arguments.format {
        Format::Dot => dot(graph),
        Format::Mermaid => mermaid(graph),
    })?;
    Ok(Exit::Done)
}
