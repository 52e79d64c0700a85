//! The extension mechanism (RFC 2449) and what it announces: each capability in each state, and what it promises.

use super::*;

/// The lines of CAPA's answer between the reply and the dot.
fn capabilities(driver: &mut Driver) -> Vec<String> {
    let answer = driver.say(b"CAPA\r\n");
    let lines: Vec<&str> = answer.split("\r\n").collect();
    assert!(lines[0].starts_with("+OK ") && answer.ends_with("\r\n.\r\n"), "{answer}");
    lines[1..lines.len() - 2].iter().map(|line| (*line).to_owned()).collect()
}

fn has(list: &[String], name: &str) -> bool {
    list.iter().any(|line| line == name)
}

/// MAIL.md: "Complete CAPA that tells the truth".
#[test]
fn the_whole_set_is_announced_before_and_after_the_login() {
    let mut driver = Driver::with(Settings { login_delay: 30, ..settings(Security::Tls) });
    let before = capabilities(&mut driver);
    for line in [
        "TOP",
        "UIDL",
        "USER",
        "SASL PLAIN",
        "PIPELINING",
        "RESP-CODES",
        "AUTH-RESP-CODE",
        "EXPIRE NEVER",
        "LOGIN-DELAY 30",
        "UTF8 USER",
        "LANG",
        "IMPLEMENTATION Paquebot",
    ] {
        assert!(has(&before, line), "{line}: {before:?}");
    }
    driver.say(b"USER tom@server1.com\r\nPASS secret\r\n");
    assert_eq!(capabilities(&mut driver), before);
}

#[test]
fn login_and_stls_are_announced_where_they_are_possible() {
    let mut driver = Driver::new(Security::ClearWithStls);
    let before = capabilities(&mut driver);
    assert!(has(&before, "STLS") && !has(&before, "USER") && !has(&before, "SASL PLAIN"), "{before:?}");
    driver.say(b"STLS\r\n");
    let after = capabilities(&mut driver);
    assert!(!has(&after, "STLS") && has(&after, "USER") && has(&after, "SASL PLAIN"), "{after:?}");
    let none = capabilities(&mut Driver::new(Security::Clear));
    assert!(!has(&none, "STLS") && !has(&none, "USER") && !has(&none, "SASL PLAIN"), "{none:?}");
    // Nothing announces less than 0 seconds, and nothing is enforced then.
    assert!(has(&none, "LOGIN-DELAY 0"), "{none:?}");
}

#[test]
fn a_listener_may_allow_passwords_in_clear() {
    for security in [Security::Clear, Security::ClearWithStls] {
        let mut driver = Driver::with(Settings { clear_text_logins: true, ..settings(security) });
        let list = capabilities(&mut driver);
        assert!(has(&list, "USER") && has(&list, "SASL PLAIN"), "{list:?}");
        assert_eq!(has(&list, "STLS"), security == Security::ClearWithStls, "{list:?}");
        let answer = driver.say(b"USER tom@server1.com\r\nPASS secret\r\n");
        assert!(answer.ends_with("+OK 3 messages (5000000300 octets)\r\n"), "{answer}");
        assert!(!has(&capabilities(&mut driver), "STLS"), "STLS is not possible after the login");
    }
}

/// RFC 2449 §6.5 and §8.1.1.
#[test]
fn a_login_that_is_too_soon_is_told_and_counts_for_nothing() {
    let mut driver = Driver::new(Security::Tls);
    for _ in 0..5 {
        driver.machine.feed(b"USER tom@server1.com\r\nPASS secret\r\n");
        assert!(matches!(driver.machine.next_output(), Output::Send(_)));
        assert!(matches!(driver.machine.next_output(), Output::Login { .. }));
        driver.machine.login_too_soon(7);
        assert_eq!(driver.say(b""), "-ERR [LOGIN-DELAY] the last login was moments ago; wait 7 seconds\r\n");
    }
    assert!(driver.say(b"USER tom@server1.com\r\nPASS secret\r\n").ends_with("(5000000300 octets)\r\n"));
}

/// RFC 6856 §3.
#[test]
fn replies_are_in_the_language_that_was_asked_for() {
    let mut driver = Driver::new(Security::Tls);
    let list = "+OK language listing follows\r\ni-default Default\r\nen English\r\nde Deutsch\r\nfr Français\r\n.\r\n";
    assert_eq!(driver.say(b"LANG\r\n"), list);
    assert_eq!(driver.say(b"lang DE-at\r\n"), "+OK de Antworten sind jetzt deutsch\r\n");
    assert!(driver.say(b"LANG\r\n").starts_with("+OK es folgen die Sprachen\r\n"));
    assert_eq!(driver.say(b"USER tom@server1.com\r\n"), "+OK bitte das Passwort\r\n");
    assert_eq!(
        driver.say(b"PASS wrong\r\n"),
        "-ERR [AUTH] Anmeldename oder Passwort ist falsch\r\n",
        "the code is for programs, and stays"
    );
    driver.say(b"USER tom@server1.com\r\nPASS secret\r\n");
    // What fails leaves the language as it was; numbers are no language's.
    assert!(driver.say(b"LANG nl\r\n").starts_with("-ERR diese Sprache"));
    assert_eq!(driver.say(b"STAT\r\nRETR 9\r\n"), "+OK 3 5000000300\r\n-ERR diese Nachricht gibt es nicht\r\n");
    assert_eq!(driver.say(b"LANG fr\r\n"), "+OK fr les réponses sont désormais en français\r\n");
    assert_eq!(driver.say(b"LANG *\r\nNOOP\r\n"), "+OK en replies are in English now\r\n+OK nothing done\r\n");
    assert_eq!(driver.say(b"DELE 1\r\nLANG fr\r\nQUIT\r\n").lines().last(), Some("[closed]"));
}

/// RFC 6856 §2.1.
#[test]
fn utf8_is_for_before_the_login_and_after_stls() {
    let mut driver = Driver::new(Security::Tls);
    assert!(!driver.machine.is_utf8());
    assert_eq!(driver.say(b"UTF8\r\nUTF8\r\n"), "+OK UTF-8 from here on\r\n".repeat(2));
    assert!(driver.say(b"UTF8 now\r\n").starts_with("-ERR "));
    driver.say(b"USER tom@server1.com\r\nPASS secret\r\n");
    assert!(driver.machine.is_utf8());
    assert!(Driver::logged_in().say(b"UTF8\r\n").starts_with("-ERR "));

    let mut driver = Driver::new(Security::ClearWithStls);
    driver.say(b"UTF8\r\n");
    assert!(!has(&capabilities(&mut driver), "STLS"));
    assert_eq!(driver.say(b"STLS\r\n"), "-ERR STLS comes before UTF8\r\n");
}

/// RFC 2595 §4: what was agreed on in clear is forgotten.
#[test]
fn stls_forgets_the_language() {
    let mut driver = Driver::new(Security::ClearWithStls);
    driver.say(b"LANG de\r\nSTLS\r\n");
    assert_eq!(driver.say(b"STAT\r\n"), "-ERR log in first\r\n");
}

/// RFC 2449 §4, RFC 5034 §4: an initial response counts into the 255 octets of its command; an answer may be longer.
#[test]
fn an_initial_response_that_is_too_long_for_a_command_fits_an_answer() {
    use base64::Engine as _;
    let password = "p".repeat(300);
    let answer = base64::engine::general_purpose::STANDARD.encode(format!("\0tom@server1.com\0{password}"));
    let mut driver = Driver::new(Security::Tls);
    let refused = driver.say(format!("AUTH PLAIN {answer}\r\n").as_bytes());
    assert_eq!(refused, "-ERR the line is too long; a command has at most 255 octets\r\n");
    assert_eq!(driver.say(b"AUTH PLAIN\r\n"), "+ \r\n");
    assert!(driver.say(format!("{answer}\r\n").as_bytes()).starts_with("-ERR [AUTH]"));
    // An initial response of nothing at all is not PLAIN's.
    assert!(driver.say(b"AUTH PLAIN =\r\n").starts_with("-ERR the answer is not"));
    assert!(driver.say(b"AUTH\r\n").starts_with("-ERR AUTH needs a mechanism"));
}

#[test]
fn utf8_logins_are_taken_as_they_come() {
    let mut driver = Driver::new(Security::Tls);
    let answer = driver.say("USER jürgen@server1.com\r\nPASS secret\r\n".as_bytes());
    assert!(answer.contains("[jürgen@server1.com]\n+OK 3 messages"), "{answer}");
}
