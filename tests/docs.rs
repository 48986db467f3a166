//! What the README says of the options is what the library's table says.

use registry_transport::options::{KEYS, Key, KeyKind};

const BEGIN: &str = "<!-- options: made from src/options.rs, checked by the tests -->\n";
const END: &str = "<!-- /options -->";

fn row(key: &Key) -> String {
    let (kind, default) = match key.kind {
        KeyKind::Text { default } => ("text".to_owned(), default.to_owned()),
        KeyKind::Number {
            unit,
            default,
            min,
            max,
        } => (format!("{unit}, {min} to {max}"), default.to_string()),
        KeyKind::Switch { default } => ("0 or 1".to_owned(), i32::from(default).to_string()),
        _ => panic!("a kind the README does not know"),
    };
    let variables: Vec<String> = key.variables.iter().map(|v| format!("`{v}`")).collect();
    format!(
        "| `{}` | {kind} | {default} | {} | {} |\n",
        key.name,
        key.help.replace('|', "\\|"),
        variables.join(", ")
    )
}

/// With RT_BLESS=1 in the environment the README is rewritten.
#[test]
fn the_readme_lists_every_option() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let begin = readme.find(BEGIN).expect("the mark before the table") + BEGIN.len();
    let end = readme.find(END).expect("the mark behind the table");
    let mut table =
        String::from("| key | value | default | meaning | variables |\n|---|---|---|---|---|\n");
    table.extend(KEYS.iter().map(row));
    let wanted = format!("{}{table}{}", &readme[..begin], &readme[end..]);
    if std::env::var_os("RT_BLESS").is_some() {
        std::fs::write(path, &wanted).unwrap();
    }
    assert!(
        readme == wanted || std::env::var_os("RT_BLESS").is_some(),
        "run the tests with RT_BLESS=1"
    );
}
