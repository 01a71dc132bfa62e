//! What kind of storage a folder is on, from what the system says of its mounts.

use std::fs;
use std::path::{Path, PathBuf};

use crate::domain::spec::Layout;

/// Where the system lists its mounts.
const MOUNTS: &str = "/proc/self/mountinfo";

/// What kind of storage an output is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A disk that this machine's kernel alone writes to.
    LocalDisk,
    /// A file system with all that a disk does, that other machines may write to as well.
    NetworkDisk {
        /// Its type, such as `nfs4`.
        fstype: String,
    },
    /// A mounted bucket: a file is made once, and nothing else is sure.
    CreateOnceMount {
        /// Its type, such as `fuse.s3fs`.
        fstype: String,
        /// What is mounted, such as `mountpoint-s3`.
        source: String,
        /// Whether what another machine wrote is listed at once.
        has_fresh_listing: bool,
    },
    /// An object store, spoken to directly.
    ObjectStore,
    /// This process's memory.
    Memory,
}

impl Kind {
    /// The kind of the file system that `folder` is on, or will be on once it is made. Where the
    /// system does not tell, a local disk.
    pub fn of_folder(folder: &Path) -> Kind {
        let Ok(mounts) = fs::read_to_string(MOUNTS) else { return Kind::LocalDisk };
        standing_above(folder).map_or(Kind::LocalDisk, |folder| Kind::among(&mounts, &folder))
    }

    /// The kind of the file system that `folder`, an absolute path without links, is on;
    /// `mounts` is `/proc/self/mountinfo`.
    fn among(mounts: &str, folder: &Path) -> Kind {
        let above =
            mounts.lines().filter_map(Mount::parse).filter(|it| folder.starts_with(&it.point));
        // Of two at one place the later one hides the other; `max_by_key` takes the last.
        let nearest = above.max_by_key(|mount| mount.point.components().count());
        nearest.map_or(Kind::LocalDisk, |mount| Kind::judge(mount.fstype, mount.source))
    }

    /// The kind of a file system by its type and source, as `mountinfo` has them.
    pub fn judge(fstype: &str, source: &str) -> Kind {
        let is_local = matches!(
            fstype,
            "ext2"
                | "ext3"
                | "ext4"
                | "xfs"
                | "btrfs"
                | "zfs"
                | "f2fs"
                | "bcachefs"
                | "jfs"
                | "reiserfs"
                | "nilfs2"
                | "tmpfs"
                | "ramfs"
                | "rootfs"
                | "overlay"
                | "aufs"
                | "ecryptfs"
                | "ntfs"
                | "ntfs3"
                | "exfat"
                | "vfat"
                | "msdos"
                | "hfs"
                | "hfsplus"
                | "apfs"
                | "ufs"
                | "fuseblk"
                | "fuse.fuse-overlayfs"
        );
        let is_posix_fuse = matches!(fstype, "fuse.juicefs" | "fuse.glusterfs" | "fuse.ceph-fuse")
            || source.starts_with("JuiceFS:");
        let is_fuse = fstype == "fuse" || fstype.starts_with("fuse.");
        if is_local {
            return Kind::LocalDisk;
        }
        // A type that nobody has heard of may well be on other machines too.
        if !is_fuse || is_posix_fuse {
            return Kind::NetworkDisk { fstype: fstype.to_owned() };
        }
        // Both remember listings, and also that a name was not there, for minutes.
        let remembers = ["rclone", "gcsfuse"].iter().any(|it| fstype.contains(it) || source == *it);
        Kind::CreateOnceMount {
            fstype: fstype.to_owned(),
            source: source.to_owned(),
            has_fresh_listing: !remembers,
        }
    }

    /// What a person should know before relying on what is reported as done there.
    pub fn warning(&self) -> Option<String> {
        let Kind::CreateOnceMount { fstype, .. } = self else { return None };
        fstype.contains("rclone").then(|| {
            "rclone may hold files back in a cache of its own (--vfs-cache-mode writes or full), so \
             that what is reported as done may not be in the bucket yet: mount it with \
             --vfs-cache-mode off, or write to s3:// without it"
                .to_owned()
        })
    }

    /// How an output is laid out there, unless somebody wishes otherwise.
    pub fn layout(&self) -> Layout {
        match self {
            Kind::CreateOnceMount { .. } => Layout::Append,
            Kind::LocalDisk | Kind::NetworkDisk { .. } | Kind::ObjectStore | Kind::Memory => {
                Layout::Replace
            }
        }
    }
}

/// The nearest folder above `folder`, or itself, that stands, without links.
fn standing_above(folder: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(folder).ok()?;
    absolute.ancestors().find_map(|folder| fs::canonicalize(folder).ok())
}

/// One line of `mountinfo`.
struct Mount<'a> {
    point: PathBuf,
    fstype: &'a str,
    source: &'a str,
}

impl Mount<'_> {
    fn parse(line: &str) -> Option<Mount<'_>> {
        let (place, what) = line.split_once(" - ")?;
        let point = unescaped(place.split(' ').nth(4)?);
        let mut what = what.split(' ');
        Some(Mount { point, fstype: what.next()?, source: what.next()? })
    }
}

/// A path of `mountinfo`, where a blank is `\040`.
fn unescaped(path: &str) -> PathBuf {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| byte == b'\\');
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(code) => {
                bytes.push(code);
                rest = &after[3..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /mnt/lake rw - fuse mountpoint-s3 rw,user_id=0
31 22 0:27 / /mnt/lake/deep rw - tmpfs tmpfs rw
32 22 0:28 / /mnt/my\\040bucket rw - fuse.s3fs s3fs rw
33 22 0:29 / /mnt/over rw - nfs4 server:/x rw
34 22 0:30 / /mnt/over rw - fuse.rclone remote:bucket rw
a line of something else";

    fn kind(folder: &str) -> Kind {
        Kind::among(MOUNTS, Path::new(folder))
    }

    fn create_once(fstype: &str, source: &str, has_fresh_listing: bool) -> Kind {
        let (fstype, source) = (fstype.to_owned(), source.to_owned());
        Kind::CreateOnceMount { fstype, source, has_fresh_listing }
    }

    #[test]
    fn the_nearest_mount_above_a_folder_decides() {
        assert_eq!(kind("/home/me/out"), Kind::LocalDisk);
        assert_eq!(kind("/mnt/lake/out"), create_once("fuse", "mountpoint-s3", true));
        assert_eq!(kind("/mnt/lakeside"), Kind::LocalDisk);
        assert_eq!(kind("/mnt/lake/deep/out"), Kind::LocalDisk);
        assert_eq!(kind("/mnt/my bucket"), create_once("fuse.s3fs", "s3fs", true));
        assert_eq!(kind("/mnt/over"), create_once("fuse.rclone", "remote:bucket", false));
    }

    #[test]
    fn only_buckets_behind_a_mount_are_create_once() {
        for fstype in ["ext4", "xfs", "overlay", "tmpfs", "fuseblk", "fuse.fuse-overlayfs"] {
            assert_eq!(Kind::judge(fstype, "x"), Kind::LocalDisk, "{fstype}");
        }
        for fstype in ["nfs4", "cifs", "9p", "virtiofs", "ceph", "fuse.juicefs", "brandnewfs"] {
            let fstype = fstype.to_owned();
            assert_eq!(Kind::judge(&fstype, "x"), Kind::NetworkDisk { fstype });
        }
        assert_eq!(
            Kind::judge("fuse.gcsfuse", "bucket"),
            create_once("fuse.gcsfuse", "bucket", false)
        );
        assert_eq!(Kind::judge("fuse", "geesefs"), create_once("fuse", "geesefs", true));
        assert_eq!(create_once("fuse", "x", true).layout(), Layout::Append);
        assert_eq!(Kind::judge("nfs4", "x").layout(), Layout::Replace);
    }

    #[test]
    fn a_mount_that_may_hold_files_back_is_warned_of() {
        assert!(kind("/mnt/over").warning().unwrap().contains("--vfs-cache-mode off"));
        assert_eq!(kind("/mnt/lake/out").warning(), None);
        assert_eq!(kind("/home/me/out").warning(), None);
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_judged_by_what_stands_above() {
        let folder = tempfile::tempdir().unwrap();
        let above = fs::canonicalize(folder.path()).unwrap();
        assert_eq!(standing_above(&folder.path().join("a/b")), Some(above));
        // Whatever it is, looking makes nothing.
        let _ = Kind::of_folder(&folder.path().join("a/b"));
        assert!(!folder.path().join("a").exists());
    }
}
