//! Settings of the push ingress, and what may not be set.

use std::time::Duration;

use clap::Args;

use super::duration;

/// Pub/Sub's longest acknowledgement deadline, after which it pushes a message again whatever its
/// job does. <https://cloud.google.com/pubsub/docs/subscription-properties#ack_deadline>
const LONGEST_ACK_DEADLINE: Duration = Duration::from_secs(600);

/// Clocks that are further apart are broken; a larger allowance only lets old tokens live longer.
const LARGEST_SKEW: Duration = Duration::from_secs(5 * 60);

/// Who may push.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Push")]
pub struct PushArgs {
    /// push: the audience of the tokens, as the subscription's --push-auth-token-audience has it
    #[arg(long, env = "CUTOUT_PUSH_AUDIENCE", value_name = "AUDIENCE")]
    pub push_audience: Option<String>,

    /// push: the service account that the subscription pushes as (its --push-auth-service-account)
    #[arg(long, env = "CUTOUT_PUSH_SERVICE_ACCOUNT", value_name = "EMAIL")]
    pub push_service_account: Option<String>,

    /// push: where the keys are that tokens are signed with, as a JSON Web Key Set [default: Google's]
    #[arg(long, env = "CUTOUT_PUSH_KEYS_URL", value_name = "URL")]
    pub push_keys_url: Option<String>,

    /// push: how far the clocks of the tokens' issuer and of this machine may be apart
    #[arg(long, env = "CUTOUT_PUSH_CLOCK_SKEW", default_value = "10s", value_name = "DURATION", value_parser = duration)]
    pub push_clock_skew: Duration,
}

/// A value that was given and is not empty: what a deployment leaves blank is not set.
fn given(value: &Option<String>) -> Option<&str> {
    value
        .as_deref()
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

impl PushArgs {
    /// The audience, if there is one.
    pub fn audience(&self) -> Option<&str> {
        given(&self.push_audience)
    }

    /// The service account, if there is one.
    pub fn service_account(&self) -> Option<&str> {
        given(&self.push_service_account)
    }

    /// Where the keys are, if not at Google's.
    pub fn keys_url(&self) -> Option<&str> {
        given(&self.push_keys_url)
    }

    /// What is wrong with the settings of a worker that is pushed to, each with what to do.
    pub fn problems(&self, job_timeout: Duration) -> Vec<String> {
        let mut problems = Vec::new();
        if self.audience().is_none() {
            problems.push("--ingress push needs --push-audience (CUTOUT_PUSH_AUDIENCE): the audience that the push subscription was created with, such as the service's URL".to_owned());
        }
        match self.service_account() {
            None => problems.push("--ingress push needs --push-service-account (CUTOUT_PUSH_SERVICE_ACCOUNT): the account that the push subscription authenticates as".to_owned()),
            Some(account) if !account.contains('@') => problems.push(format!(
                "--push-service-account {account:?} is not an e-mail address: write NAME@PROJECT.iam.gserviceaccount.com"
            )),
            Some(_) => {}
        }
        if let Some(url) = self.keys_url()
            && let Some(why) = unfit_keys_url(url)
        {
            problems.push(format!("--push-keys-url {url:?} {why}"));
        }
        if self.push_clock_skew > LARGEST_SKEW {
            problems
                .push("--push-clock-skew must be at most 5m: set the clocks instead".to_owned());
        }
        if job_timeout > LONGEST_ACK_DEADLINE {
            problems.push("--job-timeout must be at most 10m with --ingress push: Pub/Sub waits no longer for the answer to a push".to_owned());
        }
        problems
    }
}

/// Why the keys may not come from there. Who can change them on their way lets anybody in.
fn unfit_keys_url(url: &str) -> Option<String> {
    let Ok(parsed) = reqwest::Url::parse(url) else {
        return Some("is not a URL: write https://HOST/PATH".to_owned());
    };
    let here = parsed.host_str().is_some_and(|host| {
        let host = host.trim_matches(['[', ']']);
        host == "localhost"
            || host
                .parse()
                .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    });
    match parsed.scheme() {
        "https" => None,
        "http" if here => None,
        _ => Some("must begin with https://, or with http:// on this machine alone".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> PushArgs {
        PushArgs {
            push_audience: Some("https://cutout.example".into()),
            push_service_account: Some("pusher@perkie.iam.gserviceaccount.com".into()),
            push_keys_url: None,
            push_clock_skew: Duration::from_secs(10),
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_with_what_to_do() {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        assert!(args().problems(minutes(5)).is_empty());
        let wrong = PushArgs {
            push_audience: Some(" ".into()),
            push_service_account: Some("pusher".into()),
            push_keys_url: Some("ftp://keys".into()),
            push_clock_skew: minutes(6),
        };
        let problems = wrong.problems(minutes(11));
        let told = [
            "CUTOUT_PUSH_AUDIENCE",
            "iam.gserviceaccount.com",
            "https://",
            "5m",
            "--job-timeout",
        ];
        assert_eq!(problems.len(), told.len(), "{problems:?}");
        for (problem, told) in problems.iter().zip(told) {
            assert!(problem.contains(told), "{problem}");
        }
        let none = PushArgs::default().problems(minutes(5));
        assert!(none[1].contains("CUTOUT_PUSH_SERVICE_ACCOUNT"), "{none:?}");
    }

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        for (url, fit) in [
            ("https://keys.example/certs", true),
            ("http://127.0.0.1:8080/certs", true),
            ("http://[::1]:8080/certs", true),
            ("http://localhost/certs", true),
            ("http://keys.example/certs", false),
            ("http://127.0.0.1.keys.example/certs", false),
            ("file:///etc/keys", false),
            ("keys", false),
        ] {
            assert_eq!(unfit_keys_url(url).is_none(), fit, "{url}");
        }
    }
}
