//! The stack's object store, by a bare client.

use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation},
};
use stack::S3;

/// A client that knows nothing of Tipstaff.
pub fn s3_client(s3: &S3) -> Client {
    let credentials = Credentials::new(&s3.access_key, &s3.secret_key, None, None, "stack");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(s3.region.clone()))
        .endpoint_url(&s3.endpoint)
        .force_path_style(true)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .credentials_provider(credentials)
        .build();
    Client::from_conf(config)
}
