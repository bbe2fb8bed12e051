//! HEIC and AVIF: boxes that claim too much, grids, items that name each other, streams that differ
//! from what their container says.

use crate::bytes::{Attack, Expect, attack};

pub fn fixture(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/heif");
    std::fs::read(path.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn of(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let size = 8 + content.len() as u32;
    [&size.to_be_bytes()[..], name, content].concat()
}

fn full(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    of(name, &[&[0; 4], content].concat())
}

/// The first box of a name, wherever it is, whole.
fn find(file: &[u8], name: &[u8; 4]) -> Vec<u8> {
    let at = file.windows(4).position(|w| w == name).unwrap() - 4;
    let size = u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    file[at..at + size].to_vec()
}

/// The file with another size for each of its pictures.
fn resized(mut file: Vec<u8>, width: u32, height: u32) -> Vec<u8> {
    for at in 0..file.len() - 16 {
        if file[at..].starts_with(b"ispe") {
            file[at + 8..at + 12].copy_from_slice(&width.to_be_bytes());
            file[at + 12..at + 16].copy_from_slice(&height.to_be_bytes());
        }
    }
    file
}

fn size(width: u32, height: u32) -> Vec<u8> {
    full(
        b"ispe",
        &[width.to_be_bytes(), height.to_be_bytes()].concat(),
    )
}

#[derive(Clone)]
struct Item {
    kind: &'static [u8; 4],
    data: Vec<u8>,
    /// Numbers of its properties, from 1.
    properties: &'static [u8],
}

/// A file of items, numbered from 1, which is the primary one; references as kind, from, to.
fn file(
    brand: &[u8; 4],
    items: &[Item],
    properties: &[Vec<u8>],
    references: &[(&[u8; 4], u16, Vec<u16>)],
) -> Vec<u8> {
    let count = (items.len() as u16).to_be_bytes();
    let ids = || 1_u16..;
    let mut infos = count.to_vec();
    let mut associations = (items.len() as u32).to_be_bytes().to_vec();
    for (id, item) in ids().zip(items) {
        let id = id.to_be_bytes();
        let info = [&[2, 0, 0, 0], &id[..], &[0, 0], item.kind, &[0]].concat();
        infos.extend(of(b"infe", &info));
        associations.extend([&id[..], &[item.properties.len() as u8], item.properties].concat());
    }
    let mut refs = Vec::new();
    for (kind, from, to) in references {
        let mut content = [*from, to.len() as u16].map(u16::to_be_bytes).concat();
        content.extend(to.iter().flat_map(|id| id.to_be_bytes()));
        refs.extend(of(kind, &content));
    }
    let meta = |mut at: u32| {
        let mut places = vec![0x44, 0];
        places.extend(count);
        for (id, item) in ids().zip(items) {
            let size = item.data.len() as u32;
            places.extend([&id.to_be_bytes()[..], &[0, 0, 0, 1]].concat());
            places.extend([at, size].map(u32::to_be_bytes).concat());
            at += size;
        }
        let iprp = [
            of(b"ipco", &properties.concat()),
            full(b"ipma", &associations),
        ];
        full(
            b"meta",
            &[
                full(b"hdlr", b"\0\0\0\0pict\0\0\0\0\0\0\0\0\0\0\0\0\0"),
                full(b"pitm", &[0, 1]),
                full(b"iloc", &places),
                full(b"iinf", &infos),
                full(b"iref", &refs),
                of(b"iprp", &iprp.concat()),
            ]
            .concat(),
        )
    };
    let start = of(b"ftyp", &[brand, &[0; 4], &b"mif1"[..]].concat());
    let data: Vec<u8> = items.iter().flat_map(|item| item.data.clone()).collect();
    let at = (start.len() + meta(0).len() + 8) as u32;
    [start, meta(at), of(b"mdat", &data)].concat()
}

fn grid(rows: u8, columns: u8, width: u16, height: u16) -> Vec<u8> {
    let start = [0, 0, rows - 1, columns - 1];
    [&start[..], &width.to_be_bytes(), &height.to_be_bytes()].concat()
}

/// Attacks on either format, from one of its photos of 160×120 pixels and one of 3000×1500.
fn on(
    extension: &str,
    kind: &'static [u8; 4],
    configuration: &[u8; 4],
    brand: &[u8; 4],
) -> Vec<Attack> {
    let photo = fixture(&format!("photo.{extension}"));
    let large = fixture(&format!("large/plain.{extension}"));
    let config = find(&photo, configuration);
    let coded = find(&photo, b"mdat")[8..].to_vec();
    let item = |data: Vec<u8>| Item {
        kind,
        data,
        properties: &[1, 2],
    };
    let tiles = |count: usize| -> Vec<Item> {
        let mut items = vec![Item {
            kind: b"grid",
            data: grid(100, 100, 10_000, 100),
            properties: &[],
        }];
        items.extend((0..count).map(|_| item(vec![1])));
        items
    };
    let properties = [size(160, 120), config.clone()];
    let one = |data| file(brand, &[item(data)], &properties, &[]);
    let of_grid = |data: Vec<u8>, to: Vec<u16>| {
        let items = [
            Item {
                kind: b"grid",
                data,
                properties: &[],
            },
            item(coded.clone()),
        ];
        file(brand, &items, &properties, &[(b"dimg", 1, to)])
    };
    let places = [&[0; 4][..], &[0, 1, 0, 0, 0xff, 0xff].repeat(40_000)].concat();
    let many = |name, content: &[u8]| {
        let meta = full(b"meta", &of(name, content));
        [find(&photo, b"ftyp"), meta].concat()
    };
    let corrupt = Expect::Header("image_corrupt");
    let unread = Expect::Header("unsupported_format");
    let mut attacks = vec![
        attack("as built here", Expect::Picture, one(coded.clone())),
        attack(
            "a grid as built here",
            Expect::Picture,
            of_grid(grid(1, 1, 160, 120), vec![2]),
        ),
        attack(
            "65535×65535 by its size",
            Expect::Header("image_too_large"),
            resized(photo.clone(), 65_535, 65_535),
        ),
        attack(
            "49 megapixels over a stream of 160×120",
            Expect::Pixels("image_corrupt"),
            resized(photo.clone(), 7000, 7000),
        ),
        attack(
            "16×16 over a stream of 3000×1500",
            Expect::Pixels("image_corrupt"),
            resized(large, 16, 16),
        ),
        attack("no pixels", corrupt, resized(photo.clone(), 0, 9)),
        attack(
            "65,535 places an item, 40,000 times",
            corrupt,
            many(b"iloc", &[&[0; 4], &places[..]].concat()),
        ),
        attack(
            "two million items",
            corrupt,
            many(
                b"iinf",
                &[&[0; 6], &full(b"infe", &[0; 9]).repeat(2_000_000)[..]].concat(),
            ),
        ),
        attack(
            "five million properties",
            corrupt,
            many(b"iprp", &of(b"ipco", &of(b"free", b"").repeat(5_000_000))),
        ),
        attack(
            "a grid of 10,000 tiles",
            corrupt,
            file(
                brand,
                &tiles(10_000),
                &properties,
                &[(b"dimg", 1, (2..=10_001).collect())],
            ),
        ),
        attack(
            "a grid of 2,500 tiles that are there",
            unread,
            file(
                brand,
                &[
                    vec![Item {
                        kind: b"grid",
                        data: grid(50, 50, 8000, 6000),
                        properties: &[],
                    }],
                    (0..2500).map(|_| item(vec![1])).collect(),
                ]
                .concat(),
                &properties,
                &[(b"dimg", 1, (2..=2501).collect())],
            ),
        ),
        attack(
            "a grid that lacks tiles",
            corrupt,
            of_grid(grid(2, 2, 320, 240), vec![2]),
        ),
        attack(
            "a grid of one tile, 1,000 times",
            corrupt,
            of_grid(grid(25, 40, 6400, 3000), vec![2; 1000]),
        ),
        attack(
            "a grid whose tiles lie outside",
            corrupt,
            of_grid(grid(1, 2, 160, 120), vec![2; 2]),
        ),
        attack(
            "a grid of itself",
            unread,
            of_grid(grid(1, 1, 160, 120), vec![1]),
        ),
        attack(
            "garbage for pixels",
            Expect::Pixels("image_corrupt"),
            one(vec![0x5a; 5000]),
        ),
    ];
    let again = match kind {
        b"hvc1" => [&coded[..], &[0, 0, 0, 2, 0x4e, 1].repeat(4_000_000)].concat(),
        _ => coded.repeat(5000),
    };
    attacks.push(attack(
        "a stream of thousands of pieces",
        Expect::Pixels("unsupported_format"),
        one(again),
    ));
    attacks
}

#[cfg(feature = "heic")]
pub fn heics() -> Vec<Attack> {
    on("heic", b"hvc1", b"hvcC", b"heic")
}

#[cfg(feature = "avif")]
pub fn avifs() -> Vec<Attack> {
    on("avif", b"av01", b"av1C", b"avif")
}
