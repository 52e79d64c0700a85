//! The machine against servers that are no more than their replies, one after the other.

use jiff::Timestamp;
use paquebot_config::{Address, Login, SecretText};
use proptest::prelude::*;

use super::machine::{Outcome, Protection, Taker, Transaction};
use super::rehearsal;
use crate::store::envelope::{ByMode, DeliverBy, Notify};
use crate::store::{BodyType, Declared, RemoteRecipient};

/// What a conversation was, in words.
#[derive(Debug, PartialEq)]
struct Conversation {
    sent: String,
    refused: Option<String>,
    outcomes: Vec<Vec<Result<String, String>>>,
    open: bool,
}

fn recipients(list: &[&str]) -> Vec<RemoteRecipient> {
    list.iter().map(|text| Address::parse(text).unwrap().into()).collect()
}

fn transaction(list: &[&str]) -> Transaction {
    Transaction {
        reverse_path: Some(Address::parse("tom@server1.com").unwrap()),
        recipients: recipients(list),
        declared: Declared::default(),
        header_is_ascii: true,
        octets: 1000,
        seconds_left: None,
    }
}

/// Lets the machine talk to the replies, which arrive cut into pieces.
fn talk(replies: &str, cuts: &[usize], transactions: &[Transaction]) -> Conversation {
    let mut cuts: Vec<usize> = cuts.iter().copied().filter(|cut| *cut < replies.len()).collect();
    cuts.extend([0, replies.len()]);
    cuts.sort_unstable();
    let pieces = cuts.windows(2).map(|pair| &replies.as_bytes()[pair[0]..pair[1]]);
    in_words(rehearsal::rehearse(pieces, Protection::WhereOffered, None, transactions))
}

fn in_words(done: rehearsal::Conversation) -> Conversation {
    Conversation {
        sent: String::from_utf8(done.sent).unwrap(),
        refused: done.refused.map(|refusal| refusal.to_string()),
        outcomes: done.outcomes.into_iter().map(|outcomes| outcomes.into_iter().map(plain).collect()).collect(),
        open: done.open,
    }
}

fn plain(outcome: Outcome) -> Result<String, String> {
    outcome.map(|accepted| accepted.reply).map_err(|refusal| refusal.to_string())
}

fn ok(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

fn err(text: &str) -> Result<String, String> {
    Err(format!("mx.example: {text}"))
}

#[test]
fn a_plain_server_is_asked_step_by_step() {
    let replies = "220 hi\r\n250 mx\r\n250 a\r\n250 b\r\n550 5.1.1 no\r\n354 go\r\n250 2.0.0 queued\r\n";
    let talked = talk(replies, &[], &[transaction(&["a@x.example", "b@x.example"])]);
    assert_eq!(
        talked.sent,
        "EHLO me.example\r\nMAIL FROM:<tom@server1.com>\r\nRCPT TO:<a@x.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\n\
         <MESSAGE>\r\n"
    );
    assert_eq!(talked.outcomes, [vec![ok("250 2.0.0 queued"), err("550 5.1.1 no")]]);
}

#[test]
fn rfc_2920_everything_before_the_message_goes_at_once() {
    let hello = "220 hi\r\n250-mx\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 5000\r\n";
    let mut declared = transaction(&["a@x.example", "b@x.example"]);
    declared.declared = Declared { smtputf8: true, ..Declared::eight_bit(true) };
    let nobody = transaction(&["a@x.example"]);
    let mut report = transaction(&["c@x.example"]);
    report.reverse_path = None;
    let replies = format!(
        "{hello}250 m\r\n451 4.7.1 later\r\n250 b\r\n354 go\r\n250 one\r\n250 m\r\n550 no\r\n503 who\r\n250 reset\r\n\
         250 m\r\n250 c\r\n354 go\r\n250 three\r\n"
    );
    let talked = talk(&replies, &[], &[declared, nobody, report]);
    assert_eq!(
        talked.sent,
        "EHLO me.example\r\n\
         MAIL FROM:<tom@server1.com> SIZE=1000 BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<a@x.example>\r\nRCPT TO:<b@x.example>\r\n\
         DATA\r\n<MESSAGE>\r\n\
         MAIL FROM:<tom@server1.com> SIZE=1000\r\nRCPT TO:<a@x.example>\r\nDATA\r\nRSET\r\n\
         MAIL FROM:<> SIZE=1000\r\nRCPT TO:<c@x.example>\r\nDATA\r\n<MESSAGE>\r\n"
    );
    let wanted = [vec![err("451 4.7.1 later"), ok("250 one")], vec![err("550 5.0.0 no")], vec![ok("250 three")]];
    assert_eq!(talked.outcomes, wanted);
}

#[test]
fn a_refused_sender_is_a_refusal_of_every_recipient() {
    let recipients = ["a@x.example", "b@x.example"];
    let wanted = vec![err("550 5.7.1 not you"), err("550 5.7.1 not you")];
    let plain = talk("220 hi\r\n250 mx\r\n550 5.7.1 not you\r\n", &[], &[transaction(&recipients)]);
    assert_eq!(plain.outcomes, std::slice::from_ref(&wanted));
    let replies = "220 hi\r\n250-mx\r\n250 PIPELINING\r\n550 5.7.1 not you\r\n503 a\r\n503 b\r\n503 c\r\n";
    let pipelined = talk(replies, &[], &[transaction(&recipients)]);
    assert_eq!((pipelined.outcomes, pipelined.open), (vec![wanted], true));
}

#[test]
fn rfc_5321_3_2_a_server_without_ehlo_is_greeted_with_helo() {
    let replies = "220 hi\r\n502 what\r\n250 mx\r\n250 m\r\n250 a\r\n354 go\r\n250 done\r\n";
    let talked = talk(replies, &[], &[transaction(&["a@x.example"])]);
    assert!(talked.sent.starts_with("EHLO me.example\r\nHELO me.example\r\nMAIL FROM:<tom@server1.com>\r\n"));
    assert_eq!(talked.outcomes, [vec![ok("250 done")]]);
}

#[test]
fn rfc_3207_after_tls_the_server_is_asked_again() {
    let offer = "220 hi\r\n250-mx\r\n250-SIZE 10\r\n250 STARTTLS\r\n";
    let rest = "250 mx\r\n250 m\r\n250 a\r\n354 go\r\n250 done\r\n";
    let talked = talk(&format!("{offer}220 go\r\n{rest}"), &[], &[transaction(&["a@x.example"])]);
    assert!(
        talked
            .sent
            .starts_with("EHLO me.example\r\nSTARTTLS\r\n<TLS>\r\nEHLO me.example\r\nMAIL FROM:<tom@server1.com>\r\n")
    );
    assert_eq!(talked.outcomes, [vec![ok("250 done")]]);
    let refused =
        format!("{}454 not now\r\n250 m\r\n250 a\r\n354 go\r\n250 done\r\n", offer.replace("SIZE 10", "SIZE"));
    let talked = talk(&refused, &[], &[transaction(&["a@x.example"])]);
    assert_eq!(talked.outcomes, [vec![ok("250 done")]], "refused TLS does not keep mail from going (RFC 7435)");
}

#[test]
fn a_server_that_takes_no_mail_is_left() {
    for (replies, why) in [
        ("554 5.7.1 go away\r\n", "mx.example: 554 5.7.1 go away"),
        ("421 busy\r\n", "mx.example: 421 4.0.0 busy"),
        ("220 hi\r\n421 busy\r\n", "mx.example: 421 4.0.0 busy"),
        ("220 hi\r\n500 a\r\n500 b\r\n", "mx.example: 500 5.0.0 b"),
        ("250 odd\r\n", "mx.example: 451 4.0.0 odd"),
    ] {
        let talked = talk(replies, &[], &[transaction(&["a@x.example"])]);
        assert_eq!((talked.refused.as_deref(), talked.open), (Some(why), false));
    }
}

#[test]
fn rfc_5321_3_8_421_ends_the_connection_and_defers_who_has_no_answer() {
    let replies = "220 hi\r\n250 mx\r\n250 m\r\n550 5.1.1 no\r\n421 4.3.2 closing\r\n";
    let talked = talk(replies, &[], &[transaction(&["a@x.example", "b@x.example"]), transaction(&["c@x.example"])]);
    assert_eq!(talked.outcomes, [vec![err("550 5.1.1 no"), err("421 4.3.2 closing")]]);
    assert!(!talked.open);
}

#[test]
fn what_the_server_cannot_take_is_not_offered() {
    let hello = "220 hi\r\n250-mx\r\n250 SIZE 999\r\n";
    let talked = talk(hello, &[], &[transaction(&["a@x.example"])]);
    let told = "552 5.3.4 the message has 1000 octets, the server takes 999 at most";
    assert_eq!(talked.outcomes, [vec![err(told)]]);
    assert_eq!(talked.sent, "EHLO me.example\r\n");

    let hello = "220 hi\r\n250 mx\r\n";
    let declaring = |header_is_ascii| {
        let declared = Declared { smtputf8: true, ..Declared::default() };
        Transaction { declared, header_is_ascii, ..transaction(&["a@x.example"]) }
    };
    let status = |transaction: Transaction, rest: &str| {
        let talked = talk(&format!("{hello}{rest}"), &[], &[transaction]);
        talked.outcomes[0][0].clone().map_err(|text| text.split(' ').nth(2).unwrap().to_owned())
    };
    assert_eq!(status(declaring(false), ""), Err("5.6.7".to_owned()));
    let international = Transaction { recipients: recipients(&["j\u{e4}ck@x.example"]), ..declaring(true) };
    assert_eq!(status(international, ""), Err("5.6.7".to_owned()));
    // An alias led there: the sender declared nothing. The other recipient gets the message.
    for hello in ["220 hi\r\n250 mx\r\n", "220 hi\r\n250-mx\r\n250 PIPELINING\r\n"] {
        let mixed = transaction(&["j\u{e4}ck@x.example", "a@x.example"]);
        let talked = talk(&format!("{hello}250 m\r\n250 a\r\n354 go\r\n250 done\r\n"), &[], &[mixed]);
        let told = "550 5.6.7 the server does not take internationalised mail (SMTPUTF8)";
        assert_eq!(talked.outcomes, [vec![err(told), ok("250 done")]]);
        assert!(!talked.sent.contains('\u{e4}'), "{}", talked.sent);
    }
    let hello_utf8 = "220 hi\r\n250-mx\r\n250 SMTPUTF8\r\n250 m\r\n250 a\r\n354 go\r\n250 done\r\n";
    let talked = talk(hello_utf8, &[], &[transaction(&["j\u{e4}ck@x.example"])]);
    assert!(talked.sent.contains("MAIL FROM:<tom@server1.com> SMTPUTF8\r\nRCPT TO:<j\u{e4}ck@x.example>"));
    let whole = "250 m\r\n250 a\r\n354 go\r\n250 done\r\n";
    assert_eq!(status(declaring(true), whole), ok("250 done"), "declared, but not needed");
}

/// One message to one recipient, to a server with these extensions, that answers so.
fn one(extensions: &[&str], declared: Declared, rest: &str) -> Conversation {
    let transaction = Transaction { declared, seconds_left: Some(60), ..transaction(&["a@x.example"]) };
    talk(&hello(extensions, rest), &[], &[transaction])
}

fn hello(extensions: &[&str], rest: &str) -> String {
    let offers: String = extensions.iter().map(|extension| format!("250-{extension}\r\n")).collect();
    format!("220 hi\r\n250-mx\r\n{offers}250 HELP\r\n{rest}")
}

const TAKEN: &str = "250 m\r\n250 a\r\n354 go\r\n250 done\r\n";

#[test]
fn rfc_2920_3_1_a_data_command_that_nobody_was_accepted_for_ends_with_a_dot() {
    let replies = hello(&["PIPELINING"], "250 m\r\n550 5.1.1 no\r\n354 go\r\n554 nobody\r\n250 reset\r\n") + TAKEN;
    let talked = talk(&replies, &[], &[transaction(&["a@x.example"]), transaction(&["b@x.example"])]);
    assert!(talked.sent.contains("DATA\r\n.\r\nRSET\r\nMAIL"), "{}", talked.sent);
    assert_eq!(talked.outcomes, [vec![err("550 5.1.1 no")], vec![ok("250 done")]]);
}

#[test]
fn a_refused_rset_says_nothing_about_the_next_message() {
    for refusal in ["554 5.7.1 too many errors", "502 5.5.1 what"] {
        let replies = hello(&["PIPELINING"], "250 m\r\n550 5.1.1 no\r\n503 who\r\n") + refusal + "\r\n" + TAKEN;
        let talked = talk(&replies, &[], &[transaction(&["a@x.example"]), transaction(&["b@x.example"])]);
        let outcome = talked.outcomes[1][0].as_ref().unwrap_err();
        assert!(outcome.contains(&format!("451 4.4.2 the server refused RSET: {refusal}")), "{outcome}");
        assert!(!talked.open, "another connection is needed");
    }
}

#[test]
fn a_server_that_refuses_the_sender_and_takes_the_message_gets_no_empty_one() {
    let replies = hello(&["PIPELINING"], "451 4.3.0 later\r\n250 a\r\n354 go\r\n250 done\r\n");
    let talked = talk(&replies, &[], &[transaction(&["a@x.example"])]);
    assert!(talked.sent.ends_with("DATA\r\n"), "{}", talked.sent);
    assert_eq!(talked.outcomes, [vec![err("451 4.3.0 later")]]);
}

#[test]
fn rfc_3030_binary_content_goes_as_one_chunk() {
    let binary = Declared { body: BodyType::BinaryMime, ..Declared::default() };
    let talked = one(&["CHUNKING", "BINARYMIME", "PIPELINING"], binary, "250 m\r\n250 a\r\n250 done\r\n");
    assert!(
        talked.sent.ends_with("MAIL FROM:<tom@server1.com> BODY=BINARYMIME\r\nRCPT TO:<a@x.example>\r\n<CHUNK>\r\n")
    );
    assert_eq!(talked.outcomes, [vec![ok("250 done")]]);
}

#[test]
fn rfc_3461_5_2_a_server_without_dsn_takes_the_message_silently() {
    let recipient = RemoteRecipient {
        notify: Notify::On { success: true, failure: false, delay: false },
        ..Address::parse("a@x.example").unwrap().into()
    };
    let wanting = Transaction { recipients: vec![recipient], ..transaction(&[]) };
    let mut takers = [&["DSN"][..], &[]].map(|extensions| {
        let replies = hello(extensions, TAKEN);
        let done = rehearsal::rehearse([replies.as_bytes()], Protection::None, None, std::slice::from_ref(&wanting));
        let is_told = String::from_utf8(done.sent).unwrap().contains("RCPT TO:<a@x.example> NOTIFY=SUCCESS\r\n");
        (done.outcomes[0][0].clone().unwrap().taker, is_told)
    });
    takers.sort_by_key(|(_, is_told)| *is_told);
    let host = "mx.example".to_owned();
    assert_eq!(takers, [(Taker::Silent(host.clone()), false), (Taker::Reporting(host), true)]);
}

#[test]
fn rfc_8689_what_requires_tls_goes_only_by_verified_tls_to_servers_that_promise_it() {
    let transaction = Transaction {
        declared: Declared { require_tls: true, ..Declared::default() },
        ..transaction(&["a@x.example"])
    };
    let status = |protection, extensions: &[&str]| {
        let replies = hello(extensions, TAKEN);
        let done = rehearsal::rehearse([replies.as_bytes()], protection, None, std::slice::from_ref(&transaction));
        done.outcomes[0][0].clone().map(|_| String::from_utf8(done.sent).unwrap()).map_err(|refusal| refusal.status())
    };
    let refused = Err("5.7.30".to_owned());
    assert_eq!(status(Protection::FromTheBeginning, &[]), refused);
    assert_eq!(status(Protection::WhereOffered, &["REQUIRETLS"]), refused);
    assert!(status(Protection::FromTheBeginning, &["REQUIRETLS"]).unwrap().contains("REQUIRETLS\r\n"));
}

#[test]
fn rfc_2852_what_comes_back_when_late_goes_only_to_servers_that_look_after_that() {
    let by = |mode| Declared {
        deliver_by: Some(DeliverBy { at: Timestamp::MAX, mode, trace: false }),
        ..Declared::default()
    };
    let refused = |talked: Conversation| talked.outcomes[0][0].clone().unwrap_err();
    assert!(refused(one(&[], by(ByMode::Return), "")).contains("550 5.4.7"));
    assert!(refused(one(&["DELIVERBY 61"], by(ByMode::Return), "")).contains("nothing below 61"));
    let told = one(&["DELIVERBY 60"], by(ByMode::Return), TAKEN);
    assert!(told.sent.contains("MAIL FROM:<tom@server1.com> BY=60;R\r\n"), "{}", told.sent);
    let silent = one(&[], by(ByMode::Notify), TAKEN);
    assert_eq!((silent.outcomes, silent.sent.contains("BY=")), (vec![vec![ok("250 done")]], false));
    let late = Transaction { declared: by(ByMode::Return), seconds_left: Some(0), ..transaction(&["a@x.example"]) };
    assert!(refused(talk(&hello(&["DELIVERBY"], ""), &[], &[late])).contains("that time is over"));
}

#[test]
fn a_login_goes_by_plain_or_login_and_never_without_tls() {
    let talk = |protection, extensions: &[&str], rest: &str| {
        let login = Login { username: "tom".to_owned(), password: SecretText::new("secret".to_owned()) };
        let replies = hello(extensions, rest);
        let transactions = [transaction(&["a@x.example"])];
        in_words(rehearsal::rehearse([replies.as_bytes()], protection, Some(login.into()), &transactions))
    };
    let plain = talk(Protection::FromTheBeginning, &["AUTH LOGIN PLAIN"], &format!("235 in\r\n{TAKEN}"));
    assert!(plain.sent.starts_with("EHLO me.example\r\n<SECRET>\r\nMAIL"), "{}", plain.sent);
    let login = talk(Protection::FromTheBeginning, &["AUTH LOGIN"], &format!("334 a\r\n334 b\r\n235 in\r\n{TAKEN}"));
    assert!(login.sent.starts_with("EHLO me.example\r\n<SECRET>\r\n<SECRET>\r\n<SECRET>\r\nMAIL"), "{}", login.sent);
    for (protection, extensions, rest) in [
        (Protection::FromTheBeginning, &["AUTH PLAIN"][..], "535 5.7.8 wrong\r\n"),
        (Protection::FromTheBeginning, &["AUTH GSSAPI"], ""),
        (Protection::WhereOffered, &["AUTH PLAIN"], ""),
        (Protection::Required, &["AUTH PLAIN"], ""),
    ] {
        let refused = talk(protection, extensions, rest);
        assert!(refused.refused.as_deref().unwrap().contains(" 451 4.7."), "{:?}", refused.refused);
        assert!(!refused.open && !refused.sent.contains("MAIL"));
    }
}

#[test]
fn a_connection_without_verified_tls_is_no_use_where_it_is_required() {
    let talk = |rest: &str| {
        let replies = hello(&["STARTTLS"], rest);
        in_words(rehearsal::rehearse(
            [replies.as_bytes()],
            Protection::Required,
            None,
            &[transaction(&["a@x.example"])],
        ))
    };
    assert!(talk("454 not now\r\n").refused.unwrap().contains("451 4.7.10 TLS is required"));
    assert_eq!(talk(&format!("220 go\r\n250 mx\r\n{TAKEN}")).outcomes, [vec![ok("250 done")]]);
}

proptest! {
    #[test]
    fn any_split_of_the_replies_gives_the_same_outcome(
        cuts in prop::collection::vec(0..200_usize, 0..12),
        pipelining: bool,
        codes in prop::collection::vec(prop_oneof![Just(250), Just(354), Just(421), Just(450), Just(550)], 12),
    ) {
        let offer = if pipelining { "250-mx\r\n250-PIPELINING\r\n250 SIZE\r\n" } else { "250 mx\r\n" };
        let mut replies = format!("220 hi\r\n{offer}");
        for code in codes {
            replies.push_str(&format!("{code}-one\r\n{code} two\r\n"));
        }
        let transactions = [transaction(&["a@x.example", "b@x.example"]), transaction(&["c@x.example"])];
        let whole = talk(&replies, &[], &transactions);
        for outcomes in &whole.outcomes {
            prop_assert!(!outcomes.is_empty());
        }
        prop_assert_eq!(talk(&replies, &cuts, &transactions), whole);
    }
}
