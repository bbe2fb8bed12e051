//! Where a cut-out goes when its job does not say: a template of the source's name, which is
//! also what tells our own outputs from uploads, so that no output is ever cut out again.

use std::fmt;
use std::str::FromStr;

use crate::error::{Code, Error, Result};
use crate::object::{ObjectName, RESERVED_DIR};

/// A destination template such as `{dir}/{stem}.cutout.{ext}`.
///
/// Placeholders: `{dir}`, the source's folder (with an empty one its slash goes too); `{stem}`,
/// the source's file name without its extension, required; `{ext}`, the extension of the
/// output's format.
///
/// A template is accepted only if its products can be told from uploads: it needs a folder or
/// name prefix of its own (`cutouts/{dir}/{stem}.{ext}`), or letters between the stem and the
/// extension (`{dir}/{stem}.cutout.{ext}`). Otherwise every output in a watched bucket would be
/// the next upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Dir,
    Stem,
    Ext,
}

impl Template {
    /// The key of the output for a source, in the source's bucket or another.
    /// `ext` comes without a dot.
    pub fn render(&self, source: &ObjectName, ext: &str) -> String {
        let mut key = String::with_capacity(self.text.len() + source.key().len());
        let mut without_slash = false;
        for part in &self.parts {
            match part {
                Part::Literal(text) if without_slash => {
                    key.push_str(text.strip_prefix('/').unwrap_or(text));
                }
                Part::Literal(text) => key.push_str(text),
                Part::Dir => key.push_str(source.dir()),
                Part::Stem => key.push_str(source.stem()),
                Part::Ext => key.push_str(ext),
            }
            without_slash = matches!(part, Part::Dir) && source.dir().is_empty();
        }
        key
    }

    /// Whether this template may have produced the key. Never wrong about a key it did produce;
    /// an upload whose name looks like a product is taken for one, which costs that upload
    /// rather than a loop.
    pub fn may_have_produced(&self, key: &str) -> bool {
        matches(&self.parts, key)
    }
}

/// Matches a key with the template's parts from left to right. For each number of parts it is noted
/// where in the key they may end: trying the splits one by one would take time that grows with the
/// key's length to the power of the placeholders.
fn matches(parts: &[Part], key: &str) -> bool {
    let mut ends = vec![vec![false; key.len() + 1]; parts.len() + 1];
    ends[0][0] = true;
    for (done, part) in parts.iter().enumerate() {
        // Whether a placeholder that began further left may still go on here.
        let mut open = false;
        for at in splits(key) {
            let begins = ends[done][at];
            let rest = &key[at..];
            match part {
                Part::Literal(text) => {
                    if begins && rest.starts_with(text.as_str()) {
                        ends[done + 1][at + text.len()] = true;
                    }
                }
                Part::Dir => {
                    open |= begins;
                    ends[done + 1][at] |= open;
                    // An empty folder takes its slash along, as in `render`.
                    if begins
                        && let Some(Part::Literal(text)) = parts.get(done + 1)
                        && let Some(text) = text.strip_prefix('/')
                        && rest.starts_with(text)
                    {
                        ends[done + 2][at + text.len()] = true;
                    }
                }
                Part::Stem | Part::Ext => {
                    open |= begins;
                    ends[done + 1][at] |= open;
                    open &= !rest.starts_with('/');
                }
            }
        }
    }
    ends[parts.len()][key.len()]
}

fn splits(key: &str) -> impl Iterator<Item = usize> {
    key.char_indices().map(|(at, _)| at).chain([key.len()])
}

impl FromStr for Template {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = parse(text)?;
        check_shape(text, &parts)?;
        if !is_distinguishing(&parts) {
            return Err(invalid(
                text,
                "its outputs could not be told from uploads, so they would be cut out again and again; add a suffix of its own after {stem}, as in {dir}/{stem}.cutout.{ext}, or a folder of its own in front",
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            parts,
        })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn parse(text: &str) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let at = rest.find(['{', '}']).unwrap_or(rest.len());
        if at > 0 {
            parts.push(Part::Literal(rest[..at].to_owned()));
            rest = &rest[at..];
            continue;
        }
        let name = rest
            .strip_prefix('{')
            .and_then(|inside| inside.split_once('}'))
            .ok_or_else(|| invalid(text, "a brace has no partner"))?;
        parts.push(match name.0 {
            "dir" => Part::Dir,
            "stem" => Part::Stem,
            "ext" => Part::Ext,
            other => {
                return Err(invalid(
                    text,
                    &format!(
                        "{{{other}}} is not a placeholder; the known ones are {{dir}}, {{stem}} and {{ext}}"
                    ),
                ));
            }
        });
        rest = name.1;
    }
    Ok(parts)
}

fn check_shape(text: &str, parts: &[Part]) -> Result<()> {
    let stems = parts.iter().filter(|part| **part == Part::Stem).count();
    if stems != 1 {
        return Err(invalid(
            text,
            "{stem} must occur exactly once: without it all photos of a folder would share one output",
        ));
    }
    let stem = stem_position(parts);
    if parts[stem..].contains(&Part::Dir) {
        return Err(invalid(text, "{dir} must stand before {stem}"));
    }
    let literals = parts.iter().filter_map(|part| match part {
        Part::Literal(literal) => Some(literal),
        _ => None,
    });
    if literals.clone().any(|l| l.chars().any(char::is_control)) {
        return Err(invalid(text, "it has control characters"));
    }
    // Placeholders become names, so a path built from `x` in their place is as good as any.
    let sample: String = parts
        .iter()
        .map(|part| match part {
            Part::Literal(literal) => literal.as_str(),
            _ => "x",
        })
        .collect();
    ObjectName::local(sample)
        .map(|_| ())
        .map_err(|_| {
            invalid(
                text,
                &format!(
                    "it must be a relative path without empty, `.` or `..` components, outside {RESERVED_DIR}/"
                ),
            )
        })
}

fn stem_position(parts: &[Part]) -> usize {
    parts
        .iter()
        .position(|part| *part == Part::Stem)
        .unwrap_or(parts.len())
}

/// Whether the template's literals tell its products from uploads.
fn is_distinguishing(parts: &[Part]) -> bool {
    let letters = |text: &str| text.chars().any(char::is_alphanumeric);
    let stem = stem_position(parts);

    // In front: the very beginning, or a whole folder further in.
    for (at, part) in parts[..stem].iter().enumerate() {
        if let Part::Literal(text) = part
            && letters(text)
            && (at == 0 || (text.starts_with('/') && text.ends_with('/')))
        {
            return true;
        }
    }

    // Behind: anything but the extension, which uploads have as well.
    let mut tail: String = parts[stem + 1..]
        .iter()
        .map(|part| match part {
            Part::Literal(text) => text.as_str(),
            _ => "",
        })
        .collect();
    let ends_with_ext = parts.last() == Some(&Part::Ext);
    if let Some(dot) = tail.rfind('.')
        && !ends_with_ext
    {
        tail.truncate(dot);
    }
    letters(&tail)
}

fn invalid(text: &str, why: &str) -> Error {
    Error::new(
        Code::ConfigInvalid,
        format!("the destination template {text:?} cannot be used: {why}"),
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn template(text: &str) -> Template {
        text.parse().unwrap()
    }

    fn render(text: &str, source: &str) -> String {
        template(text).render(&source.parse().unwrap(), "png")
    }

    #[test]
    fn many_placeholders_are_matched_in_time_that_does_not_explode() {
        let many = format!("{{dir}}/{{stem}}{}.x.{{ext}}", "{ext}".repeat(40));
        let key = "a.".repeat(500);
        assert!(!template(&many).may_have_produced(&key));
        assert!(template(&many).may_have_produced(&format!("{key}.x.png")));
    }

    #[test]
    fn the_folder_the_stem_and_the_extension_take_their_places() {
        let usual = "{dir}/{stem}.cutout.{ext}";
        assert_eq!(
            render(usual, "gs://uploads/2026/11/rex.jpg"),
            "2026/11/rex.cutout.png"
        );
        assert_eq!(
            render("out/{dir}/{stem}.png", "gs://uploads/a/b.c.jpg"),
            "out/a/b.c.png"
        );
        assert_eq!(template(usual).to_string(), usual);
    }

    #[test]
    fn an_empty_folder_leaves_no_slash_behind() {
        assert_eq!(
            render("{dir}/{stem}.cutout.{ext}", "gs://uploads/rex.jpg"),
            "rex.cutout.png"
        );
        assert_eq!(
            render("out/{dir}/{stem}.{ext}", "gs://uploads/rex.jpg"),
            "out/rex.png"
        );
    }

    #[test]
    fn templates_that_could_not_work_are_refused_with_the_reason() {
        for (text, reason) in [
            ("{dir}/{stem}.{ext}", "told from uploads"),
            ("{dir}/{stem}.png", "told from uploads"),
            ("{stem}", "told from uploads"),
            ("{dir}/{stem}..{ext}", "told from uploads"),
            ("{dir}a{stem}.{ext}", "told from uploads"),
            ("out/cutout.png", "{stem}"),
            ("{stem}{stem}.cutout.png", "{stem}"),
            ("{stem}.cutout/{dir}", "before {stem}"),
            ("{dir}/{name}.cutout.png", "{name}"),
            ("{dir}/{stem.cutout.png", "brace"),
            ("{dir}/stem}.cutout.png", "brace"),
            ("/out/{stem}.png", "relative path"),
            ("out/../{stem}.png", "relative path"),
            ("out//{stem}.png", "relative path"),
            (".cutout/{stem}.png", "relative path"),
            ("out\n/{stem}.png", "control"),
            ("", "{stem}"),
        ] {
            let error = text.parse::<Template>().expect_err(text);
            assert_eq!(error.code(), Code::ConfigInvalid, "{text}");
            assert!(error.message().contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn an_ordinary_upload_is_not_taken_for_an_output() {
        let suffix = template("{dir}/{stem}.cutout.{ext}");
        for key in [
            "rex.jpg",
            "2026/rex.png",
            "2026.cutout.d/rex.png",
            "rex.cutout",
            "cutout.png",
        ] {
            assert!(!suffix.may_have_produced(key), "{key}");
        }
        assert!(suffix.may_have_produced("2026/rex.cutout.png"));
        // Effects are written beside the cut-out and carry its suffix.
        assert!(suffix.may_have_produced("2026/rex.cutout.popart.png"));

        let folder = template("{dir}/cutouts/{stem}.{ext}");
        assert!(!folder.may_have_produced("2026/rex.png"));
        assert!(folder.may_have_produced("2026/cutouts/rex.png"));
        assert!(folder.may_have_produced("cutouts/rex.png"));
    }

    /// Any template that the parser accepts, biased towards the ones people write.
    pub(crate) fn any_template() -> impl Strategy<Value = Template> {
        prop_oneof![
            Just("{dir}/{stem}.cutout.{ext}".to_owned()),
            Just("{dir}/{stem}-cut.png".to_owned()),
            Just("cutouts/{dir}/{stem}.{ext}".to_owned()),
            Just("{dir}/cutouts/{stem}.{ext}".to_owned()),
            Just("cutout-{stem}.{ext}".to_owned()),
            "([a-z./-]{0,4}(\\{dir\\})?){0,2}/?[a-z]{0,2}\\{stem\\}[a-z.-]{0,5}(\\{ext\\})?[a-z.]{0,4}",
        ]
        .prop_filter_map("refused", |text| text.parse().ok())
    }

    /// Any object name, with the characters that could confuse a matcher made likely.
    pub(crate) fn any_source() -> impl Strategy<Value = ObjectName> {
        prop_oneof!["[a./cutout-]{1,20}", "\\PC{1,40}"].prop_filter_map("not a name", |key| {
            ObjectName::in_bucket("perkie-uploads", key).ok()
        })
    }

    proptest! {
        #[test]
        fn whatever_the_template_produces_it_recognises(
            template in any_template(), source in any_source(), ext in "png|webp|jpeg",
        ) {
            let key = template.render(&source, &ext);
            prop_assert!(template.may_have_produced(&key), "{template} of {source}: {key}");
        }

        #[test]
        fn parsing_and_matching_any_text_never_panics(text in "[{}a-z./]{0,20}", key in "\\PC{0,30}") {
            if let Ok(template) = text.parse::<Template>() {
                template.may_have_produced(&key);
            }
        }
    }
}
