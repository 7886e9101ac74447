//! What a token is asked for with (specification, sections "OAUTH2 Authentication" and "OpenIdConnect Authentication";
//! RFC 6749, RFC 8693).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use edge_core::engine::effect::{Failure, kind};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value};
use shared::digest::Digest;

use super::super::{
    errand::Errand,
    http::{Request, address, encode},
};

const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const DISCOVERY: &str = "/.well-known/openid-configuration";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Properties {
    authority: String,
    grant: String,
    #[serde(default)]
    endpoints: Endpoints,
    #[serde(default)]
    client: Client,
    #[serde(default)]
    request: Encoding,
    #[serde(default)]
    issuers: Vec<String>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    audiences: Vec<String>,
    username: Option<String>,
    password: Option<String>,
    subject: Option<Party>,
    actor: Option<Party>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Endpoints {
    token: String,
    /// Part of the language; nothing here asks them.
    #[serde(rename = "revocation")]
    _revocation: String,
    #[serde(rename = "introspection")]
    _introspection: String,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self { token: "/oauth2/token".to_owned(), _revocation: String::new(), _introspection: String::new() }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Client {
    id: Option<String>,
    secret: Option<String>,
    assertion: Option<String>,
    #[serde(default)]
    authentication: ClientAuthentication,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ClientAuthentication {
    ClientSecretBasic,
    #[default]
    ClientSecretPost,
    ClientSecretJwt,
    PrivateKeyJwt,
    None,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Encoding {
    encoding: Option<String>,
}

/// A token that stands for somebody.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Party {
    token: String,
    #[serde(rename = "type")]
    kind: String,
}

/// A token's request, parsed. Two with the same properties share their token.
pub(in super::super) struct Grant {
    properties: Properties,
    is_oidc: bool,
    /// Of the properties, the secrets among them.
    pub(super) digest: Digest,
}

impl Grant {
    pub(super) fn parse(errand: &Errand<'_>, scheme: &str, given: &Value) -> Result<Self, Failure> {
        let field = format!("authentication.{scheme}");
        let properties: Properties = serde_path_to_error::deserialize(given).map_err(|error| {
            // The parser's own words could quote a secret.
            let at = error.path().to_string();
            errand.wrong(&format!("{field}.{at}"), "expected what the specification says of it")
        })?;
        let needs = |is_there: bool, name: &str, why: &str| match is_there {
            true => Ok(()),
            false => Err(errand.wrong(&format!("{field}.{name}"), &format!("expected for {why}"))),
        };
        match properties.grant.as_str() {
            "client_credentials" => {}
            "password" => {
                needs(properties.username.is_some(), "username", "the grant password")?;
                needs(properties.password.is_some(), "password", "the grant password")?;
            }
            TOKEN_EXCHANGE => needs(properties.subject.is_some(), "subject", "a token exchange")?,
            other => {
                let expected = format!(
                    "{other:?} needs somebody at a browser; expected client_credentials, password or {TOKEN_EXCHANGE}"
                );
                return Err(errand.failure(kind::CONFIGURATION, &format!("{field}.grant: {expected}")));
            }
        }
        let client = &properties.client;
        if client.authentication != ClientAuthentication::None {
            needs(client.id.is_some(), "client.id", "a client that authenticates")?;
        }
        let wants_assertion = matches!(
            client.authentication,
            ClientAuthentication::ClientSecretJwt | ClientAuthentication::PrivateKeyJwt
        );
        needs(!wants_assertion || client.assertion.is_some(), "client.assertion", "a client that signs")?;
        let digest = Digest::of(format!("{scheme} {given}").as_bytes());
        Ok(Self { properties, is_oidc: scheme == "oidc", digest })
    }

    /// The request for a token, to the endpoint that the authority names.
    pub(super) async fn request(&self, errand: &Errand<'_>) -> Result<Request, Failure> {
        let endpoint = self.endpoint(errand).await?;
        let mut request = Request::new(errand, "POST", address(errand, "authentication.authority", &endpoint)?)?;
        request.function = "oauth2".to_owned();
        request.is_private = true;
        let is_json = match self.properties.request.encoding.as_deref() {
            None | Some("application/x-www-form-urlencoded") => false,
            Some("application/json") => true,
            Some(other) => {
                let expected = format!("{other:?}; expected application/x-www-form-urlencoded or application/json");
                return Err(errand.wrong("authentication.request.encoding", &expected));
            }
        };
        let kind = if is_json { "application/json" } else { "application/x-www-form-urlencoded" };
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        request.add_header(errand, "accept", "application/json")?;
        let mut fields = self.fields();
        self.authenticate(errand, &mut request, &mut fields)?;
        request.body = Some(encode(errand, &Value::Object(fields), &mut request.headers)?);
        Ok(request)
    }

    /// Whether the authority's name is one of those that the document takes tokens from; it names none: any.
    pub(super) fn takes_issuer(&self, issuer: Option<&str>) -> bool {
        let same = |known: &String| issuer.is_some_and(|i| i.trim_end_matches('/') == known.trim_end_matches('/'));
        self.properties.issuers.is_empty() || self.properties.issuers.iter().any(same)
    }

    fn fields(&self) -> Map<String, Value> {
        let properties = &self.properties;
        let mut fields = Map::new();
        let mut add = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value.into());
            }
        };
        add("grant_type", Some(&properties.grant));
        if properties.grant == "password" {
            add("username", properties.username.as_deref());
            add("password", properties.password.as_deref());
        }
        add("scope", Some(properties.scopes.join(" ")).filter(|scopes| !scopes.is_empty()).as_deref());
        for (name, party) in [("subject", &properties.subject), ("actor", &properties.actor)] {
            add(&format!("{name}_token"), party.as_ref().map(|party| party.token.as_str()));
            add(&format!("{name}_token_type"), party.as_ref().map(|party| party.kind.as_str()));
        }
        match &properties.audiences[..] {
            [] => {}
            [one] => add("audience", Some(one)),
            many => drop(fields.insert("audience".to_owned(), many.into())),
        }
        fields
    }

    fn authenticate(
        &self,
        errand: &Errand<'_>,
        request: &mut Request,
        fields: &mut Map<String, Value>,
    ) -> Result<(), Failure> {
        let Client { id, secret, assertion, authentication } = &self.properties.client;
        let id = id.as_deref().unwrap_or_default();
        let mut add = |name: &str, value: &str| drop(fields.insert(name.to_owned(), value.into()));
        match authentication {
            ClientAuthentication::ClientSecretBasic => {
                // RFC 6749, 2.3.1: both are written as in a form before they become a login.
                let form = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                let pair = format!("{}:{}", form(id), form(secret.as_deref().unwrap_or_default()));
                let unfit = |_| errand.wrong("authentication.client", "has letters that a header cannot carry");
                let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair))).map_err(unfit)?;
                value.set_sensitive(true);
                request.headers.insert(AUTHORIZATION, value);
            }
            ClientAuthentication::ClientSecretPost => {
                add("client_id", id);
                if let Some(secret) = secret {
                    add("client_secret", secret);
                }
            }
            ClientAuthentication::ClientSecretJwt | ClientAuthentication::PrivateKeyJwt => {
                add("client_id", id);
                add("client_assertion_type", JWT_BEARER);
                add("client_assertion", assertion.as_deref().unwrap_or_default());
            }
            ClientAuthentication::None if !id.is_empty() => add("client_id", id),
            ClientAuthentication::None => {}
        }
        Ok(())
    }

    /// Where tokens are given: under the authority for oauth2, as its own document says for oidc.
    async fn endpoint(&self, errand: &Errand<'_>) -> Result<String, Failure> {
        let authority = self.properties.authority.trim_end_matches('/');
        if !self.is_oidc && !authority.ends_with(DISCOVERY) {
            let path = &self.properties.endpoints.token;
            if path.contains("://") {
                return Ok(path.clone());
            }
            return Ok(format!("{authority}/{}", path.trim_start_matches('/')));
        }
        let discovery = match authority.ends_with(DISCOVERY) {
            true => authority.to_owned(),
            false => format!("{authority}{DISCOVERY}"),
        };
        let document = errand.ways.documents.fetch_address(errand, &discovery).await?;
        let document = document.parsed(errand)?;
        let issuer = document.get("issuer").and_then(Value::as_str);
        if !self.takes_issuer(issuer) {
            let detail = format!("the authority calls itself {:?}, which is none of `issuers`", issuer.unwrap_or(""));
            return Err(errand.failure(kind::AUTHENTICATION, &detail));
        }
        let endpoint = document.get("token_endpoint").and_then(Value::as_str).map(str::to_owned);
        endpoint.ok_or_else(|| errand.failure(kind::AUTHENTICATION, &format!("{discovery} names no `token_endpoint`")))
    }
}
