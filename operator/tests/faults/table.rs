//! Which runs are made, several at once, and the table of what came of them.

use std::env;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures::future::LocalBoxFuture;
use futures::{FutureExt, StreamExt};
use kube::Config;

use crate::crashes::{self, Reference, Row};
use crate::scenarios::Scenario;
use crate::special;
use crate::storms::{self, Weather};

pub struct Run {
    config: Config,
    all: bool,
    seed: u64,
    only: String,
    /// Worlds at once.
    width: usize,
}

impl Run {
    pub fn from_environment(config: Config) -> Self {
        let number =
            |name: &str, otherwise: u64| env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise);
        Self {
            config,
            all: env::var("FAULTS").is_ok_and(|value| value == "all"),
            seed: number("FAULTS_SEED", 1),
            only: env::var("FAULTS_ONLY").unwrap_or_default().to_lowercase(),
            width: usize::try_from(number("FAULTS_WIDTH", 6)).unwrap(),
        }
    }

    fn wants(&self, name: &str) -> bool {
        name.to_lowercase().contains(&self.only)
    }

    /// Makes all runs and prints the table; returns what went wrong.
    pub async fn all(self) -> Vec<String> {
        eprintln!("seed {}, {}", self.seed, if self.all { "everything" } else { "a sample (FAULTS=all: everything)" });
        let begin = Instant::now();
        let mut failures = Vec::new();
        let references = self.references(&mut failures).await;
        if !failures.is_empty() {
            return failures;
        }
        let (crashes, mut others) = tokio::join!(self.crashes(&references), self.others(&references));
        // The last one, since it changes the definition that all share.
        let odd = "one mailbox cannot be understood";
        if self.wants(odd) {
            others.push((odd.to_owned(), caught(special::undecodable(&self.config)).await.flatten()));
        }
        print_crashes(&crashes);
        print_others(&others);
        eprintln!("all of it took {} s", begin.elapsed().as_secs());
        failures.extend(crashes.into_iter().flat_map(|(_, row)| row.failures));
        failures.extend(others.into_iter().filter_map(|(name, came)| Some(format!("{name}: {}", came.err()?))));
        failures
    }

    async fn references(&self, failures: &mut Vec<String>) -> Vec<Arc<Reference>> {
        let runs = Scenario::ALL.into_iter().map(async |scenario| {
            let reference = caught(crashes::reference(&self.config, scenario)).await;
            reference.flatten().map_err(|error| format!("{scenario:?}, undisturbed: {error}"))
        });
        let mut references = Vec::new();
        for ended in futures::future::join_all(runs).await {
            match ended {
                Ok(reference) => references.push(Arc::new(reference)),
                Err(error) => failures.push(error),
            }
        }
        references.sort_by_key(|reference| Scenario::ALL.iter().position(|scenario| *scenario == reference.scenario));
        references
    }

    async fn crashes(&self, references: &[Arc<Reference>]) -> Vec<(Scenario, Row)> {
        let mut lanes = Vec::new();
        for reference in references.iter().filter(|reference| self.wants(&format!("{:?}", reference.scenario))) {
            let most = match (self.all, reference.scenario) {
                (true, _) => usize::MAX,
                (false, Scenario::Install) => 8,
                // The newer ones; all of them are made with FAULTS=all.
                (
                    false,
                    Scenario::RecordsPublished
                    | Scenario::RecordsTakenBack
                    | Scenario::MailErased
                    | Scenario::SmartHostLogin,
                ) => 2,
                (false, _) => 4,
            };
            let points = crashes::points(reference, self.seed, most);
            let of_lane = points.len().div_ceil(if self.all { 4 } else { 2 }).max(1);
            for (lane, points) in points.chunks(of_lane).enumerate() {
                let (config, reference, points) = (self.config.clone(), Arc::clone(reference), points.to_vec());
                lanes.push(async move {
                    let (scenario, number) = (reference.scenario, points.len());
                    let begin = Instant::now();
                    let work = crashes::lane(&config, &reference, points, lane).boxed_local();
                    let row = caught(work).await.unwrap_or_else(|error| Row {
                        points: number,
                        failures: vec![format!("{scenario:?}, lane {lane}: {error}")],
                        ..Row::default()
                    });
                    let seconds = begin.elapsed().as_secs();
                    eprintln!("{scenario:?}, lane {lane}: {} of {number} converged in {seconds} s", row.converged);
                    for failure in &row.failures {
                        eprintln!("  {failure}");
                    }
                    (scenario, row)
                });
            }
        }
        let rows: Vec<(Scenario, Row)> = futures::stream::iter(lanes).buffer_unordered(self.width).collect().await;
        references.iter().map(|reference| (reference.scenario, sum(reference, &rows))).collect()
    }
}

/// What came of a run that is no crash.
type Came = (String, Result<String, String>);

impl Run {
    /// Storms, and what has a story of its own.
    async fn others(&self, references: &[Arc<Reference>]) -> Vec<Came> {
        let of = |scenario: Scenario| references.iter().find(|reference| reference.scenario == scenario);
        let (Some(installed), Some(changed), Some(added)) =
            (of(Scenario::Install), of(Scenario::PasswordChanged), of(Scenario::MailboxAdded))
        else {
            return Vec::new();
        };
        let mut runs: Vec<(String, LocalBoxFuture<'_, Result<String, String>>)> = Vec::new();
        let outage = special::outage(&self.config, added).boxed_local();
        runs.push(("the API server is away for 35 s".to_owned(), outage));
        let statuses = special::unwritten_statuses(&self.config).boxed_local();
        runs.push(("the API server goes while 1,500 statuses are to be written".to_owned(), statuses));
        let liveness = special::liveness(&self.config).boxed_local();
        runs.push(("watches fail for longer than a process may".to_owned(), liveness));
        let leaders = special::two_leaders(&self.config, installed, changed).boxed_local();
        runs.push(("two operators lead".to_owned(), leaders));
        for (number, weather) in Weather::all(self.seed, if self.all { 12 } else { 2 }).into_iter().enumerate() {
            let name = format!("storm: {}", weather.name);
            let storm = async move {
                let befallen = storms::run(&self.config, installed, changed, &weather, number).await?;
                let total: usize = befallen.values().sum();
                Ok(format!("{total} requests went wrong"))
            };
            runs.push((name, storm.boxed_local()));
        }
        let runs = runs.into_iter().filter(|(name, _)| self.wants(name)).map(async |(name, run)| {
            let came = caught(run).await.flatten();
            eprintln!("{name}: {came:?}");
            (name, came)
        });
        futures::stream::iter(runs).buffer_unordered(self.width.div_ceil(2)).collect().await
    }
}

/// A panic of one run ends no other.
async fn caught<T>(run: impl Future<Output = T>) -> Result<T, String> {
    let caught = AssertUnwindSafe(run).catch_unwind().await;
    caught.map_err(|panic| match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(_) => "it panicked, see above".to_owned(),
    })
}

fn sum(reference: &Reference, rows: &[(Scenario, Row)]) -> Row {
    let mut sum = Row { writes: reference.writes.len(), ..Row::default() };
    for (_, row) in rows.iter().filter(|(scenario, _)| *scenario == reference.scenario) {
        sum.points += row.points;
        sum.reached += row.reached;
        sum.converged += row.converged;
        sum.failures.extend(row.failures.iter().cloned());
    }
    sum
}

fn print_crashes(rows: &[(Scenario, Row)]) {
    eprintln!("\n| Scenario | Writes | Crash points | Crashed | Converged |\n|---|---|---|---|---|");
    for (scenario, row) in rows.iter().filter(|(_, row)| row.points > 0) {
        let (writes, points, reached, converged) = (row.writes, row.points, row.reached, row.converged);
        eprintln!("| {} | {writes} | {points} | {reached} | {converged} |", scenario.sentence());
    }
}

fn print_others(others: &[Came]) {
    eprintln!("\n| What goes wrong | Seen | Converged |\n|---|---|---|");
    for (name, came) in others {
        let (seen, converged) = match came {
            Ok(seen) => (seen.as_str(), "yes"),
            Err(_) => ("", "no"),
        };
        eprintln!("| {name} | {seen} | {converged} |");
    }
    eprintln!();
}
