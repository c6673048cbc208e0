//! etcd: one member, on loopback.

use std::net::Ipv4Addr;

use super::Place;
use crate::{Part, StackError, build::Artifact, health::Health, port, service::Plan};

pub(crate) async fn etcd(place: &Place) -> Result<Plan, StackError> {
    let data = place.new_folder(Part::Etcd)?;
    let (clients, peers) = (port::free(Ipv4Addr::LOCALHOST)?, port::free(Ipv4Addr::LOCALHOST)?);
    let peers = format!("http://{peers}");
    let clients_url = format!("http://{clients}");
    let arguments = vec![
        "--name=stack".to_owned(),
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls={clients_url}"),
        format!("--advertise-client-urls={clients_url}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=stack={peers}"),
        // What is written survives a killed process without it; only a crash of the machine would lose it.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    Ok(Plan {
        part: Part::Etcd,
        address: clients,
        launch: place.launch(Part::Etcd, &Artifact::Etcd.path()?, arguments),
        health: Health::Http { path: "/health".to_owned() },
    })
}
