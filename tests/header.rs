//! The committed header is the one cbindgen makes of the sources, and promises what the build does.

use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn generated() -> String {
    let config = cbindgen::Config::from_file(Path::new(ROOT).join("cbindgen.toml")).unwrap();
    let mut out = Vec::new();
    cbindgen::Builder::new()
        .with_crate(ROOT)
        .with_config(config)
        .generate()
        .expect("a header")
        .write(&mut out);
    String::from_utf8(out).unwrap()
}

fn committed() -> String {
    std::fs::read_to_string(Path::new(ROOT).join("include/registry_transport.h")).unwrap()
}

/// With RT_BLESS=1 in the environment the header is rewritten.
#[test]
fn the_header_is_in_sync() {
    let header = generated();
    if std::env::var_os("RT_BLESS").is_some() {
        std::fs::write(
            Path::new(ROOT).join("include/registry_transport.h"),
            &header,
        )
        .unwrap();
    }
    assert!(
        header == committed(),
        "the header is stale: run the tests with RT_BLESS=1"
    );
}

#[test]
fn versions_agree() {
    let header = committed();
    let number = |name: &str| -> u32 {
        let line = header
            .lines()
            .find(|l| l.starts_with(&format!("#define {name} ")))
            .unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let version: Vec<u32> = env!("CARGO_PKG_VERSION")
        .split('.')
        .map(|p| p.parse().unwrap())
        .collect();
    assert_eq!(
        version,
        [
            number("RT_VERSION_MAJOR"),
            number("RT_VERSION_MINOR"),
            number("RT_VERSION_PATCH")
        ]
    );
    let build = std::fs::read_to_string(Path::new(ROOT).join("build.rs")).unwrap();
    assert!(build.contains(&format!("const ABI: u32 = {};", number("RT_ABI"))));
}

/// No type in the header that other languages, or other compilers, see differently.
#[test]
fn only_plain_types() {
    let header = committed();
    for line in header
        .lines()
        .filter(|l| !l.trim_start().starts_with(['*', '/']))
    {
        for word in ["bool", "enum", " long", "ssize_t", "...", "time_t"] {
            assert!(!line.contains(word), "{word} in {line}");
        }
    }
}

/// Neither the place nor the language of the machine shows in the header.
#[test]
fn the_same_header_everywhere() {
    const INSIDE: &str = "RT_TEST_HEADER";
    if let Some(file) = std::env::var_os(INSIDE) {
        std::fs::write(file, generated()).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (i, locale) in ["C", "tr_TR.UTF-8"].into_iter().enumerate() {
        let file = folder.path().join(i.to_string());
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_same_header_everywhere"])
            .current_dir(if i == 0 {
                Path::new("/")
            } else {
                folder.path()
            })
            .env(INSIDE, &file)
            .env("LC_ALL", locale)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(std::fs::read_to_string(file).unwrap(), committed());
    }
}

/// Each function of the header is in `tests/abi/symbols.txt`, sorted, with the version it came in, and
/// none of that list is missing.
#[test]
fn no_function_was_removed() {
    let list = std::fs::read_to_string(Path::new(ROOT).join("tests/abi/symbols.txt")).unwrap();
    let promised: Vec<&str> = list
        .lines()
        .map(|line| {
            let (name, version) = line.split_once(' ').expect("a name and a version");
            let parts = version.split('.').filter(|p| p.parse::<u32>().is_ok());
            assert_eq!(parts.count(), 3, "{line}");
            name
        })
        .collect();
    assert!(promised.is_sorted(), "symbols.txt is not sorted");
    let header = committed();
    let mut declared: Vec<&str> = header
        .split("RT_API")
        .filter_map(|part| part.split_once('(')?.0.rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("rt_"))
        .collect();
    declared.sort_unstable();
    assert_eq!(declared, promised);
}

/// Constants are compiled into programs: those of the first release have the values of today, except the version.
#[test]
fn constants_keep_their_values() {
    let constants = |header: &str| -> std::collections::BTreeMap<String, String> {
        header
            .lines()
            .filter_map(|line| line.strip_prefix("#define RT_")?.split_once(' '))
            .map(|(name, value)| (format!("RT_{name}"), value.to_owned()))
            .filter(|(name, _)| !name.starts_with("RT_VERSION_"))
            .collect()
    };
    let first =
        std::fs::read_to_string(Path::new(ROOT).join("tests/abi/first/registry_transport.h"));
    let first = constants(&first.unwrap());
    assert!(first.len() > 40, "{first:?}");
    let now = constants(&committed());
    for (name, value) in first {
        assert_eq!(now.get(&name), Some(&value), "{name}");
    }
}
