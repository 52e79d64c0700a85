//! What the server says, in each of its languages, with the response codes that programs act on (RFC 2449 §8, RFC 3206,
//! RFC 6856 §5). Pure; used by [`super::machine`] and [`super::command`].

use bytes::Bytes;

use super::language::Language;
use crate::credentials::Failure;
use crate::store::StoreError;

/// The text of a reply. A language changes its words, never its meaning or its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the sentences below say what each is")]
pub enum Phrase {
    // Positive replies.
    Bye,
    Capabilities,
    Languages,
    LanguageChosen,
    Utf8Mode,
    PasswordPlease,
    BeginTls,
    Messages { count: u64, octets: u64 },
    UniqueIds,
    Octets(u64),
    TopFollows,
    Marked(u64),
    NothingMarked,
    NothingDone,
    Deleted(u64),
    // What is wrong with a line.
    OneLine,
    UnknownCommand,
    TooLong,
    NoArgument,
    LoginWanted,
    PasswordWanted,
    MechanismWanted,
    NumberWanted,
    TopWanted,
    // What cannot be done here and now.
    LogInFirst,
    LoggedInAlready,
    UserFirst,
    NoSuchMessage,
    UnknownLanguage,
    TlsInUse,
    TlsAfterUtf8,
    NoCertificate,
    Cancelled,
    NotBase64,
    UnknownMechanism,
    NotCredentials,
    TooManyErrors,
    // Logins.
    ClearText,
    NoTls,
    WrongLogin,
    NotPermitted,
    Busy,
    TooSoon(u64),
    TooManyLogins,
    LoginEnded,
    // The store, and the end.
    InUse,
    Damaged,
    Gone,
    StoreFailed,
    NotDeleted,
    PerhapsDeleted,
    NeedsUtf8,
    ShuttingDown,
    Idle,
}

/// English, German, French.
type Texts = [&'static str; 3];

impl Phrase {
    /// The reply `+OK`.
    #[must_use]
    pub fn ok(self, language: Language) -> Bytes {
        self.line("+OK", language)
    }

    /// The reply `-ERR`, with its response code where it has one.
    #[must_use]
    pub fn err(self, language: Language) -> Bytes {
        self.line("-ERR", language)
    }

    /// The words alone.
    #[must_use]
    pub fn text(self, language: Language) -> String {
        let [english, german, french] = self.texts();
        let text = match language {
            Language::Default | Language::English => english,
            Language::German => german,
            Language::French => french,
        };
        match self {
            Self::Messages { count, octets } => {
                text.replace("{count}", &count.to_string()).replace("{octets}", &octets.to_string())
            }
            Self::Octets(number) | Self::Marked(number) | Self::Deleted(number) | Self::TooSoon(number) => {
                text.replace("{number}", &number.to_string())
            }
            _ => text.to_owned(),
        }
    }

    fn line(self, indicator: &str, language: Language) -> Bytes {
        let text = self.text(language);
        Bytes::from(match self.code() {
            Some(code) => format!("{indicator} [{code}] {text}\r\n"),
            None => format!("{indicator} {text}\r\n"),
        })
    }

    /// What a program can act on. `AUTH` makes a client ask for the password again, `SYS/TEMP` lets it try later,
    /// `SYS/PERM` needs a person (RFC 3206 §4, §5).
    fn code(self) -> Option<&'static str> {
        match self {
            Self::ClearText | Self::WrongLogin | Self::NotPermitted | Self::TooManyLogins | Self::LoginEnded => {
                Some("AUTH")
            }
            Self::NoTls
            | Self::NoCertificate
            | Self::Busy
            | Self::Gone
            | Self::StoreFailed
            | Self::NotDeleted
            | Self::PerhapsDeleted
            | Self::ShuttingDown
            | Self::Idle => Some("SYS/TEMP"),
            Self::Damaged => Some("SYS/PERM"),
            Self::InUse => Some("IN-USE"),
            Self::TooSoon(_) => Some("LOGIN-DELAY"),
            Self::NeedsUtf8 => Some("UTF8"),
            _ => None,
        }
    }

    fn texts(self) -> Texts {
        self.positive().or_else(|| self.wrong_line()).or_else(|| self.wrong_moment()).unwrap_or_else(|| self.refusal())
    }

    fn positive(self) -> Option<Texts> {
        Some(match self {
            Self::Bye => ["bye", "auf Wiedersehen", "au revoir"],
            Self::Capabilities => ["capability list follows", "es folgen die Fähigkeiten", "liste des capacités"],
            Self::Languages => ["language listing follows", "es folgen die Sprachen", "liste des langues"],
            Self::LanguageChosen => [
                "replies are in English now",
                "Antworten sind jetzt deutsch",
                "les réponses sont désormais en français",
            ],
            Self::Utf8Mode => ["UTF-8 from here on", "ab hier in UTF-8", "UTF-8 à partir d'ici"],
            Self::PasswordPlease => ["the password, please", "bitte das Passwort", "le mot de passe, s'il vous plaît"],
            Self::BeginTls => ["begin TLS", "TLS kann beginnen", "commencez TLS"],
            Self::Messages { .. } => [
                "{count} messages ({octets} octets)",
                "{count} Nachrichten ({octets} Oktette)",
                "{count} messages ({octets} octets)",
            ],
            Self::UniqueIds => {
                ["unique-id listing follows", "es folgen die Kennungen", "liste des identifiants uniques"]
            }
            Self::Octets(_) => ["{number} octets", "{number} Oktette", "{number} octets"],
            Self::TopFollows => ["the top follows", "es folgt der Anfang", "voici le début"],
            Self::Marked(_) => [
                "message {number} marked; QUIT deletes it",
                "Nachricht {number} vorgemerkt; QUIT löscht sie",
                "message {number} marqué ; QUIT le supprime",
            ],
            Self::NothingMarked => {
                ["no message is marked", "keine Nachricht ist vorgemerkt", "aucun message n'est marqué"]
            }
            Self::NothingDone => ["nothing done", "nichts getan", "rien n'a été fait"],
            Self::Deleted(_) => [
                "{number} messages deleted, bye",
                "{number} Nachrichten gelöscht, auf Wiedersehen",
                "{number} messages supprimés, au revoir",
            ],
            _ => return None,
        })
    }

    fn wrong_line(self) -> Option<Texts> {
        Some(match self {
            Self::OneLine => [
                "a command is one line of text that ends with CRLF",
                "ein Befehl ist eine Textzeile, die mit CRLF endet",
                "une commande est une ligne de texte terminée par CRLF",
            ],
            Self::UnknownCommand => ["unknown command", "unbekannter Befehl", "commande inconnue"],
            Self::TooLong => [
                "the line is too long; a command has at most 255 octets",
                "die Zeile ist zu lang; ein Befehl hat höchstens 255 Oktette",
                "la ligne est trop longue ; une commande a au plus 255 octets",
            ],
            Self::NoArgument => [
                "this command takes no argument",
                "dieser Befehl hat kein Argument",
                "cette commande n'a pas d'argument",
            ],
            Self::LoginWanted => [
                "USER needs the address of a mailbox",
                "USER braucht die Adresse eines Postfachs",
                "USER veut l'adresse d'une boîte aux lettres",
            ],
            Self::PasswordWanted => ["PASS needs a password", "PASS braucht ein Passwort", "PASS veut un mot de passe"],
            Self::MechanismWanted => [
                "AUTH needs a mechanism; CAPA lists those that there are",
                "AUTH braucht ein Verfahren; CAPA nennt, welche es gibt",
                "AUTH veut un mécanisme ; CAPA donne ceux qui existent",
            ],
            Self::NumberWanted => [
                "a message number is wanted",
                "hier fehlt die Nummer einer Nachricht",
                "il manque le numéro d'un message",
            ],
            Self::TopWanted => [
                "TOP needs a message number and a number of lines",
                "TOP braucht die Nummer einer Nachricht und eine Anzahl von Zeilen",
                "TOP veut le numéro d'un message et un nombre de lignes",
            ],
            _ => return None,
        })
    }

    fn wrong_moment(self) -> Option<Texts> {
        Some(match self {
            Self::LogInFirst => ["log in first", "zuerst anmelden", "identifiez-vous d'abord"],
            Self::LoggedInAlready => {
                ["you have logged in already", "Sie sind schon angemeldet", "vous êtes déjà identifié"]
            }
            Self::UserFirst => ["USER comes before PASS", "USER kommt vor PASS", "USER vient avant PASS"],
            Self::NoSuchMessage => ["no such message", "diese Nachricht gibt es nicht", "ce message n'existe pas"],
            Self::UnknownLanguage => [
                "this language is not spoken here; LANG lists those that are",
                "diese Sprache wird hier nicht gesprochen; LANG nennt die anderen",
                "cette langue n'est pas parlée ici ; LANG donne les autres",
            ],
            Self::TlsInUse => ["TLS is in use already", "TLS besteht schon", "TLS est déjà en place"],
            Self::TlsAfterUtf8 => ["STLS comes before UTF8", "STLS kommt vor UTF8", "STLS vient avant UTF8"],
            Self::NoCertificate => [
                "this server has no certificate now",
                "dieser Server hat jetzt kein Zertifikat",
                "ce serveur n'a pas de certificat en ce moment",
            ],
            Self::Cancelled => ["AUTH was cancelled", "AUTH wurde abgebrochen", "AUTH est abandonné"],
            Self::NotBase64 => {
                ["the answer is not base64", "die Antwort ist kein Base64", "la réponse n'est pas en base64"]
            }
            Self::UnknownMechanism => [
                "the mechanism is not known here; CAPA lists those that are",
                "dieses Verfahren ist hier unbekannt; CAPA nennt die bekannten",
                "ce mécanisme est inconnu ici ; CAPA donne ceux qui existent",
            ],
            Self::NotCredentials => [
                "the answer is not that of the mechanism: a login and its password, and nobody else's name",
                "die Antwort ist nicht die des Verfahrens: Anmeldename und Passwort, und niemandes anderen Name",
                "la réponse n'est pas celle du mécanisme : un nom et son mot de passe, et le nom de personne d'autre",
            ],
            Self::TooManyErrors => [
                "too many errors; closing",
                "zu viele Fehler; die Verbindung endet",
                "trop d'erreurs ; fin de la connexion",
            ],
            _ => return None,
        })
    }

    fn refusal(self) -> Texts {
        match self {
            Self::ClearText => [
                "passwords are taken under TLS only: use STLS first, or the POP3S port",
                "Passwörter nur unter TLS: zuerst STLS, oder der Port von POP3S",
                "mots de passe sous TLS seulement : d'abord STLS, ou le port POP3S",
            ],
            Self::NoTls => [
                "this server has no certificate now, and takes passwords under TLS only",
                "dieser Server hat jetzt kein Zertifikat und nimmt Passwörter nur unter TLS",
                "ce serveur n'a pas de certificat en ce moment, et ne prend les mots de passe que sous TLS",
            ],
            Self::WrongLogin => [
                "the login or the password is wrong",
                "Anmeldename oder Passwort ist falsch",
                "le nom ou le mot de passe est faux",
            ],
            Self::NotPermitted => [
                "this mailbox may not use this protocol, or is suspended; its administrator can tell",
                "dieses Postfach darf dieses Protokoll nicht benutzen oder ist gesperrt; sein Verwalter weiß mehr",
                "cette boîte ne peut pas employer ce protocole, ou est suspendue ; son administrateur en sait plus",
            ],
            Self::Busy => [
                "too many logins at once; try again later",
                "zu viele Anmeldungen zugleich; bitte später",
                "trop d'identifications à la fois ; réessayez plus tard",
            ],
            Self::TooSoon(_) => [
                "the last login was moments ago; wait {number} seconds",
                "die letzte Anmeldung ist kaum her; bitte {number} Sekunden warten",
                "la dernière identification est trop récente ; attendez {number} secondes",
            ],
            Self::TooManyLogins => [
                "too many failed logins; closing",
                "zu viele falsche Anmeldungen; die Verbindung endet",
                "trop d'identifications fausses ; fin de la connexion",
            ],
            Self::LoginEnded => [
                "your password or your rights have changed; log in again",
                "Ihr Passwort oder Ihre Rechte sind andere; bitte neu anmelden",
                "votre mot de passe ou vos droits ont changé ; identifiez-vous de nouveau",
            ],
            other => other.failure(),
        }
    }

    fn failure(self) -> Texts {
        match self {
            Self::InUse => [
                "the maildrop is open in another session",
                "das Postfach ist in einer anderen Sitzung offen",
                "la boîte est ouverte dans une autre session",
            ],
            Self::Damaged => [
                "the mail store is damaged; the administrator has to act",
                "der Speicher ist beschädigt; der Verwalter muss handeln",
                "le stockage est abîmé ; l'administrateur doit agir",
            ],
            Self::Gone => ["the message is gone", "die Nachricht ist fort", "le message n'est plus là"],
            Self::NotDeleted => [
                "no message was deleted; try again later",
                "keine Nachricht wurde gelöscht; bitte später",
                "aucun message n'a été supprimé ; réessayez plus tard",
            ],
            Self::PerhapsDeleted => [
                "the mail store failed: all marked messages are deleted or none; log in again to see which",
                "der Speicher versagte: alle vorgemerkten Nachrichten sind gelöscht oder keine; neu anmelden zeigt es",
                "le stockage a échoué : tous les messages marqués sont supprimés ou aucun ; un nouvel accès le dira",
            ],
            Self::NeedsUtf8 => [
                "this header cannot be shown in ASCII; give UTF8 before the login",
                "dieser Kopf ist in ASCII nicht darstellbar; UTF8 vor der Anmeldung geben",
                "cet en-tête ne peut être montré en ASCII ; donnez UTF8 avant de vous identifier",
            ],
            Self::ShuttingDown => [
                "the server is shutting down; nothing was deleted",
                "der Server wird beendet; nichts wurde gelöscht",
                "le serveur s'arrête ; rien n'a été supprimé",
            ],
            Self::Idle => [
                "nothing was said for too long; closing, nothing was deleted",
                "zu lange wurde nichts gesagt; die Verbindung endet, nichts wurde gelöscht",
                "rien n'a été dit pendant trop longtemps ; fin de la connexion, rien n'a été supprimé",
            ],
            _ => [
                "the mail store cannot answer now; try again later",
                "der Speicher kann jetzt nicht antworten; bitte später",
                "le stockage ne peut répondre maintenant ; réessayez plus tard",
            ],
        }
    }
}

impl From<Failure> for Phrase {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Rejected => Self::WrongLogin,
            Failure::NotPermitted => Self::NotPermitted,
            Failure::Busy => Self::Busy,
        }
    }
}

impl From<&StoreError> for Phrase {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::MaildropInUse => Self::InUse,
            StoreError::Corrupt(_) => Self::Damaged,
            StoreError::NotFound => Self::Gone,
            StoreError::DiskFull | StoreError::OverQuota(_) | StoreError::Volume(_) | StoreError::Failed(_) => {
                Self::StoreFailed
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[Phrase] = &[
        Phrase::Bye,
        Phrase::Capabilities,
        Phrase::Languages,
        Phrase::LanguageChosen,
        Phrase::Utf8Mode,
        Phrase::PasswordPlease,
        Phrase::BeginTls,
        Phrase::Messages { count: u64::MAX, octets: u64::MAX },
        Phrase::UniqueIds,
        Phrase::Octets(u64::MAX),
        Phrase::TopFollows,
        Phrase::Marked(u64::MAX),
        Phrase::NothingMarked,
        Phrase::NothingDone,
        Phrase::Deleted(u64::MAX),
        Phrase::OneLine,
        Phrase::UnknownCommand,
        Phrase::TooLong,
        Phrase::NoArgument,
        Phrase::LoginWanted,
        Phrase::PasswordWanted,
        Phrase::MechanismWanted,
        Phrase::NumberWanted,
        Phrase::TopWanted,
        Phrase::LogInFirst,
        Phrase::LoggedInAlready,
        Phrase::UserFirst,
        Phrase::NoSuchMessage,
        Phrase::UnknownLanguage,
        Phrase::TlsInUse,
        Phrase::TlsAfterUtf8,
        Phrase::NoCertificate,
        Phrase::Cancelled,
        Phrase::NotBase64,
        Phrase::UnknownMechanism,
        Phrase::NotCredentials,
        Phrase::TooManyErrors,
        Phrase::ClearText,
        Phrase::NoTls,
        Phrase::WrongLogin,
        Phrase::NotPermitted,
        Phrase::Busy,
        Phrase::TooSoon(u64::MAX),
        Phrase::TooManyLogins,
        Phrase::LoginEnded,
        Phrase::InUse,
        Phrase::Damaged,
        Phrase::Gone,
        Phrase::StoreFailed,
        Phrase::NotDeleted,
        Phrase::PerhapsDeleted,
        Phrase::NeedsUtf8,
        Phrase::ShuttingDown,
        Phrase::Idle,
    ];

    /// RFC 1939 §3: a reply has at most 512 octets; RFC 2277 §4.5: the default language is readable as ASCII.
    #[test]
    fn every_phrase_is_one_short_line_in_every_language_and_the_default_is_ascii() {
        for phrase in ALL {
            for language in Language::ALL {
                let line = phrase.err(language);
                assert!(line.len() <= 512 && line.ends_with(b"\r\n"), "{phrase:?}");
                assert!(!line[..line.len() - 2].iter().any(u8::is_ascii_control), "{phrase:?}");
                assert!(!line.contains(&b'{') && std::str::from_utf8(&line).is_ok(), "{phrase:?}");
            }
            assert!(phrase.err(Language::Default).is_ascii(), "{phrase:?}");
        }
    }

    #[test]
    fn the_code_is_the_same_in_every_language() {
        for phrase in ALL {
            let code = |language| {
                let line = String::from_utf8(phrase.err(language).to_vec()).unwrap();
                line.split(' ').nth(1).filter(|word| word.starts_with('[')).map(str::to_owned)
            };
            assert!(Language::ALL.into_iter().all(|language| code(language) == code(Language::Default)), "{phrase:?}");
        }
    }
}
