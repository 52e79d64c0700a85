//! RFC 5321, the conversation: sections 2 to 4.3, commands, their order and their syntax.

use anyhow::{Result, ensure};

use super::super::Need::{Login, NoLogin};
use super::super::Requirement;
use super::super::target::Target;
use super::Start::{Connected, Data, Mail, Ready, Recipient};
use super::{CLIENT_NAME, Session};

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::dialogue(
        "RFC 5321 §2.4",
        "commands and keywords are taken in any case",
        Ready,
        &[("nOoP", "250"), ("mAiL fRoM:<{sender}>", "250"), ("rcpt TO:<{served}>", "250"), ("rSeT", "250")],
    ),
    Requirement::function("RFC 5321 §3.1", "the greeting is 220 and names the server", the_greeting_names_the_server),
    Requirement::function("RFC 5321 §3.2", "EHLO is answered with 250 and the server's name", ehlo_names_the_server),
    Requirement::function("RFC 5321 §4.1.1.1", "the lines of the EHLO reply are ehlo-keywords", ehlo_keywords),
    Requirement::dialogue(
        "RFC 5321 §4.1.1.1",
        "HELO is answered with one line of 250",
        Connected,
        &[("HELO conformance.example", "250")],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.1.1.1",
        "EHLO and HELO without a name are syntax errors",
        Connected,
        &[("EHLO", "501"), ("HELO", "501"), ("EHLO conformance.example", "250")],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.1.3",
        "a client may call itself by an address literal",
        Connected,
        &[("EHLO [192.0.2.1]", "250"), ("EHLO [IPv6:2001:db8::1]", "250")],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.1.4",
        "EHLO later in the session is answered, and ends the transaction as RSET does",
        Recipient,
        &[("EHLO conformance.example", "250"), ("DATA", "503|554"), ("MAIL FROM:<{sender}>", "250")],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.1.4",
        "MAIL before EHLO or HELO is an order error",
        Connected,
        &[("MAIL FROM:<{sender}>", "503|530")],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.1.4",
        "RCPT and DATA before MAIL are order errors",
        Ready,
        &[("RCPT TO:<{served}>", "503"), ("DATA", "503|554")],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.1.4",
        "DATA before RCPT is an order error; the transaction stays",
        Mail,
        &[("DATA", "503|554"), ("RCPT TO:<{served}>", "250")],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.1.4",
        "MAIL within a transaction is an order error; the transaction stays",
        Recipient,
        &[("MAIL FROM:<{sender}>", "503"), ("DATA", "354"), ("\r\n.\r\n", "")],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.1.4",
        "NOOP, HELP, VRFY, EXPN, RSET and QUIT may come before EHLO",
        Connected,
        &[
            ("NOOP", "250"),
            ("HELP", "211|214|500|502|504"),
            ("VRFY {served}", "25|5"),
            ("EXPN {served}", "25|5"),
            ("RSET", "250"),
            ("QUIT", "221"),
            ("", "closed"),
        ],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.1.1.2",
        "the null reverse-path is accepted",
        Ready,
        &[("MAIL FROM:<>", "250"), ("RCPT TO:<{served}>", "250"), ("RSET", "250")],
    )
    .needs(NoLogin),
    Requirement::dialogue(
        "RFC 5321 §4.1.1.2",
        "MAIL without FROM, without a path or with half a path is a syntax error",
        Ready,
        &[
            ("MAIL", "500|501"),
            ("MAIL FROM:", "501"),
            ("MAIL FORM:<{sender}>", "501"),
            ("MAIL FROM:<{sender}", "501"),
            ("MAIL FROM:<a b@example.org>", "501|553"),
            ("MAIL FROM:<{sender}>", "250"),
        ],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.1.1.3",
        "RCPT without TO, without a path or with half a path is a syntax error; the transaction stays",
        Mail,
        &[
            ("RCPT", "500|501"),
            ("RCPT TO:", "501"),
            ("RCPT TO:<>", "501|550|553"),
            ("RCPT TO:<{served}", "501"),
            ("RCPT TO:<@{served-domain}>", "501|550|553"),
            ("RCPT TO:<{served-local}@>", "501|550|553"),
            ("RCPT TO:<{served}>", "250"),
        ],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.1.1.3",
        "a source route is read and ignored",
        Mail,
        &[("RCPT TO:<@relay.example,@second.example:{served}>", "250")],
    ),
    Requirement::dialogue(
        "RFC 5321 §3.3",
        "a recipient that is not here is refused with 550, and the transaction goes on",
        Mail,
        &[("RCPT TO:<{unknown}>", "550"), ("RCPT TO:<{served}>", "250"), ("DATA", "354"), ("\r\n.\r\n", "")],
    ),
    Requirement::dialogue(
        "RFC 5321 §3.6.2",
        "mail for others is refused where the client may not relay, and the transaction goes on",
        Mail,
        &[("RCPT TO:<{foreign}>", "550|551|553|554"), ("RCPT TO:<{served}>", "250"), ("RSET", "250")],
    )
    .needs(NoLogin),
    Requirement::dialogue(
        "RFC 5321 §3.6.2",
        "no form of an address makes a relay: source routes, percent hack, bang path, quotes",
        Mail,
        &[
            ("RCPT TO:<@{served-domain}:{foreign}>", "5"),
            ("RCPT TO:<stranger%foreign.example@{served-domain}>", "5"),
            ("RCPT TO:<foreign.example!stranger@{served-domain}>", "5"),
            ("RCPT TO:<\"{foreign}\"@{served-domain}>", "5"),
            ("RCPT TO:<stranger%foreign.example>", "5"),
            ("RCPT TO:<stranger@[203.0.113.1]>", "5"),
        ],
    )
    .needs(NoLogin),
    Requirement::dialogue(
        "RFC 6409 §3.1",
        "an authenticated sender may send to others",
        Mail,
        &[("RCPT TO:<{foreign}>", "250"), ("RSET", "250")],
    )
    .needs(Login),
    Requirement::function(
        "RFC 6409 §4.3",
        "a submission server wants a login before MAIL: 530",
        submission_wants_a_login,
    )
    .needs(Login),
    Requirement::dialogue(
        "RFC 6409 §6.1",
        "an authenticated sender may not use the address of another: 553 or 550",
        Ready,
        &[("MAIL FROM:<{foreign}>", "55"), ("MAIL FROM:<{sender}>", "250")],
    )
    .needs(Login),
    Requirement::dialogue(
        "RFC 5321 §4.1.1.5",
        "RSET ends the transaction",
        Recipient,
        &[("RSET", "250"), ("DATA", "503|554"), ("RCPT TO:<{served}>", "503"), ("MAIL FROM:<{sender}>", "250")],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.1.1.5",
        "RSET is answered outside of a transaction, and takes no argument",
        Ready,
        &[("RSET", "250"), ("RSET", "250"), ("RSET now", "501")],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.1.1.6",
        "VRFY is known: 25x, 502 or 55x; without an argument it is a syntax error",
        Ready,
        &[("VRFY {served}", "25|502|55"), ("VRFY", "501")],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.1.1.7",
        "EXPN is carried out or refused",
        Ready,
        &[("EXPN {served}", "25|500|502|55")],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.1.1.9",
        "NOOP does nothing, with an argument too, within a transaction too",
        Recipient,
        &[("NOOP", "250"), ("NOOP this is ignored", "250"), ("DATA", "354"), ("\r\n.\r\n", "")],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.1.1.10",
        "QUIT is answered 221, and then the server closes",
        Ready,
        &[("QUIT", "221"), ("", "closed")],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.1.1.10",
        "QUIT is taken in a transaction too",
        Recipient,
        &[("QUIT", "221"), ("", "closed")],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.3.2",
        "DATA and QUIT take no argument: 501, and the session goes on",
        Recipient,
        &[("DATA now", "501"), ("QUIT now", "501|221")],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.1.1.11",
        "a parameter of MAIL or RCPT that is not known is refused with 555",
        Ready,
        &[
            ("MAIL FROM:<{sender}> X-UNKNOWN=1", "555"),
            ("MAIL FROM:<{sender}>", "250"),
            ("RCPT TO:<{served}> X-UNKNOWN=1", "555"),
            ("RCPT TO:<{served}>", "250"),
        ],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.1.2",
        "the quoted form of a local part is the same mailbox",
        Mail,
        &[("RCPT TO:<\"{served-local}\"@{served-domain}>", "250")],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.1.2",
        "a quoted local part may hold spaces, brackets and escaped quotes: no syntax error",
        Mail,
        &[
            ("RCPT TO:<\"no such user\"@{served-domain}>", "55"),
            ("RCPT TO:<\"no>such\"@{served-domain}>", "55"),
            ("RCPT TO:<\"no\\\"such\"@{served-domain}>", "55"),
            ("RCPT TO:<{served}>", "250"),
        ],
    ),
    Requirement::dialogue(
        "RFC 5321 §2.4",
        "the domain of a recipient is taken in any case",
        Mail,
        &[("RCPT TO:<{served-local}@{served-domain-upper}>", "250")],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.1.3",
        "an address literal is no syntax error",
        Mail,
        &[("RCPT TO:<postmaster@[192.0.2.1]>", "25|45|55"), ("RCPT TO:<postmaster@[IPv6:2001:db8::1]>", "25|45|55")],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.5.1",
        "<postmaster> without a domain is accepted, in any case",
        Mail,
        &[("RCPT TO:<postmaster>", "250"), ("RCPT TO:<PostMaster>", "250")],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.5.1",
        "postmaster of a served domain is accepted",
        Mail,
        &[("RCPT TO:<postmaster@{served-domain}>", "250")],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.2.4",
        "a command that is not known is answered 500, and the session lives",
        Ready,
        &[("TURTLE", "500"), ("NOOP", "250"), ("XTURTLE now", "500"), ("NOOP", "250")],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.1.1.4",
        "DATA is answered 354, its end 250, and another message can follow",
        Data,
        &[
            ("Subject: first\r\n\r\none\r\n.\r\n", "250"),
            ("MAIL FROM:<{sender}>", "250"),
            ("RCPT TO:<{served}>", "250"),
            ("DATA", "354"),
            ("Subject: second\r\n\r\ntwo\r\n.\r\n", "250"),
            ("QUIT", "221"),
        ],
    ),
    Requirement::dialogue(
        "RFC 5321 §4.1.1.4",
        "the transaction is over after DATA, whichever way it ended",
        Data,
        &[("Subject: over\r\n\r\none\r\n.\r\n", "250"), ("RCPT TO:<{served}>", "503"), ("DATA", "503|554")],
    ),
];

fn the_greeting_names_the_server(target: &Target) -> Result<()> {
    let mut connection = Session::connect(target)?;
    // The greeting is read by connect; what the server calls itself has to be what EHLO says.
    let reply = connection.hello()?;
    ensure!(reply.lines.iter().all(|line| line.is_ascii()), "a reply line is not ASCII: {reply:?}");
    Ok(())
}

fn ehlo_names_the_server(target: &Target) -> Result<()> {
    let mut session = Session::connect(target)?;
    let reply = session.say(&format!("EHLO {CLIENT_NAME}"))?;
    reply.expect("250")?;
    let name = reply.lines.first().and_then(|line| line.split(' ').next()).unwrap_or_default();
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-[]:".contains(&byte));
    ensure!(is_name, "the EHLO reply begins with {name:?}, which is no domain name");
    Ok(())
}

fn ehlo_keywords(target: &Target) -> Result<()> {
    let session = Session::ready(target)?;
    for line in &session.keywords {
        let keyword = line.split(' ').next().unwrap_or_default();
        let first = keyword.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let rest = keyword.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        ensure!(first && rest, "{line:?} does not begin with an ehlo-keyword");
    }
    Ok(())
}

fn submission_wants_a_login(target: &Target) -> Result<()> {
    let mut session = Session::protected(target)?;
    session.say(&target.fill("MAIL FROM:<{sender}>"))?.expect("530")?;
    Ok(())
}
