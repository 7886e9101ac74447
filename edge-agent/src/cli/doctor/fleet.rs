//! Whether the node belongs to a fleet, can reach its control plane, and how long its certificate lasts.

use std::{
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use shared::time::Timestamp;

use super::Check;
use crate::{
    clock,
    config::Config,
    sync::{Identity, Membership},
};

const REACHED_WITHIN: Duration = Duration::from_secs(3);
/// A certificate that ends sooner is told of: a month to enrol again.
const ENDS_WITHIN_DAYS: i64 = 30;
const DAY_MICROS: i64 = 86_400_000_000;

pub(super) fn checks(config: &Config, running: bool) -> Vec<Check> {
    let alone = || vec![Check::ok("fleet", "not enrolled: this node works by itself")];
    // Opening an identity makes one; a look must not.
    if !config.data_dir.join("identity").exists() {
        return alone();
    }
    let identity = match Identity::open(&config.data_dir, &config.name) {
        Ok(identity) => identity,
        Err(error) => {
            let advice = "mend what is named, or restore the folder `identity` from a backup: a new one would be that of another node";
            return vec![Check::broken("fleet", error.to_string(), advice)];
        }
    };
    let Some(member) = identity.membership() else { return alone() };
    let mut checks = vec![Check::ok("fleet", format!("enrolled at {} in group {}", member.url, member.group))];
    // A running agent says itself how its link is.
    if !running && let Err(error) = reach(&member.url) {
        let advice = "start the control plane or let the firewall through; local work goes on, and what waits is sent when the link is back";
        checks.push(Check::warning("control plane", format!("{} cannot be reached ({error})", member.url), advice));
    }
    checks.extend(certificate(member));
    checks
}

/// A bundle of the control plane that is not what runs, because a start could not use it.
pub(super) fn lost(connection: &rusqlite::Connection) -> Option<Check> {
    let lost = crate::sync::standing(connection).ok()?.lost?;
    let advice = "it is fetched anew when the control plane is reached; if that comes again, look after the disk";
    Some(Check::warning("bundle", lost, advice))
}

/// Whether something listens there.
fn reach(url: &str) -> Result<(), String> {
    let url = reqwest::Url::parse(url).map_err(|error| error.to_string())?;
    let place = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(443));
    let mut addresses = place.to_socket_addrs().map_err(|error| error.to_string())?;
    let address = addresses.next().ok_or("the name has no address")?;
    TcpStream::connect_timeout(&address, REACHED_WITHIN).map(drop).map_err(|error| error.to_string())
}

fn certificate(member: &Membership) -> Option<Check> {
    let der = CertificateDer::from_pem_slice(member.certificate_pem.as_bytes()).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
    let validity = certificate.validity();
    let at = |seconds: i64| Timestamp::from_micros(seconds.saturating_mul(1_000_000));
    lasts(clock::now(), at(validity.not_before.timestamp()), at(validity.not_after.timestamp()))
}

/// What is to be said of a certificate with this validity; nothing while it lasts.
fn lasts(now: Timestamp, from: Timestamp, to: Timestamp) -> Option<Check> {
    let again = "enroll again with a new token: `edge-agent enroll TOKEN`";
    if now < from {
        let found = format!("it begins at {from}, and this machine's clock shows {now}");
        return Some(Check::broken("certificate", found, "set the clock (timedatectl, chrony)"));
    }
    if now >= to {
        return Some(Check::broken(
            "certificate",
            format!("it ended at {to}: the control plane refuses this node"),
            again,
        ));
    }
    let days = to.as_micros().saturating_sub(now.as_micros()) / DAY_MICROS;
    (days < ENDS_WITHIN_DAYS).then(|| Check::warning("certificate", format!("it ends at {to}, in {days} days"), again))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::State;

    #[test]
    fn a_certificate_is_told_of_before_it_ends_and_when_it_is_not_valid() {
        let at = |text: &str| text.parse::<Timestamp>().expect("an instant");
        let (from, to) = (at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"));
        let told = |now: &str| lasts(at(now), from, to).map(|check| (check.state, check.found));
        assert_eq!(told("2026-11-21T00:00:00Z"), None);
        let (state, found) = told("2026-12-20T00:00:00Z").expect("soon");
        assert_eq!((state, found.as_str()), (State::Warning, "it ends at 2027-01-01T00:00:00Z, in 12 days"));
        assert_eq!(told("2027-01-01T00:00:00Z").expect("ended").0, State::Broken);
        let (state, found) = told("1970-01-01T00:00:00Z").expect("not yet");
        assert!(state == State::Broken && found.contains("clock shows 1970"), "{found}");
    }

    #[test]
    fn a_control_plane_that_does_not_listen_is_not_reached() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("https://{}", listener.local_addr().expect("an address"));
        assert_eq!(reach(&url), Ok(()));
        drop(listener);
        assert!(reach(&url).is_err());
        assert!(reach("nonsense").is_err());
    }
}
