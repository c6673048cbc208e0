//! PostgreSQL, of the installed version, prepared as Tipstaff's own private server is.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use store::private_postgres::{self, PreparedPostgres, PrivatePostgresOptions};

use super::Place;
use crate::{
    Part, StackError, files, health::Health, port, process::StopSignal, service::Plan, state::PostgresAccess,
};

/// Several test programs share one stack, each with its pools.
const CONNECTIONS: u16 = 200;

/// The plan, and who may connect.
pub(crate) async fn postgres(place: &Place) -> Result<(Plan, PostgresAccess), StackError> {
    let folder = place.new_folder(Part::Postgres)?;
    let address = port::free(place.address)?;
    let prepared = PreparedPostgres::prepare(&PrivatePostgresOptions {
        data_dir: folder.clone(),
        port: Some(address.port()),
        durable: false,
        max_connections: CONNECTIONS,
    })
    .await
    .map_err(|error| StackError::Postgres(error.into()))?;
    let mut arguments = prepared.arguments;
    if place.node.is_some() {
        arguments.extend(open_to_network(&folder, *address.ip())?);
    }
    let mut launch = place.launch(Part::Postgres, &prepared.program, arguments);
    launch.account = prepared.account;
    launch.leftover = Some(folder.join("cluster/postmaster.pid"));
    launch.stop_signal = StopSignal::Interrupt;
    launch.environment = vec![("LC_ALL".to_owned(), "C".to_owned())];
    let plan = Plan {
        part: Part::Postgres,
        address,
        launch,
        health: Health::Postgres { pg_isready: client_program("pg_isready").await? },
    };
    let access = PostgresAccess { user: private_postgres::SUPERUSER.to_owned(), password: prepared.password };
    Ok((plan, access))
}

/// Arguments that come after those of a server that nobody but this machine may reach: pods may, too. They need the
/// password as everybody does.
fn open_to_network(folder: &Path, address: Ipv4Addr) -> Result<Vec<String>, StackError> {
    let rules = folder.join("clients.conf");
    fs::write(&rules, "host all all all scram-sha-256\n").map_err(StackError::file("write", &rules))?;
    let settings = [format!("listen_addresses={address}"), format!("hba_file={}", rules.display())];
    Ok(settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]).collect())
}

/// A client program beside the server's; distributions also put them on `PATH`.
pub(crate) async fn client_program(name: &str) -> Result<PathBuf, StackError> {
    let binaries =
        private_postgres::find_binaries().await.map_err(|error| StackError::Postgres(error.into()))?;
    let beside = binaries.postgres.with_file_name(name);
    Ok(match beside.is_file() {
        true => beside,
        false => files::on_path(name).unwrap_or_else(|| name.into()),
    })
}
