//! The mixed load: clients that send, fetch and delete until the server vanishes, and write down what they were told.

use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::ledger::{Ledger, Maildrop};
use crate::messages::{Token, content};
use crate::random::Random;
use crate::wire::Wire;
use crate::world::{BERT, HEAP, LISTS, MAILDROPS, World, log_in};

/// Clients that send at the same time.
const SENDERS: u64 = 5;
/// A fetching client leaves so many messages in the maildrop.
const LEFT: usize = 40;
/// Clients that fill the heap, with small messages.
const HEAPERS: u64 = 24;
/// The heap is emptied with one QUIT when it has so many messages: more than the store deletes in one transaction (256).
const MANY: usize = 1500;

/// What all clients share.
pub struct Load {
    pub ledger: Mutex<Ledger>,
    tokens: AtomicU64,
    /// How often the heap was about to be emptied.
    emptied: AtomicU64,
}

/// Ends the load when it is dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Load {
    pub fn new() -> Self {
        Self { ledger: Mutex::default(), tokens: AtomicU64::new(1), emptied: AtomicU64::new(0) }
    }

    /// Runs the load while `failure` runs; returns when it is done and every client has noticed.
    pub fn run_during<T>(&self, world: &mut World, seed: u64, failure: impl FnOnce(&mut World) -> T) -> T {
        let (smtp, pop3) = (world.smtp(), world.pop3());
        let over = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            for client in 0..SENDERS {
                scope.spawn(move || self.until(over, seed ^ (client << 32), |random| self.send_some(smtp, random)));
            }
            for client in 0..HEAPERS {
                let seed = seed ^ ((client + 200) << 32);
                scope.spawn(move || self.until(over, seed, |random| self.heap_some(smtp, random)));
            }
            for maildrop in 0..MAILDROPS.len() {
                let seed = seed ^ (maildrop as u64 + 100) << 32;
                scope.spawn(move || self.until(over, seed, |random| self.fetch_some(pop3, maildrop, random)));
            }
            // Also when the failure itself fails: the clients are waited for.
            let _ends = Ends(over);
            failure(world)
        })
    }

    fn until(&self, over: &AtomicBool, seed: u64, session: impl Fn(&mut Random) -> io::Result<()>) {
        let mut random = Random::new(seed);
        while !over.load(Ordering::SeqCst) {
            if session(&mut random).is_err() {
                // The server is gone, or refuses.
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// One SMTP session with a few messages.
    fn send_some(&self, smtp: SocketAddr, random: &mut Random) -> io::Result<()> {
        let mut wire = Wire::connect(smtp)?;
        wire.reply()?;
        wire.smtp("EHLO client.example")?;
        for _ in 0..random.between(1, 40) {
            self.send_one(&mut wire, random)?;
        }
        wire.smtp("QUIT").map(drop)
    }

    /// One SMTP session that makes the heap grow.
    fn heap_some(&self, smtp: SocketAddr, random: &mut Random) -> io::Result<()> {
        let mut wire = Wire::connect(smtp)?;
        wire.reply()?;
        wire.smtp("EHLO client.example")?;
        for _ in 0..random.between(50, 200) {
            let octets = random.between(200, 600);
            let reply = self.send(&mut wire, self.token(), octets, &[HEAP], false)?;
            if !reply.starts_with("250 ") {
                return Err(io::Error::other(reply));
            }
        }
        wire.smtp("QUIT").map(drop)
    }

    /// One message. Only `Ok` goes on with the session.
    fn send_one(&self, wire: &mut Wire, random: &mut Random) -> io::Result<()> {
        let token = self.tokens.fetch_add(1, Ordering::SeqCst);
        let (maildrops, is_remote) = recipients(random);
        let octets = match random.below(20) {
            0 => random.between(66_000, 400_000),
            // Around the border between database and files.
            1 => random.between(65_000, 66_000),
            2..6 => random.between(5_000, 60_000),
            _ => random.between(200, 3_000),
        };
        self.send(wire, token, octets, &maildrops, is_remote).and_then(|reply| match reply {
            reply if reply.starts_with("250 ") => Ok(()),
            reply => Err(io::Error::other(reply)),
        })
    }

    /// Sends a message, and writes down the server's last word, which it yields.
    pub fn send(
        &self,
        wire: &mut Wire,
        token: Token,
        octets: u64,
        maildrops: &[Maildrop],
        is_remote: bool,
    ) -> io::Result<String> {
        let mut commands = "MAIL FROM:<client@client.example>\r\n".to_owned();
        let mut recipients: Vec<String> = maildrops.iter().map(|maildrop| MAILDROPS[*maildrop].to_owned()).collect();
        recipients.extend(is_remote.then(|| format!("t{token}@elsewhere.example")));
        for recipient in &recipients {
            commands.push_str(&format!("RCPT TO:<{recipient}>\r\n"));
        }
        wire.send(format!("{commands}DATA\r\n").as_bytes())?;
        let mut refusal = None;
        for _ in 0..=recipients.len() {
            let reply = wire.reply()?;
            if !reply.starts_with("250") {
                refusal.get_or_insert(reply);
            }
        }
        let answer = wire.reply()?;
        if let Some(refusal) = refusal {
            return Ok(refusal);
        }
        if !answer.starts_with("354") {
            return Ok(answer);
        }
        wire.send(&content(token, octets))?;
        self.ledger.lock().unwrap().sending(token, maildrops, is_remote);
        wire.send(b".\r\n")?;
        let answer = wire.reply()?;
        if answer.starts_with("250") {
            self.ledger.lock().unwrap().acknowledged(token);
        }
        Ok(answer)
    }

    /// Waits until the heap is about to be emptied, but no longer than that.
    pub fn until_emptied(&self, longest: Duration) {
        let (before, begun) = (self.emptied.load(Ordering::SeqCst), Instant::now());
        while self.emptied.load(Ordering::SeqCst) == before && begun.elapsed() < longest {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A token that was not given before.
    pub fn token(&self) -> Token {
        self.tokens.fetch_add(1, Ordering::SeqCst)
    }

    /// One POP3 session: fetches some messages, deletes those that are too many, and now and then goes without QUIT.
    fn fetch_some(&self, pop3: SocketAddr, maildrop: Maildrop, random: &mut Random) -> io::Result<()> {
        let (mut wire, messages) = log_in(pop3, maildrop)?;
        if maildrop == HEAP {
            return self.empty_heap(wire, messages);
        }
        let mut tokens = Vec::new();
        for number in 1..=messages.min(LEFT) {
            if messages < LEFT && !random.one_in(4) {
                continue;
            }
            let token = crate::messages::whole(&wire.retrieve(number)?);
            self.ledger.lock().unwrap().fetched(token, maildrop);
            if wire.pop3(&format!("DELE {number}"))?.starts_with("+OK") {
                tokens.push(token);
            }
        }
        if random.one_in(5) {
            // Cut off without QUIT: nothing is deleted.
            return Ok(());
        }
        let group = self.ledger.lock().unwrap().deleting(&tokens, maildrop);
        let answer = wire.pop3("QUIT")?;
        let mut ledger = self.ledger.lock().unwrap();
        if answer.starts_with("+OK") {
            ledger.deleted(group)
        } else {
            ledger.not_deleted(group)
        }
        drop(ledger);
        Ok(())
    }

    /// One POP3 session that deletes everything at once, when there is much.
    fn empty_heap(&self, mut wire: Wire, messages: usize) -> io::Result<()> {
        if messages < MANY {
            std::thread::sleep(Duration::from_millis(50));
            return wire.pop3("QUIT").map(drop);
        }
        let commands: String = (1..=messages).map(|number| format!("RETR {number}\r\nDELE {number}\r\n")).collect();
        wire.send(commands.as_bytes())?;
        let mut tokens = Vec::new();
        for _ in 0..messages {
            let answer = wire.line()?;
            if !answer.starts_with("+OK") {
                return Err(io::Error::other(answer));
            }
            let token = crate::messages::whole(&wire.content()?);
            self.ledger.lock().unwrap().fetched(token, HEAP);
            if wire.line()?.starts_with("+OK") {
                tokens.push(token);
            }
        }
        let group = self.ledger.lock().unwrap().deleting(&tokens, HEAP);
        self.emptied.fetch_add(1, Ordering::SeqCst);
        let answer = wire.pop3("QUIT")?;
        let mut ledger = self.ledger.lock().unwrap();
        if answer.starts_with("+OK") {
            ledger.counts.deleted_at_once += 1;
            ledger.deleted(group);
        } else {
            ledger.not_deleted(group);
        }
        Ok(())
    }
}

/// To whom a message goes: at least one.
fn recipients(random: &mut Random) -> (Vec<Maildrop>, bool) {
    let is_remote = random.one_in(4);
    // One mailbox is not named with and without its folder: it would have the message once.
    let mailboxes = [0, 1, if random.one_in(2) { BERT } else { LISTS }];
    let all = mailboxes.len() as u64;
    let maildrops = match random.below(6) {
        0 if is_remote => Vec::new(),
        1 => mailboxes.to_vec(),
        2 => {
            let first = random.below(all) as usize;
            vec![mailboxes[first], mailboxes[(first + 1) % mailboxes.len()]]
        }
        _ => vec![mailboxes[random.below(all) as usize]],
    };
    (maildrops, is_remote)
}
