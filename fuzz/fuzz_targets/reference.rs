//! Image references, registries, repositories, tags and digests.
#![no_main]

use libfuzzer_sys::fuzz_target;
use registry_transport::digest::Digest;
use registry_transport::error::ErrorKind;
use registry_transport::fuzzing::transport_name;
use registry_transport::name::{Authority, Reference, Repository, Tag, TagOrDigest};

fn is_registry(text: &str) {
    let authority = Authority::parse(text).expect("a registry is one");
    assert_eq!(authority.as_str(), text);
    assert!(text.len() <= 255 && text.is_ascii() && !text.contains(['@', '/', ' ', '%', '?', '#']));
    assert_eq!(authority.host(), authority.host().to_ascii_lowercase());
    assert_ne!(authority.port(), Some(0));
    assert_eq!(
        Authority::parse(&text.to_ascii_uppercase()).expect("case does not matter"),
        authority
    );
    Authority::parse(authority.endpoint()).expect("an endpoint is a registry");
}

fn is_repository(text: &str) {
    assert_eq!(
        Repository::parse(text)
            .expect("a repository is one")
            .as_str(),
        text
    );
    assert!(text.len() <= 255 && !text.is_empty());
    assert!(
        text.split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
    );
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-/".contains(&b);
    assert!(text.bytes().all(good));
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Reference::parse(text) {
        Ok(reference) => {
            let shown = reference.to_string();
            let again = Reference::parse(&shown).expect("what is shown can be parsed");
            assert_eq!(again, reference);
            assert_eq!(again.to_string(), shown);
            is_registry(reference.registry().as_str());
            if let Some(repository) = reference.repository() {
                is_repository(repository.as_str());
                assert!(reference.tag().is_some() || reference.digest().is_some());
            } else {
                assert!(reference.tag().is_none() && reference.digest().is_none());
            }
        }
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Syntax);
            assert!(e.message().len() < 1024 && !e.message().contains(char::is_control));
        }
    }
    if let Ok((registry, repository)) = transport_name(text) {
        is_registry(&registry);
        if let Some(repository) = repository {
            is_repository(&repository);
        }
    }
    if let Ok(tag) = Tag::parse(text) {
        assert_eq!(tag.as_str(), text);
        assert!(
            text.len() <= 128 && !text.contains(['/', ':', '@']) && !text.starts_with(['.', '-'])
        );
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
        assert_eq!(digest.hex().len(), digest.algorithm().hex_length());
        assert!(
            digest
                .hex()
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        );
    }
    if let Ok(either) = TagOrDigest::parse(text) {
        assert_eq!(either.to_string(), text);
        assert!(!text.contains('/'));
    }
});
