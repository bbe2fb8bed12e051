//! The looks that a cut-out can be given: their names in jobs, requests and flags, and their
//! parameters. What they do to pixels is in [`crate::pipeline::effects`], and for people in
//! `docs/effects.md`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Code, Error, Result};

/// A look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// The cut-out as it is.
    #[default]
    Color,
    /// Black and white as from film.
    EnhancedBlackWhite,
    /// Six flat, loud colours.
    PopArt,
    /// Black dots on white.
    Dithering,
    /// Large pixels in the colours of an old console.
    Retro8Bit,
}

/// Other names that customers of the former service use.
const ALIASES: [(&str, Effect); 2] = [
    ("none", Effect::Color),
    ("optimized_popart", Effect::PopArt),
];

impl Effect {
    /// Every effect, in the order in which they are shown.
    pub const ALL: [Self; 5] = [
        Self::Color,
        Self::EnhancedBlackWhite,
        Self::PopArt,
        Self::Dithering,
        Self::Retro8Bit,
    ];

    /// The name, which never changes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Color => "color",
            Self::EnhancedBlackWhite => "enhancedblackwhite",
            Self::PopArt => "popart",
            Self::Dithering => "dithering",
            Self::Retro8Bit => "retro8bit",
        }
    }

    /// What it does, in a sentence for people.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Color => "The cut-out in its own colours, unchanged.",
            Self::EnhancedBlackWhite => {
                "Black and white with a film's tones, crisp edges, glowing highlights and fine grain."
            }
            Self::PopArt => {
                "Flat areas of six loud colours and black, chosen by brightness and hue."
            }
            Self::Dithering => "Black dots on white, denser where the picture is darker.",
            Self::Retro8Bit => {
                "Large pixels in the colours of an old console, smaller ones along edges."
            }
        }
    }
}

impl Effect {
    /// Other names that are understood.
    pub fn aliases(self) -> impl Iterator<Item = &'static str> {
        ALIASES
            .iter()
            .filter(move |(_, effect)| *effect == self)
            .map(|(name, _)| *name)
    }

    /// The names of the parameters that change it.
    pub const fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::EnhancedBlackWhite => &EffectParams::NAMES,
            _ => &[],
        }
    }

    /// Each once, in the order in which they first come.
    pub fn distinct(effects: &[Self]) -> Vec<Self> {
        let mut distinct = Vec::new();
        for effect in effects {
            if !distinct.contains(effect) {
                distinct.push(*effect);
            }
        }
        distinct
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Effect {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let names = Self::ALL.map(|effect| (effect.as_str(), effect));
        names
            .into_iter()
            .chain(ALIASES)
            .find_map(|(name, effect)| (name == text).then_some(effect))
            .ok_or_else(|| {
                invalid(format!(
                    "{text:?} is not an effect: use {}",
                    one_of(&Self::ALL.map(Self::as_str), "or")
                ))
            })
    }
}

impl Serialize for Effect {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Effect {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Effect {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Effect".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names: Vec<&str> = Self::ALL
            .map(Self::as_str)
            .into_iter()
            .chain(ALIASES.map(|(name, _)| name))
            .collect();
        schemars::json_schema!({
            "type": "string",
            "enum": names,
            "description": "a look for the cut-out; none is color, optimized_popart is popart"
        })
    }
}

/// How strong the parts of [`Effect::EnhancedBlackWhite`] are: 0 leaves a part out, 1 is its usual
/// strength. The other effects have no parameters and ignore these.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct EffectParams {
    /// Contrast beyond the film's curve.
    #[schemars(default = "usual", range(min = 0.0, max = 4.0))]
    pub contrast: f32,
    /// Noise as of a film's silver.
    #[schemars(default = "usual", range(min = 0.0, max = 4.0))]
    pub grain: f32,
    /// The glow around highlights.
    #[schemars(default = "usual", range(min = 0.0, max = 4.0))]
    pub halation: f32,
}

const fn usual() -> f32 {
    1.0
}

impl Default for EffectParams {
    fn default() -> Self {
        Self {
            contrast: usual(),
            grain: usual(),
            halation: usual(),
        }
    }
}

impl EffectParams {
    /// The names of the parameters.
    pub const NAMES: [&'static str; 3] = ["contrast", "grain", "halation"];

    /// At four times the usual grain nothing of a face is left; whoever asks for more has mistaken
    /// the unit.
    pub const MAX: f32 = 4.0;

    /// Reads a JSON object such as `{"grain": 0.5}`; what is not in it has its usual strength.
    ///
    /// Errors: `invalid_job` for what is not a JSON object, for an unknown key, and for a value
    /// that is not a number from 0 to [`MAX`](Self::MAX).
    pub fn from_json(text: &str) -> Result<Self> {
        let value = serde_json::from_str(text).map_err(|error| {
            invalid(format!(
                "the effect's parameters are not JSON ({error}): write an object such as {EXAMPLE}"
            ))
        })?;
        Self::from_value(&value)
    }

    fn from_value(value: &Value) -> Result<Self> {
        let Value::Object(object) = value else {
            return Err(invalid(format!(
                "the effect's parameters are {value}: write an object such as {EXAMPLE}"
            )));
        };
        let mut params = Self::default();
        for (name, value) in object {
            let field = match name.as_str() {
                "contrast" => &mut params.contrast,
                "grain" => &mut params.grain,
                "halation" => &mut params.halation,
                _ => {
                    return Err(invalid(format!(
                        "{name:?} is not a parameter of an effect: there are {}",
                        one_of(&Self::NAMES, "and")
                    )));
                }
            };
            *field = strength(name, value)?;
        }
        Ok(params)
    }
}

const EXAMPLE: &str = r#"{"contrast": 1, "grain": 0.5, "halation": 1}"#;

fn strength(name: &str, value: &Value) -> Result<f32> {
    value
        .as_f64()
        // JSON has no infinity and no NaN, and this is false for them too.
        .filter(|number| (0.0..=f64::from(EffectParams::MAX)).contains(number))
        .map(|number| number as f32)
        .ok_or_else(|| {
            invalid(format!(
                "the effect's parameter {name} is {value}: write a number from 0 (none) to {}; 1 is usual",
                EffectParams::MAX
            ))
        })
}

impl<'de> Deserialize<'de> for EffectParams {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::from_value(&value).map_err(serde::de::Error::custom)
    }
}

/// `a, b or c`.
fn one_of(names: &[&str], word: &str) -> String {
    match names {
        [all @ .., last] if !all.is_empty() => format!("{} {word} {last}", all.join(", ")),
        _ => names.concat(),
    }
}

fn invalid(message: String) -> Error {
    Error::new(Code::InvalidJob, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_name_and_alias_is_understood_and_printed_by_its_name() {
        for effect in Effect::ALL {
            assert_eq!(effect.as_str().parse::<Effect>().unwrap(), effect);
            let json = serde_json::to_string(&effect).unwrap();
            assert_eq!(json, format!("{:?}", effect.as_str()));
            assert_eq!(serde_json::from_str::<Effect>(&json).unwrap(), effect);
            assert!(effect.description().ends_with('.'), "{effect}");
        }
        for (alias, effect) in ALIASES {
            assert_eq!(alias.parse::<Effect>().unwrap(), effect);
            assert_ne!(alias, effect.as_str());
        }
    }

    #[test]
    fn an_unknown_effect_is_the_jobs_mistake_and_the_message_names_the_valid_ones() {
        for text in ["sepia", "", "Popart", "color "] {
            let error = text.parse::<Effect>().expect_err(text);
            assert_eq!(error.code(), Code::InvalidJob);
            for effect in Effect::ALL {
                assert!(error.message().contains(effect.as_str()), "{error}");
            }
        }
        assert!(serde_json::from_str::<Effect>("7").is_err());
    }

    #[test]
    fn the_schema_lists_names_and_aliases() {
        let schema = serde_json::to_value(schemars::schema_for!(Effect)).unwrap();
        assert_eq!(
            schema["enum"],
            serde_json::json!([
                "color",
                "enhancedblackwhite",
                "popart",
                "dithering",
                "retro8bit",
                "none",
                "optimized_popart"
            ])
        );
        let schema = serde_json::to_value(schemars::schema_for!(EffectParams)).unwrap();
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema.get("required"), None);
        for name in EffectParams::NAMES {
            assert_eq!(schema["properties"][name]["default"], 1.0, "{schema}");
            assert_eq!(schema["properties"][name]["maximum"], 4.0);
        }
    }

    #[test]
    fn parameters_left_out_have_their_usual_strength() {
        assert_eq!(
            EffectParams::from_json("{}").unwrap(),
            EffectParams::default()
        );
        let params = EffectParams::from_json(r#"{"grain": 0, "halation": 4}"#).unwrap();
        assert_eq!(
            (params.contrast, params.grain, params.halation),
            (1.0, 0.0, 4.0)
        );
        let json = serde_json::to_string(&params).unwrap();
        assert_eq!(serde_json::from_str::<EffectParams>(&json).unwrap(), params);
    }

    #[test]
    fn wrong_parameters_are_the_jobs_mistake_and_say_why() {
        for (json, said) in [
            ("", "not JSON"),
            ("grain=1", "not JSON"),
            (r#"{"grain": NaN}"#, "not JSON"),
            ("[]", "[]"),
            ("null", "null"),
            ("1", "1"),
            (r#"{"graim": 1}"#, "graim"),
            (r#"{"grain": -0.1}"#, "from 0"),
            (r#"{"grain": 4.01}"#, "to 4"),
            (r#"{"grain": 1e300}"#, "to 4"),
            (r#"{"grain": "1"}"#, "a number"),
            (r#"{"contrast": null}"#, "contrast"),
        ] {
            let error = EffectParams::from_json(json).expect_err(json);
            assert_eq!(error.code(), Code::InvalidJob, "{json}");
            assert!(error.message().contains(said), "{json}: {error}");
            assert!(serde_json::from_str::<EffectParams>(json).is_err());
        }
    }

    proptest! {
        #[test]
        fn reading_any_parameters_never_panics_and_what_is_read_is_in_range(text in "\\PC{0,60}") {
            if let Ok(params) = EffectParams::from_json(&text) {
                for value in [params.contrast, params.grain, params.halation] {
                    prop_assert!((0.0..=EffectParams::MAX).contains(&value));
                }
            }
        }
    }
}
