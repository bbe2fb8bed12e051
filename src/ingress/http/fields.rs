//! What a request asks for, from its query and its form: the form wins.

use std::collections::BTreeMap;

use crate::effect::{Effect, EffectParams};
use axum::extract::Query;
use axum::http::{StatusCode, Uri};

use super::look;
use super::refusal::Refusal;

/// Longest value of a text field, bytes.
pub const MAX_FIELD_BYTES: usize = 8 * 1024;

/// Most names that are kept of one request: no route has as many.
const MAX_FIELDS: usize = 32;

/// Names that some route knows, beside those of the picture's [look](super::look).
const KNOWN: [&str; 10] = [
    "output_format",
    "quality",
    "use_cache",
    "session_id",
    "effect",
    "effects",
    "form_effects",
    "effect_params",
    "return_all_effects",
    "load_single_effect",
];

/// Whether some route knows a field.
pub fn is_known(name: &str) -> bool {
    [&KNOWN[..], &look::OF_ALL, &look::OF_THE_PICTURE]
        .iter()
        .any(|names| names.contains(&name))
}

/// Names and values as they came. Names that no route knows are ignored, as FastAPI does.
#[derive(Debug, Default)]
pub struct Fields(BTreeMap<String, String>);

impl Fields {
    /// The query's fields.
    ///
    /// Errors: 422 when it is not a query, or has more fields than any route knows.
    pub fn of_query(uri: &Uri) -> Result<Self, Refusal> {
        let mut fields = Self::default();
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| Refusal::unprocessable("the query is not made of name=value pairs"))?;
        for (name, value) in pairs {
            fields.set(&name, value)?;
        }
        Ok(fields)
    }

    /// Sets a field, over what was there.
    pub fn set(&mut self, name: &str, value: String) -> Result<(), Refusal> {
        if value.len() > MAX_FIELD_BYTES || name.len() > MAX_FIELD_BYTES {
            return Err(Refusal::unprocessable(format!(
                "a field has more than {MAX_FIELD_BYTES} bytes"
            )));
        }
        if self.0.len() >= MAX_FIELDS && !self.0.contains_key(name) {
            return Err(Refusal::unprocessable(format!(
                "the request has more than {MAX_FIELDS} fields"
            )));
        }
        self.0.insert(name.to_owned(), value);
        Ok(())
    }

    /// A field that says something.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    }

    /// A yes or no, in the words that FastAPI takes.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, Refusal> {
        let Some(text) = self.text(name) else {
            return Ok(default);
        };
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "y" | "on" | "t" => Ok(true),
            "false" | "0" | "no" | "n" | "off" | "f" => Ok(false),
            _ => Err(Refusal::unprocessable(format!(
                "{name} is neither true nor false"
            ))),
        }
    }

    /// The one effect that is asked for.
    pub fn effect(&self) -> Result<Effect, Refusal> {
        match self.text("effect") {
            None => Ok(Effect::EnhancedBlackWhite),
            Some(text) => effect(text),
        }
    }

    /// The effects that are asked for, comma-separated, without repetitions; all of them where none
    /// is named.
    pub fn effects(&self) -> Result<Vec<Effect>, Refusal> {
        let named = self.text("form_effects").or_else(|| self.text("effects"));
        let Some(named) = named else {
            return Ok(Effect::ALL.to_vec());
        };
        let effects = named
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(effect)
            .collect::<Result<Vec<_>, _>>()?;
        if effects.is_empty() {
            return Ok(Effect::ALL.to_vec());
        }
        Ok(Effect::distinct(&effects))
    }

    /// The effects' parameters, a JSON object.
    pub fn params(&self) -> Result<EffectParams, Refusal> {
        match self.text("effect_params") {
            None => Ok(EffectParams::default()),
            Some(json) => EffectParams::from_json(json).map_err(|error| Refusal::from(&error)),
        }
    }
}

/// An effect by its name.
pub fn effect(name: &str) -> Result<Effect, Refusal> {
    name.parse().map_err(|_| {
        let known: Vec<_> = Effect::ALL.iter().map(|effect| effect.as_str()).collect();
        Refusal::new(
            StatusCode::BAD_REQUEST,
            "unknown_effect",
            format!("there is no such effect; there are: {}", known.join(", ")),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Fields {
        try_query(text).unwrap()
    }

    fn try_query(text: &str) -> Result<Fields, Refusal> {
        Fields::of_query(&format!("/?{text}").parse().unwrap())
    }

    #[test]
    fn the_words_for_yes_and_no_are_fastapis() {
        for word in ["true", "True", "1", "yes", "on"] {
            assert!(
                query(&format!("use_cache={word}"))
                    .flag("use_cache", false)
                    .unwrap()
            );
        }
        for word in ["false", "0", "No", "off"] {
            assert!(
                !query(&format!("use_cache={word}"))
                    .flag("use_cache", true)
                    .unwrap()
            );
        }
        assert!(query("").flag("use_cache", true).unwrap());
        assert!(query("use_cache=").flag("use_cache", true).unwrap());
        let refusal = query("use_cache=maybe")
            .flag("use_cache", true)
            .unwrap_err();
        assert_eq!(refusal.status(), StatusCode::UNPROCESSABLE_ENTITY);
    }

    #[test]
    fn an_unknown_effect_is_told_the_known_ones() {
        let refusal = query("effect=sepia").effect().unwrap_err();
        assert_eq!(refusal.status(), StatusCode::BAD_REQUEST);
        for effect in Effect::ALL {
            assert!(refusal.detail().contains(effect.as_str()), "{refusal:?}");
        }
        assert!(query("effects=popart,sepia").effects().is_err());
    }

    #[test]
    fn effects_come_once_each_in_the_order_they_are_named_in_by_any_of_their_names() {
        let effects = query("effects=dithering,%20popart,none,color,optimized_popart,").effects();
        assert_eq!(
            effects.unwrap(),
            [Effect::Dithering, Effect::PopArt, Effect::Color]
        );
        assert_eq!(query("").effects().unwrap(), Effect::ALL);
        assert_eq!(query("effects=,").effects().unwrap(), Effect::ALL);
        let mut fields = query("effects=popart");
        fields.set("form_effects", "color".into()).unwrap();
        assert_eq!(fields.effects().unwrap(), [Effect::Color]);
    }

    #[test]
    fn what_has_too_many_or_too_long_fields_is_refused() {
        let many: Vec<_> = (0..=MAX_FIELDS).map(|i| format!("a{i}=1")).collect();
        assert!(try_query(&many.join("&")).is_err());
        let long = format!("effect={}", "x".repeat(MAX_FIELD_BYTES + 1));
        assert!(try_query(&long).is_err());
    }

    #[test]
    fn a_format_that_is_not_written_and_a_quality_that_is_none_are_refused() {
        assert_eq!(
            query("output_format=WebP").output(false).unwrap().format,
            crate::job::Format::Webp
        );
        let refusal = query("output_format=jpeg").output(false).unwrap_err();
        assert_eq!(refusal.status(), StatusCode::BAD_REQUEST);
        assert!(query("quality=95").output(false).is_ok());
        for wrong in ["0", "101", "high"] {
            assert!(query(&format!("quality={wrong}")).output(false).is_err());
        }
    }
}
