//! Renders graphs for other tools: Graphviz DOT, and Mermaid, which forges display in Markdown.

use vcterminal::Text;

use super::{Graph, NodeKind};

/// Renders the graph in DOT.
pub fn dot(graph: &Graph) -> Text {
    let mut text = Text::of("digraph vcbuild {");
    text.line("  rankdir=LR;").line("  node [fontname=\"sans-serif\", fontsize=10];");
    text.line("  edge [fontname=\"sans-serif\", fontsize=8, color=\"#808080\"];");
    for (id, node) in &graph.nodes {
        let look = match node.kind {
            NodeKind::Input => "shape=note, style=filled, fillcolor=\"#f1f3f5\"",
            NodeKind::Action => "shape=box, style=\"filled,rounded\", fillcolor=\"#d0ebff\"",
            NodeKind::Image => "shape=box3d, style=filled, fillcolor=\"#d3f9d8\"",
        };
        let (title, detail) = (quoted(&node.title), quoted(&node.detail));
        text.line(format_args!("  {id} [label=\"{title}\\n{detail}\", {look}];"));
    }
    for edge in &graph.edges {
        text.line(format_args!("  {} -> {} [label=\"{}\"];", edge.from, edge.to, quoted(&edge.label)));
    }
    text.line("}");
    text
}

/// Renders the graph in Mermaid.
pub fn mermaid(graph: &Graph) -> Text {
    let mut text = Text::of("flowchart LR");
    for (id, node) in &graph.nodes {
        let (open, close, class) = match node.kind {
            NodeKind::Input => ("[/", "/]", "input"),
            NodeKind::Action => ("[", "]", "action"),
            NodeKind::Image => ("[[", "]]", "image"),
        };
        let (title, detail) = (escaped(&node.title), escaped(&node.detail));
        text.line(format_args!("  {id}{open}\"{title}<br/>{detail}\"{close}:::{class}"));
    }
    for edge in &graph.edges {
        text.line(format_args!("  {} -->|\"{}\"| {}", edge.from, escaped(&edge.label), edge.to));
    }
    text.line("  classDef input fill:#f1f3f5,stroke:#868e96,color:#212529");
    text.line("  classDef action fill:#d0ebff,stroke:#1971c2,color:#212529");
    text.line("  classDef image fill:#d3f9d8,stroke:#2f9e44,color:#212529");
    text
}

/// Escapes a text for a quoted DOT string.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ")
}

/// Escapes a text for a quoted Mermaid string, with entities for quotes and markup.
fn escaped(text: &str) -> String {
    let entity = |c: char| match c {
        '#' => "#35;".to_owned(),
        '"' => "#quot;".to_owned(),
        '<' => "#lt;".to_owned(),
        '>' => "#gt;".to_owned(),
        '&' => "#amp;".to_owned(),
        '`' => "#96;".to_owned(),
        '\n' => " ".to_owned(),
        other => other.to_string(),
    };
    text.chars().map(entity).collect()
}

#[cfg(test)]
mod tests {
    use super::{dot, mermaid};
    use crate::graph::{Edge, Graph, Node, NodeKind};

    fn graph() -> Graph {
        let node = |kind, title: &str, detail: &str| Node { kind, title: title.to_owned(), detail: detail.to_owned() };
        Graph {
            nodes: [
                ("input_1".to_owned(), node(NodeKind::Input, "files", "2")),
                ("action_1".to_owned(), node(NodeKind::Action, "compile", "a \"quoted\" \\ <name>")),
                ("image_1".to_owned(), node(NodeKind::Image, "registry.example/a:v1", "0123")),
            ]
            .into(),
            edges: [("input_1", "action_1", "files"), ("action_1", "image_1", "linux/amd64")]
                .map(|(from, to, label)| Edge { from: from.to_owned(), to: to.to_owned(), label: label.to_owned() })
                .into(),
        }
    }

    #[test]
    fn graphviz_reads_it() {
        insta::assert_snapshot!(dot(&graph()), @r##"
        digraph vcbuild {
          rankdir=LR;
          node [fontname="sans-serif", fontsize=10];
          edge [fontname="sans-serif", fontsize=8, color="#808080"];
          action_1 [label="compile\na \"quoted\" \\ <name>", shape=box, style="filled,rounded", fillcolor="#d0ebff"];
          image_1 [label="registry.example/a:v1\n0123", shape=box3d, style=filled, fillcolor="#d3f9d8"];
          input_1 [label="files\n2", shape=note, style=filled, fillcolor="#f1f3f5"];
          action_1 -> image_1 [label="linux/amd64"];
          input_1 -> action_1 [label="files"];
        }
        "##);
    }

    #[test]
    fn mermaid_reads_it() {
        insta::assert_snapshot!(mermaid(&graph()), @r##"
        flowchart LR
          action_1["compile<br/>a #quot;quoted#quot; \ #lt;name#gt;"]:::action
          image_1[["registry.example/a:v1<br/>0123"]]:::image
          input_1[/"files<br/>2"/]:::input
          action_1 -->|"linux/amd64"| image_1
          input_1 -->|"files"| action_1
          classDef input fill:#f1f3f5,stroke:#868e96,color:#212529
          classDef action fill:#d0ebff,stroke:#1971c2,color:#212529
          classDef image fill:#d3f9d8,stroke:#2f9e44,color:#212529
        "##);
    }
}
