//! Makes a table of the C API from the header, so that the fuzz target knows each function there is.

use std::fmt::Write as _;
use std::path::Path;

const HEADER: &str = "../include/registry_transport.h";

/// The kind of a parameter, as `capi.rs` names it.
fn kind(declared: &str, name: &str) -> String {
    let declared = declared.replace("struct ", "");
    let handle = |text: &str| {
        text.trim_start_matches("const ")
            .trim_end_matches(['*', ' '])
            .to_owned()
    };
    match declared.as_str() {
        "rt_error **" => "Err".to_owned(),
        "const char *" => "Text".to_owned(),
        "const char **" => "TextOut".to_owned(),
        "const void *" => "Bytes".to_owned(),
        "const void **" => "DataOut".to_owned(),
        "void *" if name == "buf" => "Buffer".to_owned(),
        "void *" if name == "handle" => "Freed".to_owned(),
        "void *" if name == "user" => "User".to_owned(),
        "size_t *" | "int64_t *" => "NumberOut".to_owned(),
        "size_t" if name == "i" => "Index".to_owned(),
        "size_t" => "Size".to_owned(),
        "int64_t" | "uint32_t" | "int32_t" | "rt_status" => "Number".to_owned(),
        text if text.ends_with("_fn") => format!("Function(\"{text}\")"),
        text if text.ends_with("**") => format!("Out(\"{}\")", handle(text)),
        text if text.starts_with("rt_") || text.starts_with("const rt_") => {
            format!("Handle(\"{}\")", handle(text))
        }
        _ => panic!("the fuzz target does not know {declared} {name}"),
    }
}

fn result(declared: &str) -> String {
    match declared.replace("struct ", "").as_str() {
        "void" => "Nothing".to_owned(),
        "rt_status" => "Status".to_owned(),
        "const char *" => "Text".to_owned(),
        "int32_t" | "uint32_t" | "int64_t" | "size_t" => "Number".to_owned(),
        text if text.starts_with("rt_") && text.ends_with('*') => {
            format!("Handle(\"{}\")", text.trim_end_matches(['*', ' ']))
        }
        _ => panic!("the fuzz target does not know a result of {declared}"),
    }
}

/// `const char *name` as type and name.
fn split(declaration: &str) -> (String, String) {
    let at = declaration.rfind([' ', '*']).map_or(0, |i| i + 1);
    let (declared, name) = declaration.split_at(at);
    (declared.trim().to_owned(), name.to_owned())
}

fn main() {
    println!("cargo:rerun-if-changed={HEADER}");
    println!("cargo:rerun-if-changed=build.rs");
    let header = std::fs::read_to_string(HEADER).expect("the header");
    let (mut externs, mut table) = (String::new(), String::new());
    let mut found = 0;
    for part in header.split("\nRT_API").skip(1) {
        let prototype = part.split(';').next().unwrap_or_default();
        let prototype = prototype.split_whitespace().collect::<Vec<_>>().join(" ");
        let (head, parameters) = prototype.split_once('(').expect("a function");
        let (returned, name) = split(head);
        let parameters: Vec<(String, String)> = parameters
            .trim_end_matches(')')
            .split(", ")
            .filter(|p| *p != "void")
            .map(split)
            .collect();
        writeln!(externs, "    fn {name}();").expect("a string");
        let kinds: Vec<String> = parameters
            .iter()
            .map(|(declared, name)| format!("(\"{name}\", Kind::{})", kind(declared, name)))
            .collect();
        writeln!(
            table,
            "    Function {{ name: \"{name}\", address: {name} as *const () as usize, returns: Returns::{}, takes: &[{}] }},",
            result(&returned),
            kinds.join(", ")
        )
        .expect("a string");
        found += 1;
    }
    assert!(found > 70, "only {found} functions in the header");
    let text = format!(
        "unsafe extern \"C\" {{\n{externs}}}\n\n/// Every function of the header.\nfn functions() -> Vec<Function> {{\n    vec![\n{table}    ]\n}}\n"
    );
    let folder = std::env::var_os("OUT_DIR").expect("set by cargo");
    std::fs::write(Path::new(&folder).join("api.rs"), text).expect("the table");
}
