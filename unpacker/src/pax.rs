use crate::error::{Result, malformed};
use crate::tar_header::{BLOCK, make};

/// More is no list of attributes but an attack on memory.
pub const MAX_EXTENDED_HEADER: u64 = 2048 * BLOCK as u64;

/// Bounds the time that looking for one takes.
const MAX_RECORDS: usize = 4096;

/// Records of an extended header in their order. Names and values are bytes: those of extended attributes are no text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records(Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let found = self.0.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_slice())
    }

    pub fn set(&mut self, key: &[u8], value: &[u8]) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, present)) => *present = value.to_vec(),
            None => self.0.push((key.to_vec(), value.to_vec())),
        }
    }

    pub fn remove(&mut self, key: &[u8]) {
        self.0.retain(|(name, _)| name != key);
    }

    pub fn has_key_with_prefix(&self, prefix: &[u8]) -> bool {
        self.0.iter().any(|(name, _)| name.starts_with(prefix))
    }

    /// Adds the records of a body: lines of "LENGTH key=value", the length being that of the line.
    pub fn read(&mut self, body: &[u8]) -> Result<()> {
        let mut rest = body;
        while !rest.is_empty() {
            let Some((line, after)) = first_line(rest) else {
                return malformed("bad extended header");
            };
            let Some(equals) = line.iter().position(|byte| *byte == b'=').filter(|at| *at > 0) else {
                return malformed("bad extended header");
            };
            self.set(&line[..equals], &line[equals + 1..]);
            if self.0.len() > MAX_RECORDS {
                return malformed("too many records in an extended header");
            }
            rest = after;
        }
        Ok(())
    }

    /// Appends the whole extended header as it stands before a member; nothing when there are no records.
    pub fn write(&self, out: &mut Vec<u8>) {
        if self.0.is_empty() {
            return;
        }
        let mut body = Vec::new();
        for (key, value) in &self.0 {
            let rest = key.len() + value.len() + b" =\n".len();
            let mut length = rest + 1;
            while rest + length.to_string().len() > length {
                length += 1;
            }
            body.extend_from_slice(length.to_string().as_bytes());
            body.push(b' ');
            body.extend_from_slice(key);
            body.push(b'=');
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        out.extend_from_slice(&make(b'x', b"PaxHeader", body.len() as u64));
        body.resize(body.len().next_multiple_of(BLOCK), 0);
        out.append(&mut body);
    }
}

/// What stands between the length of the first record and its line feed, and what comes after it.
fn first_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let line = bytes.get(space + 1..length)?;
    Some((line.strip_suffix(b"\n")?, &bytes[length..]))
}

#[cfg(test)]
mod tests {
    use super::{MAX_RECORDS, Records};

    #[test]
    fn what_is_written_is_read_again_with_lengths_that_count_themselves() {
        for length in [1, 90, 91, 92, 93, 94, 95, 990, 991, 992, 993, 994, 9_990] {
            let mut records = Records::default();
            records.set(b"path", &vec![b'x'; length]);
            records.set(b"SCHILY.xattr.user.x", b"a\n=b");
            let mut bytes = Vec::new();
            records.write(&mut bytes);
            let body = &bytes[512..];
            let end = body.iter().rposition(|byte| *byte != 0).unwrap();
            let mut read = Records::default();
            read.read(&body[..=end]).unwrap();
            assert_eq!(read, records);
        }
    }

    #[test]
    fn records_that_are_none_and_too_many_are_refused() {
        for body in ["x", "5 a=b", "6 a=b", "99 a=b\n", "6 =bb\n", "6 abb\n", "-6 a=b\n"] {
            assert!(Records::default().read(body.as_bytes()).is_err(), "{body:?}");
        }
        let many: Vec<String> = (0..=MAX_RECORDS).map(|at| format!("11 k{at:04}=v\n")).collect();
        let read = |count: usize| Records::default().read(many[..count].concat().as_bytes());
        assert!(read(MAX_RECORDS).is_ok());
        assert!(read(MAX_RECORDS + 1).is_err());
    }
}
