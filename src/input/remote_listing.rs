//! Which objects an input in object storage has: one, those of a folder, or those of a glob. The
//! rules are those of folders on disk.

use std::io;
use std::path::Path;

use glob::Pattern;

use super::InputError;
use super::location::{MATCHING, has_wildcard, is_hidden};
use super::source::{Format, Source};
use crate::cloud::{Bucket, CloudError, Object};
use crate::domain::ObjectUrl;
use crate::domain::reading::FileFormat;
use crate::domain::spec::CloudSpec;

/// An input's URL, understood.
#[derive(Debug)]
pub(super) struct RemoteLocation {
    url: ObjectUrl,
    bucket: Bucket,
    kind: Kind,
    /// The format that every object is told to be of.
    told: Option<FileFormat>,
}

#[derive(Debug)]
enum Kind {
    File(Object),
    Folder,
    /// The folder before the first wildcard, and the pattern below it.
    Glob {
        base: String,
        pattern: Pattern,
    },
}

impl RemoteLocation {
    /// Looks what stands at `url`. What exists under a name with wildcards is taken as it is.
    pub(super) fn resolve(
        url: &ObjectUrl,
        cloud: &CloudSpec,
        told: Option<FileFormat>,
    ) -> Result<RemoteLocation, InputError> {
        let io_error = |error: CloudError| InputError::Io {
            file: url.to_string(),
            source: io::Error::other(error),
        };
        let bucket = Bucket::connect(url, cloud).map_err(io_error)?;
        let kind = kind_of(url, &bucket, io_error)?;
        Ok(RemoteLocation { url: url.clone(), bucket, kind, told })
    }

    /// The format that every object is told to be of.
    pub(super) fn told(&self) -> Option<FileFormat> {
        self.told
    }

    /// The URL as it was typed.
    pub(super) fn typed(&self) -> String {
        self.url.to_string()
    }

    /// The objects in name order.
    pub(super) fn sources(&self) -> Result<Vec<Source>, InputError> {
        let base = match &self.kind {
            Kind::File(object) => {
                let name = object.key.rsplit('/').next().unwrap_or(&object.key).to_owned();
                return Ok(vec![Source::of_object(self.bucket.clone(), object.clone(), name)]);
            }
            Kind::Folder => self.url.key(),
            Kind::Glob { base, .. } => base,
        };
        let objects = self.bucket.list_below(base).map_err(|error| InputError::Io {
            file: self.typed(),
            source: io::Error::other(error),
        })?;
        let named = objects.into_iter().filter_map(|object| {
            let name = Path::new(&object.key).strip_prefix(base).ok()?.to_str()?.to_owned();
            let path = Path::new(&name);
            let is_wanted = Format::of(path, self.told).is_some() && self.takes(path);
            is_wanted.then(|| Source::of_object(self.bucket.clone(), object, name))
        });
        let mut sources: Vec<Source> = named.collect();
        sources.sort_by(|a, b| a.name().cmp(b.name()));
        Ok(sources)
    }

    /// Whether the object called `name` below the folder or the glob's base belongs to the input.
    fn takes(&self, name: &Path) -> bool {
        let Kind::Glob { pattern, .. } = &self.kind else {
            return !name.components().any(is_hidden);
        };
        // What the user spelled out with a leading `_` is wanted.
        let takes_hidden = Path::new(pattern.as_str()).components().any(is_hidden);
        name.ancestors().any(|matched| {
            let below = name.strip_prefix(matched).unwrap_or(name);
            pattern.matches_path_with(matched, MATCHING)
                && (takes_hidden || !matched.components().any(is_hidden))
                && !below.components().any(is_hidden)
        })
    }

    /// Whether a part written into the folder `out` would belong to this input.
    pub(super) fn would_find(&self, out: &ObjectUrl) -> bool {
        let is_same_bucket = out.service() == self.url.service()
            && out.bucket() == self.url.bucket()
            && (out.account() == self.url.account()
                || out.account().is_none()
                || self.url.account().is_none());
        let base = match &self.kind {
            Kind::File(object) => return is_same_bucket && out.key() == object.key,
            Kind::Folder => self.url.key(),
            Kind::Glob { base, .. } => base,
        };
        let part = Path::new(out.key()).join("part-000001.parquet");
        is_same_bucket && part.strip_prefix(base).is_ok_and(|name| self.takes(name))
    }
}

fn kind_of(
    url: &ObjectUrl,
    bucket: &Bucket,
    io_error: impl Fn(CloudError) -> InputError,
) -> Result<Kind, InputError> {
    if url.is_folder() {
        return Ok(Kind::Folder);
    }
    match bucket.head(url.key()) {
        Ok(object) => return Ok(Kind::File(object)),
        Err(CloudError::NotFound) => {}
        Err(error) => return Err(io_error(error)),
    }
    let below = bucket.list(url.key()).map_err(io_error)?;
    if !below.objects.is_empty() || !below.folders.is_empty() {
        return Ok(Kind::Folder);
    }
    let location = url.to_string();
    if !has_wildcard(url.key()) {
        return Err(InputError::NotFound { location });
    }
    let names: Vec<&str> = url.key().split('/').collect();
    let plain = names.iter().take_while(|name| !has_wildcard(name)).count();
    let pattern = Pattern::new(&names[plain..].join("/"));
    let pattern = pattern.map_err(|source| InputError::BadPattern { location, source })?;
    Ok(Kind::Glob { base: names[..plain].join("/"), pattern })
}
