//! Ports of a Service on this machine, by `kubectl port-forward`: that works with every cluster. The command ends when its
//! pod does, so it is started again when a connection is wanted and it has ended.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::endpoint::Dial;
use crate::kubernetes::Cluster;

/// How long kubectl may take to find the pod and listen.
const START: Duration = Duration::from_secs(30);

/// Ports of a Service or pod.
pub struct Forward {
    cluster: Cluster,
    namespace: String,
    object: String,
    ports: Vec<u16>,
    running: Mutex<Option<Running>>,
}

struct Running {
    child: Child,
    local_ports: Vec<u16>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Forward {
    /// The ports of `object`, such as `service/mail`.
    #[must_use]
    pub fn new(cluster: &Cluster, namespace: &str, object: &str, ports: &[u16]) -> Arc<Self> {
        Arc::new(Self {
            cluster: cluster.clone(),
            namespace: namespace.to_owned(),
            object: object.to_owned(),
            ports: ports.to_owned(),
            running: Mutex::new(None),
        })
    }

    /// The same ports by a command of its own.
    #[must_use]
    pub fn another(&self) -> Arc<Self> {
        Self::new(&self.cluster, &self.namespace, &self.object, &self.ports)
    }

    /// What dials one of the ports.
    #[must_use]
    pub fn port(self: &Arc<Self>, port: u16) -> Arc<dyn Dial> {
        Arc::new(ForwardedPort { forward: Arc::clone(self), port })
    }

    /// Starts kubectl anew at the next connection: for when it is known that the pod is another one now.
    pub fn reset(&self) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The address on this machine that leads to a port.
    ///
    /// # Errors
    /// When kubectl cannot reach a pod.
    pub fn address(&self, port: u16) -> Result<SocketAddr> {
        let index = self.ports.iter().position(|known| *known == port).context("a port that is not forwarded")?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = match running.as_mut() {
            Some(running) => running.child.try_wait()?.is_none(),
            None => false,
        };
        if !alive {
            // The old one ends before the new one starts.
            *running = None;
            *running = Some(self.start()?);
        }
        let local = running.as_ref().and_then(|running| running.local_ports.get(index).copied());
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, local.context("no such port")?)))
    }

    fn start(&self) -> Result<Running> {
        let wanted: Vec<String> = self.ports.iter().map(|port| format!(":{port}")).collect();
        let mut arguments = vec!["-n", &self.namespace, "port-forward", "--address=127.0.0.1", &self.object];
        arguments.extend(wanted.iter().map(String::as_str));
        let mut command = self.cluster.kubectl_command(&arguments);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let output = child.stdout.take().context("kubectl has no standard output")?;
        let mut running = Running { child, local_ports: Vec::new() };
        let lines = lines_of(output);
        while running.local_ports.len() < self.ports.len() {
            let Ok(line) = lines.recv_timeout(START) else {
                bail!("kubectl port-forward to {} in {} found no pod", self.object, self.namespace);
            };
            if let Some(port) = line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.split_once(' ')) {
                running.local_ports.push(port.0.parse()?);
            }
        }
        Ok(running)
    }
}

/// The lines of a command's output. It is read to its end, so that the command never waits for a reader.
fn lines_of(output: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // Nobody listens any more once the ports are known.
            let _ = sender.send(line);
        }
    });
    receiver
}

struct ForwardedPort {
    forward: Arc<Forward>,
    port: u16,
}

impl Dial for ForwardedPort {
    fn dial(&self) -> Result<TcpStream> {
        self.forward.address(self.port)?.dial()
    }
}
