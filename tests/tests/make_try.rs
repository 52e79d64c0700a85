//! `make try`, as a person uses it: the printed commands work when they are pasted, edited manifests are taken up, Ctrl-C
//! ends it, and the mail is there the next time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // in the helpers of a test, as in the test itself

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use paquebot_tests::endpoint::{Dial as _, Endpoint, Login, Security};
use paquebot_tests::kubernetes::wait;
use paquebot_tests::wire::Certificate;
use paquebot_tests::{message, pop3, smtp};

/// The script builds what it runs: minutes, the first time.
const BUILD: Duration = Duration::from_secs(900);
const PATIENCE: Duration = Duration::from_secs(60);
/// The variables that set the ports, in this order.
const PORTS: [&str; 6] = ["SMTP_PORT", "SUBMISSION_PORT", "SUBMISSIONS_PORT", "POP3_PORT", "POP3S_PORT", "ADMIN_PORT"];

struct Try {
    child: Child,
    printed: String,
    data: PathBuf,
    ports: Vec<u16>,
}

impl Try {
    fn start(data: &Path, manifests: &Path) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        // Held until all are chosen, so that they differ.
        let held: Vec<TcpListener> = PORTS.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = held.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        drop(held);
        // Where the test itself runs in the background, SIGINT is ignored, which a shell would inherit and keep.
        let mut command = Command::new("env");
        command.arg("--default-signal=INT").arg(root.join("scripts/try"));
        command.env("DATA_DIR", data).env("MANIFESTS", manifests);
        command.envs(PORTS.iter().zip(&ports).map(|(name, port)| (name, port.to_string())));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let output = child.stdout.take().unwrap();
        let (sender, lines) = channel();
        thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut printed = String::new();
        while !printed.contains("Ctrl-C") {
            printed += &lines.recv_timeout(BUILD).expect("make try ended before it printed its commands");
            printed.push('\n');
        }
        Self { child, printed, data: data.to_owned(), ports }
    }

    fn endpoint(&self, variable: &str, security: fn(Certificate) -> Security) -> Endpoint {
        let index = PORTS.iter().position(|name| *name == variable).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[index]));
        let pem = fs::read(self.data.join("configuration/tls/tls.crt")).unwrap();
        Endpoint::new(Arc::new(address), "mx.server1.com", security(Certificate::from_pem(&pem).unwrap()))
    }

    fn fetch(&self, user: &str, password: &str) -> anyhow::Result<Vec<Vec<u8>>> {
        pop3::fetch_all(&self.endpoint("POP3S_PORT", Security::Implicit), &Login::new(user, password))
    }

    /// The printed commands: each begins a paragraph that is indented by two.
    fn commands(&self) -> Vec<String> {
        let mut commands: Vec<String> = Vec::new();
        for line in self.printed.lines().filter_map(|line| line.strip_prefix("  ")) {
            if line.starts_with("printf ") || line.starts_with("curl ") {
                commands.push(line.to_owned());
            } else if let (Some(command), true) = (commands.last_mut(), line.starts_with("  ")) {
                command.push('\n');
                command.push_str(line);
            }
        }
        commands
    }

    /// Ctrl-C.
    fn interrupt(mut self) {
        let interrupted = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(interrupted.success());
        assert!(self.child.wait().unwrap().success(), "make try did not end well");
        for port in &self.ports {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
            assert!(address.dial().is_err(), "something still listens on {address} after Ctrl-C");
        }
    }
}

/// Runs a pasted command; gives whether it succeeded, and all that it printed.
fn paste(command: &str) -> (bool, String) {
    let output = Command::new("bash").args(["-c", command]).stdin(Stdio::null()).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn printed_commands_work_manifests_are_taken_up_and_mail_stays() {
    let directory = tempfile::tempdir().unwrap();
    let (data, manifests) = (directory.path().join("data"), directory.path().join("manifests"));
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples/one-server");
    fs::create_dir(&manifests).unwrap();
    for file in fs::read_dir(examples).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), manifests.join(file.file_name())).unwrap();
    }

    let running = Try::start(&data, &manifests);
    check_printed_commands(&running);
    check_submissions_and_alias(&running);

    // A mailbox more, while it runs.
    let newcomer = "apiVersion: paquebot.dev/v1alpha1\nkind: Mailbox\nmetadata: {name: nina, namespace: mail}\n\
                    spec: {domainRef: {name: server1.com}, localPart: nina, credentials: {passwordSecretRef: {name: nina}}}\n\
                    ---\napiVersion: v1\nkind: Secret\nmetadata: {name: nina, namespace: mail}\nstringData: {password: nina-password}\n";
    fs::write(manifests.join("nina.yaml"), newcomer).unwrap();
    wait("the new mailbox", PATIENCE, || running.fetch("nina@server1.com", "nina-password")).unwrap();

    // What cannot be read takes nothing away.
    fs::write(manifests.join("broken.yaml"), "kind: [").unwrap();
    wait("the complaint", PATIENCE, || {
        let log = fs::read_to_string(data.join("log/compile.log"))?;
        anyhow::ensure!(log.contains("broken.yaml"), "{log}");
        Ok(())
    })
    .unwrap();
    running.fetch("nina@server1.com", "nina-password").unwrap();
    fs::remove_file(manifests.join("broken.yaml")).unwrap();
    running.interrupt();

    let running = Try::start(&data, &manifests);
    let kept = running.fetch("anna@server1.com", "anna-password").unwrap();
    assert_eq!(kept.len(), 1, "Anna's message did not survive the restart");
    running.interrupt();
}

fn check_printed_commands(running: &Try) {
    let commands = running.commands();
    let [send, list, anna, jack, stranger] = commands.as_slice() else { panic!("{commands:#?}") };
    let (sent, said) = paste(send);
    assert!(sent, "{send}\n{said}");
    let (listed, said) = paste(list);
    assert!(listed && said.contains("1 "), "{list}\n{said}");
    for fetch in [anna, jack] {
        let (fetched, said) = paste(fetch);
        assert!(fetched && said.contains("Hello from Tom."), "{fetch}\n{said}");
    }
    let (relayed, said) = paste(stranger);
    assert!(!relayed && said.contains("553"), "{stranger}\n{said}");
}

fn check_submissions_and_alias(running: &Try) {
    let tom = Login::new("tom@server1.com", "tom-password");
    let sent = message::with_attachments(&tom.user, &["sales@server2.com"], 200_000);
    let submissions = running.endpoint("SUBMISSIONS_PORT", Security::Implicit);
    smtp::send(&submissions, Some(&tom), &tom.user, &["sales@server2.com"], &sent).unwrap();
    let fetched = running.fetch("jack@server2.com", "jack-password").unwrap();
    assert_eq!(fetched.len(), 2);
    message::check_delivered(&fetched[1], &sent).unwrap();
}
