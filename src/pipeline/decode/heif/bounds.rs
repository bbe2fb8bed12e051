//! A look at a HEIF file's boxes before the library reads them: that makes room for whatever numbers
//! of places an item claims, and compares each item with each table.

use heifer::heifer_isobmff::{BoxIter, FourCC};

use super::super::colour::MAX_PROFILE_BYTES;

/// Samsung's photos of 200 megapixels have 768 tiles; with what describes them, under 1,000 items.
const MAX_ITEMS: usize = 4096;

/// Properties are shared: phones' files have some ten.
const MAX_PROPERTIES: usize = 4096;

/// All tables of items together, in which each item has some 50 bytes.
const MAX_TABLES_BYTES: usize = 256 << 10;

/// Places of all items together. Each item is in one piece as cameras write it.
const MAX_EXTENTS: usize = 4 * MAX_ITEMS;

/// An `ftyp` of a thousand brands.
const MAX_BRANDS_BYTES: usize = 4 << 10;

/// What is more than any picture needs; what is broken otherwise is the library's to find.
pub(super) fn excess(bytes: &[u8]) -> Option<&'static str> {
    boxes(bytes).find_map(|(name, content)| match &name.0 {
        b"ftyp" if content.len() > MAX_BRANDS_BYTES => Some("it claims too many brands"),
        b"meta" => excess_of_meta(content.get(4..)?),
        _ => None,
    })
}

fn boxes(bytes: &[u8]) -> impl Iterator<Item = (FourCC, &[u8])> {
    BoxIter::new(bytes)
        .map_while(Result::ok)
        .map(|found| (found.header.box_type, found.content))
}

fn excess_of_meta(meta: &[u8]) -> Option<&'static str> {
    let (mut items, mut tables, mut extents, mut properties, mut profiles) = (0, 0, 0, 0, 0);
    for (name, content) in boxes(meta) {
        match &name.0 {
            b"iinf" => {
                tables += content.len();
                // Behind the version: a count of two or four bytes, and then boxes.
                let from = if content.first() == Some(&0) { 6 } else { 8 };
                let infos = boxes(content.get(from..).unwrap_or_default());
                items += infos.take(MAX_ITEMS + 1).count();
            }
            b"iloc" => {
                tables += content.len();
                extents += extents_of(content).unwrap_or(0);
            }
            b"iref" => tables += content.len(),
            b"iprp" => {
                for (name, content) in boxes(content) {
                    if name.0 == *b"ipco" {
                        profiles += content.len();
                        properties += boxes(content).take(MAX_PROPERTIES + 1).count();
                    } else {
                        tables += content.len();
                    }
                }
            }
            _ => {}
        }
    }
    if items > MAX_ITEMS {
        Some("it has more than 4096 items")
    } else if extents > MAX_EXTENTS {
        Some("its items are in more than 16384 places")
    } else if properties > MAX_PROPERTIES {
        Some("it has more than 4096 properties")
    } else if tables > MAX_TABLES_BYTES {
        Some("its tables of items are larger than 256 KiB")
    } else if profiles > MAX_PROFILE_BYTES + MAX_TABLES_BYTES {
        Some("its properties are larger than 4 MiB")
    } else {
        None
    }
}

/// Places that an `iloc` claims, counted as far as it goes (ISO/IEC 14496-12, 8.11.3).
fn extents_of(content: &[u8]) -> Option<usize> {
    let version = *content.first()?;
    let (&[sizes, more_sizes], rest) = content.get(4..)?.split_first_chunk::<2>()?;
    let place = usize::from(sizes >> 4) + usize::from(sizes & 15);
    let base = usize::from(more_sizes >> 4);
    let (index, id, method) = match version {
        0 => (0, 2, 0),
        1 => (usize::from(more_sizes & 15), 2, 2),
        _ => (usize::from(more_sizes & 15), 4, 2),
    };
    let mut at = if version < 2 { 2 } else { 4 };
    let mut extents = 0;
    // Item, how it is made, which file, where from; then the number of its places.
    while let Some(count) = rest.get(at + id + method + 2 + base..) {
        let Some(count) = count.first_chunk::<2>() else {
            break;
        };
        let count = usize::from(u16::from_be_bytes(*count));
        extents += count;
        at += id + method + 2 + base + 2 + count * (index + place);
    }
    Some(extents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let size = 8 + content.len() as u32;
        [&size.to_be_bytes()[..], name, content].concat()
    }

    fn meta(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
        of(b"meta", &[&[0; 4], &of(name, content)[..]].concat())
    }

    #[test]
    fn what_no_picture_needs_is_found() {
        let items = |count| [&[0; 6], &of(b"infe", b"").repeat(count)[..]].concat();
        assert_eq!(excess(&meta(b"iinf", &items(MAX_ITEMS))), None);
        assert!(excess(&meta(b"iinf", &items(MAX_ITEMS + 1))).is_some());

        // Two items of 65,535 places that take no bytes at all.
        let places = [
            [0; 8].as_slice(),
            &[0, 1, 0, 0, 0xff, 0xff],
            &[0, 2, 0, 0, 0xff, 0xff],
        ];
        assert_eq!(extents_of(&places.concat()), Some(2 * 65_535));
        assert!(excess(&meta(b"iloc", &places.concat())).is_some());
        // Offsets and lengths of four bytes, an index and a base of eight: places as given.
        let mut places = vec![1, 0, 0, 0, 0x44, 0x88, 0, 2];
        for item in [1, 2] {
            places.extend([0, item, 0, 0, 0, 0]);
            places.extend([0; 8]);
            places.extend([0, 3]);
            places.extend([0; 3 * 16]);
        }
        assert_eq!(extents_of(&places), Some(6));

        let properties = |count| of(b"ipco", &of(b"free", b"").repeat(count));
        assert_eq!(excess(&meta(b"iprp", &properties(9))), None);
        assert!(excess(&meta(b"iprp", &properties(MAX_PROPERTIES + 1))).is_some());
        let profile = of(b"ipco", &of(b"colr", &vec![0; MAX_PROFILE_BYTES * 2]));
        assert!(excess(&meta(b"iprp", &profile)).is_some());
        assert!(excess(&meta(b"iref", &vec![0; 2 * MAX_TABLES_BYTES])).is_some());
        assert!(excess(&of(b"ftyp", &[0; MAX_BRANDS_BYTES + 4])).is_some());
        assert_eq!(excess(b"\0\0\0\x01meta"), None);
        assert_eq!(excess(&meta(b"iloc", b"\x01")), None);
    }
}
