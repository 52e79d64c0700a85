//! What the queue delivers here passes the same way as what comes to the door.

use paquebot_config::{AliasRecord, SecretText};
use paquebot_server::store;

use super::*;

const BOTH: [&str; 2] = ["server1.com", "server2.com"];

impl World {
    /// Serves server2.com too, whose tom has this filter; server3.org is at the peer.
    fn serve_filtered(&self, filter: &str) {
        self.dns.mx("server3.org", 10, "mx.server2.com");
        let mut content = content(&self.dns, self.peer.address.port(), &BOTH, 432_000);
        for record in &mut content.records {
            if let Record::Mailbox(mailbox) = record
                && mailbox.address == address("tom@server2.com")
            {
                mailbox.filter = Some(filter.to_owned());
            }
        }
        let targets = vec![address("joe@server3.org")];
        content.records.push(Record::Alias(AliasRecord { address: address("joe@server2.com"), targets }));
        content.secrets.srs_keys = vec![SecretText::new("a key of thirty-two octets, or so".to_owned())];
        self.configuration.replace(read(content));
    }

    async fn queue_for(&self, to: &str) {
        let notify = store::envelope::Notify::On { success: true, failure: true, delay: false };
        let recipient = RemoteRecipient { notify, ..address(to).into() };
        self.send_to(Some("jo@server3.org"), b"Subject: home\r\n\r\nbody\r\n", Declared::default(), vec![recipient])
            .await;
    }

    async fn folder(&self, name: &str) -> Vec<String> {
        let folder = store::Folder::parse(name).unwrap();
        let name = store::MaildropName { mailbox: address("tom@server2.com").into(), folder };
        let Ok(open) = self.store.open_maildrop(&name).await else { return Vec::new() };
        let mut messages = Vec::new();
        for entry in &open.entries {
            let mut reader = self.store.read(&name, entry.key).await.unwrap();
            let mut bytes = Vec::new();
            while let Some(piece) = reader.next().await.unwrap() {
                bytes.extend_from_slice(&piece);
            }
            messages.push(String::from_utf8(bytes).unwrap());
        }
        messages
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_decide_about_what_the_queue_delivers_and_success_is_reported() {
    let world = World::new(Rules::default()).await;
    world.serve_filtered(
        "require [\"editheader\", \"fileinto\", \"copy\"]; addheader \"X-Seen\" \"yes\"; \
         fileinto \"work\"; redirect :copy \"joe@server3.org\";",
    );
    world.queue_for("tom@server2.com").await;
    let taken = world.until_taken(2).await;
    world.until_empty().await;
    let edited = format!("X-Seen: yes\r\n{TRACE}Subject: home\r\n\r\nbody\r\n");
    assert_eq!(world.folder("work").await, [format!("Return-Path: <jo@server3.org>\r\n{edited}")]);
    assert!(world.folder("inbox").await.is_empty());
    let text = |to: &str| {
        let of = taken.iter().find(|taken| taken.recipients == [to]).unwrap();
        String::from_utf8_lossy(&of.content).into_owned()
    };
    assert_eq!(text("joe@server3.org"), format!("Delivered-To: tom@server2.com\r\n{edited}"));
    assert!(text("jo@server3.org").contains("Final-Recipient: rfc822; tom@server2.com\r\nAction: delivered\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_queue_sends_on_has_a_reverse_path_of_ours_and_says_who_sent_it_on() {
    let world = World::new(Rules::default()).await;
    world.serve_filtered("keep;");
    world.queue_for("joe@server2.com").await;
    let taken = world.until_taken(1).await;
    world.until_empty().await;
    assert_eq!(
        String::from_utf8_lossy(&taken[0].content),
        format!("Delivered-To: joe@server2.com\r\n{TRACE}Subject: home\r\n\r\nbody\r\n")
    );
    assert!(taken[0].mail.contains("SRS0="), "{taken:?}");
}

/// The reverse-path of what is sent on is ours, and who hears of a failure is the one who sent: also where it is this queue
/// that meets it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_on_and_refused_is_reported_to_the_one_who_sent_it() {
    let refuse = |command: &str| if command.contains("joe@") { "550 5.1.1 no joe here" } else { "250 ok" };
    let world = World::new(Rules { recipient: Arc::new(refuse), ..Rules::default() }).await;
    world.serve_filtered("keep;");
    world.queue_for("joe@server2.com").await;
    world.until_empty().await;
    assert_eq!(world.count("unreported"), 0);
    let taken = world.until_taken(1).await;
    assert_eq!(taken[0].recipients, ["jo@server3.org"]);
    let text = String::from_utf8_lossy(&taken[0].content).into_owned();
    assert!(text.contains("Final-Recipient: rfc822; joe@server3.org\r\nAction: failed\r\n"), "{text}");
    assert!(text.contains("To: <jo@server3.org>\r\n"), "{text}");
}

/// RFC 5230 §4.6, RFC 5429 §2: nothing answers a report.
#[tokio::test(flavor = "multi_thread")]
async fn reports_pass_filters_that_do_not_answer_them() {
    let world = World::new(Rules::default()).await;
    world.serve_filtered("require [\"vacation\", \"fileinto\"]; vacation \"away\"; fileinto \"reports\";");
    world.send_as(None, b"Subject: report\r\n\r\n", Declared::default(), &["tom@server2.com"]).await;
    world.until_empty().await;
    assert_eq!(world.folder("reports").await.len(), 1);
    world.serve_filtered("require \"reject\"; reject \"no\";");
    world.send_as(None, b"Subject: report\r\n\r\n", Declared::default(), &["tom@server2.com"]).await;
    world.until_empty().await;
    assert!(world.folder("inbox").await.is_empty() && world.peer.taken().is_empty());
    world.queue_for("tom@server2.com").await;
    let taken = world.until_taken(1).await;
    let text = String::from_utf8_lossy(&taken[0].content).into_owned();
    assert!(text.contains("Action: failed\r\n") && text.contains("rejected by the recipient's filter: no"), "{text}");
}

/// The ones to whom a full mailbox forwards have the message at once and once; its own copy waits for room.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_mailbox_that_forwards_gets_its_copy_later_and_sends_no_second_one() {
    let world = World::new(Rules::default()).await;
    world.dns.mx("server3.org", 10, "mx.server2.com");
    let serve = |quota| {
        let mut content = content(&world.dns, world.peer.address.port(), &BOTH, 432_000);
        for record in &mut content.records {
            if let Record::Mailbox(mailbox) = record
                && mailbox.address == address("tom@server2.com")
            {
                let to = vec![address("joe@server3.org")];
                mailbox.forwarding = Some(paquebot_config::Forwarding { to, keep_copy: true });
                mailbox.quota = quota;
            }
        }
        world.configuration.replace(read(content));
    };
    serve(Some(1));
    world.send(b"Subject: home\r\n\r\n", &["tom@server2.com"]).await;
    world.until_taken(1).await;
    let rows = world.until_deferred("server2.com", 1).await;
    assert_eq!(rows[0].recipient.route, Some(store::envelope::Route::Maildrop));
    world.make_due(&rows).await;
    world
        .until("it was not tried again", async || {
            let rows = world.store.due_recipients(&domain("server2.com"), Timestamp::MAX, 9).await.unwrap();
            (rows.len() == 1 && rows[0].attempts > 0 && rows[0].last_error.as_deref()?.contains("4.2.2")).then_some(())
        })
        .await;
    assert_eq!(world.store.usage(&address("tom@server2.com").into()).await.unwrap().messages, 0);
    serve(None);
    world.make_due(&world.until_deferred("server2.com", 1).await).await;
    world.until_empty().await;
    assert_eq!(world.maildrop("server2.com", 1).await.len(), 1);
    assert_eq!(world.peer.taken().len(), 1);
}
