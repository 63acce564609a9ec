//! The `vcdist` command.

fn main() -> vcterminal::Exit {
    vcdist::cli::run()
}
