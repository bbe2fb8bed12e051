//! Which of several networks a job is worked on with, decided by its key alone: no state, so every
//! worker and every delivery decide the same.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::error::{Code, Error, Result};
use crate::job::Job;

/// Keys are spread over so many buckets: a hundredth of a percent each.
pub const BUCKETS: u16 = 10_000;

/// The name of those that the worker's own network works on.
pub const CONTROL: &str = "control";

/// Most arms: each is a network in memory, and a label's value.
pub const MAX_ARMS: usize = 8;

/// Where arms begin, two at each place: one grows up from there and one down. The first arm has all room
/// above 0, the second all below 100 %, and further ones halve what lies between.
///
/// An arm's buckets must depend on nothing but its own percentage, or a change of one would move
/// jobs between others. For three arms or more that cannot be had together with any split one likes: two that
/// may both grow to everything take from opposite ends, and there are but two.
const PLACES: [u16; MAX_ARMS / 2] = [0, BUCKETS / 2, BUCKETS / 4, BUCKETS / 4 * 3];

/// The bucket of a key. Different salts spread the same keys independently of each other.
///
/// The first 8 bytes of SHA-256; what is left of 2⁶⁴ beyond a multiple of 10,000 favours no bucket by more than
/// 10⁻¹⁵.
pub fn bucket(salt: &str, key: &str) -> u16 {
    let digest = Sha256::new()
        .chain_update(salt)
        // Or "ab" with "c" would be "a" with "bc".
        .chain_update([0])
        .chain_update(key)
        .finalize();
    let mut head = [0; 8];
    head.copy_from_slice(&digest[..8]);
    (u64::from_be_bytes(head) % u64::from(BUCKETS)) as u16
}

/// A share of all jobs, in hundredths of a percent: `5%`, `0.25%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u16);

impl Percent {
    /// Of 10,000.
    pub const fn buckets(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 100.0)
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not a percentage: write 0% to 100% with at most two decimals, such as 5% or 0.25%"
            )
        };
        let digits = text.trim().strip_suffix('%').ok_or_else(wrong)?;
        let (whole, rest) = digits.split_once('.').unwrap_or((digits, "0"));
        let decimal = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !decimal(whole) || !decimal(rest) || rest.len() > 2 {
            return Err(wrong());
        }
        let hundredths = format!("{whole}{rest:0<2}");
        match hundredths.parse::<u16>() {
            Ok(buckets) if buckets <= BUCKETS => Ok(Self(buckets)),
            _ => Err(wrong()),
        }
    }
}

/// What of a job stays the same for whoever should always get the same network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StableKey {
    /// `job_id`, given or derived.
    JobId,
    /// The photo's name, without its generation.
    Source,
    /// An entry of the job's metadata: a customer, an order.
    Metadata(String),
}

impl StableKey {
    fn of(&self, job: &Job) -> Option<String> {
        match self {
            Self::JobId => Some(job.id()),
            Self::Source => Some(job.source.name.to_string()),
            Self::Metadata(name) => job.metadata.get(name).cloned(),
        }
    }
}

impl fmt::Display for StableKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JobId => f.write_str("job_id"),
            Self::Source => f.write_str("source"),
            Self::Metadata(name) => write!(f, "metadata.{name}"),
        }
    }
}

impl FromStr for StableKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "job_id" => Ok(Self::JobId),
            "source" => Ok(Self::Source),
            _ => match text.strip_prefix("metadata.") {
                Some(name) if !name.is_empty() => Ok(Self::Metadata(name.to_owned())),
                _ => Err(format!(
                    "{text:?} is not a key: use job_id, source, or metadata.NAME"
                )),
            },
        }
    }
}

/// An arm as it is written: `NAME=MODEL:PERCENT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArmSpec {
    /// What results and metrics call it.
    pub name: String,
    /// A known network's name, or the path of a manifest.
    pub model: String,
    /// How many of the jobs.
    pub share: Percent,
}

impl FromStr for ArmSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.trim().split_once('=').and_then(|(name, rest)| {
            // A manifest's path may have colons.
            let (model, share) = rest.rsplit_once(':')?;
            (!model.is_empty()).then_some((name, model, share))
        });
        let Some((name, model, share)) = parts else {
            return Err(format!(
                "{text:?} is not an arm: write NAME=MODEL:PERCENT, such as big=isnet-medium:10%"
            ));
        };
        check_name(name)?;
        if name == CONTROL {
            return Err(format!(
                "{CONTROL:?} is what the worker's own network is called: give the arm another name"
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            model: model.to_owned(),
            share: share.parse()?,
        })
    }
}

/// Names are label values, metadata and parts of messages.
pub fn check_name(name: &str) -> Result<(), String> {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    if (1..=32).contains(&name.len()) && name.bytes().all(legal) {
        return Ok(());
    }
    Err(format!("{name:?} is not a name: 1 to 32 of a-z 0-9 - _"))
}

/// Where a job belongs in an experiment. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArmUsed {
    /// The experiment's name.
    pub experiment: Arc<str>,
    /// The arm's, or [`CONTROL`].
    pub arm: Arc<str>,
}

/// One network against others, on shares of the jobs.
#[derive(Clone, Debug)]
pub struct Experiment {
    name: Arc<str>,
    by: StableKey,
    control: Arc<str>,
    arms: Vec<Arm>,
}

#[derive(Clone, Debug)]
struct Arm {
    name: Arc<str>,
    buckets: Range<u16>,
}

/// Who works on a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The worker's own network.
    Control,
    /// That of the arm in this place of the list.
    Arm(usize),
}

impl Experiment {
    /// Gives each arm its buckets.
    ///
    /// Errors: `config_invalid` for two arms of one name, too many of them, and arms that have no room beside
    /// each other, which two always have up to 100 % together.
    pub fn new(name: &str, by: StableKey, arms: &[ArmSpec]) -> Result<Self> {
        let invalid = |what: String| Err(Error::new(Code::ConfigInvalid, what));
        if let Err(what) = check_name(name) {
            return invalid(format!("--ab-experiment: {what}"));
        }
        if arms.len() > MAX_ARMS {
            return invalid(format!(
                "{} arms (--ab-arm) are more than the {MAX_ARMS} that a worker has",
                arms.len()
            ));
        }
        let sum: u32 = arms.iter().map(|arm| u32::from(arm.share.0)).sum();
        if sum > u32::from(BUCKETS) {
            return invalid(format!(
                "the arms (--ab-arm) take {}% of the jobs together: make it 100% or less; {CONTROL} has what is left",
                f64::from(sum) / 100.0
            ));
        }
        let mut placed: Vec<Arm> = Vec::with_capacity(arms.len());
        for (nth, arm) in arms.iter().enumerate() {
            if placed.iter().any(|other| *other.name == arm.name) {
                return invalid(format!("two arms (--ab-arm) are called {:?}", arm.name));
            }
            let free =
                |buckets: &Range<u16>| !placed.iter().any(|other| meet(&other.buckets, buckets));
            let Some(buckets) = room(nth, arm.share).filter(free) else {
                return invalid(format!(
                    "the arm {:?} with {} has no room in its place, the {}. of the list (docs/experiments.md): give it or its neighbours less, or the largest arms the first two places",
                    arm.name,
                    arm.share,
                    nth + 1
                ));
            };
            placed.push(Arm {
                name: arm.name.as_str().into(),
                buckets,
            });
        }
        Ok(Self {
            name: name.into(),
            by,
            control: CONTROL.into(),
            arms: placed,
        })
    }

    /// Who works on a job. `None` when it is no part of the experiment: it names its network itself, or
    /// has nothing to go by.
    pub fn assign(&self, job: &Job) -> Option<Side> {
        if job.model.is_some() {
            return None;
        }
        Some(self.side(&self.by.of(job)?))
    }

    /// Who works on jobs of this key.
    pub fn side(&self, key: &str) -> Side {
        let bucket = bucket(&self.name, key);
        let arm = self
            .arms
            .iter()
            .position(|arm| arm.buckets.contains(&bucket));
        arm.map_or(Side::Control, Side::Arm)
    }

    /// How results and metrics call it.
    pub fn told(&self, side: Side) -> ArmUsed {
        let arm = match side {
            Side::Control => &self.control,
            Side::Arm(nth) => &self.arms[nth].name,
        };
        ArmUsed {
            experiment: Arc::clone(&self.name),
            arm: Arc::clone(arm),
        }
    }

    /// Every side, control first.
    pub fn sides(&self) -> impl Iterator<Item = Side> + use<> {
        std::iter::once(Side::Control).chain((0..self.arms.len()).map(Side::Arm))
    }
}

/// The buckets of the arm in the `nth` place of the list; `None` where they would pass an end.
fn room(nth: usize, share: Percent) -> Option<Range<u16>> {
    let place = PLACES[nth / 2];
    let (up, share) = (nth.is_multiple_of(2), share.0);
    if up {
        let end = place.checked_add(share).filter(|end| *end <= BUCKETS)?;
        return Some(place..end);
    }
    // Down from 0 is down from the other end.
    let end = if place == 0 { BUCKETS } else { place };
    Some(end.checked_sub(share)?..end)
}

/// Whether a bucket is in both.
fn meet(a: &Range<u16>, b: &Range<u16>) -> bool {
    a.start.max(b.start) < a.end.min(b.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn specs(shares: &[u16]) -> Vec<ArmSpec> {
        let arm = |(nth, share): (usize, &u16)| ArmSpec {
            name: format!("arm-{nth}"),
            model: "isnet-small".into(),
            share: Percent(*share),
        };
        shares.iter().enumerate().map(arm).collect()
    }

    fn experiment(shares: &[u16]) -> Result<Experiment> {
        Experiment::new("fur", StableKey::Source, &specs(shares))
    }

    fn keys() -> impl Iterator<Item = String> {
        (0..40_000).map(|n| format!("gs://perkie/2026/{n}.jpg"))
    }

    #[test]
    fn the_buckets_are_those_of_the_first_release() {
        // hashlib.sha256(b"fur\0gs://perkie/rex.jpg"), its first 8 bytes, modulo 10,000. With any other
        // answer jobs would change their arms.
        assert_eq!(bucket("fur", "gs://perkie/rex.jpg"), 9578);
        assert_ne!(bucket("fur", "a"), bucket("fu", "ra"));
    }

    #[test]
    fn percentages_have_two_decimals_and_print_back() {
        for (text, buckets) in [
            ("0%", 0),
            ("5%", 500),
            ("0.25%", 25),
            ("12.5%", 1250),
            ("100%", 10_000),
        ] {
            let percent: Percent = text.parse().unwrap();
            assert_eq!(percent.buckets(), buckets, "{text}");
            assert_eq!(percent.to_string(), text);
        }
        for text in [
            "5", "0.05", "101%", "-1%", "0.125%", "%", ".5%", "5.%", "NaN%", "+5%", "700%",
        ] {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
    }

    #[test]
    fn arms_are_a_name_a_network_and_a_share() {
        let arm: ArmSpec = "big=models/a:b.toml:10%".parse().unwrap();
        assert_eq!(
            (arm.name.as_str(), arm.model.as_str(), arm.share.0),
            ("big", "models/a:b.toml", 1000)
        );
        for text in [
            "big",
            "big=x",
            "=x:1%",
            "control=x:1%",
            "Big=x:1%",
            "big=:1%",
            "big=x:1",
        ] {
            assert!(text.parse::<ArmSpec>().is_err(), "{text}");
        }
    }

    #[test]
    fn jobs_are_spread_as_the_percentages_say() {
        let experiment = experiment(&[1000, 2500, 500]).unwrap();
        let mut counts = [0_u32; 4];
        for key in keys() {
            match experiment.side(&key) {
                Side::Control => counts[3] += 1,
                Side::Arm(nth) => counts[nth] += 1,
            }
        }
        for (count, share) in counts.iter().zip([0.10, 0.25, 0.05, 0.60]) {
            // Five standard deviations of the binomial; the keys are fixed, so it holds or it does not.
            let bound = 5.0 * (share * (1.0 - share) / 40_000.0_f64).sqrt();
            let found = f64::from(*count) / 40_000.0;
            assert!((found - share).abs() < bound, "{found} for {share}");
        }
    }

    #[test]
    fn experiments_are_independent_of_each_other() {
        let of = |name| Experiment::new(name, StableKey::Source, &specs(&[5000])).unwrap();
        let (a, b) = (of("a"), of("b"));
        let both =
            keys().filter(|key| a.side(key) != Side::Control && b.side(key) != Side::Control);
        let both = both.count() as f64 / 40_000.0;
        assert!((both - 0.25).abs() < 0.011, "{both}");
    }

    #[test]
    fn what_is_no_part_of_an_experiment_has_no_arm() {
        let by_customer = StableKey::Metadata("customer".into());
        let experiment = Experiment::new("fur", by_customer, &specs(&[10_000])).unwrap();
        let mut job = Job::new("gs://perkie/rex.jpg".parse().unwrap());
        assert_eq!(experiment.assign(&job), None, "nothing to go by");
        job.metadata.insert("customer".into(), "7".into());
        assert_eq!(experiment.assign(&job), Some(Side::Arm(0)));
        job.model = Some("isnet-medium".into());
        assert_eq!(experiment.assign(&job), None, "it names its network");
    }

    #[test]
    fn a_photo_keeps_its_arm_whatever_version_of_it_is_meant() {
        let experiment = experiment(&[5000]).unwrap();
        let side = |source: &str| experiment.assign(&Job::new(source.parse().unwrap()));
        for key in keys().take(100) {
            assert_eq!(side(&key), side(&format!("{key}#7")));
        }
    }

    #[test]
    fn arms_that_cannot_be_are_refused() {
        for (shares, says) in [
            (&[6000, 4001][..], "100.01%"),
            (&[6000, 1000, 1000], "no room"),
            (&[1000, 1000, 5000], "no room"),
            (&[100; 9], "more than the 8"),
        ] {
            let error = experiment(shares).expect_err(says);
            assert_eq!(error.code(), Code::ConfigInvalid);
            assert!(error.message().contains(says), "{error}");
        }
        let twice = [specs(&[1]), specs(&[1])].concat();
        assert!(Experiment::new("fur", StableKey::Source, &twice).is_err());
        assert!(Experiment::new("Fur!", StableKey::Source, &specs(&[1])).is_err());
        assert!(experiment(&[6000, 4000]).is_ok());
        assert!(experiment(&[0; 8]).is_ok());
    }

    proptest! {
        #[test]
        fn growing_an_arm_takes_from_control_alone(
            shares in proptest::collection::vec(0_u16..3000, 1..5),
            nth in 0_usize..4,
            more in 1_u16..3000,
        ) {
            let nth = nth % shares.len();
            let mut grown = shares.clone();
            grown[nth] += more;
            // Those that have no room are refused, which is another test's.
            if let (Ok(before), Ok(after)) = (experiment(&shares), experiment(&grown)) {
                for bucket in 0..BUCKETS {
                    let of = |experiment: &Experiment| {
                        experiment.arms.iter().position(|arm| arm.buckets.contains(&bucket))
                    };
                    let (was, is) = (of(&before), of(&after));
                    prop_assert!(is == was || (was.is_none() && is == Some(nth)));
                }
            }
        }

        #[test]
        fn two_arms_have_room_for_any_split(first in 0_u16..=BUCKETS, second in 0_u16..=BUCKETS) {
            let fits = first + second <= BUCKETS;
            prop_assert_eq!(experiment(&[first, second]).is_ok(), fits);
        }

        #[test]
        fn another_arm_at_the_end_of_the_list_takes_from_control_alone(
            shares in proptest::collection::vec(0_u16..1250, 1..8),
            new in 0_u16..1250,
        ) {
            let before = experiment(&shares).unwrap();
            let mut longer = shares.clone();
            longer.push(new);
            let after = experiment(&longer).unwrap();
            for (was, is) in before.arms.iter().zip(&after.arms) {
                prop_assert_eq!(&was.buckets, &is.buckets);
            }
        }
    }
}
