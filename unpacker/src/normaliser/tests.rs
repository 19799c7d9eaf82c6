use std::io::{BufRead, BufReader, Read};

use super::{Normaliser, Reopen};
use crate::error::{Error, Result};
use crate::member::{self, Member};
use crate::pax::Records;
use crate::tar_header::{make, restated};

/// A member as the tests write and read them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    kind: u8,
    /// A folder's ends with a slash.
    name: String,
    target: String,
    attribute: Option<Vec<u8>>,
    data: Vec<u8>,
}

fn entry(kind: u8, name: &str) -> Entry {
    Entry {
        kind,
        name: name.into(),
        target: String::new(),
        attribute: None,
        data: Vec::new(),
    }
}

fn folder(name: &str) -> Entry {
    entry(b'5', name)
}

fn file(name: &str, data: &[u8]) -> Entry {
    let data = data.to_vec();
    Entry {
        data,
        ..entry(b'0', name)
    }
}

fn link(kind: u8, name: &str, target: &str) -> Entry {
    let target = target.into();
    Entry {
        target,
        ..entry(kind, name)
    }
}

const ATTRIBUTE: &[u8] = b"SCHILY.xattr.user.x";

fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let mut records = Records::default();
        records.set(b"path", entry.name.as_bytes());
        if !entry.target.is_empty() {
            records.set(b"linkpath", entry.target.as_bytes());
        }
        if let Some(value) = &entry.attribute {
            records.set(ATTRIBUTE, value);
        }
        records.write(&mut bytes);
        push_member(
            &mut bytes,
            &make(entry.kind, b"member", entry.data.len() as u64),
            &entry.data,
        );
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn push_member(bytes: &mut Vec<u8>, header: &[u8; 512], data: &[u8]) {
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
}

fn entries_of(bytes: &[u8]) -> Vec<Entry> {
    let mut source = bytes;
    let mut entries = Vec::new();
    while let Some(member) = member::read(&mut source).unwrap() {
        let mut data = vec![0; usize::try_from(member.stored()).unwrap()];
        source.read_exact(&mut data).unwrap();
        data.truncate(usize::try_from(member.size).unwrap());
        entries.push(entry_of(&member, data));
    }
    assert!(source.iter().all(|byte| *byte == 0), "something after the end");
    entries
}

fn entry_of(member: &Member, data: Vec<u8>) -> Entry {
    let name = String::from_utf8(member.path.clone()).unwrap();
    let slash = if member.kind == b'5' { "/" } else { "" };
    let target = match member.kind {
        b'1' | b'2' => String::from_utf8(member.link_path.clone()).unwrap(),
        _ => String::new(),
    };
    Entry {
        kind: member.kind,
        name: name + slash,
        target,
        attribute: member.records.get(ATTRIBUTE).map(<[u8]>::to_vec),
        data,
    }
}

struct Archives(Vec<Vec<u8>>);

impl Reopen for Archives {
    fn reopen(&self, layer: usize) -> Result<Box<dyn BufRead>> {
        Ok(Box::new(std::io::Cursor::new(self.0[layer].clone())))
    }
}

/// Reads in pieces of these sizes, over and over.
struct Chunked<'a> {
    bytes: &'a [u8],
    sizes: Vec<usize>,
    reads: usize,
}

impl Read for Chunked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let size = self.sizes[self.reads % self.sizes.len()].min(buffer.len());
        self.reads += 1;
        self.bytes.read(&mut buffer[..size])
    }
}

fn normalise_in(archives: &[Vec<u8>], sizes: &[usize], limit: u64) -> Result<Vec<Vec<u8>>> {
    let mut normaliser = Normaliser::new(limit, Archives(archives.to_vec()));
    let mut results = Vec::new();
    for bytes in archives {
        let sizes = sizes.to_vec();
        let mut out = Vec::new();
        normaliser.layer(&mut BufReader::new(Chunked { bytes, sizes, reads: 0 }), &mut out)?;
        assert_eq!(out.len() % 512, 0);
        results.push(out);
    }
    Ok(results)
}

fn normalise(layers: &[&[Entry]]) -> Result<Vec<Vec<Entry>>> {
    let archives: Vec<Vec<u8>> = layers.iter().map(|layer| archive(layer)).collect();
    let results = normalise_in(&archives, &[65_536], 1 << 30)?;
    Ok(results.iter().map(|bytes| entries_of(bytes)).collect())
}

fn names(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.name.as_str()).collect()
}

fn refusal(layers: &[&[Entry]]) -> String {
    normalise(layers).unwrap_err().to_string()
}

#[test]
fn folders_that_are_not_described_come_from_the_layers_below_then_from_nowhere() {
    let described = Entry {
        attribute: Some(b"y".to_vec()),
        ..folder("a/")
    };
    let layers = normalise(&[std::slice::from_ref(&described), &[file("a/b/c", b"")]]).unwrap();
    assert_eq!(names(&layers[0]), ["/", "a/"]);
    assert_eq!(names(&layers[1]), ["/", "a/", "a/b/", "a/b/c"]);
    assert_eq!(layers[1][1], described);
    assert_eq!(layers[1][2].attribute, None);
}

#[test]
fn an_image_without_anything_has_a_root() {
    assert_eq!(names(&normalise(&[&[]]).unwrap()[0]), ["/"]);
}

#[test]
fn symlinks_of_lower_layers_are_followed_without_end_they_are_not() {
    let lower = [
        folder("usr/lib/"),
        link(b'2', "lib", "usr/lib"),
        link(b'2', "usr/up", "../../../lib"),
        link(b'2', "abs", "/usr/up"),
        link(b'2', "loop", "loop/x"),
    ];
    let layers = normalise(&[&lower, &[file("abs/so", b"")]]).unwrap();
    assert_eq!(names(&layers[1]).last(), Some(&"usr/lib/so"));
    assert!(refusal(&[&lower, &[file("loop/y", b"")]]).contains("too many symlinks"));
}

#[test]
fn whiteouts_hide_lower_layers_only() {
    let lower = [folder("a/"), file("a/old", b"old"), file("b", b"b")];
    let upper = [
        folder("a/"),
        file("a/new", b"new"),
        file(".wh.a", b""),
        file(".wh.b", b""),
    ];
    let layers = normalise(&[&lower, &upper]).unwrap();
    assert_eq!(names(&layers[1]), ["/", "a/", "a/new", "a/.wh..wh..opq", ".wh.b"]);
    let fresh = [
        file(".wh.a", b""),
        folder("a/"),
        file("b", b"new b"),
        file(".wh.b", b""),
    ];
    let layers = normalise(&[&lower, &fresh]).unwrap();
    assert_eq!(names(&layers[1]), ["/", ".wh.a", "a/", "a/.wh..wh..opq", "b"]);
}

#[test]
fn a_hard_link_brings_a_file_of_a_lower_layer_along() {
    let bottom = [folder("d/"), file("d/one", b"content")];
    let middle = [link(b'1', "two", "d/one")];
    let top = [link(b'1', "three", "two"), link(b'1', "four", "three")];
    let layers = normalise(&[&bottom, &middle, &top]).unwrap();
    assert_eq!(names(&layers[1]), ["/", "d/", "d/one", "two"]);
    assert_eq!(names(&layers[2]), ["/", "two", "three", "four"]);
    assert_eq!(layers[2][1].data, b"content");
}

#[test]
fn other_forms_of_archive_are_understood() {
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(120));
    let mut gnu = Vec::new();
    let name = format!("{long}\0");
    let header = restated(&make(b'0', b"././@LongLink", 0), b'L', name.len() as u64);
    push_member(&mut gnu, &header, name.as_bytes());
    push_member(&mut gnu, &make(b'0', b"short", 1), b"x");

    let mut global = Vec::new();
    push_member(&mut global, &make(b'g', b"global", 20), b"20 comment=something");
    // A file as tars before POSIX mark one, and a folder.
    push_member(&mut global, &restated(&make(b'0', b"a", 1), 0, 1), b"x");
    push_member(&mut global, &make(b'0', b"old/", 0), b"");

    let results = normalise_in(&[gnu, global], &[65_536], 1 << 30).unwrap();
    assert_eq!(names(&entries_of(&results[0])).last(), Some(&long.as_str()));
    let entries = entries_of(&results[1]);
    assert_eq!(names(&entries), ["/", "a", "old/"]);
    // mkfs.erofs knows '0' only.
    let at = results[1].len() - 1024 - 512 - 1024 + 156;
    assert_eq!(results[1][at], b'0');
}

#[test]
fn what_makes_no_sense_is_refused() {
    assert!(refusal(&[&[file("../a", b"")]]).contains("upwards"));
    assert!(refusal(&[&[link(b'1', "a", "../../etc/shadow")]]).contains("upwards"));
    assert!(refusal(&[&[link(b'1', "a", "b")]]).contains("which is not there"));
    assert!(refusal(&[&[file(".", b"")]]).contains("root"));
    assert!(refusal(&[&[file("a/.wh.b", b"x")]]).contains("whiteout"));
    assert!(refusal(&[&[file(&"n/".repeat(3_000), b"")]]).contains("too long"));
    assert!(refusal(&[&[entry(b'S', "sparse")]]).contains("sparse"));
    let noise = normalise_in(&[vec![1; 700]], &[512], 1 << 30);
    assert!(noise.unwrap_err().to_string().contains("checksum"));
    let big = normalise_in(&[archive(&[file("a", &[0; 600])])], &[512], 500);
    assert!(matches!(big, Err(Error::TooBig(500))));
}

fn content() -> Vec<u8> {
    let tagged = Entry {
        attribute: Some(b"\xff=\n".to_vec()),
        ..file(&format!("a/{}", "n".repeat(200)), b"y")
    };
    archive(&[
        folder("a/"),
        file("a/\u{e4}", &[b'x'; 1_000]),
        tagged,
        link(b'2', "l", "a"),
        link(b'1', "h", "a/\u{e4}"),
    ])
}

/// Numbers that look like chance and are the same each time.
fn numbers(seed: u64) -> impl Iterator<Item = usize> {
    let mut state = seed.wrapping_mul(2) | 1;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize
    })
}

#[test]
fn the_size_of_the_pieces_does_not_matter() {
    let whole = normalise_in(&[content()], &[65_536], 1 << 30).unwrap();
    assert_eq!(entries_of(&whole[0]).len(), 6);
    for seed in 0..50 {
        let sizes: Vec<usize> = numbers(seed).take(5).map(|number| number % 2_000 + 1).collect();
        assert_eq!(normalise_in(&[content()], &sizes, 1 << 30).unwrap(), whole);
    }
}

#[test]
fn a_cut_or_changed_archive_is_an_error_of_ours_or_an_archive() {
    let bytes = content();
    let mut refused = 0;
    for seed in 0..2_000 {
        let mut numbers = numbers(seed);
        let at = numbers.next().unwrap() % bytes.len();
        let mut broken = bytes.clone();
        if seed % 2 == 0 {
            broken.truncate(at);
        } else {
            broken[at] = numbers.next().unwrap().to_le_bytes()[0];
        }
        match normalise_in(&[broken], &[65_536], 1 << 30) {
            Ok(results) => drop(entries_of(&results[0])),
            Err(Error::Malformed(_) | Error::Sparse(_) | Error::TooBig(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 500, "{refused}");
}
