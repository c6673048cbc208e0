//! The addresses of blobs.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

use super::BlobError;

/// The address of a blob: `s3://bucket/key` or `file:///directory/key`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BlobUri {
    /// An object in a bucket.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// The object's key, with no leading slash.
        key: String,
    },
    /// A file, by its absolute path.
    File(PathBuf),
}

impl fmt::Display for BlobUri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, key } => write!(formatter, "s3://{bucket}/{key}"),
            // A path that no URL can hold is relative, which only code that builds a `File` by hand can make.
            Self::File(path) => match Url::from_file_path(path) {
                Ok(url) => url.fmt(formatter),
                Err(()) => write!(formatter, "file:{}", path.display()),
            },
        }
    }
}

impl FromStr for BlobUri {
    type Err = BlobError;

    fn from_str(text: &str) -> Result<Self, BlobError> {
        let invalid = |reason| BlobError::InvalidUri { uri: text.to_owned(), reason };
        if let Some(rest) = text.strip_prefix("s3://") {
            return match rest.split_once('/') {
                Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => {
                    Ok(Self::S3 { bucket: bucket.to_owned(), key: key.to_owned() })
                }
                _ => Err(invalid("it must be s3://bucket/key")),
            };
        }
        if !text.starts_with("file:///") {
            return Err(invalid("it must begin with s3:// or file:///"));
        }
        let url = Url::parse(text).map_err(|_| invalid("it is not a URL"))?;
        url.to_file_path().map(Self::File).map_err(|()| invalid("it must be file:///path"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_displayed_parses_back() {
        for uri in [
            BlobUri::S3 { bucket: "raw-bytes".to_owned(), key: "raw/7/2026/03/09/00ff.bin".to_owned() },
            BlobUri::File(PathBuf::from("/var/lib/tipstaff/raw/7/2026/03/09/00ff.bin")),
            BlobUri::File(PathBuf::from("/srv/with space/100%/é#?.bin")),
        ] {
            assert_eq!(uri.to_string().parse::<BlobUri>().unwrap(), uri, "{uri}");
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "s3://",
            "s3://bucket",
            "s3://bucket/",
            "s3:///key",
            "/raw/x.bin",
            "https://host/x",
            "file://host/x",
            "file:x",
        ] {
            assert!(matches!(text.parse::<BlobUri>(), Err(BlobError::InvalidUri { .. })), "{text}");
        }
    }

    #[test]
    fn a_path_cannot_climb_out_by_dots() {
        let uri: BlobUri = "file:///data/raw/../../etc/passwd".parse().unwrap();
        assert_eq!(uri, BlobUri::File(PathBuf::from("/etc/passwd")));
    }
}
