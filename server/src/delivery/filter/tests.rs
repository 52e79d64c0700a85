use paquebot_config::{Filters as Texts, MailboxRecord, Record};

use super::*;
use crate::delivery::plan;
use crate::smtp::testing::{address, configuration_of, content, mailbox};
use crate::store::embedded::EmbeddedStore;
use crate::store::{Acceptance, Content};

const MESSAGE: &str = "From: Jack <jack@server2.com>\r\nTo: ben@server1.com\r\nSubject: An offer\r\nMessage-ID: <1@server2.com>\r\n\r\nBuy!\r\n";
const TRACE: &str = "Received: from a by b; Mon, 23 Nov 2026 16:00:00 +0000\r\n";

/// ben's mailbox has this filter; bea's files everything.
fn configuration(filter: &str, server: Texts) -> Configuration {
    let mut content = content(Vec::new());
    content.server.filters = server;
    let filtered =
        |name, filter: &str| Record::Mailbox(MailboxRecord { filter: Some(filter.to_owned()), ..mailbox(name) });
    content.records.push(filtered("ben@server1.com", filter));
    content.records.push(filtered("bea@server1.com", "require \"fileinto\"; fileinto \"Work\";"));
    configuration_of(content)
}

struct World {
    store: Arc<EmbeddedStore>,
    filters: Filters,
    _directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path()).unwrap();
        Self { store, filters: Filters::default(), _directory: directory }
    }

    async fn filter(&self, configuration: &Configuration, to: &[&str]) -> Filtered {
        self.filter_declared(configuration, to, &Declared::default()).await
    }

    async fn filter_declared(&self, configuration: &Configuration, to: &[&str], declared: &Declared) -> Filtered {
        self.filter_whole(configuration, to, declared, MESSAGE).await
    }

    async fn filter_text(&self, configuration: &Configuration, to: &[&str], text: &str) -> Filtered {
        self.filter_whole(configuration, to, &Declared::default(), text).await
    }

    async fn filter_whole(
        &self,
        configuration: &Configuration,
        to: &[&str],
        declared: &Declared,
        text: &str,
    ) -> Filtered {
        let recipients: Vec<Address> = to.iter().map(|to| address(to)).collect();
        let body = Body::from(Bytes::copy_from_slice(text.as_bytes()));
        let sender = address("jack@server2.com");
        let incoming = Incoming {
            id: &MessageId::generate(),
            received_at: Timestamp::now(),
            reverse_path: Some(&sender),
            trace: &Bytes::from_static(TRACE.as_bytes()),
            body: IncomingBody::Whole(&body),
            octets: text.len() as u64,
            declared,
            recipients: &recipients,
        };
        let plan = plan(configuration, &recipients);
        self.filters.apply(&*self.store, configuration, &plan, &incoming).await.unwrap()
    }

    /// Filters a message for ben and stores what comes of it.
    async fn receive(&self, configuration: &Configuration) -> Filtered {
        let filtered = self.filter(configuration, &["ben@server1.com"]).await;
        let acceptance = Acceptance {
            id: MessageId::generate(),
            received_at: Timestamp::now(),
            reverse_path: None,
            sender_tenant: None,
            trace: Bytes::from_static(TRACE.as_bytes()),
            body: Body::from(Bytes::from_static(MESSAGE.as_bytes())),
            declared: Declared::default(),
            local: filtered.local.clone(),
            remote: Vec::new(),
            derived: filtered.derived.clone(),
            remember: filtered.remember.clone(),
        };
        self.store.commit(acceptance).await.unwrap();
        filtered
    }
}

fn folders(filtered: &Filtered) -> Vec<&str> {
    filtered.local.iter().map(|delivery| delivery.maildrop.folder.as_str()).collect()
}

#[tokio::test]
async fn a_message_goes_where_the_filter_says_and_elsewhere_for_others() {
    let configuration = configuration("require \"fileinto\"; fileinto \"Offers\";", Texts::default());
    let filtered =
        World::new().filter(&configuration, &["ben@server1.com", "bea@server1.com", "anna@server1.com"]).await;
    assert_eq!(folders(&filtered), ["offers", "work", ""]);
    assert!(filtered.local.iter().all(|delivery| delivery.body_from.is_none()));
}

/// The runtime of this test has one thread: others are served meanwhile only if the script runs elsewhere.
#[tokio::test]
async fn a_script_that_takes_long_leaves_the_thread_to_others() {
    let search = "if body :raw :contains \"not there\" { discard; }\n";
    let filter = format!("require \"body\";\n{}", search.repeat(200));
    let configuration = configuration(&filter, Texts::default());
    let world = World::new();
    let filtered = world.filter(&configuration, &["ben@server1.com"]);
    let mut filtered = std::pin::pin!(filtered);
    assert!(futures::poll!(filtered.as_mut()).is_pending());
    assert_eq!(folders(&filtered.await), [""]);
}

#[tokio::test]
async fn a_filter_that_is_wrong_or_fails_keeps_the_mail() {
    for filter in ["nonsense", "require \"ihave\"; error \"no\";"] {
        let filtered = World::new().filter(&configuration(filter, Texts::default()), &["ben@server1.com"]).await;
        assert_eq!(folders(&filtered), [""], "{filter}");
    }
}

#[tokio::test]
async fn scripts_run_from_the_servers_first_to_the_servers_last() {
    let server = Texts {
        before: Some("require \"editheader\"; addheader \"X-Checked\" \"yes\";".to_owned()),
        after: Some("require \"fileinto\"; if exists \"X-Seen\" { fileinto \"seen\"; }".to_owned()),
    };
    let own = "require \"editheader\"; if exists \"x-checked\" { addheader \"X-Seen\" \"1\"; }";
    let filtered = World::new().filter(&configuration(own, server), &["ben@server1.com"]).await;
    assert_eq!(folders(&filtered), ["seen"]);
    let delivery = &filtered.local[0];
    let fields = String::from_utf8(delivery.fields.to_vec()).unwrap();
    let body = usize::try_from(delivery.body_from.unwrap()).unwrap();
    assert_eq!(
        fields + &MESSAGE[body..],
        format!("Return-Path: <jack@server2.com>\r\nX-Seen: 1\r\nX-Checked: yes\r\n{TRACE}{MESSAGE}")
    );
}

#[tokio::test]
async fn redirected_copies_keep_their_trace_and_replies_have_the_null_sender() {
    let filter = "require [\"vacation\",\"copy\"]; redirect :copy \"joe@server3.org\"; vacation \"I am away\";";
    let filtered = World::new().filter(&configuration(filter, Texts::default()), &["ben@server1.com"]).await;
    assert_eq!(folders(&filtered), [""]);
    let [copy, reply] = &filtered.derived[..] else { panic!("{:?}", filtered.derived) };
    let trace = format!("Delivered-To: ben@server1.com\r\n{TRACE}");
    assert_eq!((copy.reverse_path.as_ref(), &copy.trace[..]), (Some(&address("jack@server2.com")), trace.as_bytes()));
    assert!(matches!(copy.content, Content::Same { from: 0 }));
    assert_eq!(copy.remote[0].address, address("joe@server3.org"));
    assert_eq!((&reply.reverse_path, &reply.remote[0].address), (&None, &address("jack@server2.com")));
    let Content::Own(octets) = &reply.content else { panic!("{:?}", reply.content) };
    let text = String::from_utf8(octets.to_vec()).unwrap();
    assert!(text.contains("From: ben@server1.com\r\n") && text.contains("\r\n\r\nI am away"), "{text}");
}

/// Each copy that came back would be redirected again.
#[tokio::test]
async fn what_was_redirected_before_is_kept() {
    let world = World::new();
    let configuration = configuration("redirect \"joe@server3.org\"; redirect \"jim@server3.org\";", Texts::default());
    for (passed, copies, kept) in [
        ("", 2, vec![]),
        ("Delivered-To: ben@server1.com\r\n", 0, vec![""]),
        ("Delivered-To: JIM@server3.org\r\n", 1, vec![""]),
        ("Delivered-To: somebody@server1.com\r\n", 2, vec![]),
    ] {
        let filtered = world.filter_text(&configuration, &["ben@server1.com"], &format!("{passed}{MESSAGE}")).await;
        assert_eq!((filtered.derived.len(), folders(&filtered)), (copies, kept), "{passed}");
    }
}

/// RFC 5230 §4.1.
#[tokio::test]
async fn a_vacation_reply_comes_from_an_address_of_the_mailbox() {
    for (from, expected) in [
        ("Ben <ben+away@server1.com>", "Ben <ben+away@server1.com>"),
        ("ceo@server1.com", "ben@server1.com"),
        ("Anna <anna@server1.com>", "ben@server1.com"),
        ("x@elsewhere.example", "ben@server1.com"),
    ] {
        let filter = format!("require \"vacation\"; vacation :from \"{from}\" \"I am away\";");
        let filtered = World::new().filter(&configuration(&filter, Texts::default()), &["ben@server1.com"]).await;
        let [reply] = &filtered.derived[..] else { panic!("{:?}", filtered.derived) };
        let Content::Own(octets) = &reply.content else { panic!("{:?}", reply.content) };
        let text = String::from_utf8(octets.to_vec()).unwrap();
        assert!(text.starts_with(&format!("From: {expected}\r\n")), "{text}");
    }
}

/// RFC 8689 §5.
#[tokio::test]
async fn what_had_to_come_with_tls_is_answered_with_tls_only() {
    let world = World::new();
    for filter in ["require \"vacation\"; vacation \"I am away\";", "require \"reject\"; reject \"No\";"] {
        let configuration = configuration(filter, Texts::default());
        for require_tls in [true, false] {
            let declared = Declared { require_tls, ..Declared::default() };
            let to = ["ben@server1.com", "anna@server1.com"];
            let filtered = world.filter_declared(&configuration, &to, &declared).await;
            assert_eq!(filtered.derived[0].declared.require_tls, require_tls, "{filter}");
        }
    }
}

#[tokio::test]
async fn what_was_stored_is_known_the_next_time() {
    let world = World::new();
    let filter =
        "require [\"vacation\",\"duplicate\",\"fileinto\"]; if duplicate { fileinto \"again\"; } vacation \"away\";";
    let configuration = configuration(filter, Texts::default());
    let first = world.receive(&configuration).await;
    assert_eq!((folders(&first), first.derived.len(), first.remember.len()), (vec![""], 1, 2));
    let second = world.receive(&configuration).await;
    assert_eq!((folders(&second), second.derived.len(), second.remember.len()), (vec!["again"], 0, 0));
    let exists = "require [\"mailbox\",\"fileinto\"]; if mailboxexists \"Again\" { fileinto \"found\"; }";
    let third = world.receive(&self::configuration(exists, Texts::default())).await;
    assert_eq!(folders(&third), ["found"]);
}

#[tokio::test]
async fn the_only_recipient_refuses_and_one_of_several_reports() {
    let configuration = configuration("require \"reject\"; reject \"No offers,\nplease\";", Texts::default());
    let world = World::new();
    let alone = world.filter(&configuration, &["ben@server1.com"]).await;
    assert_eq!(alone.refusal.as_deref(), Some("No offers,\r\nplease"));
    assert!(alone.local.is_empty() && alone.derived.is_empty());
    let several = world.filter(&configuration, &["ben@server1.com", "anna@server1.com"]).await;
    assert_eq!(several.refusal, None);
    assert_eq!(several.local.len(), 1);
    let Content::Own(octets) = &several.derived[0].content else { panic!("{:?}", several.derived) };
    let text = String::from_utf8(octets.to_vec()).unwrap();
    assert!(
        text.contains("No offers,\r\nplease\r\n") && text.contains("Final-Recipient: rfc822; ben@server1.com\r\n"),
        "{text}"
    );
}

#[tokio::test]
async fn scripts_see_the_recipient_with_its_subaddress() {
    let filter = "require [\"envelope\",\"subaddress\",\"variables\",\"fileinto\"]; \
        if envelope :detail :matches \"to\" \"*\" { fileinto \"${1}\"; }";
    let filtered = World::new().filter(&configuration(filter, Texts::default()), &["ben+lists@server1.com"]).await;
    assert_eq!(folders(&filtered), ["lists"]);
}

#[tokio::test]
async fn compiled_filters_are_kept_once_for_all_and_are_bounded() {
    let filters = Filters::default();
    let (anna, ben) = (address("anna@server1.com"), address("ben@server1.com"));
    let first = filters.compiled("keep;", &anna).await.unwrap().unwrap();
    let second = filters.clone().compiled("keep;", &ben).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &second), "one for everybody, and for every clone");
    assert!(filters.compiled("nonsense;", &anna).await.unwrap().is_none());
    assert!(filters.compiled("nonsense;", &ben).await.unwrap().is_none());
    // More than may be kept, in filters of 60,000 octets.
    let comment = format!("# {}\n", "x".repeat(60_000));
    for number in 0..100 {
        assert!(filters.compiled(&format!("{comment}# {number}\nkeep;"), &anna).await.unwrap().is_some());
    }
    filters.compiled.run_pending_tasks().await;
    assert!(filters.compiled.weighted_size() <= COMPILED, "{}", filters.compiled.weighted_size());
    assert!(filters.compiled.entry_count() >= 50, "{}", filters.compiled.entry_count());
}

#[tokio::test]
async fn a_long_script_is_compiled_on_a_thread_of_its_own_when_there_is_room() {
    let filters = Filters::default();
    let mailbox = address("ben@server1.com");
    let taken = filters.places.acquire_many(u32::try_from(AT_ONCE).unwrap()).await.unwrap();
    let long = format!("# {}\nkeep;", "x".repeat(LONG_SCRIPT));
    assert!(filters.compiled("keep;", &mailbox).await.unwrap().is_some(), "a short one is compiled at once");
    let mut compiling = Box::pin(filters.compiled(&long, &mailbox));
    assert!(at_once(&mut compiling).await.is_none(), "a long one waits for a place");
    drop(taken);
    assert!(compiling.await.unwrap().is_some());
}

/// What a future has at once, if anything.
async fn at_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        let polled = std::pin::Pin::new(&mut *future).poll(cx);
        std::task::Poll::Ready(match polled {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
