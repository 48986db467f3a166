//! Gives the shared object its name and keeps it mapped, also for a plain `cargo build`.

/// The ABI number: RT_ABI of the header. A test compares them.
const ABI: u32 = 1;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // cargo-c sets the name itself.
    if std::env::var_os("CARGO_C_LIBRARY").is_some() {
        return;
    }
    let args = match std::env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("macos" | "ios") => vec![format!(
            "-Wl,-install_name,@rpath/libregistry_transport.{ABI}.dylib"
        )],
        Ok("windows") | Err(_) => vec![],
        Ok(_) => vec![
            format!("-Wl,-soname,libregistry_transport.so.{ABI}"),
            "-Wl,-z,nodelete".to_owned(),
            "-Wl,-z,now".to_owned(),
        ],
    };
    for arg in args {
        println!("cargo:rustc-cdylib-link-arg={arg}");
    }
}
