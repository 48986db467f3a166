//! Where a target has its files.

use std::path::PathBuf;

/// The folder of this process for the target `name`, made below the folder for temporary files.
pub fn make(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("rt-fuzz-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}
