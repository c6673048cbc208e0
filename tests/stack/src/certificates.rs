//! A throw-away certificate authority, and the kubeconfig files of its users.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use serde_json::json;

use crate::{StackError, files};

/// RFC 4519's `o`, which Kubernetes reads groups from. rcgen holds one value for each type of name; the same type by its
/// number is a second one to it.
const ORGANIZATION: &[u64] = &[2, 5, 4, 10];

/// The folder with the authority's certificate and key, the API server's, and the users' kubeconfig files.
#[derive(Clone, Debug)]
pub(crate) struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    pub(crate) fn at(folder: PathBuf) -> Certificates {
        Certificates { folder }
    }

    /// Makes a new authority, a server certificate for 127.0.0.1 and the given address, and the key that signs service
    /// accounts' tokens.
    pub(crate) fn create(folder: PathBuf, address: Ipv4Addr) -> Result<Certificates, StackError> {
        files::create_folder(&folder)?;
        let certificates = Certificates { folder };
        let subject = "the certificate authority";
        let key = KeyPair::generate().map_err(failed(subject))?;
        let certificate =
            authority().and_then(|parameters| parameters.self_signed(&key)).map_err(failed(subject))?;
        files::write_private(&certificates.authority_certificate(), &certificate.pem())?;
        files::write_private(&certificates.path("authority.key"), &key.serialize_pem())?;

        let address = address.to_string();
        let server = CertificateParams::new(
            [
                "127.0.0.1",
                &address,
                "localhost",
                "kubernetes",
                "kubernetes.default",
                "kubernetes.default.svc",
                "kubernetes.default.svc.cluster.local",
                "10.96.0.1",
            ]
            .map(str::to_owned),
        );
        let server = server.map_err(failed("127.0.0.1"))?;
        let (certificate, key) =
            certificates.issue(server, "127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth)?;
        files::write_private(&certificates.server_certificate(), &certificate)?;
        files::write_private(&certificates.server_key(), &key)?;

        let tokens = KeyPair::generate().map_err(failed("service accounts"))?;
        files::write_private(&certificates.token_key(), &tokens.serialize_pem())?;
        files::write_private(&certificates.token_public_key(), &tokens.public_key_pem())?;
        Ok(certificates)
    }

    pub(crate) fn authority_certificate(&self) -> PathBuf {
        self.path("authority.crt")
    }

    pub(crate) fn server_certificate(&self) -> PathBuf {
        self.path("server.crt")
    }

    pub(crate) fn server_key(&self) -> PathBuf {
        self.path("server.key")
    }

    pub(crate) fn token_key(&self) -> PathBuf {
        self.path("service-accounts.key")
    }

    pub(crate) fn token_public_key(&self) -> PathBuf {
        self.path("service-accounts.pub")
    }

    pub(crate) fn kubeconfig(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.kubeconfig"))
    }

    /// Writes a kubeconfig that authenticates as the user by a client certificate of the authority.
    pub(crate) fn write_kubeconfig(
        &self,
        name: &str,
        server: SocketAddrV4,
        user: &str,
        groups: &[&str],
    ) -> Result<PathBuf, StackError> {
        let (certificate_path, key_path) = self.write_client(name, user, groups)?;
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "stack", "cluster": {
                "server": format!("https://{server}"),
                "certificate-authority": self.authority_certificate(),
            }}],
            "users": [{ "name": user, "user": {
                "client-certificate": certificate_path,
                "client-key": key_path,
            }}],
            "contexts": [{ "name": "stack", "context": { "cluster": "stack", "user": user } }],
            "current-context": "stack",
        });
        let path = self.kubeconfig(name);
        // JSON is YAML, which is what a kubeconfig is.
        files::write_private(&path, &kubeconfig.to_string())?;
        Ok(path)
    }

    /// Writes a client certificate of the user, and its key.
    pub(crate) fn write_client(
        &self,
        name: &str,
        user: &str,
        groups: &[&str],
    ) -> Result<(PathBuf, PathBuf), StackError> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = subject(user, groups)?;
        let (certificate, key) = self.issue(parameters, user, ExtendedKeyUsagePurpose::ClientAuth)?;
        let (certificate_path, key_path) =
            (self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")));
        files::write_private(&certificate_path, &certificate)?;
        files::write_private(&key_path, &key)?;
        Ok((certificate_path, key_path))
    }

    fn issue(
        &self,
        mut parameters: CertificateParams,
        subject: &str,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<(String, String), StackError> {
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![purpose];
        let authority_key = files::read(&self.path("authority.key"))?;
        let issue = || {
            let issuer = Issuer::new(authority()?, KeyPair::from_pem(&authority_key)?);
            let key = KeyPair::generate()?;
            let certificate = parameters.signed_by(&key, &issuer)?;
            Ok((certificate.pem(), key.serialize_pem()))
        };
        issue().map_err(failed(subject))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// The authority's certificate is a matter of these parameters and its key, so that the key alone need be kept.
fn authority() -> Result<CertificateParams, rcgen::Error> {
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.distinguished_name.push(DnType::CommonName, "throw-away authority of a test stack");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(parameters)
}

fn subject(user: &str, groups: &[&str]) -> Result<DistinguishedName, StackError> {
    let types = [DnType::OrganizationName, DnType::CustomDnType(ORGANIZATION.to_vec())];
    if groups.len() > types.len() {
        return Err(StackError::TooManyGroups { user: user.to_owned(), groups: groups.len() });
    }
    let mut name = DistinguishedName::new();
    for (kind, group) in types.into_iter().zip(groups) {
        name.push(kind, *group);
    }
    name.push(DnType::CommonName, user);
    Ok(name)
}

fn failed(subject: &str) -> impl FnOnce(rcgen::Error) -> StackError {
    let subject = subject.to_owned();
    move |source| StackError::Certificate { subject, source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn more_groups_than_a_certificate_holds_are_refused() {
        let error = subject("jane", &["one", "two", "three"]).unwrap_err();
        assert!(error.to_string().contains("at most two groups"), "{error}");
    }
}
