//! RFC 3461, RFC 3464, RFC 5321 §6.1: what the sender is told.

use paquebot_server::store::envelope::{Notify, Ret};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_comes_back_to_its_sender_though_his_mailbox_is_full() {
    let world = World::new(says("550 5.1.1 no such user")).await;
    world.send(b"Subject: hi\r\nX-Mark: 7\r\n\r\nnot repeated\r\n", &["jack@server2.com"]).await;
    world.until_empty().await;
    let told = world.tom_has(1).await;
    let wanted = [
        "Return-Path: <>\r\nDate: ",
        "From: Mail Delivery System <MAILER-DAEMON@mx.server1.com>\r\nTo: <tom@server1.com>\r\n",
        "Final-Recipient: rfc822; jack@server2.com\r\nAction: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mx.server2.com\r\n",
        "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n",
        "\r\n\r\nReceived: from tom by here\r\nSubject: hi\r\nX-Mark: 7\r\n\r\n--report-",
    ];
    for part in wanted {
        assert!(told[0].contains(part), "{part}\nin\n{}", told[0]);
    }
    assert!(!told[0].contains("not repeated"));
    assert_eq!(world.count("bounced"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_about_a_report_and_a_foreign_sender_is_told_by_mail() {
    let reply = |address: &str| if address.starts_with("sender") { "250 ok" } else { "550 5.1.1 no" };
    let world = World::new(Rules { recipient: Arc::new(reply), ..Rules::default() }).await;
    world.send_as(None, b"\r\n", Declared::default(), &["jack@server2.com"]).await;
    world.until_empty().await;
    assert_eq!((world.count("unreported"), world.peer.taken().len()), (1, 0));
    world.send_as(Some("sender@server2.com"), b"\r\n", Declared::default(), &["jack@server2.com"]).await;
    let taken = world.until_taken(1).await;
    assert!(taken[0].mail.starts_with("MAIL FROM:<> "), "{}", taken[0].mail);
    assert_eq!(taken[0].recipients, ["sender@server2.com"]);
    world.until_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_3461_4_3_the_whole_message_comes_back_where_that_was_asked_for() {
    let world = World::new(says("550 5.1.1 no such user")).await;
    let declared = Declared { ret: Some(Ret::Full), ..Declared::eight_bit(true) };
    let body = "Subject: hi\r\n\r\nall of it: \u{e4}\r\n";
    world.send_as(Some("tom@server1.com"), body.as_bytes(), declared.clone(), &["jack@server2.com"]).await;
    let told = &world.tom_has(1).await[0];
    let wanted =
        format!("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{TRACE}{body}\r\n--report-");
    assert!(told.contains(&wanted), "{told}");
    let large = "a line\r\n".repeat(200_000);
    world.send_as(Some("tom@server1.com"), format!("\r\n{large}").as_bytes(), declared, &["jack@server2.com"]).await;
    assert!(world.tom_has(2).await[1].len() < 10_000, "it has its bound");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_3461_4_1_who_wants_to_hear_nothing_hears_nothing() {
    let world = World::new(says("550 5.1.1 no such user")).await;
    let never = RemoteRecipient { notify: Notify::Never, ..address("jack@server2.com").into() };
    world.send_to(Some("tom@server1.com"), b"\r\n", Declared::default(), vec![never]).await;
    world.until_empty().await;
    // What is settled is counted a moment later.
    world.until("it is not counted", async || (world.count("bounced") == 1).then_some(())).await;
    assert_eq!(world.count("unreported"), 0);
    assert_eq!(world.store.usage(&address("tom@server1.com").into()).await.unwrap().messages, 0);
}
