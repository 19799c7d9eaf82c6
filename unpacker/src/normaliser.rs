use std::collections::HashSet;
use std::io::{BufRead, Write};

use crate::error::{Context, Error, Result, malformed};
use crate::member::{self, Member, WRITE};
use crate::pax::Records;
use crate::tar_header::{self, BLOCK};
use crate::tree::{Kind, LayerNumber, Tree};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Of one layer; bounds the memory a hostile image can make us use.
const MAX_MEMBERS: usize = 5_000_000;

/// Names of one file that lead to each other.
const MAX_LINK_HOPS: u32 = 16;

const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Opens a layer that was read before once more.
pub trait Reopen {
    fn reopen(&self, layer: usize) -> Result<Box<dyn BufRead>>;
}

/// Rewrites the layers of one image, in order, so that each archive is complete in itself:
/// - The root folder is described, though layers need not have one.
/// - Folders that a layer uses but does not describe are described as the layers below had them.
///   mkfs.erofs would give them attributes of its own.
/// - What a layer puts below a symlink of a lower layer is put where the symlink leads to.
/// - A whiteout and a new thing of the same name get along in whichever order they come.
/// - The archive ends properly. mkfs.erofs may spin on one that is cut off.
///
/// The rest is passed on as it is.
#[derive(Debug)]
pub struct Normaliser<R> {
    tree: Tree,
    reopen: R,
    max_bytes: u64,
    bytes: u64,
    layer: LayerNumber,
    /// What this layer has, by path, and what it hides.
    named: HashSet<Vec<u8>>,
    whited_out: HashSet<Vec<u8>>,
}

impl<R: Reopen> Normaliser<R> {
    /// Fails when the files of all layers together are bigger than `max_bytes`.
    pub fn new(max_bytes: u64, reopen: R) -> Self {
        Self {
            tree: Tree::new(folder_member),
            reopen,
            max_bytes,
            bytes: 0,
            layer: -1,
            named: HashSet::new(),
            whited_out: HashSet::new(),
        }
    }

    /// Reads the next layer to its end and writes what mkfs.erofs is to make of it.
    pub fn layer(&mut self, source: &mut impl BufRead, out: &mut impl Write) -> Result<()> {
        self.layer += 1;
        self.named.clear();
        self.whited_out.clear();
        for root in self.tree.missing_parents(b"", self.layer)? {
            out.write_all(&root).during(WRITE)?;
        }
        while let Some(member) = member::read(source)? {
            if member.kind == b'1' {
                self.fetch_link_target(&member, out)?;
            }
            self.describe(&member, out)?;
            self.pass_content(&member, source, out)?;
        }
        member::drain(source)?;
        out.write_all(&END).during(WRITE)
    }

    fn pass_content(&mut self, member: &Member, source: &mut impl BufRead, out: &mut impl Write) -> Result<()> {
        self.bytes = self.bytes.saturating_add(member.size);
        if self.bytes > self.max_bytes {
            return Err(Error::TooBig(self.max_bytes));
        }
        let passed = member::pass(source, member.stored(), out)?;
        if passed < member.size {
            return malformed(format!("it ends within {}", text(&member.path)));
        }
        // Some writers leave out the padding of the last file.
        let missing = usize::try_from(member.stored() - passed).unwrap_or(BLOCK);
        out.write_all(&END[..missing]).during(WRITE)
    }

    /// The member's own header, after those of the folders it needs.
    fn describe(&mut self, member: &Member, out: &mut impl Write) -> Result<()> {
        let layer = self.layer;
        let path = self.tree.resolve(&member.path)?;
        for parent in self.tree.missing_parents(&path, layer)? {
            out.write_all(&parent).during(WRITE)?;
        }
        let (folder, name) = split(&path);
        if name == OPAQUE {
            self.tree.make_opaque(folder, layer);
        } else if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            let hidden = join(folder, hidden);
            return self.white_out(member, &path, hidden, out);
        }
        let link_path = match member.kind {
            b'1' => &self.tree.resolve(&member.link_path)?,
            _ => &member.link_path,
        };
        let bytes = encode(member, &path, link_path);
        match member.kind {
            b'5' => self.tree.put_folder(&path, layer, &bytes)?,
            _ if path.is_empty() => return malformed("the root is not a folder"),
            b'2' => self.tree.put_symlink(&path, layer, &member.link_path)?,
            _ => self.tree.put_other(&path)?,
        }
        out.write_all(&bytes).during(WRITE)?;
        if member.kind == b'5' && self.whited_out.remove(&path) {
            out.write_all(&opaque_mark(&path)).during(WRITE)?;
        }
        self.named.insert(path);
        if self.named.len() > MAX_MEMBERS {
            return malformed("too many files");
        }
        Ok(())
    }

    /// A whiteout hides what the layers below have; mkfs.erofs would apply it to this layer too.
    fn white_out(&mut self, member: &Member, path: &[u8], hidden: Vec<u8>, out: &mut impl Write) -> Result<()> {
        if member.size > 0 {
            return malformed(format!("a whiteout has content: {}", text(path)));
        }
        if self.tree.kind_of(&hidden, self.layer) == Some(Kind::Folder) {
            self.tree.make_opaque(&hidden, self.layer);
            out.write_all(&opaque_mark(&hidden)).during(WRITE)?;
        } else if !self.named.contains(&hidden) {
            self.tree.white_out(&hidden, self.layer)?;
            self.whited_out.insert(hidden);
            if self.whited_out.len() > MAX_MEMBERS {
                return malformed("too many whiteouts");
            }
            out.write_all(&encode(member, path, &member.link_path)).during(WRITE)?;
        }
        Ok(())
    }

    /// A link to a file that only lower layers have: the file becomes part of this layer.
    fn fetch_link_target(&mut self, link: &Member, out: &mut impl Write) -> Result<()> {
        let path = self.tree.resolve(&link.link_path)?;
        if self.named.contains(&path) {
            return Ok(());
        }
        let mut wanted = path.clone();
        let mut hops = 0;
        for layer in (0..usize::try_from(self.layer).unwrap_or_default()).rev() {
            // A name that is a link there is looked for again under its first name.
            let mut again = true;
            while again {
                again = false;
                let mut source = self.reopen.reopen(layer)?;
                while let Some(mut member) = member::read(&mut source)? {
                    if member.path != wanted {
                        member::pass(&mut source, member.stored(), &mut std::io::sink())?;
                    } else if member.kind == b'1' && member.link_path != wanted {
                        wanted = member.link_path;
                        hops += 1;
                        again = hops < MAX_LINK_HOPS;
                        break;
                    } else {
                        member.records.set(b"path", &path);
                        member.path = path;
                        self.describe(&member, out)?;
                        return self.pass_content(&member, &mut source, out);
                    }
                }
            }
        }
        malformed(format!(
            "{} is a hard link to {}, which is not there",
            text(&link.path),
            text(&path)
        ))
    }
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// The folder of a path, and its last part.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() {
        name.to_vec()
    } else {
        [folder, b"/", name].concat()
    }
}

/// Extended headers and header of a member; as they came when no name changed.
fn encode(member: &Member, path: &[u8], link_path: &[u8]) -> Vec<u8> {
    let mut records = member.records.clone();
    if path != member.path {
        let slash: &[u8] = if member.kind == b'5' { b"/" } else { b"" };
        records.set(b"path", &[path, slash].concat());
    }
    if link_path != member.link_path {
        records.set(b"linkpath", link_path);
    }
    let mut bytes = Vec::with_capacity(BLOCK);
    records.write(&mut bytes);
    bytes.extend_from_slice(&member.block);
    bytes
}

/// Hides what the layers below have in the folder.
fn opaque_mark(folder: &[u8]) -> Vec<u8> {
    empty_member(b'0', &join(folder, OPAQUE))
}

/// A folder that nobody described: owned by root, mode 0755.
fn folder_member(path: &[u8]) -> Vec<u8> {
    match path {
        b"" => empty_member(b'5', b"./"),
        _ => empty_member(b'5', &[path, b"/"].concat()),
    }
}

fn empty_member(kind: u8, name: &[u8]) -> Vec<u8> {
    let mut records = Records::default();
    records.set(b"path", name);
    let mut bytes = Vec::new();
    records.write(&mut bytes);
    bytes.extend_from_slice(&tar_header::make(kind, b"member", 0));
    bytes
}

#[cfg(test)]
mod tests;
