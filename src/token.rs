//! Access tokens: what a token service answers, and the cache that threads and transports share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ring::digest::{SHA256, digest};
use serde_json::Value;
use zeroize::Zeroize;

use crate::auth::Known;
use crate::creds::{Creds, Fingerprint, Owner, is_b64token};
use crate::error::{Error, Result};
use crate::flight::Flight;
use crate::json;
use crate::process::PerProcess;
use crate::scope::Scopes;
use crate::secret::Secret;
use crate::sorted::SortedMap;
use crate::url::Origin;

/// Life of a token whose answer does not tell (distribution, token authentication specification).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// Longest life believed.
const MAX_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// A token is not used in the last tenth of its life, or in the last seconds when that is less.
const MAX_MARGIN: Duration = Duration::from_secs(10);
/// Most token slots and challenges kept.
const MAX_ENTRIES: usize = 4096;
/// So many more token slots are kept without a look at whether they are of use.
const FEW_ENTRIES: usize = 64;

/// An access token.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) value: Secret,
    /// When the service was asked for it. By the local monotonic clock, as the next one.
    pub(crate) asked: Instant,
    /// What the service says of its own time is not looked at.
    usable_until: Instant,
    /// A refresh token that replaces the one used.
    pub(crate) refresh: Option<Secret>,
}

impl Token {
    pub(crate) fn is_usable(&self) -> bool {
        Instant::now() < self.usable_until
    }

    /// For how long from `now` on it is used.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn used_for(&self, now: Instant) -> Duration {
        self.usable_until.saturating_duration_since(now)
    }

    /// Reads the answer of a token service (token and OAuth2 documentation of distribution). The body is
    /// never quoted: it may hold tokens.
    pub(crate) fn parse(
        body: &[u8],
        asked: Instant,
        received: Instant,
    ) -> Result<Self, &'static str> {
        let text = json::text(body);
        let mended = json::mended(&text);
        let answer = serde_json::from_str(&mended).map(Wiped);
        json::wipe(mended);
        json::wipe(text);
        let answer = answer.map_err(|_| "its answer is not JSON")?;
        let answer = answer
            .0
            .as_object()
            .ok_or("its answer is not a JSON object")?;
        let text = |name| {
            answer
                .get(name)
                .and_then(Value::as_str)
                .filter(|t: &&str| !t.is_empty())
        };
        let value = text("token")
            .or_else(|| text("access_token"))
            .ok_or("its answer holds no token")?;
        if !is_b64token(value) {
            return Err("its token has characters that RFC 6750 does not allow");
        }
        let life = life(answer.get("expires_in"));
        let margin = (life / 10).min(MAX_MARGIN);
        let refresh = text("refresh_token")
            .filter(|t| !t.chars().any(char::is_control))
            .map(Secret::new);
        Ok(Self {
            value: Secret::new(value),
            asked,
            usable_until: received + (life - margin),
            refresh,
        })
    }
}

/// Whether a text, which may be cut off, has the members of an answer with tokens in it.
pub(crate) fn is_in(text: &str) -> bool {
    let is_name = |rest: &str| {
        ["token", "access_token", "refresh_token", "id_token"]
            .iter()
            .filter_map(|name| rest.strip_prefix(name)?.strip_prefix('"'))
            .filter_map(|rest| rest.trim_start().strip_prefix(':'))
            .any(|value| value.trim_start().starts_with('"'))
    };
    text.match_indices('"')
        .any(|(at, _)| text.get(at + 1..).is_some_and(is_name))
}

/// A document whose texts are overwritten when it goes.
struct Wiped(Value);

impl Drop for Wiped {
    fn drop(&mut self) {
        fn wipe(value: &mut Value) {
            match value {
                Value::String(text) => text.zeroize(),
                Value::Array(list) => list.iter_mut().for_each(wipe),
                Value::Object(members) => members.values_mut().for_each(wipe),
                _ => {}
            }
        }
        wipe(&mut self.0);
    }
}

/// `expires_in`, leniently: a number or a number as text.
fn life(expires_in: Option<&Value>) -> Duration {
    let seconds = match expires_in {
        Some(Value::Number(n)) => n.as_f64(),
        Some(Value::String(s)) => s.trim().parse::<f64>().ok(),
        _ => None,
    };
    match seconds {
        Some(s) if s > 0.0 => Duration::try_from_secs_f64(s)
            .unwrap_or(MAX_LIFE)
            .min(MAX_LIFE),
        _ => DEFAULT_LIFE,
    }
}

/// What a token is for. Tokens of different credentials never meet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) home: Origin,
    /// The realm as it is asked, its query included.
    pub(crate) realm: String,
    pub(crate) service: Option<String>,
    pub(crate) scopes: Scopes,
    pub(crate) creds: Fingerprint,
}

#[derive(Default)]
struct Slots {
    by_key: SortedMap<Key, Slot>,
    /// How many there may be before the dead ones are looked for.
    enough: usize,
}

struct Slot {
    token: Arc<Flight<Token>>,
    owner: Owner,
}

impl Slot {
    /// Whether a token of it is used, or may be.
    fn is_of_use(&self) -> bool {
        let is_used = Arc::strong_count(&self.token) > 1;
        is_used || (self.owner.exists() && !self.token.is_vacant(|t| t.value.is_usable()))
    }
}

impl Slots {
    fn get(&mut self, key: &Key, creds: &Creds) -> Arc<Flight<Token>> {
        if let Some(slot) = self.by_key.get(key) {
            return Arc::clone(&slot.token);
        }
        if self.by_key.len() >= self.enough.max(FEW_ENTRIES) {
            self.sweep();
        }
        let token = Arc::default();
        let slot = Slot {
            token: Arc::clone(&token),
            owner: creds.owner(),
        };
        self.by_key.insert(key.clone(), slot);
        token
    }

    /// Forgets the tokens that are of no use any more. A process that makes credentials again and again leaves
    /// them behind. Looking for them each time a few have come costs little beside the exchanges that brought those.
    fn sweep(&mut self) {
        self.by_key.retain(Slot::is_of_use);
        if self.by_key.len() >= MAX_ENTRIES {
            self.by_key.clear();
        }
        self.enough = (self.by_key.len() + FEW_ENTRIES).min(MAX_ENTRIES);
    }
}

/// Tokens and challenges by what they are for.
#[derive(Default)]
pub(crate) struct TokenCache {
    slots: Mutex<Slots>,
    challenges: Mutex<SortedMap<Origin, Known>>,
    rotated: Mutex<SortedMap<Rotated, Secret>>,
}

/// A refresh token as it was configured, at the service that replaces it; without the token itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rotated {
    realm: Origin,
    sum: Vec<u8>,
}

impl Rotated {
    pub(crate) fn of(realm: &Origin, token: &Secret) -> Self {
        let sum = digest(&SHA256, token.expose().as_bytes());
        Self {
            realm: realm.clone(),
            sum: sum.as_ref().to_vec(),
        }
    }
}

impl TokenCache {
    /// The place of a token for `key`, which is of these credentials.
    pub(crate) fn slot(&self, key: &Key, creds: &Creds) -> Arc<Flight<Token>> {
        self.slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key, creds)
    }

    /// What the origin asked for last.
    pub(crate) fn known(&self, origin: &Origin) -> Option<Known> {
        self.challenges
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(origin)
            .cloned()
    }

    fn rotations(&self) -> MutexGuard<'_, SortedMap<Rotated, Secret>> {
        self.rotated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the service last sent in the place of a refresh token.
    pub(crate) fn rotated(&self, token: &Rotated) -> Option<Secret> {
        self.rotations().get(token).cloned()
    }

    pub(crate) fn rotate(&self, token: Rotated, new: Secret) {
        let mut rotated = self.rotations();
        if rotated.len() >= MAX_ENTRIES {
            rotated.clear();
        }
        rotated.insert(token, new);
    }

    pub(crate) fn forget_rotated(&self, token: &Rotated) {
        self.rotations().remove(token);
    }

    pub(crate) fn learn(&self, origin: &Origin, known: Known) {
        let mut challenges = self
            .challenges
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if challenges.len() >= MAX_ENTRIES {
            challenges.clear();
        }
        challenges.insert(origin.clone(), known);
    }

    /// Whether what the origin asked for has led to a token that is of use.
    fn has_token_of(&self, origin: &Origin, known: &Known) -> bool {
        let Known::Bearer { realm, service } = known else {
            return false;
        };
        let realm = realm.wire();
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.by_key.iter().any(|(key, slot)| {
            key.home == *origin
                && key.realm == realm.as_str()
                && key.service == *service
                && slot
                    .token
                    .now()
                    .is_some_and(|token| token.value.is_usable())
        })
    }

    /// Forgets what the origin asked for if it is still this, and no token that is of use came of it.
    pub(crate) fn unlearn(&self, origin: &Origin, known: &Known) {
        if self.has_token_of(origin, known) {
            return;
        }
        let mut challenges = self
            .challenges
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if challenges.get(origin) == Some(known) {
            challenges.remove(origin);
        }
    }
}

/// The cache that the transports of this process share: those that check certificates one, and those that accept any
/// another, for what the latter were told may be anybody's word. A forked child has its own: the parent's may have been
/// locked by a thread that the child does not have.
pub(crate) fn shared_cache(accepts_any: bool) -> Arc<TokenCache> {
    static CACHE: PerProcess<[Arc<TokenCache>; 2]> = PerProcess::new();
    let [verified, unverified] = CACHE.get(Default::default);
    Arc::clone(if accepts_any { unverified } else { verified })
}

/// An error of the token service that says what to do, and nothing it must not.
pub(crate) fn refused(host: &Origin, why: &str) -> Error {
    Error::auth(format!("the token service at {host} gave no token: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::call::Call;
    use crate::options::Options;

    fn seconds(body: &str) -> Result<(String, u64), &'static str> {
        let now = Instant::now();
        let token = Token::parse(body.as_bytes(), now, now)?;
        let used = token.used_for(now);
        Ok((token.value.expose().to_owned(), used.as_secs()))
    }

    #[test]
    fn answers() {
        for (body, want) in [
            (r#"{"token":"t"}"#, Some(("t", 54))),
            (r#"{"access_token":"x"}"#, Some(("x", 54))),
            (r#"{"token":"t","access_token":"x"}"#, Some(("t", 54))),
            (r#"{"token":"","access_token":"x"}"#, Some(("x", 54))),
            (r#"{"token":300,"access_token":"x"}"#, Some(("x", 54))),
            (r#"{"token":"t","expires_in":300}"#, Some(("t", 290))),
            (r#"{"token":"t","expires_in":"300"}"#, Some(("t", 290))),
            (r#"{"token":"t","expires_in":299.5}"#, Some(("t", 289))),
            (r#"{"token":"t","expires_in":2}"#, Some(("t", 1))),
            (r#"{"token":"t","expires_in":-1}"#, Some(("t", 54))),
            (
                r#"{"token":"t","expires_in":1e18}"#,
                Some(("t", 365 * 24 * 3600 - 10)),
            ),
            (
                r#"{"token":"t","expires_in":1e400}"#,
                Some(("t", 365 * 24 * 3600 - 10)),
            ),
            (r#"{"token":"t","note":"\ud83d"}"#, Some(("t", 54))),
            ("\u{feff}{\"token\":\"t\"}", Some(("t", 54))),
            (r#"{"token":"\ud83d"}"#, None),
            (r#"{"token":"t","expires_in":"nan"}"#, Some(("t", 54))),
            (
                r#"{"token":"t","issued_at":"2001-01-01T00:00:00Z","expires_in":300}"#,
                Some(("t", 290)),
            ),
            (
                r#"{"token":"a.b_c~d+e/f-g=="}"#,
                Some(("a.b_c~d+e/f-g==", 54)),
            ),
            (r#"{"token":null}"#, None),
            (r#"{"token":""}"#, None),
            (r#"{"token":["a"]}"#, None),
            (r#"{"token":"a b"}"#, None),
            (r#"{"token":"a\r\nX: y"}"#, None),
            (r#"{"token":"a\u0000b"}"#, None),
            (r#"{"token":"="}"#, None),
            (r#"{"refresh_token":"secret"}"#, None),
            ("[]", None),
            (r#""x""#, None),
            ("<html>", None),
            ("", None),
            (r#"{"token":"t"} trailing"#, None),
        ] {
            assert_eq!(
                seconds(body).ok(),
                want.map(|(t, s)| (t.to_owned(), s)),
                "{body}"
            );
        }
    }

    /// Tokens that died, and those of a callback that nobody has any more, do not pile up; those of use stay.
    #[test]
    fn dead_tokens_are_forgotten() {
        let home = crate::url::Url::parse("https://r.example/").unwrap();
        let mut slots = Slots::default();
        let key = |n: usize, creds: &Creds| Key {
            home: home.origin().clone(),
            realm: format!("https://r.example/token?{n}"),
            service: None,
            scopes: Scopes::default(),
            creds: creds.fingerprint(),
        };
        let call = Call::new(None, &Options::new(), &Arc::default());
        let fill = |slot: &Flight<Token>| {
            let now = Instant::now();
            let make = || Token::parse(br#"{"token":"t"}"#, now, now).map_err(Error::auth);
            slot.get(&call, |_| true, make).unwrap();
        };
        let ask_none = || Creds::callback(Arc::new(|_, _| Ok(Creds::anonymous())));
        let (nobody, kept) = (Creds::anonymous(), ask_none());
        let in_use = slots.get(&key(0, &nobody), &nobody);
        let mut of_use = Vec::new();
        for n in 1..=200 {
            let creds = if n % 2 == 0 { &nobody } else { &kept };
            let slot = slots.get(&key(n, creds), creds);
            fill(&slot);
            of_use.push(Arc::downgrade(&slot));
        }
        for n in 201..10_000 {
            let gone = ask_none();
            if n % 2 == 0 {
                slots.get(&key(n, &nobody), &nobody);
            } else {
                fill(&slots.get(&key(n, &gone), &gone));
            }
            drop(gone);
            let kept = slots.by_key.len();
            assert!(kept <= 201 + FEW_ENTRIES, "{kept}");
        }
        assert!(Arc::ptr_eq(&in_use, &slots.get(&key(0, &nobody), &nobody)));
        assert!(of_use.iter().all(|slot| slot.upgrade().is_some()));
    }

    #[test]
    fn the_shared_caches() {
        for any in [false, true] {
            assert!(Arc::ptr_eq(&shared_cache(any), &shared_cache(any)));
        }
        assert!(!Arc::ptr_eq(&shared_cache(true), &shared_cache(false)));
    }
}
