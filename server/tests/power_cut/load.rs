//! The mixed load: clients that send, fetch and delete until the server vanishes, and write down what they were told.

use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::ledger::{Ledger, Maildrop};
use crate::messages::{Token, content};
use crate::random::Random;
use crate::wire::Wire;
use crate::world::{MAILDROPS, World, log_in};

/// Clients that send at the same time.
const SENDERS: u64 = 5;
/// A fetching client leaves so many messages in the maildrop.
const LEFT: usize = 40;

/// What all clients share.
pub struct Load {
    pub ledger: Mutex<Ledger>,
    tokens: AtomicU64,
}

impl Load {
    pub fn new() -> Self {
        Self { ledger: Mutex::default(), tokens: AtomicU64::new(1) }
    }

    /// Runs the load while `failure` runs; returns when it is done and every client has noticed.
    pub fn run_during<T>(&self, world: &mut World, seed: u64, failure: impl FnOnce(&mut World) -> T) -> T {
        let (smtp, pop3) = (world.smtp(), world.pop3());
        let over = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            for client in 0..SENDERS {
                scope.spawn(move || self.until(over, seed ^ (client << 32), |random| self.send_some(smtp, random)));
            }
            for maildrop in 0..MAILDROPS.len() {
                let seed = seed ^ (maildrop as u64 + 100) << 32;
                scope.spawn(move || self.until(over, seed, |random| self.fetch_some(pop3, maildrop, random)));
            }
            let outcome = failure(world);
            over.store(true, Ordering::SeqCst);
            outcome
        })
    }

    fn until(&self, over: &AtomicBool, seed: u64, session: impl Fn(&mut Random) -> io::Result<()>) {
        let mut random = Random::new(seed);
        while !over.load(Ordering::SeqCst) {
            if session(&mut random).is_err() {
                // The server is gone, or refuses.
                std::thread::sleep(std::time::Duration::from_millis(5));
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

    /// A token that was not given before.
    pub fn token(&self) -> Token {
        self.tokens.fetch_add(1, Ordering::SeqCst)
    }

    /// One POP3 session: fetches some messages, deletes those that are too many, and now and then goes without QUIT.
    fn fetch_some(&self, pop3: SocketAddr, maildrop: Maildrop, random: &mut Random) -> io::Result<()> {
        let (mut wire, messages) = log_in(pop3, maildrop)?;
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
}

/// To whom a message goes: at least one.
fn recipients(random: &mut Random) -> (Vec<Maildrop>, bool) {
    let is_remote = random.one_in(4);
    let all = MAILDROPS.len() as u64;
    let maildrops = match random.below(6) {
        0 if is_remote => Vec::new(),
        1 => (0..MAILDROPS.len()).collect(),
        2 => {
            let first = random.below(all) as usize;
            vec![first, (first + 1) % MAILDROPS.len()]
        }
        _ => vec![random.below(all) as usize],
    };
    (maildrops, is_remote)
}
