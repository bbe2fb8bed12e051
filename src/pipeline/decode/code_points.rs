//! ICC profiles for colours that a file describes by code points of ITU-T H.273.

use moxcms::{
    Chromaticity, CicpColorPrimaries, CicpProfile, ColorProfile, LocalizableString,
    MatrixCoefficients, ProfileText, ToneReprCurve, TransferCharacteristics, Xyz, Xyzd,
    adaption_matrix_d,
};

/// Primaries and transfer.
const SRGB: (u16, u16) = (1, 13);

/// A profile of a display of these colours, the same bytes each time; `None` for sRGB, which is also what is unspecified or
/// unknown is taken for.
///
/// The curves of television (1, 6, 14, 15) are taken for sRGB's, as browsers do: stills that say so
/// were never graded for a dark room.
#[cfg_attr(
    not(any(test, feature = "heic", feature = "avif")),
    expect(dead_code, reason = "only HEIF tells colours in this way")
)]
pub(super) fn profile(primaries: u16, transfer: u16) -> Option<Vec<u8>> {
    let transfer = match transfer {
        1 | 2 | 6 | 14 | 15 => 13,
        other => other,
    };
    let primaries = if primaries == 2 { 1 } else { primaries };
    if (primaries, transfer) == SRGB {
        return None;
    }
    let white = white(primaries)?;
    let mut profile = ColorProfile::new_from_cicp(CicpProfile {
        color_primaries: code_point::<CicpColorPrimaries>(primaries)?,
        transfer_characteristics: code_point::<TransferCharacteristics>(transfer)?,
        matrix_coefficients: MatrixCoefficients::Identity,
        full_range: true,
    });
    // Not every number has a curve.
    profile.red_trc.as_ref()?;
    complete(&mut profile, white, transfer);
    profile.description = text(match (primaries, transfer) {
        (12, 13) => "Display P3".to_owned(),
        _ => format!("ITU-T H.273: primaries {primaries}, transfer {transfer}"),
    });
    profile.copyright = text("CC0".to_owned());
    let mut icc = profile
        .encode()
        .inspect_err(|error| tracing::debug!(%error, primaries, transfer, "the colours' code points cannot be used; ignored"))
        .ok()?;
    // When it was made (7.2.8): a photo's cut-out has the same bytes tomorrow.
    let [year_high, year_low] = 2026_u16.to_be_bytes();
    icc[24..36].copy_from_slice(&[year_high, year_low, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
    Some(icc)
}

/// The white of displays of these primaries (ITU-T H.273, table 2); `None` for those that no display has.
fn white(primaries: u16) -> Option<Chromaticity> {
    match primaries {
        1 | 5 | 6 | 7 | 9 | 12 | 22 => Some(Chromaticity::D65),
        4 | 8 => Some(Chromaticity::new(0.310, 0.316)),
        11 => Some(Chromaticity::new(0.314, 0.351)),
        _ => None,
    }
}

/// What `moxcms` 0.8 leaves out or gets wrong where a profile is to be written, and not only used.
fn complete(profile: &mut ColorProfile, white: Chromaticity, transfer: u16) {
    // Its D50 has other digits than the connection space's (ICC.1:2022, 7.2.16), to which libpng holds them.
    let d50 = Xyz::new(0.9642, 1.0, 0.8249);
    profile.white_point = Xyzd::new(0.9642, 1.0, 0.8249);
    profile.media_white_point = Some(profile.white_point);
    // Its `chad` is the matrix of cones that the adaptation is made of.
    profile.chromatic_adaptation = Some(adaption_matrix_d(white.to_xyz(), d50));
    // Its gamma curves have two bytes less than a multiple of four, at which whatever follows has to begin.
    let gamma = match transfer {
        4 => 2.2,
        5 => 2.8,
        8 => 1.0,
        _ => return,
    };
    let curve = Some(ToneReprCurve::Parametric(vec![gamma]));
    profile.red_trc.clone_from(&curve);
    profile.green_trc.clone_from(&curve);
    profile.blue_trc = curve;
}

/// Text of an even number of characters, for the same reason.
fn text(mut text: String) -> Option<ProfileText> {
    if text.encode_utf16().count() % 2 == 1 {
        text.push(' ');
    }
    let said = LocalizableString::new("en".to_owned(), "US".to_owned(), text);
    Some(ProfileText::Localizable(vec![said]))
}

fn code_point<T: TryFrom<u8>>(number: u16) -> Option<T> {
    T::try_from(u8::try_from(number).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::super::Profile;
    use super::*;
    use crate::job::ColourProfile;

    fn number(icc: &[u8], at: usize) -> usize {
        u32::from_be_bytes(icc[at..at + 4].try_into().unwrap()) as usize
    }

    /// Names, offsets and sizes.
    fn tags(icc: &[u8]) -> Vec<(&[u8], usize, usize)> {
        let entries = icc[132..].as_chunks::<12>().0.iter();
        let entries = entries.take(number(icc, 128));
        entries
            .map(|e| (&e[..4], number(e, 4), number(e, 8)))
            .collect()
    }

    /// ICC.1:2022, 7.2, 7.3 and 8.4: what libpng and LittleCMS look at before they trust a profile.
    #[test]
    fn profiles_are_well_formed_and_always_the_same() {
        for (primaries, transfer) in [(12, 13), (9, 14), (9, 8), (12, 4), (11, 17), (8, 5), (1, 7)]
        {
            let icc = profile(primaries, transfer).unwrap();
            let told = format!("primaries {primaries}, transfer {transfer}");
            assert_eq!(number(&icc, 0), icc.len(), "{told}");
            assert_eq!(icc.len() % 4, 0, "{told}");
            assert_eq!(&icc[12..24], b"mntrRGB XYZ ", "{told}");
            assert_eq!(
                icc[24..36],
                [7, 234, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0],
                "{told}"
            );
            assert_eq!(&icc[36..40], b"acsp", "{told}");
            assert_eq!(
                hex::encode(&icc[68..80]),
                "0000f6d6000100000000d32d",
                "{told}"
            );
            let tags = tags(&icc);
            for (name, at, size) in &tags {
                assert!(at % 4 == 0 && at + size <= icc.len(), "{told}: {name:?}");
            }
            for name in [
                b"desc", b"cprt", b"wtpt", b"chad", b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC",
                b"bTRC",
            ] {
                assert!(tags.iter().any(|tag| tag.0 == name), "{told}: {name:?}");
            }
            assert!(
                Profile::wanted(Some(&icc), ColourProfile::Source).is_some(),
                "{told}"
            );
        }
    }

    #[test]
    fn display_p3_is_the_published_one() {
        const BEHIND_THE_TYPE: usize = 8;
        let icc = profile(12, 13).unwrap();
        let fixed = |at: usize| f64::from(number(&icc, at) as u32 as i32) / 65536.0;
        // From D65 to D50 by Bradford's method (ICC.1:2022, annex E), and the colorants as Apple's profile has them.
        for (name, expected) in [
            (
                b"chad",
                &[
                    1.04788, 0.02292, -0.05020, 0.02959, 0.99048, -0.01707, -0.00925, 0.01508,
                    0.75168,
                ][..],
            ),
            (b"rXYZ", &[0.51512, 0.24120, -0.00105]),
            (b"gXYZ", &[0.29198, 0.69225, 0.04189]),
            (b"bXYZ", &[0.15710, 0.06657, 0.78407]),
            (b"wtpt", &[0.9642, 1.0, 0.8249]),
        ] {
            let tags = tags(&icc);
            let (_, at, _) = tags.iter().find(|tag| tag.0 == name).unwrap();
            for (i, expected) in expected.iter().enumerate() {
                let found = fixed(at + BEHIND_THE_TYPE + 4 * i);
                assert!((found - expected).abs() < 1e-3, "{name:?} {i}: {found}");
            }
        }
        let name: Vec<u8> = "Display P3"
            .encode_utf16()
            .flat_map(u16::to_be_bytes)
            .collect();
        assert!(icc.windows(name.len()).any(|part| part == name));
    }

    #[test]
    fn srgb_and_what_is_not_known_need_none() {
        for (primaries, transfer) in [
            (1, 13),
            (1, 1),
            (2, 2),
            (2, 13),
            (3, 13),
            (10, 8),
            (12, 3),
            (700, 13),
            (12, 700),
        ] {
            let made = profile(primaries, transfer);
            assert_eq!(made, None, "{primaries} {transfer}");
        }
    }
}
