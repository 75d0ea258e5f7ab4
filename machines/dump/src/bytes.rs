//! The bytes of a file: in memory, on disk, or unpacked from zstd with its blocks of zeros left out.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Mutex, PoisonError};

use ruzstd::decoding::StreamingDecoder;

const BLOCK: usize = 1 << 16;

/// A file's bytes, wherever they are.
#[derive(Debug)]
pub(crate) enum Bytes {
    /// In memory.
    Whole(Vec<u8>),
    /// On disk; the lock keeps the file's position and the read behind it together.
    Disk(Mutex<File>, u64),
    /// In memory, in blocks; one without bytes is all zeros.
    Blocks(Vec<Option<Box<[u8]>>>, u64),
}

impl Bytes {
    /// The open file `file`, read piece by piece.
    pub(crate) fn disk(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self::Disk(Mutex::new(file), len))
    }

    /// What the zstd stream `packed` holds.
    pub(crate) fn unpack(packed: impl Read) -> io::Result<Self> {
        let mut stream = StreamingDecoder::new(packed).map_err(io::Error::other)?;
        let (mut blocks, mut len) = (Vec::new(), 0);
        loop {
            let mut block = Vec::with_capacity(BLOCK);
            let got = stream.by_ref().take(BLOCK as u64).read_to_end(&mut block)?;
            if got == 0 {
                return Ok(Self::Blocks(blocks, len));
            }
            len += got as u64;
            let is_zero = block.iter().all(|&byte| byte == 0);
            blocks.push((!is_zero).then(|| block.into_boxed_slice()));
        }
    }

    /// Bytes in the file.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Disk(_, len) | Self::Blocks(_, len) => *len,
        }
    }

    /// Fills `buf` with the bytes from `offset`.
    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|&end| end <= self.len());
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        match self {
            Self::Whole(bytes) => match bytes.get(offset as usize..end as usize) {
                Some(part) => buf.copy_from_slice(part),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            },
            Self::Disk(file, _) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(offset))?;
                file.read_exact(buf)?;
            }
            Self::Blocks(blocks, _) => copy_blocks(blocks, offset, buf),
        }
        Ok(())
    }
}

/// Fills `buf`, which lies within the file, from `blocks`.
fn copy_blocks(blocks: &[Option<Box<[u8]>>], offset: u64, buf: &mut [u8]) {
    let mut at = offset;
    let mut rest = buf;
    while !rest.is_empty() {
        let (index, within) = ((at / BLOCK as u64) as usize, (at % BLOCK as u64) as usize);
        let len = rest.len().min(BLOCK - within);
        let (part, after) = rest.split_at_mut(len);
        match blocks.get(index).and_then(Option::as_deref).and_then(|block| block.get(within..within + len)) {
            Some(bytes) => part.copy_from_slice(bytes),
            None => part.fill(0),
        }
        at += len as u64;
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_zeros_read_as_zeros() {
        let mut last = vec![7; 10];
        last[9] = 9;
        let blocks = vec![Some(vec![1; BLOCK].into_boxed_slice()), None, Some(last.into_boxed_slice())];
        let bytes = Bytes::Blocks(blocks, 2 * BLOCK as u64 + 10);
        let mut buf = vec![5; BLOCK + 3];
        bytes.read(BLOCK as u64 - 1, &mut buf).unwrap();
        assert_eq!((buf[0], buf[1], buf[BLOCK], buf[BLOCK + 1]), (1, 0, 0, 7));
        let mut end = [0; 2];
        bytes.read(2 * BLOCK as u64 + 8, &mut end).unwrap();
        assert_eq!(end, [7, 9]);
        assert!(bytes.read(2 * BLOCK as u64 + 9, &mut end).is_err());
        assert!(bytes.read(u64::MAX, &mut end).is_err());
    }
}
