//! What is wrong with a script is said with its line, its column and what to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use paquebot_sieve::{Limits, compile};

fn error(script: &str) -> (u32, u32, String) {
    let error = compile(script, &Limits::default()).expect_err(script);
    (error.line, error.column, error.message)
}

#[test]
fn errors_name_the_place_and_the_remedy() {
    let cases = [
        ("fileinto \"junk\";", 1, 1, "require \"fileinto\""),
        ("keep;\nrequire \"fileinto\";", 2, 1, "before all other commands"),
        ("require \"vaccation\";", 1, 9, "there is no extension \"vaccation\""),
        ("if header :contains \"Subject\"\n{ keep; }", 1, 4, "needs the texts to compare with"),
        ("if true {\n  keep\n}", 3, 1, "a semicolon"),
        ("if true {\n  keep;", 1, 9, "does not end"),
        ("keep; }", 1, 7, "closing brace"),
        ("  kep;", 1, 3, "there is no command kep"),
        ("if hader \"a\" \"b\" { keep; }", 1, 4, "there is no test hader"),
        ("if keep { }", 1, 4, "is a command"),
        ("keep; \"é", 1, 7, "does not end"),
        ("redirect \"é\n\";", 1, 10, "is no address"),
        ("redirect \"unfinished;\n", 1, 10, "does not end"),
        ("/* é */ redirect 5;", 1, 18, "needs one address"),
        ("/* never ends", 1, 1, "comment"),
        ("size :over 100;", 1, 1, "there is no command size"),
        ("if size :over 100X { }", 1, 15, "followed by letters"),
        ("if size :over 99999999999999999999 { }", 1, 15, "too large"),
        ("if size :over 9999999999999G { }", 1, 15, "too large"),
        ("if header :is :is \"a\" \"b\" { }", 1, 15, "given twice"),
        ("if header \"a\" :is \"b\" { }", 1, 15, "before the other arguments"),
        ("if header :over \"a\" \"b\" { }", 1, 11, "has no :over"),
        ("if header \"Subject:\" \"b\" { }", 1, 11, "without a colon"),
        ("if address \"subject\" \"b\" { }", 1, 12, "use the test header"),
        ("if true { } else { } elsif true { }", 1, 22, "may not follow else"),
        ("if not (true, true) { }", 1, 4, "put allof or anyof"),
        ("keep true;", 1, 6, "is a semicolon missing"),
        ("keep { }", 1, 1, "takes no block"),
        ("@", 1, 1, "has no meaning"),
        ("if header [\"a\" \"b\"] \"c\" { }", 1, 16, "a comma or a closing bracket"),
        ("require \"variables\";\nset \"a.b\" \"c\";", 2, 5, "variable's name"),
        ("require [\"fileinto\"]; fileinto \"\";", 1, 32, "may not be empty"),
        ("require [\"date\"]; if currentdate :zone \"EST\" \"year\" \"1\" { }", 1, 40, "time zone"),
    ];
    for (script, line, column, words) in cases {
        let found = error(script);
        assert_eq!((found.0, found.1), (line, column), "{script}: {}", found.2);
        assert!(found.2.contains(words), "{script}: {}", found.2);
    }
}

#[test]
fn size_nesting_and_lists_are_bounded() {
    let limits = Limits::default();
    assert!(error(&"#".repeat(limits.script_octets + 1)).2.contains("larger"));
    compile(&"#".repeat(limits.script_octets), &limits).unwrap();
    let nested = |depth: usize| format!("{}{}", "if true {".repeat(depth), "}".repeat(depth));
    compile(&nested(15), &limits).unwrap();
    assert!(error(&nested(40)).2.contains("nested too deeply"));
    assert!(error(&format!("if {} true {{ }}", "not ".repeat(60_000 / 4))).2.contains("nested too deeply"));
    assert!(error(&format!("if {}", "anyof(".repeat(9_000))).2.contains("nested too deeply"));
    let list = |items: usize| format!("if header [{}] \"a\" {{ }}", vec!["\"a\""; items].join(","));
    compile(&list(limits.list_items), &limits).unwrap();
    assert!(error(&list(limits.list_items + 1)).2.contains("too long"));
    let variables: String = (0..300).map(|number| format!("set \"v{number}\" \"\";")).collect();
    assert!(error(&format!("require \"variables\";{variables}")).2.contains("too many variables"));
}

#[test]
fn rfc5463_what_ihave_rules_out_is_not_checked() {
    let limits = Limits::default();
    for script in [
        "require \"ihave\"; if ihave \"x-no\" { nonsense :a 5 [\"b\"]; }",
        "require \"ihave\"; if allof(ihave \"x-no\", nonsense \"a\") { nonsense; } else { keep; }",
        "require \"ihave\"; if not ihave \"fileinto\" { nonsense; } else { fileinto \"a\"; }",
        "require \"ihave\"; if ihave \"copy\" { redirect :copy \"a@b\"; } elsif nonsense { }",
    ] {
        compile(script, &limits).unwrap_or_else(|error| panic!("{script}: {error}"));
    }
    assert!(compile("require \"ihave\"; if true { nonsense; }", &limits).is_err());
    assert!(compile("require \"ihave\"; if ihave \"copy\" { nonsense; }", &limits).is_err());
}

#[test]
fn line_ends_of_either_kind_and_a_byte_order_mark_are_read() {
    let limits = Limits::default();
    let script = "require \"reject\";\nreject text:\nno\n..\n.\n;";
    let unix = compile(script, &limits).unwrap();
    assert_eq!(unix, compile(&script.replace('\n', "\r\n"), &limits).unwrap());
    assert_eq!(unix, compile(&format!("\u{feff}{script}"), &limits).unwrap());
}
