//! Takes the outputs that nobody reads off an ONNX graph before it is loaded.
//!
//! Not asking for an output keeps it from being copied, not from being computed. ISNet offers
//! eleven beside the matte; without them `OpenVINO` takes 0.42 instead of 0.68 core seconds a photo
//! in bf16, ONNX Runtime's own kernels 2.75 instead of 2.84 (docs/benchmarks.md).
//!
//! The file's wire format is protobuf's (<https://protobuf.dev/programming-guides/encoding/>), its
//! fields are those of <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3>. An output and a
//! note about an intermediate value (`value_info`) are the same message under two field numbers
//! of one byte each, so an output becomes a note by changing that byte: no length moves.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// `ModelProto.graph`.
const GRAPH: u64 = 7;
/// `GraphProto.initializer`.
const INITIALIZER: u64 = 5;
/// `GraphProto.output`.
const OUTPUT: u64 = 12;
/// `GraphProto.value_info`.
const VALUE_INFO: u64 = 13;
/// `ValueInfoProto.name`.
const NAME: u64 = 1;
/// `TensorProto.external_data`.
const EXTERNAL_DATA: u64 = 13;
/// The wire type of strings and messages.
const LENGTH_DELIMITED: u64 = 2;

/// Where a graph's outputs stand in its file.
struct Outputs {
    /// Offset of the tag's byte, and the name.
    found: Vec<(u64, String)>,
    /// Whether weights lie in other files, which are found by the path of this one.
    external: bool,
}

/// The file's content with `wanted` as its only output, `None` when the file can be loaded as it
/// is: it has one output only, or not that one, or its weights lie beside it, or it is not what
/// this module can read (then ONNX Runtime says what is wrong with it).
///
/// Without a name the first output is the one wanted.
///
/// Errors: the file cannot be read.
pub fn with_one_output(file: &Path, wanted: Option<&str>) -> io::Result<Option<Vec<u8>>> {
    let Ok(Some(outputs)) = outputs(&mut Walk::new(File::open(file)?)?) else {
        return Ok(None);
    };
    let kept = match wanted {
        Some(name) => outputs.found.iter().position(|(_, found)| found == name),
        None => Some(0),
    };
    let (Some(kept), false, true) = (kept, outputs.external, outputs.found.len() > 1) else {
        return Ok(None);
    };
    let mut content = std::fs::read(file)?;
    for (at, _) in outputs
        .found
        .iter()
        .enumerate()
        .filter_map(|(i, output)| (i != kept).then_some(output))
    {
        let byte = usize::try_from(*at).ok().and_then(|at| content.get_mut(at));
        match byte {
            Some(byte) if u64::from(*byte) == OUTPUT << 3 | LENGTH_DELIMITED => {
                *byte = (VALUE_INFO << 3 | LENGTH_DELIMITED) as u8;
            }
            // Another file than a moment ago.
            _ => return Ok(None),
        }
    }
    Ok(Some(content))
}

/// `Ok(None)` where the file is not in the format.
fn outputs(walk: &mut Walk) -> io::Result<Option<Outputs>> {
    let mut outputs = Outputs {
        found: Vec::new(),
        external: false,
    };
    let end = walk.size;
    while walk.at < end {
        let Some(field) = walk.field(end)? else {
            return Ok(None);
        };
        if field.number == GRAPH && field.message && graph(walk, field.end, &mut outputs)?.is_none()
        {
            return Ok(None);
        }
        walk.skip_to(field.end)?;
    }
    Ok((!outputs.found.is_empty()).then_some(outputs))
}

fn graph(walk: &mut Walk, end: u64, outputs: &mut Outputs) -> io::Result<Option<()>> {
    while walk.at < end {
        let tag_at = walk.at;
        let Some(field) = walk.field(end)? else {
            return Ok(None);
        };
        match field.number {
            OUTPUT if field.message => {
                let Some(name) = walk.string_in(field.end, NAME)? else {
                    return Ok(None);
                };
                outputs.found.push((tag_at, name));
            }
            INITIALIZER if field.message => {
                while walk.at < field.end {
                    let Some(inner) = walk.field(field.end)? else {
                        return Ok(None);
                    };
                    outputs.external |= inner.number == EXTERNAL_DATA;
                    walk.skip_to(inner.end)?;
                }
            }
            _ => {}
        }
        walk.skip_to(field.end)?;
    }
    Ok(Some(()))
}

/// One field: its number, and where it ends.
struct Field {
    number: u64,
    /// Whether its content is a string or a message.
    message: bool,
    end: u64,
}

/// Goes from field to field without reading what it skips.
struct Walk {
    file: BufReader<File>,
    at: u64,
    size: u64,
}

impl Walk {
    fn new(file: File) -> io::Result<Self> {
        Ok(Self {
            size: file.metadata()?.len(),
            file: BufReader::new(file),
            at: 0,
        })
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.file.read_exact(&mut byte)?;
        self.at += 1;
        Ok(byte[0])
    }

    /// A variable-length integer; `None` where there is none.
    fn varint(&mut self) -> io::Result<Option<u64>> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The field that begins here; `None` where none can, or where it would end after `limit`.
    fn field(&mut self, limit: u64) -> io::Result<Option<Field>> {
        let Some(tag) = self.varint()? else {
            return Ok(None);
        };
        let length = match tag & 7 {
            // The integer is the content.
            0 => self.varint()?.map(|_| 0),
            1 => Some(8),
            LENGTH_DELIMITED => self.varint()?,
            5 => Some(4),
            _ => None,
        };
        let end = length.and_then(|length| self.at.checked_add(length));
        Ok(end.filter(|end| *end <= limit).map(|end| Field {
            number: tag >> 3,
            message: tag & 7 == LENGTH_DELIMITED,
            end,
        }))
    }

    fn skip_to(&mut self, end: u64) -> io::Result<()> {
        // What was read of a field is never more than the field.
        let ahead = end.saturating_sub(self.at);
        match i64::try_from(ahead) {
            Ok(ahead) => self.file.seek_relative(ahead)?,
            Err(_) => drop(self.file.seek(SeekFrom::Start(end))?),
        }
        self.at = end;
        Ok(())
    }

    /// The string with this number in a message that ends at `end`.
    fn string_in(&mut self, end: u64, number: u64) -> io::Result<Option<String>> {
        while self.at < end {
            let Some(field) = self.field(end)? else {
                return Ok(None);
            };
            if field.number == number && field.message {
                let mut text = Vec::new();
                let length = field.end - self.at;
                self.file.by_ref().take(length).read_to_end(&mut text)?;
                self.at += text.len() as u64;
                return Ok(String::from_utf8(text).ok());
            }
            self.skip_to(field.end)?;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2];
        let mut length = content.len();
        while length >= 0x80 {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend(content);
        bytes
    }

    fn output(name: &str) -> Vec<u8> {
        field(12, &[field(1, name.as_bytes()), field(2, b"type")].concat())
    }

    /// A model of a version, weights, and outputs, as ONNX lays it out.
    fn model(initializer: &[u8], outputs: &[&str]) -> Vec<u8> {
        let mut graph = [field(1, b"node"), field(5, initializer)].concat();
        for name in outputs {
            graph.extend(output(name));
        }
        graph.extend(field(13, &field(1, b"a note")));
        [vec![8, 9], field(7, &graph), field(8, b"opset")].concat()
    }

    fn cut(content: &[u8], wanted: Option<&str>) -> Option<Vec<u8>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        with_one_output(file.path(), wanted).unwrap()
    }

    fn names(content: &[u8]) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let mut walk = Walk::new(File::open(file.path()).unwrap()).unwrap();
        let found = outputs(&mut walk).unwrap().unwrap().found;
        found.into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn only_the_output_asked_for_is_left_and_nothing_else_moves() {
        // Long enough that its length takes two bytes.
        let whole = model(&[0; 300], &["matte", "side", "deep"]);
        for (wanted, left) in [
            (None, "matte"),
            (Some("deep"), "deep"),
            (Some("side"), "side"),
        ] {
            let cut = cut(&whole, wanted).unwrap();
            assert_eq!(names(&cut), [left]);
            assert_eq!(cut.len(), whole.len());
            let changed = cut.iter().zip(&whole).filter(|(a, b)| a != b);
            let changed: Vec<_> = changed.collect();
            assert_eq!(changed, [(&0x6a, &0x62), (&0x6a, &0x62)]);
        }
    }

    #[test]
    fn a_graph_that_can_be_loaded_as_it_is_is_left_alone() {
        assert_eq!(cut(&model(b"", &["matte"]), None), None);
        assert_eq!(cut(&model(b"", &["matte", "side"]), Some("other")), None);
        // Weights in another file: field 13 of the initializer.
        let external = model(&field(13, b"location"), &["matte", "side"]);
        assert_eq!(cut(&external, None), None);
    }

    #[test]
    fn what_is_no_graph_is_left_to_the_runtime() {
        assert_eq!(cut(b"", None), None);
        assert_eq!(cut(b"not a graph at all", None), None);
        let whole = model(&[0; 300], &["matte", "side"]);
        for length in 0..whole.len() {
            // Never a panic; a graph that is cut short in its opset still has its outputs.
            cut(&whole[..length], None);
        }
        assert_eq!(cut(&whole[..40], None), None);
    }

    #[test]
    fn isnet_has_eleven_outputs_too_many() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/models/isnet-medium.onnx");
        let cut = with_one_output(&file, Some("output")).unwrap().unwrap();
        assert_eq!(names(&cut), ["output"]);
        assert_eq!(names(&std::fs::read(&file).unwrap()).len(), 12);
    }
}
