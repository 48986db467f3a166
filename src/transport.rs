//! The transport: one registry or repository, its credentials and its connections. Where it all meets.

use std::fmt;
use std::sync::Arc;

use ureq::http::header::{HeaderName, HeaderValue};

use crate::auth;
use crate::creds::Creds;
use crate::download;
use crate::endpoint::{Ask, Endpoint, For, Pinged, Site};
use crate::error::{Error, ErrorKind, Result};
use crate::failover::{self, Failures, Verdict, Wanted};
use crate::hosts::{Plan, registries};
use crate::name::{self, Authority, Repository};
use crate::net::call::{Call, CloseCount};
use crate::op::Op;
use crate::options::{Number, Options};
use crate::policy::Purpose;
use crate::process;
use crate::range;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::response::{Parts, Response, content_type, told_digest};
use crate::retry::{self, Budget};
pub use crate::scope::Actions;
use crate::send::{Answer, Payload};
use crate::url::Url;
use crate::verify::Plain;

/// An authenticated connection pool for one registry or repository.
///
/// Clones are the same transport; any number of threads may use it at once. A child made by `fork` must make
/// its own.
#[derive(Clone)]
pub struct Transport(Arc<Inner>);

struct Inner {
    authority: Authority,
    repository: Option<Repository>,
    actions: Actions,
    /// The hosts in the order they are asked for content.
    sites: Vec<Arc<Site>>,
    /// The one for everything else.
    home: Arc<Site>,
    /// Paths in the repository that are not asked for, and why.
    refused: Vec<(String, String)>,
    options: Options,
    closes: Arc<CloseCount>,
    process: u32,
}

/// A question that any host with the content may answer.
pub(crate) struct Pull<'a> {
    pub(crate) method: &'a str,
    /// A path of the repository, such as `blobs/sha256:...`.
    pub(crate) path: String,
    pub(crate) wanted: Wanted,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl<'a> Pull<'a> {
    pub(crate) fn new(method: &'a str, path: String, wanted: Wanted) -> Self {
        Self {
            method,
            path,
            wanted,
            headers: Vec::new(),
        }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// As it is put to one host.
    pub(crate) fn ask(&self, endpoint: &Endpoint) -> Result<Ask<'a>> {
        let mut ask = Ask::new(self.method, endpoint.repository_url(&self.path)?);
        ask.headers.clone_from(&self.headers);
        Ok(ask)
    }
}

/// A host that is asked, and whether any is left after it.
pub(crate) struct At<'a> {
    pub(crate) host: usize,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) is_last: bool,
}

impl At<'_> {
    /// Sends a request to the host.
    pub(crate) fn ask(
        &self,
        ask: &Ask<'_>,
        call: &Arc<Call>,
        budget: &mut Budget,
    ) -> Result<Answer> {
        Ok(self.mark(self.endpoint.ask(ask, call, budget)?))
    }

    /// Sends a request that has credentials of the program's own making.
    fn ask_unsigned(&self, ask: &Ask<'_>, call: &Arc<Call>, budget: &mut Budget) -> Result<Answer> {
        Ok(self.mark(self.endpoint.ask_unsigned(ask, call, budget)?))
    }

    fn mark(&self, answer: Answer) -> Answer {
        let host = self.host;
        Answer { host, ..answer }
    }
}

impl Transport {
    /// Makes a transport for `name` ("ghcr.io/org/app", or a bare "ghcr.io"). Does no network I/O; reads the
    /// environment, once, unless option `environment` is off, and the files that options `hosts-dir` and
    /// `registries-conf` name.
    ///
    /// # Errors
    /// [`Syntax`](crate::error::ErrorKind::Syntax) for the name and those files,
    /// [`Argument`](crate::error::ErrorKind::Argument) for actions or options that do not go together and for a
    /// short name that could mean several registries, [`Unsupported`](crate::error::ErrorKind::Unsupported) for a
    /// registry that `registries-conf` blocks, [`Io`](crate::error::ErrorKind::Io) for files that cannot be read.
    pub fn new(
        name: &str,
        actions: Actions,
        creds: Option<&Creds>,
        options: Option<&Options>,
    ) -> Result<Self> {
        let options = options.cloned().unwrap_or_default();
        let (authority, repository) = name::transport_name(name)?;
        let (authority, repository) = match registries::full(name, &options)? {
            Some(full) => name::transport_name(&full)?,
            None => (authority, repository),
        };
        if repository.is_some() && actions.has(Actions::catalog()) {
            return Err(Error::argument(
                "listing repositories takes a bare registry, without a repository",
            ));
        }
        let anonymous = Creds::anonymous();
        let purpose = For {
            registry: &authority,
            actions,
            creds: creds.unwrap_or(&anonymous),
            options: &options,
        };
        let Plan {
            mut hosts,
            home,
            refused,
        } = Plan::of(&authority, repository.as_ref(), &options)?;
        // Who changes a registry has to see it as it is, not as a mirror remembers it.
        let home_index = if actions.only_pulls() {
            home
        } else {
            hosts.swap(0, home);
            hosts.truncate(1);
            0
        };
        let sites = hosts
            .into_iter()
            .map(|host| Site::new(host, &purpose).map(Arc::new))
            .collect::<Result<Vec<_>>>()?;
        let Some(home) = sites.get(home_index).cloned() else {
            return Err(Error::internal("a registry without a host"));
        };
        Ok(Self(Arc::new(Inner {
            authority,
            repository,
            actions,
            sites,
            home,
            refused,
            options,
            closes: Arc::default(),
            process: std::process::id(),
        })))
    }

    /// Pings the registry (distribution-spec, "Determining Support") and gets a token now rather than at the
    /// first request. A transport that only pulls pings its hosts in their order until one answers.
    ///
    /// # Errors
    /// [`Protocol`](crate::error::ErrorKind::Protocol) for any answer but 200 or 401,
    /// [`Auth`](crate::error::ErrorKind::Auth) when the credentials are refused, and those of the network.
    pub fn ping(&self, op: Option<&Op>) -> Result<()> {
        let call = self.call(op)?;
        let budget = self.budget();
        self.over_hosts(
            Wanted::Anything,
            None,
            &call,
            &budget,
            |at, budget| match at.endpoint.ping(&call, budget)? {
                Pinged::Welcome => Ok(()),
                Pinged::Answered(answer) if answer.status == 200 => {
                    answer.body.discard();
                    Ok(())
                }
                Pinged::Answered(answer) => Err(self.unexpected_ping(at.mark(answer))),
                Pinged::Refused(answer) => Err(self.refusal("GET", at.mark(answer))),
            },
        )
    }

    fn unexpected_ping(&self, answer: Answer) -> Error {
        let status = answer.status;
        let registry = if self.0.sites.len() > 1 {
            answer.url.origin().to_string()
        } else {
            self.0.authority.to_string()
        };
        let refusal = self.refusal("GET", answer);
        Error::protocol(format!(
            "unexpected answer to the ping of {registry}: {}",
            refusal.message()
        ))
        .with_http_status(status)
        .with_retry_after(refusal.retry_after())
        .with_rate_limit(refusal.rate_limit())
        .with_diagnostics(refusal.diagnostics().to_vec())
    }

    /// Sends `request`, getting a token when needed, and waits for the head of the answer. `op` also governs
    /// the reading of the answer.
    ///
    /// # Errors
    /// [`Syntax`](crate::error::ErrorKind::Syntax) and [`Argument`](crate::error::ErrorKind::Argument) for
    /// mistakes in the request, [`Status`](crate::error::ErrorKind::Status) for a status that is not accepted,
    /// [`MediaType`](crate::error::ErrorKind::MediaType), [`Auth`](crate::error::ErrorKind::Auth), and those
    /// of the network and its limits.
    pub fn request(&self, request: &Request, op: Option<&Op>) -> Result<Response> {
        let call = self.call(op)?;
        let Some(pull) = self.as_pull(request)? else {
            let url = self.request_url(request, &call)?;
            return self.exchange(request, url, Purpose::Request, &call, &mut self.budget());
        };
        let budget = self.budget();
        self.over_hosts(pull.wanted, None, &call, &budget, |at, budget| {
            let mut ask = pull.ask(at.endpoint)?;
            ask.wanted = request.statuses();
            let answer = at.ask(&ask, &call, budget)?;
            // A mirror that refuses does not speak for the registry, even if the program wants to see that.
            if answer.status >= 400 && !at.is_last {
                return Err(self.refusal(pull.method, answer));
            }
            self.accept(request, answer, &call)
        })
    }

    /// A request for content of the repository, which may be asked of any host that has it.
    fn as_pull<'r>(&self, request: &'r Request) -> Result<Option<Pull<'r>>> {
        let Some((path, wanted)) = request.content() else {
            return Ok(None);
        };
        self.check_path(path)?;
        if self.0.sites.len() < 2 || request.is_signed() {
            return Ok(None);
        }
        let mut pull = Pull::new(request.method()?, path.to_owned(), wanted);
        pull.headers = request.fields()?;
        Ok(Some(pull))
    }

    /// Whether content of the repository may be asked for, as `registries-conf` has it.
    pub(crate) fn check_path(&self, path: &str) -> Result<()> {
        match self.0.refused.iter().find(|(refused, _)| refused == path) {
            Some((_, why)) => Err(Error::unsupported(why.as_str())),
            None => Ok(()),
        }
    }

    /// Sends `request` to `url` and checks the answer against what it accepts.
    pub(crate) fn exchange(
        &self,
        request: &Request,
        url: Url,
        purpose: Purpose,
        call: &Arc<Call>,
        budget: &mut Budget,
    ) -> Result<Response> {
        let method = request.method()?;
        let body = match request.source() {
            None => None,
            Some(source) => Some(Payload {
                source,
                offset: 0,
                length: source.size()?,
                counted: true,
            }),
        };
        let mut ask = Ask::new(method, url);
        ask.headers = request.fields()?;
        ask.body = body;
        ask.purpose = purpose;
        ask.wanted = request.statuses();
        let answer = if request.is_signed() {
            self.home_at(call)?.ask_unsigned(&ask, call, budget)?
        } else {
            self.ask(&ask, call, budget)?
        };
        self.accept(request, answer, call)
    }

    /// Checks an answer against what the request accepts.
    fn accept(&self, request: &Request, answer: Answer, call: &Arc<Call>) -> Result<Response> {
        if !request.accepts_status(answer.status) {
            return Err(self.refusal(request.method()?, answer));
        }
        if answer.status == 206 && request.method()? == "GET" {
            check_part(request, &answer)?;
        }
        let content_type = content_type(&answer.headers);
        if !request.accepts_type(content_type) {
            let got = content_type.unwrap_or_default().as_bytes();
            return Err(Error::media_type(format!(
                "{} answered with media type {}, which is not accepted",
                answer.url,
                answer.body.secrets().quote(got, got.len())
            ))
            .with_http_status(answer.status));
        }
        Ok(self.stream(answer, call))
    }

    /// Ends every call now running with a `Cancelled` error and closes all connections. Later calls connect
    /// anew.
    pub fn close(&self) {
        if self.check_process().is_err() {
            // The connections are the parent's, and a thread that is not here may hold the lock.
            return;
        }
        self.0.closes.close();
        for site in &self.0.sites {
            site.close();
        }
    }

    /// The registry, as it was named.
    pub fn registry(&self) -> &Authority {
        &self.0.authority
    }

    /// The repository, or `None` for a bare registry.
    pub fn repository(&self) -> Option<&Repository> {
        self.0.repository.as_ref()
    }

    pub(crate) fn options(&self) -> &Options {
        &self.0.options
    }

    pub(crate) fn actions(&self) -> Actions {
        self.0.actions
    }

    /// The hosts in the order they are asked for content.
    pub(crate) fn sites(&self) -> &[Arc<Site>] {
        &self.0.sites
    }

    /// The host that is asked for everything that is no content, and for that as well unless the transport only
    /// pulls.
    pub(crate) fn home_site(&self) -> &Arc<Site> {
        &self.0.home
    }

    /// What that host is asked with.
    pub(crate) fn home(&self, call: &Arc<Call>) -> Result<&Endpoint> {
        self.0.home.endpoint(call)
    }

    /// What the host was asked with that gave an answer.
    pub(crate) fn endpoint(&self, host: usize) -> &Endpoint {
        self.0
            .sites
            .get(host)
            .unwrap_or(&self.0.home)
            .known_endpoint()
    }

    /// The host for everything, to be asked.
    pub(crate) fn home_at(&self, call: &Arc<Call>) -> Result<At<'_>> {
        let home = &self.0.home;
        let host = self.0.sites.iter().position(|site| Arc::ptr_eq(site, home));
        Ok(At {
            host: host.unwrap_or_default(),
            endpoint: home.endpoint(call)?,
            is_last: true,
        })
    }

    /// Whether there are hosts to fail over to, and how many there are in all.
    pub(crate) fn host_count(&self) -> usize {
        self.0.sites.len()
    }

    /// Has a host asked after the others for a while.
    pub(crate) fn shun(&self, host: usize) {
        if let Some(site) = self.0.sites.get(host) {
            site.shun(true);
        }
    }

    pub(crate) fn budget(&self) -> Budget {
        Budget::of(&self.0.options)
    }

    /// Fails in a child made by `fork`: two processes on one TLS connection break it for both.
    pub(crate) fn check_process(&self) -> Result<()> {
        if process::is_this(self.0.process) {
            Ok(())
        } else {
            Err(Error::state(
                "the transport was made before fork(): the child must make its own",
            ))
        }
    }

    /// Begins a call.
    pub(crate) fn call(&self, op: Option<&Op>) -> Result<Arc<Call>> {
        self.check_process()?;
        if let Some(op) = op {
            op.begin(None);
        }
        Ok(Call::new(op, &self.0.options, &self.0.closes))
    }

    /// The URL a request's path stands for, at the host for everything.
    pub(crate) fn request_url(&self, request: &Request, call: &Arc<Call>) -> Result<Url> {
        let home = self.home(call)?;
        request.url(home.base(), home.host().repository.as_ref())
    }

    /// URL of `path` of the repository, such as `blobs/sha256:...`, at the host for everything.
    pub(crate) fn repository_url(&self, path: &str, call: &Arc<Call>) -> Result<Url> {
        self.home(call)?.repository_url(path)
    }

    /// Sends a request to that host and gives whatever answer comes.
    pub(crate) fn ask(
        &self,
        ask: &Ask<'_>,
        call: &Arc<Call>,
        budget: &mut Budget,
    ) -> Result<Answer> {
        self.home_at(call)?.ask(ask, call, budget)
    }

    /// Has `each` ask one host after the other until one serves. `budget` is shared by them all.
    ///
    /// The order is that of the configuration, but for `prefer`, which goes first, and for hosts that failed a
    /// short while ago, which go last.
    pub(crate) fn over_hosts<T>(
        &self,
        wanted: Wanted,
        prefer: Option<usize>,
        call: &Arc<Call>,
        budget: &Budget,
        mut each: impl FnMut(&At<'_>, &mut Budget) -> Result<T>,
    ) -> Result<T> {
        let sites = self.0.sites.iter().enumerate();
        let able = sites
            .filter(|(_, site)| site.host().serves.has(wanted))
            .map(|(host, site)| (host, site.is_shunned()));
        let order = failover::order(able, prefer);
        let mut failures = Failures::default();
        let mut left = order.len();
        for host in order {
            let Some(site) = self.0.sites.get(host) else {
                continue;
            };
            let is_last = left == 1;
            let mut share = budget.share(left, call);
            let result = site.endpoint(call).and_then(|endpoint| {
                let at = At {
                    host,
                    endpoint,
                    is_last,
                };
                each(&at, &mut share)
            });
            left -= 1;
            let e = match result {
                Ok(value) => {
                    site.shun(false);
                    return Ok(value);
                }
                Err(e) => e.redacted(call.secrets()),
            };
            // A call that was cancelled, or is out of time, ends here, whatever the host did.
            if !is_last && !matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::Timeout) {
                call.check()?;
            }
            let verdict = match call.check() {
                Ok(()) => failover::judge(&e),
                Err(_) => Verdict::Final,
            };
            if verdict == Verdict::Final {
                return Err(e);
            }
            site.shun(verdict == Verdict::Shun);
            if !is_last {
                call.log
                    .info(|| format!("{} did not serve, trying the next host: {e}", site.host()));
            }
            failures.push(host, e);
        }
        // Whether something exists is for the last host of the configuration to say: the registry itself.
        Err(failures.into_error(self.0.sites.len().saturating_sub(1)))
    }

    /// Asks a host and reads a short answer whole, again if the connection breaks while it is read.
    pub(crate) fn ask_whole(
        &self,
        at: &At<'_>,
        ask: &Ask<'_>,
        most: usize,
        limit: &str,
        call: &Arc<Call>,
        budget: &mut Budget,
    ) -> Result<(Answer, Vec<u8>)> {
        loop {
            let mut answer = self.whole(at.ask(ask, call, budget)?)?;
            match answer.body.read_up_to(most) {
                Ok((body, false)) => return Ok((answer, body)),
                Ok((_, true)) => {
                    return Err(Error::limit(format!(
                        "{} sent more than {most} bytes; option {limit} sets the limit",
                        answer.url
                    ))
                    .with_http_status(answer.status));
                }
                Err(e) if retry::is_broken_connection(&e) => {
                    budget.pause(e.in_answer(answer.status), None, call)?;
                }
                Err(e) => return Err(e.in_answer(answer.status)),
            }
        }
    }

    /// The answer to a GET without a range if it is the whole: a part, or no content, must not pass for it
    /// (RFC 9110 section 15.3).
    pub(crate) fn whole(&self, answer: Answer) -> Result<Answer> {
        match answer.status {
            200 | 203 => Ok(answer),
            status @ 201..=299 => Err(Error::protocol(format!(
                "{} answered {status} where the whole was asked for",
                answer.url
            ))
            .with_http_status(status)),
            _ => Err(self.refusal("GET", answer)),
        }
    }

    /// An answer as a response whose body is read by the caller.
    pub(crate) fn stream(&self, answer: Answer, call: &Arc<Call>) -> Response {
        let digest = told_digest(&answer.headers);
        let parts = Parts {
            status: answer.status,
            headers: answer.headers,
            url: answer.url,
            host: answer.host,
            digest,
        };
        Response::streaming(parts, Box::new(Plain::new(answer.body)), call, self)
    }

    /// The error for an answer that was not accepted, with what the registry says about it.
    pub(crate) fn refusal(&self, method: &str, mut answer: Answer) -> Error {
        let status = answer.status;
        let most = self.0.options.size(Number::MaxError);
        let (body, is_cut) = match answer.body.read_what_comes(most) {
            Ok(said) => said,
            Err(e) => return e.with_http_status(status),
        };
        let secrets = answer.body.secrets();
        let refusal = Refusal::of(
            &answer.url,
            status,
            &answer.headers,
            (&body, is_cut),
            secrets,
        );
        let mut message = format!(
            "{method} {}: the answer was {status}{}{}",
            answer.url,
            refusal.said(" (", ")"),
            retry::plea(&answer.headers)
        );
        if method == "HEAD" {
            message.push_str("; HEAD answers have no body that would say why");
        }
        let error = if status == 401 {
            let endpoint = self.endpoint(answer.host);
            let at_home = answer.url.origin() == endpoint.policy().home();
            let why = if at_home {
                auth::explain_refusal(&answer.headers, endpoint.auth().has_credentials())
            } else {
                format!(
                    "{} wants credentials, and those of the registry do not go there",
                    answer.url.origin()
                )
            };
            Error::auth(format!("{message}: {why}"))
        } else {
            Error::status(message)
        };
        refusal.tell(error)
    }
}

/// Checks that an answer to GET holds the part that was asked for, as far as that can be told: who takes it for another
/// would put it in the wrong place (RFC 9110 section 15.3.7).
fn check_part(request: &Request, answer: &Answer) -> Result<()> {
    let Some(field) = request.range() else {
        // Who names the status knows what it means.
        return match request.statuses() {
            [] => Err(Error::protocol(format!(
                "{} answered 206, a part, where the whole was asked for",
                answer.url
            ))
            .with_http_status(206)),
            _ => Ok(()),
        };
    };
    let Some((first, last)) = range::asked(field.as_bytes()) else {
        return Ok(());
    };
    let got = download::part(answer)?;
    // It may hold less.
    if got.first != first || last.is_some_and(|last| got.last > last) {
        return Err(Error::protocol(format!(
            "{} answered with the bytes {}-{}, which are not those asked for",
            answer.url, got.first, got.last
        ))
        .with_http_status(206));
    }
    Ok(())
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("registry", &self.0.authority)
            .field("repository", &self.0.repository)
            .finish_non_exhaustive()
    }
}
