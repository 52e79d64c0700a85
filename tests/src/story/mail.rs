//! Mail itself: sent, delivered, fetched, compared; and a mailbox that is added while it flows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::world::{Server, World};
use crate::kubernetes::{PATIENCE, wait};
use crate::report::Report;
use crate::{message, pop3, smtp};

pub(super) fn tom_writes(world: &World, report: &mut Report) -> Result<()> {
    let (anna, jack) = (world.server1.address("anna"), world.server2.address("jack"));
    let tom = world.server1.login("tom");
    let sent = message::with_attachments(&tom.user, &[&anna, &jack], 50_000);

    report.step("without a login, port 587 takes no mail", || {
        let mut client = smtp::Client::connect(&world.server1.submission())?;
        let reply = client.command(&format!("MAIL FROM:<{}>", tom.user))?;
        reply.expect(530)?;
        Ok(((), reply.to_string()))
    })?;
    let started = Instant::now();
    report.step("Tom sends one message to both (587, STARTTLS, AUTH)", || {
        let reply = smtp::send(&world.server1.submission(), Some(&tom), &tom.user, &[&anna, &jack], &sent)?;
        Ok(((), format!("{} octets, {reply}", sent.len())))
    })?;
    report.step("Anna fetches it by POP3 (995)", || {
        let fetched = fetch_one(&world.server1, "anna", &sent)?;
        Ok(((), format!("the same octet by octet, behind {} octets of trace headers", fetched.len() - sent.len())))
    })?;
    report.step("Jack fetches it by POP3 (110, STLS); it came by MX", || {
        let jack = &world.server2.login("jack");
        let fetched = wait("Jack's message", PATIENCE, || {
            let mut messages = pop3::fetch_all(&world.server2.pop3(), jack)?;
            messages.pop().context("Jack's maildrop is empty")
        })?;
        message::check_delivered(&fetched, &sent)?;
        let trace = message::trace_of(&fetched, &sent);
        let hops: Vec<&str> = trace.split("\r\n").filter(|line| line.starts_with("Received:")).collect();
        ensure!(hops.len() == 2, "not two hops: {trace}");
        ensure!(
            hops[0].contains(world.server1.hostname),
            "the last hop is not from {}: {trace}",
            world.server1.hostname
        );
        ensure!(
            trace.contains(&format!("by {}", world.server2.hostname)),
            "the last hop is not by mx.server2.com: {trace}"
        );
        let seconds = started.elapsed().as_secs_f64();
        Ok(((), format!("the same octet by octet, 2 hops, {seconds:.1} s after Tom sent it; {}", hops[0])))
    })
}

fn fetch_one(server: &Server, local_part: &str, sent: &[u8]) -> Result<Vec<u8>> {
    let mut messages = pop3::fetch_all(&server.pop3s(), &server.login(local_part))?;
    ensure!(messages.len() == 1, "{} messages in the maildrop of {local_part}", messages.len());
    let fetched = messages.pop().context("no message")?;
    message::check_delivered(&fetched, sent)?;
    Ok(fetched)
}

pub(super) fn newcomer(world: &World, report: &mut Report) -> Result<()> {
    let server = &world.server1;
    let pod = server.pod();
    let identity = |world: &World| -> Result<String> {
        let pod = world.cluster.get(server.namespace, &format!("pod/{pod}"))?;
        Ok(format!("{} {}", pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]))
    };
    let before = identity(world)?;
    let flow = report.step("Nina's mailbox is applied while mail flows to Anna", || {
        let (flow, seconds) = with_mail_flowing(server, || effective_after(world))?;
        Ok((
            flow,
            format!("effective {:.2} s after kubectl apply began ({:.2} s after it returned)", seconds.0, seconds.1),
        ))
    })?;
    report.step("no restart, and not a message was disturbed", || {
        ensure!(identity(world)? == before, "the server's pod restarted");
        let fetched = pop3::take_all(&server.pop3s(), &server.login("anna"))?;
        // Tom's message is there from before.
        let flowed = fetched.iter().filter(|message| contains(message, b"Subject: flow")).count();
        ensure!(flowed == flow, "{flow} messages were accepted, and {flowed} are there");
        Ok(((), format!("the same pod; {flow} messages accepted meanwhile, {flowed} delivered")))
    })
}

/// Seconds until the new mailbox has both logged in by POP3 and been accepted as a recipient: since `kubectl apply` was
/// started, and since it returned.
fn effective_after(world: &World) -> Result<(f64, f64)> {
    let server = &world.server1;
    let (nina, login) = (server.address("nina"), server.login("nina"));
    let started = Instant::now();
    world.cluster.apply_example("two-servers/newcomer.yaml")?;
    let returned = Instant::now();
    wait("Nina's mailbox to be effective", PATIENCE, || {
        let mut client = smtp::Client::connect(&server.smtp())?;
        client.command("MAIL FROM:<stranger@elsewhere.test>")?.expect(250)?;
        client.command(&format!("RCPT TO:<{nina}>"))?.expect(250)?;
        client.quit()?;
        let mut client = pop3::Client::connect(&server.pop3s())?;
        client.log_in(&login)?;
        client.quit()
    })?;
    Ok((started.elapsed().as_secs_f64(), returned.elapsed().as_secs_f64()))
}

/// Sends a message to Anna every few hundredths of a second while `action` runs. Gives how many were accepted; none may be
/// refused.
fn with_mail_flowing<T>(server: &Server, action: impl FnOnce() -> Result<T>) -> Result<(usize, T)> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| -> Result<usize> {
            let anna = server.address("anna");
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                let text = message::text("friend@elsewhere.test", &[&anna], "flow", &format!("flow-{sent}"));
                smtp::send(&server.smtp(), None, "friend@elsewhere.test", &[&anna], &text)?;
                sent += 1;
                thread::sleep(Duration::from_millis(20));
            }
            Ok(sent)
        });
        let outcome = action();
        stop.store(true, Ordering::Relaxed);
        let sent = sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        Ok((sent, outcome?))
    })
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
