//! Hosts that are reached elsewhere: a mirror or a proxy within the site, a service on a laptop. What a workflow names is
//! what policy is asked about and what the ledger says; the connection alone goes elsewhere.

use std::collections::BTreeMap;

use reqwest::{
    Url,
    header::{HOST, HeaderMap, HeaderValue},
};

use super::config::Address;

/// By `host` or `host:port`, in small letters.
#[derive(Debug, Default)]
pub(super) struct Hosts(pub(super) BTreeMap<String, Address>);

impl Hosts {
    /// Where a request for this address goes. The server is told the host that was named.
    pub(super) fn reach(&self, named: &Url, headers: &mut HeaderMap) -> Url {
        let Some(host) = named.host_str() else { return named.clone() };
        let with_port = named.port_or_known_default().map(|port| format!("{host}:{port}"));
        let found = with_port.and_then(|name| self.0.get(&name)).or_else(|| self.0.get(host));
        let Some(Address(elsewhere)) = found else { return named.clone() };
        let mut reached = elsewhere.clone();
        reached.set_path(named.path());
        reached.set_query(named.query());
        let authority = named.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        if let Ok(authority) = HeaderValue::from_str(&authority) {
            headers.insert(HOST, authority);
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_reached_where_the_node_says_and_told_its_name() {
        let to = |text: &str| Address::try_from(text.to_owned()).expect("an address");
        let hosts = Hosts(BTreeMap::from([
            ("erp.example".to_owned(), to("http://127.0.0.1:8080")),
            ("erp.example:8443".to_owned(), to("https://mirror.site")),
        ]));
        for (named, reached, told) in [
            ("https://erp.example/a/b?c=d%20e", "http://127.0.0.1:8080/a/b?c=d%20e", Some("erp.example")),
            ("https://erp.example:8443/a", "https://mirror.site/a", Some("erp.example:8443")),
            ("http://erp.example:81/", "http://127.0.0.1:8080/", Some("erp.example:81")),
            ("https://api.erp.example/", "https://api.erp.example/", None),
        ] {
            let mut headers = HeaderMap::new();
            let named = Url::parse(named).expect("an address");
            assert_eq!(hosts.reach(&named, &mut headers).as_str(), reached);
            assert_eq!(headers.get(HOST).map(|host| host.to_str().expect("text")), told);
        }
    }

    #[test]
    fn an_address_is_a_scheme_and_a_host_and_no_more() {
        for wrong in ["127.0.0.1:80", "ftp://a", "http://a/b", "http://a?b", "http://u:p@a", "http://"] {
            let error = Address::try_from(wrong.to_owned()).expect_err(wrong);
            assert!(error.contains("expected http:// or https:// and a host"), "{error}");
        }
    }
}
