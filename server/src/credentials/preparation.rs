//! Names and passwords in UTF-8 as they are compared: as they came, and as SASLprep (RFC 4013) writes them, since keyboards
//! and programs compose the same character in several ways (RFC 6856 §2.2, RFC 4616 §2). Pure; used by
//! [`super::Authenticator`].

use stringprep::tables;

use super::Password;

/// The forms of a login to look for; none for one that may not be (RFC 4013 §2.3).
pub(super) fn names(login: &str) -> Vec<String> {
    forms(login.as_bytes()).into_iter().filter_map(|form| String::from_utf8(form).ok()).collect()
}

/// The forms of a password to verify. What is ASCII, or no UTF-8 at all, is itself.
pub(super) fn passwords(password: Password) -> Vec<Password> {
    if password.expose().is_ascii() {
        return vec![password];
    }
    forms(password.expose()).into_iter().map(Password::new).collect()
}

fn forms(octets: &[u8]) -> Vec<Vec<u8>> {
    let text = match std::str::from_utf8(octets) {
        Ok(text) if !text.is_ascii() => text,
        _ => return vec![octets.to_vec()],
    };
    if text.chars().any(is_prohibited) {
        return Vec::new();
    }
    let mut forms = vec![octets.to_vec()];
    // Characters that are younger than stringprep, such as most emoji, have no prepared form: they are as they came.
    if let Ok(prepared) = stringprep::saslprep(text)
        && prepared != text
    {
        forms.push(prepared.into_owned().into_bytes());
    }
    forms
}

/// RFC 4013 §2.3, without the spaces, which are mapped to one that is allowed.
fn is_prohibited(character: char) -> bool {
    tables::ascii_control_character(character)
        || tables::non_ascii_control_character(character)
        || tables::private_use(character)
        || tables::non_character_code_point(character)
        || tables::inappropriate_for_plain_text(character)
        || tables::inappropriate_for_canonical_representation(character)
        || tables::change_display_properties_or_deprecated(character)
        || tables::tagging_character(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composed_and_decomposed_are_the_same() {
        assert_eq!(names("j\u{fc}rgen@x.example"), ["j\u{fc}rgen@x.example"]);
        assert_eq!(names("ju\u{308}rgen@x.example"), ["ju\u{308}rgen@x.example", "j\u{fc}rgen@x.example"]);
        assert_eq!(names("tom@x.example"), ["tom@x.example"]);
        assert!(names("to\u{e000}m@x.example").is_empty());
        let octets = |octets: &[u8]| -> Vec<Vec<u8>> {
            passwords(Password::new(octets.to_vec())).iter().map(|password| password.expose().to_vec()).collect()
        };
        assert_eq!(octets("ﬁsch\u{a0}ä".as_bytes()), ["ﬁsch\u{a0}ä".as_bytes(), "fisch ä".as_bytes()]);
        assert_eq!(octets("\u{1f4ee}".as_bytes()), ["\u{1f4ee}".as_bytes()]);
        assert_eq!(octets(b"caf\xe9"), [b"caf\xe9"]);
        assert_eq!(octets(b"tab\tbed"), [b"tab\tbed"]);
        assert!(octets("\u{fffd}".as_bytes()).is_empty());
    }
}
