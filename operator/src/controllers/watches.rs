//! The watches: each its own task with its own back-off, so that one that fails leaves the others alone. What they see
//! goes to the engine as [`Input`]. Called once by [`super::run`].

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{NetworkPolicy, ServiceCIDR};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use paquebot_crds::{Kind, MailAlias, MailDomain, MailServer, Mailbox, RelayPolicy};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::health::{Health, WatchTicket};
use super::input::{Input, MailObject, Undecodable};
use crate::directory::{NamespacedName, ObjectKey};

/// Where the operator looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// In every namespace.
    Cluster,
    /// In these.
    Namespaces(Vec<String>),
}

/// What a watch reports.
enum Change<K> {
    Applied(K),
    Deleted(NamespacedName),
    /// Everything that exists has been reported.
    Complete,
}

/// Starts watches and counts them.
pub struct Watches {
    client: Client,
    scope: Scope,
    inputs: mpsc::Sender<Input>,
    health: Arc<Health>,
    tasks: tokio::task::JoinSet<()>,
    started: usize,
}

impl Watches {
    /// Nothing is watched yet.
    #[must_use]
    pub fn new(client: Client, scope: Scope, inputs: mpsc::Sender<Input>, health: Arc<Health>) -> Self {
        Self { client, scope, inputs, health, tasks: tokio::task::JoinSet::new(), started: 0 }
    }

    /// Starts all watches; the engine may act after as many [`Input::Complete`] as this returns.
    pub fn start(mut self) -> (usize, tokio::task::JoinSet<()>) {
        self.mail(Kind::MailServer, MailObject::MailServer as fn(Box<MailServer>) -> MailObject);
        self.mail(Kind::MailDomain, MailObject::MailDomain as fn(Box<MailDomain>) -> MailObject);
        self.mail(Kind::Mailbox, MailObject::Mailbox as fn(Box<Mailbox>) -> MailObject);
        self.mail(Kind::MailAlias, MailObject::MailAlias as fn(Box<MailAlias>) -> MailObject);
        self.mail(Kind::RelayPolicy, MailObject::RelayPolicy as fn(Box<RelayPolicy>) -> MailObject);
        self.namespaced("Pod", watcher::Config::default(), |change: Change<Pod>| match change {
            Change::Applied(pod) => Some(Input::Pod(Box::new(pod))),
            Change::Deleted(name) => Some(Input::PodDeleted(name)),
            Change::Complete => None,
        });
        self.namespaced("StatefulSet", owned(), |change: Change<StatefulSet>| match change {
            Change::Applied(set) => Some(Input::StatefulSet(Box::new(set))),
            Change::Deleted(name) => Some(Input::OwnedDeleted("StatefulSet", name)),
            Change::Complete => None,
        });
        self.namespaced("Service", owned(), |change: Change<Service>| match change {
            Change::Applied(service) => Some(Input::Service(Box::new(service))),
            Change::Deleted(name) => Some(Input::OwnedDeleted("Service", name)),
            Change::Complete => None,
        });
        self.owned_metadata::<ConfigMap>("ConfigMap");
        self.owned_metadata::<ServiceAccount>("ServiceAccount");
        self.owned_metadata::<PodDisruptionBudget>("PodDisruptionBudget");
        self.owned_metadata::<NetworkPolicy>("NetworkPolicy");
        self.secrets();
        self.config_maps();
        self.cluster_wide();
        (self.started, self.tasks)
    }

    fn apis<K>(&self) -> Vec<Api<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.scope {
            Scope::Cluster => vec![Api::all(self.client.clone())],
            Scope::Namespaces(names) => names.iter().map(|name| Api::namespaced(self.client.clone(), name)).collect(),
        }
    }

    /// One of our five kinds. One object that cannot be decoded is reported as such and stops nothing.
    fn mail<K>(&mut self, kind: Kind, wrap: fn(Box<K>) -> MailObject)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        for api in self.apis::<kube::core::DeserializeGuard<K>>() {
            let stream = watcher(api, watcher::Config::default());
            self.spawn(kind.as_str(), stream, move |change| match change {
                Change::Applied(kube::core::DeserializeGuard(Ok(object))) => Some(Input::Mail(wrap(Box::new(object)))),
                Change::Applied(kube::core::DeserializeGuard(Err(invalid))) => {
                    let key = ObjectKey::new(kind, name_of(&invalid.metadata));
                    let generation = invalid.metadata.generation.unwrap_or_default();
                    Some(Input::Undecodable(Undecodable { key, generation, error: invalid.error }))
                }
                Change::Deleted(name) => Some(Input::MailDeleted(ObjectKey::new(kind, name))),
                Change::Complete => None,
            });
        }
    }

    fn namespaced<K>(&mut self, name: &'static str, config: watcher::Config, map: fn(Change<K>) -> Option<Input>)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        for api in self.apis::<K>() {
            let stream = watcher(api, config.clone());
            self.spawn(name, stream, map);
        }
    }

    /// Objects of ours of which only the version matters: that somebody else has touched them.
    fn owned_metadata<K>(&mut self, name: &'static str)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        for api in self.apis::<PartialObjectMeta<K>>() {
            let stream = watcher(api, owned());
            self.spawn(name, stream, move |change: Change<PartialObjectMeta<K>>| match change {
                Change::Applied(object) => Some(Input::Owned(name, Box::new(object.metadata))),
                Change::Deleted(gone) => Some(Input::OwnedDeleted(name, gone)),
                Change::Complete => None,
            });
        }
    }

    /// All Secrets, but their metadata only: contents are read one by one where a Mailbox or MailServer names them.
    fn secrets(&mut self) {
        for api in self.apis::<PartialObjectMeta<Secret>>() {
            let stream = watcher(api, watcher::Config::default());
            self.spawn("Secret", stream, |change: Change<PartialObjectMeta<Secret>>| match change {
                Change::Applied(secret) => Some(Input::Secret(Box::new(secret.metadata))),
                Change::Deleted(name) => Some(Input::SecretDeleted(name)),
                Change::Complete => None,
            });
        }
    }

    /// All ConfigMaps, but their metadata only: contents are read one by one where a Mailbox names them.
    fn config_maps(&mut self) {
        for api in self.apis::<PartialObjectMeta<ConfigMap>>() {
            let stream = watcher(api, watcher::Config::default());
            self.spawn("filters' ConfigMap", stream, |change: Change<PartialObjectMeta<ConfigMap>>| match change {
                Change::Applied(config_map) => Some(Input::ConfigMap(Box::new(config_map.metadata))),
                Change::Deleted(name) => Some(Input::ConfigMapDeleted(name)),
                Change::Complete => None,
            });
        }
    }

    /// Namespaces for tenancy, nodes and service ranges for the relay rules. An operator that may not list them works
    /// without: no selector of namespaces matches then, and no range is known.
    fn cluster_wide(&mut self) {
        let namespaces = watcher(Api::<Namespace>::all(self.client.clone()), watcher::Config::default());
        self.spawn_optional("Namespace", namespaces, |change: Change<Namespace>| match change {
            Change::Applied(namespace) => {
                let metadata = namespace.metadata;
                Some(Input::Namespace(metadata.name.unwrap_or_default(), metadata.labels.unwrap_or_default()))
            }
            Change::Deleted(name) => Some(Input::NamespaceDeleted(name.name.clone())),
            Change::Complete => None,
        });
        let nodes = watcher(Api::<Node>::all(self.client.clone()), watcher::Config::default());
        self.spawn_optional("Node", nodes, |change: Change<Node>| match change {
            Change::Applied(node) => Some(Input::Node(Box::new(node))),
            Change::Deleted(name) => Some(Input::NodeDeleted(name.name.clone())),
            Change::Complete => None,
        });
        let ranges = watcher(Api::<ServiceCIDR>::all(self.client.clone()), watcher::Config::default());
        self.spawn_optional("ServiceCIDR", ranges, |change: Change<ServiceCIDR>| match change {
            Change::Applied(range) => Some(Input::ServiceRange(Box::new(range))),
            Change::Deleted(name) => Some(Input::ServiceRangeDeleted(name.name.clone())),
            Change::Complete => None,
        });
    }

    fn spawn<K>(
        &mut self,
        name: &'static str,
        stream: impl futures::Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
        map: impl Fn(Change<K>) -> Option<Input> + Send + 'static,
    ) where
        K: Resource + Clone + Debug + Send + 'static,
    {
        let ticket = Some(self.health.watch(name));
        self.started += 1;
        self.tasks.spawn(follow(name, stream, map, self.inputs.clone(), ticket));
    }

    /// A watch without which the operator works too: that it fails is no illness, and nobody waits for it.
    fn spawn_optional<K>(
        &mut self,
        name: &'static str,
        stream: impl futures::Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
        map: impl Fn(Change<K>) -> Option<Input> + Send + 'static,
    ) where
        K: Resource + Clone + Debug + Send + 'static,
    {
        self.started += 1;
        self.tasks.spawn(follow(name, stream, map, self.inputs.clone(), None));
    }
}

/// Whether the API server will not let the operator look, or does not know the kind: then there is nothing to wait for.
/// Any other error says nothing about what exists.
fn is_denied(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    let (InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error)) = error else { return false };
    matches!(error, kube::Error::Api(status) if matches!(status.code, 403 | 404))
}

/// After a failure, a watch that has said nothing for so long has got through, and has nothing to say: that a try failed
/// would have been told by then, after the longest distance between two tries (30 s, twice that with its jitter) and the
/// longest wait for an answer (20 s).
const GOT_THROUGH: Duration = Duration::from_secs(90);

/// Sends what a watch reports until nobody listens. Without a ticket a refusal counts as complete, see [`is_denied`].
async fn follow<K>(
    name: &'static str,
    stream: impl futures::Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
    map: impl Fn(Change<K>) -> Option<Input> + Send,
    inputs: mpsc::Sender<Input>,
    ticket: Option<WatchTicket>,
) where
    K: Resource + Clone + Debug + Send,
{
    let stream = stream.modify(|object| object.managed_fields_mut().clear()).default_backoff();
    let mut stream = std::pin::pin!(stream);
    let mut known = Known::default();
    let (mut completed, mut failing) = (false, false);
    loop {
        let longest = if failing { GOT_THROUGH } else { Duration::MAX };
        let Ok(event) = tokio::time::timeout(longest, stream.next()).await else {
            failing = false;
            ticket.iter().for_each(WatchTicket::moved);
            continue;
        };
        let Some(event) = event else { return };
        failing = event.is_err();
        let changes = match event {
            Ok(event) => {
                ticket.iter().for_each(WatchTicket::moved);
                known.follow(event)
            }
            Err(error) => {
                ticket.iter().for_each(WatchTicket::failed);
                tracing::warn!(watch = name, %error, "a watch failed; it is started again");
                if ticket.is_none() && is_denied(&error) { vec![Change::Complete] } else { Vec::new() }
            }
        };
        for change in changes {
            let input = match change {
                Change::Complete if completed => None,
                Change::Complete => {
                    completed = true;
                    Some(Input::Complete(name))
                }
                change => map(change),
            };
            if let Some(input) = input
                && inputs.send(input).await.is_err()
            {
                return;
            }
        }
    }
}

/// Our own objects.
fn owned() -> watcher::Config {
    watcher::Config::default()
        .labels("app.kubernetes.io/managed-by=paquebot-operator,app.kubernetes.io/part-of=paquebot")
}

pub(super) fn name_of(metadata: &ObjectMeta) -> NamespacedName {
    NamespacedName::new(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

/// The names that a watch has reported, so that what vanished while it was away is noticed when it lists again.
#[derive(Default)]
struct Known {
    names: HashSet<NamespacedName>,
    listed: HashSet<NamespacedName>,
}

impl Known {
    fn follow<K: Resource>(&mut self, event: watcher::Event<K>) -> Vec<Change<K>> {
        match event {
            watcher::Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            watcher::Event::InitApply(object) => {
                let name = name_of(object.meta());
                self.names.insert(name.clone());
                self.listed.insert(name);
                vec![Change::Applied(object)]
            }
            watcher::Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let gone: Vec<NamespacedName> = self.names.difference(&listed).cloned().collect();
                self.names = listed;
                gone.into_iter().map(Change::Deleted).chain([Change::Complete]).collect()
            }
            watcher::Event::Apply(object) => {
                self.names.insert(name_of(object.meta()));
                vec![Change::Applied(object)]
            }
            watcher::Event::Delete(object) => {
                let name = name_of(object.meta());
                self.names.remove(&name);
                vec![Change::Deleted(name)]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> Pod {
        Pod { metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }, ..Pod::default() }
    }

    fn text(changes: Vec<Change<Pod>>) -> Vec<String> {
        let mut text: Vec<String> = changes
            .into_iter()
            .map(|change| match change {
                Change::Applied(pod) => format!("+{}", pod.metadata.name.unwrap_or_default()),
                Change::Deleted(name) => format!("-{}", name.name),
                Change::Complete => "complete".to_owned(),
            })
            .collect();
        text.sort();
        text
    }

    #[test]
    fn only_a_refusal_says_that_nothing_is_to_be_waited_for() {
        let answer = |code: u16| {
            let status = kube::core::Status { code, ..kube::core::Status::default() };
            kube::Error::Api(Box::new(status))
        };
        for (code, denied) in [(403, true), (404, true), (401, false), (429, false), (500, false), (504, false)] {
            assert_eq!(is_denied(&watcher::Error::InitialListFailed(answer(code))), denied, "{code}");
        }
        let broken = kube::Error::Service("connection reset".into());
        assert!(!is_denied(&watcher::Error::InitialListFailed(broken)));
        assert!(!is_denied(&watcher::Error::NoResourceVersion));
    }

    #[tokio::test]
    async fn a_busy_api_server_does_not_make_an_optional_watch_complete() {
        use watcher::Event;
        let busy = kube::core::Status { code: 429, ..kube::core::Status::default() };
        let events = vec![
            Err(watcher::Error::InitialListFailed(kube::Error::Api(Box::new(busy)))),
            Ok(Event::Init),
            Ok(Event::InitApply(pod("a"))),
            Ok(Event::InitDone),
        ];
        let (sender, mut inputs) = mpsc::channel(8);
        let map = |change: Change<Pod>| match change {
            Change::Applied(pod) => Some(Input::Pod(Box::new(pod))),
            _ => None,
        };
        follow("Namespace", futures::stream::iter(events), map, sender, None).await;
        assert!(matches!(inputs.recv().await, Some(Input::Pod(_))), "what exists comes before the end of the list");
        assert!(matches!(inputs.recv().await, Some(Input::Complete("Namespace"))));
    }

    /// The library says nothing when a watch is there again, before something happens: that is no failure.
    #[tokio::test(start_paused = true)]
    async fn a_watch_that_came_back_and_has_nothing_to_say_does_not_fail() {
        use watcher::Event;
        let health = Health::default();
        let broken = || Err(watcher::Error::WatchFailed(kube::Error::Service("connection reset".into())));
        let (sender, _inputs) = mpsc::channel(8);
        let (feed, fed) = mpsc::channel(1);
        let events = futures::stream::unfold(fed, async |mut fed| Some((fed.recv().await?, fed)));
        let ticket = Some(health.watch("NetworkPolicy"));
        tokio::spawn(follow("NetworkPolicy", events, |_: Change<Pod>| None, sender, ticket));
        let send = async |event: watcher::Result<Event<Pod>>| feed.send(event).await.unwrap();
        for event in [Ok(Event::Init), Ok(Event::InitDone), broken()] {
            send(event).await;
        }
        // Each further failure begins the wait anew.
        for _ in 0..10 {
            tokio::time::sleep(GOT_THROUGH - Duration::from_secs(10)).await;
            assert_eq!(health.failing(), ["NetworkPolicy"]);
            send(broken()).await;
        }
        tokio::time::sleep(GOT_THROUGH * 2).await;
        assert_eq!(health.failing(), Vec::<&str>::new());
        send(broken()).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(health.failing(), ["NetworkPolicy"]);
        send(Ok(Event::Apply(pod("a")))).await;
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!(health.failing(), Vec::<&str>::new());
    }

    #[test]
    fn what_vanished_while_the_watch_was_away_is_reported_as_deleted() {
        use watcher::Event;
        let mut known = Known::default();
        assert_eq!(text(known.follow(Event::Init)), Vec::<String>::new());
        assert_eq!(text(known.follow(Event::InitApply(pod("a")))), ["+a"]);
        assert_eq!(text(known.follow(Event::InitApply(pod("b")))), ["+b"]);
        assert_eq!(text(known.follow(Event::<Pod>::InitDone)), ["complete"]);
        assert_eq!(text(known.follow(Event::Apply(pod("c")))), ["+c"]);
        assert_eq!(text(known.follow(Event::Delete(pod("b")))), ["-b"]);
        known.follow(Event::<Pod>::Init);
        known.follow(Event::InitApply(pod("c")));
        assert_eq!(text(known.follow(Event::<Pod>::InitDone)), ["-a", "complete"]);
        known.follow(Event::<Pod>::Init);
        assert_eq!(text(known.follow(Event::<Pod>::InitDone)), ["-c", "complete"]);
    }
}
