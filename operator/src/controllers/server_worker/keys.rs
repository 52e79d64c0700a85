//! What a server keeps to itself: made once, and never again.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};

use super::{Failure, Work};
use crate::controllers::calls::{optional, within_deadline};
use crate::credentials;
use crate::render::{Server, names};

impl Work {
    /// Makes the server's keys where there are none. They are never written again: senders that were rewritten with the old
    /// key would lead nowhere. Whoever wants others deletes the Secret.
    pub(super) async fn keys(&mut self, server: &Server) -> Result<(), Failure> {
        let name = names::keys_secret(&server.name.name);
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &server.name.namespace);
        if optional(api.get_metadata(&name)).await?.is_some() {
            return Ok(());
        }
        let random = || {
            let failed = |error: credentials::HashError| Failure { message: error.to_string(), invalid: false };
            credentials::random_password().map_err(failed)
        };
        let data = [(names::QUEUE_TOKEN_KEY, random()?), (names::SRS_KEY, random()?)];
        let secret = Secret {
            metadata: names::metadata(server, name),
            type_: Some("Opaque".to_owned()),
            data: Some(data.map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec()))).into()),
            ..Secret::default()
        };
        match within_deadline(api.create(&PostParams::default(), &secret)).await {
            Ok(_) => self.written += 1,
            // Somebody else was faster.
            Err(error) if error.code() == Some(409) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
