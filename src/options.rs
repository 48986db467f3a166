//! Settings of a transport: one table of keys, from which checks and documentation are made.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::log::{Level, Log, LogFn};

/// One key of the table.
#[derive(Debug)]
#[non_exhaustive]
pub struct Key {
    /// The key as it is written.
    pub name: &'static str,
    /// What values it takes.
    pub kind: KeyKind,
    /// What it does.
    pub help: &'static str,
    /// Environment variables that are read when it was never set, unless option `environment` is off.
    pub variables: &'static [&'static str],
}

/// What values a key takes.
#[derive(Debug)]
#[non_exhaustive]
pub enum KeyKind {
    /// Any of the texts described; `default` says what holds when it was never set.
    Text {
        /// What holds when it was never set.
        default: &'static str,
    },
    /// A number.
    Number {
        /// The unit, such as "ms" or "bytes".
        unit: &'static str,
        /// What holds when it was never set.
        default: i64,
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// 0 or 1.
    Switch {
        /// What holds when it was never set.
        default: bool,
    },
}

impl KeyKind {
    /// What it takes, in words.
    pub fn range(&self) -> String {
        match self {
            Self::Text { .. } => "text".to_owned(),
            Self::Number { min, max, .. } => format!("{min} to {max}"),
            Self::Switch { .. } => "0 or 1".to_owned(),
        }
    }
}

macro_rules! keys {
    (
        texts { $($text:ident $text_name:literal, default $text_default:literal, $text_help:literal $(, env $($text_env:literal)+)?;)* }
        numbers { $($number:ident $number_name:literal $unit:literal, default $default:literal, $min:literal..=$max:literal, $number_help:literal;)* }
        switches { $($switch:ident $switch_name:literal, default $switch_default:literal, $switch_help:literal;)* }
    ) => {
        /// Keys whose value is text.
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Text { $($text,)* }
        /// Keys whose value is a number.
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Number { $($number,)* }
        /// Keys that are on or off.
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Switch { $($switch,)* }

        const TEXTS: &[(Text, &str)] = &[$((Text::$text, $text_name),)*];
        const NUMBERS: &[(Number, &str, i64, i64, i64)] =
            &[$((Number::$number, $number_name, $default, $min, $max),)*];
        const SWITCHES: &[(Switch, &str, bool)] = &[$((Switch::$switch, $switch_name, $switch_default),)*];

        /// Every key there is.
        pub static KEYS: &[Key] = &[
            $(Key {
                name: $text_name,
                kind: KeyKind::Text { default: $text_default },
                help: $text_help,
                variables: &[$($($text_env,)+)?],
            },)*
            $(Key {
                name: $number_name,
                kind: KeyKind::Number { unit: $unit, default: $default, min: $min, max: $max },
                help: $number_help,
                variables: &[],
            },)*
            $(Key {
                name: $switch_name,
                kind: KeyKind::Switch { default: $switch_default },
                help: $switch_help,
                variables: &[],
            },)*
        ];
    };
}

keys! {
    texts {
        Scheme "scheme", default "by the name",
            "\"http\" or \"https\": what the registry speaks, instead of the rule that only localhost, *.localhost, *.local and loopback addresses speak http.";
        UserAgent "user-agent", default "registry-transport/VERSION",
            "The User-Agent of every request (RFC 9110 section 10.1.5).";
        CaFile "ca-file", default "none",
            "PEM file of certificates to trust besides the system's, which SSL_CERT_FILE and SSL_CERT_DIR replace.",
            env "SSL_CERT_FILE" "SSL_CERT_DIR";
        CaPem "ca-pem", default "none",
            "PEM text of certificates to trust besides the system's.";
        ClientCert "client-cert-file", default "none",
            "PEM file of the certificate chain shown to servers that ask for one. Needs client-key-file.";
        ClientKey "client-key-file", default "none",
            "PEM file of the private key of client-cert-file.";
        TlsMin "tls-min-version", default "1.2",
            "Lowest TLS version: \"1.2\" or \"1.3\".";
        Proxy "proxy", default "from the environment",
            "URL of the proxy for every request: http://, https:// or socks5://, with [user:password@]host:port; \"\" for none. Without this key the variables say, in small letters first; HTTP_PROXY in capitals does not where REQUEST_METHOD is set, as in a CGI program.",
            env "HTTPS_PROXY" "HTTP_PROXY" "ALL_PROXY";
        NoProxy "no-proxy", default "from NO_PROXY",
            "Hosts to be reached without the proxy, separated by commas: names with their subdomains, addresses, CIDR ranges, host:port, or \"*\".",
            env "NO_PROXY";
        CertsDir "certs-dir", default "$HOME/.config/containers/certs.d:/etc/containers/certs.d:/etc/docker/certs.d",
            "Folders, separated by colons, with a folder host:port for each host that needs one: its *.crt are trusted besides the system's, its *.cert with *.key are shown to it. \"\" for none.",
            env "HOME";
        HostsDir "hosts-dir", default "none",
            "Folders, separated by colons, with containerd's configuration of registry hosts, such as /etc/containerd/certs.d: HOST/hosts.toml names the hosts to ask in place of HOST. \"\" for none.";
        RegistriesConf "registries-conf", default "none",
            "A registries.conf of podman, version 2: mirrors, locations, blocked registries, short names. \"default\" reads what podman reads: $CONTAINERS_REGISTRIES_CONF, the user's or /etc/containers/registries.conf, then the registries.conf.d beside both. \"\" for none.",
            env "CONTAINERS_REGISTRIES_CONF" "XDG_CONFIG_HOME" "XDG_CACHE_HOME" "HOME";
        RealmHosts "realm-hosts", default "any",
            "Hosts, separated by commas, whose token service may receive credentials besides the registry's own host. Other realms are refused.";
    }
    numbers {
        ConnectTimeout "connect-timeout-ms" "ms", default 30000, 1..=86400000,
            "Limit for name resolution and connect together.";
        TlsTimeout "tls-timeout-ms" "ms", default 30000, 1..=86400000,
            "Limit for the handshakes on a new connection, with the proxy and of TLS.";
        ResponseTimeout "response-timeout-ms" "ms", default 60000, 1..=86400000,
            "Limit from the last byte of the request to the last byte of the head of the answer.";
        StallTimeout "stall-timeout-ms" "ms", default 60000, 1..=86400000,
            "A body that moves fewer than stall-bytes-per-second over this time ends the attempt.";
        StallRate "stall-bytes-per-second" "bytes/s", default 1000, 0..=1000000000,
            "Lowest rate of a body; 0 asks for any byte at all in stall-timeout-ms.";
        Timeout "timeout-ms" "ms", default 0, 0..=2592000000,
            "Limit for a whole call, its answer's body included; 0 for none. An rt_op may set a shorter one.";
        Retries "retries" "attempts", default 3, 0..=100,
            "How often a call repeats requests after a connection that broke or was not made in time, a token service that gave no answer in time, or one of 408, 429, 500, 502, 503, 504, when they may be repeated at all: ping, token, redirects and resumed bodies together. Content that arrives gives the repetitions back.";
        RetryDelay "retry-delay-ms" "ms", default 500, 0..=3600000,
            "Upper bound of the first pause before a repetition; it doubles each time, up to a minute, and the pause is chosen at random below it.";
        RetryBudget "retry-budget-ms" "ms", default 60000, 0..=86400000,
            "Longest wait in all for the repetitions of a call. A Retry-After beyond it fails at once and is reported.";
        MaxHeader "max-header-bytes" "bytes", default 65536, 1024..=1048576,
            "Largest head of an answer.";
        MaxBody "max-body-bytes" "bytes", default 67108864, 0..=9223372036854775807,
            "Largest body that rt_response_body takes into memory.";
        MaxManifest "max-manifest-bytes" "bytes", default 4194304, 1..=1073741824,
            "Largest manifest, in either direction (distribution-spec: at least 4 MiB).";
        MaxToken "max-token-bytes" "bytes", default 1048576, 1024..=16777216,
            "Largest answer of a token service.";
        MaxError "max-error-bytes" "bytes", default 65536, 0..=16777216,
            "How much of the body of a refused request is read for diagnostics.";
        MaxChallenge "max-challenge-bytes" "bytes", default 16384, 256..=1048576,
            "Largest challenge (WWW-Authenticate) that is answered, all its fields together.";
        MaxPage "max-page-bytes" "bytes", default 16777216, 1024..=1073741824,
            "Largest page of a listing of names or referrers; max-body-bytes limits it, too.";
        MaxRedirects "max-redirects" "hops", default 10, 0..=100,
            "How many redirects are followed for one request.";
        MaxPages "max-pages" "pages", default 10000, 1..=10000000,
            "How many pages a listing may have.";
        PageSize "page-size" "names", default 0, 0..=1000000,
            "The n asked for when listing tags and repositories; 0 leaves it to the registry.";
        UploadChunk "upload-chunk-bytes" "bytes", default 0, 0..=1099511627776,
            "Uploads longer than this go in chunks of this size; 0 sends each blob in one request.";
        Parallel "parallel" "connections", default 1, 1..=64,
            "How many ranges of one blob rt_blob_save fetches side by side, and how many blobs rt_copy moves at once. rt_blob_save takes 4 MiB of memory for each, and 4 MiB more.";
        MaxRequests "max-requests-per-host" "requests", default 0, 0..=10000,
            "How many requests run at once at one host, over all transports of the process that set this; 0 for any number. Others wait, in their order and within the limits of their call. A request runs until its answer is read to the end or freed; a thread that has such an answer does not wait.";
    }
    switches {
        AllowPrivate "allow-private", default false,
            "Lets token services, redirects and upload locations lead to loopback, link-local and private addresses although the registry is not on such an address itself.";
        ShareTokens "share-tokens", default true,
            "Shares tokens with the other transports of the process that use the same credentials.";
        Insecure "insecure", default false,
            "Accepts any certificate. Logged as a warning by every transport that uses it.";
        Environment "environment", default true,
            "Lets rt_transport_new read the environment: proxies, certificates, places of configuration. rt_creds_docker and rt_creds_podman read it when they are called, whatever this says. Nothing reads it later.";
        Oauth2Password "oauth2-password", default false,
            "Trades user and password for a token by POST (OAuth 2.0, grant_type=password) rather than by GET, which follows where the answer is 400, 401, 404 or 405.";
        AnonymousFallback "anonymous-fallback", default false,
            "For transports that only pull: when the credentials are refused, tries again without. Logged as a warning, and told by rt_response_is_anonymous.";
    }
}

impl Number {
    /// The key as it is written.
    pub(crate) fn key(self) -> &'static str {
        NUMBERS.get(self as usize).map_or("", |(_, key, ..)| *key)
    }
}

/// Settings of a transport. Every key has a default; [`KEYS`] lists them.
#[derive(Clone)]
pub struct Options {
    texts: [Option<String>; TEXTS.len()],
    numbers: [i64; NUMBERS.len()],
    switches: [bool; SWITCHES.len()],
    log: Log,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        let mut options = Self {
            texts: [const { None }; TEXTS.len()],
            numbers: [0; NUMBERS.len()],
            switches: [false; SWITCHES.len()],
            log: Log::default(),
        };
        for (slot, (_, _, default, _, _)) in options.numbers.iter_mut().zip(NUMBERS) {
            *slot = *default;
        }
        for (slot, (_, _, default)) in options.switches.iter_mut().zip(SWITCHES) {
            *slot = *default;
        }
        options
    }

    /// Sets a text option.
    ///
    /// # Errors
    /// [`Unsupported`](crate::error::ErrorKind::Unsupported) for a key that is not in the table,
    /// [`Argument`](crate::error::ErrorKind::Argument) for a value it does not take or a key of another kind.
    pub fn set_text(&mut self, key: &str, value: &str) -> Result<()> {
        let Some(i) = TEXTS.iter().position(|(_, name)| *name == key) else {
            return Err(unknown(key, "text"));
        };
        check_text(key, value)?;
        if let Some(slot) = self.texts.get_mut(i) {
            *slot = Some(value.to_owned());
        }
        Ok(())
    }

    /// Sets a number or a switch (0 or 1).
    ///
    /// # Errors
    /// As [`set_text`](Options::set_text); a number outside its range is an `Argument` error that names it.
    pub fn set_number(&mut self, key: &str, value: i64) -> Result<()> {
        if let Some(i) = SWITCHES.iter().position(|(_, name, _)| *name == key) {
            let on = match value {
                0 => false,
                1 => true,
                _ => {
                    return Err(Error::argument(format!(
                        "option {key} takes 0 or 1, not {value}"
                    )));
                }
            };
            if let Some(slot) = self.switches.get_mut(i) {
                *slot = on;
            }
            return Ok(());
        }
        let Some((i, (_, _, _, min, max))) = NUMBERS
            .iter()
            .enumerate()
            .find(|(_, (_, name, ..))| *name == key)
        else {
            return Err(unknown(key, "number"));
        };
        if !(*min..=*max).contains(&value) {
            return Err(Error::argument(format!(
                "option {key} takes {min} to {max}, not {value}"
            )));
        }
        if let Some(slot) = self.numbers.get_mut(i) {
            *slot = value;
        }
        Ok(())
    }

    /// Sends log lines of `level` and below to `sink`, on the thread whose call they tell of.
    pub fn set_log(&mut self, level: Level, sink: Arc<LogFn>) {
        self.log = Log::new(level, sink);
    }

    /// Sends log lines nowhere.
    pub fn clear_log(&mut self) {
        self.log = Log::default();
    }

    pub(crate) fn text(&self, key: Text) -> Option<&str> {
        self.texts.get(key as usize).and_then(Option::as_deref)
    }

    pub(crate) fn number(&self, key: Number) -> u64 {
        self.numbers
            .get(key as usize)
            .map_or(0, |v| v.unsigned_abs())
    }

    pub(crate) fn millis(&self, key: Number) -> std::time::Duration {
        std::time::Duration::from_millis(self.number(key))
    }

    pub(crate) fn size(&self, key: Number) -> usize {
        usize::try_from(self.number(key)).unwrap_or(usize::MAX)
    }

    pub(crate) fn is_on(&self, key: Switch) -> bool {
        self.switches.get(key as usize).copied().unwrap_or(false)
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }
}

impl fmt::Debug for Options {
    /// Shows which keys were set, not their values: some hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set: Vec<_> = TEXTS
            .iter()
            .zip(&self.texts)
            .filter(|(_, v)| v.is_some())
            .map(|((_, name), _)| *name)
            .collect();
        f.debug_struct("Options")
            .field("texts", &set)
            .field("numbers", &self.numbers)
            .finish_non_exhaustive()
    }
}

fn unknown(key: &str, kind: &str) -> Error {
    match KEYS.iter().find(|k| k.name == key) {
        Some(k) => Error::argument(format!(
            "option {key} is not a {kind}: it takes {}",
            k.kind.range()
        )),
        None => Error::unsupported(format!(
            "there is no option \"{}\"",
            key.escape_debug().take(64).collect::<String>()
        )),
    }
}

fn check_text(key: &str, value: &str) -> Result<()> {
    let one_of = |allowed: &[&str]| {
        if allowed.contains(&value) {
            Ok(())
        } else {
            Err(Error::argument(format!(
                "option {key} takes one of: {}",
                allowed.join(", ")
            )))
        }
    };
    if key != "ca-pem" && value.chars().any(char::is_control) {
        return Err(Error::argument(format!(
            "option {key} has a control character in its value"
        )));
    }
    match key {
        "scheme" => one_of(&["http", "https"]),
        "tls-min-version" => one_of(&["1.2", "1.3"]),
        "user-agent" if value.is_empty() || !value.bytes().all(|b| (b' '..0x7f).contains(&b)) => {
            Err(Error::argument(
                "option user-agent takes visible ASCII text",
            ))
        }
        "proxy" => crate::net::proxy::check(value).map_err(|e| e.context("option proxy")),
        "no-proxy" => crate::net::proxy::NoProxy::parse(value).map(|_| ()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn every_key_has_its_kind_default_and_help() {
        for key in KEYS {
            assert!(key.help.ends_with('.'), "{}", key.name);
            assert_eq!(
                KEYS.iter().filter(|k| k.name == key.name).count(),
                1,
                "{}",
                key.name
            );
        }
    }

    /// A bad value of any key is told with the key and what it takes, and changes nothing.
    #[test]
    fn every_key_refuses_bad_values() {
        let refused = |result: Result<()>, words: &[&str]| {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Argument, "{error}");
            for word in words {
                assert!(
                    error.message().contains(word),
                    "{word:?} is not in: {error}"
                );
            }
        };
        for key in KEYS {
            let mut options = Options::new();
            let name = key.name;
            match key.kind {
                KeyKind::Text { .. } => {
                    refused(options.set_number(name, 1), &[name, "takes text"]);
                    // All but PEM is one line.
                    match name {
                        "ca-pem" => options.set_text(name, "a\nb").unwrap(),
                        _ => refused(options.set_text(name, "canary\nb"), &[name]),
                    }
                }
                KeyKind::Number {
                    default, min, max, ..
                } => {
                    for good in [default, min, max] {
                        options.set_number(name, good).unwrap();
                    }
                    let (low, high) = (min.to_string(), max.to_string());
                    let range = [name, low.as_str(), high.as_str()];
                    refused(options.set_number(name, min - 1), &range);
                    refused(options.set_number(name, max.wrapping_add(1)), &range);
                    refused(options.set_number(name, i64::MIN), &range);
                    refused(options.set_text(name, "1"), &range);
                    let at = NUMBERS.iter().position(|(_, n, ..)| *n == name).unwrap();
                    assert_eq!(options.numbers[at], max, "{name} keeps its value");
                }
                KeyKind::Switch { .. } => {
                    options.set_number(name, 1).unwrap();
                    for bad in [2, -1, i64::MAX] {
                        refused(options.set_number(name, bad), &[name, "0 or 1"]);
                    }
                    refused(options.set_text(name, "yes"), &[name, "0 or 1"]);
                    let at = SWITCHES.iter().position(|(_, n, _)| *n == name).unwrap();
                    assert!(options.switches[at], "{name} keeps its value");
                }
            }
        }
        for (name, value, words) in [
            ("scheme", "ftp", "http, https"),
            ("tls-min-version", "1.1", "1.2, 1.3"),
            ("user-agent", "", "visible ASCII"),
            ("user-agent", "caf\u{e9}", "visible ASCII"),
            ("proxy", "ftp://p:1", "http, https, socks5"),
            ("proxy", "http://u:canary@:1", "http://host:port"),
            ("no-proxy", "a b/c", "CIDR"),
        ] {
            let mut options = Options::new();
            let error = options.set_text(name, value).unwrap_err();
            assert!(!error.message().contains("canary"), "{error}");
            refused(Err(error), &[name, words]);
        }
    }

    #[test]
    fn wrong_keys_and_values() {
        let mut options = Options::new();
        assert_eq!(
            options.set_text("no-such", "x").unwrap_err().kind(),
            ErrorKind::Unsupported
        );
        assert_eq!(
            options.set_number("no-such", 1).unwrap_err().kind(),
            ErrorKind::Unsupported
        );
        assert_eq!(
            options.set_text("retries", "1").unwrap_err().kind(),
            ErrorKind::Argument
        );
        assert_eq!(
            options.set_text("scheme", "ftp").unwrap_err().kind(),
            ErrorKind::Argument
        );
        assert_eq!(
            options.set_text("user-agent", "a\r\nb").unwrap_err().kind(),
            ErrorKind::Argument
        );
        options.set_text("scheme", "http").unwrap();
        assert_eq!(options.text(Text::Scheme), Some("http"));
        assert_eq!(options.number(Number::Retries), 3);
        assert!(options.is_on(Switch::ShareTokens) && !options.is_on(Switch::AllowPrivate));
    }
}
