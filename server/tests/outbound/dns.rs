//! A name server on loopback that says what a test wants.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, MX};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

#[derive(Default)]
struct Zone {
    records: HashMap<String, Vec<RData>>,
    failing: HashSet<String>,
}

/// See the module. It ends with the test's runtime.
pub struct Dns {
    pub address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

fn name(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).unwrap()
}

impl Dns {
    pub async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone = Arc::<Mutex<Zone>>::default();
        let answers = Arc::clone(&zone);
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((size, client)) = socket.recv_from(&mut buffer).await {
                let Ok(query) = Message::from_vec(&buffer[..size]) else { continue };
                let response = answer(&answers.lock().unwrap(), &query);
                let _ = socket.send_to(&response.to_vec().unwrap(), client).await;
            }
        });
        Self { address, zone }
    }

    fn add(&self, owner: &str, data: RData) {
        self.zone.lock().unwrap().records.entry(owner.to_owned()).or_default().push(data);
    }

    pub fn mx(&self, owner: &str, preference: u16, host: &str) {
        let exchange = if host.is_empty() { Name::root() } else { name(host) };
        self.add(owner, RData::MX(MX::new(preference, exchange)));
    }

    pub fn a(&self, owner: &str, address: [u8; 4]) {
        self.add(owner, RData::A(A(Ipv4Addr::from(address))));
    }

    pub fn aaaa(&self, owner: &str, address: Ipv6Addr) {
        self.add(owner, RData::AAAA(AAAA(address)));
    }

    pub fn cname(&self, owner: &str, target: &str) {
        self.add(owner, RData::CNAME(CNAME(name(target))));
    }

    /// The name is answered with SERVFAIL.
    pub fn fail(&self, owner: &str) {
        self.zone.lock().unwrap().failing.insert(owner.to_owned());
    }
}

fn answer(zone: &Zone, query: &Message) -> Message {
    let mut response = Message::response(query.metadata.id, OpCode::Query);
    response.metadata.recursion_desired = true;
    response.metadata.recursion_available = true;
    let Some(question) = query.queries.first() else { return response };
    response.add_query(question.clone());
    let mut owner = question.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
    if zone.failing.contains(&owner) {
        response.metadata.response_code = ResponseCode::ServFail;
        return response;
    }
    loop {
        let Some(records) = zone.records.get(&owner) else {
            response.metadata.response_code = ResponseCode::NXDomain;
            return response;
        };
        let wanted = |data: &&RData| data.record_type() == question.query_type();
        for data in records.iter().filter(wanted) {
            response.add_answer(Record::from_rdata(name(&owner), 60, data.clone()));
        }
        let alias = records.iter().find(|data| data.record_type() == RecordType::CNAME);
        let Some(RData::CNAME(CNAME(target))) = alias else { return response };
        response.add_answer(Record::from_rdata(name(&owner), 60, RData::CNAME(CNAME(target.clone()))));
        owner = target.to_ascii().trim_end_matches('.').to_owned();
    }
}
