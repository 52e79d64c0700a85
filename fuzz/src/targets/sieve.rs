//! Sieve: any text as a script, and any message under scripts that do much.

use paquebot_sieve::{Action, Delivery, Limits, Message, Nothing, compile, run};

use crate::input::Input;

/// Any text is a script, or an error with a place in it.
pub fn script(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let limits = Limits::default();
    match compile(&text, &limits) {
        Ok(script) => check(&script, b"Subject: x\r\nFrom: a@b.example\r\n\r\nbody\r\n"),
        Err(error) => {
            assert!(error.line >= 1 && error.column >= 1 && !error.message.is_empty());
            assert!(usize::try_from(error.line).is_ok_and(|line| line <= text.split('\n').count()));
        }
    }
}

/// Scripts that look at much of a message, and change it.
const SCRIPTS: &[&str] = &[
    "require [\"fileinto\", \"body\", \"variables\", \"relational\", \"comparator-i;ascii-numeric\"]; \
     if header :matches \"Subject\" \"*[*]*\" { set :lower \"a\" \"${1}-${2}\"; fileinto \"${a}\"; } \
     elsif body :text :contains \"offer\" { discard; } \
     elsif header :value \"ge\" :comparator \"i;ascii-numeric\" \"X-Score\" \"5\" { fileinto \"junk\"; }",
    "require [\"editheader\", \"copy\", \"envelope\", \"subaddress\"]; addheader \"X-Seen\" \"yes\"; \
     deleteheader :contains \"Subject\" \"spam\"; if envelope :detail \"to\" \"news\" { stop; } \
     redirect :copy \"jack@server2.com\";",
    "require [\"vacation\", \"relational\", \"date\", \"index\", \"duplicate\", \"mailbox\", \"reject\"]; \
     if date :value \"ge\" \"Date\" \"date\" \"2020\" { keep; } if duplicate { discard; stop; } \
     vacation :days 1 \"I am away\";",
    "require [\"body\", \"fileinto\"]; if anyof (body :raw :matches \"*a*b*c*\", body :content \"text\" :contains \"x\", \
     address :domain :is [\"From\", \"To\"] \"b.example\", not exists \"Date\", size :over 1K) { fileinto \"found\"; }",
];

/// Any message under one of them.
pub fn message(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let text = SCRIPTS[usize::from(input.byte()) % SCRIPTS.len()];
    // What does not compile is not worth a run; the test below sees to it that all do.
    if let Ok(script) = compile(text, &Limits::default()) {
        check(&script, input.rest());
    }
}

fn check(script: &paquebot_sieve::Script, octets: &[u8]) {
    let message = Message::new(octets, octets.len() as u64);
    let delivery = Delivery {
        reverse_path: "shop@server2.com",
        recipient: "anna+news@server1.com",
        addresses: &[],
        separator: "+",
        now: 1_795_000_000,
        utc_offset: 0,
    };
    let outcome = run(script, &message, &delivery, &Nothing, &Limits::default());
    let redirects = outcome.actions.iter().filter(|action| matches!(action, Action::Redirect { .. })).count();
    assert!(outcome.actions.len() <= 64 && redirects <= 5, "there is no bound");
    assert!(
        outcome.error.is_none() || outcome.actions.iter().any(|action| matches!(action, Action::Keep { .. })),
        "mail is lost after an error"
    );
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_scripts_compile() {
        for script in super::SCRIPTS {
            paquebot_sieve::compile(script, &paquebot_sieve::Limits::default()).unwrap();
        }
    }
}
