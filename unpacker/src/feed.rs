//! Decompression and digests in threads of their own, beside what is made of the archives. What is between the
//! threads is bounded.

use std::io::{self, BufRead, Read};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use sha2::{Digest, Sha256};

use crate::blob;
use crate::error::{Context, Error, Result};

const PIECE_BYTES: usize = 128 * 1024;
/// Of a channel.
const PIECES: usize = 16;

/// What there is to say of a layer, from its beginning to its end.
enum Piece<D> {
    Begin,
    Data(Vec<u8>),
    End(D),
    /// Nothing comes after it.
    Broken(Error),
}

/// The archives of layers, one after the other.
pub struct Feed {
    pieces: Receiver<Piece<String>>,
    /// Goes back to be filled again.
    used: Sender<Vec<u8>>,
    piece: Vec<u8>,
    position: usize,
    digest: Option<String>,
    broken: Option<Error>,
}

impl Feed {
    /// Reads the files of these names in the folder the process is in; there may be a wait for each name.
    pub fn start(names: impl Iterator<Item = io::Result<String>> + Send + 'static) -> Self {
        let (decoded, to_hash) = sync_channel(PIECES);
        let (hashed, pieces) = sync_channel(PIECES);
        let (used, spare) = channel();
        thread::spawn(move || decode_all(names, &decoded, &spare));
        thread::spawn(move || hash_all(&to_hash, &hashed));
        Self {
            pieces,
            used,
            piece: Vec::new(),
            position: 0,
            digest: None,
            broken: None,
        }
    }

    /// Whether there is one more layer: then reading yields its archive. The one before must have been read to its end.
    pub fn next_layer(&mut self) -> Result<bool> {
        self.digest = None;
        match self.pieces.recv() {
            Ok(Piece::Begin) => Ok(true),
            Ok(Piece::Broken(error)) => Err(error),
            Ok(Piece::Data(_) | Piece::End(_)) => Err(Error::Misuse("a layer was not read to its end")),
            Err(_) => Ok(false),
        }
    }

    /// sha256:<hex> of the whole archive; none before its end.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// What the last error in reading was about.
    pub fn take_failure(&mut self) -> Option<Error> {
        self.broken.take()
    }
}

impl BufRead for Feed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.position == self.piece.len() && self.digest.is_none() {
            match self.pieces.recv() {
                Ok(Piece::Data(piece)) => {
                    let old = std::mem::replace(&mut self.piece, piece);
                    self.position = 0;
                    // Nobody wants it any more once all layers have been read.
                    let _ = self.used.send(old);
                }
                Ok(Piece::End(digest)) => self.digest = Some(digest),
                Ok(Piece::Broken(error)) => {
                    let text = error.to_string();
                    self.broken = Some(error);
                    return Err(io::Error::other(text));
                }
                Ok(Piece::Begin) | Err(_) => return Err(io::Error::other("a layer has no end")),
            }
        }
        Ok(&self.piece[self.position..])
    }

    fn consume(&mut self, amount: usize) {
        self.position += amount;
    }
}

impl Read for Feed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        self.consume(length);
        Ok(length)
    }
}

/// The receiver has gone: nobody is interested any more.
struct Gone;

fn decode_all(names: impl Iterator<Item = io::Result<String>>, out: &SyncSender<Piece<()>>, spare: &Receiver<Vec<u8>>) {
    for name in names {
        match decode(name, out, spare) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let _ = out.send(Piece::Broken(error));
                return;
            }
            Err(Gone) => return,
        }
    }
}

fn decode(
    name: io::Result<String>,
    out: &SyncSender<Piece<()>>,
    spare: &Receiver<Vec<u8>>,
) -> std::result::Result<Result<()>, Gone> {
    let send = |piece| out.send(piece).map_err(|_| Gone);
    let opened = name.during("read the name of a layer");
    let mut archive = match opened.and_then(|name| blob::open(&PathBuf::from(name)).during("open a layer")) {
        Ok(archive) => archive,
        Err(error) => return Ok(Err(error)),
    };
    send(Piece::Begin)?;
    loop {
        let mut piece = spare.try_recv().unwrap_or_default();
        piece.resize(PIECE_BYTES, 0);
        let mut length = 0;
        while length < PIECE_BYTES {
            match archive.read(&mut piece[length..]) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Ok(Err(Error::Compression(error))),
            }
        }
        piece.truncate(length);
        if length == 0 {
            return send(Piece::End(())).map(Ok);
        }
        send(Piece::Data(piece))?;
    }
}

fn hash_all(pieces: &Receiver<Piece<()>>, out: &SyncSender<Piece<String>>) {
    let mut hash = Sha256::new();
    while let Ok(piece) = pieces.recv() {
        let passed = match piece {
            Piece::Begin => Piece::Begin,
            Piece::Data(bytes) => {
                hash.update(&bytes);
                Piece::Data(bytes)
            }
            Piece::End(()) => Piece::End(format!("sha256:{:x}", hash.finalize_reset())),
            Piece::Broken(error) => Piece::Broken(error),
        };
        if out.send(passed).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Names of files with these contents, in a folder that goes with the test.
    fn files(name: &str, contents: &[Vec<u8>]) -> (PathBuf, Vec<io::Result<String>>) {
        let folder = std::env::temp_dir().join(format!("kelyfos-feed-{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let names = contents.iter().enumerate().map(|(at, bytes)| {
            let path = folder.join(at.to_string());
            std::fs::write(&path, bytes).unwrap();
            Ok(path.to_str().unwrap().to_string())
        });
        let names = names.collect();
        (folder, names)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn each_archive_and_its_digest_whatever_the_compression() {
        let plain: Vec<u8> = (0..=255).cycle().flat_map(|byte| [byte; 3]).take(700_000).collect();
        let two_members = [gzip(&plain[..1_000]), gzip(&plain[1_000..])].concat();
        let zstd = zstd::stream::encode_all(plain.as_slice(), 1).unwrap();
        let contents = [plain.clone(), gzip(&plain), two_members, zstd, Vec::new()];
        let (folder, names) = files("forms", &contents);
        let mut feed = Feed::start(names.into_iter());
        let digest = format!("sha256:{:x}", Sha256::digest(&plain));
        for _ in 0..4 {
            assert!(feed.next_layer().unwrap());
            let mut read = Vec::new();
            feed.read_to_end(&mut read).unwrap();
            assert!(read == plain);
            assert_eq!(feed.digest(), Some(digest.as_str()));
        }
        assert!(feed.next_layer().unwrap());
        assert_eq!(feed.read(&mut [0; 10]).unwrap(), 0);
        assert!(!feed.next_layer().unwrap());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_cannot_be_decompressed_or_opened_is_told_where_it_is_read() {
        let mut cut = gzip(&[7; 10_000]);
        cut.truncate(cut.len() - 4);
        let (folder, mut names) = files("cut", &[cut]);
        names.insert(0, Ok("/no/such/file".to_string()));
        let mut feed = Feed::start(names.into_iter());
        assert!(matches!(feed.next_layer(), Err(Error::Step { .. })));
        let name = folder.join("0").to_str().unwrap().to_string();
        let mut feed = Feed::start(std::iter::once(Ok(name)));
        assert!(feed.next_layer().unwrap());
        assert!(feed.read_to_end(&mut Vec::new()).is_err());
        assert!(matches!(feed.take_failure(), Some(Error::Compression(_))));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
