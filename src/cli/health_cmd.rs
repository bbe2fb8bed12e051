//! `cutout health`: asks a worker on this machine how it is. An image without shell and curl has
//! nothing else for its health check.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::config::duration;

/// Exits with 0 if the worker answers 200, else with 1.
#[derive(Args)]
pub struct HealthCmd {
    /// Ask whether it is ready for jobs (/startup), not whether it makes progress (/health)
    #[arg(long)]
    ready: bool,

    /// Address of the worker's side port
    #[arg(
        long,
        env = "CUTOUT_HOST",
        default_value = "0.0.0.0",
        value_name = "ADDRESS"
    )]
    host: IpAddr,

    /// The worker's side port
    #[arg(long, env = "PORT", default_value_t = 8080, value_name = "PORT")]
    port: u16,

    /// Wait this long for the answer
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = duration)]
    timeout: Duration,
}

impl HealthCmd {
    pub async fn run(&self) -> anyhow::Result<ExitCode> {
        let path = if self.ready { "startup" } else { "health" };
        let url = format!("http://{}/{path}", reached_at(self.host, self.port));
        let answer = reqwest::Client::builder()
            .no_proxy()
            .timeout(self.timeout)
            .build()?
            .get(&url)
            .send()
            .await?;
        let status = answer.status();
        println!("{url}: {status}: {}", answer.text().await?);
        Ok(if status.is_success() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// A server that listens on every address is asked on loopback.
fn reached_at(host: IpAddr, port: u16) -> SocketAddr {
    let host = match host {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    SocketAddr::new(host, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_on_every_address_is_asked_on_loopback() {
        for (host, asked) in [
            ("0.0.0.0", "127.0.0.1:80"),
            ("::", "[::1]:80"),
            ("10.0.0.7", "10.0.0.7:80"),
        ] {
            assert_eq!(reached_at(host.parse().unwrap(), 80).to_string(), asked);
        }
    }
}
