//! The folders and symbolic links of the layers read so far.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use crate::error::{Result, malformed};

const MAX_SYMLINKS: u32 = 40;

/// Bounds the memory a hostile image can make us use.
const MAX_NODES: usize = 2_000_000;

/// A layer, counted from the bottom; -1 is what no layer has described.
pub type LayerNumber = i32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Folder,
    Symlink,
}

/// What is known of a path; files are not remembered.
#[derive(Debug)]
enum Node {
    Folder(Folder),
    Symlink { target: Vec<u8>, layer: LayerNumber },
}

#[derive(Debug)]
struct Folder {
    /// The bytes that make it in an archive.
    member: Rc<[u8]>,
    /// The last layer that named the folder or something in it.
    layer: LayerNumber,
    children: HashMap<Vec<u8>, Node>,
}

impl Node {
    fn layer(&self) -> LayerNumber {
        match self {
            Self::Folder(folder) => folder.layer,
            Self::Symlink { layer, .. } => *layer,
        }
    }
}

#[derive(Debug)]
pub struct Tree {
    root: Folder,
    /// Makes the archive member of a folder that no layer describes.
    make_folder: fn(&[u8]) -> Vec<u8>,
    nodes: usize,
}

impl Tree {
    pub fn new(make_folder: fn(&[u8]) -> Vec<u8>) -> Self {
        let root = Folder {
            member: make_folder(b"").into(),
            layer: -1,
            children: HashMap::new(),
        };
        Self {
            root,
            make_folder,
            nodes: 0,
        }
    }

    /// Where something named `path` ends up: symlinks among its parents are followed, as they are when
    /// a layer is unpacked over those below it. The last part is left alone.
    pub fn resolve(&self, path: &[u8]) -> Result<Vec<u8>> {
        let mut pending: VecDeque<Vec<u8>> = parts_of(path).map(<[u8]>::to_vec).collect();
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut followed = 0;
        while pending.len() > 1 {
            let part = pending.pop_front().unwrap_or_default();
            match part.as_slice() {
                b".." => {
                    done.pop();
                    continue;
                }
                b"." | b"" => continue,
                _ => done.push(part),
            }
            let Some(Node::Symlink { target, .. }) = self.node(done.iter().map(Vec::as_slice)) else {
                continue;
            };
            followed += 1;
            if followed > MAX_SYMLINKS {
                let path = String::from_utf8_lossy(path);
                return malformed(format!("too many symlinks on the way to {path}"));
            }
            done.pop();
            if target.starts_with(b"/") {
                done.clear();
            }
            for part in parts_of(target).rev() {
                pending.push_front(part.to_vec());
            }
        }
        done.extend(pending);
        Ok(done.join(&b'/'))
    }

    /// The members of those folders above `path` that this layer has not named yet, from the top.
    pub fn missing_parents(&mut self, path: &[u8], layer: LayerNumber) -> Result<Vec<Rc<[u8]>>> {
        let mut missing = Vec::new();
        let mut visit = |folder: &mut Folder| {
            if folder.layer < layer {
                missing.push(Rc::clone(&folder.member));
            }
            folder.layer = layer;
        };
        visit(&mut self.root);
        let mut folder = &mut self.root;
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let name = &path[folder_length(path, at)..at];
            if !matches!(folder.children.get(name), Some(Node::Folder(_))) {
                let new = Folder {
                    member: (self.make_folder)(&path[..at]).into(),
                    layer: -1,
                    children: HashMap::new(),
                };
                count(&mut self.nodes)?;
                folder.children.insert(name.to_vec(), Node::Folder(new));
            }
            let Some(Node::Folder(next)) = folder.children.get_mut(name) else {
                return malformed("a folder got lost");
            };
            visit(next);
            folder = next;
        }
        Ok(missing)
    }

    /// The layer describes this folder, perhaps anew. Its parents must be there.
    pub fn put_folder(&mut self, path: &[u8], layer: LayerNumber, member: &[u8]) -> Result<()> {
        if let Some(existing) = self.folder_mut(path) {
            existing.member = member.into();
            existing.layer = layer;
            return Ok(());
        }
        let folder = Folder {
            member: member.into(),
            layer,
            children: HashMap::new(),
        };
        self.add(path, Node::Folder(folder))
    }

    pub fn put_symlink(&mut self, path: &[u8], layer: LayerNumber, target: &[u8]) -> Result<()> {
        let target = target.to_vec();
        self.add(path, Node::Symlink { target, layer })
    }

    /// Something that is neither folder nor symlink takes the place.
    pub fn put_other(&mut self, path: &[u8]) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        parent.children.remove(name);
        Ok(())
    }

    /// What this layer has at the path.
    pub fn kind_of(&self, path: &[u8], layer: LayerNumber) -> Option<Kind> {
        match self.node(parts_of(path))? {
            Node::Folder(folder) => (folder.layer == layer).then_some(Kind::Folder),
            Node::Symlink { layer: of, .. } => (*of == layer).then_some(Kind::Symlink),
        }
    }

    /// What the layers below had at the path is gone.
    pub fn white_out(&mut self, path: &[u8], layer: LayerNumber) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        if parent.children.get(name).is_some_and(|node| node.layer() < layer) {
            parent.children.remove(name);
        }
        Ok(())
    }

    /// What the layers below had in the folder is gone. Whatever this layer named has its parents named too.
    pub fn make_opaque(&mut self, path: &[u8], layer: LayerNumber) {
        if let Some(folder) = self.folder_mut(path) {
            drop_older(folder, layer);
        }
    }

    fn node<'a>(&self, parts: impl Iterator<Item = &'a [u8]>) -> Option<&Node> {
        let mut children = Some(&self.root.children);
        let mut found = None;
        for part in parts {
            found = children?.get(part);
            children = match found? {
                Node::Folder(folder) => Some(&folder.children),
                Node::Symlink { .. } => None,
            };
        }
        found
    }

    fn folder_mut(&mut self, path: &[u8]) -> Option<&mut Folder> {
        let mut folder = &mut self.root;
        if path.is_empty() {
            return Some(folder);
        }
        for part in parts_of(path) {
            let Some(Node::Folder(next)) = folder.children.get_mut(part) else {
                return None;
            };
            folder = next;
        }
        Some(folder)
    }

    fn parent<'a>(&mut self, path: &'a [u8]) -> Result<(&mut Folder, &'a [u8])> {
        let start = folder_length(path, path.len());
        match self.folder_mut(&path[..start.saturating_sub(1)]) {
            Some(folder) => Ok((folder, &path[start..])),
            None => malformed(format!(
                "{} lies in something that is not a folder",
                String::from_utf8_lossy(path)
            )),
        }
    }

    fn add(&mut self, path: &[u8], node: Node) -> Result<()> {
        count(&mut self.nodes)?;
        let (parent, name) = self.parent(path)?;
        parent.children.insert(name.to_vec(), node);
        Ok(())
    }
}

fn parts_of(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
}

/// Where the last part of `path[..end]` begins.
fn folder_length(path: &[u8], end: usize) -> usize {
    path[..end]
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |at| at + 1)
}

fn count(nodes: &mut usize) -> Result<()> {
    *nodes += 1;
    if *nodes > MAX_NODES {
        return malformed("too many folders");
    }
    Ok(())
}

fn drop_older(folder: &mut Folder, layer: LayerNumber) {
    folder.children.retain(|_, child| {
        if child.layer() < layer {
            return false;
        }
        if let Node::Folder(child) = child {
            drop_older(child, layer);
        }
        true
    });
}
