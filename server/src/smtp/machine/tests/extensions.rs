//! What the parameters of the extensions do in a session.

use super::*;

fn logged_in() -> World {
    let mut world = after_greeting(submission(), true);
    world.feed(b"EHLO c\r\nAUTH PLAIN AHRvbUBzZXJ2ZXIxLmNvbQB0b20tcGFzc3dvcmQ=\r\n");
    assert_eq!(world.codes(), ["250", "235 2.7.0"]);
    world
}

/// RFC 3461: what MAIL and RCPT ask for comes with the envelope; of a recipient that is named twice, what came first.
#[test]
fn dsn_parameters_come_with_the_envelope() {
    let mut world = after_greeting(settings(), false);
    play(
        &mut world,
        "C: EHLO client.example
         S: 250
         C: MAIL FROM:<x@else.example> RET=HDRS ENVID=QQ314159
         S: 250 2.1.0
         C: RCPT TO:<anna@server1.com> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;list@else.example
         S: 250 2.1.5
         C: RCPT TO:<anna@server1.com> NOTIFY=NEVER
         S: 250 2.1.5
         C: RCPT TO:<tom@server1.com> NOTIFY=MAYBE
         S: 501 5.5.4
         C: RCPT TO:<tom@server1.com> ORCPT=anna
         S: 501 5.5.4
         C: RCPT TO:<tom@server1.com>
         S: 250 2.1.5
         C: BDAT 0 LAST
         S: 250 2.0.0",
    );
    let envelope = &world.messages[0].0;
    assert_eq!(envelope.mail.envelope_id.as_deref(), Some("QQ314159"));
    let [anna, tom] = envelope.recipients.as_slice() else { panic!("{envelope:?}") };
    assert!(anna.notify.on_success() && anna.notify.on_failure() && !anna.notify.on_delay());
    assert_eq!(anna.original.as_ref().unwrap().to_text(), "rfc822;list@else.example");
    assert_eq!((tom.notify, &tom.original), (Notify::Unspecified, &None));
}

/// RFC 6710 §4.1: a priority that the client may not have is lowered, and it is told.
#[test]
fn a_priority_that_is_not_granted_is_said() {
    let mut world = after_greeting(settings(), false);
    play(
        &mut world,
        "C: EHLO client.example
         S: 250
         C: MAIL FROM:<> MT-PRIORITY=4
         S: 250 2.3.6
         C: RSET
         S: 250 2.0.0
         C: MAIL FROM:<> MT-PRIORITY=-4
         S: 250 2.1.0
         C: RSET
         S: 250 2.0.0
         C: MAIL FROM:<> MT-PRIORITY=12
         S: 501 5.5.4",
    );
}

/// RFC 4865 §3: on submission only, and not for longer than EHLO says.
#[test]
fn messages_are_held_within_the_offer() {
    let mut world = logged_in();
    play(
        &mut world,
        "C: MAIL FROM:<tom@server1.com> HOLDFOR=3601
         S: 501 5.5.4
         C: MAIL FROM:<tom@server1.com> HOLDUNTIL=2026-11-23T13:00:01Z
         S: 501 5.5.4
         C: MAIL FROM:<tom@server1.com> HOLDUNTIL=2026-11-23T13:00:00Z
         S: 250 2.1.0
         C: RSET
         S: 250 2.0.0
         C: MAIL FROM:<tom@server1.com> HOLDFOR=3600
         S: 250 2.1.0",
    );
    let mut world = after_greeting(settings(), false);
    play(&mut world, "C: EHLO c\nS: 250\nC: MAIL FROM:<> HOLDFOR=1\nS: 555 5.5.4");
}

/// What is held longer than it may take could only come back.
#[test]
fn messages_are_not_held_beyond_the_time_by_which_they_have_to_arrive() {
    let mut world = logged_in();
    play(
        &mut world,
        "C: MAIL FROM:<tom@server1.com> HOLDFOR=600 BY=600;R
         S: 501 5.5.4
         C: MAIL FROM:<tom@server1.com> HOLDUNTIL=2026-11-23T12:10:00Z BY=600;R
         S: 501 5.5.4
         C: MAIL FROM:<tom@server1.com> HOLDFOR=600 BY=600;N
         S: 250 2.1.0
         C: RSET
         S: 250 2.0.0
         C: MAIL FROM:<tom@server1.com> HOLDUNTIL=2026-11-23T12:09:59Z BY=600;R
         S: 250 2.1.0
         C: RSET
         S: 250 2.0.0
         C: MAIL FROM:<tom@server1.com> HOLDFOR=599 BY=600;R
         S: 250 2.1.0",
    );
}

/// RFC 2852 §3.
#[test]
fn messages_cannot_be_returned_sooner_than_the_offer_says() {
    let mut world = after_greeting(settings(), false);
    play(
        &mut world,
        "C: EHLO c
         S: 250
         C: MAIL FROM:<> BY=59;R
         S: 555 5.5.4
         C: MAIL FROM:<> BY=0;R
         S: 501 5.5.4
         C: MAIL FROM:<> BY=1;N
         S: 250 2.1.0
         C: RSET
         S: 250 2.0.0
         C: MAIL FROM:<> BY=60;RT
         S: 250 2.1.0",
    );
}

/// RFC 8689 §3: under TLS only.
#[test]
fn requiretls_needs_tls() {
    let mut world = after_greeting(settings(), false);
    play(&mut world, "C: EHLO c\nS: 250\nC: MAIL FROM:<> REQUIRETLS\nS: 555 5.5.4");
    let mut world = after_greeting(settings(), true);
    play(&mut world, "C: EHLO c\nS: 250\nC: MAIL FROM:<> REQUIRETLS\nS: 250 2.1.0");
}

/// RFC 9422: what LIMITS says is what happens.
#[test]
fn limits_are_those_that_are_offered() {
    let mut world = after_greeting(Settings { max_recipients: 1_000, ..settings() }, false);
    world.feed(b"EHLO c\r\nMAIL FROM:<>\r\n");
    for number in 0..bounds::RECIPIENT_DOMAINS {
        world.feed(format!("RCPT TO:<x@d{number}.many.example>\r\n").as_bytes());
    }
    assert!(world.codes()[2..].iter().all(|code| code == "250 2.1.5"));
    world.feed(b"RCPT TO:<x@another.many.example>\r\nRCPT TO:<y@d0.many.example>\r\n");
    assert_eq!(world.codes(), ["452 4.5.3", "250 2.1.5"]);

    let mut world = after_greeting(settings(), false);
    world.feed(b"EHLO c\r\n");
    world.feed(b"MAIL FROM:<>\r\nRSET\r\n");
    assert_eq!(world.machine.tally.mails, 1);
    world.machine.tally.mails = bounds::MAILS - 1;
    world.feed(b"MAIL FROM:<>\r\nRSET\r\n");
    assert_eq!(world.codes().last().unwrap(), "250 2.0.0");
    world.feed(b"MAIL FROM:<>\r\n");
    assert_eq!(world.codes(), ["421 4.5.3"]);
    assert!(world.closed);
}

#[test]
fn bare_line_endings_are_normalised_where_the_listener_says_so() {
    let mut world = after_greeting(Settings { bare_line_endings: BareLineEndings::Normalise, ..settings() }, false);
    world.feed(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<anna@server1.com>\r\nDATA\r\n");
    world.feed(b"a\nb\rc\n.\nMAIL FROM:<evil@else.example>\n.\r\nd\r\n.\r\nQUIT\r\n");
    assert_eq!(world.codes()[3..], ["354", "250 2.0.0", "221 2.0.0"]);
    let stored: &[u8] = b"a\r\nb\r\nc\r\n.\r\nMAIL FROM:<evil@else.example>\r\n.\r\nd\r\n";
    assert_eq!(world.messages.len(), 1);
    assert_eq!(world.messages[0].1, stored);
}
