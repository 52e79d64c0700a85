//! Decisions about recipients, without a store.

use std::time::Duration;

use paquebot_config::Address;

use super::*;
use crate::store::envelope::DeliverBy;
use crate::store::outgoing::MessageNumber;

const SCHEDULE: Schedule = Schedule { max_age: Duration::from_secs(1000), delay_warning: Duration::from_secs(100) };

fn message(declared: Declared) -> QueuedMessage {
    QueuedMessage {
        id: MessageId::generate(),
        received_at: Timestamp::UNIX_EPOCH,
        reverse_path: None,
        sender_tenant: None,
        declared,
        octets: 1,
    }
}

fn attempt(key: i64, warned: bool, outcome: Outcome) -> (QueuedRecipient, Outcome) {
    let address = Address::parse(&format!("r{key}@x.example")).unwrap();
    let message = MessageNumber::for_test(1);
    (QueuedRecipient { key, message, recipient: address.into(), attempts: 3, warned, last_error: None }, outcome)
}

fn notifying(notify: Notify, (mut recipient, outcome): (QueuedRecipient, Outcome)) -> (QueuedRecipient, Outcome) {
    recipient.recipient.notify = notify;
    (recipient, outcome)
}

fn on(success: bool, failure: bool, delay: bool) -> Notify {
    Notify::On { success, failure, delay }
}

fn taken(taker: Taker) -> Outcome {
    Ok(Accepted { taker, reply: "250 ok".to_owned() })
}

fn silent() -> Outcome {
    taken(Taker::Silent("mx".to_owned()))
}

fn busy() -> Outcome {
    Err(Refusal::transient(7, 1, "busy"))
}

fn gone() -> Outcome {
    Err(Refusal::permanent(1, 1, "no"))
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn decide_after(seconds: i64, declared: Declared, attempts: &[(QueuedRecipient, Outcome)]) -> Decision {
    decide(&message(declared), attempts, SCHEDULE, at(seconds), 0)
}

/// `address action status` of each.
fn told(decision: &Decision) -> Vec<String> {
    let action = |action: Action| match action {
        Action::Failed => "failed",
        Action::Delayed { .. } => "delayed",
        Action::Relayed => "relayed",
        Action::Delivered => "delivered",
        Action::Expanded => "expanded",
    };
    let one = |told: &Reported| format!("{} {} {}", told.recipient.address, action(told.action), told.status);
    decision.reported.iter().map(one).collect()
}

#[test]
fn each_recipient_has_an_outcome_of_its_own() {
    let attempts =
        [attempt(1, false, silent()), attempt(2, false, gone()), attempt(3, false, busy()), attempt(4, true, busy())];
    let young = decide_after(50, Declared::default(), &attempts);
    assert_eq!((&young.finished[..], told(&young)), (&[1, 2][..], vec!["r2@x.example failed 5.1.1".to_owned()]));
    assert!(young.deferred.iter().all(|deferral| !deferral.warned));
    let late = decide_after(200, Declared::default(), &attempts);
    assert_eq!(told(&late), ["r2@x.example failed 5.1.1", "r3@x.example delayed 4.7.1"], "the other was told before");
    let deferred: Vec<_> = late.deferred.iter().map(|deferral| (deferral.key, deferral.warned)).collect();
    assert_eq!(deferred, [(3, true), (4, false)]);
    let old = decide_after(1000, Declared::default(), &attempts);
    assert_eq!(old.finished, [1, 2, 3, 4]);
    assert_eq!(told(&old)[1..], ["r3@x.example failed 5.4.7", "r4@x.example failed 5.4.7"]);
    assert!(old.reported[1].diagnosis.as_ref().unwrap().text.contains("4.7.1 busy"));
}

#[test]
fn rfc_3461_notify_says_what_is_reported_and_nothing_else() {
    let all = |notify: Notify| {
        let outcomes = [silent(), taken(Taker::Reporting("mx".to_owned())), taken(Taker::Maildrop), gone(), busy()];
        let attempts: Vec<_> =
            (1..).zip(outcomes).map(|(key, outcome)| notifying(notify, attempt(key, false, outcome))).collect();
        told(&decide_after(200, Declared::default(), &attempts))
    };
    assert_eq!(all(Notify::Never), Vec::<String>::new());
    assert_eq!(all(on(true, false, false)), ["r1@x.example relayed 2.0.0", "r3@x.example delivered 2.0.0"]);
    assert_eq!(all(on(false, true, false)), ["r4@x.example failed 5.1.1"]);
    assert_eq!(all(on(false, false, true)), ["r5@x.example delayed 4.7.1"]);
    assert_eq!(all(Notify::Unspecified), ["r4@x.example failed 5.1.1", "r5@x.example delayed 4.7.1"]);
}

fn by(second: i64, mode: ByMode, trace: bool) -> Declared {
    Declared { deliver_by: Some(DeliverBy { at: at(second), mode, trace }), ..Declared::default() }
}

#[test]
fn rfc_2852_what_is_late_goes_back_or_its_sender_hears_of_it() {
    let attempts = [attempt(1, false, busy())];
    assert!(told(&decide_after(49, by(50, ByMode::Return, false), &attempts)).is_empty());
    assert_eq!(told(&decide_after(50, by(50, ByMode::Return, false), &attempts)), ["r1@x.example failed 5.4.7"]);
    let notified = decide_after(50, by(50, ByMode::Notify, false), &attempts);
    assert_eq!(told(&notified), ["r1@x.example delayed 4.7.1"]);
    assert_eq!(notified.deferred.len(), 1, "and delivery goes on");
}

#[test]
fn rfc_2852_a_traced_message_is_reported_by_each_server_on_the_way() {
    let attempts = [attempt(1, false, taken(Taker::Reporting("mx".to_owned())))];
    assert_eq!(told(&decide_after(1, by(50, ByMode::Notify, true), &attempts)), ["r1@x.example relayed 2.0.0"]);
    let quiet = attempts.map(|attempt| notifying(Notify::Never, attempt));
    assert!(told(&decide_after(1, by(50, ByMode::Notify, true), &quiet)).is_empty());
}

#[test]
fn rfc_4865_what_was_held_is_as_old_as_its_release() {
    let declared = Declared { hold_until: Some(at(5000)), ..Declared::default() };
    let attempts = [attempt(1, false, busy())];
    assert!(told(&decide_after(5050, declared.clone(), &attempts)).is_empty());
    assert_eq!(told(&decide_after(5200, declared.clone(), &attempts)), ["r1@x.example delayed 4.7.1"]);
    assert_eq!(told(&decide_after(6000, declared, &attempts)), ["r1@x.example failed 5.4.7"]);
}

#[test]
fn rfc_2852_the_time_that_is_left_counts_down() {
    assert_eq!(seconds_left(&by(50, ByMode::Notify, false), at(20)), Some(30));
    assert_eq!(seconds_left(&by(50, ByMode::Notify, false), at(60)), Some(-10));
    assert_eq!(seconds_left(&Declared::default(), at(60)), None);
}
