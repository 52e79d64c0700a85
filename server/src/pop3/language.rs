//! The languages of the human-readable text in replies, and how a client asks for one (RFC 6856 §3). Pure; used by
//! [`super::machine`] and [`super::phrase`].

/// What replies are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    /// What is spoken before anybody asks: plain English in ASCII (RFC 2277 §4.5).
    #[default]
    Default,
    /// English.
    English,
    /// German.
    German,
    /// French.
    French,
}

impl Language {
    /// Every language that LANG lists.
    pub const ALL: [Self; 4] = [Self::Default, Self::English, Self::German, Self::French];

    /// The tag (RFC 5646).
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Self::Default => "i-default",
            Self::English => "en",
            Self::German => "de",
            Self::French => "fr",
        }
    }

    /// Its name in itself.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "Default",
            Self::English => "English",
            Self::German => "Deutsch",
            Self::French => "Français",
        }
    }

    /// The language for a basic language range (RFC 4647 §2.1). `*` is the server's choice, which is English. A range with
    /// more subtags than a tag here finds the language without them (lookup, RFC 4647 §3.4): `de-AT` finds `de`.
    #[must_use]
    pub fn find(range: &str) -> Option<Self> {
        if range == "*" {
            return Some(Self::English);
        }
        let mut range = range;
        loop {
            if let Some(found) = Self::ALL.into_iter().find(|language| language.tag().eq_ignore_ascii_case(range)) {
                return Some(found);
            }
            range = range.rsplit_once('-')?.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_find_their_language() {
        for (range, language) in [
            ("*", Some(Language::English)),
            ("en", Some(Language::English)),
            ("EN-gb", Some(Language::English)),
            ("de", Some(Language::German)),
            ("de-AT-1996", Some(Language::German)),
            ("fr", Some(Language::French)),
            ("i-default", Some(Language::Default)),
            ("i", None),
            ("deu", None),
            ("nl", None),
            ("", None),
            ("*-DE", None),
        ] {
            assert_eq!(Language::find(range), language, "{range}");
        }
    }
}
