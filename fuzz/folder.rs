//! Where a target has its files: in memory, where there is such a folder.

use std::path::{Path, PathBuf};

/// The folder of this process for the target `name`, made.
pub fn make(name: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    let folder = base.join(format!("rt-fuzz-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}
