//! How the rows of a part are encoded. It decides nothing of what a part says, so a later run may
//! have another one.

use std::num::NonZeroU32;

/// Default of [`PartEncoding::compression`].
pub const COMPRESSION: Compression = Compression::Zstd(1);
/// Default of [`PartEncoding::row_group_rows`]: small enough to skip by statistics, large enough to
/// compress.
pub const ROW_GROUP_ROWS: u32 = 131_072;

/// How the rows of a part are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartEncoding {
    /// How pages are compressed.
    pub compression: Compression,
    /// Most rows of a row group.
    pub row_group_rows: NonZeroU32,
}

impl Default for PartEncoding {
    fn default() -> PartEncoding {
        const ROWS: NonZeroU32 = NonZeroU32::new(ROW_GROUP_ROWS).unwrap();
        PartEncoding { compression: COMPRESSION, row_group_rows: ROWS }
    }
}

/// A codec, with its level where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Values as they are.
    None,
    /// Fast; read by everything.
    Snappy,
    /// Fast; blocks without a frame, `LZ4_RAW` in Parquet's words.
    Lz4,
    /// 0 to 9.
    Gzip(u8),
    /// 0 to 11.
    Brotli(u8),
    /// 1 to 22.
    Zstd(u8),
}

impl Compression {
    /// The names of all codecs.
    pub const NAMES: [&str; 6] = ["zstd", "snappy", "lz4", "gzip", "brotli", "none"];

    /// Reads `zstd` or, with a level, `zstd(3)`; `None` if there is no such codec, or it has no such
    /// level.
    pub fn parse(text: &str) -> Option<Compression> {
        let (name, level) = match text.trim().strip_suffix(')') {
            Some(text) => {
                let (name, level) = text.split_once('(')?;
                (name, Some(level.trim().parse::<u8>().ok()?))
            }
            None => (text.trim(), None),
        };
        let level_in = |levels: std::ops::RangeInclusive<u8>, usual: u8| {
            Some(level.unwrap_or(usual)).filter(|level| levels.contains(level))
        };
        match name.to_ascii_lowercase().as_str() {
            "zstd" => level_in(1..=22, 1).map(Compression::Zstd),
            "gzip" => level_in(0..=9, 6).map(Compression::Gzip),
            "brotli" => level_in(0..=11, 1).map(Compression::Brotli),
            "snappy" => level.is_none().then_some(Compression::Snappy),
            "lz4" => level.is_none().then_some(Compression::Lz4),
            "none" => level.is_none().then_some(Compression::None),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_are_read_with_and_without_their_level() {
        assert_eq!(Compression::parse("zstd"), Some(COMPRESSION));
        assert_eq!(Compression::parse("ZSTD( 19 )"), Some(Compression::Zstd(19)));
        assert_eq!(Compression::parse("gzip(9)"), Some(Compression::Gzip(9)));
        assert_eq!(Compression::parse("none"), Some(Compression::None));
        for name in Compression::NAMES {
            assert!(Compression::parse(name).is_some(), "{name}");
        }
    }

    #[test]
    fn an_unknown_codec_or_level_is_none() {
        for text in ["", "lzo", "zstd(0)", "zstd(23)", "zstd()", "zstd(3", "snappy(1)", "gzip(-1)"]
        {
            assert_eq!(Compression::parse(text), None, "{text}");
        }
    }
}
