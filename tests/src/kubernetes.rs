//! A Kubernetes cluster as a person has it: kubectl and helm, and patience.

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// How often a wait looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long most things may take: a pod that starts, a condition that turns. Generous, since machines are slow at times.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A cluster, by the kube context that `CONTEXT` names or else the current one.
#[derive(Clone, Debug)]
pub struct Cluster {
    context: Option<String>,
    registry: String,
    tag: String,
    /// The source tree, which holds the chart and the examples.
    pub root: PathBuf,
}

impl Cluster {
    /// Reads `CONTEXT`, `IMAGE_REGISTRY` and `IMAGE_TAG`, as the Makefile passes them on.
    #[must_use]
    pub fn from_environment() -> Self {
        let setting = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        Self {
            context: setting("CONTEXT"),
            registry: setting("IMAGE_REGISTRY").unwrap_or_else(|| "localhost".to_owned()),
            tag: setting("IMAGE_TAG").unwrap_or_else(|| "dev".to_owned()),
            root: here.parent().unwrap_or(here).to_owned(),
        }
    }

    /// The registry's part of the image names.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The images' tag.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// A kubectl command, not started yet.
    #[must_use]
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        if let Some(context) = &self.context {
            command.args(["--context", context]);
        }
        command.args(arguments);
        command
    }

    /// Runs kubectl and gives what it printed.
    ///
    /// # Errors
    /// When it fails; the error holds its words.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        run(self.kubectl_command(arguments), None)
    }

    /// Runs kubectl with standard input.
    ///
    /// # Errors
    /// When it fails; the error holds its words.
    pub fn kubectl_with(&self, arguments: &[&str], input: &[u8]) -> Result<String> {
        run(self.kubectl_command(arguments), Some(input))
    }

    /// Runs helm and gives what it printed.
    ///
    /// # Errors
    /// When it fails; the error holds its words.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("helm");
        if let Some(context) = &self.context {
            command.args(["--kube-context", context]);
        }
        command.args(arguments);
        run(command, None)
    }

    /// Applies a manifest of `examples/`.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn apply_example(&self, name: &str) -> Result<()> {
        let path = self.root.join("examples").join(name);
        let path = path.to_str().context("the source tree's path is not UTF-8")?;
        self.kubectl(&["apply", "-f", path]).map(drop)
    }

    /// Applies a manifest.
    ///
    /// # Errors
    /// When the API server refuses it; the error holds its words.
    pub fn apply(&self, manifest: &str) -> Result<()> {
        self.kubectl_with(&["apply", "-f", "-"], manifest.as_bytes()).map(drop)
    }

    /// One object.
    ///
    /// # Errors
    /// When it is not there.
    pub fn get(&self, namespace: &str, object: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.kubectl(&["-n", namespace, "get", object, "-o", "json"])?)?)
    }

    /// Waits until a condition of an object has this status for the object's present generation, and gives it.
    ///
    /// # Errors
    /// When it has not in time; the error says what the condition was.
    pub fn wait_condition(&self, namespace: &str, object: &str, kind: &str, status: &str) -> Result<Condition> {
        wait(&format!("{kind}={status} of {object} in {namespace}"), PATIENCE, || {
            let object = self.get(namespace, object)?;
            let condition = condition(&object, kind)?;
            let generation = object.pointer("/metadata/generation").and_then(Value::as_i64);
            ensure!(
                condition.observed_generation >= generation,
                "{condition:?} is not about generation {generation:?}"
            );
            ensure!(condition.status == status, "{condition:?}");
            Ok(condition)
        })
    }

    /// Deletes namespaces with everything in them, and waits until they are gone. The mail servers go first: Kubernetes
    /// looks at a namespace whose pods are still ending only after half their grace period again.
    ///
    /// # Errors
    /// When they do not go in time.
    pub fn delete_namespaces(&self, names: &[&str]) -> Result<()> {
        for name in names {
            self.kubectl(&["-n", name, "delete", "mailservers", "--all", "--ignore-not-found"])?;
        }
        for name in names {
            let pods = ["-n", name, "wait", "--for=delete", "pod", "-l", "app.kubernetes.io/component=server"];
            self.kubectl(&[pods.as_slice(), &["--timeout=120s"]].concat())?;
        }
        let arguments = [&["delete", "namespace", "--ignore-not-found", "--timeout=180s"], names].concat();
        self.kubectl(&arguments).map(drop)
    }
}

/// A `metav1.Condition`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// True, False or Unknown.
    pub status: String,
    /// One CamelCase word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// The generation that it is about.
    pub observed_generation: Option<i64>,
}

/// A condition of an object.
///
/// # Errors
/// When the object has none of this type.
pub fn condition(object: &Value, kind: &str) -> Result<Condition> {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array).context("no conditions yet")?;
    let found = conditions
        .iter()
        .find(|condition| condition["type"] == kind)
        .with_context(|| format!("no condition {kind} yet"))?;
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Ok(Condition {
        status: text("status"),
        reason: text("reason"),
        message: text("message"),
        observed_generation: found["observedGeneration"].as_i64(),
    })
}

/// Looks until it succeeds.
///
/// # Errors
/// When it does not in time: the last failure.
pub fn wait<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(error) if started.elapsed() >= limit => {
                return Err(error.context(format!("waited {} s for {what}", limit.as_secs())));
            }
            Err(_) => sleep(LOOK_AGAIN),
        }
    }
}

/// Runs a command and gives what it printed.
///
/// # Errors
/// When it cannot be started or fails; the error holds its words.
pub fn run(mut command: Command, input: Option<&[u8]>) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
    if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
        // A command that ends early closes the pipe; its own words say why.
        let _ = pipe.write_all(input);
    }
    let Output { status, stdout, stderr } = child.wait_with_output()?;
    if !status.success() {
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        let said = [String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)].concat();
        bail!("{name} {} failed: {}", words.join(" "), said.trim());
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}
