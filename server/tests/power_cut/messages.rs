//! Messages that can be told from one another and show whether they are whole.

/// Names a message, in its content and as the local part of its remote recipient.
pub type Token = u64;

/// The content of a message of about so many octets: CRLF line ends, nothing that dot-stuffing would touch.
pub fn content(token: Token, octets: u64) -> Vec<u8> {
    let mut content = format!("X-Token: {token}\r\nX-Octets: {octets}\r\nSubject: mail {token}\r\n\r\n").into_bytes();
    let mut line = 0_u64;
    while (content.len() as u64) < octets {
        content.extend(format!("{token} {line} the quick brown fox jumps over the lazy dog\r\n").bytes());
        line += 1;
    }
    content
}

/// The token of a message that was fetched or relayed; fails when it is not whole. The server puts fields before it.
pub fn whole(message: &[u8]) -> Token {
    let begin = message.windows(9).position(|window| window == b"X-Token: ").unwrap_or_else(|| {
        panic!("a message without its token: {:?}", String::from_utf8_lossy(&message[..message.len().min(300)]))
    });
    let ours = &message[begin..];
    let number = |field: &str| -> u64 {
        let header = String::from_utf8_lossy(&ours[..ours.len().min(200)]).into_owned();
        let rest = header.split(field).nth(1).unwrap_or_else(|| panic!("no {field} in {header:?}"));
        rest.split("\r\n").next().unwrap().parse().unwrap_or_else(|_| panic!("{field} in {header:?}"))
    };
    let token = number("X-Token: ");
    assert!(ours == content(token, number("X-Octets: ")), "message {token} is not whole: {} octets", ours.len());
    token
}
