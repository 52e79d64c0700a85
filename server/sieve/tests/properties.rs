//! Any text, any script and any message: an error with a valid place, or an outcome; never a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use paquebot_sieve::{Delivery, Limits, Message, Nothing, compile, run};
use proptest::prelude::*;

const REQUIRE: &str = "require [\"body\",\"comparator-i;ascii-numeric\",\"copy\",\"date\",\"duplicate\",\"editheader\",\
    \"encoded-character\",\"envelope\",\"environment\",\"ereject\",\"fileinto\",\"ihave\",\"index\",\"mailbox\",\"reject\",\
    \"relational\",\"subaddress\",\"vacation\",\"vacation-seconds\",\"variables\"];";

/// Words of the language in any order: most are wrong, and wrong in many ways.
fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "require",
        "if",
        "elsif",
        "else",
        "keep",
        "discard",
        "stop",
        "fileinto",
        "redirect",
        "reject",
        "set",
        "vacation",
        "addheader",
        "deleteheader",
        "header",
        "address",
        "envelope",
        "body",
        "string",
        "date",
        "currentdate",
        "exists",
        "size",
        "not",
        "anyof",
        "allof",
        "true",
        "false",
        "duplicate",
        "mailboxexists",
        "ihave",
        "error",
        ":is",
        ":contains",
        ":matches",
        ":count",
        ":value",
        ":comparator",
        ":index",
        ":last",
        ":copy",
        ":create",
        ":over",
        ":raw",
        ":text",
        ":content",
        ":zone",
        ":days",
        ":mime",
        "\"a\"",
        "\"*?*\"",
        "\"${a}${1}\"",
        "\"ge\"",
        "\"i;octet\"",
        "\"from\"",
        "\"a@b.c\"",
        "\"year\"",
        "1",
        "10K",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        ";",
        ",",
        ";",
        "{",
        "}",
        "text:\na\n.\n",
        "# c\n",
        "/*",
        "*/",
        "\"",
        "\u{e9}",
        "\\",
    ]);
    prop::collection::vec(word, 0..40).prop_map(|words| words.join(" "))
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z*?@. \\[\\]é]{0,12}",
        Just("${1}${a}".to_owned()),
        Just("${hex:41}${unicode:1f600}".to_owned()),
        Just("*".to_owned()),
        Just("from".to_owned()),
        Just("subject".to_owned()),
    ]
    .prop_map(|text: String| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// A line that is right but for its texts.
fn line() -> impl Strategy<Value = String> {
    let test = prop_oneof![
        (
            prop::sample::select(vec![":is", ":contains", ":matches", ":value \"lt\"", ":count \"ge\""]),
            text(),
            text(),
            text()
        )
            .prop_map(|(how, name, one, two)| format!("header {how} [\"subject\", {name}] [{one}, {two}]")),
        (prop::sample::select(vec![":all", ":user", ":detail", ":domain"]), text())
            .prop_map(|(part, key)| format!("address :matches {part} [\"to\", \"from\"] {key}")),
        text().prop_map(|key| format!("body :text :matches {key}")),
        text().prop_map(|key| format!("body :content \"\" :contains {key}")),
        (text(), text()).prop_map(|(value, key)| format!("string :matches {value} {key}")),
        text().prop_map(|key| format!("date :originalzone :matches \"date\" \"std11\" {key}")),
        text().prop_map(|id| format!("duplicate :uniqueid {id}")),
        Just("envelope :detail :matches \"to\" \"*\"".to_owned()),
    ];
    let action = prop_oneof![
        text().prop_map(|folder| format!("fileinto {folder};")),
        text().prop_map(|value| format!("set :quotewildcard \"a\" {value};")),
        text().prop_map(|value| format!("addheader \"X-A\" {value};")),
        text().prop_map(|value| format!("deleteheader :matches \"subject\" {value};")),
        text().prop_map(|value| format!("vacation {value};")),
        text().prop_map(|value| format!("redirect :copy {value};")),
        Just("keep;".to_owned()),
    ];
    (test, action.clone(), action).prop_map(|(test, one, two)| format!("if {test} {{ {one} }} {two}\n"))
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "Subject: ",
            "To: ",
            "From: ",
            "Date: ",
            "\r\n",
            "\r\n",
            "\r\n\r\n",
            "\n ",
            "=?utf-8?q?=C3?=",
            " =?utf-8?b?qQ==?= ",
            "<a@b.c>",
            "\"q\\",
            "(((",
            "Group: a@b;",
            ",",
            "Content-Type: multipart/mixed; boundary=b",
            "--b",
            "--b--",
            "Content-Transfer-Encoding: base64",
            "aGVsbG8=",
            "Mon, 23 Nov 2026 18:07:09 -0500",
            "Content-Type: message/rfc822",
            ":",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

fn check(script: &str, octets: &[u8]) -> Result<(), TestCaseError> {
    let limits = Limits::default();
    match compile(script, &limits) {
        Err(error) => {
            // The place is in the script, or just behind its last character.
            let lines: Vec<&str> = script.split('\n').collect();
            let line = usize::try_from(error.line).unwrap();
            prop_assert!((1..=lines.len()).contains(&line), "{error}");
            let column = usize::try_from(error.column).unwrap();
            prop_assert!((1..=lines[line - 1].chars().count() + 1).contains(&column), "{error}\n{script}");
            prop_assert!(!error.message.is_empty());
        }
        Ok(script) => {
            let message = Message::new(octets, octets.len() as u64);
            let delivery = Delivery {
                reverse_path: "tom@server2.com",
                recipient: "anna+x@server1.com",
                addresses: &[],
                separator: "+",
                now: 0,
                utc_offset: 0,
            };
            let outcome = run(&script, &message, &delivery, &Nothing, &limits);
            prop_assert!(outcome.error.is_none() || outcome.is_kept());
            prop_assert!(outcome.actions.len() <= limits.actions + 1);
            prop_assert!(message.body_offset() <= octets.len());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 1_000 } else { 100_000 }))]

    #[test]
    fn any_text_is_a_script_or_an_error_with_its_place(script in any::<String>()) {
        check(&script, b"Subject: a\r\n\r\n")?;
    }

    #[test]
    fn any_words_are_a_script_or_an_error_with_its_place(script in words(), message in message()) {
        check(&script, &message)?;
        check(&format!("{REQUIRE}{script}"), &message)?;
    }

    #[test]
    fn any_script_runs_on_any_message(lines in prop::collection::vec(line(), 1..6), message in message()) {
        check(&format!("{REQUIRE}{}", lines.concat()), &message)?;
    }
}
