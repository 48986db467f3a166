//! Media types of manifests.

/// The manifests and indexes that are asked for.
pub(crate) const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// `type/subtype`, lower case, without parameters.
pub(crate) fn essence(text: &str) -> String {
    text.split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// Whether two media types are the same but for parameters and case.
pub(crate) fn same(a: &str, b: &str) -> bool {
    essence(a) == essence(b)
}
