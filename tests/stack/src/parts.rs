//! How each part is prepared and what it is started with.

mod etcd;
mod kafka;
mod kubernetes;
mod minio;
mod postgres;

pub(crate) use etcd::etcd;
pub(crate) use kafka::{TOOL_OPTIONS, class_path, java, kafka};
pub(crate) use kubernetes::{ControlPlane, apiserver, controller_manager};
pub(crate) use minio::minio;
pub(crate) use postgres::{client_program, postgres};

use std::path::{Path, PathBuf};

use crate::{
    Part, StackError, files,
    process::{Launch, StopSignal},
};

/// What every part is told.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The stack's folder of data.
    pub(crate) data: PathBuf,
    /// Whether the part is killed with the program that started it.
    pub(crate) dies_with_owner: bool,
    /// Arguments that come after the part's own.
    pub(crate) arguments: Vec<(Part, String)>,
}

impl Place {
    /// An empty folder for the part's data: what an earlier attempt left is removed.
    fn new_folder(&self, part: Part) -> Result<PathBuf, StackError> {
        let folder = self.data.join(part.name());
        files::remove_folder(&folder)?;
        files::create_folder(&folder)?;
        Ok(folder)
    }

    fn launch(&self, part: Part, program: &Path, arguments: Vec<String>) -> Launch {
        let more = self.arguments.iter().filter(|(of, _)| *of == part).map(|(_, argument)| argument.clone());
        Launch {
            program: program.to_owned(),
            arguments: arguments.into_iter().chain(more).collect(),
            environment: Vec::new(),
            account: None,
            stop_signal: StopSignal::Terminate,
            leftover: None,
            dies_with_owner: self.dies_with_owner,
        }
    }
}
