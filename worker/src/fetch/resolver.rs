//! The client's resolver: names to allowed addresses.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::AllowedAddresses;

/// Resolves names with the system's configuration (`resolv.conf` and `hosts`, as they are at the start) and keeps back
/// every address that is not allowed. The client connects to what this returned, with no second lookup in between.
#[derive(Clone)]
pub(super) struct GuardedResolver {
    resolver: TokioResolver,
    allowed: Arc<AllowedAddresses>,
}

/// Why a name leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    /// Which addresses these are is not said: whoever may write a Source could map the cluster's names with it.
    #[error("the address of {host} is not allowed")]
    NotAllowed { host: String },

    #[error("no address is known for {host}")]
    NotFound {
        host: String,
        #[source]
        source: NetError,
    },

    #[error("could not ask for the address of {host}")]
    Failed {
        host: String,
        #[source]
        source: NetError,
    },
}

impl GuardedResolver {
    pub(super) fn new(allowed: Arc<AllowedAddresses>) -> Result<Self, NetError> {
        let mut builder = TokioResolver::builder_tokio()?;
        // A cluster's `ndots:5` would try every public name in each of the cluster's search domains first.
        builder.options_mut().ndots = 1;
        Ok(Self { resolver: builder.build()?, allowed })
    }

    /// One that asks these name servers instead of the system's.
    pub(super) fn with_name_servers(
        allowed: Arc<AllowedAddresses>,
        name_servers: &[SocketAddr],
    ) -> Result<Self, NetError> {
        let name_servers = name_servers.iter().map(|address| {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            for connection in &mut server.connections {
                connection.port = address.port();
            }
            server
        });
        let config = ResolverConfig::from_name_servers(name_servers.collect());
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        Ok(Self { resolver: builder.build()?, allowed })
    }

    async fn addresses(&self, host: String) -> Result<Vec<SocketAddr>, ResolveError> {
        let found = match self.resolver.lookup_ip(host.as_str()).await {
            Ok(found) => found,
            Err(source) if source.is_no_records_found() => {
                return Err(ResolveError::NotFound { host, source });
            }
            Err(source) => return Err(ResolveError::Failed { host, source }),
        };
        // The client puts the URL's port in the place of 0.
        let allowed: Vec<_> = found
            .iter()
            .filter(|address| self.allowed.permits(*address))
            .map(|address| SocketAddr::new(address, 0))
            .collect();
        if allowed.is_empty() {
            return Err(ResolveError::NotAllowed { host });
        }
        Ok(allowed)
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = resolver.addresses(name.as_str().to_owned()).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
