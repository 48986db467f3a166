//! Media types of manifests, configs and layers.
#![allow(
    dead_code,
    reason = "the list is complete, whether or not this crate reads every type"
)]

/// OCI image manifest (image-spec, "Media Types").
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index: manifests by platform.
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image configuration.
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI layer, plain tar.
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI layer, tar compressed with gzip.
pub(crate) const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI layer, tar compressed with zstd.
pub(crate) const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// OCI layer that is not to be pushed to other registries, plain tar.
pub(crate) const OCI_RESTRICTED_LAYER: &str =
    "application/vnd.oci.image.layer.nondistributable.v1.tar";
/// OCI layer that is not to be pushed to other registries, tar compressed with gzip.
pub(crate) const OCI_RESTRICTED_LAYER_GZIP: &str =
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
/// OCI layer that is not to be pushed to other registries, tar compressed with zstd.
pub(crate) const OCI_RESTRICTED_LAYER_ZSTD: &str =
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";
/// The two bytes `{}`, where an artifact has no config or layer.
pub(crate) const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Docker manifest, schema 1, unsigned.
pub(crate) const DOCKER_MANIFEST_SCHEMA1: &str =
    "application/vnd.docker.distribution.manifest.v1+json";
/// Docker manifest, schema 1, signed.
pub(crate) const DOCKER_MANIFEST_SCHEMA1_SIGNED: &str =
    "application/vnd.docker.distribution.manifest.v1+prettyjws";
/// Docker manifest, schema 2.
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list: manifests by platform.
pub(crate) const DOCKER_MANIFEST_LIST: &str =
    "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker image configuration.
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker layer, tar compressed with gzip.
pub(crate) const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Docker layer that lives elsewhere and is not to be pushed.
pub(crate) const DOCKER_FOREIGN_LAYER: &str =
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
/// Docker plugin configuration.
pub(crate) const DOCKER_PLUGIN_CONFIG: &str = "application/vnd.docker.plugin.v1+json";

/// What is asked for when any manifest or index will do, in order of preference.
pub(crate) const MANIFEST_TYPES: [&str; 4] = [
    OCI_MANIFEST,
    OCI_INDEX,
    DOCKER_MANIFEST,
    DOCKER_MANIFEST_LIST,
];

/// `type/subtype` in lower case, without parameters (RFC 9110 section 8.3.1).
pub(crate) fn essence(text: &str) -> String {
    bare(text).to_ascii_lowercase()
}

/// Whether two media types are the same but for parameters and case.
pub(crate) fn same(a: &str, b: &str) -> bool {
    a == b || bare(a).eq_ignore_ascii_case(bare(b))
}

fn bare(text: &str) -> &str {
    text.split(';')
        .next()
        .unwrap_or_default()
        .trim_matches([' ', '\t'])
}

/// Whether this is one of [`MANIFEST_TYPES`].
pub(crate) fn is_accepted(media_type: &str) -> bool {
    MANIFEST_TYPES.iter().any(|t| same(t, media_type))
}

/// Whether this is the type of a manifest or index, accepted or not.
pub(crate) fn is_manifest(media_type: &str) -> bool {
    let old = [DOCKER_MANIFEST_SCHEMA1, DOCKER_MANIFEST_SCHEMA1_SIGNED];
    is_accepted(media_type) || old.iter().any(|t| same(t, media_type))
}

/// Whether layers of this type are kept by their publisher rather than by registries.
pub(crate) fn is_foreign(media_type: &str) -> bool {
    [
        DOCKER_FOREIGN_LAYER,
        OCI_RESTRICTED_LAYER,
        OCI_RESTRICTED_LAYER_GZIP,
        OCI_RESTRICTED_LAYER_ZSTD,
    ]
    .iter()
    .any(|t| same(t, media_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header's media types are written in cbindgen.toml: cbindgen makes no text constants.
    #[test]
    fn same_in_the_header() {
        let header = include_str!("../include/registry_transport.h");
        let source = include_str!("media_type.rs").replace("=\n   ", "=");
        let mut seen = 0;
        for line in source.lines() {
            let Some(rest) = line.strip_prefix("pub(crate) const ") else {
                continue;
            };
            let Some((name, value)) = rest.split_once(": &str = ") else {
                continue;
            };
            let value = value.trim().trim_end_matches(';');
            assert!(
                header.contains(&format!("#define RT_MEDIA_TYPE_{name} {value}\n")),
                "{name}"
            );
            seen += 1;
        }
        assert!(seen >= 18);
    }

    #[test]
    fn parameters_and_case_do_not_count() {
        for (a, b, want) in [
            (OCI_MANIFEST, OCI_MANIFEST, true),
            (
                "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
                OCI_MANIFEST,
                true,
            ),
            (
                "Application/VND.OCI.image.Index.v1+JSON\t;x=\"a;b\"",
                OCI_INDEX,
                true,
            ),
            (" text/html", "text/html", true),
            (OCI_MANIFEST, OCI_INDEX, false),
            (OCI_LAYER, OCI_LAYER_GZIP, false),
            ("application/json", "application/jsonp", false),
            ("", OCI_MANIFEST, false),
            (";charset=utf-8", "text/html", false),
        ] {
            assert_eq!(same(a, b), want, "{a} and {b}");
            assert_eq!(same(b, a), want, "{b} and {a}");
            assert_eq!(essence(a) == essence(b), want, "{a} and {b}");
        }
    }

    #[test]
    fn essence_is_lower_case_and_bare() {
        for (text, want) in [
            ("Text/HTML; charset=UTF-8", "text/html"),
            ("  application/json\t; q=1", "application/json"),
            ("application/json;", "application/json"),
            ("", ""),
        ] {
            assert_eq!(essence(text), want, "{text}");
        }
    }
}
