//! The `vcbuild` command.

fn main() -> vcterminal::Exit {
    vcbuild::cli::run()
}
