//! Volumes that grow. The template of a StatefulSet's claims cannot be changed, and recreating the StatefulSet around its
//! pods would leave nobody in charge of them while the operator is away in between. So the template stays as it was made,
//! and the claims themselves are enlarged: the one place where the size matters for a volume that is there.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use paquebot_crds::Quantity;

use super::Server;
use super::stateful_set::{DATA_VOLUME, embedded_storage};

/// The claims of a server's pods, and the size that they are to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volumes {
    /// Their names, in the server's namespace.
    pub claims: Vec<String>,
    /// What the MailServer asks for.
    pub size: Quantity,
}

/// What is to be done about one claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It is as wanted.
    Nothing,
    /// It asks for less than is wanted.
    Grow,
    /// It has more than is wanted; the sentence says what to do.
    Refuse(String),
    /// It is too small, and cannot be enlarged before it has a volume.
    Wait(String),
}

/// The claims of a server, those of stopped pods among them.
#[must_use]
pub fn wanted(server: &Server) -> Volumes {
    let name = &server.name.name;
    let count = server.spec.replicas.max(1);
    Volumes {
        claims: (0..count).map(|ordinal| format!("{DATA_VOLUME}-{name}-{ordinal}")).collect(),
        size: embedded_storage(server).size,
    }
}

/// Leaves in a rendered StatefulSet the templates of claims as the one that is there has them.
pub fn keep_templates(rendered: &mut StatefulSet, live: &StatefulSet) {
    let (Some(spec), Some(live)) = (rendered.spec.as_mut(), live.spec.as_ref()) else { return };
    let lives = live.volume_claim_templates.as_deref().unwrap_or_default();
    for template in spec.volume_claim_templates.iter_mut().flatten() {
        let name = &template.metadata.name;
        let Some(live) = lives.iter().find(|live| live.metadata.name == *name) else { continue };
        // The same size may be written in two ways.
        if requested(template).map(|size| size.bytes()) == requested(live).map(|size| size.bytes()) {
            continue;
        }
        if let (Some(spec), Some(live)) = (template.spec.as_mut(), live.spec.as_ref()) {
            spec.resources.clone_from(&live.resources);
        }
    }
}

/// What is to be done about a claim.
#[must_use]
pub fn step(claim: &PersistentVolumeClaim, wanted: &Quantity) -> Step {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let Some(present) = requested(claim) else { return Step::Nothing };
    if present.bytes() == wanted.bytes() {
        return Step::Nothing;
    }
    if present.bytes() > wanted.bytes() {
        return Step::Refuse(format!(
            "spec.storage.embedded.size is {wanted}, but PersistentVolumeClaim {name} has {present} already and a volume \
             cannot shrink: set it to {present}, or to more"
        ));
    }
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase == Some("Bound") {
        Step::Grow
    } else {
        Step::Wait(format!("PersistentVolumeClaim {name} has no volume yet, so that it cannot be enlarged to {wanted}"))
    }
}

fn requested(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let Amount(text) = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage")?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claim(size: &str, phase: &str) -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": {"name": "data-default-0"},
            "spec": {"resources": {"requests": {"storage": size}}},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[test]
    fn a_volume_grows_and_never_shrinks() {
        let step = |size: &str, phase: &str| step(&claim(size, phase), &"20Gi".parse().unwrap());
        assert_eq!(step("20Gi", "Bound"), Step::Nothing);
        assert_eq!(step("20480Mi", "Bound"), Step::Nothing, "the same in other words");
        assert_eq!(step("10Gi", "Bound"), Step::Grow);
        assert!(matches!(step("10Gi", "Pending"), Step::Wait(why) if why.contains("data-default-0")));
        let Step::Refuse(why) = step("40Gi", "Bound") else { panic!("it shrinks") };
        assert!(why.contains("20Gi") && why.contains("set it to 40Gi"), "{why}");
    }

    #[test]
    fn templates_stay_as_they_were_made() {
        let set = |size: &str| -> StatefulSet {
            let template =
                json!({"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": size}}}});
            serde_json::from_value(json!({"metadata": {}, "spec": {"serviceName": "a", "selector": {},
                "template": {}, "volumeClaimTemplates": [template]}}))
            .unwrap()
        };
        for (rendered, live, kept) in [("40Gi", "20Gi", "20Gi"), ("20480Mi", "20Gi", "20480Mi"), ("1Gi", "2Gi", "2Gi")]
        {
            let mut rendered = set(rendered);
            keep_templates(&mut rendered, &set(live));
            assert_eq!(rendered, set(kept));
        }
    }
}
