//! A host made ready: the connections, the policy and the credentials that requests to it go with.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ureq::http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::auth::{Authenticator, CallSigner, Known, Subject};
use crate::creds::Creds;
use crate::error::{Error, ErrorKind, Result};
use crate::hosts::Host;
use crate::name::Authority;
use crate::net::Net;
use crate::net::call::Call;
use crate::options::{Number, Options, Switch};
use crate::policy::{Policy, Purpose};
use crate::retry::Budget;
use crate::scope::{Actions, Scopes};
use crate::send::{Answer, Message, Payload, Repeat, Route, Signer, is_portable};
use crate::url::Url;
use crate::warnings::Warnings;

/// How long a host that did not serve is asked after the others.
const SHUNNED: Duration = Duration::from_secs(30);

/// A request of the library's own, or of the program's.
pub(crate) struct Ask<'a> {
    pub(crate) method: &'a str,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Option<Payload<'a>>,
    pub(crate) repeat: Repeat,
    pub(crate) purpose: Purpose,
    /// Statuses that are neither followed nor repeated.
    pub(crate) wanted: &'a [u16],
    /// Scopes needed besides those of the transport.
    pub(crate) extra: Scopes,
}

impl<'a> Ask<'a> {
    pub(crate) fn new(method: &'a str, url: Url) -> Self {
        // "See other" turns what is to be changed into the reading of a page, which would pass for success.
        let wanted: &[u16] = match method {
            "GET" | "HEAD" => &[],
            _ => &[303],
        };
        Self {
            method,
            url,
            headers: Vec::new(),
            body: None,
            repeat: Repeat::ByMethod,
            purpose: Purpose::Request,
            wanted,
            extra: Scopes::default(),
        }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// What one host is asked with.
pub(crate) struct Endpoint {
    host: Arc<Host>,
    base: Url,
    /// Where the paths of the repository begin.
    repository: Option<Url>,
    authority: Arc<str>,
    net: Net,
    policy: Policy,
    auth: Authenticator,
    warnings: Warnings,
    /// It is not the registry the program named: what the program sends for that one stays away.
    is_elsewhere: bool,
    max_redirects: u64,
}

impl Endpoint {
    fn new(host: &Arc<Host>, base: &Url, purpose: &For<'_>) -> Result<Self> {
        let is_elsewhere = !host.is_at(purpose.registry);
        let creds = if is_elsewhere {
            purpose.creds.elsewhere()
        } else {
            purpose.creds.clone()
        };
        let repository = host.repository.as_ref();
        let subject = Subject {
            registry: host.authority.key(),
            repository,
            actions: purpose.actions,
            is_insecure: host.trust.insecure || purpose.options.is_on(Switch::Insecure),
        };
        Ok(Self {
            net: Net::new(purpose.options, base.origin(), &host.trust)?,
            policy: Policy::new(base.origin().clone(), purpose.options),
            auth: Authenticator::new(creds, &subject, purpose.options),
            warnings: Warnings::default(),
            base: base.clone(),
            repository: repository
                .map(|name| base.resolve(&format!("{name}/")))
                .transpose()?,
            authority: base.authority().into(),
            host: Arc::clone(host),
            is_elsewhere,
            max_redirects: purpose.options.number(Number::MaxRedirects),
        })
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// The root of the API.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// Host and port.
    pub(crate) fn authority(&self) -> &Arc<str> {
        &self.authority
    }

    pub(crate) fn net(&self) -> &Net {
        &self.net
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(crate) fn auth(&self) -> &Authenticator {
        &self.auth
    }

    /// URL of `path` of the repository, such as `blobs/sha256:...`.
    pub(crate) fn repository_url(&self, path: &str) -> Result<Url> {
        let Some(repository) = &self.repository else {
            return Err(Error::argument(format!(
                "the transport for {} names no repository, which this call needs",
                self.host.authority
            )));
        };
        repository.resolve(path)
    }

    /// Sends a request with the credentials for the host and gives whatever answer comes.
    pub(crate) fn ask(
        &self,
        ask: &Ask<'_>,
        call: &Arc<Call>,
        budget: &mut Budget,
    ) -> Result<Answer> {
        let route = self.route(call);
        let mut signer = CallSigner::new(&self.auth, &route, ask.extra.clone());
        route.send(&self.message(ask), &mut signer, budget)
    }

    /// Sends a request that carries credentials of the program's own making, or none.
    pub(crate) fn ask_unsigned(
        &self,
        ask: &Ask<'_>,
        call: &Arc<Call>,
        budget: &mut Budget,
    ) -> Result<Answer> {
        self.route(call)
            .send(&self.message(ask), &mut Unsigned, budget)
    }

    /// Pings the host and gets a token, or has the password checked. The answer is the last one that came.
    pub(crate) fn ping(&self, call: &Arc<Call>, budget: &mut Budget) -> Result<Pinged> {
        let route = self.route(call);
        let ask = Ask::new("GET", self.base.clone());
        let mut message = self.message(&ask);
        message.max_redirects = 0;
        let answer = route.send(&message, &mut Unsigned, budget)?;
        if answer.status != 401 {
            return Ok(Pinged::Answered(answer));
        }
        let mut signer = CallSigner::of_ping(&self.auth, &route);
        if !signer.refused(401, &answer.url, &answer.headers)? {
            return Ok(Pinged::Refused(answer));
        }
        answer.body.discard();
        if let Some(Known::Bearer { .. }) = self.auth.known(self.policy.home()) {
            return signer.sign(budget).map(|_| Pinged::Welcome);
        }
        // A password is only known to be right when the registry has seen it.
        let answer = route.send(&message, &mut signer, budget)?;
        Ok(match answer.status {
            401 => Pinged::Refused(answer),
            _ => Pinged::Answered(answer),
        })
    }

    /// Whether a host answers at all.
    fn is_there(&self, call: &Arc<Call>) -> Result<()> {
        let mut ask = Ask::new("GET", self.base.clone());
        ask.repeat = Repeat::Never;
        let answer = self.ask_unsigned(&ask, call, &mut Budget::none())?;
        answer.body.discard();
        Ok(())
    }

    fn route<'a>(&'a self, call: &'a Arc<Call>) -> Route<'a> {
        Route {
            net: &self.net,
            policy: &self.policy,
            warnings: &self.warnings,
            call,
        }
    }

    fn message<'a>(&self, ask: &'a Ask<'_>) -> Message<'a> {
        let mut headers = Cow::Borrowed(&*ask.headers);
        if self.is_elsewhere {
            headers.to_mut().retain(|(name, _)| is_portable(name));
        }
        let is_set = |name| headers.iter().any(|(n, _)| n == name);
        let own = self.host.headers.iter().filter(|(name, _)| !is_set(name));
        let own: Vec<_> = own.cloned().collect();
        if !own.is_empty() {
            headers.to_mut().extend(own);
        }
        let mut url = Cow::Borrowed(&ask.url);
        if let Some(namespace) = &self.host.namespace {
            // A signed URL of a storage is none of the mirror's, and must not change.
            if url.origin() == self.base.origin() && ask.purpose == Purpose::Request {
                url.to_mut().push_query("ns", namespace);
            }
        }
        Message {
            method: ask.method,
            url,
            headers,
            body: ask.body,
            repeat: ask.repeat,
            max_redirects: self.max_redirects,
            purpose: ask.purpose,
            wanted: ask.wanted,
        }
    }
}

/// How a ping ended.
pub(crate) enum Pinged {
    /// The token service gave a token.
    Welcome,
    /// With an answer that is no refusal of the credentials; only 200 is a good one.
    Answered(Answer),
    /// The credentials were refused, or there is no way to use them.
    Refused(Answer),
}

/// What hosts are made ready for.
pub(crate) struct For<'a> {
    /// The registry the program named.
    pub(crate) registry: &'a Authority,
    pub(crate) actions: Actions,
    pub(crate) creds: &'a Creds,
    pub(crate) options: &'a Options,
}

/// A host, whichever scheme it turns out to speak.
pub(crate) struct Site {
    main: Endpoint,
    /// The same over plain http, for a host that need not have TLS.
    plain: Option<Endpoint>,
    speaks_plain: OnceLock<bool>,
    /// `failed` is set: every request asks.
    has_failed: AtomicBool,
    failed: Mutex<Option<Instant>>,
}

impl Site {
    pub(crate) fn new(host: Host, purpose: &For<'_>) -> Result<Self> {
        let host = Arc::new(host);
        let plain = host
            .plain_root
            .as_ref()
            .map(|root| Endpoint::new(&host, root, purpose))
            .transpose()?;
        Ok(Self {
            main: Endpoint::new(&host, &host.root, purpose)?,
            plain,
            speaks_plain: OnceLock::new(),
            has_failed: AtomicBool::new(false),
            failed: Mutex::default(),
        })
    }

    /// What the host is asked with. One that may speak either scheme is asked which, the first time.
    pub(crate) fn endpoint(&self, call: &Arc<Call>) -> Result<&Endpoint> {
        if let (Some(plain), None) = (&self.plain, self.speaks_plain.get()) {
            match self.main.is_there(call) {
                Ok(()) => self.decide(false),
                Err(e) if is_not_there(&e) => {
                    call.check()?;
                    call.log
                        .info(|| format!("{} does not answer ({e}), trying http", self.main.base));
                    plain.is_there(call).map_err(|p| e.remark(p.message()))?;
                    self.decide(true);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(self.known_endpoint())
    }

    fn decide(&self, plain: bool) {
        // Two threads that ask at once come to the same result, or to one of them.
        let _ = self.speaks_plain.set(plain);
    }

    /// The same as far as it is known.
    pub(crate) fn known_endpoint(&self) -> &Endpoint {
        match &self.plain {
            Some(plain) if self.speaks_plain.get() == Some(&true) => plain,
            _ => &self.main,
        }
    }

    /// Whether it is known what the host speaks.
    pub(crate) fn is_decided(&self) -> bool {
        self.plain.is_none() || self.speaks_plain.get().is_some()
    }

    pub(crate) fn host(&self) -> &Host {
        self.main.host()
    }

    pub(crate) fn close(&self) {
        self.main.net.close();
        if let Some(plain) = &self.plain {
            plain.net.close();
        }
    }

    /// Remembers for a while that the host did not serve.
    pub(crate) fn shun(&self, yes: bool) {
        if yes || self.has_failed.load(Ordering::Relaxed) {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            *failed = yes.then(Instant::now);
            self.has_failed.store(yes, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_shunned(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
            && self
                .failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_some_and(|at| at.elapsed() < SHUNNED)
    }
}

fn is_not_there(e: &Error) -> bool {
    matches!(
        e.kind(),
        ErrorKind::Network | ErrorKind::Tls | ErrorKind::Timeout | ErrorKind::Protocol
    )
}

/// Sends a message as it is.
struct Unsigned;

impl Signer for Unsigned {
    fn sign(&mut self, _: &mut Budget) -> Result<Option<HeaderValue>> {
        Ok(None)
    }

    fn refused(&mut self, _: u16, _: &Url, _: &HeaderMap) -> Result<bool> {
        Ok(false)
    }
}
