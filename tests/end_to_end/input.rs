//! Messages as the world sends them, and octets that are no mail at all.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use paquebot_tests::message::{self, Message};
use paquebot_tests::report::Report;
use paquebot_tests::story::{Server, World};
use paquebot_tests::{pop3, smtp};

/// Every message goes in by submission and comes out by POP3 as it was.
pub fn real_messages(world: &World, report: &mut Report) {
    let server = &world.server1;
    let anna = server.address("anna");
    for message in message::difficult("tom@server1.com", &[&anna]) {
        report.check(&message.title.clone(), || round_trip(server, std::slice::from_ref(&message)));
    }
    report.check("messages that Python made, and its own test data", || {
        let messages = message::from_python(&anna)?;
        ensure!(messages.len() >= 2, "python3 made {} messages", messages.len());
        round_trip(server, &messages)
    });
    report.check("a message above the limit is refused before its data is sent", || {
        let mut client = smtp::Client::connect(&server.smtp())?;
        let reply = client.command("MAIL FROM:<a@elsewhere.test> SIZE=999999999")?;
        reply.expect(552)?;
        Ok(reply.to_string())
    });
    report.check("an unknown recipient is refused at RCPT", || {
        let mut client = smtp::Client::connect(&server.smtp())?;
        client.command("MAIL FROM:<a@elsewhere.test>")?.expect(250)?;
        let reply = client.command(&format!("RCPT TO:<{}>", server.address("nobody")))?;
        reply.expect(550)?;
        ensure!(reply.to_string().contains("5.1.1"), "{reply}");
        Ok(reply.to_string())
    });
    report.check("postmaster is always deliverable, also without a domain", || {
        for recipient in ["postmaster".to_owned(), server.address("postmaster"), server.address("Anna+news")] {
            let text = message::text("a@elsewhere.test", &[&recipient], "role", "role");
            smtp::send(&server.smtp(), None, "a@elsewhere.test", &[&recipient], &text)
                .with_context(|| recipient.clone())?;
        }
        pop3::take_all(&server.pop3s(), &server.login("anna"))?;
        Ok("postmaster, postmaster@ and a subaddress are accepted".to_owned())
    });
}

/// Tom sends them all to Anna, alternately on 587 and 465; Anna takes them alternately from 995 and 110.
fn round_trip(server: &Server, messages: &[Message]) -> Result<String> {
    let (tom, anna) = (server.login("tom"), server.login("anna"));
    pop3::take_all(&server.pop3s(), &anna)?;
    for (number, message) in messages.iter().enumerate() {
        let endpoint = if number.is_multiple_of(2) { server.submission() } else { server.submissions() };
        smtp::send(&endpoint, Some(&tom), &tom.user, &[&anna.user], &message.octets)
            .with_context(|| message.title.clone())?;
    }
    let endpoint = if messages.len().is_multiple_of(2) { server.pop3s() } else { server.pop3() };
    let fetched = pop3::take_all(&endpoint, &anna)?;
    ensure!(fetched.len() == messages.len(), "{} sent, {} fetched", messages.len(), fetched.len());
    // A maildrop lists its messages in the order in which they came.
    for (message, fetched) in messages.iter().zip(&fetched) {
        message::check_delivered(fetched, &message.octets).with_context(|| message.title.clone())?;
    }
    let octets: usize = messages.iter().map(|message| message.octets.len()).sum();
    Ok(format!("{} of {octets} octets, the same after the trace headers", messages.len()))
}

/// Octets that are no command get an error reply or a closed connection; the server stays up, and small.
pub fn garbage(world: &World, report: &mut Report) {
    let server = &world.server1;
    for port in [25, 587, 465, 110, 995] {
        report.check(&format!("4 MB of garbage on port {port}"), || {
            let before = restarts(world)?;
            let answer = pour(server, port)?;
            ensure!(restarts(world)? == before, "the server restarted");
            // And it still serves.
            let mut client = smtp::Client::connect(&server.submissions())?;
            client.log_in(&server.login("tom"))?;
            client.quit()?;
            Ok(answer)
        });
    }
}

fn restarts(world: &World) -> Result<i64> {
    let pod = world.cluster.get(world.server1.namespace, &format!("pod/{}", world.server1.pod()))?;
    pod["status"]["containerStatuses"][0]["restartCount"].as_i64().context("no restart count")
}

fn pour(server: &Server, port: u16) -> Result<String> {
    let mut socket = server.in_clear(port).dial()?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    socket.set_write_timeout(Some(Duration::from_secs(20)))?;
    let garbage = message::noise(4 << 20);
    let mut reader = socket.try_clone()?;
    let answer = std::thread::spawn(move || {
        let mut answer = Vec::new();
        let mut piece = [0_u8; 4096];
        // The end, however the server brings it about.
        while let Ok(read) = reader.read(&mut piece) {
            if read == 0 {
                break;
            }
            if answer.len() < 4096 {
                answer.extend_from_slice(&piece[..read]);
            }
        }
        answer
    });
    // The server may have hung up before everything is written.
    let written = garbage.chunks(64 * 1024).take_while(|piece| socket.write_all(piece).is_ok()).count();
    let _ = socket.shutdown(std::net::Shutdown::Write);
    let answer = answer.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let last = text.lines().rfind(|line| !line.is_empty()).unwrap_or("nothing").to_owned();
    if matches!(port, 465 | 995) {
        // A TLS alert, or nothing.
        return Ok(format!("{} octets answered, {written} pieces of 64 KB taken", answer.len()));
    }
    let refused = last.starts_with(['4', '5']) || last.starts_with("-ERR");
    ensure!(refused, "the last answer is no refusal: {last:?}");
    Ok(format!("the last answer: {last}"))
}
