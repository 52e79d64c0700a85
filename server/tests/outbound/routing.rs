//! RFC 5321 §5, RFC 7505: where mail goes.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_next_exchanger_is_tried_when_the_better_one_does_not_answer() {
    let world = World::new(Rules::default()).await;
    let port = world.peer.address.port();
    let busy = Peer::start(&format!("127.0.0.3:{port}"), Rules { greeting: "421 busy", ..Rules::default() }).await;
    world.dns.mx("two.example", 5, "dead.two.example");
    world.dns.mx("two.example", 10, "busy.two.example");
    world.dns.mx("two.example", 20, "mx.server2.com");
    world.dns.a("dead.two.example", [127, 0, 0, 2]);
    world.dns.a("busy.two.example", [127, 0, 0, 3]);
    world.send(b"\r\n", &["jack@two.example"]).await;
    world.until_empty().await;
    assert_eq!((world.peer.taken().len(), busy.taken().len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_comes_back_only_when_every_exchanger_refused_it_for_good() {
    let world = World::new(Rules::default()).await;
    let port = world.peer.address.port();
    let refuses = || Rules { greeting: "554 5.7.1 not here", ..Rules::default() };
    let _parked = Peer::start(&format!("127.0.0.3:{port}"), refuses()).await;
    world.dns.mx("two.example", 5, "better.two.example");
    world.dns.mx("two.example", 10, "parked.two.example");
    world.dns.a("better.two.example", [127, 0, 0, 2]);
    world.dns.a("parked.two.example", [127, 0, 0, 3]);
    world.send(b"\r\n", &["jack@two.example"]).await;
    let rows = world.until_deferred("two.example", 1).await;
    assert!(rows[0].last_error.as_deref().unwrap().contains("connecting to 127.0.0.2"), "{rows:?}");
    let _other = Peer::start(&format!("127.0.0.4:{port}"), refuses()).await;
    world.dns.mx("three.example", 5, "parked.two.example");
    world.dns.mx("three.example", 10, "other.three.example");
    world.dns.a("other.three.example", [127, 0, 0, 4]);
    world.send(b"\r\n", &["jack@three.example"]).await;
    let told = &world.tom_has(2).await[1];
    assert!(told.contains("Action: failed\r\n") && told.contains("554 5.7.1 not here"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_exchanger_is_tried_when_the_better_one_takes_no_message() {
    let world = World::new(Rules::default()).await;
    let port = world.peer.address.port();
    let rules = Rules { messages_per_connection: 0, ..Rules::default() };
    let better = Peer::start(&format!("127.0.0.2:{port}"), rules).await;
    world.dns.mx("two.example", 5, "better.two.example");
    world.dns.mx("two.example", 20, "mx.server2.com");
    world.dns.a("better.two.example", [127, 0, 0, 2]);
    world.send(b"\r\n", &["jack@two.example"]).await;
    world.until_empty().await;
    assert_eq!((world.peer.taken().len(), better.taken().len(), world.count("deferred")), (1, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn dns_decides_where_mail_goes_and_what_it_meets() {
    let world = World::new(Rules::default()).await;
    world.dns.mx("null.example", 0, "");
    world.dns.mx("loop.example", 10, "mx.server1.com");
    world.dns.fail("broken.example");
    world.dns.a("implicit.example", [127, 0, 0, 1]);
    world.dns.cname("alias.example", "server2.com");
    for name in ["null.example", "loop.example", "absent.example"] {
        world.send(name.as_bytes(), &[&format!("jack@{name}")]).await;
    }
    let told = world.tom_has(3).await.join("\n");
    for (name, status) in [("null.example", "5.1.10"), ("loop.example", "5.4.6"), ("absent.example", "5.1.2")] {
        let wanted = format!("Final-Recipient: rfc822; jack@{name}\r\nAction: failed\r\nStatus: {status}\r\n");
        assert!(told.contains(&wanted), "{wanted}\nin\n{told}");
    }
    for name in ["implicit.example", "alias.example", "[127.0.0.1]"] {
        world.send(name.as_bytes(), &[&format!("jack@{name}")]).await;
    }
    world.until_empty().await;
    assert_eq!(world.peer.taken().len(), 3);
    world.send(b"\r\n", &["jack@broken.example"]).await;
    let rows = world.until_deferred("broken.example", 1).await;
    assert!(rows[0].last_error.as_deref().unwrap().contains("4.4.3"), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_that_became_ours_is_delivered_here() {
    let world = World::new(says("451 4.7.1 later")).await;
    world.send(b"Subject: home\r\n\r\n", &["tom@server2.com", "ghost@server2.com"]).await;
    let rows = world.until_deferred("server2.com", 2).await;
    let port = world.peer.address.port();
    world.configuration.replace(configuration(&world.dns, port, &["server1.com", "server2.com"], 432_000));
    world.make_due(&rows).await;
    world.until_empty().await;
    let got = world.maildrop("server2.com", 1).await;
    assert_eq!(got, [format!("Return-Path: <tom@server1.com>\r\n{TRACE}Subject: home\r\n\r\n")]);
    assert!(world.tom_has(2).await[1].contains("Final-Recipient: rfc822; ghost@server2.com\r\nAction: failed\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mailbox_of_a_domain_that_became_ours_defers() {
    let world = World::new(says("451 4.7.1 later")).await;
    world.dns.mx("full.example", 10, "mx.server2.com");
    world.send(b"Subject: home\r\n\r\n", &["tom@full.example"]).await;
    let rows = world.until_deferred("full.example", 1).await;
    let port = world.peer.address.port();
    world.configuration.replace(configuration(&world.dns, port, &["server1.com", "full.example"], 432_000));
    world.make_due(&rows).await;
    world
        .until("it was not tried again", async || {
            let rows = world.store.due_recipients(&domain("full.example"), Timestamp::MAX, 1).await.unwrap();
            rows[0].last_error.as_deref().is_some_and(|error| error.contains("4.2.2")).then_some(())
        })
        .await;
    assert_eq!(world.store.usage(&address("tom@full.example").into()).await.unwrap().messages, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_does_not_go_to_this_machine_or_its_neighbours_unless_the_configuration_says_so() {
    let world = World::new(Rules::default()).await;
    world.configure(|configuration| configuration.server.outbound.allowed_networks.clear());
    world.dns.mx("near.example", 10, "near.example");
    world.dns.a("near.example", [169, 254, 169, 254]);
    for name in ["server2.com", "near.example", "[127.0.0.1]"] {
        world.send(name.as_bytes(), &[&format!("jack@{name}")]).await;
    }
    let told = world.tom_has(3).await;
    assert!(told.iter().all(|told| told.contains("Action: failed\r\nStatus: 5.4.4\r\n")), "{told:?}");
    assert!(world.peer.taken().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_ourselves_is_not_connected_to() {
    let world = World::new(Rules::default()).await;
    let port = world.peer.address.port();
    world.configure(|configuration| {
        configuration.server.listeners.push(paquebot_config::Listener {
            name: "smtp".to_owned(),
            protocol: paquebot_config::Protocol::Smtp,
            port,
            clear_text_logins: false,
            bare_line_endings: Default::default(),
            proxy_protocol: None,
        });
    });
    world.send(b"\r\n", &["jack@server2.com"]).await;
    assert!(world.tom_has(1).await[0].contains("Action: failed\r\nStatus: 5.4.6\r\n"));
    assert!(world.peer.taken().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_is_tried_first_and_ipv4_when_nobody_answers_there() {
    let world = World::new(Rules::default()).await;
    world.configure(|configuration| {
        configuration.server.outbound.allowed_networks.push("::1/128".parse().unwrap());
    });
    world.dns.aaaa("mx.server2.com", std::net::Ipv6Addr::LOCALHOST);
    world.send(b"\r\n", &["jack@server2.com"]).await;
    world.until_empty().await;
    assert_eq!((world.peer.taken().len(), world.count("deferred")), (1, 0));
    let port = world.peer.address.port();
    let six = Peer::start(&format!("[::1]:{port}"), Rules::default()).await;
    world.send(b"\r\n", &["jack@server2.com"]).await;
    world.until_empty().await;
    assert_eq!((world.peer.taken().len(), six.taken().len()), (1, 1));
}
