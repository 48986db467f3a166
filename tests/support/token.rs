//! A token server: the distribution token specification over GET, and OAuth 2 over POST. Its
//! tokens are opaque, or JWTs (ES256) that a real registry accepts.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

use super::pki::{Ca, Identity};
use super::server::{Answer, Request, Server, lock};

/// What a scope names: `repository:a/b:pull,push`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    pub kind: String,
    pub name: String,
    pub actions: Vec<String>,
}

impl Access {
    /// Reads `kind:name:action,action`.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        Some(Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
            actions: actions
                .split(',')
                .filter(|action| !action.is_empty())
                .map(str::to_owned)
                .collect(),
        })
    }

    /// The scope as text.
    pub fn text(&self) -> String {
        format!("{}:{}:{}", self.kind, self.name, self.actions.join(","))
    }
}

struct User {
    password: String,
    rights: Vec<Access>,
}

/// One successful exchange.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub method: String,
    /// Empty for an anonymous client.
    pub user: String,
    /// The scopes asked for, as they came.
    pub asked: Vec<String>,
    pub granted: Vec<Access>,
    pub token: String,
}

/// What a registry makes of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    Insufficient,
    Invalid,
}

struct Grant {
    access: Vec<Access>,
    expires: Instant,
}

/// The state of a token server; [`TokenServer::answer`] is its handler.
pub struct TokenServer {
    service: String,
    issuer: String,
    users: HashMap<String, User>,
    /// `expires_in` of the answers; none leaves the field out.
    expires_in: Option<u64>,
    /// How long a token really lives.
    lifetime: Duration,
    /// How many seconds longer a registry believes a signed token.
    leeway: AtomicU64,
    /// The status of every POST, such as 404 for a server without OAuth 2.
    post_status: Option<u16>,
    /// The member that carries the token: `token`, `access_token`, or both.
    members: Vec<&'static str>,
    /// What opaque tokens begin with.
    prefix: &'static str,
    signer: Option<Signer>,
    grants: Mutex<HashMap<String, Grant>>,
    refresh: Mutex<HashMap<String, String>>,
    exchanges: Mutex<Vec<Exchange>>,
    serial: AtomicUsize,
}

struct Signer {
    key: EcdsaKeyPair,
    identity: Identity,
}

impl TokenServer {
    /// A server of opaque tokens for this service, without users.
    pub fn new(service: &str) -> Self {
        Self {
            service: service.to_owned(),
            issuer: "test-token-server".to_owned(),
            users: HashMap::new(),
            expires_in: Some(300),
            lifetime: Duration::from_secs(300),
            leeway: AtomicU64::new(0),
            post_status: None,
            members: vec!["token", "access_token"],
            prefix: "T",
            signer: None,
            grants: Mutex::default(),
            refresh: Mutex::default(),
            exchanges: Mutex::default(),
            serial: AtomicUsize::new(0),
        }
    }

    /// Adds a user with scopes such as `repository:demo/*:pull,push`; a name may end in `*`.
    pub fn user(mut self, name: &str, password: &str, rights: &[&str]) -> Self {
        let rights = rights
            .iter()
            .map(|right| Access::parse(right).expect("a scope"))
            .collect();
        self.users.insert(
            name.to_owned(),
            User {
                password: password.to_owned(),
                rights,
            },
        );
        self
    }

    /// What clients without credentials may do.
    pub fn anonymous(self, rights: &[&str]) -> Self {
        self.user("", "", rights)
    }

    /// Sets `expires_in` (none leaves it out) and the life of a token.
    pub fn expires_in(mut self, seconds: Option<u64>) -> Self {
        self.expires_in = seconds;
        self.lifetime = Duration::from_secs(seconds.unwrap_or(60));
        self
    }

    /// Sets the life of a token apart from what `expires_in` says.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Takes what a registry forgives off the `exp` of signed tokens from now on, so that they live as long
    /// there as they are said to.
    pub fn set_leeway(&self, leeway: Duration) {
        self.leeway.store(leeway.as_secs(), Ordering::SeqCst);
    }

    /// Answers every POST with this status.
    pub fn post_status(mut self, status: u16) -> Self {
        self.post_status = Some(status);
        self
    }

    /// The members of the answer that carry the token.
    pub fn members(mut self, members: &[&'static str]) -> Self {
        self.members = members.to_vec();
        self
    }

    /// What opaque tokens begin with, instead of `T`.
    pub fn prefix(mut self, prefix: &'static str) -> Self {
        self.prefix = prefix;
        self
    }

    /// Issues signed JWTs; the signing certificate is a new one of `ca`.
    pub fn signed(mut self, ca: &Ca) -> Self {
        let identity = ca.server_for(&["token-signer.example"]);
        let key = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &identity.key,
            &SystemRandom::new(),
        )
        .expect("an ECDSA key");
        self.signer = Some(Signer { key, identity });
        self
    }

    /// The name of the service tokens are for.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The `iss` claim.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The PEM file of the signing certificate, for a registry's `rootcertbundle`.
    pub fn root_bundle(&self) -> Option<&Path> {
        self.signer
            .as_ref()
            .map(|signer| signer.identity.certificate_path.as_path())
    }

    /// The same, as an owned path.
    pub fn root_bundle_path(&self) -> Option<PathBuf> {
        self.root_bundle().map(Path::to_path_buf)
    }

    /// Starts a server with this handler at every path.
    pub fn start(self: &std::sync::Arc<Self>, ca: Option<&Ca>) -> Server {
        let token = self.clone();
        let handler = move |request: &Request| token.answer(request);
        match ca {
            Some(ca) => Server::start_tls(ca, handler),
            None => Server::start(handler),
        }
    }

    /// The successful exchanges so far.
    pub fn exchanges(&self) -> Vec<Exchange> {
        lock(&self.exchanges).clone()
    }

    /// How many exchanges succeeded.
    pub fn exchange_count(&self) -> usize {
        lock(&self.exchanges).len()
    }

    /// Ends the life of every token issued so far.
    pub fn expire_all(&self) {
        lock(&self.grants).clear();
    }

    /// Ends the life of every refresh token issued so far.
    pub fn revoke_refresh_tokens(&self) {
        lock(&self.refresh).clear();
    }

    /// Issues a refresh token without an exchange.
    pub fn refresh_token(&self, user: &str) -> String {
        let serial = self.serial.fetch_add(1, Ordering::SeqCst) + 1;
        let token = format!("refresh-{serial}-{user}");
        lock(&self.refresh).insert(token.clone(), user.to_owned());
        token
    }

    /// Whether this token may do `action` on `kind:name`. An empty action asks only for validity.
    pub fn check(&self, token: &str, kind: &str, name: &str, action: &str) -> Verdict {
        let grants = lock(&self.grants);
        let Some(grant) = grants.get(token) else {
            return Verdict::Invalid;
        };
        if grant.expires <= Instant::now() {
            return Verdict::Invalid;
        }
        let granted = action.is_empty()
            || grant.access.iter().any(|access| {
                access.kind == kind
                    && access.name == name
                    && access.actions.iter().any(|a| a == action || a == "*")
            });
        if granted {
            Verdict::Allowed
        } else {
            Verdict::Insufficient
        }
    }

    /// Whether this is a user's password.
    pub fn password_ok(&self, user: &str, password: &str) -> bool {
        !user.is_empty()
            && self
                .users
                .get(user)
                .is_some_and(|known| known.password == password)
    }

    /// The handler of the token endpoint.
    pub fn answer(&self, request: &Request) -> Answer {
        match request.method.as_str() {
            "GET" => self.get(request),
            "POST" => match self.post_status {
                Some(status) => Answer::error(status, "UNSUPPORTED", "no OAuth 2 here"),
                None => self.post(request),
            },
            _ => Answer::error(405, "UNSUPPORTED", "GET or POST"),
        }
    }

    fn get(&self, request: &Request) -> Answer {
        let unauthorized = || Answer::challenge("Basic realm=\"token server\"");
        let user = match (request.header("authorization"), request.basic()) {
            (None, _) => String::new(),
            (Some(_), None) => return unauthorized(),
            (Some(_), Some((user, secret))) if user == "<token>" => {
                match self.refresh_user(&secret) {
                    Some(user) => user,
                    None => return unauthorized(),
                }
            }
            (Some(_), Some((user, password))) => {
                if !self.password_ok(&user, &password) {
                    return unauthorized();
                }
                user
            }
        };
        let service = request.query_param("service").unwrap_or_default();
        let scopes = request.query_params("scope");
        let offline = request.query_param("offline_token").as_deref() == Some("true");
        let refresh = (offline && !user.is_empty()).then(|| self.refresh_token(&user));
        self.issue(request, &user, &service, &scopes, refresh, false)
    }

    fn post(&self, request: &Request) -> Answer {
        let field = |name: &str| request.form_param(name).unwrap_or_default();
        if field("client_id").is_empty() {
            return oauth_error("invalid_request", "client_id is missing");
        }
        let offline = field("access_type") == "offline";
        let (user, refresh) = match field("grant_type").as_str() {
            "password" => {
                let user = field("username");
                if !self.password_ok(&user, &field("password")) {
                    return Answer::error(401, "UNAUTHORIZED", "authentication required");
                }
                let refresh = offline.then(|| self.refresh_token(&user));
                (user, refresh)
            }
            "refresh_token" => {
                let token = field("refresh_token");
                match self.refresh_user(&token) {
                    Some(user) => (user, offline.then_some(token)),
                    None => {
                        return Answer::error(401, "UNAUTHORIZED", "authentication required");
                    }
                }
            }
            _ => return oauth_error("unsupported_grant_type", "password or refresh_token"),
        };
        let scopes: Vec<String> = request
            .form()
            .into_iter()
            .filter(|(key, _)| key == "scope")
            .map(|(_, value)| value)
            .collect();
        self.issue(request, &user, &field("service"), &scopes, refresh, true)
    }

    fn refresh_user(&self, token: &str) -> Option<String> {
        lock(&self.refresh).get(token).cloned()
    }

    fn issue(
        &self,
        request: &Request,
        user: &str,
        service: &str,
        scopes: &[String],
        refresh: Option<String>,
        oauth: bool,
    ) -> Answer {
        if service != self.service {
            return Answer::error(400, "UNSUPPORTED", "unknown service");
        }
        let mut granted = Vec::new();
        for text in scopes.iter().flat_map(|scope| scope.split_whitespace()) {
            let Some(asked) = Access::parse(text) else {
                return Answer::error(400, "UNSUPPORTED", "malformed scope");
            };
            granted.push(self.grant(user, asked));
        }
        let token = match &self.signer {
            Some(signer) => self.jwt(signer, user, &granted),
            None => self.opaque(),
        };
        lock(&self.grants).insert(
            token.clone(),
            Grant {
                access: granted.clone(),
                expires: Instant::now() + self.lifetime,
            },
        );
        lock(&self.exchanges).push(Exchange {
            method: request.method.clone(),
            user: user.to_owned(),
            asked: scopes.to_vec(),
            granted: granted.clone(),
            token: token.clone(),
        });
        let mut document = json!({"issued_at": rfc3339(SystemTime::now())});
        for &member in &self.members {
            document[member] = token.clone().into();
        }
        if let Some(seconds) = self.expires_in {
            document["expires_in"] = seconds.into();
        }
        if let Some(refresh) = refresh {
            document["refresh_token"] = refresh.into();
        }
        if oauth {
            let scope: Vec<String> = granted.iter().map(Access::text).collect();
            document["scope"] = scope.join(" ").into();
        }
        Answer::json(200, &document)
    }

    fn grant(&self, user: &str, asked: Access) -> Access {
        let rights = self.users.get(user).map_or(&[][..], |user| &user.rights);
        let allowed = |action: &String| {
            rights.iter().any(|right| {
                right.kind == asked.kind
                    && match right.name.strip_suffix('*') {
                        Some(prefix) => asked.name.starts_with(prefix),
                        None => right.name == asked.name,
                    }
                    && right.actions.iter().any(|a| a == action || a == "*")
            })
        };
        let actions = asked
            .actions
            .iter()
            .filter(|a| allowed(a))
            .cloned()
            .collect();
        Access { actions, ..asked }
    }

    fn opaque(&self) -> String {
        let serial = self.serial.fetch_add(1, Ordering::SeqCst) + 1;
        format!("{}{serial}", self.prefix)
    }

    fn jwt(&self, signer: &Signer, user: &str, granted: &[Access]) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let access: Vec<Value> = granted
            .iter()
            .map(|a| json!({"type": a.kind, "name": a.name, "actions": a.actions}))
            .collect();
        let header = json!({
            "typ": "JWT",
            "alg": "ES256",
            "x5c": [BASE64_STANDARD.encode(&signer.identity.chain[0])],
        });
        let claims = json!({
            "iss": self.issuer,
            "sub": user,
            "aud": self.service,
            "iat": now,
            "nbf": now.saturating_sub(10),
            "exp": (now + self.lifetime.as_secs()).saturating_sub(self.leeway.load(Ordering::SeqCst)),
            "jti": self.opaque(),
            "access": access,
        });
        let text = format!(
            "{}.{}",
            BASE64_URL_SAFE_NO_PAD.encode(header.to_string()),
            BASE64_URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signature = signer
            .key
            .sign(&SystemRandom::new(), text.as_bytes())
            .expect("a signature");
        format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

fn oauth_error(error: &str, description: &str) -> Answer {
    Answer::json(
        400,
        &json!({"error": error, "error_description": description}),
    )
}

/// `2025-01-31T12:00:00Z`.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (year, month, day) = civil_from_days(seconds / 86_400);
    let rest = seconds % 86_400;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

fn civil_from_days(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    let leap = |year: u64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}
