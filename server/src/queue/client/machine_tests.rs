//! The machine against servers that are no more than their replies, one after the other.

use paquebot_config::Address;
use proptest::prelude::*;

use super::machine::{Action, Client, EightBit, Outcome, Transaction};
use super::reply::ReplyReader;
use crate::store::Declared;

/// What a conversation was: what we sent (with `<TLS>` and `<MESSAGE>` in their places), and how each transaction ended.
#[derive(Debug, PartialEq)]
struct Conversation {
    sent: String,
    /// Before any transaction: why the server takes nothing.
    refused: Option<String>,
    outcomes: Vec<Vec<Result<String, String>>>,
    open: bool,
}

fn transaction(recipients: &[&str]) -> Transaction {
    Transaction {
        reverse_path: Some(Address::parse("tom@server1.com").unwrap()),
        recipients: recipients.iter().map(|text| Address::parse(text).unwrap()).collect(),
        declared: Declared::default(),
        found: None,
        octets: 1000,
    }
}

/// Lets the machine talk to the replies, which arrive cut into pieces.
fn talk(replies: &str, cuts: &[usize], transactions: &[Transaction]) -> Conversation {
    let mut cuts: Vec<usize> = cuts.iter().copied().filter(|cut| *cut < replies.len()).collect();
    cuts.push(replies.len());
    cuts.sort_unstable();
    let mut pieces = cuts.iter().scan(0, |from, to| Some(&replies.as_bytes()[std::mem::replace(from, *to)..*to]));
    let mut reader = ReplyReader::default();
    let mut client = Client::new("mx.example", "me.example", true);
    let mut done = Conversation { sent: String::new(), refused: None, outcomes: Vec::new(), open: true };
    let mut transactions = transactions.iter();
    let mut action = client.start();
    loop {
        match &action {
            Action::Send(bytes, _) => done.sent.push_str(std::str::from_utf8(bytes).unwrap()),
            Action::SendMessage => done.sent.push_str("<MESSAGE>\r\n"),
            Action::StartTls => {
                done.sent.push_str("<TLS>\r\n");
                action = client.tls_established();
                continue;
            }
            Action::Read(_) => {}
            Action::Ready | Action::Finished => {
                if action == Action::Finished {
                    done.outcomes.push(client.finish().into_iter().map(plain).collect());
                }
                match transactions.next().filter(|_| client.is_open()) {
                    Some(next) => action = client.begin(next.clone()),
                    None => break,
                }
                continue;
            }
        }
        let reply = loop {
            match reader.next_reply().unwrap() {
                Some(reply) => break reply,
                None => reader.feed(pieces.next().expect("the script is too short")),
            }
        };
        match client.on_reply(&reply) {
            Ok(next) => action = next,
            Err(refusal) => {
                done.refused = Some(refusal.to_string());
                break;
            }
        }
    }
    done.open = client.is_open();
    done
}

fn plain(outcome: Outcome) -> Result<String, String> {
    outcome.map_err(|refusal| refusal.to_string())
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
fn rfc_2920_the_envelope_goes_at_once_and_data_waits_for_a_recipient() {
    let hello = "220 hi\r\n250-mx\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 5000\r\n";
    let mut declared = transaction(&["a@x.example", "b@x.example"]);
    declared.declared = Declared { smtputf8: true, ..Declared::eight_bit(true) };
    let nobody = transaction(&["a@x.example"]);
    let mut report = transaction(&["c@x.example"]);
    report.reverse_path = None;
    let replies = format!(
        "{hello}250 m\r\n451 4.7.1 later\r\n250 b\r\n354 go\r\n250 one\r\n250 m\r\n550 no\r\n250 reset\r\n\
         250 m\r\n250 c\r\n354 go\r\n250 three\r\n"
    );
    let talked = talk(&replies, &[], &[declared, nobody, report]);
    assert_eq!(
        talked.sent,
        "EHLO me.example\r\n\
         MAIL FROM:<tom@server1.com> SIZE=1000 BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<a@x.example>\r\nRCPT TO:<b@x.example>\r\n\
         DATA\r\n<MESSAGE>\r\n\
         MAIL FROM:<tom@server1.com> SIZE=1000\r\nRCPT TO:<a@x.example>\r\nRSET\r\n\
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
    let replies = "220 hi\r\n250-mx\r\n250 PIPELINING\r\n550 5.7.1 not you\r\n503 a\r\n503 b\r\n";
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
    let declaring = |eight_bit, smtputf8, found| {
        let declared = Declared { smtputf8, ..Declared::eight_bit(eight_bit) };
        Transaction { declared, found: Some(found), ..transaction(&["a@x.example"]) }
    };
    let status = |transaction: Transaction, rest: &str| {
        let talked = talk(&format!("{hello}{rest}"), &[], &[transaction]);
        talked.outcomes[0][0].clone().map_err(|text| text.split(' ').nth(2).unwrap().to_owned())
    };
    assert_eq!(status(declaring(true, false, EightBit { header: false, body: true }), ""), Err("5.6.3".to_owned()));
    assert_eq!(status(declaring(true, true, EightBit { header: true, body: false }), ""), Err("5.6.7".to_owned()));
    let mut international = declaring(false, true, EightBit::default());
    international.recipients = vec![Address::parse("j\u{e4}ck@x.example").unwrap()];
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
    assert_eq!(status(declaring(true, true, EightBit::default()), whole), ok("250 done"), "declared, but not needed");
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
