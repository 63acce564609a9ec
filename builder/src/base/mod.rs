//! Bases: what a component's layer is stacked on.

pub mod debian;
