//! MAIL and RCPT as they are written to a server, with the parameters of the extensions that it offers. Pure. Used by
//! [`super::machine`].

use std::fmt::Write;

use super::capabilities::Capabilities;
use super::machine::Transaction;
use crate::store::envelope::{ByMode, Notify, OriginalRecipient, Ret};
use crate::store::{BodyType, RemoteRecipient};

/// `MAIL FROM:<…> …`, with its line end.
#[must_use]
pub fn mail(transaction: &Transaction, offered: &Capabilities) -> String {
    let declared = &transaction.declared;
    let path = transaction.reverse_path.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut command = format!("MAIL FROM:<{path}>");
    // Writing to a String cannot fail, here and below.
    if offered.size_offered {
        let _ = write!(command, " SIZE={}", transaction.octets);
    }
    match declared.body {
        BodyType::BinaryMime => command.push_str(" BODY=BINARYMIME"),
        BodyType::EightBitMime if offered.eight_bit => command.push_str(" BODY=8BITMIME"),
        _ => {}
    }
    if offered.smtputf8 && declared.smtputf8 {
        command.push_str(" SMTPUTF8");
    }
    if offered.require_tls && declared.require_tls {
        command.push_str(" REQUIRETLS");
    }
    if let Some(priority) = declared.priority.filter(|_| offered.priority) {
        let _ = write!(command, " MT-PRIORITY={priority}");
    }
    if offered.dsn {
        match declared.ret {
            Some(Ret::Full) => command.push_str(" RET=FULL"),
            Some(Ret::Headers) => command.push_str(" RET=HDRS"),
            None => {}
        }
        if let Some(id) = &declared.envelope_id {
            let _ = write!(command, " ENVID={}", xtext(id));
        }
    }
    if let (Some(by), Some(seconds), Some(_)) = (declared.deliver_by, transaction.seconds_left, offered.deliver_by) {
        let mode = if by.mode == ByMode::Return { 'R' } else { 'N' };
        // RFC 2852 §4: nine digits.
        let seconds = seconds.clamp(-999_999_999, 999_999_999);
        let _ = write!(command, " BY={seconds};{mode}{}", if by.trace { "T" } else { "" });
    }
    command.push_str("\r\n");
    command
}

/// `RCPT TO:<…> …`, with its line end. `smtputf8` says whether the transaction is internationalised.
#[must_use]
pub fn rcpt(recipient: &RemoteRecipient, offered: &Capabilities, smtputf8: bool) -> String {
    let mut command = format!("RCPT TO:<{}>", recipient.address);
    if offered.dsn {
        let notify = notify(recipient.notify);
        if !notify.is_empty() {
            let _ = write!(command, " NOTIFY={notify}");
        }
        if let Some(original) = recipient.original.as_ref().and_then(|original| original_recipient(original, smtputf8))
        {
            let _ = write!(command, " ORCPT={original}");
        }
    }
    command.push_str("\r\n");
    command
}

fn notify(notify: Notify) -> String {
    match notify {
        Notify::Unspecified => String::new(),
        Notify::Never => "NEVER".to_owned(),
        Notify::On { success, failure, delay } => {
            let words = [(success, "SUCCESS"), (failure, "FAILURE"), (delay, "DELAY")];
            words.iter().filter(|(wanted, _)| *wanted).map(|(_, word)| *word).collect::<Vec<_>>().join(",")
        }
    }
}

/// `type;address`, encoded; `None` when the address cannot be written in its type.
fn original_recipient(original: &OriginalRecipient, smtputf8: bool) -> Option<String> {
    let encoded = if original.kind.eq_ignore_ascii_case("utf-8") {
        utf8_address(&original.address, smtputf8)
    } else {
        original.address.is_ascii().then(|| xtext(&original.address))?
    };
    Some(format!("{};{encoded}", original.kind))
}

/// RFC 3461 §4.
fn xtext(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, octet| {
        match octet {
            b'+' | b'=' => {
                let _ = write!(out, "+{octet:02X}");
            }
            b'!'..=b'~' => out.push(char::from(octet)),
            _ => {
                let _ = write!(out, "+{octet:02X}");
            }
        }
        out
    })
}

/// RFC 6533 §3: utf-8-addr-unitext to a server of SMTPUTF8, else utf-8-addr-xtext.
fn utf8_address(address: &str, smtputf8: bool) -> String {
    address.chars().fold(String::new(), |mut out, c| {
        match c {
            '\\' | '+' | '=' => {
                let _ = write!(out, "\\x{{{:X}}}", u32::from(c));
            }
            '!'..='~' => out.push(c),
            _ if smtputf8 && !c.is_ascii() && !c.is_control() => out.push(c),
            _ => {
                let _ = write!(out, "\\x{{{:X}}}", u32::from(c));
            }
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use paquebot_config::Address;
    use proptest::prelude::*;

    use super::*;
    use crate::store::Declared;
    use crate::store::envelope::DeliverBy;

    fn everything() -> Capabilities {
        Capabilities::read(
            &[
                "SIZE",
                "8BITMIME",
                "SMTPUTF8",
                "DSN",
                "REQUIRETLS",
                "MT-PRIORITY",
                "DELIVERBY 1",
                "CHUNKING",
                "BINARYMIME",
            ]
            .map(str::to_owned),
        )
    }

    fn transaction(declared: Declared) -> Transaction {
        Transaction {
            reverse_path: Some(Address::parse("tom@server1.com").unwrap()),
            recipients: Vec::new(),
            declared,
            header_is_ascii: true,
            octets: 10,
            seconds_left: Some(90),
        }
    }

    #[test]
    fn mail_says_what_was_declared_to_a_server_that_understands_it() {
        let declared = Declared {
            body: BodyType::BinaryMime,
            smtputf8: true,
            require_tls: true,
            priority: Some(-3),
            ret: Some(Ret::Headers),
            envelope_id: Some("QQ=314 159".to_owned()),
            hold_until: None,
            deliver_by: Some(DeliverBy { at: jiff::Timestamp::MAX, mode: ByMode::Return, trace: true }),
        };
        assert_eq!(
            mail(&transaction(declared.clone()), &everything()),
            "MAIL FROM:<tom@server1.com> SIZE=10 BODY=BINARYMIME SMTPUTF8 REQUIRETLS MT-PRIORITY=-3 RET=HDRS \
             ENVID=QQ+3D314+20159 BY=90;RT\r\n"
        );
        let declared = Declared { body: BodyType::EightBitMime, ..declared };
        assert_eq!(mail(&transaction(declared), &Capabilities::default()), "MAIL FROM:<tom@server1.com>\r\n");
        assert_eq!(mail(&transaction(Declared::default()), &everything()), "MAIL FROM:<tom@server1.com> SIZE=10\r\n");
    }

    #[test]
    fn rcpt_says_when_to_notify_and_who_was_meant() {
        let original =
            |kind: &str, address: &str| Some(OriginalRecipient { kind: kind.to_owned(), address: address.to_owned() });
        let recipient = RemoteRecipient {
            notify: Notify::On { success: true, failure: false, delay: true },
            original: original("rfc822", "a+b=c@x.example"),
            ..Address::parse("a@x.example").unwrap().into()
        };
        let wanted = "RCPT TO:<a@x.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb+3Dc@x.example\r\n";
        assert_eq!(rcpt(&recipient, &everything(), false), wanted);
        assert_eq!(rcpt(&recipient, &Capabilities::default(), false), "RCPT TO:<a@x.example>\r\n");
        let international = RemoteRecipient { original: original("utf-8", "\u{e4}+@x.example"), ..recipient };
        assert!(rcpt(&international, &everything(), true).ends_with(" ORCPT=utf-8;\u{e4}\\x{2B}@x.example\r\n"));
        assert!(rcpt(&international, &everything(), false).ends_with(" ORCPT=utf-8;\\x{E4}\\x{2B}@x.example\r\n"));
        let never = RemoteRecipient { notify: Notify::Never, original: None, ..international };
        assert_eq!(rcpt(&never, &everything(), false), "RCPT TO:<a@x.example> NOTIFY=NEVER\r\n");
    }

    proptest! {
        #[test]
        fn no_parameter_breaks_out_of_its_place(id in ".{0,40}", address in ".{0,40}", smtputf8: bool, kind in "rfc822|utf-8") {
            let declared = Declared { envelope_id: Some(id), ..Declared::default() };
            let command = mail(&transaction(declared), &everything());
            prop_assert_eq!(command.split(' ').count(), 4);
            prop_assert!(command.ends_with("\r\n") && !command[..command.len() - 2].contains(|c: char| c.is_control()));
            let recipient = RemoteRecipient {
                original: Some(OriginalRecipient { kind, address }),
                ..Address::parse("a@x.example").unwrap().into()
            };
            let command = rcpt(&recipient, &everything(), smtputf8);
            prop_assert!(command.split(' ').count() <= 3);
            prop_assert!(command.matches("\r\n").count() == 1 && !command[..command.len() - 2].contains(|c: char| c.is_ascii_control()));
        }
    }
}
