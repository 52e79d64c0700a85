//! Storms: an installation and then a change, while a share of all requests goes wrong in one way or in all of them. When
//! the storm has spent itself, or through it, the world becomes what it is in an undisturbed run.

use std::collections::BTreeMap;

use kube::Config;

use crate::crashes::Reference;
use crate::plan::{Fault, Plan, Storm};
use crate::scenarios::Scenario;
use crate::stage::Stage;

/// One storm.
#[derive(Clone)]
pub struct Weather {
    pub name: String,
    pub seed: u64,
    pub faults: Vec<Fault>,
}

impl Weather {
    /// One storm of each kind, and mixed ones.
    pub fn all(seed: u64, mixed: u64) -> Vec<Self> {
        let one = |fault: Fault| Self { name: format!("{fault:?}"), seed, faults: vec![fault] };
        let all = |number: u64| Self {
            name: format!("all of them, seed {}", seed + number),
            seed: seed + number,
            faults: Fault::ALL.into_iter().filter(|fault| *fault != Fault::Silence).collect(),
        };
        Fault::ALL.into_iter().map(one).chain((0..mixed).map(all)).collect()
    }

    fn storm(&self) -> Storm {
        let watches = self
            .faults
            .iter()
            .all(|fault| matches!(fault, Fault::WatchDropped | Fault::WatchDelayed | Fault::WatchExpired));
        let (per_cent, most) = match () {
            // There are few of them, and each is begun again.
            () if watches => (60, 60),
            // Each silence lasts until a deadline.
            () if self.faults.contains(&Fault::Silence) => (6, 4),
            () => (15, 40),
        };
        Storm::new(self.seed, &self.faults, per_cent, most)
    }
}

/// Makes one; says what befell how often.
pub async fn run(
    config: &Config,
    installed: &Reference,
    changed: &Reference,
    weather: &Weather,
    number: usize,
) -> Result<BTreeMap<Fault, usize>, String> {
    let mut stage = Stage::new(config, &format!("storm-{number}")).await;
    let operator = stage.operator(Plan { crash: None, storm: Some(weather.storm()) });
    stage.install().await;
    stage.reaches(&installed.after, &[&operator]).await?;
    let made = stage.made_once().await;
    Scenario::PasswordChanged.act(&mut stage, 1).await;
    stage.reaches(&changed.after, &[&operator]).await.map_err(|error| format!("after the change: {error}"))?;
    if stage.made_once().await != made {
        return Err("a Secret that is made once was made anew".to_owned());
    }
    let leaks = stage.leaks(&[(&operator.faults, operator.metrics.encode().unwrap())]).await;
    if !leaks.is_empty() {
        return Err(leaks.join("\n"));
    }
    let befallen = operator.faults.befallen();
    operator.stop().await;
    Ok(befallen)
}
