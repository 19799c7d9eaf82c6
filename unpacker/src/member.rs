//! Members of an archive, whichever form of tar it has.

use std::io::{BufRead, Read, Write};

use crate::error::{Context, Error, Result, malformed};
use crate::pax::{MAX_EXTENDED_HEADER, Records};
use crate::tar_header::{self, BLOCK, Block, padding_of};

/// As the kernel has it: no file with a longer name could be opened.
const MAX_PATH: usize = 4096;

/// One member without its data.
#[derive(Debug, Clone)]
pub struct Member {
    /// The type flag of tar: `b'0'` is a file, `b'5'` a folder.
    pub kind: u8,
    pub block: Block,
    pub records: Records,
    /// Without slashes at its ends and `.` in it; the root is the empty path.
    pub path: Vec<u8>,
    /// What a link leads to; that of a hard link is clean like a path.
    pub link_path: Vec<u8>,
    pub size: u64,
}

impl Member {
    /// Bytes of its data in the archive.
    pub fn stored(&self) -> u64 {
        self.size + padding_of(self.size)
    }
}

/// Reads the next member's headers; nothing at the end of the archive.
pub fn read(source: &mut impl BufRead) -> Result<Option<Member>> {
    let mut records = Records::default();
    let mut is_first = true;
    loop {
        let Some(block) = next_block(source)? else {
            return if is_first {
                Ok(None)
            } else {
                malformed("it ends within a header")
            };
        };
        if block.iter().all(|byte| *byte == 0) {
            return if is_first {
                Ok(None)
            } else {
                malformed("it ends after an extended header")
            };
        }
        let header = tar_header::read(&block)?;
        match header.kind {
            b'x' => records.read(&body(source, header.size)?)?,
            // Comments, in practice: archives of git begin with one.
            b'g' => {
                body(source, header.size)?;
                continue;
            }
            b'L' => records.set(b"path", c_string(&body(source, header.size)?)),
            b'K' => records.set(b"linkpath", c_string(&body(source, header.size)?)),
            _ => return member_of(&block, &header, records).map(Some),
        }
        is_first = false;
    }
}

/// Passes on the next `size` bytes; how many there were, which is fewer at the end of the source only.
pub fn pass(source: &mut impl BufRead, size: u64, out: &mut impl Write) -> Result<u64> {
    let mut left = size;
    while left > 0 {
        let bytes = source.fill_buf().map_err(Error::Compression)?;
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        out.write_all(&bytes[..length]).during(WRITE)?;
        source.consume(length);
        left -= length as u64;
    }
    Ok(size - left)
}

/// The step that fails when mkfs.erofs has ended early.
pub const WRITE: &str = "write to mkfs.erofs";

/// Reads on to the end.
pub fn drain(source: &mut impl BufRead) -> Result<()> {
    pass(source, u64::MAX, &mut std::io::sink()).map(drop)
}

fn next_block(source: &mut impl BufRead) -> Result<Option<Block>> {
    let mut block = [0; BLOCK];
    let mut length = 0;
    while length < BLOCK {
        match source.read(&mut block[length..]).map_err(Error::Compression)? {
            0 if length == 0 => return Ok(None),
            0 => return malformed("it ends within a header"),
            read => length += read,
        }
    }
    Ok(Some(block))
}

fn body(source: &mut impl BufRead, size: u64) -> Result<Vec<u8>> {
    if size > MAX_EXTENDED_HEADER {
        return malformed("an extended header is too long");
    }
    let mut body = Vec::new();
    source
        .take(size + padding_of(size))
        .read_to_end(&mut body)
        .map_err(Error::Compression)?;
    if (body.len() as u64) < size {
        return malformed("it ends within an extended header");
    }
    body.truncate(usize::try_from(size).unwrap_or(usize::MAX));
    Ok(body)
}

fn c_string(body: &[u8]) -> &[u8] {
    body.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn member_of(block: &Block, header: &tar_header::Header, mut records: Records) -> Result<Member> {
    let path = clean(records.get(b"path").unwrap_or(&header.name))?;
    if header.kind == b'S' || records.has_key_with_prefix(b"GNU.sparse.") {
        return Err(Error::Sparse(String::from_utf8_lossy(&path).into_owned()));
    }
    let target = records.get(b"linkpath").unwrap_or(&header.link_name);
    let link_path = match header.kind {
        b'1' => clean(target)?,
        _ => target.to_vec(),
    };
    let said = match records.get(b"size") {
        Some(text) => size_of(text)?,
        None => header.size,
    };
    // Links, devices and folders have no data whatever the header says.
    let size = if matches!(header.kind, b'1'..=b'6') { 0 } else { said };
    let mut block = *block;
    if size != said || header.is_old_form {
        records.remove(b"size");
        block = tar_header::restated(&block, header.kind, size);
    }
    Ok(Member {
        kind: header.kind,
        block,
        records,
        path,
        link_path,
        size,
    })
}

fn size_of(text: &[u8]) -> Result<u64> {
    let size = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    match size {
        Some(size) if size < 1 << 53 => Ok(size),
        _ => malformed("bad size"),
    }
}

fn clean(name: &[u8]) -> Result<Vec<u8>> {
    let mut path = Vec::with_capacity(name.len());
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return malformed(format!("a name leads upwards: {}", String::from_utf8_lossy(name))),
            _ => {}
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    }
    if path.len() > MAX_PATH {
        return malformed("a name is too long");
    }
    Ok(path)
}
