//! A server made ready for somebody else to start: one that shall outlive this process.

use std::path::PathBuf;

use super::account::Launcher;
use super::{PrivatePostgresError, PrivatePostgresOptions, choose_port, make_ready, settings};

/// How to start a server whose folder is ready. The folder must lie where [`PreparedPostgres::account`] can reach it.
pub struct PreparedPostgres {
    /// The server program.
    pub program: PathBuf,
    /// All its arguments.
    pub arguments: Vec<String>,
    /// The user and group ids to run it under; `None`: the caller's own.
    pub account: Option<(u32, u32)>,
    /// The TCP port on 127.0.0.1 that it will listen on.
    pub port: u16,
    /// The password of [`super::SUPERUSER`].
    pub password: String,
}

impl PreparedPostgres {
    /// Makes the folder and the database files if needed, and starts nothing. Nobody is kept from starting a second
    /// server on the folder but by PostgreSQL itself.
    ///
    /// # Errors
    /// As [`super::PrivatePostgres::start`], as far as it concerns the binaries, the folder and the port.
    pub async fn prepare(options: &PrivatePostgresOptions) -> Result<PreparedPostgres, PrivatePostgresError> {
        let launcher = Launcher::for_this_process()?;
        let (folder, _lock, password, binaries) = make_ready(options, &launcher).await?;
        let port = choose_port(options.port)?;
        let mut arguments = vec!["-D".to_owned(), folder.cluster().display().to_string()];
        for (name, value) in settings(options, port) {
            arguments.extend(["-c".to_owned(), format!("{name}={value}")]);
        }
        Ok(PreparedPostgres {
            program: binaries.postgres,
            arguments,
            account: launcher.account.map(|account| (account.uid, account.gid)),
            port,
            password,
        })
    }
}
