//! Bytes of files and of standard input, unpacked by what they begin with.

use std::io::{self, Read};
use std::path::Path;

use crate::{Problem, SourceError};

/// Most bytes that a file may unpack to: a System.map has some ten million.
pub const LIMIT: u64 = 256 << 20;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Reads a file, or standard input if the path is `-`, and unpacks it.
///
/// # Errors
/// The file cannot be read or unpacked.
pub fn file(path: &Path) -> Result<Vec<u8>, SourceError> {
    let fail = |error| SourceError::new(path, Problem::Read(error));
    let raw = if path.as_os_str() == "-" {
        limited(io::stdin().lock()).map_err(fail)?
    } else {
        limited(std::fs::File::open(path).map_err(fail)?).map_err(fail)?
    };
    unpack(path, raw)
}

/// Unpacks gzip and zstd, and leaves anything else as it is.
pub(crate) fn unpack(name: &Path, raw: Vec<u8>) -> Result<Vec<u8>, SourceError> {
    let unpacked = if raw.starts_with(&GZIP) {
        limited(flate2::read::GzDecoder::new(raw.as_slice()))
    } else if raw.starts_with(&ZSTD) {
        ruzstd::decoding::StreamingDecoder::new(raw.as_slice()).map_err(io::Error::other).and_then(limited)
    } else {
        return Ok(raw);
    };
    unpacked.map_err(|error| SourceError::new(name, Problem::Unpack(error)))
}

/// As [`file`], as text.
///
/// # Errors
/// As [`file`]; and it is no UTF-8.
pub fn text(path: &Path) -> Result<String, SourceError> {
    into_text(path, file(path)?)
}

pub(crate) fn into_text(name: &Path, bytes: Vec<u8>) -> Result<String, SourceError> {
    String::from_utf8(bytes).map_err(|_| SourceError::new(name, Problem::NotText))
}

fn limited(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Err(io::Error::other("more than 256 MiB"));
    }
    Ok(bytes)
}
