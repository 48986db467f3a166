//! Authentication to one registry: which credentials each request carries, and what to do when they are
//! refused.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use ureq::http::header::{self, HeaderMap, HeaderValue};
use zeroize::Zeroizing;

use crate::challenge::{self, BearerChallenge, Verdict};
use crate::creds::entry::Found;
use crate::creds::{Credential, Creds, Fingerprint};
use crate::error::{Error, ErrorKind, Result};
use crate::flight::{Flight, Shared};
use crate::name::Repository;
use crate::net::call::Call;
use crate::options::{Number, Options, Switch};
use crate::policy::Purpose;
use crate::refusal::Refusal;
use crate::retry::{self, Budget};
use crate::scope::{Actions, Scopes};
use crate::secret::Secret;
use crate::send::{Answer, Message, Payload, Repeat, Route, Signer};
use crate::source::Source;
use crate::token::{self, Key, Rotated, Token, TokenCache, shared_cache};
use crate::url::{Origin, Url, form_encode};

/// What the client calls itself towards a token service that wants to know.
const CLIENT_ID: &str = "registry-transport";
/// Most redirects of a token request.
const MAX_TOKEN_REDIRECTS: u64 = 5;

/// What a registry asks for, as its latest challenge said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

/// What one transport was told: other repositories of its registry may have a token service of their own.
#[derive(Default)]
struct Told {
    last: Option<Known>,
    /// What others were told, and what led to no token here.
    misled: Option<Known>,
}

/// A credential, and where it was found.
pub(crate) struct Held {
    pub(crate) credential: Credential,
    pub(crate) found: Found,
}

/// What credentials are for.
pub(crate) struct Subject<'a> {
    /// `host[:port]`.
    pub(crate) registry: &'a str,
    pub(crate) repository: Option<&'a Repository>,
    pub(crate) actions: Actions,
    /// Whether any certificate will do.
    pub(crate) is_insecure: bool,
}

/// Credentials and tokens for one host.
pub(crate) struct Authenticator {
    creds: Creds,
    fingerprint: Fingerprint,
    /// `host[:port]`: whose credentials are looked up, and the service of a challenge that names none.
    registry: String,
    repository: Option<String>,
    own: Scopes,
    learned: Mutex<Scopes>,
    told: Mutex<Told>,
    cache: Arc<TokenCache>,
    credential: Flight<Arc<Held>>,
    /// The number of a credential that did not suffice: the next request asks its source again.
    spent: AtomicU64,
    posts_passwords: bool,
    may_fall_back: bool,
    fell_back: AtomicBool,
    max_token: usize,
    max_redirects: u64,
    max_challenge: usize,
}

impl Authenticator {
    pub(crate) fn new(creds: Creds, subject: &Subject<'_>, options: &Options) -> Self {
        let cache = if options.is_on(Switch::ShareTokens) {
            shared_cache(subject.is_insecure)
        } else {
            Arc::default()
        };
        Self {
            fingerprint: creds.fingerprint(),
            creds,
            registry: subject.registry.to_owned(),
            repository: subject.repository.map(|r| r.as_str().to_owned()),
            own: subject.actions.scopes(subject.repository),
            learned: Mutex::default(),
            told: Mutex::default(),
            cache,
            credential: Flight::default(),
            spent: AtomicU64::new(0),
            posts_passwords: options.is_on(Switch::Oauth2Password),
            may_fall_back: subject.actions.only_pulls() && options.is_on(Switch::AnonymousFallback),
            fell_back: AtomicBool::new(false),
            max_token: options.size(Number::MaxToken),
            max_challenge: options.size(Number::MaxChallenge),
            max_redirects: options
                .number(Number::MaxRedirects)
                .min(MAX_TOKEN_REDIRECTS),
        }
    }

    /// Whether the credentials were refused and the transport goes on without.
    pub(crate) fn fell_back(&self) -> bool {
        self.fell_back.load(Ordering::Relaxed)
    }

    /// What was learned of the registry's way to authenticate.
    pub(crate) fn known(&self, home: &Origin) -> Option<Known> {
        let last = self.told().last.clone();
        last.or_else(|| self.guess(home))
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What another transport was told.
    fn guess(&self, home: &Origin) -> Option<Known> {
        let known = self.cache.known(home);
        known.filter(|known| self.told().misled.as_ref() != Some(known))
    }

    fn learn(&self, home: &Origin, known: Known) {
        self.told().last = Some(known.clone());
        self.cache.learn(home, known);
    }

    fn unlearn(&self, home: &Origin, known: &Known) {
        self.told().last.take_if(|last| last == known);
        self.cache.unlearn(home, known);
    }

    /// Whether there are credentials that may have been refused: not where the source had none.
    pub(crate) fn has_credentials(&self) -> bool {
        let is_none = |c: &Credential| *c == Credential::Anonymous;
        let has_none = self.creds.fixed().is_some_and(is_none)
            || self
                .credential
                .now()
                .is_some_and(|held| is_none(&held.value.credential));
        !has_none && !self.fell_back()
    }

    /// Has the call know the secret that is used: what an earlier one sent may come back in this one.
    pub(crate) fn tell_secret(&self, held: Option<&Shared<Arc<Held>>>, call: &Call) {
        let held = held.map(|held| &held.value.credential);
        if let Some(
            Credential::Basic { password: it, .. }
            | Credential::Identity(it)
            | Credential::Bearer(it),
        ) = self.creds.fixed().or(held)
        {
            call.secrets().remember(it.expose());
        }
    }

    /// Forgets a credential that was refused, so that the next use asks its source again.
    fn forget(&self, serial: u64) {
        self.credential.refuse(serial);
    }

    /// The credential that is used now, looked up if need be.
    pub(crate) fn credential(&self, call: &Call) -> Result<Shared<Arc<Held>>> {
        if self.fell_back() {
            return Ok(Shared {
                value: Arc::new(Held {
                    credential: Credential::Anonymous,
                    found: Found::said("option anonymous-fallback: the credentials were refused"),
                }),
                serial: 0,
            });
        }
        self.credential.get(
            call,
            |held| held.serial != self.spent.load(Ordering::Relaxed),
            || {
                let (credential, found) =
                    self.creds
                        .resolve(&self.registry, self.repository.as_deref(), call)?;
                call.log.info(|| {
                    let (kind, source) = (credential.kind(), &found.source);
                    format!("{kind} for {} from {source}", self.registry)
                });
                Ok(Arc::new(Held { credential, found }))
            },
        )
    }

    /// Asks the source again after `used` was refused, and gives what it says now if that is something else.
    /// Many threads may have used it: one of them asks.
    fn newer(&self, used: &Shared<Arc<Held>>, call: &Call) -> Result<Option<Shared<Arc<Held>>>> {
        if self.creds.fixed().is_some() {
            return Ok(None);
        }
        self.forget(used.serial);
        let new = self.credential(call)?;
        Ok(Some(new).filter(|new| new.value.credential != used.value.credential))
    }

    /// Whether it was never to have credentials.
    pub(crate) fn is_without_source(&self) -> bool {
        matches!(self.creds.fixed(), Some(Credential::Anonymous))
    }

    /// What the next token is asked for.
    pub(crate) fn all_scopes(&self) -> Scopes {
        self.scopes(&Scopes::default())
    }

    fn scopes(&self, extra: &Scopes) -> Scopes {
        let mut all = self.own.clone();
        all.merge(&self.learned.lock().unwrap_or_else(PoisonError::into_inner));
        all.merge(extra);
        all
    }

    fn forget_scopes(&self) {
        *self.learned.lock().unwrap_or_else(PoisonError::into_inner) = Scopes::default();
    }

    /// Goes on without credentials if that is allowed and new to a call that `went_without` or did not.
    fn fall_back(&self, went_without: bool, call: &Call, why: &str) -> bool {
        if !self.may_fall_back || went_without {
            return false;
        }
        if !self.fell_back.swap(true, Ordering::Relaxed) {
            call.log.warn(|| {
                format!(
                    "the credentials for {} were refused ({why}): going on without",
                    self.registry
                )
            });
        }
        true
    }
}

/// Signs the requests of one call.
pub(crate) struct CallSigner<'a> {
    auth: &'a Authenticator,
    route: &'a Route<'a>,
    /// Scopes this call needs besides those of the transport, and those it was told of.
    extra: Scopes,
    /// It needed some before it was told of any.
    is_apart: bool,
    /// What this call was told last: what the transports share may be forgotten by another one meanwhile.
    told: Option<Known>,
    /// Why there is no token of this kind. A service that said no is not asked the same again in a call.
    failed: Option<(Key, Error)>,
    sent: Sent,
    /// The last request was signed after the transport had fallen back to none.
    went_without: bool,
    rounds: Rounds,
    /// When the latest refusal came.
    refused: Option<Instant>,
    /// What its challenge asks for is not what will be asked for.
    is_ping: bool,
    /// The credential that was there before the request: its source may say something else by now.
    before: Option<u64>,
}

/// What the last request carried.
enum Sent {
    Nothing,
    Basic(Shared<Arc<Held>>),
    Fixed(Shared<Arc<Held>>),
    Token {
        slot: Arc<Flight<Token>>,
        serial: u64,
        /// Asked for since the latest refusal.
        is_fresh: bool,
        /// The credential there was: another thread may have got a newer one since.
        by: Option<Shared<Arc<Held>>>,
    },
}

/// What was already tried in answer to a 401 or 403; each is tried once in a call.
#[derive(Debug, Default, Clone, Copy)]
struct Rounds {
    answered: bool,
    refreshed: bool,
    renewed: bool,
    widened: bool,
    switched: bool,
    dropped: bool,
    stripped: bool,
    resolved: bool,
    bare: bool,
}

/// What to do about a 401 or 403.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Trade credentials for a token.
    UseToken,
    /// Send the password.
    UseBasic,
    /// The token is spent: get another.
    Refresh,
    /// The token is too narrow: get one with the scopes of the challenge.
    Widen,
    /// Ask the source of the credentials again.
    Resolve,
    /// Drop the token and see what the registry asks for.
    GoBare,
    /// The answer is final.
    GiveUp,
}

/// A way to go on after a refusal: its mark among what was tried, and what to do.
type Way = (fn(&mut Rounds) -> &mut bool, Step);

const REFRESH: Way = (|r| &mut r.refreshed, Step::Refresh);
const RENEW: Way = (|r| &mut r.renewed, Step::Refresh);
const WIDEN: Way = (|r| &mut r.widened, Step::Widen);
const RESOLVE: Way = (|r| &mut r.resolved, Step::Resolve);

/// Decides what to do about a 401 or a 403, from what was sent, what the registry wants now, and what was tried.
fn decide(status: u16, sent: &Sent, wants: &Verdict, rounds: &mut Rounds) -> Step {
    let said = match wants {
        Verdict::Bearer(c) => c.error.as_deref(),
        _ => None,
    };
    let ways: &[Way] = match (sent, wants) {
        _ if said == Some("invalid_request") => &[],
        // With either status: RFC 6750 section 3.1 has it come with 403.
        (Sent::Token { .. }, _) if said == Some("insufficient_scope") => &[WIDEN, RESOLVE],
        // A password that has expired is answered with 403 by registries whose passwords do.
        (Sent::Basic(_), _) if status == 403 => &[RESOLVE],
        _ if status == 403 => &[],
        (Sent::Nothing, Verdict::Bearer(_)) => &[(|r| &mut r.answered, Step::UseToken)],
        (Sent::Nothing, Verdict::Basic) => &[(|r| &mut r.answered, Step::UseBasic)],
        (Sent::Nothing, Verdict::None { .. }) => &[],
        (Sent::Token { .. }, Verdict::Basic) => &[(|r| &mut r.dropped, Step::UseBasic)],
        (Sent::Token { is_fresh: true, .. }, _) => &[REFRESH, RESOLVE],
        // In the place of the refused one came one that others had: it may have died the same way.
        (Sent::Token { .. }, _) => &[REFRESH, RENEW, RESOLVE],
        (Sent::Basic(_), Verdict::Bearer(_)) => &[(|r| &mut r.switched, Step::UseToken)],
        // Some registries name Basic for a token that has expired, and the token service where there is nothing.
        (Sent::Basic(_), Verdict::Basic) if rounds.dropped => {
            &[(|r| &mut r.stripped, Step::GoBare), RESOLVE]
        }
        (Sent::Basic(_) | Sent::Fixed(_), _) => &[RESOLVE],
    };
    for (tried, step) in ways {
        if !std::mem::replace(tried(rounds), true) {
            return *step;
        }
    }
    Step::GiveUp
}

impl<'a> CallSigner<'a> {
    pub(crate) fn new(auth: &'a Authenticator, route: &'a Route<'a>, extra: Scopes) -> Self {
        let held = auth.credential.now();
        auth.tell_secret(held.as_ref(), route.call);
        Self {
            auth,
            route,
            is_apart: !extra.is_empty(),
            extra,
            told: None,
            failed: None,
            sent: Sent::Nothing,
            went_without: false,
            rounds: Rounds::default(),
            refused: None,
            is_ping: false,
            before: match auth.creds.fixed() {
                Some(_) => None,
                None => held.map(|held| held.serial),
            },
        }
    }

    /// Signs a ping. What its challenge asks for is not what will be asked for: some registries name the catalog there,
    /// or a repository, which cannot be the one that matters, and have no token for it.
    pub(crate) fn of_ping(auth: &'a Authenticator, route: &'a Route<'a>) -> Self {
        Self {
            is_ping: true,
            ..Self::new(auth, route, Scopes::default())
        }
    }

    /// Asks the source again after `used`, which may be no credential at all, did not suffice; whether it says
    /// something else. What it said in the course of this request is only asked for again by the next one.
    fn resolve_again(&self, used: &Shared<Arc<Held>>) -> Result<bool> {
        let is_current = |now: Shared<_>| now.serial == used.serial;
        if self.before == Some(used.serial) || !self.auth.credential.now().is_some_and(is_current) {
            return Ok(self.auth.newer(used, self.route.call)?.is_some());
        }
        self.auth.spent.store(used.serial, Ordering::Relaxed);
        Ok(false)
    }

    fn learn(&mut self, known: Known) {
        self.told = Some(known.clone());
        self.auth.learn(self.route.policy.home(), known);
    }

    /// Forgets a challenge that led to no token: it may have been a mistake of that moment, and the next call
    /// asks the registry again. What was asked for besides by this call alone says nothing about the challenge,
    /// and where others have tokens by it, it is no mistake.
    fn unlearn(&mut self, realm: &Url, service: Option<&str>) {
        if self.is_apart {
            return;
        }
        self.told = None;
        self.extra = Scopes::default();
        self.unlearn_for_others(realm, service);
    }

    /// The same, but that this call goes on with it.
    fn unlearn_for_others(&self, realm: &Url, service: Option<&str>) {
        let known = Known::Bearer {
            realm: realm.clone(),
            service: service.map(str::to_owned),
        };
        self.auth.unlearn(self.route.policy.home(), &known);
        self.auth.forget_scopes();
    }

    /// Merges the scopes a challenge asks for into those the transport asks for from now on.
    fn widen(&mut self, scopes: &[String]) {
        if self.is_ping {
            return;
        }
        let told = Scopes::of(scopes.iter().map(String::as_str));
        self.extra.merge(&told);
        // What this call needs besides, such as another repository to mount from, is its own affair.
        if !self.is_apart {
            self.auth
                .learned
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .merge(&told);
        }
    }

    fn bearer(&mut self, status: u16, url: &Url, c: &BearerChallenge) -> Result<()> {
        let realm = url.resolve(&c.realm).map_err(|e| {
            Error::auth(format!(
                "{} names a token service that cannot be used: {e}",
                self.auth.registry
            ))
            .with_http_status(status)
        })?;
        self.learn(Known::Bearer {
            realm: realm.without(self.route.call.secrets()),
            service: c.service.clone(),
        });
        self.widen(&c.scope);
        Ok(())
    }

    fn token(
        &mut self,
        realm: &Url,
        service: Option<&str>,
        budget: &mut Budget,
    ) -> Result<HeaderValue> {
        let scopes = self.auth.scopes(&self.extra);
        let key = Key {
            home: self.route.policy.home().clone(),
            realm: realm.wire().to_string(),
            service: service.map(str::to_owned),
            scopes: scopes.clone(),
            // What came without credentials is not for those who have them.
            creds: match self.went_without {
                true => Creds::anonymous().fingerprint(),
                false => self.auth.fingerprint.clone(),
            },
        };
        if let Some((_, e)) = self.failed.take_if(|(failed, _)| *failed == key) {
            // This call may yet do without credentials.
            self.unlearn_for_others(realm, service);
            return Err(e);
        }
        let slot = self.auth.cache.slot(&key, &self.auth.creds);
        let call = self.route.call;
        let went_without = self.went_without;
        let by = (self.auth.credential.now()).filter(|_| !went_without);
        let refused = self.refused;
        let is_fresh = |token: &Token| refused.is_none_or(|refused| token.asked >= refused);
        let must_be_fresh = self.rounds.renewed;
        // Another call found meanwhile that the credentials are no good: what comes may be nobody's, and is not for those
        // who wait.
        let mut is_late = false;
        let mut in_time = || {
            is_late = self.auth.fell_back() != went_without;
            match is_late {
                true => Err(Error::cancelled("the credentials were refused")),
                false => Ok(()),
            }
        };
        let got = slot.get(
            call,
            |t| t.value.is_usable() && (!must_be_fresh || is_fresh(&t.value)),
            || {
                let credential = self.auth.credential(call)?;
                in_time()?;
                let exchange = Exchange {
                    auth: self.auth,
                    route: self.route,
                    realm,
                    service,
                    scopes: &scopes,
                };
                let token = match exchange.run(&credential, budget) {
                    Err(e) if matches!(e.http_status(), Some(400 | 401 | 403)) => {
                        match self.auth.newer(&credential, call)? {
                            Some(newer) => {
                                in_time()?;
                                exchange.run(&newer, budget)
                            }
                            None => Err(e),
                        }
                    }
                    other => other,
                }?;
                in_time()?;
                Ok(token)
            },
        );
        if is_late {
            return Err(Error::auth("the credentials were refused"));
        }
        let got = match got {
            Err(e) if !matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::State) => {
                self.unlearn(realm, service);
                self.failed = Some((key, e.clone()));
                return Err(e);
            }
            other => other?,
        };
        let value = bearer(&got.value.value)?;
        self.sent = Sent::Token {
            slot,
            serial: got.serial,
            is_fresh: is_fresh(&got.value),
            by,
        };
        Ok(value)
    }

    fn sign_once(&mut self, budget: &mut Budget) -> Result<Option<HeaderValue>> {
        let call = self.route.call;
        self.sent = Sent::Nothing;
        self.went_without = self.auth.fell_back();
        if let Some(Credential::Bearer(token)) =
            self.auth.creds.fixed().filter(|_| !self.went_without)
        {
            let value = bearer(token)?;
            self.sent = Sent::Fixed(self.auth.credential(call)?);
            return Ok(Some(value));
        }
        if std::mem::take(&mut self.rounds.bare) {
            return Ok(None);
        }
        let last = self.auth.told().last.clone();
        let (is_new, is_guess) = (self.told.is_some(), last.is_none());
        let guess = || self.auth.guess(self.route.policy.home());
        let Some(known) = self.told.clone().or(last).or_else(guess) else {
            return Ok(None);
        };
        if !matches!(
            self.auth.creds.fixed(),
            Some(Credential::Anonymous | Credential::Identity(_))
        ) {
            let credential = self.auth.credential(call)?;
            if let Credential::Bearer(token) = &credential.value.credential {
                let value = bearer(token)?;
                self.sent = Sent::Fixed(credential);
                return Ok(Some(value));
            }
        }
        match known {
            Known::Bearer { realm, service } => {
                match self.token(&realm, service.as_deref(), budget) {
                    // Another repository's token service, or one that is no more: the answer to the bare request
                    // decides. What the own one says of the credentials stands.
                    Err(e)
                        if !is_new
                            && !self.is_apart
                            && call.check().is_ok()
                            && e.kind() != ErrorKind::State
                            && (is_guess || is_no_more(&e)) =>
                    {
                        call.log
                            .info(|| format!("asking {} what it wants: {e}", self.auth.registry));
                        if is_guess {
                            self.auth.told().misled = Some(Known::Bearer { realm, service });
                        }
                        Ok(None)
                    }
                    other => other.map(Some),
                }
            }
            Known::Basic => {
                let credential = self.auth.credential(call)?;
                match &credential.value.credential {
                    Credential::Basic { user, password } => {
                        let value = basic(user, password)?;
                        self.sent = Sent::Basic(credential);
                        Ok(Some(value))
                    }
                    // Somebody else's challenge may have been learned; without a password the request goes
                    // out as it is.
                    _ => Ok(None),
                }
            }
        }
    }
}

impl Signer for CallSigner<'_> {
    fn sign(&mut self, budget: &mut Budget) -> Result<Option<HeaderValue>> {
        match self.sign_once(budget) {
            Err(e)
                if e.kind() == ErrorKind::Auth
                    && self
                        .auth
                        .fall_back(self.went_without, self.route.call, e.message()) =>
            {
                self.rounds = Rounds::default();
                self.failed = None;
                self.sign_once(budget)
            }
            other => other,
        }
    }

    fn is_current(&self) -> bool {
        let Sent::Token { slot, serial, .. } = &self.sent else {
            return true;
        };
        slot.now()
            .is_some_and(|token| token.serial == *serial && token.value.is_usable())
    }

    fn refused(&mut self, status: u16, url: &Url, headers: &HeaderMap) -> Result<bool> {
        let length: usize = headers
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .map(HeaderValue::len)
            .sum();
        if length > self.auth.max_challenge {
            return Err(Error::limit(format!(
                "{} sent a challenge of more than {} bytes; option max-challenge-bytes sets the limit",
                url.origin(),
                self.auth.max_challenge
            ))
            .with_http_status(status));
        }
        let fields = headers
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .map(HeaderValue::as_bytes);
        let wants = challenge::judge(fields);
        let mut step = decide(status, &self.sent, &wants, &mut self.rounds);
        self.refused = Some(Instant::now());
        if step == Step::UseBasic {
            self.learn(Known::Basic);
            let is_usable = |held: &Held| {
                matches!(
                    held.credential,
                    Credential::Basic { .. } | Credential::Bearer(_)
                )
            };
            let credential = self.auth.credential(self.route.call)?;
            if !is_usable(&credential.value) {
                step = match self.sent {
                    Sent::Token { .. } => Step::GoBare,
                    _ if self.resolve_again(&credential)?
                        && is_usable(&self.auth.credential(self.route.call)?.value) =>
                    {
                        Step::UseBasic
                    }
                    _ => Step::GiveUp,
                };
            }
        }
        if let Verdict::Bearer(c) = &wants {
            // A 403 is no challenge but for the scopes it names.
            if step == Step::Widen || (status == 401 && step != Step::GiveUp) {
                let before = self.auth.scopes(&self.extra);
                self.bearer(status, url, c)?;
                // No scope was missing: rights may have been given since the token was made.
                if step == Step::Widen && self.auth.scopes(&self.extra) == before {
                    self.rounds.refreshed = true;
                    step = Step::Refresh;
                }
            }
        }
        self.route.call.log.info(|| {
            format!(
                "{} answered {status} ({}): {step:?}",
                url.origin(),
                describe(&wants)
            )
        });
        // It is spent, and one that is answered with Basic perhaps of no use any more.
        if let (Sent::Token { slot, serial, .. }, Step::Refresh | Step::UseBasic | Step::GoBare) =
            (&self.sent, step)
        {
            slot.refuse(*serial);
        }
        let go_on = match (&self.sent, step) {
            (_, Step::UseToken | Step::UseBasic | Step::Widen | Step::Refresh) => true,
            (_, Step::GoBare) => {
                self.rounds.bare = true;
                self.rounds.answered = false;
                true
            }
            (Sent::Basic(used) | Sent::Fixed(used), Step::Resolve) => {
                self.auth.newer(used, self.route.call)?.is_some()
            }
            (
                Sent::Token {
                    slot, serial, by, ..
                },
                Step::Resolve,
            ) => {
                let used = match by {
                    Some(held) => held.clone(),
                    None => self.auth.credential(self.route.call)?,
                };
                let has_newer = self.resolve_again(&used)?;
                if has_newer {
                    slot.refuse(*serial);
                }
                has_newer
            }
            _ => false,
        };
        if go_on {
            return Ok(true);
        }
        let had = status == 401 && !matches!(self.sent, Sent::Nothing);
        if had
            && self.auth.fall_back(
                self.went_without,
                self.route.call,
                "the registry answered 401",
            )
        {
            self.rounds = Rounds::default();
            return Ok(true);
        }
        Ok(false)
    }
}

/// Whether there is no token service where one was.
fn is_no_more(e: &Error) -> bool {
    matches!(e.http_status(), Some(404 | 405 | 410))
}

fn describe(wants: &Verdict) -> String {
    match wants {
        Verdict::Bearer(c) => {
            let error = c.error.as_deref().unwrap_or("no error named");
            format!(
                "Bearer, service {:?}, {error}",
                c.service.as_deref().unwrap_or_default()
            )
        }
        Verdict::Basic => "Basic".to_owned(),
        Verdict::None {
            schemes,
            bearer_without_realm,
        } if *bearer_without_realm => {
            format!("Bearer without a realm; offered: {}", schemes.join(", "))
        }
        Verdict::None { schemes, .. } if schemes.is_empty() => "no challenge".to_owned(),
        Verdict::None { schemes, .. } => format!("only {}", schemes.join(", ")),
    }
}

/// Why a 401 is final, for the error.
pub(crate) fn explain_refusal(headers: &HeaderMap, had_credentials: bool) -> String {
    let fields = headers
        .get_all(header::WWW_AUTHENTICATE)
        .iter()
        .map(HeaderValue::as_bytes);
    match challenge::judge(fields) {
        Verdict::None {
            schemes,
            bearer_without_realm,
        } if !bearer_without_realm && schemes.is_empty() => {
            "the 401 has no WWW-Authenticate to answer".to_owned()
        }
        wants @ Verdict::None { .. } => {
            format!("the challenge cannot be answered: {}", describe(&wants))
        }
        wants => {
            let said = match wants {
                Verdict::Bearer(c) => [c.error, c.error_description],
                _ => [None, None],
            };
            let said: Vec<String> = said.into_iter().flatten().collect();
            let why = if had_credentials {
                "the credentials were refused, or do not suffice"
            } else {
                "credentials are needed"
            };
            match said.is_empty() {
                true => why.to_owned(),
                false => format!("{why} ({})", said.join(": ")),
            }
        }
    }
}

/// One token exchange.
struct Exchange<'a> {
    auth: &'a Authenticator,
    route: &'a Route<'a>,
    realm: &'a Url,
    service: Option<&'a str>,
    scopes: &'a Scopes,
}

impl Exchange<'_> {
    fn run(&self, held: &Shared<Arc<Held>>, budget: &mut Budget) -> Result<Token> {
        // The policy speaks first: credentials are not even looked at for a realm that is refused. It came with a 401.
        self.route
            .policy
            .judge(self.realm, self.realm, Purpose::Realm)
            .map_err(|e| e.with_http_status(401))?;
        let result = match &held.value.credential {
            Credential::Identity(refresh) => self.refresh(refresh, budget),
            Credential::Basic { user, password } => self.password(user, password, budget),
            Credential::Anonymous | Credential::Bearer(_) => self.get(None, budget),
        };
        if result.as_ref().is_err_and(|e| e.kind() == ErrorKind::Auth) {
            self.auth.forget(held.serial);
        }
        // What it brought in place of a refresh token is kept with that.
        result.map(|mut token| {
            token.refresh = None;
            token
        })
    }

    /// The default of `service` is the registry's name.
    fn service(&self) -> &str {
        self.service.unwrap_or(&self.auth.registry)
    }

    /// GET: one `scope` parameter for each resource (token authentication specification).
    fn get(&self, authorization: Option<HeaderValue>, budget: &mut Budget) -> Result<Token> {
        let mut url = self.realm.clone();
        for scope in self.scopes.iter() {
            url.push_query("scope", &scope);
        }
        if self.service.is_some() {
            url.remove_query("service");
        }
        if self.service.is_some() || !url.has_query("service") {
            url.push_query("service", self.service());
        }
        self.log("GET", authorization.is_some());
        let message = Message {
            method: "GET",
            url: Cow::Owned(url),
            headers: Cow::Borrowed(&[]),
            body: None,
            repeat: Repeat::Always,
            max_redirects: self.auth.max_redirects,
            purpose: Purpose::Realm,
            wanted: &[],
        };
        self.ask(&message, authorization, budget)
    }

    /// User and password: by GET, or where that is wanted by POST first (RFC 6749 section 4.3).
    fn password(&self, user: &str, password: &Secret, budget: &mut Budget) -> Result<Token> {
        if self.auth.posts_passwords {
            let secrets = [("username", user), ("password", password.expose())];
            match self.post("password", &secrets, budget) {
                // What says no to this grant may know the other way.
                Err(e) if matches!(e.http_status(), Some(400 | 401 | 404 | 405)) => {
                    self.route
                        .call
                        .log
                        .info(|| format!("{} gives no token for a password by POST", self.realm));
                }
                other => return other,
            }
        }
        self.get(Some(basic(user, password)?), budget)
    }

    /// A refresh token, or the one that took its place (RFC 6749 section 6).
    fn refresh(&self, own: &Secret, budget: &mut Budget) -> Result<Token> {
        let cache = &self.auth.cache;
        let place = Rotated::of(self.realm.origin(), own);
        let mut used = cache.rotated(&place).unwrap_or_else(|| own.clone());
        let mut repeated = false;
        loop {
            let answer = self.post("refresh_token", &[("refresh_token", used.expose())], budget);
            let refusal = match answer {
                Ok(token) => {
                    if let Some(new) = &token.refresh {
                        cache.rotate(place, new.clone());
                    }
                    return Ok(token);
                }
                // Services that know no POST take the refresh token as the password of this user.
                Err(e) if matches!(e.http_status(), Some(404 | 405)) => {
                    return self.get(Some(basic("<token>", &used)?), budget);
                }
                Err(e) if matches!(e.http_status(), Some(400 | 401)) && !repeated => e,
                Err(e) => return Err(e),
            };
            repeated = true;
            // It may have been replaced while it was on its way, or what replaced it was taken back.
            used = match cache.rotated(&place) {
                Some(newer) if newer != used => newer,
                Some(_) => {
                    cache.forget_rotated(&place);
                    own.clone()
                }
                None => return Err(refusal),
            };
        }
    }

    /// POST: all scopes in one parameter (OAuth2 token documentation).
    fn post(&self, grant: &str, secrets: &[(&str, &str)], budget: &mut Budget) -> Result<Token> {
        let mut form = Zeroizing::new(format!(
            "grant_type={grant}&service={}&client_id={CLIENT_ID}",
            form_encode(self.service())
        ));
        if !self.scopes.is_empty() {
            form.push_str(&format!("&scope={}", form_encode(&self.scopes.to_string())));
        }
        for (name, value) in secrets {
            form.push_str(&format!("&{name}="));
            form.push_str(&Zeroizing::new(form_encode(value)));
            if *name != "username" {
                self.route.call.secrets().remember_sent(value);
            }
        }
        let source = Source::secret(form.as_bytes());
        self.log("POST", true);
        let form_type = [(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        )];
        let message = Message {
            method: "POST",
            url: Cow::Borrowed(self.realm),
            headers: Cow::Borrowed(&form_type),
            body: Some(Payload {
                source: &source,
                offset: 0,
                length: Some(form.len() as u64),
                counted: false,
            }),
            repeat: Repeat::Always,
            // The body is a credential: the redirects that are followed do not leave the realm's origin.
            max_redirects: self.auth.max_redirects,
            purpose: Purpose::Realm,
            wanted: &[],
        };
        self.ask(&message, None, budget)
    }

    fn log(&self, method: &str, with_credentials: bool) {
        self.route.call.log.info(|| {
            let with = if with_credentials { "with" } else { "without" };
            format!(
                "{method} a token from {} {with} credentials, scope {}",
                self.realm, self.scopes
            )
        });
    }

    fn ask(
        &self,
        message: &Message<'_>,
        authorization: Option<HeaderValue>,
        budget: &mut Budget,
    ) -> Result<Token> {
        let origin = self.realm.origin();
        let mut signer = RealmSigner(authorization);
        let call = self.route.call;
        let asked = Instant::now();
        let (body, more) = loop {
            let answer = self.route.send_with(message, &mut signer, budget, origin)?;
            if answer.status != 200 {
                return Err(self.refusal(answer)?);
            }
            let mut body = answer.body;
            match body.read_up_to(self.auth.max_token) {
                // A token that was issued and did not arrive is lost; another costs no more than the first.
                Err(e) if budget.may_pass(&e, true) => budget.pause(e, None, call)?,
                other => break other?,
            }
        };
        let body = Zeroizing::new(body);
        if more {
            return Err(token::refused(
                origin,
                "its answer is longer than option max-token-bytes allows",
            ));
        }
        Token::parse(&body, asked, Instant::now()).map_err(|why| token::refused(origin, why))
    }

    /// The error for an answer that is no token, with what the service says about it.
    fn refusal(&self, mut answer: Answer) -> Result<Error> {
        let (body, is_cut) = answer
            .body
            .read_what_comes(self.route.call.limits().refusal)?;
        let body = Zeroizing::new(body);
        let secrets = self.route.call.secrets();
        let refusal = Refusal::of_token_service(
            &answer.url,
            answer.status,
            &answer.headers,
            (&body, is_cut),
            secrets,
        );
        self.route
            .call
            .log
            .info(|| format!("the token service answered {}", answer.status));
        let why = format!(
            "it answered {}{}{}",
            answer.status,
            refusal.said(", ", ""),
            retry::plea(&answer.headers)
        );
        let error = token::refused(self.realm.origin(), &why);
        Ok(refusal.tell(error))
    }
}

/// Carries what the token request is authenticated with.
struct RealmSigner(Option<HeaderValue>);

impl Signer for RealmSigner {
    fn sign(&mut self, _: &mut Budget) -> Result<Option<HeaderValue>> {
        Ok(self.0.clone())
    }

    fn refused(&mut self, _: u16, _: &Url, _: &HeaderMap) -> Result<bool> {
        Ok(false)
    }
}

fn bearer(token: &Secret) -> Result<HeaderValue> {
    sensitive(&Zeroizing::new(format!("Bearer {}", token.expose())))
}

fn basic(user: &str, password: &Secret) -> Result<HeaderValue> {
    let pair = Zeroizing::new(format!("{user}:{}", password.expose()));
    let coded = Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes()));
    sensitive(&Zeroizing::new(format!("Basic {}", *coded)))
}

/// A header value that is never shown.
fn sensitive(text: &str) -> Result<HeaderValue> {
    // Wiped when the last copy of the value goes.
    let bytes = Bytes::from_owner(Zeroizing::new(text.as_bytes().to_vec()));
    let mut value = HeaderValue::from_maybe_shared(bytes)
        .map_err(|_| Error::auth("the credentials have characters that a header cannot carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(error: Option<&str>) -> Verdict {
        Verdict::Bearer(BearerChallenge {
            realm: "https://a/t".to_owned(),
            service: None,
            scope: Vec::new(),
            error: error.map(str::to_owned),
            error_description: None,
        })
    }

    fn none() -> Verdict {
        Verdict::None {
            schemes: Vec::new(),
            bearer_without_realm: false,
        }
    }

    fn password() -> Sent {
        Sent::Basic(Shared {
            value: Arc::new(Held {
                credential: Credential::Anonymous,
                found: Found::default(),
            }),
            serial: 1,
        })
    }

    fn token(is_fresh: bool) -> Sent {
        Sent::Token {
            slot: Arc::default(),
            serial: 1,
            is_fresh,
            by: None,
        }
    }

    /// Each step once, then the answer is final.
    #[test]
    fn steps() {
        let basic = password;
        for (sent, wants, first, second) in [
            (Sent::Nothing, bearer(None), Step::UseToken, Step::GiveUp),
            (Sent::Nothing, Verdict::Basic, Step::UseBasic, Step::GiveUp),
            (Sent::Nothing, none(), Step::GiveUp, Step::GiveUp),
            (token(true), bearer(None), Step::Refresh, Step::Resolve),
            (
                token(true),
                bearer(Some("invalid_token")),
                Step::Refresh,
                Step::Resolve,
            ),
            (
                token(true),
                bearer(Some("insufficient_scope")),
                Step::Widen,
                Step::Resolve,
            ),
            (
                token(true),
                bearer(Some("invalid_request")),
                Step::GiveUp,
                Step::GiveUp,
            ),
            (token(true), Verdict::Basic, Step::UseBasic, Step::GiveUp),
            (token(true), none(), Step::Refresh, Step::Resolve),
            (token(false), bearer(None), Step::Refresh, Step::Refresh),
            (basic(), Verdict::Basic, Step::Resolve, Step::GiveUp),
            (basic(), bearer(None), Step::UseToken, Step::GiveUp),
            (basic(), none(), Step::Resolve, Step::GiveUp),
        ] {
            let mut rounds = Rounds::default();
            assert_eq!(decide(401, &sent, &wants, &mut rounds), first, "{wants:?}");
            assert_eq!(
                decide(401, &sent, &wants, &mut rounds),
                second,
                "{wants:?} again"
            );
            if second == Step::Refresh {
                let third = decide(401, &sent, &wants, &mut rounds);
                assert_eq!(third, Step::Resolve, "{wants:?} for the third time");
            }
            if second == Step::Resolve {
                let third = decide(401, &sent, &wants, &mut rounds);
                assert_eq!(third, Step::GiveUp, "{wants:?} for the third time");
            }
        }
    }

    /// A 403 is final, but for a token that is too narrow and a password that may have expired.
    #[test]
    fn steps_after_403() {
        let narrow = || bearer(Some("insufficient_scope"));
        for (sent, wants, first, second) in [
            (token(true), narrow(), Step::Widen, Step::Resolve),
            (token(false), bearer(None), Step::GiveUp, Step::GiveUp),
            (token(true), Verdict::Basic, Step::GiveUp, Step::GiveUp),
            (password(), none(), Step::Resolve, Step::GiveUp),
            (password(), narrow(), Step::Resolve, Step::GiveUp),
            (Sent::Nothing, narrow(), Step::GiveUp, Step::GiveUp),
        ] {
            let mut rounds = Rounds::default();
            for step in [first, second] {
                assert_eq!(decide(403, &sent, &wants, &mut rounds), step, "{wants:?}");
            }
        }
    }

    /// Whatever a registry answers, a call asks it a bounded number of times.
    #[test]
    fn no_endless_rounds() {
        let mut rounds = Rounds::default();
        let mut steps = 0;
        let wants = [
            bearer(None),
            bearer(Some("insufficient_scope")),
            Verdict::Basic,
            none(),
        ];
        let sents = [Sent::Nothing, token(true), token(false), password()];
        for _ in 0..10 {
            for sent in &sents {
                for want in &wants {
                    for status in [401, 403] {
                        if decide(status, sent, want, &mut rounds) != Step::GiveUp {
                            steps += 1;
                        }
                    }
                }
            }
        }
        assert!(steps <= 8, "{steps}");
    }
}
