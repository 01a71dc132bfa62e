//! Where the journal of an output is kept that can't keep it itself.
//!
//! The folder's name follows from the output's location alone, so that a rerun finds what an
//! earlier run paid for, and no two outputs share a journal.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::domain::hex;

/// Letters of the location's end that stand in the name.
const READABLE: usize = 40;

/// The name of the journal's folder for the output at `location`: an absolute path or a URL.
pub fn folder_name(location: &str) -> String {
    let location = location.trim_end_matches('/');
    let digest = hex::encode(&Sha256::digest(location.as_bytes()));
    let (_, tail) = location.split_once("://").unwrap_or(("", location));
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let tail: String = tail.chars().map(plain).collect();
    let start = tail.len().saturating_sub(READABLE);
    format!("{}-{}", tail[start..].trim_matches('-'), &digest[..16])
}

/// `folder` as every run names it, wherever that run is started: absolute, and without links as far
/// as it exists.
pub fn absolute(folder: &Path) -> PathBuf {
    let whole = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let standing = whole.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    match standing {
        Some((above, real)) => match whole.strip_prefix(above) {
            Ok(rest) if rest.as_os_str().is_empty() => real,
            Ok(rest) => real.join(rest),
            Err(_) => whole,
        },
        None => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_readable_and_of_one_location_alone() {
        let name = folder_name("s3://bucket/orders/out/");
        assert_eq!(name, folder_name("s3://bucket/orders/out"));
        assert!(name.starts_with("bucket-orders-out-"), "{name}");
        let others = ["s3://bucket/orders-out", "gs://bucket/orders/out", "/bucket/orders/out"];
        for other in others {
            assert_ne!(folder_name(other), name, "{other}");
        }
    }

    #[test]
    fn a_name_is_short_and_plain_whatever_the_location() {
        for location in ["/", "", "/é/../ü\n", &"/long".repeat(100), "s3://b/日本"] {
            let name = folder_name(location);
            assert!(name.len() <= READABLE + 17 && !name.contains(['/', '.', '\n']), "{name}");
        }
    }

    #[test]
    fn a_folder_has_one_name_by_every_way_to_it_before_and_after_it_is_made() {
        let scratch = tempfile::tempdir().unwrap();
        let real = scratch.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("mount")).unwrap();
        std::os::unix::fs::symlink(real.join("mount"), real.join("link")).unwrap();
        let wanted = real.join("mount/out");
        for is_made in [false, true] {
            if is_made {
                std::fs::create_dir(&wanted).unwrap();
            }
            for way in ["mount/out", "link/out", "mount/../mount/out", "mount/out/"] {
                assert_eq!(absolute(&real.join(way)), wanted, "{way}");
            }
        }
    }
}
