//! A real server process for black-box tests: started on ports that the system chooses, from a configuration that the
//! test writes through the contract crate, and stopped or killed by the test. Everything lies in temporary directories.

#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

pub mod client;
pub mod content;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use paquebot_config::{Bundle, Content};
use tempfile::TempDir;

/// How long anything may take before a test fails. Generous: machines are slow and busy.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The program under test; `PAQUEBOT_SERVER` names another build of it, such as an image's.
pub fn binary() -> String {
    let named = std::env::var("PAQUEBOT_SERVER").ok();
    named.or_else(|| option_env!("CARGO_BIN_EXE_paquebot-server").map(str::to_owned)).unwrap_or_else(built)
}

/// Another package's tests use this module too; Cargo does not build our program for those.
fn built() -> String {
    static BUILT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let build = || {
        // As scripts/try builds it, so that one build serves both.
        let packages = ["--package", "paquebot-operator", "--package", "paquebot-server"];
        let binaries = ["--bin", "kubectl-paquebot", "--bin", "paquebot-server"];
        let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
        let built = cargo.args(["build", "--quiet", "--locked"]).args(packages).args(binaries).status().unwrap();
        assert!(built.success(), "paquebot-server does not build");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        text(&target.join("debug/paquebot-server")).to_owned()
    };
    BUILT.get_or_init(build).clone()
}

/// Waits until `condition` gives something.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The directories of a server, which outlive its processes.
pub struct Home {
    pub directory: TempDir,
    pub content: Content,
}

impl Home {
    /// A configuration and a certificate for it, not yet served.
    pub fn new(content: Content) -> Self {
        let home = Self::empty(content);
        home.write_certificate(&content::certificate(&["mail.server1.com", "localhost"]));
        home.write_configuration();
        home
    }

    /// Directories without anything in them.
    pub fn empty(content: Content) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("config")).unwrap();
        std::fs::create_dir(directory.path().join("data")).unwrap();
        Self { directory, content }
    }

    pub fn config_dir(&self) -> PathBuf {
        self.directory.path().join("config")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The certificate in PEM, for clients that want to check it.
    pub fn certificate_file(&self) -> PathBuf {
        self.config_dir().join("tls/tls.crt")
    }

    pub fn write_certificate(&self, (certificate, key): &(String, String)) {
        let directory = self.config_dir().join("tls");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("tls.crt"), certificate).unwrap();
        std::fs::write(directory.join("tls.key"), key).unwrap();
    }

    /// Writes the configuration; yields its revision.
    pub fn write_configuration(&self) -> String {
        let bundle = Bundle::build(self.content.clone()).unwrap();
        paquebot_config::directory::write(&bundle, &self.config_dir()).unwrap();
        bundle.revision().to_string()
    }
}

/// A running server.
pub struct Server {
    pub home: Home,
    child: Child,
    log: PathBuf,
    ports: BTreeMap<String, SocketAddr>,
}

impl Server {
    /// Starts a server and waits until it is ready.
    pub fn start(content: Content) -> Self {
        Self::start_in(Home::new(content))
    }

    /// Starts a server in directories that are there, and waits until it is ready.
    pub fn start_in(home: Home) -> Self {
        let mut server = Self::spawn(home);
        server.wait_until_ready();
        server
    }

    /// Starts a server and waits until its admin HTTP is open.
    pub fn spawn(home: Home) -> Self {
        Self::spawn_with(home, Command::new(binary()))
    }

    /// Like [`Server::spawn`], for a process that may have so many file descriptors.
    pub fn spawn_limited(home: Home, descriptors: u32) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\""), &binary()]);
        Self::spawn_with(home, command)
    }

    /// Like [`Server::spawn`], with the data directory of somebody else.
    pub fn spawn_on(home: Home, data: &Path) -> Self {
        Self::spawn_in(home, data, Command::new(binary()))
    }

    fn spawn_with(home: Home, command: Command) -> Self {
        let data = home.data_dir();
        Self::spawn_in(home, &data, command)
    }

    fn spawn_in(home: Home, data: &Path, command: Command) -> Self {
        let log = home.directory.path().join("log");
        let config = home.config_dir();
        let arguments = ["--config-dir", text(&config), "--data-dir", text(data), "--admin-port", "0"];
        let child = spawn_command(command, &arguments, &log);
        let mut server = Self { home, child, log, ports: BTreeMap::new() };
        server.wait_for_port("admin");
        server
    }

    /// Waits for 200 on /readyz, and learns the ports.
    pub fn wait_until_ready(&mut self) {
        let admin = self.address("admin");
        wait_for("readiness", || {
            assert!(self.child.try_wait().unwrap().is_none(), "the server ended:\n{}", self.log());
            (http_get(admin, "/readyz")?.0 == 200).then_some(())
        });
        let names: Vec<String> =
            self.home.content.server.listeners.iter().map(|listener| listener.name.clone()).collect();
        for name in names {
            self.wait_for_port(&name);
        }
    }

    fn wait_for_port(&mut self, name: &str) {
        let address = wait_for(&format!("the port of {name}"), || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended with {status}:\n{}", self.log());
            }
            self.log_lines().into_iter().find_map(|line| logged_port(&line, name))
        });
        self.ports.insert(name.to_owned(), address);
    }

    /// Where a listener, or `admin`, can be reached.
    pub fn address(&self, name: &str) -> SocketAddr {
        self.ports[name]
    }

    /// What was logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn log_lines(&self) -> Vec<serde_json::Value> {
        // The last line may be half written.
        self.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Status and body of an admin page.
    pub fn get(&self, path: &str) -> (u16, String) {
        wait_for(path, || http_get(self.address("admin"), path))
    }

    /// Status and JSON of a request to the admin HTTP, with a token where there is one.
    pub fn ask_admin(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> (u16, serde_json::Value) {
        let mut stream = TcpStream::connect(self.address("admin")).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{token}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split_whitespace().nth(1).unwrap().parse().unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        (status, serde_json::from_str(body).unwrap_or(serde_json::Value::Null))
    }

    /// What /configz says.
    pub fn configz(&self) -> serde_json::Value {
        serde_json::from_str(&self.get("/configz").1).unwrap()
    }

    /// Changes the configuration and waits until it is in force.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut Content)) {
        change(&mut self.home.content);
        let revision = self.home.write_configuration();
        wait_for("the new revision", || (self.configz()["revision"] == revision).then_some(()));
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// The largest resident memory so far, in KiB.
    pub fn peak_resident_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    fn status_kib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Lets the largest resident memory begin anew from what is resident now.
    pub fn reset_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }

    /// Sends a signal, `TERM` or `KILL`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the end of the server", || self.child.try_wait().unwrap())
    }

    /// Ends the process as Kubernetes does; yields its directories for another one.
    pub fn stop(mut self) -> Home {
        self.signal("TERM");
        let status = self.wait();
        assert!(status.success(), "{status}:\n{}", self.log());
        self.take_home()
    }

    /// Ends the process as a power cut does, if it has not ended; yields its directories for another one.
    pub fn kill(mut self) -> Home {
        if self.child.try_wait().unwrap().is_none() {
            self.signal("KILL");
            self.wait();
        }
        self.take_home()
    }

    fn take_home(&mut self) -> Home {
        let content = self.home.content.clone();
        std::mem::replace(&mut self.home, Home::empty(content))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- log of the server\n{}", self.log());
        }
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `paquebot-server serve` on loopback with its log in a file.
pub fn spawn(arguments: &[&str], log: &Path) -> Child {
    spawn_command(Command::new(binary()), arguments, log)
}

fn spawn_command(mut command: Command, arguments: &[&str], log: &Path) -> Child {
    let log = std::fs::File::create(log).unwrap();
    command
        .args(["serve", "--bind", "127.0.0.1"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn logged_port(line: &serde_json::Value, name: &str) -> Option<SocketAddr> {
    let is_it = match name {
        "admin" => line["message"] == "admin HTTP is open",
        name => line["message"] == "listening" && line["listener"] == name,
    };
    if is_it { line["address"].as_str()?.parse().ok() } else { None }
}

/// A plain HTTP/1.1 GET: status and body; `None` where nobody answers.
pub fn http_get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split_whitespace().nth(1)?.parse().ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    Some((status, body.to_owned()))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
