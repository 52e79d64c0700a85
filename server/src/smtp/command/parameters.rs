//! The parameters of MAIL and RCPT, each as its extension's RFC writes it. Called by [`super::parse`].

use jiff::Timestamp;

use super::{By, CommandError, Hold, Mail, Offers, Recipient, xtext};
use crate::store::envelope::{BodyType, ByMode, Notify, OriginalRecipient, Ret};

/// Characters of an `ENVID=` (RFC 3461 §4.4), and of an `ORCPT=` (§4.2), as they are on the wire.
const LONGEST_ENVELOPE_ID: usize = 100;
const LONGEST_ORIGINAL: usize = 500;

type Taken = Result<(), CommandError>;

/// Takes a parameter of MAIL; the keyword is in upper case.
pub(super) fn mail(mail: &mut Mail, keyword: &str, value: Option<&str>, offers: Offers) -> Taken {
    match (keyword, value) {
        ("SIZE", Some(value)) => mail.size = Some(size(value).ok_or(CommandError::Arguments("SIZE=octets"))?),
        ("BODY", Some(value)) => mail.body = body(value).ok_or(CommandError::Parameter)?,
        ("SMTPUTF8", None) if offers.smtputf8 => mail.smtputf8 = true,
        ("REQUIRETLS", None) if offers.require_tls => mail.require_tls = true,
        // RFC 4954 §5: to be accepted by every server that has AUTH; what it asserts is not trusted, so it says nothing.
        ("AUTH", Some(_)) if offers.auth => {}
        ("RET", Some(value)) => mail.ret = Some(ret(value).ok_or(CommandError::Arguments("RET=FULL or RET=HDRS"))?),
        ("ENVID", Some(value)) => {
            let envelope_id = xtext::decode(value).filter(|_| value.len() <= LONGEST_ENVELOPE_ID);
            mail.envelope_id = Some(envelope_id.ok_or(CommandError::Arguments("ENVID=xtext, at most 100 characters"))?);
        }
        ("MT-PRIORITY", Some(value)) => {
            mail.priority = Some(priority(value).ok_or(CommandError::Arguments("MT-PRIORITY=-9 to 9"))?);
        }
        ("BY", Some(value)) => {
            mail.by = Some(by(value).ok_or(CommandError::Arguments("BY=seconds;R or N, with T for a trace"))?);
        }
        ("HOLDFOR" | "HOLDUNTIL", Some(value)) if offers.future_release => hold(mail, keyword, value)?,
        ("SIZE" | "RET" | "ENVID" | "MT-PRIORITY" | "BY", None) => {
            return Err(CommandError::Arguments(super::MAIL_USAGE));
        }
        _ => return Err(CommandError::Parameter),
    }
    Ok(())
}

/// Takes a parameter of RCPT; the keyword is in upper case.
pub(super) fn recipient(recipient: &mut Recipient, keyword: &str, value: Option<&str>, offers: Offers) -> Taken {
    match (keyword, value) {
        ("NOTIFY", Some(value)) => {
            let usage = CommandError::Arguments("NOTIFY=NEVER, or some of SUCCESS,FAILURE,DELAY");
            recipient.notify = notify(value).ok_or(usage)?;
        }
        ("ORCPT", Some(value)) => {
            let original = original(value, offers).filter(|_| value.len() <= LONGEST_ORIGINAL);
            recipient.original = Some(original.ok_or(CommandError::Arguments("ORCPT=rfc822;address in xtext"))?);
        }
        ("NOTIFY" | "ORCPT", None) => return Err(CommandError::Arguments(super::RCPT_USAGE)),
        _ => return Err(CommandError::Parameter),
    }
    Ok(())
}

/// RFC 1870 §3: 1 to 20 digits, which may be more than 64 bits hold.
fn size(value: &str) -> Option<u64> {
    digits(value, 20).then(|| value.parse().unwrap_or(u64::MAX))
}

fn digits(value: &str, most: usize) -> bool {
    (1..=most).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_digit())
}

fn body(value: &str) -> Option<BodyType> {
    match value.to_ascii_uppercase().as_str() {
        "7BIT" => Some(BodyType::SevenBit),
        "8BITMIME" => Some(BodyType::EightBitMime),
        "BINARYMIME" => Some(BodyType::BinaryMime),
        _ => None,
    }
}

fn ret(value: &str) -> Option<Ret> {
    match value.to_ascii_uppercase().as_str() {
        "FULL" => Some(Ret::Full),
        "HDRS" => Some(Ret::Headers),
        _ => None,
    }
}

/// RFC 6710 §3: `["-"] NZDIGIT / "0"`.
fn priority(value: &str) -> Option<i8> {
    let number = value.strip_prefix('-').unwrap_or(value);
    let valid = digits(number, 1) && value != "-0";
    valid.then(|| value.parse().ok()).flatten()
}

/// RFC 2852 §4: `["-" / "+"] 1*9DIGIT ";" mode ["T"]`. A message that is to go back at once has no time to be delivered.
fn by(value: &str) -> Option<By> {
    let (time, mode) = value.split_once(';')?;
    let number = time.strip_prefix(['-', '+']).unwrap_or(time);
    if !digits(number, 9) {
        return None;
    }
    let seconds: i64 = time.parse().ok()?;
    let (mode, trace) = match mode.to_ascii_uppercase().as_str() {
        "R" => (ByMode::Return, false),
        "RT" => (ByMode::Return, true),
        "N" => (ByMode::Notify, false),
        "NT" => (ByMode::Notify, true),
        _ => return None,
    };
    (mode == ByMode::Notify || seconds > 0).then_some(By { seconds, mode, trace })
}

/// RFC 4865 §4: one of the two, once.
fn hold(mail: &mut Mail, keyword: &str, value: &str) -> Taken {
    let hold = match keyword {
        "HOLDFOR" => digits(value, 9).then(|| value.parse().ok()).flatten().filter(|time| *time > 0).map(Hold::For),
        _ => date_time(value).map(Hold::Until),
    };
    let usage = CommandError::Arguments("HOLDFOR=seconds or HOLDUNTIL=2026-01-31T12:00:00Z, one of them");
    if mail.hold.is_some() {
        return Err(usage);
    }
    mail.hold = Some(hold.ok_or(usage)?);
    Ok(())
}

/// RFC 3339 in UTC or with an offset; nothing looser.
fn date_time(value: &str) -> Option<Timestamp> {
    let bytes = value.as_bytes();
    let shaped = bytes.len() >= 20 && bytes[4] == b'-' && bytes[7] == b'-' && matches!(bytes[10], b'T' | b't');
    shaped.then(|| value.parse().ok()).flatten()
}

/// RFC 3461 §4.1: NEVER alone, or each of the others at most once.
fn notify(value: &str) -> Option<Notify> {
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(Notify::Never);
    }
    let (mut success, mut failure, mut delay) = (false, false, false);
    for word in value.split(',') {
        let flag = match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => &mut success,
            "FAILURE" => &mut failure,
            "DELAY" => &mut delay,
            _ => return None,
        };
        if std::mem::replace(flag, true) {
            return None;
        }
    }
    Some(Notify::On { success, failure, delay })
}

/// RFC 3461 §4.2, RFC 6533 §3: `type;address`, the type an atom.
fn original(value: &str, offers: Offers) -> Option<OriginalRecipient> {
    let (kind, address) = value.split_once(';')?;
    let kind = kind.to_ascii_lowercase();
    let is_atom =
        (1..=32).contains(&kind.len()) && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let address = match kind.as_str() {
        "utf-8" if address.is_ascii() || offers.smtputf8 => xtext::decode_utf8_address(address),
        _ => xtext::decode(address),
    };
    let address = address.filter(|address| is_atom && !address.is_empty())?;
    Some(OriginalRecipient { kind, address })
}

#[cfg(test)]
mod tests {
    use super::super::{Command, parse};
    use super::*;
    use crate::smtp::path::ForwardPath;

    const EVERY: Offers = Offers { smtputf8: true, auth: true, require_tls: true, future_release: true };

    fn of_mail(parameters: &str) -> Option<Mail> {
        match parse(format!("MAIL FROM:<> {parameters}").as_bytes(), EVERY) {
            Ok(Command::Mail(mail)) => Some(mail),
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                assert!(matches!(error.reply().code(), 501 | 555), "{parameters}");
                None
            }
        }
    }

    fn of_recipient(parameters: &str) -> Option<Recipient> {
        match parse(format!("RCPT TO:<postmaster> {parameters}").as_bytes(), EVERY) {
            Ok(Command::Rcpt(recipient)) => Some(recipient),
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                assert!(matches!(error.reply().code(), 501 | 555), "{parameters}");
                None
            }
        }
    }

    #[test]
    fn everything_at_once() {
        let mail = of_mail(
            "SIZE=10 BODY=binarymime SMTPUTF8 REQUIRETLS RET=hdrs ENVID=QQ+2B1 MT-PRIORITY=-3 HOLDFOR=60 BY=120;RT AUTH=<>",
        );
        let expected = Mail {
            reverse_path: None,
            size: Some(10),
            body: BodyType::BinaryMime,
            smtputf8: true,
            require_tls: true,
            priority: Some(-3),
            ret: Some(Ret::Headers),
            envelope_id: Some("QQ+1".to_owned()),
            hold: Some(Hold::For(60)),
            by: Some(By { seconds: 120, mode: ByMode::Return, trace: true }),
        };
        assert_eq!(mail, Some(expected));
        let recipient = of_recipient("NOTIFY=success,DELAY ORCPT=rfc822;anna+2Blist@server1.com");
        let expected = Recipient {
            path: ForwardPath::Postmaster,
            notify: Notify::On { success: true, failure: false, delay: true },
            original: Some(OriginalRecipient {
                kind: "rfc822".to_owned(),
                address: "anna+list@server1.com".to_owned(),
            }),
        };
        assert_eq!(recipient, Some(expected));
    }

    #[test]
    fn values_that_are_refused() {
        let long = format!("ENVID={}", "x".repeat(101));
        for parameters in [
            "RET=ALL",
            "RET",
            "ENVID=a=b",
            "ENVID=+2b",
            "ENVID",
            &long,
            "MT-PRIORITY=10",
            "MT-PRIORITY=-0",
            "MT-PRIORITY=+1",
            "MT-PRIORITY=a",
            "BY=10",
            "BY=0;R",
            "BY=-1;R",
            "BY=10;X",
            "BY=;R",
            "BY=1234567890;N",
            "BY=--1;N",
            "HOLDFOR=0",
            "HOLDFOR=-1",
            "HOLDFOR=1234567890",
            "HOLDUNTIL=tomorrow",
            "HOLDUNTIL=2026-11-24",
            "HOLDFOR=1 HOLDUNTIL=2026-11-24T00:00:00Z",
            "HOLDFOR=1 HOLDFOR=1",
            "REQUIRETLS=1",
            "SMTPUTF8=1",
            "BODY",
            "RET=FULL RET=FULL",
        ] {
            assert_eq!(of_mail(parameters), None, "{parameters}");
        }
        let long = format!("ORCPT=rfc822;{}", "x".repeat(500));
        for parameters in [
            "NOTIFY=",
            "NOTIFY",
            "NOTIFY=NEVER,SUCCESS",
            "NOTIFY=SUCCESS,SUCCESS",
            "NOTIFY=SOMETIMES",
            "NOTIFY=SUCCESS,",
            "ORCPT=anna@server1.com",
            "ORCPT=;anna",
            "ORCPT=rfc822;",
            "ORCPT=rfc822;a+0Ab",
            "ORCPT=r_f;a",
            &long,
            "RET=FULL",
        ] {
            assert_eq!(of_recipient(parameters), None, "{parameters}");
        }
    }

    #[test]
    fn values_that_are_taken() {
        assert_eq!(of_mail("BY=-5;N").unwrap().by, Some(By { seconds: -5, mode: ByMode::Notify, trace: false }));
        assert_eq!(of_mail("BY=+5;nt").unwrap().by, Some(By { seconds: 5, mode: ByMode::Notify, trace: true }));
        assert_eq!(of_mail("MT-PRIORITY=9").unwrap().priority, Some(9));
        assert_eq!(of_mail("MT-PRIORITY=0").unwrap().priority, Some(0));
        let until = of_mail("HOLDUNTIL=2026-11-24T13:00:00+01:00").unwrap().hold;
        assert_eq!(until, Some(Hold::Until("2026-11-24T12:00:00Z".parse().unwrap())));
        assert_eq!(of_recipient("NOTIFY=never").unwrap().notify, Notify::Never);
        let original = of_recipient("ORCPT=utf-8;j\\x{E4}ck@server2.com").unwrap().original.unwrap();
        assert_eq!(original.to_text(), "utf-8;jäck@server2.com");
    }

    #[test]
    fn what_is_not_offered_is_not_recognized() {
        for parameters in ["SMTPUTF8", "REQUIRETLS", "HOLDFOR=5", "AUTH=<>"] {
            let line = format!("MAIL FROM:<> {parameters}");
            assert_eq!(parse(line.as_bytes(), Offers::default()), Err(CommandError::Parameter), "{parameters}");
        }
    }
}
