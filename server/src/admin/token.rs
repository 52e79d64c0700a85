//! Who may ask what is not for everybody: whoever shows a token of the file `admin/token` in the configuration directory.
//! The file is read at each request, so that a Secret that changes is in force at once. A router that needs it has
//! [`authorize`] as a layer.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The file, below the configuration directory.
const FILE: &str = "admin/token";
/// What is longer is no token file.
const LONGEST_FILE: u64 = 64 * 1024;
/// What is shorter could be guessed.
const SHORTEST_TOKEN: usize = 16;
/// Who did it, where the file gives the token no name.
const UNNAMED: &str = "admin";

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody may.
    #[error(
        "nobody may ask this: there is no usable token; put a random one of at least 16 characters into {FILE} \
         of the configuration directory (on Kubernetes: a Secret that is mounted there)"
    )]
    NoToken,
    /// The file is there, but cannot be used.
    #[error("nobody may ask this: {FILE} cannot be read: {0}")]
    Unreadable(String),
    /// This one may not.
    #[error("the token is missing or wrong; send the header `Authorization: Bearer TOKEN` with a token of {FILE}")]
    Wrong,
}

/// Whose token a request has shown.
#[derive(Debug, Clone)]
pub struct Who(pub String);

/// Where the tokens are.
#[derive(Debug, Clone)]
pub struct TokenFile(PathBuf);

impl TokenFile {
    /// The file of a configuration directory.
    #[must_use]
    pub fn new(config_dir: &Path) -> Self {
        Self(config_dir.join(FILE))
    }

    /// The name of whoever shows this token. Blocks for the reading of a small file.
    fn check(&self, shown: Option<&str>) -> Result<String, Refused> {
        let text = match self.read() {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Refused::NoToken),
            Err(error) => return Err(Refused::Unreadable(error.to_string())),
        };
        check(&text, shown)
    }

    fn read(&self) -> io::Result<Zeroizing<String>> {
        let mut text = Zeroizing::new(String::new());
        File::open(&self.0)?.take(LONGEST_FILE).read_to_string(&mut text)?;
        Ok(text)
    }
}

/// Lets only those in who show a token; whose it is goes with the request as [`Who`].
pub async fn authorize(State(tokens): State<TokenFile>, mut request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.split_once(' '));
    let shown =
        shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim().to_owned());
    let checked = tokio::task::spawn_blocking(move || tokens.check(shown.as_deref())).await;
    match checked.unwrap_or_else(|error| Err(Refused::Unreadable(error.to_string()))) {
        Ok(name) => {
            request.extensions_mut().insert(Who(name.clone()));
            let mut response = next.run(request).await;
            response.extensions_mut().insert(Who(name));
            response
        }
        Err(refused) => refused.into_response(),
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": self.to_string() }));
        match self {
            Self::Wrong => {
                let challenge = [(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))];
                (StatusCode::UNAUTHORIZED, challenge, body).into_response()
            }
            Self::NoToken | Self::Unreadable(_) => (StatusCode::FORBIDDEN, body).into_response(),
        }
    }
}

/// Each line is `TOKEN` or `NAME TOKEN`. All are compared, each in constant time.
fn check(file: &str, shown: Option<&str>) -> Result<String, Refused> {
    let (mut found, mut usable) = (None, false);
    for line in file.lines() {
        let (name, token) = match line.trim().rsplit_once(char::is_whitespace) {
            Some((name, token)) => (name.trim(), token),
            None => (UNNAMED, line.trim()),
        };
        if token.len() < SHORTEST_TOKEN {
            continue;
        }
        usable = true;
        let is_equal = shown.is_some_and(|shown| bool::from(shown.as_bytes().ct_eq(token.as_bytes())));
        if is_equal {
            found = Some(name.to_owned());
        }
    }
    match found {
        Some(name) => Ok(name),
        None if usable => Err(Refused::Wrong),
        None => Err(Refused::NoToken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_token_of_the_file_opens_and_says_whose_it_is() {
        let file = "0123456789abcdef\nanna fedcba9876543210\nshort tiny\n";
        assert_eq!(check(file, Some("0123456789abcdef")), Ok("admin".to_owned()));
        assert_eq!(check(file, Some("fedcba9876543210")), Ok("anna".to_owned()));
        for wrong in [None, Some(""), Some("tiny"), Some("0123456789abcdee"), Some("anna fedcba9876543210")] {
            assert_eq!(check(file, wrong), Err(Refused::Wrong), "{wrong:?}");
        }
        for empty in ["", "\n\n", "tiny\n"] {
            assert_eq!(check(empty, Some("tiny")), Err(Refused::NoToken));
        }
    }
}
