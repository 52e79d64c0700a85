//! The certificate of a server: judged, made where it is the operator's to make, asked of cert-manager where that is named.
//! What is right and what is wrong about one is [`crate::controllers::certificate`]'s to say.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, PostParams};
use paquebot_crds::mail_server::{CertManager, CertificateSource};

use super::{Failure, MANAGER, Work};
use crate::controllers::apply::{Desired, Target};
use crate::controllers::calls::{optional, within_deadline};
use crate::controllers::certificate::{self, Judged};
use crate::controllers::{apis, cert_manager};
use crate::directory::NamespacedName;
use crate::render::{self, Server, names};

/// How soon it is looked again whether cert-manager has issued. Its Secret is watched; this is for its words.
const CERTIFICATE_AGAIN: Duration = Duration::from_secs(10);

impl Work {
    /// Judges the certificate; makes it first where it is ours to make.
    pub(super) async fn certificate(&mut self, server: &Server) -> Result<(), Failure> {
        let secret_name = names::tls_secret(server);
        let own = is_own(server);
        let asked = match server.spec.tls.source() {
            CertificateSource::CertManager(source) => Some(self.ask_cert_manager(server, source).await),
            CertificateSource::Secret(_) | CertificateSource::SelfSigned => None,
        };
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &server.name.namespace);
        let now = Timestamp::now();
        let mut secret = optional(api.get(&secret_name)).await?;
        if own {
            let wanted = render::certificate::names(server);
            let judged = secret.as_ref().map(|secret| judge(server, secret, &secret_name, own, now));
            if judged.is_none_or(|judged| certificate::needs_renewal(&judged, &wanted, now)) {
                let pair = certificate::self_signed(&wanted, now)
                    .map_err(|error| Failure { message: error.to_string(), invalid: false })?;
                let made = tls_secret(server, &secret_name, &pair);
                secret = Some(match secret {
                    None => self.create_certificate(&api, made).await?,
                    Some(_) => {
                        // Never compared: the old content is what is to go.
                        let target = Target {
                            kind: "Secret".to_owned(),
                            name: NamespacedName::new(&server.name.namespace, &secret_name),
                        };
                        self.known.remove(&target);
                        self.apply(Desired::new(&made)?).await?;
                        made
                    }
                });
            }
        }
        let judged = secret.as_ref().map(|secret| judge(server, secret, &secret_name, own, now));
        match asked {
            None => {
                let absent = || certificate::absent(&server.name.namespace, &secret_name);
                self.certificate = Some(judged.unwrap_or_else(absent));
                // What is left behind does no harm to the server; the next pass tries again.
                if let Err(failure) = self.withdraw_from_cert_manager(server).await {
                    let (server, error) = (&server.name, failure.message);
                    tracing::warn!(%server, error, "an earlier Certificate could not be looked for");
                }
                Ok(())
            }
            Some(Ok(words)) => {
                if judged.is_none() || words.as_ref().is_none_or(|words| !words.is_ready) {
                    self.look_again = Some(CERTIFICATE_AGAIN);
                }
                self.certificate = Some(cert_manager::judged(server, judged, words.as_ref()));
                Ok(())
            }
            // What is in use is judged all the same.
            Some(Err(failure)) => {
                self.certificate = Some(judged.unwrap_or_else(Judged::unknown));
                Err(failure)
            }
        }
    }

    /// Asks cert-manager for a certificate; what it says, or `None` where it is not installed.
    async fn ask_cert_manager(
        &mut self,
        server: &Server,
        source: &CertManager,
    ) -> Result<Option<cert_manager::Words>, Failure> {
        self.certificate_is_gone = false;
        if !apis::has(&self.client, &cert_manager::resource()).await? {
            return Ok(None);
        }
        self.apply(cert_manager::desired(server, source)?).await?;
        Ok(Some(cert_manager::read(&self.client, server).await?))
    }

    /// Takes back what was asked of cert-manager before another source was named.
    async fn withdraw_from_cert_manager(&mut self, server: &Server) -> Result<(), Failure> {
        if self.certificate_is_gone {
            return Ok(());
        }
        if apis::has(&self.client, &cert_manager::resource()).await? {
            let resource = cert_manager::resource();
            self.known.remove(&Target { kind: resource.kind.clone(), name: server.name.clone() });
            let ours = names::metadata(server, server.name.name.clone());
            self.applier.delete_as(&resource, &server.name, &ours).await?;
        }
        self.certificate_is_gone = true;
        Ok(())
    }

    /// Where there seemed to be no certificate, one that is there after all is not overwritten: another process, or this
    /// one before it crashed, may have been faster.
    async fn create_certificate(&mut self, api: &Api<Secret>, made: Secret) -> Result<Secret, Failure> {
        let name = made.metadata.name.clone().unwrap_or_default();
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        match within_deadline(api.create(&parameters, &made)).await {
            Ok(created) => {
                self.written += 1;
                Ok(created)
            }
            Err(error) if error.code() == Some(409) => Ok(within_deadline(api.get(&name)).await?),
            Err(error) => Err(error.into()),
        }
    }
}

fn is_own(server: &Server) -> bool {
    matches!(server.spec.tls.source(), CertificateSource::SelfSigned)
}

/// Looks at the certificate of a paused server, and writes nothing.
///
/// # Errors
/// What the API server says.
pub async fn look_at_certificate(client: Client, server: Server) -> Result<Judged, Failure> {
    let name = names::tls_secret(&server);
    let api: Api<Secret> = Api::namespaced(client, &server.name.namespace);
    Ok(match optional(api.get(&name)).await? {
        Some(secret) => judge(&server, &secret, &name, is_own(&server), Timestamp::now()),
        None => certificate::absent(&server.name.namespace, &name),
    })
}

fn judge(server: &Server, secret: &Secret, name: &str, own: bool, now: Timestamp) -> Judged {
    let data = |key: &str| {
        secret.data.as_ref().and_then(|data| data.get(key)).map(|value| value.0.as_slice()).unwrap_or_default()
    };
    certificate::judge(data("tls.crt"), data("tls.key"), server.spec.hostname.as_str(), own, now, name)
}

fn tls_secret(server: &Server, name: &str, pair: &certificate::KeyPairPem) -> Secret {
    let data = [("tls.crt", pair.certificate.clone()), ("tls.key", pair.key.to_vec())];
    Secret {
        metadata: names::metadata(server, name.to_owned()),
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(data.map(|(key, value)| (key.to_owned(), ByteString(value))).into()),
        ..Secret::default()
    }
}
