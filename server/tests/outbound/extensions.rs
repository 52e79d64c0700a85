//! The extensions towards a next hop: what is told to one that offers them, and what happens at one that does not.

use paquebot_server::store::BodyType;
use paquebot_server::store::envelope::{ByMode, DeliverBy, Notify, OriginalRecipient, Ret};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_used_where_it_is_offered_and_does_not_stop_mail_where_it_is_broken() {
    let world = World::new(Rules { tls: Some(Tls::Working(acceptor("other.example").0)), ..Rules::default() }).await;
    world.send(b"secret\r\n", &["jack@server2.com"]).await;
    world.until_empty().await;
    assert!(world.peer.taken()[0].encrypted);
    world.peer.set_rules(Rules { tls: Some(Tls::Broken), ..Rules::default() });
    world.send(b"open\r\n", &["jack@server2.com"]).await;
    world.until_empty().await;
    assert!(!world.peer.taken()[1].encrypted);
}

const TEXT: &str = "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
                    Content-Transfer-Encoding: 8bit\r\n\r\n\u{e4}\r\n";

const TOM: Option<&str> = Some("tom@server1.com");

fn offering(extensions: &[&'static str]) -> Rules {
    Rules { extensions: extensions.to_vec(), ..Rules::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_6152_content_that_the_server_does_not_take_is_converted_and_declarations_alone_are_not() {
    let world = World::new(offering(&[])).await;
    let declared = Declared { smtputf8: true, ..Declared::eight_bit(true) };
    world.send_as(TOM, b"Subject: plain\r\n\r\nplain\r\n", declared.clone(), &["jack@server2.com"]).await;
    world.until_taken(1).await;
    world.send_as(TOM, TEXT.as_bytes(), declared.clone(), &["jack@server2.com"]).await;
    world.until_empty().await;
    let taken = world.peer.taken();
    assert!(taken.iter().all(|taken| taken.mail == "MAIL FROM:<tom@server1.com>"));
    assert_eq!(taken[0].content, [TRACE.as_bytes(), b"Subject: plain\r\n\r\nplain\r\n"].concat());
    let converted = TEXT.replace("8bit", "quoted-printable").replace('\u{e4}', "=C3=A4");
    assert_eq!(String::from_utf8_lossy(&taken[1].content), format!("{TRACE}{converted}"));
    let signed = "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n\u{e4}\r\n--b--\r\n";
    world.send_as(TOM, signed.as_bytes(), declared.clone(), &["jack@server2.com"]).await;
    world.send_as(TOM, "Subject: \u{e4}\r\n\r\n".as_bytes(), declared, &["jack@server2.com"]).await;
    let told = world.tom_has(2).await.join("\n");
    assert!(told.contains("Status: 5.6.3\r\n") && told.contains("Status: 5.6.7\r\n"), "{told}");
    assert_eq!(world.peer.taken().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_6152_content_too_large_to_be_converted_comes_back() {
    let world = World::new(offering(&[])).await;
    let large = "\u{e4}\u{e4}\u{e4}\u{e4}\r\n".repeat(900_000);
    world.send_as(TOM, format!("\r\n{large}").as_bytes(), Declared::eight_bit(true), &["jack@server2.com"]).await;
    assert!(world.tom_has(1).await[0].contains("Status: 5.6.3\r\n"));
    assert!(world.peer.taken().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_3030_binary_content_goes_by_bdat_as_it_is_or_is_converted() {
    let world = World::new(offering(&["CHUNKING", "BINARYMIME", "8BITMIME", "PIPELINING", "SIZE"])).await;
    let binary = Declared { body: BodyType::BinaryMime, ..Declared::default() };
    let body =
        b"MIME-Version: 1.0\r\nContent-Type: image/x\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\n.\r\n.\r\n\xff";
    world.send_as(TOM, body, binary.clone(), &["jack@server2.com"]).await;
    let large = [&body[..], &[0xfe; 300_000]].concat();
    world.send_as(TOM, &large, binary.clone(), &["jack@server2.com"]).await;
    let taken = world.until_taken(2).await;
    assert!(taken.iter().all(|taken| taken.mail.ends_with(" BODY=BINARYMIME")), "{}", taken[0].mail);
    assert!(taken.iter().any(|taken| taken.content == [TRACE.as_bytes(), body].concat()));
    assert!(taken.iter().any(|taken| taken.content == [TRACE.as_bytes(), &large].concat()));
    world.peer.set_rules(offering(&["8BITMIME"]));
    world.send_as(TOM, body, binary, &["jack@server2.com"]).await;
    let converted = String::from_utf8(world.until_taken(3).await[2].content.clone()).unwrap();
    assert!(converted.ends_with("Content-Transfer-Encoding: base64\r\n\r\nAAouDQouDQr/\r\n"), "{converted}");
}

fn wanting(address_text: &str, notify: Notify) -> RemoteRecipient {
    let original = OriginalRecipient { kind: "rfc822".to_owned(), address: "first@server2.com".to_owned() };
    RemoteRecipient { address: address(address_text), notify, original: Some(original), route: None, tenant: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_3461_a_server_of_dsn_is_told_what_the_sender_wants_and_reports_itself() {
    let world = World::new(offering(&["DSN", "MT-PRIORITY", "DELIVERBY"])).await;
    let by = DeliverBy { at: Timestamp::now() + Duration::from_secs(3600), mode: ByMode::Notify, trace: false };
    let declared = Declared {
        ret: Some(Ret::Headers),
        envelope_id: Some("QQ 1".to_owned()),
        priority: Some(4),
        deliver_by: Some(by),
        ..Declared::default()
    };
    let notify = Notify::On { success: true, failure: true, delay: false };
    world.send_to(TOM, b"\r\n", declared, vec![wanting("jack@server2.com", notify)]).await;
    world.until_empty().await;
    let taken = &world.peer.taken()[0];
    assert!(
        taken.mail.starts_with("MAIL FROM:<tom@server1.com> MT-PRIORITY=4 RET=HDRS ENVID=QQ+201 BY=3"),
        "{taken:?}"
    );
    assert!(taken.mail.ends_with(";N"), "{taken:?}");
    assert_eq!(taken.parameters, ["NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;first@server2.com"]);
    assert_eq!(world.store.usage(&address("tom@server1.com").into()).await.unwrap().messages, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_3461_5_2_2_success_is_reported_as_relayed_where_the_server_has_no_dsn() {
    let world = World::new(Rules::default()).await;
    let declared = Declared { envelope_id: Some("QQ314".to_owned()), ..Declared::default() };
    let notify = Notify::On { success: true, failure: false, delay: false };
    let recipients = vec![wanting("jack@server2.com", notify), wanting("jill@server2.com", Notify::Never)];
    world.send_to(TOM, b"Subject: a\r\n\r\nbody\r\n", declared, recipients).await;
    let told = &world.tom_has(1).await[0];
    for part in [
        "Original-Envelope-Id: QQ314\r\n",
        "Original-Recipient: rfc822; first@server2.com\r\nFinal-Recipient: rfc822; jack@server2.com\r\nAction: relayed\r\n",
        "Remote-MTA: dns; mx.server2.com\r\nDiagnostic-Code: smtp; 250 2.0.0 taken\r\n",
    ] {
        assert!(told.contains(part), "{part}\nin\n{told}");
    }
    assert!(!told.contains("jill") && !told.contains("body\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_9422_no_more_recipients_and_messages_than_the_server_says() {
    let world = World::new(offering(&["PIPELINING", "LIMITS RCPTMAX=2 MAILMAX=2"])).await;
    let to = ["a@server2.com", "b@server2.com", "c@server2.com", "d@server2.com", "e@server2.com"];
    world.send(b"\r\n", &to).await;
    world.until_empty().await;
    let taken = world.peer.taken();
    let counts: Vec<_> = taken.iter().map(|taken| (taken.recipients.len(), taken.connection)).collect();
    assert_eq!(counts, [(2, 0), (2, 0), (1, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_5321_4_5_3_1_10_recipients_that_were_too_many_come_next() {
    let count = AtomicUsize::new(0);
    let reply = move |_: &str| match count.fetch_add(1, Ordering::SeqCst) % 3 {
        2 => "452 4.5.3 too many recipients",
        _ => "250 ok",
    };
    let world = World::new(Rules { recipient: Arc::new(reply), ..Rules::default() }).await;
    world.send(b"\r\n", &["a@server2.com", "b@server2.com", "c@server2.com"]).await;
    world.until_empty().await;
    // What is settled is counted a moment later.
    world.until("not all are counted", async || (world.count("sent") == 3).then_some(())).await;
    assert_eq!((world.peer.taken().len(), world.count("deferred")), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_2852_a_message_that_is_late_comes_back() {
    let world = World::new(offering(&["DELIVERBY"])).await;
    let by = DeliverBy { at: Timestamp::now() - Duration::from_secs(1), mode: ByMode::Return, trace: false };
    let declared = Declared { deliver_by: Some(by), ..Declared::default() };
    world.send_as(TOM, b"\r\n", declared, &["jack@server2.com"]).await;
    assert!(world.tom_has(1).await[0].contains("Action: failed\r\nStatus: 5.4.7\r\n"));
    assert!(world.peer.taken().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_8689_what_requires_tls_does_not_go_where_nothing_proves_the_name() {
    let (tls, _) = acceptor("mx.server2.com");
    let rules = Rules { tls: Some(Tls::Working(tls)), extensions: vec!["REQUIRETLS"], ..Rules::default() };
    let world = World::new(rules).await;
    let declared = Declared { require_tls: true, ret: Some(Ret::Full), ..Declared::default() };
    world.send_as(TOM, b"Subject: a\r\n\r\nsecret\r\n", declared, &["jack@server2.com"]).await;
    let told = &world.tom_has(1).await[0];
    assert!(told.contains("Action: failed\r\nStatus: 5.7.30\r\n") && !told.contains("secret"), "{told}");
    assert!(world.peer.taken().is_empty());
}
