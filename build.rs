//! Gives the shared object its name and keeps it mapped, also for a plain `cargo build`.

use std::env::{var, var_os};

/// The ABI number: RT_ABI of the header. A test compares them.
const ABI: u32 = 1;
/// The version of the library as `package.metadata.capi.library` has it. A test compares them.
const LIBRARY: &str = "1.0.0";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CARGO_C_CARGO");
    // cargo-c gives the same names itself, with a folder on Apple's systems.
    let named = var_os("CARGO_C_CARGO").is_none();
    let mut args = Vec::new();
    match (
        var("CARGO_CFG_TARGET_OS").as_deref(),
        var("CARGO_CFG_TARGET_VENDOR").as_deref(),
    ) {
        (Ok("windows") | Err(_), _) => {}
        (_, Ok("apple")) => {
            if named {
                // @rpath leaves it to the program where the library is, so that it can be moved.
                args.push(format!(
                    "-Wl,-install_name,@rpath/libregistry_transport.{ABI}.dylib"
                ));
                args.push(format!(
                    "-Wl,-current_version,{LIBRARY},-compatibility_version,{ABI}"
                ));
            }
        }
        (Ok(os), _) => {
            if named {
                // Android's packages only take files that end in .so.
                let suffix = if os == "android" {
                    String::new()
                } else {
                    format!(".{ABI}")
                };
                args.push(format!("-Wl,-soname,libregistry_transport.so{suffix}"));
            }
            args.push("-Wl,-z,nodelete".to_owned());
            args.push("-Wl,-z,now".to_owned());
        }
    }
    for arg in args {
        println!("cargo:rustc-cdylib-link-arg={arg}");
    }
}
