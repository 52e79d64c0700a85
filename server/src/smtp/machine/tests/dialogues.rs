use super::*;

fn smtp(dialogue: &str) -> World {
    let mut world = after_greeting(settings(), false);
    play(&mut world, dialogue);
    world
}

#[test]
fn a_message_for_two() {
    let world = smtp(
        "C: EHLO client.example
         S: 250
         C: MAIL FROM:<x@else.example> SIZE=20 BODY=8BITMIME
         S: 250 2.1.0
         C: RCPT TO:<anna@server1.com>
         S: 250 2.1.5
         C: RCPT TO:<@hop.example:tom@server1.com>
         S: 250 2.1.5
         C: RCPT TO:<anna@server1.com>
         S: 250 2.1.5
         C: DATA
         S: 354
         C: Subject: x
         C:
         C: ..
         C: .
         S: 250 2.0.0
         C: QUIT
         S: 221 2.0.0
         (closed)",
    );
    let (envelope, content) = &world.messages[0];
    assert_eq!(content, b"Subject: x\r\n\r\n.\r\n");
    let recipients: Vec<_> = envelope.recipients.iter().map(|recipient| recipient.address.to_string()).collect();
    assert_eq!(recipients, ["anna@server1.com", "tom@server1.com"]);
    assert_eq!((envelope.client_name.as_str(), envelope.extended), ("client.example", true));
    assert_eq!(envelope.mail.body, BodyType::EightBitMime);
}

#[test]
fn what_is_offered() {
    let mut world = after_greeting(settings(), false);
    world.feed(b"EHLO x\r\n");
    let expected = "250-mx1.server1.com\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-BINARYMIME\r\n250-CHUNKING\r\n\
                    250-DSN\r\n250-ENHANCEDSTATUSCODES\r\n250-MT-PRIORITY\r\n250-SIZE 10000\r\n250-DELIVERBY 60\r\n\
                    250-LIMITS MAILMAX=100000 RCPTMAX=3 RCPTDOMAINMAX=500\r\n250-STARTTLS\r\n250 HELP\r\n";
    assert_eq!(std::mem::take(&mut world.replies), expected);
    world.feed(b"HELO x\r\n");
    assert_eq!(world.replies, "250 mx1.server1.com\r\n");
    let offered = |settings, tls| {
        let mut world = after_greeting(settings, tls);
        world.feed(b"EHLO x\r\n");
        let offers = |name: &str| world.replies.contains(name);
        (offers("STARTTLS"), offers("AUTH"), offers("REQUIRETLS"), offers("FUTURERELEASE 3600 2026-11-23T13:00:00Z"))
    };
    assert_eq!(offered(settings(), true), (false, false, true, false));
    assert_eq!(offered(submission(), false), (true, false, false, true));
    assert_eq!(offered(submission(), true), (false, true, true, true));
    assert_eq!(offered(Settings { starttls: false, ..submission() }, false), (false, false, false, true));
}

#[test]
fn commands_out_of_order() {
    smtp(
        "C: MAIL FROM:<x@else.example>
         S: 503 5.5.1
         C: RCPT TO:<anna@server1.com>
         S: 503 5.5.1
         C: DATA
         S: 503 5.5.1
         C: HELO client
         S: 250
         C: RCPT TO:<anna@server1.com>
         S: 503 5.5.1
         C: MAIL FROM:<>
         S: 250 2.1.0
         C: MAIL FROM:<>
         S: 503 5.5.1
         C: DATA
         S: 554 5.5.1
         C: RCPT TO:<anna@server1.com>
         S: 250 2.1.5
         C: RSET
         S: 250 2.0.0
         C: DATA
         S: 503 5.5.1
         C: MAIL FROM:<>
         S: 250 2.1.0
         C: RCPT TO:<anna@server1.com>
         S: 250 2.1.5
         C: EHLO again
         S: 250
         C: RCPT TO:<anna@server1.com>
         S: 503 5.5.1",
    );
}

#[test]
fn commands_that_stand_alone() {
    smtp(
        "C: NOOP
         S: 250 2.0.0
         C: noop whatever
         S: 250 2.0.0
         C: VRFY anna
         S: 252 2.1.5
         C: EXPN team
         S: 502 5.5.1
         C: HELP
         S: 214 2.0.0
         C: RSET
         S: 250 2.0.0
         C: ETRN server1.com
         S: 500 5.5.1
         C: AUTH PLAIN
         S: 502 5.5.1
         C: QUIT
         S: 221 2.0.0
         (closed)",
    );
}

#[test]
fn recipients_and_senders_are_refused_one_by_one() {
    let world = smtp(
        "C: EHLO client.example
         S: 250
         C: MAIL FROM:<x@bad.example>
         S: 553 5.7.1
         C: RCPT TO:<anna@server1.com>
         S: 503 5.5.1
         C: MAIL FROM:<x@else.example>
         S: 250 2.1.0
         C: RCPT TO:<ghost@server1.com>
         S: 550 5.1.1
         C: RCPT TO:<jack@server2.com>
         S: 553 5.7.1
         C: RCPT TO:<anna@server1.com>
         S: 250 2.1.5
         C: RCPT TO:<postmaster>
         S: 250 2.1.5
         C: RCPT TO:<tom@server1.com>
         S: 250 2.1.5
         C: RCPT TO:<bob@server1.com>
         S: 452 4.5.3
         C: DATA
         S: 354
         C: .
         S: 250 2.0.0",
    );
    assert_eq!(world.messages[0].0.recipients.len(), 3);
    assert_eq!(world.messages[0].1, b"");
}

#[test]
fn a_pipelined_group_gets_its_replies_in_order() {
    let mut world = after_greeting(settings(), false);
    world.feed(
        b"EHLO c\r\nMAIL FROM:<x@else.example>\r\nRCPT TO:<anna@server1.com>\r\nRCPT TO:<ghost@server1.com>\r\nDATA\r\n",
    );
    assert_eq!(world.codes(), ["250", "250 2.1.0", "250 2.1.5", "550 5.1.1", "354"]);
    world.feed(b"a\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<tom@server1.com>\r\nDATA\r\nb\r\n.\r\nQUIT\r\nNOOP\r\n");
    assert_eq!(world.codes(), ["250 2.0.0", "250 2.1.0", "250 2.1.5", "354", "250 2.0.0", "221 2.0.0"]);
    assert_eq!(world.messages.len(), 2);
}

#[test]
fn starttls_forgets_what_came_before_and_with_it() {
    let mut world = after_greeting(settings(), false);
    world.feed(b"EHLO c\r\nMAIL FROM:<x@else.example>\r\nSTARTTLS\r\nEHLO evil\r\nMAIL FROM:<evil@else.example>\r\n");
    assert_eq!(world.codes(), ["250", "250 2.1.0", "220 2.0.0"]);
    play(
        &mut world,
        "C: MAIL FROM:<x@else.example>
         S: 503 5.5.1
         C: EHLO c
         S: 250
         C: STARTTLS
         S: 503 5.5.1
         C: RCPT TO:<anna@server1.com>
         S: 503 5.5.1",
    );
    let mut without = after_greeting(Settings { starttls: false, ..settings() }, false);
    play(&mut without, "C: STARTTLS\nS: 454 4.7.0\nC: NOOP\nS: 250 2.0.0");
}

#[test]
fn submission_needs_tls_then_auth() {
    let mut world = after_greeting(submission(), false);
    play(
        &mut world,
        "C: AUTH PLAIN AHRvbUBzZXJ2ZXIxLmNvbQB0b20tcGFzc3dvcmQ=
         S: 503 5.5.1
         C: EHLO client
         S: 250
         C: AUTH PLAIN AHRvbUBzZXJ2ZXIxLmNvbQB0b20tcGFzc3dvcmQ=
         S: 538 5.7.11
         C: MAIL FROM:<tom@server1.com>
         S: 530 5.7.0
         C: STARTTLS
         S: 220 2.0.0
         C: EHLO client
         S: 250
         C: MAIL FROM:<tom@server1.com>
         S: 530 5.7.0
         C: AUTH CRAM-MD5
         S: 504 5.5.4
         C: AUTH PLAIN
         S: 334
         C: *
         S: 501 5.7.0
         C: AUTH LOGIN
         S: 334
         C: dG9tQHNlcnZlcjEuY29t
         S: 334
         C: !!!
         S: 501 5.5.2
         C: AUTH PLAIN AHgAeA==
         S: 535 5.7.8
         C: AUTH PLAIN
         S: 334
         C: AHRvbUBzZXJ2ZXIxLmNvbQB0b20tcGFzc3dvcmQ=
         S: 235 2.7.0
         C: AUTH PLAIN AHRvbUBzZXJ2ZXIxLmNvbQB0b20tcGFzc3dvcmQ=
         S: 503 5.5.1
         C: MAIL FROM:<tom@server1.com>
         S: 250 2.1.0
         C: RCPT TO:<anna@server1.com>
         S: 250 2.1.5
         C: DATA
         S: 354
         C: hello
         C: .
         S: 250 2.0.0",
    );
    assert_eq!(world.messages.len(), 1);
}

#[test]
fn login_in_three_lines() {
    let mut world = after_greeting(submission(), true);
    play(
        &mut world,
        "C: EHLO client
         S: 250
         C: AUTH LOGIN
         S: 334
         C: dG9tQHNlcnZlcjEuY29t
         S: 334
         C: eA==
         S: 235 2.7.0",
    );
}

#[test]
fn a_password_is_not_shown_with_the_machine() {
    let mut world = after_greeting(submission(), true);
    world.feed(b"EHLO c\r\nAUTH PLAIN AHRvbUBzZXJ2ZXIxLmNvbQBzZWNyZXQ=");
    assert!(!format!("{:?}", world.machine).contains("AHRvbUBz"));
    assert!(world.machine.input.ends_with(b"NyZXQ="));
}

#[test]
fn nothing_is_kept_of_a_message_that_has_gone() {
    let mut world = at_data();
    world.feed(&b"a line\r\n".repeat(1_000));
    world.feed(b".\r\n");
    assert!(world.machine.input.capacity() > 1_000);
    world.machine.trim();
    assert_eq!((world.machine.input.capacity(), world.machine.actions.capacity()), (0, 0));
}

#[test]
fn a_password_is_not_guessed_for_ever() {
    let mut world = after_greeting(submission(), true);
    world.feed(b"EHLO c\r\n");
    // A server that is busy has not looked at the password.
    world.feed(&b"AUTH PLAIN AHBhdGllbnQAeA==\r\n".repeat(20));
    assert_eq!(world.codes()[1..], ["454 4.7.0"; 20]);
    for _ in 1..bounds::FAILED_LOGINS {
        world.feed(b"AUTH PLAIN AHgAeA==\r\n");
        assert_eq!(world.codes(), ["535 5.7.8"]);
    }
    world.feed(b"AUTH PLAIN AHgAeA==\r\nNOOP\r\n");
    assert_eq!(world.codes(), ["535 5.7.8", "421 4.7.0"]);
    assert!(world.closed);
}

const TO_DATA: &[u8] = b"EHLO c\r\nMAIL FROM:<x@else.example>\r\nRCPT TO:<anna@server1.com>\r\nDATA\r\n";

fn at_data() -> World {
    let mut world = after_greeting(settings(), false);
    world.feed(TO_DATA);
    assert_eq!(world.codes().last().unwrap(), "354");
    world
}

/// What an attacker sends as one message so that a lax server sees two. There is one reply, and it refuses.
#[test]
fn smuggling_gives_one_refusal_and_no_message() {
    for end in [
        "\n.\n",
        "\n.\r\n",
        "\r\n.\n",
        "\r.\r",
        "\r.\r\n",
        "\r\n.\r",
        "\r\r\n.\r\r\n",
        "\r\n.\r\r\n",
        "\n\n.\r\n",
        "\r.\n",
        "\n.\r",
        "\r\n\0.\r\n",
        "\r\n.\0\r\n",
        "\r\n.\n\r\n",
        "\n\r.\n\r",
        "\r\n\r.\r\n",
    ] {
        let mut world = at_data();
        world.feed(format!("one{end}MAIL FROM:<evil@else.example>\r\nRCPT TO:<tom@server1.com>\r\n").as_bytes());
        assert_eq!(world.codes(), Vec::<String>::new(), "{end:?}");
        world.feed(b"DATA\r\ntwo\r\n.\r\nQUIT\r\n");
        assert_eq!(world.codes(), ["550 5.6.11", "221 2.0.0"], "{end:?}");
        assert!(world.messages.is_empty() && world.spool.is_none(), "{end:?}");
    }
}

#[test]
fn after_a_refused_message_the_session_goes_on() {
    let mut world = at_data();
    world.feed(b"a\nb\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<anna@server1.com>\r\nDATA\r\nfine\r\n.\r\n");
    assert_eq!(world.codes(), ["550 5.6.11", "250 2.1.0", "250 2.1.5", "354", "250 2.0.0"]);
    assert_eq!(world.messages[0].1, b"fine\r\n");
}

#[test]
fn too_large_messages() {
    let mut world = at_data();
    world.feed(&[b'x'; 9_998]);
    world.feed(b"\r\n.\r\n");
    assert_eq!(world.codes(), ["250 2.0.0"]);
    world.feed(&TO_DATA[8..]);
    world.feed(&[b'x'; 9_999]);
    world.feed(b"\r\n.\r\n");
    assert_eq!(world.codes().last().unwrap(), "552 5.3.4");
    assert_eq!(world.messages.len(), 1);
    assert!(world.spool.is_none());
    // One whose domain takes less.
    world.feed(b"MAIL FROM:<>\r\nRCPT TO:<sam@small.example>\r\nRCPT TO:<anna@server1.com>\r\nDATA\r\n");
    world.feed(b"more than twenty octets\r\n.\r\n");
    assert_eq!(world.codes().last().unwrap(), "552 5.3.4");
}

#[test]
fn a_message_without_end_ends_the_session() {
    let mut world = at_data();
    for _ in 0..30 {
        world.feed(&[b'x'; 1_000]);
    }
    assert_eq!(world.codes(), ["421 4.3.4"]);
    assert!(world.closed && world.spool.is_none());
    let mut world = at_data();
    world.feed(&[b'\n'; 30_000]);
    assert!(world.closed && world.messages.is_empty());
}

#[test]
fn a_message_that_has_been_everywhere() {
    let with = |count: usize| {
        let mut world = at_data();
        world.feed("Received: from a by b; x\r\n".repeat(count).as_bytes());
        world.feed(b"\r\nReceived: in the body\r\n.\r\n");
        world.codes()
    };
    assert_eq!(with(99), ["250 2.0.0"]);
    assert_eq!(with(100), ["554 5.4.6"]);
}

#[test]
fn content_that_cannot_be_kept() {
    for pieces in [vec![&b"a\r\n"[..], b"b\r\n.\r\n"], vec![b"a\r\nb\r\n.\r\n"]] {
        let mut world = at_data();
        world.broken_disk = true;
        pieces.into_iter().for_each(|piece| world.feed(piece));
        assert_eq!(world.codes(), ["452 4.3.1"]);
        assert!(world.messages.is_empty() && !world.closed);
        play(&mut world, "C: NOOP\nS: 250 2.0.0\nC: DATA\nS: 503 5.5.1");
    }
}

#[test]
fn long_lines_get_an_answer_and_no_memory() {
    let mut world = after_greeting(settings(), false);
    world.feed(format!("NOOP {}\r\n", "x".repeat(505)).as_bytes());
    assert_eq!(world.codes(), ["250 2.0.0"]);
    world.feed(format!("NOOP {}\r\nNOOP\r\n", "x".repeat(506)).as_bytes());
    assert_eq!(world.codes(), ["500 5.5.2", "250 2.0.0"]);
    for _ in 0..1_000 {
        world.feed(&[b'x'; 4_096]);
        assert!(world.machine.input.len() <= 1);
    }
    world.feed(b"x\r");
    world.feed(b"\nNOOP\r\n");
    assert_eq!(world.codes(), ["500 5.5.2", "250 2.0.0"]);
    // MAIL may be longer, by the parameter of AUTH for one.
    let mut world = after_greeting(submission(), true);
    world.feed(b"EHLO c\r\nAUTH PLAIN AHRvbUBzZXJ2ZXIxLmNvbQB0b20tcGFzc3dvcmQ=\r\n");
    let mail = |length| format!("MAIL FROM:<tom@server1.com> AUTH={}\r\n", "x".repeat(length));
    world.feed(mail(490).as_bytes());
    assert_eq!(world.codes(), ["250", "235 2.7.0", "250 2.1.0"]);
    world.feed(mail(1_400).as_bytes());
    assert_eq!(world.codes(), ["500 5.5.2"]);
}

#[test]
fn the_number_of_mistakes_is_bounded() {
    let mut world = after_greeting(settings(), false);
    world.feed(&b"GARBAGE\r\n".repeat(100));
    let codes = world.codes();
    assert_eq!(codes.len(), bounds::ERRORS as usize + 2);
    assert_eq!(codes.last().unwrap(), "421 4.7.0");
    assert!(world.closed);
}

#[test]
fn the_number_of_idle_commands_and_guesses_is_bounded() {
    let mut world = after_greeting(settings(), false);
    world.feed(&b"NOOP\r\n".repeat(2_000));
    assert_eq!(world.codes().last().unwrap(), "421 4.7.0");
    let mut world = after_greeting(settings(), false);
    world.feed(b"EHLO c\r\nMAIL FROM:<>\r\n");
    world.feed(&b"RCPT TO:<guess@server1.com>\r\n".repeat(300));
    let codes = world.codes();
    assert_eq!(codes.iter().filter(|code| *code == "550 5.1.1").count(), bounds::REFUSED_RECIPIENTS as usize + 1);
    assert_eq!(codes.last().unwrap(), "421 4.7.0");
}

#[test]
fn many_messages_in_one_session_are_welcome() {
    let mut world = after_greeting(settings(), false);
    world.feed(b"EHLO c\r\n");
    for _ in 0..1_000 {
        // A mistake and a refused recipient with each are no reason to send the client away.
        world.feed(b"RCPT TO:<anna@server1.com>\r\nMAIL FROM:<>\r\nRCPT TO:<guess@server1.com>\r\n");
        world.feed(b"RCPT TO:<anna@server1.com>\r\nDATA\r\n");
        world.feed(b"x\r\n.\r\n");
    }
    assert_eq!(world.messages.len(), 1_000);
    assert!(!world.closed);
}

#[test]
fn shutting_down_lets_a_message_finish() {
    let mut idle = after_greeting(settings(), false);
    idle.machine.shut_down();
    idle.settle();
    assert_eq!(idle.codes(), ["421 4.3.2"]);
    assert!(idle.closed);

    let mut busy = at_data();
    busy.feed(b"half");
    busy.machine.shut_down();
    busy.settle();
    assert!(busy.codes().is_empty() && busy.machine.has_message_in_flight());
    busy.feed(b" whole\r\n.\r\nMAIL FROM:<>\r\n");
    assert_eq!(busy.codes(), ["250 2.0.0", "421 4.3.2"]);
    assert_eq!(busy.messages[0].1, b"half whole\r\n");
    assert!(busy.closed);
}

#[test]
fn a_silent_client_is_told_why() {
    let mut world = after_greeting(settings(), false);
    world.machine.timed_out();
    world.settle();
    assert_eq!(world.codes(), ["421 4.4.2"]);
    assert!(world.closed);
}
