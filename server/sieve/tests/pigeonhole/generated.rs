//! Scripts made from a grammar, always the same ones: the seed is fixed.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::{Case, corpus};

const PROLOGUE: &str = "require [\"fileinto\", \"copy\", \"variables\", \"relational\", \"comparator-i;ascii-numeric\", \
    \"subaddress\", \"index\", \"date\", \"envelope\", \"body\", \"reject\"];\n";

fn one_of(texts: &'static [&'static str]) -> BoxedStrategy<String> {
    prop::sample::select(texts).prop_map(ToOwned::to_owned).boxed()
}

fn key() -> BoxedStrategy<String> {
    one_of(&[
        "",
        "a",
        "anna",
        "tom",
        "server1.com",
        "*",
        "*@*",
        "?*",
        "*.*",
        "re: *",
        "[*]*",
        "*é*",
        "é",
        "hello",
        "the",
        "10",
        "5",
        "shop",
        "*server*",
        "*<*@*>*",
        "anna@server1.com",
        "tom@server2.com",
        "\\\\*",
        "2026*",
        "\\\"",
        "1",
        "2",
        "2026-11-23",
    ])
}

fn keys() -> BoxedStrategy<String> {
    prop_oneof![
        3 => key().prop_map(|key| format!("\"{key}\"")),
        1 => (key(), key()).prop_map(|(one, two)| format!("[\"{one}\", \"{two}\"]")),
    ]
    .boxed()
}

fn match_type() -> BoxedStrategy<String> {
    one_of(&[
        "",
        ":is",
        ":contains",
        ":matches",
        ":contains :comparator \"i;octet\"",
        ":matches :comparator \"i;octet\"",
        ":is :comparator \"i;octet\"",
        ":count \"gt\" :comparator \"i;ascii-numeric\"",
        ":count \"eq\" :comparator \"i;ascii-numeric\"",
        ":value \"lt\" :comparator \"i;octet\"",
        ":value \"ne\"",
    ])
}

fn fields() -> BoxedStrategy<String> {
    one_of(&[
        "\"Subject\"",
        "\"to\"",
        "[\"From\", \"Cc\"]",
        "\"Received\"",
        "\"X-Nothing\"",
        "\"X-Number\"",
        "[\"to\", \"cc\"]",
    ])
}

fn address_fields() -> BoxedStrategy<String> {
    one_of(&["\"to\"", "[\"From\", \"Cc\"]", "\"Sender\"", "\"Reply-To\"", "[\"to\", \"cc\", \"bcc\"]"])
}

fn index() -> BoxedStrategy<String> {
    one_of(&["", "", "", ":index 1", ":index 2", ":index 1 :last", ":index 9"])
}

fn part() -> BoxedStrategy<String> {
    one_of(&["", ":all", ":localpart", ":domain", ":user", ":detail"])
}

fn leaf() -> BoxedStrategy<String> {
    prop_oneof![
        (index(), match_type(), fields(), keys()).prop_map(|(i, m, f, k)| format!("header {i} {m} {f} {k}")),
        (index(), part(), match_type(), address_fields(), keys())
            .prop_map(|(i, p, m, f, k)| format!("address {i} {p} {m} {f} {k}")),
        (part(), match_type(), one_of(&["\"from\"", "\"to\"", "[\"from\", \"to\"]"]), keys())
            .prop_map(|(p, m, f, k)| format!("envelope {p} {m} {f} {k}")),
        (
            one_of(&[
                "",
                ":contains",
                ":matches",
                ":value \"lt\" :comparator \"i;octet\"",
                ":is :comparator \"i;octet\""
            ]),
            one_of(&["\"${a}\"", "[\"${a}\", \"${1}\"]", "\"${0}-${2}\""]),
            keys()
        )
            .prop_map(|(m, f, k)| format!("string {m} {f} {k}")),
        // Of what is no number both sides think differently: see the table of differences.
        (
            fields(),
            one_of(&[":is", ":value \"ge\"", ":value \"lt\"", ":value \"eq\""]),
            one_of(&["5", "7", "10", "1000"])
        )
            .prop_map(|(f, m, k)| format!("header {m} :comparator \"i;ascii-numeric\" {f} \"{k}\"")),
        fields().prop_map(|f| format!("exists {f}")),
        one_of(&["size :over 300", "size :under 1K", "true", "false"]),
        (
            one_of(&["", ":index 1"]),
            one_of(&["", ":originalzone", ":zone \"+0500\""]),
            match_type(),
            one_of(&["\"date\"", "\"received\"", "\"subject\""]),
            one_of(&["year", "date", "hour", "zone", "weekday", "julian", "iso8601", "time", "std11"]),
            keys()
        )
            .prop_map(|(i, z, m, f, p, k)| format!("date {i} {z} {m} {f} \"{p}\" {k}")),
        (one_of(&[":raw", ":text", ":content \"text/plain\""]), one_of(&[":contains", ":is", ":matches"]), keys())
            .prop_map(|(b, m, k)| format!("body {b} {m} {k}")),
    ]
    .boxed()
}

fn test() -> BoxedStrategy<String> {
    leaf()
        .prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                inner.clone().prop_map(|test| format!("not {test}")),
                prop::collection::vec(inner.clone(), 1..4).prop_map(|tests| format!("allof({})", tests.join(", "))),
                prop::collection::vec(inner, 1..4).prop_map(|tests| format!("anyof({})", tests.join(", "))),
            ]
        })
        .boxed()
}

fn action() -> BoxedStrategy<String> {
    one_of(&[
        "keep;",
        "discard;",
        "stop;",
        "fileinto \"one\";",
        "fileinto :copy \"two\";",
        "fileinto \"f-${1}-${2}\";",
        "fileinto :copy \"copy-${a}\";",
        "fileinto \"INBOX\";",
        "redirect \"jack@server3.com\";",
        "redirect :copy \"joe@server3.com\";",
        "set \"a\" \"${1}x\";",
        "set :lower \"a\" \"${0}\";",
        "set :upperfirst :quotewildcard \"a\" \"h*llo ${a}\";",
        "set :length \"a\" \"${0}${a}\";",
        "reject \"no\";",
    ])
}

fn block() -> BoxedStrategy<String> {
    let line = prop_oneof![
        2 => action(),
        3 => (test(), action(), action()).prop_map(|(test, one, two)| format!("if {test} {{\n  {one}\n  {two}\n}}")),
        1 => (test(), action(), test(), action(), action())
            .prop_map(|(a, b, c, d, e)| format!("if {a} {{ {b} }} elsif {c} {{ {d} }} else {{ {e} }}")),
    ];
    prop::collection::vec(line, 1..5).prop_map(|lines| lines.join("\n")).boxed()
}

/// This many scripts, each on two of the messages.
pub fn cases(scripts: usize) -> Vec<Case> {
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &[23; 32]));
    let strategy = block();
    let messages = corpus::MESSAGES;
    (0..scripts)
        .flat_map(|number| {
            let script = format!("{PROLOGUE}{}\n", strategy.new_tree(&mut runner).unwrap().current());
            let pick = move |offset: usize| messages[(number * 7 + offset) % messages.len()];
            [Case::new(script.clone(), pick(0)), Case::new(script, pick(3))]
        })
        .collect()
}
