//! What scripts do, extension by extension, for everything that the comparison with Pigeonhole cannot see: what is
//! remembered, edited octets, replies, limits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use paquebot_sieve::{
    Action, Delivery, Effect, Environment, Limits, Message, Nothing, Outcome, RejectKind, compile, extensions, run,
    run_all,
};

const MESSAGE: &str = "From: Tom <tom@server2.com>\r\nTo: anna@server1.com\r\nSubject: hello\r\nX-A: 1\r\nX-A: 2\r\n\
    Message-ID: <1@server2.com>\r\nReferences: <0@server2.com>\r\n\r\nbody\r\n";

fn delivery<'d>() -> Delivery<'d> {
    Delivery {
        reverse_path: "tom@server2.com",
        recipient: "anna@server1.com",
        addresses: &[],
        separator: "+",
        now: 1_795_000_000,
        utc_offset: 0,
    }
}

fn run_in(script: &str, message: &str, environment: &dyn Environment, limits: &Limits) -> Outcome {
    let script = compile(script, &Limits::default()).unwrap_or_else(|error| panic!("{error}\n{script}"));
    run(&script, &Message::new(message.as_bytes(), message.len() as u64), &delivery(), environment, limits)
}

fn outcome(script: &str) -> Outcome {
    run_in(script, MESSAGE, &Nothing, &Limits::default())
}

#[derive(Default)]
struct Known {
    folders: BTreeSet<&'static str>,
    duplicates: BTreeSet<(&'static str, &'static str)>,
    replied: BTreeSet<(&'static str, &'static str)>,
}

impl Environment for Known {
    fn folder_exists(&self, folder: &str) -> bool {
        self.folders.contains(folder)
    }

    fn is_duplicate(&self, handle: &str, id: &str) -> bool {
        self.duplicates.contains(&(handle, id))
    }

    fn has_replied(&self, handle: &str, sender: &str) -> bool {
        self.replied.contains(&(handle, sender))
    }

    fn item(&self, name: &str) -> Option<String> {
        (name == "domain").then(|| "server1.com".to_owned())
    }
}

fn known(script: &str, environment: &Known) -> Outcome {
    run_in(script, MESSAGE, environment, &Limits::default())
}

fn header(action: &Action) -> String {
    let (Action::Keep { header, .. } | Action::FileInto { header, .. } | Action::Redirect { header, .. }) = action
    else {
        panic!("{action:?}")
    };
    header.as_ref().map_or_else(|| "as it was".to_owned(), |header| String::from_utf8(header.to_vec()).unwrap())
}

#[test]
fn rfc5228_2_10_2_no_action_keeps_and_discard_does_not() {
    assert_eq!(outcome("").actions, [Action::Keep { implicit: true, header: None }]);
    assert_eq!(outcome("keep;").actions, [Action::Keep { implicit: false, header: None }]);
    assert!(outcome("discard;").is_discarded());
    assert!(!outcome("discard; keep;").is_discarded());
}

#[test]
fn rfc5228_2_10_6_an_error_keeps_the_message_and_drops_what_was_done() {
    let script =
        "require [\"fileinto\",\"variables\"];\nfileinto \"a\";\nset \"x\" \"not an address\";\n  redirect \"${x}\";";
    let outcome = outcome(script);
    assert_eq!(outcome.actions, [Action::Keep { implicit: true, header: None }]);
    let error = outcome.error.unwrap();
    assert_eq!((error.line, error.column), (4, 3));
    assert!(error.message.contains("not an address"), "{error}");
    assert_eq!(outcome.failed_script, Some(0));
}

#[test]
fn rfc5228_5_4_the_null_reverse_path_is_empty_whatever_is_asked_for() {
    let limits = Limits::default();
    for part in [":all", ":localpart", ":domain"] {
        let script =
            compile(&format!("require \"envelope\"; if envelope {part} \"from\" \"\" {{ discard; }}"), &limits)
                .unwrap();
        let message = Message::new(MESSAGE.as_bytes(), MESSAGE.len() as u64);
        let bounce = Delivery { reverse_path: "", ..delivery() };
        assert!(run(&script, &message, &bounce, &Nothing, &limits).is_discarded(), "{part}");
        assert!(!run(&script, &message, &delivery(), &Nothing, &limits).is_discarded(), "{part}");
    }
}

#[test]
fn rfc5293_each_action_takes_the_header_of_its_moment() {
    let outcome = outcome(
        "require [\"editheader\",\"fileinto\",\"copy\"];\nredirect :copy \"a@x.example\";\naddheader \"X-New\" \"grün\";\n\
         fileinto :copy \"one\"; deleteheader :index 1 \"x-a\"; deleteheader \"message-id\";",
    );
    let headers: Vec<String> = outcome.actions.iter().map(header).collect();
    assert_eq!(headers[0], "as it was");
    let section = MESSAGE.split_inclusive("\r\n\r\n").next().unwrap();
    assert_eq!(headers[1], format!("X-New: =?utf-8?b?Z3LDvG4=?=\r\n{section}"));
    let edited = section.replace("X-A: 1\r\n", "").replace("Message-ID: <1@server2.com>\r\n", "");
    assert_eq!(headers[2], format!("X-New: =?utf-8?b?Z3LDvG4=?=\r\n{edited}"));
    assert!(matches!(outcome.actions[2], Action::Keep { implicit: true, .. }));
}

#[test]
fn rfc5293_values_cannot_begin_other_fields_and_trace_stays() {
    let outcome = outcome(
        "require [\"editheader\",\"encoded-character\"]; addheader \"X-New\" \"a${hex:0d 0a}Bcc: b@x.example\"; deleteheader \"received\";",
    );
    assert!(header(&outcome.actions[0]).starts_with("X-New: a  Bcc: b@x.example\r\nFrom:"), "{outcome:?}");
    let long = "word ".repeat(60);
    let outcome = self::outcome(&format!("require \"editheader\"; addheader \"X-Long\" \"{long}\";"));
    let text = header(&outcome.actions[0]);
    assert!(text.lines().all(|line| line.len() <= 78), "{text}");
    assert!(text.replace("\r\n ", " ").contains(long.trim()), "{text}");
}

#[test]
fn rfc7352_duplicates_are_remembered_once_and_answered_alike() {
    let script = "require [\"duplicate\",\"fileinto\"]; if duplicate :seconds 60 { fileinto \"again\"; } if duplicate { discard; }";
    let first = known(script, &Known::default());
    assert!(first.is_kept());
    let effect =
        |seconds| Effect::RememberDuplicate { handle: String::new(), id: "<1@server2.com>".to_owned(), seconds };
    assert_eq!(first.effects, [effect(60)]);
    let seen = Known { duplicates: [("", "<1@server2.com>")].into(), ..Known::default() };
    let second = known(script, &seen);
    assert!(matches!(&second.actions[0], Action::FileInto { folder, .. } if folder == "again"));
    assert_eq!(second.effects, []);
    let last = known("require \"duplicate\"; if duplicate :last :seconds 9 { discard; }", &seen);
    assert_eq!(last.effects, [effect(9)]);
    let named = known("require \"duplicate\"; if duplicate :handle \"h\" :uniqueid \"i\" { discard; }", &seen);
    assert!(
        matches!(&named.effects[..], [Effect::RememberDuplicate { handle, id, seconds: 604_800 }] if handle == "h" && id == "i")
    );
    let absent = known("require \"duplicate\"; if duplicate :header \"X-Nothing\" { discard; }", &seen);
    assert!(absent.is_kept() && absent.effects.is_empty());
}

#[test]
fn rfc7352_nothing_is_remembered_after_an_error() {
    let outcome = outcome("require [\"duplicate\",\"ihave\"]; if not duplicate { error \"stop\"; }");
    assert!(outcome.error.is_some() && outcome.effects.is_empty() && outcome.is_kept());
}

#[test]
fn rfc5230_a_reply_has_what_threads_and_guards_need() {
    let outcome =
        outcome("require \"vacation\"; vacation :days 3 :from \"Anna Ö <anna@server1.com>\" \"I am away\\nAnna\";");
    let [Action::Vacation(reply), Action::Keep { implicit: true, .. }] = &outcome.actions[..] else {
        panic!("{outcome:?}")
    };
    let text = String::from_utf8(reply.to_octets("<2@server1.com>", 1_795_000_000)).unwrap();
    for line in [
        "From: Anna =?utf-8?b?w5Y=?= <anna@server1.com>\r\n",
        "To: tom@server2.com\r\n",
        "Subject: Auto: hello\r\n",
        "Message-ID: <2@server1.com>\r\n",
        "In-Reply-To: <1@server2.com>\r\n",
        "References: <0@server2.com> <1@server2.com>\r\n",
        "Auto-Submitted: auto-replied (vacation)\r\n",
        "\r\n\r\nI am away",
    ] {
        assert!(text.contains(line), "{line:?} in\n{text}");
    }
    let [Effect::RememberVacation { handle, sender, seconds: 259_200 }] = &outcome.effects[..] else {
        panic!("{outcome:?}")
    };
    assert_eq!(sender, "tom@server2.com");
    assert!(!handle.is_empty());
}

#[test]
fn rfc5230_4_2_the_same_sender_is_answered_once_for_each_handle() {
    let script = "require \"vacation\"; vacation :handle \"h\" \"away\";";
    let seen = Known { replied: [("h", "tom@server2.com")].into(), ..Known::default() };
    assert_eq!(known(script, &seen).actions, [Action::Keep { implicit: true, header: None }]);
    assert_eq!(known(&script.replace("\"h\"", "\"other\""), &seen).actions.len(), 2);
    // Without a handle, another text is another vacation.
    let handle = |reason: &str| match &outcome(&format!("require \"vacation\"; vacation \"{reason}\";")).effects[..] {
        [Effect::RememberVacation { handle, .. }] => handle.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(handle("a"), handle("a"));
    assert_ne!(handle("a"), handle("b"));
}

#[test]
fn rfc5230_the_null_sender_is_never_answered() {
    let limits = Limits::default();
    let script = compile("require \"vacation\"; vacation \"away\";", &limits).unwrap();
    let message = Message::new(MESSAGE.as_bytes(), MESSAGE.len() as u64);
    let outcome = run(&script, &message, &Delivery { reverse_path: "", ..delivery() }, &Nothing, &limits);
    assert_eq!(outcome.actions, [Action::Keep { implicit: true, header: None }]);
}

/// A subject may carry anything once its words are decoded.
#[test]
fn replies_have_no_bare_line_ends() {
    let subjects = ["=?utf-8?q?a=0A.=0AX?=", "=?utf-8?q?a=0D.=0DX?=", "=?utf-8?q?a=00X?="];
    for (subject, mime) in subjects.iter().flat_map(|subject| [(subject, ""), (subject, ":mime ")]) {
        let script = format!(
            "require [\"vacation\",\"variables\"]; if header :matches \"subject\" \"*\" {{ set \"s\" \"${{1}}\"; }} \
             vacation {mime}\"Content-Type: text/plain\r\n\r\nabout ${{s}}\";"
        );
        let message = MESSAGE.replace("hello", subject);
        let actions = run_in(&script, &message, &Nothing, &Limits::default()).actions;
        let Some(Action::Vacation(reply)) = actions.iter().find(|action| matches!(action, Action::Vacation(_))) else {
            panic!("{actions:?}")
        };
        let octets = reply.to_octets("<2@server1.com>", 0);
        assert!(octets.ends_with(b"\r\n"));
        let text = String::from_utf8(octets).unwrap().replace("\r\n", "");
        assert!(!text.contains(['\r', '\n', '\0']), "{text:?}");
    }
}

/// Each field that is taken out must not move all those behind it: this header would take a minute.
#[test]
fn a_header_of_many_fields_is_edited_in_one_pass() {
    let message = format!("{}\r\nbody\r\n", "A:\r\nb:\r\n".repeat(200_000));
    let begun = std::time::Instant::now();
    let outcome = run_in("require \"editheader\"; deleteheader \"A\";", &message, &Nothing, &Limits::default());
    assert_eq!(outcome.error, None);
    let Some(Action::Keep { header: Some(header), .. }) = outcome.actions.first() else { panic!("not edited") };
    assert_eq!(header.len(), 200_000 * 4 + 2);
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
}

/// A field before all others moves them.
#[test]
fn fields_that_come_first_are_paid_for_by_the_headers_length() {
    let script = format!("require \"editheader\"; {}", "addheader \"X\" \"1\"; ".repeat(60));
    let long = format!("{}\r\nbody\r\n", "b:\r\n".repeat(200_000));
    let limits = Limits::default();
    assert!(run_in(&script, &long, &Nothing, &limits).error.is_some(), "within {} steps", limits.steps);
    assert_eq!(run_in(&script, MESSAGE, &Nothing, &limits).error, None);
}

#[test]
fn rfc5230_4_6_a_script_cannot_edit_the_marks_of_a_list_away() {
    let message = format!("List-Id: <a.b>\r\n{MESSAGE}");
    let script = "require [\"vacation\",\"editheader\"]; deleteheader \"list-id\"; vacation \"away\";";
    let outcome = run_in(script, &message, &Nothing, &Limits::default());
    assert!(!outcome.actions.iter().any(|action| matches!(action, Action::Vacation(_))));
}

#[test]
fn rfc5230_4_5_a_mime_reason_keeps_only_its_own_fields() {
    let outcome = outcome(
        "require \"vacation\"; vacation :mime text:\nContent-Type: text/html\nFrom: boss@server1.com\n\n<b>away</b>\n.\n;",
    );
    let Action::Vacation(reply) = &outcome.actions[0] else { panic!("{outcome:?}") };
    let text = String::from_utf8(reply.to_octets("<2@server1.com>", 0)).unwrap();
    assert!(text.contains("Content-Type: text/html\r\n\r\n<b>away</b>\r\n"), "{text}");
    assert!(!text.contains("boss"), "{text}");
}

#[test]
fn rfc5429_a_rejection_stands_alone() {
    assert_eq!(
        outcome("require \"ereject\"; ereject \"no\";").actions,
        [Action::Reject { reason: "no".to_owned(), kind: RejectKind::Ereject }]
    );
    for script in [
        "keep; reject \"no\";",
        "reject \"no\"; keep;",
        "reject \"a\"; reject \"b\";",
        "redirect \"a@b\"; reject \"no\";",
    ] {
        let outcome = outcome(&format!("require \"reject\"; {script}"));
        assert!(outcome.error.is_some() && outcome.is_kept(), "{script}");
    }
}

#[test]
fn rfc5490_folders_are_asked_and_made() {
    let here = Known { folders: ["junk"].into(), ..Known::default() };
    let script =
        "require [\"mailbox\",\"fileinto\"]; if mailboxexists [\"INBOX\", \"junk\"] { fileinto :create \"new\"; }";
    assert!(matches!(known(script, &here).actions[..], [Action::FileInto { create: true, .. }]));
    assert!(outcome(script).is_kept());
}

#[test]
fn rfc5183_items_come_from_the_environment() {
    let script = "require \"environment\"; if environment :is \"domain\" \"SERVER1.com\" { discard; }";
    assert!(known(script, &Known::default()).is_discarded());
    assert!(outcome(script).is_kept());
}

#[test]
fn rfc5260_the_current_date_is_the_callers() {
    // 1,795,000,000 is 2026-11-18T11:06:40Z, a Wednesday.
    let script = "require \"date\"; if allof(currentdate \"date\" \"2026-11-18\", currentdate :zone \"+1300\" \"hour\" \"00\", \
        currentdate \"weekday\" \"3\") { discard; }";
    assert!(outcome(script).is_discarded());
}

#[test]
fn limits_end_a_script_and_keep_the_message() {
    let tight = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        limits
    };
    let many: String = (0..9).map(|number| format!("redirect \"a{number}@x.example\";")).collect();
    let folders: String = (0..40).map(|number| format!("fileinto \"f{number}\";")).collect();
    let stars = "*a".repeat(200);
    let cases = [
        (many, Limits::default()),
        (format!("require \"fileinto\"; {folders}"), Limits::default()),
        ("if true { keep; } if true { keep; } if true { keep; }".to_owned(), tight(|limits| limits.steps = 5)),
        (
            format!("require \"editheader\"; addheader \"X\" \"{}\";", "a".repeat(200)),
            tight(|limits| limits.added_header_octets = 100),
        ),
        (format!("if header :matches \"X-Long\" \"{stars}b*c\" {{ discard; }}"), tight(|limits| limits.steps = 100)),
    ];
    let message = format!("X-Long: {}\r\n{MESSAGE}", "a".repeat(50_000));
    for (script, limits) in cases {
        let outcome = run_in(&script, &message, &Nothing, &limits);
        assert!(outcome.error.is_some(), "{script}");
        assert_eq!(outcome.actions, [Action::Keep { implicit: true, header: None }], "{script}");
    }
}

#[test]
fn variables_are_cut_at_their_limit_and_grow_no_further() {
    let doubling = "set \"a\" \"${a}${a}${a}${a}\";".repeat(60);
    let script = format!(
        "require [\"variables\",\"relational\",\"fileinto\"]; set \"a\" \"é0\"; {doubling} set :length \"l\" \"${{a}}\"; fileinto \"${{l}}\";"
    );
    let outcome = outcome(&script);
    let Action::FileInto { folder, .. } = &outcome.actions[0] else { panic!("{outcome:?}") };
    let length: usize = folder.parse().unwrap();
    assert!((10_000..=16 * 1024).contains(&length), "{length}");
}

#[test]
fn a_sequence_ends_where_a_keep_is_cancelled_and_errors_keep_what_was_before() {
    let limits = Limits::default();
    let all = |scripts: &[&str]| {
        let scripts: Vec<_> = scripts.iter().map(|script| compile(script, &limits).unwrap()).collect();
        let scripts: Vec<_> = scripts.iter().collect();
        run_all(&scripts, &Message::new(MESSAGE.as_bytes(), 1), &delivery(), &Nothing, &limits)
    };
    let copy = "require [\"fileinto\",\"copy\"]; fileinto :copy \"archive\";";
    let wrong = "require [\"ihave\",\"editheader\"]; addheader \"X-B\" \"2\"; keep; error \"no\";";
    let mark = "require \"editheader\"; addheader \"X-Mark\" \"1\";";
    let failed = all(&[mark, copy, wrong, "discard;"]);
    assert_eq!(failed.failed_script, Some(2));
    assert!(
        matches!(&failed.actions[..], [Action::FileInto { .. }, Action::Keep { implicit: true, .. }]),
        "{failed:?}"
    );
    assert!(header(&failed.actions[1]).starts_with("X-Mark: 1\r\nFrom"), "{failed:?}");
    assert!(all(&["keep;", "discard;"]).is_discarded());
    assert!(all(&["discard;", "keep;"]).is_discarded());
    assert!(all(&[]).is_kept());
    let reject = "require \"reject\"; reject \"no\";";
    assert!(matches!(&all(&[copy, reject, "keep;"]).actions[..], [Action::FileInto { .. }, Action::Reject { .. }]));
    let vacation = "require \"vacation\"; vacation \"away\";";
    assert_eq!(all(&[vacation, vacation]).actions.len(), 2);
}

#[test]
fn scripts_say_what_they_need() {
    let needs = |script: &str| compile(script, &Limits::default()).unwrap().needs();
    assert_eq!(needs("keep;"), paquebot_sieve::Needs::default());
    let all = needs(
        "require [\"duplicate\",\"vacation\",\"mailbox\",\"body\"]; if false { if anyof(duplicate, mailboxexists \"a\", body \"b\") { vacation \"c\"; } }",
    );
    assert!(all.duplicates && all.vacation && all.folders && all.body);
}

#[test]
fn every_extension_can_be_required() {
    for name in extensions() {
        compile(&format!("require \"{name}\";"), &Limits::default()).unwrap();
    }
}
