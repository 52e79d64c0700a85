//! What comes back is what was stored: in order, out of order, pipelined, from folders, for clients with and without UTF8.

use tokio::io::AsyncReadExt as _;

use super::*;
use crate::store::{Declared, Folder};

impl Bench {
    /// A session that takes passwords in clear.
    async fn connect_clear(&self) -> BufReader<TcpStream> {
        let (client, server) = pair().await;
        let address = server.peer_addr().unwrap();
        let listener = Listener { clear_text_logins: true, ..(*listener(Protocol::Pop3)).clone() };
        tokio::spawn(run(Stream::Plain(server), address, Arc::new(listener), Arc::clone(&self.services)));
        let mut client = BufReader::new(client);
        assert!(super::line(&mut client).await.starts_with("+OK "));
        client
    }

    async fn log_in(&self, login: &str) -> BufReader<TcpStream> {
        let mut client = self.connect_clear().await;
        say(&mut client, &format!("USER {login}")).await;
        let answer = say(&mut client, "PASS secret").await;
        assert!(answer.starts_with("+OK "), "{login}: {answer}");
        client
    }
}

/// A multi-line answer without its byte-stuffing.
async fn multi_line(client: &mut BufReader<TcpStream>) -> Vec<u8> {
    let mut text = Vec::new();
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            assert!(client.read_until(b'\n', &mut line).await.unwrap() > 0, "the connection ended");
        }
        if line == b".\r\n" {
            return text;
        }
        text.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}

/// Messages of many sizes, on both sides of what the store keeps in files, with dots where they hurt. Any octets but NUL and
/// bare CR and LF, as SMTP lets them in.
fn messages() -> Vec<Vec<u8>> {
    let mut state = 7_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut message = |octets: usize| {
        let mut text = b"Subject: x\r\n.dot: y\r\n\r\n".to_vec();
        while text.len() < octets {
            for _ in 0..random(90) {
                text.push(*b".. a\xfc\xff\x01".get(random(9)).unwrap_or(&b'x'));
            }
            text.extend_from_slice(b"\r\n");
        }
        text
    };
    [0, 10, 300, 5_000, 20_000, 65_400, 65_600, 200_000, 100, 100, 9_000, 70_000, 131_000, 50]
        .into_iter()
        .map(&mut message)
        .collect()
}

#[tokio::test]
async fn what_is_retrieved_is_what_was_stored() {
    let bench = Bench::new();
    let tom = testing::address("tom@server1.com");
    let messages = messages();
    for message in &messages {
        deliver(&bench, &tom, message).await;
    }
    let mut client = bench.log_in("tom@server1.com").await;
    let numbers: Vec<usize> = (1..=messages.len()).collect();
    let backwards: Vec<usize> = numbers.iter().rev().copied().collect();
    let twice: Vec<usize> = numbers.iter().flat_map(|number| [*number, *number]).collect();
    // One after the other, as clients do: the order decides what is read ahead.
    for order in [&numbers, &backwards, &twice] {
        for number in order {
            let message = &messages[number - 1];
            assert_eq!(say(&mut client, &format!("RETR {number}")).await, format!("+OK {} octets\r\n", message.len()));
            assert!(multi_line(&mut client).await == *message, "message {number}");
            let top = say(&mut client, &format!("TOP {number} 1")).await;
            assert!(top.starts_with("+OK"), "{top}");
            let head = multi_line(&mut client).await;
            assert!(message.starts_with(&head) && head.len() <= 120, "message {number}");
        }
    }
    // All at once (RFC 2449 §6.6), with a deletion in between.
    let mut commands: String = numbers.iter().map(|number| format!("RETR {number}\r\n")).collect();
    commands.insert_str(commands.find("RETR 9").unwrap(), "DELE 9\r\n");
    client.get_mut().write_all(commands.as_bytes()).await.unwrap();
    for (number, message) in numbers.iter().zip(&messages) {
        if *number == 9 {
            assert!(super::line(&mut client).await.starts_with("+OK message 9 marked"));
            assert_eq!(super::line(&mut client).await, "-ERR no such message\r\n");
            continue;
        }
        assert!(super::line(&mut client).await.starts_with("+OK "));
        assert!(multi_line(&mut client).await == *message, "message {number}");
    }
}

async fn deliver_to(bench: &Bench, login: &str, message: &[u8], smtputf8: bool) {
    let (mailbox, folder) = login.split_once('+').unwrap_or((login, "inbox"));
    let maildrop = MaildropName { mailbox: testing::address(mailbox).into(), folder: Folder::parse(folder).unwrap() };
    deliver_with(bench, maildrop, message, Declared { smtputf8, ..Declared::default() }).await;
}

#[tokio::test]
async fn the_subaddress_of_the_login_opens_a_folder() {
    let bench = Bench::new();
    deliver_to(&bench, "tom@server1.com", b"Subject: in the inbox\r\n\r\n", false).await;
    deliver_to(&bench, "tom@server1.com+junk", b"Subject: junk\r\n\r\n", false).await;
    let mut inbox = bench.log_in("tom@server1.com").await;
    // Each maildrop has a lock of its own.
    let mut junk = bench.log_in("tom+Junk@server1.com").await;
    for (client, subject) in [(&mut inbox, "in the inbox"), (&mut junk, "junk")] {
        assert!(say(client, "RETR 1").await.starts_with("+OK"));
        assert_eq!(multi_line(client).await, format!("Subject: {subject}\r\n\r\n").as_bytes());
        assert_eq!(say(client, "RETR 2").await, "-ERR no such message\r\n");
    }
    let mut second = bench.connect_clear().await;
    say(&mut second, "USER tom+junk@server1.com").await;
    assert!(say(&mut second, "PASS secret").await.starts_with("-ERR [IN-USE] "));
    say(&mut junk, "DELE 1").await;
    assert_eq!(say(&mut junk, "QUIT").await, "+OK 1 messages deleted, bye\r\n");
    assert!(say(&mut bench.log_in("tom+junk@server1.com").await, "STAT").await.starts_with("+OK 0 0"));
    assert!(say(&mut inbox, "STAT").await.starts_with("+OK 1 "));
    assert!(say(&mut bench.log_in("tom+never-used@server1.com").await, "STAT").await.starts_with("+OK 0 0"));
}

#[tokio::test]
async fn a_header_in_utf8_is_shown_in_ascii_to_who_has_not_said_utf8() {
    let bench = Bench::new();
    let utf8 = "From: Jürgen <jürgen@bücher.example>\r\nSubject: Grüße\r\n\r\nKöln\r\n";
    let large = format!("Subject: Grüße\r\n\r\n{}", "Köln am Rhein\r\n".repeat(10_000));
    let endless = format!("Subject: Grüße\r\n{}\r\nx\r\n", "X-Line: x\r\n".repeat(50_000));
    deliver_to(&bench, "tom@server1.com", utf8.as_bytes(), true).await;
    // Who does not declare SMTPUTF8 and sends such octets all the same: they are passed on as they came.
    deliver_to(&bench, "tom@server1.com", utf8.as_bytes(), false).await;
    deliver_to(&bench, "tom@server1.com", b"Subject: plain\r\n\r\n", true).await;
    deliver_to(&bench, "tom@server1.com", large.as_bytes(), true).await;
    deliver_to(&bench, "tom@server1.com", endless.as_bytes(), true).await;
    let mut client = bench.log_in("tom@server1.com").await;
    let told = say(&mut client, "RETR 1").await;
    let shown = multi_line(&mut client).await;
    assert_eq!(told, format!("+OK {} octets\r\n", shown.len()));
    let end = shown.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    assert!(shown[..end].is_ascii() && &shown[end..] == "Köln\r\n".as_bytes(), "the body is MIME's affair");
    assert!(String::from_utf8_lossy(&shown).contains("<invalid@internationalized-address.invalid>"));
    say(&mut client, "TOP 1 0").await;
    assert_eq!(multi_line(&mut client).await, &shown[..end]);
    for (number, text) in [(2, utf8.as_bytes()), (3, b"Subject: plain\r\n\r\n")] {
        say(&mut client, &format!("RETR {number}")).await;
        assert_eq!(multi_line(&mut client).await, text, "message {number}");
    }
    let told = say(&mut client, "RETR 4").await;
    let shown = multi_line(&mut client).await;
    assert_eq!(told, format!("+OK {} octets\r\n", shown.len()));
    assert!(
        shown.ends_with(large.split_once("\r\n\r\n").unwrap().1.as_bytes()) && !shown.starts_with(large.as_bytes())
    );
    assert!(say(&mut client, "RETR 5").await.starts_with("-ERR [UTF8] "));
    assert!(say(&mut client, "TOP 5 0").await.starts_with("-ERR [UTF8] "));
    assert!(say(&mut client, "QUIT").await.starts_with("+OK"));

    let mut client = bench.connect_clear().await;
    assert!(say(&mut client, "UTF8").await.starts_with("+OK"));
    say(&mut client, "USER tom@server1.com").await;
    say(&mut client, "PASS secret").await;
    for (number, text) in [(1, utf8), (4, &large), (5, &endless)] {
        say(&mut client, &format!("RETR {number}")).await;
        assert_eq!(multi_line(&mut client).await, text.as_bytes(), "message {number}");
    }
}

#[tokio::test]
async fn a_login_too_soon_after_the_last_one_is_refused() {
    let bench = Bench::new();
    let same = (*bench.services.configuration.snapshot()).clone();
    let mut configuration = same.clone();
    configuration.server.limits.login_delay_seconds = 3600;
    bench.services.configuration.replace(configuration);
    let mut first = bench.log_in("tom@server1.com").await;
    assert_eq!(say(&mut first, "QUIT").await, "+OK bye\r\n");
    let mut second = bench.connect_clear().await;
    say(&mut second, "CAPA").await;
    let capabilities = String::from_utf8(multi_line(&mut second).await).unwrap();
    assert!(capabilities.contains("LOGIN-DELAY 3600\r\n"), "{capabilities}");
    say(&mut second, "USER tom@server1.com").await;
    let refused = say(&mut second, "PASS secret").await;
    assert!(refused.starts_with("-ERR [LOGIN-DELAY] "), "{refused}");
    // The delay is the maildrop's, and the refusal holds no lock.
    bench.log_in("anna@server1.com").await;
    bench.services.configuration.replace(same);
    say(&mut second, "USER tom@server1.com").await;
    assert!(say(&mut second, "PASS secret").await.starts_with("+OK "));
}

/// The memory of an idle session is its future, and what the kernel and the runtime keep for its socket.
#[tokio::test]
async fn a_session_that_waits_is_small() {
    let bench = Bench::new();
    let (_client, server) = pair().await;
    let address = server.peer_addr().unwrap();
    let session = run(Stream::Plain(server), address, listener(Protocol::Pop3), Arc::clone(&bench.services));
    let octets = std::mem::size_of_val(&session);
    println!("the future of a POP3 session has {octets} octets");
    assert!(octets <= 2048, "{octets}");
}

/// A session whose buffers were given back while it waited goes on as before.
#[tokio::test]
async fn a_long_wait_changes_nothing() {
    let bench = Bench::new();
    let tom = testing::address("tom@server1.com");
    for number in 1..=3 {
        deliver(&bench, &tom, format!("Subject: {number}\r\n\r\n").as_bytes()).await;
    }
    let mut client = bench.log_in("tom@server1.com").await;
    assert!(say(&mut client, "RETR 1").await.starts_with("+OK"));
    assert_eq!(multi_line(&mut client).await, b"Subject: 1\r\n\r\n");
    client.get_mut().write_all(b"RET").await.unwrap();
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(30)).await;
    tokio::time::resume();
    client.get_mut().write_all(b"R 2\r\nQUIT\r\n").await.unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "+OK 14 octets\r\nSubject: 2\r\n\r\n.\r\n+OK bye\r\n");
}

/// RFC 1939 §11: what is listed is what is sent, also of a message that came as octets and ends within a line (RFC 3030).
#[tokio::test]
async fn sizes_are_those_on_the_wire() {
    let bench = Bench::new();
    let tom = testing::address("tom@server1.com");
    let large = [&b"Subject: large\r\n\r\n"[..], &[b'x'; 100_000]].concat();
    for text in [&b"Subject: a\r\n\r\nends\r\n"[..], b"Subject: b\r\n\r\ndoes not", b"Subject: c\r\n\r\nlone\n", &large]
    {
        deliver(&bench, &tom, text).await;
    }
    let mut client = bench.log_in("tom@server1.com").await;
    let mut total = 0;
    for number in 1..=4 {
        let listed = say(&mut client, &format!("LIST {number}")).await;
        let told = say(&mut client, &format!("RETR {number}")).await;
        let octets = multi_line(&mut client).await.len();
        assert_eq!(listed, format!("+OK {number} {octets}\r\n"));
        assert!(told.starts_with(&format!("+OK {octets} ")), "{told}");
        total += octets;
    }
    assert_eq!(say(&mut client, "STAT").await, format!("+OK 4 {total}\r\n"));
}
