//! Writes the manual as HTML: `cargo run --example manual -- FOLDER`.

#[path = "mod.rs"]
#[allow(dead_code, unreachable_pub)]
mod manual;

use std::path::{Path, PathBuf};

fn main() -> std::io::Result<()> {
    let folder: PathBuf = std::env::args_os()
        .nth(1)
        .unwrap_or_else(|| "target/manual".into())
        .into();
    std::fs::create_dir_all(&folder)?;
    let pages = manual::Manual::read(Path::new(env!("CARGO_MANIFEST_DIR"))).html_pages();
    for (name, text) in &pages {
        std::fs::write(folder.join(name), text)?;
    }
    println!("{} files in {}", pages.len(), folder.display());
    Ok(())
}
