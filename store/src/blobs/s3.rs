//! Blobs as objects of a bucket in an S3-compatible object store.
//!
//! The client is built by hand from the options. The SDK's own configuration loader (`aws-config`) would find profiles,
//! instance metadata and single sign-on too, at the price of several more SDKs in every build.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Config, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedHttpClient,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::create_bucket::CreateBucketError;
use aws_sdk_s3::primitives::{ByteStream, Length};
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use aws_smithy_http_client::Builder as HttpClientBuilder;
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use sha2::{Digest, Sha256};
use url::Url;
use uuid::Uuid;

use super::spool::Contents;
use super::{
    BlobError, BlobKey, BlobReader, BlobUri, Blobs, NOT_A_BUCKET, OWNER, RAW, S3Credentials, SpooledBody,
    check_object, check_owner, is_bucket_name,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// For one attempt and for all attempts of a request that carries no body.
const QUESTION_TIMEOUTS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(30));

/// For one attempt and for all attempts of an upload; a stalled one is given up sooner, by the SDK.
const UPLOAD_TIMEOUTS: (Duration, Duration) = (Duration::from_secs(120), Duration::from_secs(300));

/// Attempts of one request; what fails for longer is for the caller to bring back later.
const ATTEMPTS: u32 = 3;

/// The region in which a bucket is created without saying so.
const DEFAULT_REGION: &str = "us-east-1";

/// How to reach a bucket.
///
/// The credentials need `s3:GetObject`, `s3:PutObject` and, for retention, `s3:DeleteObject` on its objects, `s3:ListBucket`
/// on the bucket (without it a missing object is answered by 403), and `s3:CreateBucket` if it is not there yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Options {
    /// `http` or `https` URL of the object store; none for Amazon's own.
    pub endpoint: Option<String>,
    /// The region that requests are signed for; MinIO's default is `us-east-1`.
    pub region: String,
    /// The bucket's name.
    pub bucket: String,
    /// Whether the bucket stands in the path (MinIO and most others) or in the host name.
    pub path_style: bool,
    /// A file of PEM certificates that an `https` endpoint's is checked against, instead of the system's roots.
    pub ca_file: Option<PathBuf>,
    /// Who asks.
    pub credentials: S3Credentials,
}

/// Keeps each blob in an object named by its key in one bucket. An object is one upload: 5 GiB at most.
#[derive(Clone)]
pub struct S3Blobs {
    client: Client,
    bucket: String,
    region: String,
    catalog: Uuid,
}

impl fmt::Debug for S3Blobs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("S3Blobs").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

impl S3Blobs {
    /// A client for the bucket, for the catalog of this [identity](crate::catalog::Catalog::identity); nothing is asked of the
    /// object store yet.
    pub fn new(options: &S3Options, catalog: Uuid) -> Result<Self, BlobError> {
        let encrypted = check(options)?;
        let mut config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(options.region.clone()))
            .force_path_style(options.path_style)
            .credentials_provider(options.credentials.provider()?)
            // A credentials file is small and read anew for each request: rotated keys count at once.
            .identity_cache(IdentityCache::no_cache())
            // Not every S3-compatible object store knows the checksums that the SDK adds by itself.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(timeouts(QUESTION_TIMEOUTS))
            .http_client(http_client(encrypted, options.ca_file.as_deref())?);
        config.set_endpoint_url(options.endpoint.clone());
        Ok(Self {
            client: Client::from_conf(config.build()),
            bucket: options.bucket.clone(),
            region: options.region.clone(),
            catalog,
        })
    }

    /// Creates the bucket unless it is there.
    pub async fn ensure_bucket(&self) -> Result<(), BlobError> {
        match self.client.head_bucket().bucket(&self.bucket).send().await {
            Ok(_) => return Ok(()),
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(failure("reach the bucket", self.bucket_uri(), error)),
        }
        // The default region is the one that must not be named.
        let elsewhere = (self.region != DEFAULT_REGION).then(|| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(self.region.as_str()))
                .build()
        });
        let created = self
            .client
            .create_bucket()
            .bucket(&self.bucket)
            .set_create_bucket_configuration(elsewhere)
            .send()
            .await;
        match created {
            Ok(_) => Ok(()),
            // Another process of ours created it in the meantime.
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(CreateBucketError::is_bucket_already_owned_by_you) =>
            {
                Ok(())
            }
            Err(error) => Err(failure("create the bucket", self.bucket_uri(), error)),
        }
    }

    /// Makes the bucket the catalog's, unless it is one's already.
    ///
    /// # Errors
    /// [`BlobError::OtherCatalog`] when it is another's.
    pub async fn claim(&self) -> Result<(), BlobError> {
        let owner = match self.owner_of(&self.bucket).await? {
            Some(owner) => owner,
            None => {
                self.put_owner().await?;
                let there = self.owner_of(&self.bucket).await?;
                there.ok_or_else(|| BlobError::ObjectStore {
                    action: "read",
                    target: marker_of(&self.bucket),
                    reason: "it is not there, though it was to be written just now".to_owned(),
                    denied: false,
                    source: Box::new(io::Error::from(io::ErrorKind::NotFound)),
                })?
            }
        };
        check_owner(marker_of(&self.bucket), &owner, self.catalog)
    }

    /// Says in the bucket that it is the catalog's, or finds that another process has said whose it is.
    async fn put_owner(&self) -> Result<(), BlobError> {
        let text = self.catalog.to_string();
        // An object store that does not know the condition overwrites, or refuses it: who comes last has the bucket then, and
        // the other catalog finds that out when it reads it, now or when it starts again.
        for condition in [Some("*"), None] {
            let put = self.client.put_object().bucket(&self.bucket).key(OWNER).content_type("text/plain");
            let put = put
                .set_if_none_match(condition.map(str::to_owned))
                .checksum_sha256(checksum_of(text.as_bytes()))
                .body(ByteStream::from(text.clone().into_bytes()));
            match put.send().await {
                Err(error) if condition.is_some() && status(&error) == Some(501) => {}
                Err(error) if !matches!(status(&error), Some(409 | 412)) => {
                    return Err(failure("store", marker_of(&self.bucket), error));
                }
                _ => break,
            }
        }
        Ok(())
    }

    /// What a bucket says about whose it is.
    async fn owner_of(&self, bucket: &str) -> Result<Option<Bytes>, BlobError> {
        match self.client.get_object().bucket(bucket).key(OWNER).send().await {
            Ok(object) => match object.body.collect().await {
                Ok(body) => Ok(Some(body.into_bytes())),
                Err(error) => Err(BlobError::ObjectStore {
                    action: "read",
                    target: marker_of(bucket),
                    reason: root_cause(&error).to_string(),
                    denied: false,
                    source: Box::new(error),
                }),
            },
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(failure("read", marker_of(bucket), error)),
        }
    }

    fn bucket_uri(&self) -> String {
        format!("s3://{}", self.bucket)
    }

    /// The size of an object, if it is there.
    async fn byte_size(&self, bucket: &str, key: &str) -> Result<Option<u64>, BlobError> {
        match self.client.head_object().bucket(bucket).key(key).send().await {
            Ok(object) => Ok(object.content_length().and_then(|length| u64::try_from(length).ok())),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(failure("look for", format!("s3://{bucket}/{key}"), error)),
        }
    }
}

#[async_trait]
impl Blobs for S3Blobs {
    async fn put(&self, key: &BlobKey, body: &SpooledBody) -> Result<BlobUri, BlobError> {
        let uri = BlobUri::S3 { bucket: self.bucket.clone(), key: key.as_str().to_owned() };
        // To send what is held in memory takes no longer than to ask for it.
        if body.is_in_file() && self.byte_size(&self.bucket, key.as_str()).await? == Some(body.byte_size) {
            return Ok(uri);
        }
        let upload = Config::builder().timeout_config(timeouts(UPLOAD_TIMEOUTS));
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .content_type("application/octet-stream")
            // The object store refuses bytes that were damaged on the way.
            .checksum_sha256(checksum_of_body(body)?)
            .body(stream(body).await?)
            .customize()
            .config_override(upload)
            .send()
            .await
            .map_err(|error| failure("store", uri.to_string(), error))?;
        Ok(uri)
    }

    async fn open(&self, uri: &BlobUri) -> Result<BlobReader, BlobError> {
        let (bucket, key) = self.object(uri)?;
        match self.client.get_object().bucket(bucket).key(key).send().await {
            Ok(object) => Ok(Box::pin(object.body.into_async_read())),
            Err(error) if is_missing(&error) => Err(BlobError::NotFound(uri.clone())),
            Err(error) => Err(failure("open", uri.to_string(), error)),
        }
    }

    async fn exists(&self, uri: &BlobUri) -> Result<bool, BlobError> {
        let (bucket, key) = self.object(uri)?;
        Ok(self.byte_size(bucket, key).await?.is_some())
    }

    async fn delete(&self, uri: &BlobUri) -> Result<(), BlobError> {
        let (bucket, key) = self.object(uri)?;
        // In one that was configured before another catalog's evidence may be, too.
        if bucket != self.bucket
            && let Some(owner) = self.owner_of(bucket).await?
        {
            check_owner(marker_of(bucket), &owner, self.catalog)?;
        }
        match self.client.delete_object().bucket(bucket).key(key).send().await {
            Err(error) if !is_missing(&error) => Err(failure("delete", uri.to_string(), error)),
            _ => Ok(()),
        }
    }

    async fn put_object(
        &self,
        bucket: &str,
        key: &str,
        content_type: &str,
        bytes: Bytes,
    ) -> Result<BlobUri, BlobError> {
        check_object(bucket, key)?;
        let uri = BlobUri::S3 { bucket: bucket.to_owned(), key: key.to_owned() };
        if bucket == self.bucket && key.starts_with(RAW) {
            let reason = "its key is among those of the bodies that were fetched, which nobody else writes";
            return Err(BlobError::InvalidUri { uri: uri.to_string(), reason });
        }
        let put = self.client.put_object().bucket(bucket).key(key).content_type(content_type);
        put.checksum_sha256(checksum_of(&bytes))
            .body(ByteStream::from(bytes))
            .send()
            .await
            .map_err(|error| failure("store", uri.to_string(), error))?;
        Ok(uri)
    }
}

impl S3Blobs {
    /// The bucket is the address's own: blobs written before the configured bucket changed can still be read.
    fn object<'a>(&self, uri: &'a BlobUri) -> Result<(&'a str, &'a str), BlobError> {
        match uri {
            BlobUri::S3 { bucket, key } => Ok((bucket, key)),
            BlobUri::File(_) => Err(BlobError::Elsewhere { uri: uri.clone(), storage: self.bucket_uri() }),
        }
    }
}

/// Checks the options; says whether the connection is encrypted.
fn check(options: &S3Options) -> Result<bool, BlobError> {
    let wrong = |what: String| Err(BlobError::Configuration(what));
    if !is_bucket_name(&options.bucket) {
        return wrong(format!("{:?} cannot be the bucket: {NOT_A_BUCKET}", options.bucket));
    }
    if options.region.is_empty() {
        return wrong(format!("the region is empty; use {DEFAULT_REGION} if the object store has none"));
    }
    let Some(endpoint) = &options.endpoint else {
        return Ok(true);
    };
    match Url::parse(endpoint) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            wrong("the endpoint holds credentials; put them into the environment or a file".to_owned())
        }
        Ok(url) if url.scheme() == "https" => Ok(true),
        Ok(url) if url.scheme() == "http" => Ok(false),
        _ => wrong(format!("the endpoint {endpoint:?} is not an http or https URL")),
    }
}

fn http_client(encrypted: bool, ca_file: Option<&Path>) -> Result<SharedHttpClient, BlobError> {
    // Root certificates are loaded only where they are used: an image without any can reach a plain endpoint.
    let roots = TrustStore::empty().with_native_roots(encrypted && ca_file.is_none());
    let roots = match ca_file {
        Some(path) => roots.with_pem_certificate(certificates(path)?),
        None => roots,
    };
    let context = TlsContext::builder()
        .with_trust_store(roots)
        .build()
        .map_err(|error| BlobError::Configuration(format!("TLS for the object store: {error}")))?;
    Ok(HttpClientBuilder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .tls_context(context)
        .build_https())
}

/// The client would take a file without certificates for one that trusts nobody, and fail at the first request.
fn certificates(path: &Path) -> Result<Vec<u8>, BlobError> {
    let pem =
        std::fs::read(path).map_err(BlobError::file("read the object store's certificates in", path))?;
    match CertificateDer::pem_slice_iter(&pem).next() {
        Some(Ok(_)) => Ok(pem),
        Some(Err(_)) | None => Err(BlobError::Configuration(format!(
            "{} has no certificate in PEM format to check the object store's against",
            path.display()
        ))),
    }
}

fn timeouts((attempt, all_attempts): (Duration, Duration)) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(attempt)
        .operation_timeout(all_attempts)
        .build()
}

/// The body as a stream of known length that can be sent again when an attempt fails.
async fn stream(body: &SpooledBody) -> Result<ByteStream, BlobError> {
    match body.contents() {
        Contents::Memory(bytes) => Ok(ByteStream::from(bytes.clone())),
        Contents::File(file) => ByteStream::read_from()
            .path(file.path())
            .length(Length::Exact(body.byte_size))
            .build()
            .await
            .map_err(|error| BlobError::file("open", file.path())(std::io::Error::other(error))),
    }
}

/// What says whose a bucket is.
fn marker_of(bucket: &str) -> String {
    format!("s3://{bucket}/{OWNER}")
}

/// The SHA-256 as S3 wants it: base64 of its bytes. With it an object store refuses bytes that were damaged on the way; some
/// refuse an object without it where objects are locked.
fn checksum_of(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(Sha256::digest(bytes))
}

/// The same of a body, which knows its hash.
fn checksum_of_body(body: &SpooledBody) -> Result<String, BlobError> {
    let bytes = hex::decode(&body.sha256).map_err(|_| {
        BlobError::Configuration(format!("{:?} is not a SHA-256 in hexadecimal", body.sha256))
    })?;
    Ok(BASE64_STANDARD.encode(bytes))
}

fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

fn is_missing<E>(error: &SdkError<E, HttpResponse>) -> bool {
    status(error) == Some(404)
}

fn failure<E>(action: &'static str, target: String, error: SdkError<E, HttpResponse>) -> BlobError
where
    E: Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let status = status(&error);
    let reason = match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => match status {
            Some(status) => format!("the object store answered HTTP {status}"),
            None => root_cause(&error).to_string(),
        },
    };
    BlobError::ObjectStore { action, target, reason, denied: status == Some(403), source: Box::new(error) }
}

fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause
}
