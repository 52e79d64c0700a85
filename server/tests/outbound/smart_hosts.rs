//! Mail that goes through another server, whatever DNS says about the recipient's domain.

use paquebot_config::{Login, RecipientScope, RelayRule, SecretText, SmartHost, SmartHostTls};
use paquebot_server::store::envelope::Route;

use super::*;

/// `\0tom\0secret` in base64.
const LOGIN: &str = "AHRvbQBzZWNyZXQ=";

fn smart_host(world: &World, tls: SmartHostTls, credentials: Option<&str>) -> SmartHost {
    let port = world.peer.address.port();
    SmartHost { host: domain("smart.example"), port, tls, credentials: credentials.map(str::to_owned) }
}

fn login(password: &str) -> Login {
    Login { username: "tom".to_owned(), password: SecretText::new(password.to_owned()) }
}

/// A world with a smart host that takes mail only from who logs in, and its certificate.
async fn world(implicit_tls: bool, extensions: &[&'static str]) -> (World, String) {
    let (tls, pem) = acceptor("smart.example");
    let (tls, extensions) = (Some(Tls::Working(tls)), extensions.to_vec());
    let world = World::new(Rules { tls, implicit_tls, extensions, login: Some(LOGIN), ..Rules::default() }).await;
    world.dns.a("smart.example", [127, 0, 0, 1]);
    (world, pem)
}

async fn last_error(world: &World) -> String {
    world.until_deferred("nowhere.example", 1).await[0].last_error.clone().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_mail_goes_to_the_smart_host_by_verified_tls_with_the_login() {
    for (implicit, tls) in [(false, SmartHostTls::Required), (true, SmartHostTls::Implicit)] {
        let (world, pem) = world(implicit, &["PIPELINING", "REQUIRETLS"]).await;
        world.configure(|configuration| {
            configuration.server.outbound.smart_host = Some(smart_host(&world, tls, Some("out")));
            configuration.server.outbound.trusted_certificates = Some(pem);
            configuration.secrets.logins.insert("out".to_owned(), login("secret"));
        });
        let declared = Declared { require_tls: true, ..Declared::default() };
        world.send_as(Some("tom@server1.com"), b"\r\n", declared, &["jack@nowhere.example"]).await;
        world.send(b"\r\n", &["jill@other.example"]).await;
        world.until_empty().await;
        let taken = world.peer.taken();
        assert_eq!(taken.len(), 2);
        assert!(taken.iter().all(|taken| taken.encrypted));
        assert!(taken.iter().any(|taken| taken.mail == "MAIL FROM:<tom@server1.com> REQUIRETLS"), "{taken:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_to_a_smart_host_whose_name_is_not_proven() {
    // With credentials nobody may get them who has not proven the name.
    for (implicit, tls) in
        [(false, SmartHostTls::Required), (true, SmartHostTls::Implicit), (false, SmartHostTls::Opportunistic)]
    {
        let (world, _) = world(implicit, &[]).await;
        world.configure(|configuration| {
            configuration.server.outbound.smart_host = Some(smart_host(&world, tls, Some("out")));
            configuration.secrets.logins.insert("out".to_owned(), login("secret"));
        });
        world.send(b"\r\n", &["jack@nowhere.example"]).await;
        assert!(last_error(&world).await.contains("4.7.5 TLS is required"), "{}", last_error(&world).await);
        assert!(world.peer.taken().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_wrong_or_missing_defers() {
    let (world, pem) = world(false, &[]).await;
    let host = smart_host(&world, SmartHostTls::Opportunistic, Some("out"));
    world.configure(|configuration| {
        configuration.server.outbound.smart_host = Some(host.clone());
        configuration.server.outbound.trusted_certificates = Some(pem);
        configuration.secrets.logins.insert("out".to_owned(), login("wrong"));
    });
    world.send(b"\r\n", &["jack@nowhere.example"]).await;
    assert!(last_error(&world).await.contains("4.7.0 the server does not accept the login: 535 5.7.8 wrong"));
    world.send(b"\r\n", &["jill@second.example"]).await;
    world.configure(|configuration| configuration.server.outbound.smart_host = Some(host));
    world.send(b"\r\n", &["jill@third.example"]).await;
    let rows = world.until_deferred("third.example", 1).await;
    let error = rows[0].last_error.as_deref().unwrap();
    assert!(error.contains("4.7.0 the login out of the smart host smart.example is not in secrets.json"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_not_sent_without_tls() {
    let world = World::new(Rules { login: Some(LOGIN), ..Rules::default() }).await;
    world.dns.a("smart.example", [127, 0, 0, 1]);
    world.configure(|configuration| {
        let host = smart_host(&world, SmartHostTls::Opportunistic, Some("out"));
        configuration.server.outbound.smart_host = Some(host);
        configuration.secrets.logins.insert("out".to_owned(), login("secret"));
    });
    world.send(b"\r\n", &["jack@nowhere.example"]).await;
    assert!(last_error(&world).await.contains("4.7.10 the server does not offer STARTTLS"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_and_an_administrator_choose_the_way_of_single_recipients() {
    let world = World::new(Rules::default()).await;
    let upstream = Peer::start("127.0.0.5:0", Rules::default()).await;
    let port = upstream.address.port();
    world.dns.a("smart.example", [127, 0, 0, 5]);
    world.configure(|configuration| {
        let host = SmartHost { port, ..smart_host(&world, SmartHostTls::Opportunistic, None) };
        configuration.relay.push(RelayRule {
            name: "mail/rule".to_owned(),
            from: Vec::new(),
            senders: None,
            recipients: RecipientScope::Any,
            upstream: Some(host),
            rate_limit: None,
            confined: false,
        });
    });
    let by = |name: &str, route| RemoteRecipient { route, ..address(name).into() };
    let recipients = vec![
        by("mx@server2.com", None),
        by("rule@server2.com", Some(Route::Rule("mail/rule".to_owned()))),
        by("gone@server2.com", Some(Route::Rule("mail/gone".to_owned()))),
        by(
            "host@server2.com",
            Some(Route::Host { host: domain("[127.0.0.5]"), port, tls: SmartHostTls::Opportunistic }),
        ),
    ];
    world.send_to(Some("tom@server1.com"), b"\r\n", Declared::default(), recipients).await;
    world.until_empty().await;
    let got = |peer: &Peer| {
        let mut all: Vec<_> = peer.taken().into_iter().flat_map(|taken| taken.recipients).collect();
        all.sort();
        all
    };
    assert_eq!(got(&world.peer), ["gone@server2.com", "mx@server2.com"]);
    assert_eq!(got(&upstream), ["host@server2.com", "rule@server2.com"]);
}
