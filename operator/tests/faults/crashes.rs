//! A crash at every write: before it is sent, and after it is done but before the operator learns so. A new operator
//! brings the world to the state of an undisturbed run, keeps what is made once, and does not write without end.

use kube::Config;
use paquebot_crds::conditions::ConditionType as Type;
use paquebot_crds::{MailAlias, MailServer};
use serde_json::json;

use crate::dump::Dump;
use crate::operator::Operator;
use crate::plan::{Crash, Moment, Plan, Verb, mixed};
use crate::scenarios::Scenario;
use crate::stage::Stage;
use crate::support::world::eventually;

/// What an undisturbed run does.
pub struct Reference {
    pub scenario: Scenario,
    pub before: Dump,
    pub after: Dump,
    pub writes: Vec<String>,
}

/// What came of the crashes in one scenario.
#[derive(Default)]
pub struct Row {
    pub writes: usize,
    pub points: usize,
    pub reached: usize,
    pub converged: usize,
    pub failures: Vec<String>,
}

/// A world in which the scenario can begin, without an operator.
async fn prepared(config: &Config, scenario: Scenario, name: &str) -> Result<(Stage, Dump), String> {
    let mut stage = Stage::new(config, name).await;
    if scenario == Scenario::Install {
        let before = Dump::of(&stage.space).await.map_err(|error| error.to_string())?;
        return Ok((stage, before));
    }
    let operator = stage.operator(Plan::default());
    stage.install().await;
    Scenario::Install.noticed(&stage).await;
    scenario.given(&mut stage).await;
    let before = stage.rests(&[&operator]).await?;
    operator.stop().await;
    Ok((stage, before))
}

/// Runs a scenario undisturbed, and then an operator over what has come of it, which writes nothing.
pub async fn reference(config: &Config, scenario: Scenario) -> Result<Reference, String> {
    let name = format!("{scenario:?}-undisturbed").to_lowercase();
    let (mut stage, before) = prepared(config, scenario, &name).await?;
    let operator = begin(&mut stage, scenario, Plan::default(), 1).await;
    scenario.noticed(&stage).await;
    let after = stage.rests(&[&operator]).await?;
    scenario.wrong(&stage).await?;
    let writes = operator.faults.writes();
    let leaks = stage.leaks(&[(&operator.faults, operator.metrics.encode().unwrap())]).await;
    operator.stop().await;
    if !leaks.is_empty() {
        return Err(leaks.join("\n"));
    }
    second_pass(&stage, &after).await?;
    Ok(Reference { scenario, before, after, writes })
}

/// Starts an operator and lets the person act: at the beginning of everything, or when the operator knows what is there.
async fn begin(stage: &mut Stage, scenario: Scenario, plan: Plan, round: usize) -> Operator {
    if scenario == Scenario::Install {
        scenario.act(stage, round).await;
        return stage.operator(plan);
    }
    let operator = stage.operator(plan);
    stage.knows(&operator).await;
    scenario.act(stage, round).await;
    operator
}

/// A new operator over an unchanged world writes nothing. That it has looked at everything is known by an object that
/// comes last.
async fn second_pass(stage: &Stage, wanted: &Dump) -> Result<(), String> {
    let operator = stage.operator(Plan::default());
    let has_server = stage.space.get::<MailServer>("mx1").await.is_some();
    eventually("the operator has looked at everything", async || {
        let reads = operator.faults.reads();
        let passed = !has_server || reads.iter().any(|read| read == "GET poddisruptionbudgets/mx1");
        let looked = !has_server || operator.metrics.dns_looks.get() > 0;
        (operator.health.unreadiness().is_none() && passed && looked).then_some(())
    })
    .await;
    let spec = json!({ "domainRef": { "name": "nowhere" }, "localPart": "x", "targets": [{ "address": "a@b.org" }] });
    stage.space.apply::<MailAlias>("marker", json!({ "spec": spec })).await;
    stage.space.condition::<MailAlias>("marker", Type::Accepted, "False", "DomainNotFound").await;
    let written: Vec<String> =
        operator.faults.writes().into_iter().filter(|write| !write.contains("/marker")).collect();
    stage.delete::<MailAlias>("marker").await;
    let faults = operator.faults.clone();
    operator.stop().await;
    let there = Dump::of(&stage.space).await.map_err(|error| error.to_string())?;
    let differences = wanted.differences(&there);
    if written.is_empty() && differences.is_empty() {
        return Ok(());
    }
    let mut bodies = Vec::new();
    faults.each(|exchange| {
        if exchange.verb == Verb::Write && !exchange.name.contains("/marker") {
            bodies.push(String::from_utf8_lossy(&exchange.sent).into_owned());
        }
    });
    Err(format!("a second pass writes {written:?}: {bodies:?}; {}", differences.join("\n    ")))
}

/// The crash points of a scenario: all, or some that a seed chooses.
pub fn points(reference: &Reference, seed: u64, most: usize) -> Vec<Crash> {
    let moments = [Moment::BeforeSent, Moment::AfterApplied];
    let mut all: Vec<Crash> = reference
        .writes
        .iter()
        .flat_map(|write| moments.map(|moment| Crash { write: write.clone(), moment }))
        .collect();
    if all.len() > most {
        let mut number = seed;
        all.sort_by_cached_key(|_| {
            number = mixed(number);
            number
        });
        all.truncate(most);
    }
    all
}

/// Makes the crashes of one lane, one after another, in one world where the scenario can be undone.
pub async fn lane(config: &Config, reference: &Reference, points: Vec<Crash>, lane: usize) -> Row {
    let mut row = Row { points: points.len(), ..Row::default() };
    let mut world: Option<Stage> = None;
    for (round, crash) in points.into_iter().enumerate() {
        let name = format!("{:?}-{lane}-{round}", reference.scenario).to_lowercase();
        let mut stage = match world.take() {
            Some(stage) => stage,
            None => match prepared(config, reference.scenario, &name).await {
                Ok((stage, _)) => stage,
                Err(error) => {
                    row.failures.push(format!("{name}: {error}"));
                    continue;
                }
            },
        };
        match run(&mut stage, reference, &crash, round + 2).await {
            Ok(reached) => {
                row.reached += usize::from(reached);
                row.converged += 1;
                world = (reference.scenario != Scenario::Install).then_some(stage);
            }
            Err(error) => row.failures.push(format!(
                "{:?}, crash {:?} {} ({}): {error}",
                reference.scenario, crash.moment, crash.write, stage.space.name
            )),
        }
    }
    row
}

/// One crash. Says whether it happened: a write that stands for several may come less often.
async fn run(stage: &mut Stage, reference: &Reference, crash: &Crash, round: usize) -> Result<bool, String> {
    let plan = Plan { crash: Some(crash.clone()), storm: None };
    let mut operator = begin(stage, reference.scenario, plan, round).await;
    let crashed = {
        let running = [&operator];
        tokio::select! {
            () = operator.faults.crashed() => true,
            reached = stage.reaches(&reference.after, &running) => {
                reached?;
                operator.faults.disarm();
                operator.faults.has_crashed()
            }
        }
    };
    let made = stage.made_once().await;
    let mut leaks = stage.leaks(&[(&operator.faults, operator.metrics.encode().unwrap())]).await;
    if crashed {
        operator.kill();
        operator = stage.operator(Plan::default());
        stage.reaches(&reference.after, &[&operator]).await?;
        leaks.extend(stage.leaks(&[(&operator.faults, operator.metrics.encode().unwrap())]).await);
    }
    if !leaks.is_empty() {
        return Err(leaks.join("\n"));
    }
    reference.scenario.wrong(stage).await?;
    let kept = stage.made_once().await;
    for (name, data) in &made {
        if kept.iter().any(|(kept, now)| kept == name && now != data) {
            return Err(format!("Secret {name} was made anew"));
        }
    }
    let (written, undisturbed) = (operator.faults.writes().len(), reference.writes.len());
    if written > 2 * undisturbed + 20 {
        return Err(format!("{written} writes after the crash, {undisturbed} in an undisturbed run"));
    }
    if reference.scenario != Scenario::Install {
        reference.scenario.undo(stage, round).await;
        stage.reaches(&reference.before, &[&operator]).await.map_err(|error| format!("undone: {error}"))?;
    }
    operator.stop().await;
    Ok(crashed)
}
