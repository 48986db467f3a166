//! Listings that come in pages, linked by `Link` headers (RFC 8288; distribution-spec, "Listing Tags").

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use serde_json::value::RawValue;
use ureq::http::header::{self, HeaderValue};

use crate::digest::{Algorithm, Digest};
use crate::error::{Error, Result};
use crate::json;
use crate::link::{self, Found};
use crate::name::Tag;
use crate::net::call::Call;
use crate::op::Op;
use crate::options::Number;
use crate::policy::Purpose;
use crate::request::Request;
use crate::response::Response;
use crate::retry::{self, Budget};
use crate::transport::Transport;
use crate::url::Url;

/// Most pages in a row that may hold nothing.
const MAX_EMPTY: u32 = 100;

/// A cursor over the pages of a listing.
pub struct Pages {
    transport: Transport,
    request: Request,
    next: Next,
    /// Digests of the addresses that were asked.
    seen: HashSet<Digest>,
}

enum Next {
    First,
    At(Url, Purpose),
    End,
}

/// From one page to the next.
struct Step {
    asked: Digest,
    next: Next,
}

impl fmt::Debug for Pages {
    /// Shows none of the links, for they may be signed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages")
            .field("transport", &self.transport)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

impl Pages {
    /// Starts a listing whose first page `request` gets.
    pub fn new(transport: &Transport, request: &Request) -> Self {
        Self {
            transport: transport.clone(),
            request: request.clone(),
            next: Next::First,
            seen: HashSet::new(),
        }
    }

    /// The next page, or `None` after the last. A page that failed can be asked for again.
    ///
    /// # Errors
    /// Those of [`Transport::request`]; [`Protocol`](crate::error::ErrorKind::Protocol) for a link that is
    /// malformed, leads to another origin or back to an earlier page; [`Limit`](crate::error::ErrorKind::Limit)
    /// beyond `max-pages`.
    pub fn next_page(&mut self, op: Option<&Op>) -> Result<Option<Response>> {
        let call = self.transport.call(op)?;
        let mut budget = self.transport.budget();
        match self.fetch(&call, &mut budget)? {
            Some((page, step)) => {
                self.advance(step);
                Ok(Some(page))
            }
            None => Ok(None),
        }
    }

    /// What `parse` makes of the next page, which is asked for again if the connection breaks while it is read.
    /// A page on which anything fails is not passed over.
    pub(crate) fn next_parsed<T>(
        &mut self,
        call: &Arc<Call>,
        parse: impl Fn(&mut Response) -> Result<T>,
    ) -> Result<Option<T>> {
        let mut budget = self.transport.budget();
        loop {
            let Some((mut page, step)) = self.fetch(call, &mut budget)? else {
                return Ok(None);
            };
            match parse(&mut page) {
                Ok(parsed) => {
                    self.advance(step);
                    return Ok(Some(parsed));
                }
                Err(e) if retry::is_broken_connection(&e) => budget.pause(e, None, call)?,
                Err(e) => return Err(e),
            }
        }
    }

    /// Asks for the next page, without going on to it.
    fn fetch(&self, call: &Arc<Call>, budget: &mut Budget) -> Result<Option<(Response, Step)>> {
        if self.request.method()? != "GET" {
            return Err(Error::argument("a listing is asked for with GET"));
        }
        let (url, purpose) = match &self.next {
            Next::First => (
                self.transport.request_url(&self.request, call)?,
                Purpose::Request,
            ),
            Next::At(url, purpose) => (url.clone(), *purpose),
            Next::End => return Ok(None),
        };
        let most = self.transport.options().number(Number::MaxPages);
        if self.seen.len() as u64 >= most {
            return Err(Error::limit(format!(
                "{url}: the listing has more than {most} pages (option max-pages)"
            )));
        }
        let page = self
            .transport
            .exchange(&self.request, url.clone(), purpose, call, budget)?;
        let asked = name_of(&url);
        // What would silently be a short list is an error.
        let next = match self.follow(&page, &asked, call) {
            Ok(Some(next)) => Next::At(next, Purpose::Link),
            Ok(None) => Next::End,
            Err(e) => return Err(e.redacted(call.secrets())),
        };
        Ok(Some((page, Step { asked, next })))
    }

    fn advance(&mut self, step: Step) {
        self.seen.insert(step.asked);
        self.next = step.next;
    }

    fn follow(&self, page: &Response, asked: &Digest, call: &Arc<Call>) -> Result<Option<Url>> {
        let from = page.effective_url();
        let fields = page
            .header_map()
            .get_all(header::LINK)
            .iter()
            .map(HeaderValue::as_bytes);
        let target = match link::next(from, fields).map_err(|e| e.context(from))? {
            Found::At(target) => target,
            Found::End => return Ok(None),
            Found::Odd => {
                call.log.warn(|| {
                    format!(
                        "{from} links to rel='next', which is not the relation next (RFC 8288): if there is more, it \
                         is not asked for"
                    )
                });
                return Ok(None);
            }
        };
        let next = from
            .resolve(&target)
            .map_err(|e| Error::protocol(format!("{from} links to an unusable next page: {e}")))?
            .without(call.secrets());
        self.transport
            .home(call)?
            .policy()
            .judge(from, &next, Purpose::Link)?;
        let name = name_of(&next);
        if name == *asked || self.seen.contains(&name) {
            return Err(Error::protocol(format!(
                "{from} links back to an earlier page"
            )));
        }
        Ok(Some(next))
    }
}

/// Short however long the address is, which may be signed besides.
fn name_of(url: &Url) -> Digest {
    Digest::of(Algorithm::Sha256, url.wire().as_bytes())
}

/// A cursor over names: tags of a repository, repositories of a registry.
#[derive(Debug)]
pub struct Names {
    pages: Pages,
    member: &'static str,
    ready: VecDeque<String>,
    empty: u32,
}

impl Names {
    /// The tags of the transport's repository (distribution-spec, "Listing Tags"). What is listed and is no tag
    /// by its grammar is passed over and logged.
    pub fn tags(transport: &Transport) -> Self {
        Self::new(transport, "./tags/list", "tags")
    }

    /// The repositories of the transport's registry, as far as it lists them (`_catalog`).
    pub fn repositories(transport: &Transport) -> Self {
        Self::new(transport, "/v2/_catalog", "repositories")
    }

    fn new(transport: &Transport, path: &str, member: &'static str) -> Self {
        let path = match transport.options().number(Number::PageSize) {
            0 => path.to_owned(),
            n => format!("{path}?n={n}"),
        };
        let pages = Pages::new(transport, &Request::new(None, &path));
        Self {
            pages,
            member,
            ready: VecDeque::new(),
            empty: 0,
        }
    }

    /// The next name, getting a page when needed, or `None` after the last.
    ///
    /// # Errors
    /// Those of [`Pages::next_page`], and [`Protocol`](crate::error::ErrorKind::Protocol) for a page that is
    /// no list.
    pub fn next_name(&mut self, op: Option<&Op>) -> Result<Option<String>> {
        if let Some(name) = self.ready.pop_front() {
            return Ok(Some(name));
        }
        // However many pages it takes, the limits are those of one call.
        let call = self.pages.transport.call(op)?;
        loop {
            if let Some(name) = self.ready.pop_front() {
                return Ok(Some(name));
            }
            let member = self.member;
            let page = self.pages.next_parsed(&call, |page| {
                let url = page.url();
                let names = parse_names(page.body_up_to(Number::MaxPage)?, member)
                    .ok_or_else(|| Error::protocol(format!("{url} sent no list of {member}")))?;
                let is_empty = names.is_empty();
                let mut good = Vec::new();
                for name in names {
                    call.check()?;
                    if member != "tags" || is_tag(&name, &call) {
                        good.push(name);
                    }
                }
                Ok((url, is_empty, good))
            })?;
            let Some((url, is_empty, names)) = page else {
                return Ok(None);
            };
            self.empty = if is_empty { self.empty + 1 } else { 0 };
            if self.empty > MAX_EMPTY {
                return Err(Error::protocol(format!(
                    "{url}: {MAX_EMPTY} pages in a row were empty"
                )));
            }
            self.ready.extend(names);
        }
    }
}

/// Some registries list among the tags what is none, such as digests. Nothing could be done with it.
fn is_tag(name: &str, call: &Call) -> bool {
    let is_tag = Tag::parse(name).is_ok();
    if !is_tag {
        call.log.info(|| {
            let name = call.secrets().quote(name.as_bytes(), 200);
            format!("passed over in the list of tags, for it is no tag: {name}")
        });
    }
    is_tag
}

/// The names of a page. A missing or null member is an empty list, and members that are no text are passed
/// over: registries in use send both.
fn parse_names(body: &[u8], member: &str) -> Option<Vec<String>> {
    let text = json::text(body);
    let text = json::mended(&text);
    // Parsed one by one: a page of other things than names would take many times its size.
    let page: BTreeMap<String, &RawValue> = serde_json::from_str(&text).ok()?;
    let Some(all) = page.get(member).filter(|v| v.get() != "null") else {
        return Some(Vec::new());
    };
    let all: Vec<&RawValue> = serde_json::from_str(all.get()).ok()?;
    let names = all.into_iter().map(|v| serde_json::from_str(v.get()));
    Some(names.filter_map(Result::ok).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_names() {
        for (body, want) in [
            (r#"{"tags":["a","b"]}"#, Some(vec!["a", "b"])),
            (r#"{"name":"x","tags":null}"#, Some(vec![])),
            (r#"{"name":"x"}"#, Some(vec![])),
            (
                r#"{"tags":["a",1,null,"b"],"child":["c"],"manifest":{}}"#,
                Some(vec!["a", "b"]),
            ),
            (
                "\u{feff}{\"name\":\"\\ud800\",\"tags\":[\"a\"],\"x\":1e999}",
                Some(vec!["a"]),
            ),
            (r#"{"tags":"a"}"#, None),
            ("[]", None),
            ("<html>", None),
        ] {
            let got = parse_names(body.as_bytes(), "tags");
            assert_eq!(
                got.as_ref().map(|v| v.iter().map(String::as_str).collect()),
                want,
                "{body}"
            );
        }
    }
}
