//! Settings of traces, under the names that OpenTelemetry gives them everywhere
//! (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>), and what may not be set.

use std::time::Duration;

use clap::Args;
use percent_encoding::percent_decode_str;

use crate::error::{Code, Error, Result};
use crate::telemetry::context::TraceContext;
use crate::telemetry::traces::{Protocol, Sampling, TraceSettings};

/// What OTLP over HTTP calls the path of traces, appended to the address that is for all signals.
const TRACES_PATH: &str = "v1/traces";

/// The name that traces are filed under unless another is given.
const SERVICE_NAME: &str = env!("CARGO_PKG_NAME");

/// For one export, further tries included; OpenTelemetry's own default.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where traces go. Everything is text here, so that all that is wrong is told at once.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Traces")]
pub struct TraceArgs {
    /// Send traces by OTLP to this collector, such as http://localhost:4318 (grpc: :4317); without it none are made
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,

    /// The same for traces alone; taken as it is, where --otlp-endpoint gets /v1/traces appended
    #[arg(long, env = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", value_name = "URL")]
    pub otlp_traces_endpoint: Option<String>,

    /// Sent with every export: NAME=VALUE, comma-separated, values percent-encoded; never printed
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_HEADERS",
        hide_env_values = true,
        value_name = "HEADERS"
    )]
    pub otlp_headers: Option<String>,

    /// http/protobuf or grpc [default: http/protobuf]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_PROTOCOL", value_name = "PROTOCOL")]
    pub otlp_protocol: Option<String>,

    /// Milliseconds that one export may take, further tries included [default: 10000]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_TIMEOUT", value_name = "MS")]
    pub otlp_timeout: Option<String>,

    /// The name that traces are filed under [default: cutout]
    #[arg(long, env = "OTEL_SERVICE_NAME", value_name = "NAME")]
    pub otel_service_name: Option<String>,

    /// Attributes of the process: NAME=VALUE, comma-separated, values percent-encoded
    #[arg(long, env = "OTEL_RESOURCE_ATTRIBUTES", value_name = "ATTRIBUTES")]
    pub otel_resource_attributes: Option<String>,

    /// Which traces are made: always_on, always_off, traceidratio, or parentbased_ and one of these,
    /// which does as the publisher did [default: parentbased_always_on]
    #[arg(long, env = "OTEL_TRACES_SAMPLER", value_name = "SAMPLER")]
    pub otel_traces_sampler: Option<String>,

    /// traceidratio: the share of traces, 0 to 1 [default: 1]
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", value_name = "SHARE")]
    pub otel_traces_sampler_arg: Option<String>,

    /// true makes no traces whatever else is set
    #[arg(long, env = "OTEL_SDK_DISABLED", value_name = "BOOL")]
    pub otel_sdk_disabled: Option<String>,
}

/// The trace that a command was called in, as build systems and shells hand it on
/// (<https://opentelemetry.io/docs/specs/otel/context/env-carriers/>).
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Traces")]
pub struct CallerArgs {
    /// The trace that the jobs belong to, as W3C Trace Context writes it; what is none is left out
    #[arg(long, env = "TRACEPARENT", value_name = "TRACEPARENT")]
    pub traceparent: Option<String>,

    /// What goes with it
    #[arg(long, env = "TRACESTATE", value_name = "TRACESTATE")]
    pub tracestate: Option<String>,
}

impl CallerArgs {
    /// The caller's place in its trace, if it told one.
    pub fn context(&self) -> Option<TraceContext> {
        TraceContext::parse(given(&self.traceparent)?, given(&self.tracestate))
    }
}

/// A value that was given and is not empty: OpenTelemetry takes an empty variable for an unset one.
fn given(value: &Option<String>) -> Option<&str> {
    value
        .as_deref()
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

impl TraceArgs {
    /// What the settings come to; `None` where no traces are wanted.
    ///
    /// Errors: `config_invalid` with everything that is wrong, each with what to do.
    pub fn settings(&self) -> Result<Option<TraceSettings>> {
        self.read()
            .map_err(|problems| Error::new(Code::ConfigInvalid, problems.join("; ")))
    }

    /// What is wrong with the settings, each with what to do.
    pub fn problems(&self) -> Vec<String> {
        self.read().err().unwrap_or_default()
    }

    fn read(&self) -> Result<Option<TraceSettings>, Vec<String>> {
        let mut problems = Vec::new();
        let disabled = disabled(given(&self.otel_sdk_disabled)).unwrap_or_else(|problem| {
            problems.push(problem);
            false
        });
        let endpoint = given(&self.otlp_traces_endpoint).or(given(&self.otlp_endpoint));
        let (Some(_), false) = (endpoint, disabled) else {
            return if problems.is_empty() {
                Ok(None)
            } else {
                Err(problems)
            };
        };
        let mut keep = |read: Result<(), String>| problems.extend(read.err());
        let mut settings = TraceSettings {
            endpoint: String::new(),
            protocol: Protocol::HttpProtobuf,
            headers: Vec::new(),
            timeout: EXPORT_TIMEOUT,
            service_name: given(&self.otel_service_name)
                .unwrap_or(SERVICE_NAME)
                .to_owned(),
            attributes: Vec::new(),
            sampling: Sampling::default(),
        };
        keep(protocol(given(&self.otlp_protocol)).map(|p| settings.protocol = p));
        keep(
            self.endpoint(settings.protocol)
                .map(|e| settings.endpoint = e),
        );
        keep(headers(given(&self.otlp_headers)).map(|h| settings.headers = h));
        keep(timeout(given(&self.otlp_timeout)).map(|t| settings.timeout = t));
        keep(
            attributes(given(&self.otel_resource_attributes)).map(|all| {
                let named = |(name, _): &&(String, String)| name == "service.name";
                if given(&self.otel_service_name).is_none()
                    && let Some((_, name)) = all.iter().find(named)
                {
                    settings.service_name.clone_from(name);
                }
                settings.attributes = all;
            }),
        );
        let (sampler, arg) = (&self.otel_traces_sampler, &self.otel_traces_sampler_arg);
        keep(sampling(given(sampler), given(arg)).map(|s| settings.sampling = s));
        if problems.is_empty() {
            Ok(Some(settings))
        } else {
            Err(problems)
        }
    }

    /// Where exports are sent.
    fn endpoint(&self, protocol: Protocol) -> Result<String, String> {
        if let Some(exact) = given(&self.otlp_traces_endpoint) {
            address("--otlp-traces-endpoint", exact)?;
            return Ok(exact.to_owned());
        }
        let base = given(&self.otlp_endpoint).unwrap_or_default();
        address("--otlp-endpoint", base)?;
        Ok(match protocol {
            Protocol::HttpProtobuf => format!("{}/{TRACES_PATH}", base.trim_end_matches('/')),
            Protocol::Grpc => base.to_owned(),
        })
    }
}

fn disabled(text: Option<&str>) -> Result<bool, String> {
    match text.map(str::to_ascii_lowercase).as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(format!(
            "--otel-sdk-disabled (OTEL_SDK_DISABLED) {other:?} is neither true nor false"
        )),
    }
}

fn address(flag: &str, text: &str) -> Result<(), String> {
    // Credentials in an address would be printed wherever it is.
    let fit = |url: &reqwest::Url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
    };
    match reqwest::Url::parse(text) {
        Ok(url) if fit(&url) => Ok(()),
        _ => Err(format!(
            "{flag} is no address of a collector: write http://HOST:PORT or https://HOST:PORT, and secrets into --otlp-headers (OTEL_EXPORTER_OTLP_HEADERS)"
        )),
    }
}

fn protocol(text: Option<&str>) -> Result<Protocol, String> {
    match text {
        None | Some("http/protobuf") => Ok(Protocol::HttpProtobuf),
        Some("grpc") => Ok(Protocol::Grpc),
        Some(other) => Err(format!(
            "--otlp-protocol (OTEL_EXPORTER_OTLP_PROTOCOL) {other:?} is not spoken here: use http/protobuf or grpc"
        )),
    }
}

fn timeout(text: Option<&str>) -> Result<Duration, String> {
    let Some(text) = text else {
        return Ok(EXPORT_TIMEOUT);
    };
    text.parse()
        .ok()
        .filter(|millis| *millis > 0)
        .map(Duration::from_millis)
        .ok_or_else(|| {
            format!(
                "--otlp-timeout (OTEL_EXPORTER_OTLP_TIMEOUT) {text:?} is no time: write milliseconds, such as 10000"
            )
        })
}

/// `NAME=VALUE,…`, values percent-encoded. Never says what it could not read: that may be a secret.
fn pairs(text: Option<&str>) -> Option<Vec<(String, String)>> {
    text.unwrap_or_default()
        .split(',')
        .filter(|pair| !pair.trim().is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
            let name = name.trim();
            (!name.is_empty()).then(|| (name.to_owned(), value.into_owned()))
        })
        .collect()
}

fn headers(text: Option<&str>) -> Result<Vec<(String, String)>, String> {
    use axum::http::{HeaderName, HeaderValue};
    let fit = |(name, value): &(String, String)| {
        HeaderName::try_from(name).is_ok() && HeaderValue::try_from(value).is_ok()
    };
    pairs(text)
        .filter(|headers| headers.iter().all(fit))
        .ok_or_else(|| {
            "--otlp-headers (OTEL_EXPORTER_OTLP_HEADERS) cannot be read: write NAME=VALUE, comma-separated, with special characters of values percent-encoded (a space is %20)".to_owned()
        })
}

fn attributes(text: Option<&str>) -> Result<Vec<(String, String)>, String> {
    pairs(text).ok_or_else(|| {
        "--otel-resource-attributes (OTEL_RESOURCE_ATTRIBUTES) cannot be read: write NAME=VALUE, comma-separated, with special characters of values percent-encoded".to_owned()
    })
}

fn sampling(sampler: Option<&str>, arg: Option<&str>) -> Result<Sampling, String> {
    let sampler = sampler.unwrap_or("parentbased_always_on");
    let (follow_parent, rule) = match sampler.strip_prefix("parentbased_") {
        Some(rule) => (true, rule),
        None => (false, sampler),
    };
    let ratio = match rule {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => share(arg)?,
        _ => {
            return Err(format!(
                "--otel-traces-sampler (OTEL_TRACES_SAMPLER) {sampler:?} is not known here: use always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off or parentbased_traceidratio"
            ));
        }
    };
    Ok(Sampling {
        ratio,
        follow_parent,
    })
}

fn share(arg: Option<&str>) -> Result<f64, String> {
    let Some(arg) = arg else { return Ok(1.0) };
    arg.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| {
            format!(
                "--otel-traces-sampler-arg (OTEL_TRACES_SAMPLER_ARG) {arg:?} is no share of traces: write a number from 0 to 1"
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn to(endpoint: &str) -> TraceArgs {
        TraceArgs {
            otlp_endpoint: owned(endpoint),
            ..TraceArgs::default()
        }
    }

    fn settings(args: &TraceArgs) -> TraceSettings {
        args.settings().unwrap().expect("traces are on")
    }

    #[test]
    fn without_an_address_or_disabled_there_are_no_traces() {
        for args in [
            TraceArgs::default(),
            to(" "),
            TraceArgs {
                otel_sdk_disabled: owned("TRUE"),
                ..to("http://localhost:4318")
            },
        ] {
            assert_eq!(args.settings().unwrap(), None, "{args:?}");
        }
    }

    #[test]
    fn the_address_for_all_signals_gets_the_path_and_the_one_for_traces_is_taken_as_it_is() {
        for base in ["http://localhost:4318", "http://localhost:4318/"] {
            assert_eq!(
                settings(&to(base)).endpoint,
                "http://localhost:4318/v1/traces"
            );
        }
        let exact = TraceArgs {
            otlp_traces_endpoint: owned("https://collector.example/in"),
            ..to("http://localhost:4318")
        };
        assert_eq!(settings(&exact).endpoint, "https://collector.example/in");
        let grpc = TraceArgs {
            otlp_protocol: owned("grpc"),
            otlp_timeout: owned("2500"),
            ..to("http://localhost:4317")
        };
        assert_eq!(settings(&grpc).endpoint, "http://localhost:4317");
        assert_eq!(settings(&grpc).timeout, Duration::from_millis(2500));
    }

    #[test]
    fn names_and_values_are_read_as_the_specification_writes_them() {
        let args = TraceArgs {
            otlp_headers: owned("authorization=Bearer%20x%3D%3D, x-team = photos"),
            otel_resource_attributes: owned("service.name=shop,deployment.environment.name=eu"),
            otel_traces_sampler: owned("parentbased_traceidratio"),
            otel_traces_sampler_arg: owned("0.25"),
            ..to("http://localhost:4318")
        };
        let read = settings(&args);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            read.headers,
            [
                pair("authorization", "Bearer x=="),
                pair("x-team", "photos")
            ]
        );
        assert_eq!(read.service_name, "shop");
        assert_eq!(
            read.attributes[1],
            pair("deployment.environment.name", "eu")
        );
        assert_eq!(
            read.sampling,
            Sampling {
                ratio: 0.25,
                follow_parent: true
            }
        );
        let named = TraceArgs {
            otel_service_name: owned("worker"),
            ..args
        };
        assert_eq!(settings(&named).service_name, "worker");
    }

    #[test]
    fn everything_that_is_wrong_is_told_with_what_to_do_and_without_secrets() {
        let wrong = TraceArgs {
            otlp_traces_endpoint: owned("https://user:hunter2@collector"),
            otlp_headers: owned("authorization hunter2"),
            otlp_protocol: owned("http/json"),
            otel_resource_attributes: owned("a"),
            otel_traces_sampler: owned("jaeger_remote"),
            otel_sdk_disabled: owned("maybe"),
            ..TraceArgs::default()
        };
        let problems = wrong.problems();
        let told = [
            "neither true nor false",
            "http/protobuf or grpc",
            "http://HOST:PORT",
            "percent-encoded",
            "OTEL_RESOURCE_ATTRIBUTES",
            "parentbased_traceidratio",
        ];
        assert_eq!(problems.len(), told.len(), "{problems:?}");
        for (problem, told) in problems.iter().zip(told) {
            assert!(problem.contains(told), "{problem}");
            assert!(!problem.contains("hunter2"), "{problem}");
        }
        assert_eq!(wrong.settings().unwrap_err().code(), Code::ConfigInvalid);
        for share in ["1.5", "-0.1", "NaN", "half"] {
            let args = TraceArgs {
                otel_traces_sampler: owned("traceidratio"),
                otel_traces_sampler_arg: owned(share),
                ..to("http://localhost:4318")
            };
            assert!(args.problems()[0].contains("0 to 1"), "{share}");
        }
        for millis in ["0", "-1", "10s", "1.5"] {
            let args = TraceArgs {
                otlp_timeout: owned(millis),
                ..to("http://localhost:4318")
            };
            assert!(args.problems()[0].contains("milliseconds"), "{millis}");
        }
        for address in ["localhost:4318", "collector", "ftp://collector", "http://"] {
            assert_eq!(to(address).problems().len(), 1, "{address}");
        }
    }
}
