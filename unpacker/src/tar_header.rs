//! <https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html>, section "ustar Interchange Format".

use std::ops::Range;

use crate::error::{Result, malformed};

pub const BLOCK: usize = 512;
pub type Block = [u8; BLOCK];

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: usize = 156;
const LINK_NAME: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..263;
const MAGIC_AND_VERSION: Range<usize> = 257..265;
const PREFIX: Range<usize> = 345..500;

/// Greater sizes are none that JavaScript or a disk could hold.
const MAX_SIZE: u64 = 1 << 53;

/// The fields that matter for finding one's way through an archive.
#[derive(Debug, Clone)]
pub struct Header {
    /// A file is always `b'0'`, and a folder `b'5'`.
    pub kind: u8,
    /// The type is not the one that is written there.
    pub is_old_form: bool,
    pub name: Vec<u8>,
    pub link_name: Vec<u8>,
    pub size: u64,
}

pub fn read(block: &Block) -> Result<Header> {
    if octal_of(&block[CHECKSUM]) != Some(checksum_of(block)) {
        return malformed("bad header checksum");
    }
    let mut name = text_of(&block[NAME]).to_vec();
    if text_of(&block[MAGIC]).trim_ascii() == b"ustar" {
        let prefix = text_of(&block[PREFIX]);
        if !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
    }
    let written = block[TYPE];
    let is_file = written == 0 || written == b'0';
    // Before POSIX a folder was a file with a slash at its end.
    let kind = match is_file {
        true if text_of(&block[NAME]).ends_with(b"/") => b'5',
        true => b'0',
        false => written,
    };
    Ok(Header {
        kind,
        is_old_form: kind != written,
        name,
        link_name: text_of(&block[LINK_NAME]).to_vec(),
        size: number_of(&block[SIZE])?,
    })
}

/// A copy of the header that says plainly what was meant.
pub fn restated(block: &Block, kind: u8, size: u64) -> Block {
    let mut copy = *block;
    copy[TYPE] = kind;
    put_octal(&mut copy[SIZE], size);
    seal(&mut copy);
    copy
}

/// Header of a file (type 0), folder (5) or extended header (x), owned by root, mode 0755.
pub fn make(kind: u8, name: &[u8], size: u64) -> Block {
    let mut block = [0; BLOCK];
    let length = name.len().min(NAME.len());
    block[..length].copy_from_slice(&name[..length]);
    put_octal(&mut block[MODE], 0o755);
    put_octal(&mut block[UID], 0);
    put_octal(&mut block[GID], 0);
    put_octal(&mut block[SIZE], size);
    put_octal(&mut block[MTIME], 0);
    block[TYPE] = kind;
    block[MAGIC_AND_VERSION].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block
}

/// Bytes up to the next block.
pub fn padding_of(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64) - size
}

fn seal(block: &mut Block) {
    let sum = checksum_of(block);
    put_octal(&mut block[CHECKSUM.start..CHECKSUM.end - 1], sum);
    block[CHECKSUM.end - 1] = b' ';
}

/// The checksum is taken with its own field full of spaces.
fn checksum_of(block: &Block) -> u64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    sum(block) - sum(&block[CHECKSUM]) + u64::from(b' ') * CHECKSUM.len() as u64
}

/// Digits up to a zero byte; the value fits.
fn put_octal(field: &mut [u8], value: u64) {
    let Some((last, digits)) = field.split_last_mut() else {
        return;
    };
    *last = 0;
    let mut rest = value;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest & 7) as u8;
        rest >>= 3;
    }
}

fn text_of(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The digits at the beginning, after spaces; none, and too many, are no number.
fn octal_of(field: &[u8]) -> Option<u64> {
    let text = text_of(field).trim_ascii_start();
    let digits = text.iter().take_while(|byte| matches!(byte, b'0'..=b'7'));
    let value = digits.clone().try_fold(0_u64, |sum, digit| {
        sum.checked_mul(8)?.checked_add(u64::from(digit - b'0'))
    });
    value.filter(|_| digits.count() > 0)
}

/// Octal digits, or for what these cannot hold a big-endian number marked by the top bit.
fn number_of(field: &[u8]) -> Result<u64> {
    let value = match field {
        [first, rest @ ..] if first & 0x80 != 0 => rest.iter().try_fold(u64::from(first & 0x7f), |sum, byte| {
            sum.checked_mul(256)?.checked_add(u64::from(*byte))
        }),
        _ if text_of(field).trim_ascii().is_empty() => Some(0),
        _ => octal_of(field),
    };
    match value {
        Some(size) if size < MAX_SIZE => Ok(size),
        _ => malformed("bad size"),
    }
}
