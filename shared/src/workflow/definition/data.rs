//! How data goes into and out of tasks, and where things outside the document are found.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::form::{count_set, text_or_object};

/// What a workflow or task takes: a schema of the raw input, and what to make of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Schema>,
    /// An expression, or an object with expressions in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
}

/// What a workflow or task gives: what to make of the raw output, and its schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Schema>,
    /// An expression, or an object with expressions in it.
    #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

/// What the workflow's context becomes after a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Schema>,
    /// An expression, or an object with expressions in it.
    #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

/// A schema, in place (`document`) or elsewhere (`resource`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "SchemaForm", into = "SchemaForm")]
pub struct Schema {
    /// `json` when absent; may carry a version as `json:2020-12`.
    pub format: Option<String>,
    pub source: SchemaSource,
}

#[derive(Debug, Clone, PartialEq)]
pub enum SchemaSource {
    Document(Value),
    Resource(ExternalResource),
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SchemaForm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    format: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    document: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resource: Option<ExternalResource>,
}

impl TryFrom<SchemaForm> for Schema {
    type Error = &'static str;

    fn try_from(form: SchemaForm) -> Result<Self, Self::Error> {
        let source = match (form.document, form.resource) {
            (Some(document), None) => SchemaSource::Document(document),
            (None, Some(resource)) => SchemaSource::Resource(resource),
            _ => return Err("a schema needs exactly one of `document` and `resource`"),
        };
        Ok(Self { format: form.format, source })
    }
}

impl From<Schema> for SchemaForm {
    fn from(schema: Schema) -> Self {
        let (document, resource) = match schema.source {
            SchemaSource::Document(document) => (Some(document), None),
            SchemaSource::Resource(resource) => (None, Some(resource)),
        };
        Self { format: schema.format, document, resource }
    }
}

/// A document that lies elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalResource {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub endpoint: Endpoint,
}

/// An address: a URI template or expression, and how to authenticate there.
#[derive(Debug, Clone, PartialEq)]
pub enum Endpoint {
    Uri(String),
    Configured(EndpointConfiguration),
}

/// The long form of an address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfiguration {
    pub uri: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Box<Authentication>>,
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Uri(uri) => serializer.serialize_str(uri),
            Self::Configured(configuration) => configuration.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a URI or an object with `uri`";
        text_or_object(deserializer, expected, |uri| Ok(Self::Uri(uri)), Self::Configured)
    }
}

/// How to authenticate: one method, or the name (`use`) of one under `use.authentications`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "AuthenticationForm", into = "AuthenticationForm")]
pub enum Authentication {
    Named(String),
    Basic(Credentials),
    Digest(Credentials),
    Bearer(Bearer),
    OAuth2(Grant),
    Oidc(Grant),
}

/// User and password, or the name (`use`) of a secret that holds them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    #[serde(rename = "use", default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// A token, or the name (`use`) of a secret that holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bearer {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    #[serde(rename = "use", default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// How to get a token from an authority (OAuth 2, OpenID Connect).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    #[serde(rename = "use", default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuers: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audiences: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Map<String, Value>>,
}

#[derive(Default, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthenticationForm {
    #[serde(rename = "use", default, skip_serializing_if = "Option::is_none")]
    named: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    basic: Option<Credentials>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Credentials>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bearer: Option<Bearer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    oauth2: Option<Grant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    oidc: Option<Grant>,
}

impl TryFrom<AuthenticationForm> for Authentication {
    type Error = &'static str;

    fn try_from(form: AuthenticationForm) -> Result<Self, Self::Error> {
        let set = [
            form.named.is_some(),
            form.basic.is_some(),
            form.digest.is_some(),
            form.bearer.is_some(),
            form.oauth2.is_some(),
            form.oidc.is_some(),
        ];
        let wrong = "an authentication needs exactly one of `use`, `basic`, `digest`, `bearer`, `oauth2`, `oidc`";
        if count_set(&set) != 1 {
            return Err(wrong);
        }
        let named = form.named.map(Self::Named);
        let login = form.basic.map(Self::Basic).or(form.digest.map(Self::Digest));
        let token = form.bearer.map(Self::Bearer).or(form.oauth2.map(Self::OAuth2)).or(form.oidc.map(Self::Oidc));
        named.or(login).or(token).ok_or(wrong)
    }
}

impl From<Authentication> for AuthenticationForm {
    fn from(authentication: Authentication) -> Self {
        let mut form = Self::default();
        match authentication {
            Authentication::Named(name) => form.named = Some(name),
            Authentication::Basic(credentials) => form.basic = Some(credentials),
            Authentication::Digest(credentials) => form.digest = Some(credentials),
            Authentication::Bearer(bearer) => form.bearer = Some(bearer),
            Authentication::OAuth2(grant) => form.oauth2 = Some(grant),
            Authentication::Oidc(grant) => form.oidc = Some(grant),
        }
        form
    }
}
