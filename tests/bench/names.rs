//! A name server of a few lines for the benchmark's one foreign domain: whatever is asked for, the mail exchanger is the
//! name itself, and its address is loopback. Postfix is told by `relayhost`, and asks nobody.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

const TYPE_A: u16 = 1;
const TYPE_MX: u16 = 15;
/// Long enough that one run asks once.
const TIME_TO_LIVE: u32 = 3600;
/// The header of a message, RFC 1035 §4.1.1.
const HEADER: usize = 12;

/// Answers questions on a port of its own for as long as the process lives.
pub fn serve() -> anyhow::Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = socket.local_addr()?;
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            if let Some(answer) = answer(&buffer[..length]) {
                // Who asked asks again.
                let _ = socket.send_to(&answer, client);
            }
        }
    });
    Ok(address)
}

/// The answer to a message with one question; `None` for anything else.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let name_end = HEADER + question.get(HEADER..)?.iter().position(|octet| *octet == 0)? + 1;
    let asked = question.get(name_end..name_end + 4)?;
    let kind = u16::from_be_bytes([asked[0], asked[1]]);
    // The name in the answer is a pointer to the question's (RFC 1035 §4.1.4).
    let pointer = [0xc0, HEADER as u8];
    let data = match kind {
        TYPE_A => Some(Ipv4Addr::LOCALHOST.octets().to_vec()),
        TYPE_MX => Some([&[0, 10][..], &pointer].concat()),
        _ => None,
    };
    let mut message = question[..2].to_vec();
    // An authoritative answer without error; recursion as it was asked for.
    message.extend([0x84 | (question[2] & 1), 0x80, 0, 1, 0, u8::from(data.is_some()), 0, 0, 0, 0]);
    message.extend(&question[HEADER..name_end + 4]);
    if let Some(data) = data {
        message.extend(pointer);
        message.extend(kind.to_be_bytes());
        message.extend(1_u16.to_be_bytes());
        message.extend(TIME_TO_LIVE.to_be_bytes());
        message.extend((data.len() as u16).to_be_bytes());
        message.extend(data);
    }
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x04sink\x04test\0\0\x0f\0\x01";

    #[test]
    fn the_exchanger_is_the_name_itself() {
        let answer = answer(QUESTION).unwrap();
        assert_eq!(answer[..8], *b"\x12\x34\x85\x80\0\x01\0\x01");
        assert!(answer.ends_with(b"\xc0\x0c\0\x0f\0\x01\0\0\x0e\x10\0\x04\0\x0a\xc0\x0c"));
    }

    #[test]
    fn nonsense_is_not_answered() {
        for length in 0..QUESTION.len() {
            assert!(answer(&QUESTION[..length]).is_none(), "{length}");
        }
    }
}
