use super::*;

/// Bytes that are nearly a session: commands, pieces of content, and noise in any order.
fn sessions() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"EHLO c.example\r\n".to_vec()),
        Just(b"MAIL FROM:<x@else.example> SIZE=100\r\n".to_vec()),
        Just(b"RCPT TO:<anna@server1.com>\r\n".to_vec()),
        Just(b"RCPT TO:<ghost@server1.com>\r\n".to_vec()),
        Just(b"RCPT TO:<sam@small.example>\r\n".to_vec()),
        Just(b"DATA\r\n".to_vec()),
        Just(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<anna@server1.com>\r\nDATA\r\n".to_vec()),
        Just(b"Subject: x\r\n\r\n..dots\r\n".to_vec()),
        Just(b"\r\n.\r\n".to_vec()),
        Just(b".\r\n".to_vec()),
        Just(b"RSET\r\n".to_vec()),
        Just(b"EHLO c\r\nMAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<anna@server1.com> NOTIFY=SUCCESS\r\n".to_vec()),
        (proptest::collection::vec(any::<u8>(), 0..60), 0..4usize, any::<bool>()).prop_map(chunk),
        Just(b"BDAT 99999999\r\n".to_vec()),
        Just(b"AUTH PLAIN\r\n".to_vec()),
        Just(b"AHRvbUBzZXJ2ZXIxLmNvbQB0b20tcGFzc3dvcmQ=\r\n".to_vec()),
        Just(b"AUTH LOGIN eA==\r\neA==\r\n".to_vec()),
        Just(b"QUIT\r\n".to_vec()),
        (500..1_200usize).prop_map(|length| vec![b'x'; length]),
        (500..700usize).prop_map(|length| [b"MAIL FROM:<", &vec![b'x'; length][..], b">\r\n"].concat()),
        proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(0), any::<u8>()], 0..12),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// A chunk, now and then with a size that is not its own.
fn chunk((octets, error, last): (Vec<u8>, usize, bool)) -> Vec<u8> {
    let size = octets.len() + if error == 3 { 5 } else { 0 };
    [format!("BDAT {size}{}\r\n", if last { " LAST" } else { "" }).as_bytes(), &octets].concat()
}

fn outcome(settings: Settings, pieces: impl Iterator<Item = Vec<u8>>) -> (String, Vec<(Envelope, Vec<u8>)>, bool) {
    let mut world = World::new(settings, true);
    for piece in pieces {
        world.feed(&piece);
        assert!(world.machine.input.len() <= bounds::SASL_LINE + piece.len());
    }
    (world.replies, world.messages, world.closed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_split_gives_the_same(bytes in sessions(), cuts in proptest::collection::vec(1..40usize, 1..10), submitting: bool) {
        let settings = if submitting { submission() } else { Settings { max_message_size: 2_000, ..settings() } };
        let whole = outcome(settings.clone(), std::iter::once(bytes.clone()));
        let single = outcome(settings.clone(), bytes.iter().map(|byte| vec![*byte]));
        prop_assert_eq!(&single, &whole);
        let mut rest = &bytes[..];
        let mut pieces = Vec::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break }
            let (piece, next) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece.to_vec());
            rest = next;
        }
        prop_assert_eq!(&outcome(settings, pieces.into_iter()), &whole);
    }

    /// What is stored equals what was sent, in chunks of any sizes and packets of any sizes.
    #[test]
    fn binary_messages_arrive_octet_by_octet(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..8), cut in 1..200usize) {
        let mut wire = b"EHLO c\r\nMAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<anna@server1.com>\r\n".to_vec();
        for (number, octets) in chunks.iter().enumerate() {
            wire.extend(chunk((octets.clone(), 0, number + 1 == chunks.len())));
        }
        let (_, messages, closed) = outcome(settings(), wire.chunks(cut).map(<[u8]>::to_vec));
        prop_assert_eq!((messages.len(), &messages[0].1, closed), (1, &chunks.concat(), false));
    }

    #[test]
    fn any_bytes_at_all(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let whole = outcome(settings(), std::iter::once(bytes.clone()));
        prop_assert_eq!(outcome(settings(), bytes.chunks(7).map(<[u8]>::to_vec)), whole);
    }
}
