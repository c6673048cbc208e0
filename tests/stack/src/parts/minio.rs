//! MinIO: an S3-compatible object store with one folder as its drive.

use std::net::Ipv4Addr;

use super::Place;
use crate::{Part, S3, StackError, build::Artifact, files, health::Health, port, service::Plan};

pub(crate) async fn minio(place: &Place, s3: &S3) -> Result<Plan, StackError> {
    let drive = place.new_folder(Part::Minio)?;
    // A folder of the drive is a bucket.
    files::create_folder(&drive.join(&s3.bucket))?;
    let (clients, console) = (port::free(place.address)?, port::free(Ipv4Addr::LOCALHOST)?);
    let arguments = vec![
        "server".to_owned(),
        "--quiet".to_owned(),
        format!("--address={clients}"),
        format!("--console-address={console}"),
        drive.display().to_string(),
    ];
    let mut launch = place.launch(Part::Minio, &Artifact::Minio.path()?, arguments);
    launch.environment = [
        ("MINIO_ROOT_USER", s3.access_key.as_str()),
        ("MINIO_ROOT_PASSWORD", &s3.secret_key),
        ("MINIO_REGION", &s3.region),
        ("MINIO_BROWSER", "off"),
        // It would ask the outside whether there is a newer one.
        ("MINIO_UPDATE", "off"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    Ok(Plan {
        part: Part::Minio,
        address: clients,
        launch,
        health: Health::Http { path: "/minio/health/ready".to_owned() },
    })
}
