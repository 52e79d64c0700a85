//! Sending by SMTP: what peers and name servers answer, and the reports that come of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use paquebot_config::{Address, Domain, LocalPart, SecretText};
use paquebot_server::delivery::srs as rewriting;
use paquebot_server::queue::client::dot::DotStuffer;
use paquebot_server::queue::client::machine::{Action, Client, Protection, Transaction};
use paquebot_server::queue::client::reply::ReplyReader;
use paquebot_server::queue::convert::{self as conversion, Target, fits};
use paquebot_server::queue::dsn::{self, Original, Report, Reported};
use paquebot_server::queue::routing::{Answer, Exchanges, MailExchanger, exchanges, next_hops};
use paquebot_server::queue::status::Refusal;
use paquebot_server::store::{Declared, MessageId};

use crate::input::Input;

fn jack(number: usize) -> Address {
    Address::parse(&format!("jack{number}@server2.com")).expect("an address")
}

/// Replies do not depend on how their bytes are divided.
pub fn reply(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let step = usize::from(input.byte()).max(1);
    let bytes = input.rest();
    let read = |step: usize| {
        let (mut reader, mut replies) = (ReplyReader::default(), Vec::new());
        for piece in bytes.chunks(step) {
            reader.feed(piece);
            loop {
                match reader.next_reply() {
                    Ok(Some(reply)) => {
                        assert!((200..600).contains(&reply.code), "{}", reply.code);
                        let refusal = reply.refusal("mx.server2.com");
                        assert!((400..600).contains(&refusal.code) && refusal.enhanced.0 >= 4);
                        replies.push(reply);
                    }
                    Ok(None) => break,
                    Err(_) => return replies,
                }
            }
        }
        replies
    };
    assert_eq!(read(step), read(bytes.len().max(1)));
}

/// The machine ends each transaction with an outcome for each recipient, whatever the peer says.
pub fn client(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (count, messages) = (usize::from(input.byte() % 4) + 1, input.byte() % 3 + 1);
    let protection = if input.flag() { Protection::WhereOffered } else { Protection::None };
    let mut client = Client::new("mx.server2.com", "mail.server1.com", protection, None);
    let mut reader = ReplyReader::default();
    reader.feed(input.rest());
    let mut action = client.start();
    for _ in 0..messages {
        if drive(&mut client, &mut reader, &mut action).is_none() || !client.is_open() {
            return;
        }
        action = client.begin(Transaction {
            reverse_path: Some(jack(0)),
            recipients: (0..count).map(|number| jack(number).into()).collect(),
            declared: Declared::default(),
            header_is_ascii: true,
            octets: 100,
            seconds_left: None,
        });
        let went_on = drive(&mut client, &mut reader, &mut action);
        if went_on.is_none() {
            client.connection_lost(&Refusal::transient(4, 2, "lost"));
        }
        assert_eq!(client.finish().len(), count);
        if went_on.is_none() || !client.is_open() {
            return;
        }
    }
}

/// Answers the machine until it is ready or finished; `None`: the peer has nothing more to say.
fn drive(client: &mut Client, reader: &mut ReplyReader, action: &mut Action) -> Option<()> {
    loop {
        match action {
            Action::Ready | Action::Finished => return Some(()),
            Action::StartTls => *action = client.tls_established(),
            Action::Send(bytes, _) => {
                assert!(bytes.ends_with(b"\r\n"));
                *action = client.on_reply(&reader.next_reply().ok()??).ok()?;
            }
            Action::Read(_) | Action::Authenticate(_) | Action::SendMessage(_) => {
                *action = client.on_reply(&reader.next_reply().ok()??).ok()?
            }
        }
    }
}

/// A message with its dots stuffed ends once, at its end.
pub fn dot(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let step = usize::from(input.byte()).max(1);
    let message = input.rest();
    let stuffed = |step: usize| {
        let (mut stuffer, mut wire) = (DotStuffer::default(), Vec::new());
        message.chunks(step).for_each(|piece| stuffer.push(piece, &mut wire));
        stuffer.finish(&mut wire);
        wire
    };
    let wire = stuffed(message.len().max(1));
    assert_eq!(stuffed(step), wire);
    let end = wire.windows(5).position(|window| window == b"\r\n.\r\n");
    assert!(wire == b".\r\n" || end == Some(wire.len() - 5), "it ends early or never");
}

/// Whatever DNS says there are at most ten servers to try, in order of preference, none of them ourselves; or a refusal.
pub fn routing(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let domain = Domain::parse("server2.com").expect("a name");
    let random = input.number();
    let mut records = Vec::new();
    let kind = input.byte();
    while !input.is_empty() && records.len() < 40 {
        let preference = u16::from(input.byte());
        records.push(MailExchanger { preference, host: input.text(40) });
    }
    let answer = match kind % 4 {
        0 => Answer::NoSuchName,
        1 => Answer::Failed("SERVFAIL".to_owned()),
        _ => Answer::Records(records.clone()),
    };
    let own = ["mx.server1.com"];
    let Ok(Exchanges::Hosts(hosts)) = exchanges(&domain, answer, &own, random) else { return };
    assert!(!hosts.is_empty() && hosts.len() <= 10);
    let preference = |host: &String| {
        let of_host = records.iter().filter(|record| record.host == *host).map(|record| record.preference);
        of_host.min()
    };
    assert!(!hosts.iter().any(|host| host.eq_ignore_ascii_case(own[0])), "mail would loop");
    let best = hosts.iter().filter_map(preference).min();
    assert_eq!(hosts.first().and_then(preference), best, "the best is not tried first");
    let answers = hosts.into_iter().enumerate().map(|(number, host)| {
        let octet = u8::try_from(number).unwrap_or(0);
        let addresses = match (kind >> 2).wrapping_add(octet) % 4 {
            0 => Answer::NoSuchName,
            1 => Answer::Failed("time-out".to_owned()),
            2 => Answer::Records(vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, octet))]),
            _ => Answer::Records(vec![IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::new(198, 51, 100, octet))]),
        };
        (host, addresses)
    });
    match next_hops(&domain, answers.collect(), &[], random) {
        Ok(hops) => {
            assert!(!hops.is_empty() && hops.len() <= 10);
            assert!(!hops.iter().any(|hop| hop.address.is_loopback()), "mail would go to this machine");
        }
        Err(refusal) => assert!((400..600).contains(&refusal.code)),
    }
}

/// A report is a message of lines of bearable length, whatever peers and senders said.
pub fn dsn(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let is_delay = input.flag();
    let mut recipients = Vec::new();
    for number in 0..input.byte() % 4 + 1 {
        let refusal = Refusal {
            code: 400 + u16::from(input.byte()) % 200,
            enhanced: (4 + input.byte() % 2, u16::from(input.byte()), u16::from(input.byte())),
            text: input.text(255),
            host: input.flag().then(|| input.text(80)),
            said_by_host: input.flag(),
        };
        let action = if is_delay { dsn::Action::Delayed { until: Timestamp::UNIX_EPOCH } } else { dsn::Action::Failed };
        recipients.push(Reported::refused(&jack(usize::from(number)).into(), action, &refusal));
    }
    let header = input.rest();
    let report = Report {
        id: &MessageId::from_stored("0123456789abcdef".to_owned()),
        hostname: &Domain::parse("mail.server1.com").expect("a name"),
        to: &jack(0),
        recipients: &recipients,
        envelope_id: None,
        original_id: &MessageId::from_stored("fedcba9876543210".to_owned()),
        arrived_at: Timestamp::UNIX_EPOCH,
        original: Original::Header(header),
        at: Timestamp::UNIX_EPOCH,
    };
    let message = report.message();
    assert!(message.ends_with(b"\r\n"));
    assert!(fits(&message, Target::EightBit), "it does not go by DATA: {:?}", String::from_utf8_lossy(&message));
    let text = String::from_utf8_lossy(&message);
    // What follows is the author's own.
    let own = text.find("headers\r\nContent-Transfer-Encoding: ").expect("the original's part");
    let text = &text[..own];
    let is_shown = |c: char| !c.is_control() || matches!(c, '\r' | '\n' | '\t');
    assert!(text.chars().all(is_shown), "a peer's control characters are repeated: {text:?}");
    assert_eq!(text.matches("\r\nFinal-Recipient:").count(), recipients.len(), "a recipient was forged or lost");
}

/// What is converted fits where it goes, and so does what needs no conversion.
pub fn convert(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let target = if input.flag() { Target::SevenBit } else { Target::EightBit };
    let message = input.rest();
    if let Ok(converted) = conversion::convert(message, target) {
        assert!(fits(&converted, target), "it does not fit: {:?}", String::from_utf8_lossy(&converted));
        let again = conversion::convert(&converted, target);
        assert!(again.is_ok_and(|again| fits(&again, target)), "what fits is not taken");
    }
}

/// An address that nobody rewrote leads nowhere, and one that was leads back.
pub fn srs(bytes: &[u8]) {
    let (keys, now) = ([SecretText::new("key".to_owned())], Timestamp::UNIX_EPOCH);
    let domain = Domain::parse("server1.com").expect("a name");
    let text = String::from_utf8_lossy(bytes);
    if let Ok(local_part) = LocalPart::parse(&text)
        && rewriting::is_rewritten(&local_part)
    {
        assert!(rewriting::restore(&keys, &local_part, now).is_err(), "a hash was guessed");
    }
    if let Ok(sender) = Address::parse(&text)
        && let Some(rewritten) = rewriting::rewrite(&keys, &sender, &domain, now)
        && rewriting::is_rewritten(rewritten.local_part())
        && !rewriting::is_rewritten(sender.local_part())
    {
        let back = rewriting::restore(&keys, rewritten.local_part(), now);
        // Quotes that nothing needs are no part of an address (RFC 5321 §4.1.2).
        let is_same = |back: &Address| {
            back.domain() == sender.domain() && back.local_part().unquoted() == sender.local_part().unquoted()
        };
        assert!(back.as_ref().is_ok_and(is_same), "{sender} does not come back from {rewritten}: {back:?}");
    }
}
