//! Looks at the records of a domain where they are true: at its zone's own authoritative servers, past every cache.
//! Called by the controllers' DNS worker.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use ipnet::IpNet;

use super::authority::{Authority, Place, Several, Trouble, text_of, text_record};
use super::compare::{Answer, Seen, SeenHost};
use super::spf;
use super::wanted::{self, Exchanger, Further, LookedAt, Wanted};

/// Questions that are asked to follow an SPF record; one that needs more is over RFC 7208's limit anyway.
const MOST_SPF_QUESTIONS: usize = 32;

/// How long and whom to ask.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long one server may take for one answer.
    pub timeout: Duration,
    /// How long a whole look may take.
    pub deadline: Duration,
    /// The port of authoritative servers: 53 everywhere but in a test network.
    pub authoritative_port: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(3), deadline: Duration::from_secs(30), authoritative_port: 53 }
    }
}

/// Asks about domains.
#[derive(Clone)]
pub struct Looker {
    pub(super) authority: Authority,
    pub(super) settings: Settings,
}

impl Looker {
    /// Finds zones through these resolvers, or through those of /etc/resolv.conf where none is given.
    ///
    /// # Errors
    /// What hickory says when the system's configuration cannot be read.
    pub fn new(resolvers: &[SocketAddr], settings: Settings) -> Result<Self, NetError> {
        Ok(Self { authority: Authority::new(resolvers, settings.clone())?, settings })
    }

    /// Asks no name server in these networks: whoever owns a domain chooses its name servers' addresses, and what they answer
    /// is told in a status.
    #[must_use]
    pub fn shunning(self, networks: Arc<[IpNet]>) -> Self {
        Self { authority: self.authority.shunning(networks), ..self }
    }

    /// Looks at everything that is wanted. Never fails: what could not be learnt is [`Answer::Failed`].
    pub async fn look(&self, wanted: &Wanted) -> Seen {
        let deadline = self.settings.deadline;
        match tokio::time::timeout(deadline, self.look_patiently(wanted)).await {
            Ok(seen) => seen,
            Err(_) => unseen(wanted, &format!("no answer within {} seconds", deadline.as_secs())),
        }
    }

    async fn look_patiently(&self, wanted: &Wanted) -> Seen {
        let place = self.authority.place_of(&wanted.domain).await;
        let further = join_all(wanted.further_looked_at().map(|further| self.further(&place, further)));
        let records = async {
            if wanted.looked_at == LookedAt::Everything { Some(self.records(wanted, &place).await) } else { None }
        };
        let (further, records) = tokio::join!(further, records);
        let nameservers = match &place {
            Place::Zone(zone) => zone.nameservers(),
            Place::Nowhere | Place::Unknown(_) => Vec::new(),
        };
        let seen = records.unwrap_or_else(|| unseen(wanted, "nobody was asked"));
        Seen { nameservers, further: further.into_iter().collect(), ..seen }
    }

    /// MX, SPF and DMARC.
    async fn records(&self, wanted: &Wanted, place: &Place) -> Seen {
        let dmarc_name = wanted.dmarc_name();
        let hosts: BTreeSet<&str> = wanted.exchangers.iter().map(|mx| mx.host.as_str()).collect();
        let (exchangers, texts, dmarc, hosts) = tokio::join!(
            self.authority.ask(place, &wanted.domain, RecordType::MX, Several::Agree, exchanger_record),
            self.authority.ask(place, &wanted.domain, RecordType::TXT, Several::Agree, text_record),
            self.authority.texts(place, &dmarc_name),
            join_all(hosts.into_iter().map(|host| self.host(wanted, place, host))),
        );
        let (included, void) = match &texts {
            Answer::Found(found) => self.follow_spf(&wanted.domain, found).await,
            _ => (BTreeMap::new(), BTreeSet::new()),
        };
        let (nameservers, further) = (Vec::new(), BTreeMap::new());
        Seen { nameservers, exchangers, texts, dmarc, hosts: hosts.into_iter().collect(), included, void, further }
    }

    async fn further(&self, place: &Place, further: &Further) -> ((String, wanted::RecordType), Answer<Vec<String>>) {
        let (name, kind) = (&further.record.name, further.record.kind);
        let answer = match kind {
            wanted::RecordType::Txt => self.authority.texts(place, name).await,
            _ => self.authority.ask(place, name, hickory_type(kind), Several::Agree, |r| data_of(r, kind)).await,
        };
        ((name.clone(), kind), answer)
    }

    /// The host of an exchanger may lie in another zone, whose servers are then asked.
    async fn host(&self, wanted: &Wanted, domain_place: &Place, host: &str) -> (String, SeenHost) {
        let place = match domain_place {
            Place::Nowhere if wanted.contains(host) => Place::Nowhere,
            Place::Zone(_) | Place::Nowhere | Place::Unknown(_) => self.authority.place_of(host).await,
        };
        let (alias_of, addresses) = tokio::join!(self.authority.alias(&place, host), self.addresses_at(&place, host));
        (host.to_owned(), SeenHost { alias_of, addresses })
    }

    /// The addresses of a name.
    pub(super) async fn addresses_of(&self, host: &str) -> Answer<Vec<IpAddr>> {
        let place = self.authority.place_of(host).await;
        self.addresses_at(&place, host).await
    }

    async fn addresses_at(&self, place: &Place, host: &str) -> Answer<Vec<IpAddr>> {
        let address = |record: &Record| record.data.ip_addr();
        let (v4, v6) = tokio::join!(
            self.authority.ask(place, host, RecordType::A, Several::Add, address),
            self.authority.ask(place, host, RecordType::AAAA, Several::Add, address),
        );
        match (v4, v6) {
            (Answer::Found(mut v4), Answer::Found(v6)) => {
                v4.extend(v6);
                Answer::Found(v4)
            }
            (Answer::Found(found), _) | (_, Answer::Found(found)) => Answer::Found(found),
            (Answer::Failed(why), _) | (_, Answer::Failed(why)) => Answer::Failed(why),
            (Answer::Missing, Answer::Missing) => Answer::Missing,
        }
    }

    /// What an SPF record leads to, as receivers would find it, through caches: the records that it includes, and the
    /// questions of it that nothing is found for (RFC 7208 §4.6.4). What cannot be learnt counts as good.
    async fn follow_spf(&self, domain: &str, texts: &[String]) -> (BTreeMap<String, String>, BTreeSet<String>) {
        let (mut known, mut void) = (BTreeMap::new(), BTreeSet::new());
        let own = texts.iter().filter(|text| spf::is_spf(text));
        let mut waiting: Vec<spf::Question> = own.flat_map(|text| spf::questions(text, domain)).collect();
        waiting.reverse();
        let mut asked = BTreeSet::new();
        while let Some(question) = waiting.pop() {
            if asked.len() == MOST_SPF_QUESTIONS || !asked.insert(question.clone()) {
                continue;
            }
            let name = question.name.clone();
            let found = match question.kind {
                spf::QuestionKind::Record => self.authority.cached(&name, RecordType::TXT).await,
                spf::QuestionKind::Exchangers => self.authority.cached(&name, RecordType::MX).await,
                spf::QuestionKind::Addresses => match self.authority.cached(&name, RecordType::A).await {
                    Err(Trouble::None) => self.authority.cached(&name, RecordType::AAAA).await,
                    found => found,
                },
            };
            match found {
                Err(Trouble::None) => drop(void.insert(name)),
                Ok(records) if question.kind == spf::QuestionKind::Record => {
                    if let Some(text) = records.iter().filter_map(text_record).find(|text| spf::is_spf(text)) {
                        waiting.extend(spf::questions(&text, &name).into_iter().rev());
                        known.insert(name, text);
                    }
                }
                Ok(_) | Err(Trouble::Failed(_)) => {}
            }
        }
        (known, void)
    }
}

fn exchanger_record(record: &Record) -> Option<Exchanger> {
    match &record.data {
        RData::MX(mx) => Some(Exchanger { preference: mx.preference, host: text_of(&mx.exchange) }),
        _ => None,
    }
}

fn hickory_type(kind: wanted::RecordType) -> RecordType {
    match kind {
        wanted::RecordType::A => RecordType::A,
        wanted::RecordType::Aaaa => RecordType::AAAA,
        wanted::RecordType::Mx => RecordType::MX,
        wanted::RecordType::Txt => RecordType::TXT,
        wanted::RecordType::Tlsa => RecordType::TLSA,
        wanted::RecordType::Srv => RecordType::SRV,
        wanted::RecordType::Caa => RecordType::CAA,
    }
}

/// A record's data as zone files have it, if it is of that type.
fn data_of(record: &Record, kind: wanted::RecordType) -> Option<String> {
    (record.record_type() == hickory_type(kind)).then(|| record.data.to_string())
}

fn unseen(wanted: &Wanted, why: &str) -> Seen {
    let failed =
        |mx: &Exchanger| (mx.host.clone(), SeenHost { alias_of: None, addresses: Answer::Failed(why.to_owned()) });
    let further =
        |further: &Further| ((further.record.name.clone(), further.record.kind), Answer::Failed(why.to_owned()));
    Seen {
        nameservers: Vec::new(),
        exchangers: Answer::Failed(why.to_owned()),
        texts: Answer::Failed(why.to_owned()),
        dmarc: Answer::Failed(why.to_owned()),
        hosts: wanted.exchangers.iter().map(failed).collect(),
        included: BTreeMap::new(),
        void: BTreeSet::new(),
        further: wanted.further.iter().map(further).collect(),
    }
}

#[cfg(test)]
#[path = "seen_tests.rs"]
mod tests;
