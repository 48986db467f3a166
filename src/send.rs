//! The one loop through which every request goes: sign, send, and then take the answer, follow it, answer
//! its challenge, or try again.

use std::borrow::Cow;
use std::sync::Arc;

use ureq::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};
use crate::media_type;
use crate::net::call::Call;
use crate::net::{Body, Exchange, Incoming, Net, Outgoing};
use crate::policy::{Passage, Policy, Purpose};
use crate::refusal::Refusal;
use crate::response::content_type;
use crate::retry::{self, Budget};
use crate::source::{Opened, Source};
use crate::url::{Origin, Url};
use crate::warnings::Warnings;

/// Most stale pooled connections that one request tries before it counts as a failure.
const MAX_STALE: u32 = 4;

/// A request, ready but for its credentials.
pub(crate) struct Message<'a> {
    pub(crate) method: &'a str,
    pub(crate) url: Cow<'a, Url>,
    pub(crate) headers: Cow<'a, [(HeaderName, HeaderValue)]>,
    pub(crate) body: Option<Payload<'a>>,
    pub(crate) repeat: Repeat,
    pub(crate) max_redirects: u64,
    /// What led to `url`.
    pub(crate) purpose: Purpose,
    /// Statuses the caller wants to see as they are.
    pub(crate) wanted: &'a [u16],
}

/// Whether a message may be sent again after it may have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// If its method is idempotent.
    ByMethod,
    /// Although its method is not: nothing is lost if it was done twice.
    Always,
    /// Not before the caller has asked how far it came.
    Never,
}

/// A part of a source.
#[derive(Clone, Copy)]
pub(crate) struct Payload<'a> {
    pub(crate) source: &'a Source,
    pub(crate) offset: u64,
    /// `None` sends what there is, in chunks of unknown number.
    pub(crate) length: Option<u64>,
    /// Whether it counts in the progress of the call.
    pub(crate) counted: bool,
}

/// A part of a source, opened where it begins.
struct Started<'a> {
    payload: Payload<'a>,
    reader: Opened,
}

impl<'a> Started<'a> {
    fn of(payload: Payload<'a>) -> Result<Self> {
        let reader = payload.source.open(payload.offset)?;
        Ok(Self { payload, reader })
    }
}

/// Supplies credentials for a message.
pub(crate) trait Signer {
    /// The Authorization for a request to the origin the credentials belong to.
    fn sign(&mut self, budget: &mut Budget) -> Result<Option<HeaderValue>>;

    /// Whether what it signed with last is still good after a wait.
    fn is_current(&self) -> bool {
        true
    }

    /// Told that the origin answered 401 or 403; whether to sign and send again.
    fn refused(&mut self, status: u16, url: &Url, headers: &HeaderMap) -> Result<bool>;
}

/// What came back, and from where.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// The URL that answered, after redirects.
    pub(crate) url: Url,
    /// Whether a redirect was followed.
    pub(crate) was_redirected: bool,
    /// Which of the registry's hosts was asked.
    pub(crate) host: usize,
}

impl Answer {
    /// Whether HEAD is not answered here, which says nothing of what was asked about. The URL that a storage signs may
    /// be for GET alone.
    pub(crate) fn refuses_head(&self) -> bool {
        matches!(self.status, 405 | 501) || (self.status == 403 && self.was_redirected)
    }

    /// Whether a redirect led to a page for people, as the one where they sign in. That is not what was asked for.
    pub(crate) fn is_page(&self) -> bool {
        let told = content_type(&self.headers);
        self.was_redirected && told.is_some_and(|told| media_type::same(told, "text/html"))
    }
}

/// What a message is sent with.
pub(crate) struct Route<'a> {
    pub(crate) net: &'a Net,
    pub(crate) policy: &'a Policy,
    pub(crate) warnings: &'a Warnings,
    pub(crate) call: &'a Arc<Call>,
}

impl Route<'_> {
    /// Sends a message of the registry's, until there is an answer to give back.
    pub(crate) fn send(
        &self,
        message: &Message<'_>,
        signer: &mut dyn Signer,
        budget: &mut Budget,
    ) -> Result<Answer> {
        self.send_with(message, signer, budget, self.policy.home())
    }

    /// Sends a message whose credentials belong to `owner`.
    pub(crate) fn send_with(
        &self,
        message: &Message<'_>,
        signer: &mut dyn Signer,
        budget: &mut Budget,
        owner: &Origin,
    ) -> Result<Answer> {
        let mut last = None;
        self.repeat(message, signer, budget, owner, &mut last)
            .map_err(|e| retry::after(e, last).redacted(self.call.secrets()))
    }

    /// Sends a message until there is an answer to give back. `last` is the answer that was repeated last.
    fn repeat(
        &self,
        message: &Message<'_>,
        signer: &mut dyn Signer,
        budget: &mut Budget,
        owner: &Origin,
        last: &mut Option<Error>,
    ) -> Result<Answer> {
        let mut url = Cow::Borrowed(&*message.url);
        let mut method = message.method;
        let mut body = message.body;
        let mut passage = self.policy.judge(&url, &url, message.purpose)?;
        // Having left the origin of its credentials, a request never takes them up again.
        let mut carries = url.origin() == owner;
        let mut hops = 0;
        let mut stale = 0;
        loop {
            // What takes its time comes before the token, which may be short-lived.
            let body_now = {
                let _entered = self.call.enter();
                body.map(Started::of).transpose()?
            };
            let mut authorization = if carries { signer.sign(budget)? } else { None };
            let turn = self.net.turn(url.origin(), self.call)?;
            if carries && turn.is_late() && !signer.is_current() {
                authorization = signer.sign(budget)?;
            }
            let repeats = match message.repeat {
                Repeat::ByMethod => is_idempotent(method),
                Repeat::Always => true,
                Repeat::Never => false,
            };
            let headers = self.headers(message, body.is_some(), authorization, &passage);
            let trusts_kept = repeats && stale == 0;
            let exchange = Exchange {
                method,
                url: &url,
                headers,
                trusts_kept,
                rule: passage.rule,
                home: passage.home.clone(),
                turn,
            };
            let attempt = self.attempt(exchange, body_now);
            let may_repeat = repeats || !self.call.wrote();
            // A token that is late keeps everything waiting; other requests may be slow for good reasons.
            let waits_again = message.purpose == Purpose::Realm || !self.call.wrote();
            let was_kept = self.call.on_used_connection() && stale < MAX_STALE;
            let answer = match attempt {
                Ok(answer) => answer,
                // An alert may have come on a kept connection behind the answer before.
                Err(e)
                    if may_repeat
                        && (budget.may_pass(&e, waits_again)
                            || (was_kept && e.kind() == ErrorKind::Tls)) =>
                {
                    self.call.check()?;
                    if was_kept && !e.is_slow() {
                        stale += 1;
                        self.call
                            .log
                            .debug(|| format!("a kept connection was closed, trying another: {e}"));
                    } else {
                        budget.pause(e, None, self.call)?;
                    }
                    continue;
                }
                Err(e) if may_repeat => return Err(e),
                // It may have been done: no advice to do it again.
                Err(e) => return Err(e.with_retry_after(None)),
            };
            if passage.is_home {
                self.warnings.of(&answer.headers, &url, &self.call.log);
            }
            let status = answer.status;
            let again = match status {
                401 | 403 if carries => signer.refused(status, &url, &answer.headers)?,
                _ => false,
            };
            if again {
                // A server that did not read the body may end the connection after its answer. What cannot be
                // repeated a second time does not go on one that is about to end.
                if repeats || body.is_none() {
                    answer.body.discard();
                }
                continue;
            }
            let is_wanted = message.wanted.contains(&status);
            if matches!(status, 301 | 302 | 303 | 307 | 308)
                && !is_wanted
                && message.max_redirects > 0
                && !body.is_some_and(|b| b.source.is_secret() && !stays(&url, &answer))
            {
                hops += 1;
                if hops > message.max_redirects {
                    return Err(Error::protocol(format!(
                        "{url}: more than {} redirects",
                        message.max_redirects
                    ))
                    .with_http_status(status));
                }
                let (next, next_passage) = self
                    .redirect(&url, &answer)
                    .map_err(|e| e.with_http_status(status))?;
                answer.body.discard();
                carries &= next.origin() == owner;
                if status == 303 && method != "HEAD" {
                    method = "GET";
                    body = None;
                }
                (url, passage) = (Cow::Owned(next), next_passage);
                continue;
            }
            let transient = retry::is_transient(status) && !is_wanted;
            if transient && repeats {
                if let Some(pause) = budget.next(retry::asked_for(&answer.headers), self.call) {
                    let failure = last.insert(self.refusal(&url, message.purpose, answer)?);
                    budget.wait(pause, failure, self.call)?;
                    continue;
                }
                // Out of repetitions: the caller gets the answer, and with it what the server says.
                self.call.check()?;
            }
            let Incoming {
                status,
                headers,
                body,
            } = answer;
            return Ok(Answer {
                status,
                headers,
                body,
                url: url.into_owned(),
                was_redirected: hops > 0,
                host: 0,
            });
        }
    }

    /// The header fields of an attempt.
    fn headers(
        &self,
        message: &Message<'_>,
        has_body: bool,
        authorization: Option<HeaderValue>,
        passage: &Passage,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let lost_its_body = message.body.is_some() && !has_body;
        let goes = |name: &HeaderName| {
            // Content-Range and the like say something of the body that is not sent.
            !(lost_its_body && name.as_str().starts_with("content-"))
                && (passage.is_home || is_portable(name))
                && !(authorization.is_some() && name == header::AUTHORIZATION)
        };
        let given = message.headers.iter().filter(|(name, _)| goes(name));
        let mut headers: Vec<_> = given.cloned().collect();
        let secrets = self.call.secrets();
        for (name, value) in headers.iter().filter(|(name, _)| !is_portable(name)) {
            if name == header::COOKIE {
                secrets.remember_cookies(value.as_bytes());
            } else {
                secrets.remember_field(value.as_bytes());
            }
        }
        if let Some(value) = authorization {
            secrets.remember_authorization(value.as_bytes());
            headers.push((header::AUTHORIZATION, value));
        }
        headers
    }

    fn attempt(&self, exchange: Exchange<'_>, body: Option<Started<'_>>) -> Result<Incoming> {
        let (log, url) = (&self.call.log, exchange.url);
        log.debug(|| format!("> {} {url}", exchange.method));
        let mut started;
        let outgoing = match body {
            None => Outgoing::None,
            Some(body) => {
                started = body;
                let payload = started.payload;
                let op = self.call.progress().filter(|_| payload.counted);
                if let Some(op) = op {
                    op.rewind(payload.offset);
                }
                Outgoing::Reader {
                    reader: &mut started.reader,
                    length: payload.length,
                    op,
                }
            }
        };
        let answer = self.net.send(exchange, outgoing, self.call);
        match &answer {
            Ok(answer) => log.debug(|| format!("< {} from {url}", answer.status)),
            Err(e) => log.debug(|| format!("< failed: {e}")),
        }
        answer
    }

    /// What an answer says that is repeated. It counts only if nothing better comes.
    fn refusal(&self, url: &Url, purpose: Purpose, answer: Incoming) -> Result<Error> {
        let Incoming {
            status,
            headers,
            mut body,
        } = answer;
        let (body, is_cut) = body.read_what_comes(self.call.limits().refusal)?;
        let body = Zeroizing::new(body);
        let of = match purpose {
            Purpose::Realm => Refusal::of_token_service,
            _ => Refusal::of,
        };
        let refusal = of(url, status, &headers, (&body, is_cut), self.call.secrets());
        let message = format!("{url} answered {status}{}", refusal.said(" (", ")"));
        Ok(refusal.tell(Error::status(message)))
    }

    fn redirect(&self, url: &Url, answer: &Incoming) -> Result<(Url, Passage)> {
        let location = location(&answer.headers)
            .ok_or_else(|| Error::protocol(format!("{url} redirects without a usable Location")))?;
        let next = url.resolve(&location).map_err(|e| {
            Error::protocol(format!("{url} redirects to an unusable Location: {e}"))
        })?;
        // What signed it may be in the next one, too.
        self.call.secrets().remember_signatures(url);
        let next = next.without(self.call.secrets());
        let passage = self.policy.judge(url, &next, Purpose::Redirect)?;
        self.call.log.debug(|| format!("redirected to {next}"));
        Ok((next, passage))
    }
}

/// Whether a redirect leads to where the request went, with all that it carried.
fn stays(url: &Url, answer: &Incoming) -> bool {
    let next = || url.resolve(&location(&answer.headers)?).ok();
    matches!(answer.status, 307 | 308) && next().is_some_and(|next| next.origin() == url.origin())
}

/// The text of the Location field, when there is just one and it is not empty.
pub(crate) fn location(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(header::LOCATION).iter();
    let value = std::str::from_utf8(values.next()?.as_bytes()).ok()?.trim();
    (values.next().is_none() && !value.is_empty()).then(|| value.to_owned())
}

/// RFC 9110 section 9.2.2.
fn is_idempotent(method: &str) -> bool {
    matches!(
        method,
        "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE"
    )
}

/// Headers that may go to another origin than the one they were meant for (RFC 9110 section 15.4); others
/// may be credentials.
pub(crate) fn is_portable(name: &HeaderName) -> bool {
    const PORTABLE: [HeaderName; 9] = [
        header::ACCEPT,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::IF_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_NONE_MATCH,
        header::IF_RANGE,
        header::RANGE,
        header::USER_AGENT,
    ];
    PORTABLE.contains(name)
}
