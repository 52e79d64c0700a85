//! The server that mail is relayed to: it takes everything, remembers what, and in which epoch (between two failures).

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::messages::{Token, whole};
use crate::wire::Wire;

/// See the module. It ends with the process.
pub struct Sink {
    pub address: SocketAddr,
    taken: Arc<Mutex<HashMap<Token, Vec<u64>>>>,
    epoch: Arc<AtomicU64>,
}

impl Sink {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::<Mutex<HashMap<Token, Vec<u64>>>>::default();
        let epoch = Arc::<AtomicU64>::default();
        let (all, now) = (Arc::clone(&taken), Arc::clone(&epoch));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (all, now) = (Arc::clone(&all), Arc::clone(&now));
                // Its client may vanish at any time.
                std::thread::spawn(move || drop(converse(stream, &all, &now)));
            }
        });
        Self { address, taken, epoch }
    }

    /// A failure lies between what was taken before and what is taken now.
    pub fn next_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// The epochs in which each message was taken.
    pub fn taken(&self) -> HashMap<Token, Vec<u64>> {
        self.taken.lock().unwrap().clone()
    }
}

fn converse(stream: TcpStream, taken: &Mutex<HashMap<Token, Vec<u64>>>, epoch: &AtomicU64) -> io::Result<()> {
    let mut wire = Wire::accepted(stream)?;
    wire.send(b"220 sink\r\n")?;
    let mut recipients: Vec<Token> = Vec::new();
    loop {
        let line = wire.line()?;
        match line.split([' ', ':']).next().unwrap_or_default() {
            "EHLO" => wire.send(b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 100000000\r\n")?,
            "RCPT" => {
                let token = line.split_once("<t").and_then(|(_, rest)| rest.split_once('@'));
                recipients.push(token.expect("a recipient of ours").0.parse().expect("a token"));
                wire.send(b"250 2.1.5 ok\r\n")?;
            }
            "DATA" => {
                wire.send(b"354 go ahead\r\n")?;
                let token = whole(&wire.content()?);
                assert_eq!(recipients, [token], "a message went to somebody else's recipient");
                recipients.clear();
                taken.lock().unwrap().entry(token).or_default().push(epoch.load(Ordering::SeqCst));
                wire.send(b"250 2.0.0 taken\r\n")?;
            }
            "MAIL" | "RSET" => {
                recipients.clear();
                wire.send(b"250 2.0.0 ok\r\n")?;
            }
            "QUIT" => return wire.send(b"221 2.0.0 bye\r\n"),
            _ => wire.send(b"500 5.5.1 what\r\n")?,
        }
    }
}
