//! The token of a server's admin port, as it lies in the server's own Secret. The workers that ask pods for what is not for
//! everybody read it here: `exposure_worker` and `eraser`.

use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::Api;
use zeroize::Zeroizing;

use super::calls::optional;
use crate::directory::NamespacedName;
use crate::render::names;

/// What is shorter the server does not believe.
const SHORTEST: usize = 16;

/// The token of a server's admin port. It cannot be printed.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// The first usable token of a file, as the server reads it: each line is `TOKEN` or `NAME TOKEN`. `None` where there is
    /// none, or the octets are no text.
    #[must_use]
    pub fn of_file(octets: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(octets).ok()?;
        let mut tokens = text.lines().filter_map(|line| line.split_whitespace().last());
        tokens.find(|token| token.len() >= SHORTEST).map(|token| Self(Zeroizing::new(token.to_owned())))
    }

    /// Reads a server's.
    ///
    /// # Errors
    /// A sentence for people.
    pub async fn read(client: Client, server: &NamespacedName) -> Result<Self, String> {
        let name = names::keys_secret(&server.name);
        let api: Api<Secret> = Api::namespaced(client, &server.namespace);
        let secret = optional(api.get(&name)).await;
        let secret = secret.map_err(|error| format!("Secret {name} could not be read: {error}"))?;
        let octets = secret.and_then(|secret| secret.data?.remove(names::QUEUE_TOKEN_KEY));
        let octets =
            Zeroizing::new(octets.ok_or_else(|| format!("Secret {name} has no {}", names::QUEUE_TOKEN_KEY))?.0);
        Self::of_file(&octets).ok_or_else(|| format!("Secret {name} holds no token of {SHORTEST} characters or more"))
    }

    /// To be shown to the server alone.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(file: &str) -> Option<String> {
        Token::of_file(file.as_bytes()).map(|token| token.reveal().to_owned())
    }

    #[test]
    fn a_file_of_several_tokens_is_read_as_the_server_reads_it() {
        let first = Some("0123456789abcdef".to_owned());
        for file in [
            "0123456789abcdef",
            "0123456789abcdef\n",
            "  ops 0123456789abcdef \r\nother fedcba9876543210\n",
            "\nshort tiny\nops of the office\t0123456789abcdef\nfedcba9876543210",
        ] {
            assert_eq!(token(file), first, "{file:?}");
        }
        for file in ["", "\n\n", "ops tiny"] {
            assert_eq!(token(file), None, "{file:?}");
        }
        assert!(Token::of_file(b"0123456789abcdef\xff").is_none());
    }

    proptest! {
        #[test]
        fn a_token_never_breaks_a_header(file in "\\PC{0,40}[ \n\r\t]{0,2}\\PC{0,40}") {
            if let Some(token) = token(&file) {
                prop_assert!(token.len() >= SHORTEST && !token.contains(char::is_whitespace));
            }
        }
    }
}
