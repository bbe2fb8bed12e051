//! How many photos a client may send a minute.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::refusal::Refusal;

/// Clients whose time is over are forgotten each time so many requests have come.
const FORGET_EVERY: u32 = 256;

/// A client's requests, counted by its address. Its whole minute may be used at once; then each
/// comes back at its time.
pub struct RateLimit {
    clients: DefaultKeyedRateLimiter<IpAddr>,
    a_minute: NonZeroU32,
    clock: DefaultClock,
    asked: AtomicU32,
}

impl RateLimit {
    /// `a_minute` requests for each client; `None` for 0, which is no limit.
    pub fn new(a_minute: u32) -> Option<Self> {
        let a_minute = NonZeroU32::new(a_minute)?;
        Some(Self {
            clients: RateLimiter::dashmap(Quota::per_minute(a_minute)),
            a_minute,
            clock: DefaultClock::default(),
            asked: AtomicU32::new(0),
        })
    }

    /// Counts a request.
    ///
    /// Errors: 429, with the time until the next is free.
    pub fn check(&self, client: IpAddr) -> Result<(), Refusal> {
        if self.asked.fetch_add(1, Ordering::Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
            self.clients.retain_recent();
        }
        self.clients.check_key(&who(client)).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limited",
                format!(
                    "more than {} photos a minute; wait, then send it again",
                    self.a_minute
                ),
            )
            .retry_after(wait.max(Duration::from_secs(1)))
        })
    }
}

/// A household has a /64 of IPv6 addresses, and one IPv4 address in either notation.
fn who(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(network.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_its_minute_and_its_neighbour_another() {
        let limit = RateLimit::new(3).unwrap();
        let (ours, theirs) = (
            "203.0.113.7".parse().unwrap(),
            "203.0.113.8".parse().unwrap(),
        );
        for _ in 0..3 {
            limit.check(ours).unwrap();
        }
        let refusal = limit.check(ours).unwrap_err();
        assert_eq!(refusal.status(), StatusCode::TOO_MANY_REQUESTS);
        limit.check(theirs).unwrap();
    }

    #[test]
    fn no_limit_is_none() {
        assert!(RateLimit::new(0).is_none());
    }

    #[test]
    fn an_ipv6_household_is_one_client_and_a_mapped_address_its_own() {
        assert_eq!(
            who("2001:db8:1:2:3:4:5:6".parse().unwrap()),
            who("2001:db8:1:2:ffff::1".parse().unwrap())
        );
        assert_ne!(
            who("2001:db8:1:2::1".parse().unwrap()),
            who("2001:db8:1:3::1".parse().unwrap())
        );
        assert_eq!(
            who("::ffff:203.0.113.7".parse().unwrap()),
            who("203.0.113.7".parse().unwrap())
        );
    }
}
