//! What is converted decodes to what it was. The decoder is another's: mail-parser.

use mail_parser::{MessageParser, MimeHeaders, PartType};
use proptest::prelude::*;

use super::*;

fn converted(message: &[u8], target: Target) -> String {
    String::from_utf8(convert(message, target).unwrap()).unwrap()
}

#[test]
fn rfc_6152_text_becomes_quoted_printable_and_stays_readable() {
    let message = "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
                   Content-Transfer-Encoding: 8bit\r\n\r\nGr\u{fc}\u{df}e = from\r\nFrom me \r\n.\r\nend";
    assert_eq!(
        converted(message.as_bytes(), Target::SevenBit),
        "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe =3D from\r\n=46rom me=20\r\n=2E\r\nend"
    );
}

#[test]
fn rfc_1428_a_message_that_is_not_mime_becomes_it() {
    let fields = |charset: &str| {
        format!(
            "Subject: x\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\
             Content-Type: text/plain; charset={charset}\r\n\r\n"
        )
    };
    let utf8 = converted("Subject: x\r\n\r\n\u{e4}\r\n".as_bytes(), Target::SevenBit);
    assert_eq!(utf8, fields("utf-8") + "=C3=A4\r\n");
    assert_eq!(converted(b"Subject: x\r\n\r\n\xe4\r\n", Target::SevenBit), fields("unknown-8bit") + "=E4\r\n");
}

#[test]
fn only_the_parts_that_do_not_fit_are_touched() {
    let message = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"a b\"\r\n\
                   Content-Transfer-Encoding: 8bit\r\n\r\npreamble\r\n--a b\r\n\r\nplain  \r\n--a b \r\n\
                   Content-Type: Application/Octet-Stream\r\nContent-Transfer-Encoding: binary\r\n\r\n\u{e4}\r\n\
                   --a b--\r\nepilogue\r\n";
    assert_eq!(
        converted(message.as_bytes(), Target::SevenBit),
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"a b\"\r\n\
         Content-Transfer-Encoding: 7bit\r\n\r\npreamble\r\n--a b\r\n\r\nplain  \r\n--a b \r\n\
         Content-Type: Application/Octet-Stream\r\nContent-Transfer-Encoding: base64\r\n\r\nw6Q=\r\n\
         --a b--\r\nepilogue\r\n"
    );
}

#[test]
fn rfc_3030_binary_content_becomes_lines_for_a_server_of_8bitmime() {
    let message = b"MIME-Version: 1.0\r\nContent-Type: image/x\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\n\r\xff";
    let converted = converted(message, Target::EightBit);
    assert!(converted.ends_with("Content-Transfer-Encoding: base64\r\n\r\nAAoN/w=="), "{converted}");
    let text = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: binary\r\n\r\n\u{e4}\r\n";
    assert_eq!(convert(text.as_bytes(), Target::EightBit).unwrap(), text.as_bytes(), "8-bit lines fit");
}

#[test]
fn messages_inside_messages_are_converted_too() {
    let message = "MIME-Version: 1.0\r\nContent-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\n\
                   Subject: inner\r\n\r\n\u{e4}\r\n--b--\r\n";
    let converted = converted(message.as_bytes(), Target::SevenBit);
    assert!(converted.is_ascii());
    assert!(
        converted.contains("Subject: inner\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n")
    );
    assert!(converted.contains("=C3=A4\r\n--b--\r\n"), "{converted}");
}

#[test]
fn what_must_not_be_changed_or_cannot_be_is_refused() {
    let refused = |message: &str| convert(message.as_bytes(), Target::SevenBit).unwrap_err();
    let signed =
        |kind: &str| format!("Content-Type: multipart/{kind}; boundary=b\r\n\r\n--b\r\n\r\n\u{e4}\r\n--b--\r\n");
    assert_eq!(refused(&signed("signed")), Unconvertible::Signed);
    assert_eq!(refused(&signed("Encrypted")), Unconvertible::Signed);
    let ascii = signed("signed").replace('\u{e4}', "a");
    assert_eq!(converted(ascii.as_bytes(), Target::SevenBit), ascii, "there is nothing to do");
    assert_eq!(refused("Subject: \u{e4}\r\n\r\nx\r\n"), Unconvertible::Header);
    for malformed in [
        "Content-Transfer-Encoding: base64\r\n\r\n\u{e4}\r\n",
        "Content-Transfer-Encoding: x-own\r\n\r\n\u{e4}\r\n",
        "Content-Type: multipart/mixed\r\n\r\n\u{e4}\r\n",
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n\u{e4}\r\n",
        "Content-Type: message/delivery-status\r\n\r\n\u{e4}\r\n",
    ] {
        assert_eq!(refused(malformed), Unconvertible::Malformed, "{malformed}");
    }
    let deep = "Content-Type: message/rfc822\r\n\r\n".repeat(DEEPEST + 2) + "\r\n\u{e4}";
    assert_eq!(refused(&deep), Unconvertible::TooDeep);
}

#[test]
fn rfc_3030_what_is_not_encoded_must_be_lines() {
    let smuggled = "X: a\n.\nMAIL FROM:<tom@server1.com>\r\n";
    let part = |header: &str, end: &str| {
        format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{header}\r\n\u{e4}\r\n--b--{end}")
    };
    let long = format!("X: {}\r\n", "a".repeat(998));
    for malformed in [
        smuggled.to_owned(),
        format!("{smuggled}\r\nbody\r\n"),
        format!("{smuggled}\r\n\u{e4}\r\n"),
        "X: a\r.\r\n\r\n\u{e4}".to_owned(),
        "X: a\0\r\n\r\nbody".to_owned(),
        format!("{long}\r\nbody"),
        part(smuggled, "\r\n"),
        part("", "\n.\n"),
        format!("Content-Type: message/rfc822\r\n\r\n{smuggled}\r\n\u{e4}"),
    ] {
        for target in [Target::SevenBit, Target::EightBit] {
            let refused = convert(malformed.as_bytes(), target);
            assert_eq!(refused, Err(Unconvertible::Malformed), "{malformed:?}");
        }
    }
}

#[test]
fn a_part_that_ends_without_a_line_end_does_not_take_the_delimiter_with_it() {
    let message = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n\u{e4}\n--b--\r\n";
    let converted = converted(message.as_bytes(), Target::SevenBit);
    assert!(converted.ends_with("\r\n--b--\r\n"), "{converted}");
}

/// A message of this shape.
#[derive(Debug, Clone)]
enum Shape {
    Text(String),
    Binary(Vec<u8>),
    Parts(Vec<Shape>),
    Message(Box<Shape>),
}

impl Shape {
    fn write(&self, depth: usize, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                out.extend_from_slice(
                    b"Content-Type: text/plain;\r\n charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n",
                );
                out.extend_from_slice(text.as_bytes());
            }
            Self::Binary(octets) => {
                let header = "Content-Type: application/x\r\nContent-Disposition: attachment\r\n\
                              Content-Transfer-Encoding: binary\r\n\r\n";
                out.extend_from_slice(header.as_bytes());
                out.extend_from_slice(octets);
            }
            Self::Parts(parts) => {
                out.extend_from_slice(
                    format!("Content-Type: multipart/mixed; boundary=\"=b{depth}\"\r\n\r\n").as_bytes(),
                );
                for part in parts {
                    out.extend_from_slice(format!("\r\n--=b{depth}\r\n").as_bytes());
                    part.write(depth + 1, out);
                }
                out.extend_from_slice(format!("\r\n--=b{depth}--\r\n").as_bytes());
            }
            Self::Message(inner) => {
                out.extend_from_slice(b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\nMIME-Version: 1.0\r\n");
                inner.write(depth + 1, out);
            }
        }
    }

    fn message(&self) -> Vec<u8> {
        let mut out = b"Subject: outer\r\nMIME-Version: 1.0\r\n".to_vec();
        self.write(0, &mut out);
        out
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    let text = prop::collection::vec("[a-zF][a-zF. =\u{e4}\u{20ac}\t]{0,100}", 1..5)
        .prop_map(|lines| Shape::Text(lines.join("\r\n")));
    let binary = prop::collection::vec(any::<u8>(), 0..200).prop_map(Shape::Binary);
    prop_oneof![text, binary].prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Shape::Parts),
            inner.prop_map(|inner| Shape::Message(Box::new(inner))),
        ]
    })
}

/// The decoded leaves, as another parser sees them.
fn leaves(message: &mail_parser::Message<'_>, out: &mut Vec<(String, Vec<u8>)>) {
    for part in &message.parts {
        let kind = part.content_type().map(|kind| kind.ctype().to_owned()).unwrap_or_default();
        match &part.body {
            PartType::Message(inner) => leaves(inner, out),
            PartType::Multipart(_) => {}
            _ => out.push((kind, part.contents().to_vec())),
        }
    }
}

/// `None`: the other parser gives up on it, as on a multipart with a message that holds a message.
fn decoded(message: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let parsed = std::panic::catch_unwind(|| {
        let mut out = Vec::new();
        leaves(&MessageParser::default().parse(message).unwrap(), &mut out);
        out
    });
    parsed.ok()
}

proptest! {
    #[test]
    fn what_is_converted_decodes_to_what_it_was(shape in shapes(), to_seven_bit: bool) {
        let target = if to_seven_bit { Target::SevenBit } else { Target::EightBit };
        let message = shape.message();
        let converted = convert(&message, target).unwrap();
        prop_assert!(fits(&converted, target), "{}", String::from_utf8_lossy(&converted));
        let before = decoded(&message);
        prop_assume!(before.is_some());
        prop_assert_eq!(decoded(&converted), before);
        prop_assert_eq!(convert(&converted, target).unwrap(), converted, "a second time there is nothing to do");
    }

    #[test]
    fn any_octets_are_converted_or_refused(
        header in "(Content-[A-Za-z-]{0,20}: ?[ -~]{0,40}\r\n){0,3}",
        message in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        for target in [Target::SevenBit, Target::EightBit] {
            if let Ok(converted) = convert(&[header.as_bytes(), &message].concat(), target) {
                prop_assert!(fits(&converted, target), "{}", String::from_utf8_lossy(&converted));
            }
        }
    }

    #[test]
    fn whatever_ends_its_lines_is_converted_or_refused(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "\r\n", "\r\n", "\r\n\r\n", "\n", "\r", "\0", ".", "a", " ", "\u{e4}", "--b", "--b\r\n", "\r\n--b\r\n", "--b--", "X: y",
                "Content-Type: text/plain\r\n", "Content-Type: message/rfc822\r\n",
                "Content-Type: multipart/mixed; boundary=b\r\n\r\n",
            ]),
            0..24,
        ),
    ) {
        for target in [Target::SevenBit, Target::EightBit] {
            if let Ok(converted) = convert(pieces.concat().as_bytes(), target) {
                prop_assert!(fits(&converted, target), "{}", String::from_utf8_lossy(&converted));
            }
        }
    }
}
