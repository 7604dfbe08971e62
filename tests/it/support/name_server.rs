//! A name server on 127.0.0.1 that answers as the test says, over UDP and TCP on one port, and notes what it was asked.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use httptrace::dial::{
    HickoryResolver,
    hickory_resolver::{
        config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
        proto::{
            op::{Message, OpCode, ResponseCode},
            rr::{
                Name, RData, Record, RecordType,
                rdata::{A, AAAA, CNAME},
            },
        },
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
    task::JoinSet,
};

use super::{gate::Gate, within};

/// What it says to one question.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// These records; of a question for the other family, those that are not addresses.
    Records(Vec<Record>),
    /// No records and this code.
    Code(ResponseCode),
    /// Over UDP that the answer is too long for it, over TCP these records.
    Truncated(Vec<Record>),
    /// Nothing.
    Silence,
}

/// `name` has this address.
pub(crate) fn address(name: &str, addr: impl Into<IpAddr>, ttl: u32) -> Record {
    let data = match addr.into() {
        IpAddr::V4(addr) => RData::A(A(addr)),
        IpAddr::V6(addr) => RData::AAAA(AAAA(addr)),
    };
    Record::from_rdata(dotted(name), ttl, data)
}

/// `name` is an alias of `target`.
pub(crate) fn alias(name: &str, target: &str, ttl: u32) -> Record {
    Record::from_rdata(dotted(name), ttl, RData::CNAME(CNAME(dotted(target))))
}

fn dotted(name: &str) -> Name {
    Name::from_str(&format!("{name}.")).expect("a name")
}

/// A running name server.
pub(crate) struct NameServer {
    addr: SocketAddr,
    asked: watch::Sender<Vec<Question>>,
    _serving: JoinSet<()>,
}

/// Name without its last dot, type, and `udp` or `tcp`.
pub(crate) type Question = (String, RecordType, &'static str);

type Answering = Arc<dyn Fn(&str) -> Reply + Send + Sync>;

#[derive(Clone)]
struct Server {
    answer: Answering,
    gate: Option<Gate>,
    asked: watch::Sender<Vec<Question>>,
}

impl NameServer {
    /// It says to every question for a name what the function says.
    pub(crate) async fn new(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(answer, None).await
    }

    /// The same, held at this gate before each answer.
    pub(crate) async fn held(answer: impl Fn(&str) -> Reply + Send + Sync + 'static, gate: &Gate) -> Self {
        Self::start(answer, Some(gate.clone())).await
    }

    async fn start(answer: impl Fn(&str) -> Reply + Send + Sync + 'static, gate: Option<Gate>) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
            // The same one for TCP, unless that is taken.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("a bound socket")).await {
                break (udp, tcp);
            }
        };
        let (addr, asked) = (udp.local_addr().expect("a bound socket"), watch::Sender::default());
        let server = Server { answer: Arc::new(answer), gate, asked: asked.clone() };
        let mut serving = JoinSet::new();
        serving.spawn(server.clone().serve_udp(Arc::new(udp)));
        serving.spawn(server.serve_tcp(tcp));
        Self { addr, asked, _serving: serving }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// All that it was asked.
    pub(crate) fn asked(&self) -> Vec<Question> {
        self.asked.borrow().clone()
    }

    /// Returns once it was asked so often.
    pub(crate) async fn until_asked(&self, times: usize) {
        let mut asked = self.asked.subscribe();
        within("questions", asked.wait_for(|asked| asked.len() >= times)).await.expect("the sender is in self");
    }

    /// A resolver that asks this server for IPv4 addresses, over UDP unless the answer is too long.
    pub(crate) fn resolver(&self) -> HickoryResolver {
        self.resolver_with(|options| options.timeout = Duration::from_secs(20))
    }

    pub(crate) fn resolver_with(&self, change: impl FnOnce(&mut ResolverOpts)) -> HickoryResolver {
        let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        connections.iter_mut().for_each(|connection| connection.port = self.addr.port());
        let server = NameServerConfig::new(self.addr.ip(), true, connections);
        let mut options = ResolverOpts::default();
        options.ip_strategy = LookupIpStrategy::Ipv4Only;
        options.use_hosts_file = ResolveHosts::Never;
        change(&mut options);
        HickoryResolver::with_config(ResolverConfig::from_parts(None, vec![], vec![server]), options)
            .expect("a configuration")
    }
}

impl Server {
    async fn serve_udp(self, socket: Arc<UdpSocket>) {
        let mut answering = JoinSet::new();
        loop {
            let mut bytes = vec![0; 4096];
            let Ok((length, from)) = socket.recv_from(&mut bytes).await else { return };
            let (server, socket) = (self.clone(), Arc::clone(&socket));
            answering.spawn(async move {
                if let Some(reply) = server.reply(&bytes[..length], "udp").await {
                    let _ = socket.send_to(&reply, from).await;
                }
            });
        }
    }

    async fn serve_tcp(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let server = self.clone();
            connections.spawn(async move { drop(server.converse(stream).await) });
        }
    }

    /// Each message behind its length (RFC 1035 §4.2.2).
    async fn converse(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let mut bytes = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut bytes).await?;
            if let Some(reply) = self.reply(&bytes, "tcp").await {
                stream.write_u16(u16::try_from(reply.len()).expect("a short message")).await?;
                stream.write_all(&reply).await?;
            }
        }
    }

    async fn reply(&self, question: &[u8], by: &'static str) -> Option<Vec<u8>> {
        let question = Message::from_vec(question).expect("a question");
        let query = question.queries.first().expect("one question").clone();
        let name = query.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
        self.asked.send_modify(|asked| asked.push((name.clone(), query.query_type(), by)));
        if let Some(gate) = &self.gate {
            gate.wait().await;
        }
        let mut message = Message::response(question.metadata.id, OpCode::Query);
        message.metadata.recursion_available = true;
        let records = match (self.answer)(&name) {
            Reply::Records(records) => records,
            Reply::Truncated(records) if by == "tcp" => records,
            Reply::Truncated(_) => {
                message.metadata.truncation = true;
                Vec::new()
            }
            Reply::Code(code) => {
                message.metadata.response_code = code;
                Vec::new()
            }
            Reply::Silence => return None,
        };
        let fits =
            |record: &Record| record.record_type() == query.query_type() || record.record_type() == RecordType::CNAME;
        message.add_query(query.clone());
        message.add_answers(records.into_iter().filter(fits));
        Some(message.to_vec().expect("a message"))
    }
}
