//! Who sends a request: the address that its photos are counted under.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum_client_ip::{ClientIp, ClientIpSource};

use super::refusal::Refusal;

/// Where a client's address stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressSource {
    /// One of the usual places.
    Usual(ClientIpSource),
    /// The second of `X-Forwarded-For` from the right: Google's external load balancers write the
    /// client's address and then their own
    /// (<https://cloud.google.com/load-balancing/docs/https#x-forwarded-for_header>).
    SecondXForwardedFor,
}

const SECOND: &str = "SecondXForwardedFor";

impl FromStr for AddressSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == SECOND {
            return Ok(Self::SecondXForwardedFor);
        }
        text.parse().map(Self::Usual).map_err(|_| {
            format!(
                "{text:?} is not a source of addresses: use ConnectInfo, RightmostXForwardedFor, {SECOND}, CfConnectingIp, CloudFrontViewerAddress, FlyClientIp, TrueClientIp, XEnvoyExternalAddress or XRealIp"
            )
        })
    }
}

impl fmt::Display for AddressSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usual(source) => source.fmt(f),
            Self::SecondXForwardedFor => f.write_str(SECOND),
        }
    }
}

/// The address that a client's requests are counted under.
pub struct Client(pub IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for Client {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let told = match parts.extensions.get::<AddressSource>().cloned() {
            Some(AddressSource::SecondXForwardedFor) => second_forwarded(&parts.headers),
            Some(AddressSource::Usual(source)) => {
                parts.extensions.insert(source);
                let told = ClientIp::from_request_parts(parts, state).await;
                told.ok().map(|ClientIp(address)| address)
            }
            None => None,
        };
        // Who reaches the port past the proxy counts under its own address.
        let peer = || {
            let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
            peer.map(|ConnectInfo(peer)| peer.ip())
        };
        told.or_else(peer).map(Self).ok_or_else(|| {
            Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the client's address is not known",
            )
        })
    }
}

fn second_forwarded(headers: &HeaderMap) -> Option<IpAddr> {
    let line = headers.get_all("x-forwarded-for").iter().next_back()?;
    line.to_str().ok()?.rsplit(',').nth(1)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    async fn client(source: &str, forwarded: Option<&str>) -> String {
        let mut request = Request::builder();
        if let Some(forwarded) = forwarded {
            request = request.header("x-forwarded-for", forwarded);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        parts
            .extensions
            .insert(source.parse::<AddressSource>().unwrap());
        let peer: SocketAddr = "192.0.2.1:4711".parse().unwrap();
        parts.extensions.insert(ConnectInfo(peer));
        let Client(address) = Client::from_request_parts(&mut parts, &())
            .await
            .ok()
            .unwrap();
        address.to_string()
    }

    #[tokio::test]
    async fn an_address_is_what_the_proxy_wrote_and_never_what_the_client_claims() {
        let claim = "198.51.100.9, 203.0.113.7, 35.191.0.1";
        for (source, forwarded, address) in [
            ("ConnectInfo", Some(claim), "192.0.2.1"),
            ("RightmostXForwardedFor", Some(claim), "35.191.0.1"),
            ("SecondXForwardedFor", Some(claim), "203.0.113.7"),
            // Past the proxy.
            ("RightmostXForwardedFor", None, "192.0.2.1"),
            ("SecondXForwardedFor", None, "192.0.2.1"),
            ("SecondXForwardedFor", Some("203.0.113.7"), "192.0.2.1"),
            ("SecondXForwardedFor", Some("x, 35.191.0.1"), "192.0.2.1"),
        ] {
            assert_eq!(client(source, forwarded).await, address, "{source}");
        }
    }

    #[test]
    fn a_source_is_printed_as_it_is_written() {
        for source in ["ConnectInfo", "RightmostXForwardedFor", SECOND, "XRealIp"] {
            assert_eq!(source.parse::<AddressSource>().unwrap().to_string(), source);
        }
        assert!("XForwardedFor".parse::<AddressSource>().is_err());
    }
}
