//! The reset line: how both ends agree where one session stops and the next begins.
//!
//! The host writes `KRST` and a fresh nonce on the reset port, and the nonce alone on the data port.
//! What is in the data port before the nonce belongs to sessions that nobody serves any more.
//! See docs/guest-agent.md.

const MAGIC: &[u8; 4] = b"KRST";
const NONCE_BYTES: usize = 16;
const FRAME_BYTES: usize = MAGIC.len() + NONCE_BYTES;

pub type Nonce = [u8; NONCE_BYTES];

/// Finds frames on the reset port.
///
/// It looks at every position instead of counting from the first byte: a host that dies in the
/// middle of a frame leaves a part of one behind, and close and reopen can merge, so that nothing
/// else marks where the next frame starts. A frame found in the middle of another names a nonce
/// that never comes, and the true one supersedes it a few bytes later.
#[derive(Debug, Default)]
pub struct Frames {
    window: Vec<u8>,
}

impl Frames {
    /// The nonce of the newest frame that is complete with these bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Option<Nonce> {
        self.window.extend_from_slice(bytes);
        let newest = self
            .window
            .windows(FRAME_BYTES)
            .rev()
            .find_map(|it| it.strip_prefix(MAGIC)?.try_into().ok());
        keep_last(&mut self.window, FRAME_BYTES - 1);
        newest
    }
}

/// Finds the nonce on the data port.
#[derive(Debug)]
pub struct Search {
    nonce: Nonce,
    window: Vec<u8>,
}

impl Search {
    /// `tail` is the end of what was already read from the data port: the nonce may have overtaken
    /// the frame that announces it.
    pub fn new(nonce: Nonce, tail: &Tail) -> Self {
        Self {
            nonce,
            window: tail.0.clone(),
        }
    }

    /// Once the nonce is there: the bytes that follow it.
    pub fn push(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.window.extend_from_slice(bytes);
        let at = self.window.windows(NONCE_BYTES).rposition(|it| it == self.nonce);
        if let Some(at) = at {
            return Some(self.window.split_off(at + NONCE_BYTES));
        }
        keep_last(&mut self.window, NONCE_BYTES - 1);
        None
    }
}

/// The last bytes that were read from the data port, as many as a nonce has.
#[derive(Debug, Default)]
pub struct Tail(Vec<u8>);

impl Tail {
    pub fn push(&mut self, bytes: &[u8]) {
        self.0
            .extend_from_slice(&bytes[bytes.len().saturating_sub(NONCE_BYTES)..]);
        keep_last(&mut self.0, NONCE_BYTES);
    }
}

fn keep_last(bytes: &mut Vec<u8>, count: usize) {
    bytes.drain(..bytes.len().saturating_sub(count));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(nonce: Nonce) -> Vec<u8> {
        [MAGIC.as_slice(), &nonce].concat()
    }

    #[test]
    fn finds_a_frame_byte_by_byte() {
        let mut frames = Frames::default();
        let found: Vec<_> = frame([7; 16]).iter().map(|byte| frames.push(&[*byte])).collect();
        assert_eq!(found.iter().flatten().collect::<Vec<_>>(), [&[7; 16]]);
        assert_eq!(found.last(), Some(&Some([7; 16])));
    }

    #[test]
    fn takes_the_newest_of_several_frames() {
        let bytes = [frame([1; 16]), frame([2; 16]), frame([3; 16])].concat();
        assert_eq!(Frames::default().push(&bytes), Some([3; 16]));
    }

    #[test]
    fn finds_the_frame_after_a_torn_one() {
        for torn in 0..FRAME_BYTES {
            let bytes = [&frame([1; 16])[..torn], &frame([2; 16])].concat();
            for split in 0..bytes.len() {
                let mut frames = Frames::default();
                let first = frames.push(&bytes[..split]);
                let second = frames.push(&bytes[split..]);
                assert_eq!(second.or(first), Some([2; 16]), "torn at {torn}, split at {split}");
            }
        }
    }

    #[test]
    fn reports_a_frame_once() {
        let mut frames = Frames::default();
        assert!(frames.push(&frame([1; 16])).is_some());
        assert_eq!(frames.push(b"abc"), None);
    }

    #[test]
    fn finds_the_nonce_however_it_is_cut() {
        let bytes = [b"left over".as_slice(), &[9; 16], b"PRI"].concat();
        for split in 0..bytes.len() {
            let mut search = Search::new([9; 16], &Tail::default());
            let first = search.push(&bytes[..split]);
            let rest = match first {
                Some(rest) => [rest.as_slice(), &bytes[split..]].concat(),
                None => search.push(&bytes[split..]).expect("nonce is complete"),
            };
            assert_eq!(rest, b"PRI", "split at {split}");
        }
    }

    #[test]
    fn finds_a_nonce_that_the_old_session_has_read() {
        let mut tail = Tail::default();
        tail.push(b"old bytes");
        tail.push(&[5; 10]);
        tail.push(&[5; 6]);
        assert_eq!(Search::new([5; 16], &tail).push(&[]), Some(vec![]));
        assert_eq!(Search::new([6; 16], &tail).push(&[]), None);
    }
}
