//! Asks one DNS server and reads its answers.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hickory_resolver::net::tcp::TcpClientStream;
use hickory_resolver::net::udp::UdpClientStream;
use hickory_resolver::net::xfer::{DnsHandle as _, DnsRequestSender as _, FirstAnswer as _};
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::routes::SendError;
use super::sockets::Sockets;
use crate::config::DnsServer;

/// The longest chain of aliases (CNAME) that is followed.
const MAX_ALIASES: usize = 8;
/// The longest time that "no such name" is kept: a new name is to work soon.
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(5);
/// How long "no such name" is kept when the answer has no SOA (RFC 2308 §5).
const NEGATIVE_TTL: Duration = Duration::from_secs(1);

pub(super) struct Server {
    pub(super) written: Arc<DnsServer>,
    sockets: Sockets,
    /// How long a question may take.
    limit: Duration,
    /// The server has rejected EDNS (RFC 6891 §7).
    refuses_edns: AtomicBool,
}

/// The addresses of one family that a name has.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ttl: Duration,
}

/// Why one server, or all of them, gave no address. `U`: why no packet could be sent.
#[derive(Clone, Debug)]
pub(super) enum QueryError<U> {
    /// There is none; how long that is valid.
    No(String, Duration),
    /// An error code, or a malformed answer.
    Failure(String),
    Unreachable(U),
    /// For all servers together: why no packet could be sent to some.
    Silence(Option<U>),
}

impl Server {
    pub(super) fn new(written: DnsServer, limit: Duration) -> Self {
        let written = Arc::new(written);
        let sockets = Sockets::to(Arc::clone(&written));
        Self { written, sockets, limit, refuses_edns: AtomicBool::new(false) }
    }

    /// The addresses of `name`, at least one. Follows aliases that the server did not follow.
    pub(super) async fn addresses(
        &self,
        name: &Name,
        family: RecordType,
    ) -> Result<Records, QueryError<SendError>> {
        let (mut name, mut ttl) = (name.clone(), u32::MAX);
        let mut aliases = 0;
        loop {
            let response = self.ask(&name, family).await.map_err(|error| self.unanswered(error))?;
            let asked = name.clone();
            while let Some((target, alias_ttl)) = alias(&response, &name) {
                aliases += 1;
                if aliases > MAX_ALIASES {
                    let server = &self.written;
                    let text = format!("{server} leads from alias to alias, more than {MAX_ALIASES} times");
                    return Err(QueryError::Failure(text));
                }
                (name, ttl) = (target, ttl.min(alias_ttl));
            }
            let own = response.answers.iter().filter(|record| record.name == name);
            let found = own.filter_map(|record| Some((address(&record.data)?, record.ttl)));
            let (addresses, ttls): (Vec<_>, Vec<_>) = found.unzip();
            if let Some(least) = ttls.into_iter().min() {
                let ttl = Duration::from_secs(ttl.min(least).into());
                return Ok(Records { addresses, ttl });
            }
            // With an SOA the answer is complete: the alias has no address (RFC 2308 §2).
            let negative_ttl = response.negative_ttl();
            if name == asked || negative_ttl.is_some() {
                return Err(negative_answer(response.response_code, negative_ttl));
            }
        }
    }

    /// Whether it answers at all; an error code is an answer.
    pub(super) async fn answers(&self) -> bool {
        let asked = self.ask(&Name::root(), RecordType::NS).await;
        asked.map_err(|error| self.unanswered(error)).map_or_else(|error| error.is_answer(), |_| true)
    }

    async fn ask(&self, name: &Name, kind: RecordType) -> Result<DnsResponse, NetError> {
        let query = Query::query(name.clone(), kind);
        if self.refuses_edns.load(Ordering::Relaxed) {
            return self.exchange(query, false).await;
        }
        let answer = self.exchange(query.clone(), true).await;
        if !answer.as_ref().is_err_and(may_refuse_edns) {
            return answer;
        }
        let plain = self.exchange(query, false).await;
        if !plain.as_ref().is_err_and(may_refuse_edns) {
            self.refuses_edns.store(true, Ordering::Relaxed);
        }
        plain
    }

    async fn exchange(&self, query: Query, use_edns: bool) -> Result<DnsResponse, NetError> {
        let mut options = DnsRequestOptions::default();
        options.use_edns = use_edns;
        let request = DnsRequest::from_query(query, options);
        let udp = UdpClientStream::builder(self.written.address, self.sockets.clone());
        let mut udp = udp.with_timeout(Some(self.limit)).build();
        let mut response = udp.send_message(request.clone()).first_answer().await?;
        if response.truncation {
            response = self.exchange_over_tcp(request).await.map_err(|error| match error {
                NetError::Timeout => NetError::Timeout,
                _ => NetError::Truncated,
            })?;
        }
        let response = DnsError::from_response(response)?;
        match response.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => Ok(response),
            // Those that the library does not know.
            code => Err(DnsError::ResponseCode(code).into()),
        }
    }

    async fn exchange_over_tcp(&self, request: DnsRequest) -> Result<DnsResponse, NetError> {
        let (address, sockets) = (self.written.address, self.sockets.clone());
        let connection = TcpClientStream::exchange(address, None, self.limit, None, sockets).await?;
        connection.send(request).first_answer().await
    }

    fn unanswered(&self, error: NetError) -> QueryError<SendError> {
        let server = &self.written;
        match error {
            NetError::Timeout => QueryError::Silence(None),
            NetError::Dns(DnsError::NoRecordsFound(found)) => self.no_records(&found),
            NetError::Dns(DnsError::ResponseCode(code)) => {
                QueryError::Failure(format!("{server} says {code}"))
            }
            NetError::Io(error) => QueryError::Unreachable(SendError::new(server, &error)),
            NetError::Truncated => QueryError::Failure(format!(
                "the answer of {server} is too long for UDP, and TCP to it fails: is that open from here?"
            )),
            error => QueryError::Failure(format!("{server}: {error}")),
        }
    }

    fn no_records(&self, found: &NoRecords) -> QueryError<SendError> {
        if found.soa.is_none() && found.ns.is_some() {
            let server = &self.written;
            return QueryError::Failure(format!("{server} only refers to other servers: it is no resolver"));
        }
        negative_answer(found.response_code, found.negative_ttl)
    }
}

impl Records {
    pub(super) fn has_ipv4(&self) -> bool {
        self.addresses.iter().any(IpAddr::is_ipv4)
    }
}

impl<U> QueryError<U> {
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Self::No(..) | Self::Failure(_))
    }
}

/// `ttl`: in seconds, from the SOA.
fn negative_answer(code: ResponseCode, ttl: Option<u32>) -> QueryError<SendError> {
    let why = match code {
        ResponseCode::NoError => "the name has no address".into(),
        code => format!("the DNS says {code}"),
    };
    let ttl = ttl.map_or(NEGATIVE_TTL, |ttl| Duration::from_secs(ttl.into()));
    QueryError::No(why, ttl.min(MAX_NEGATIVE_TTL))
}

/// The name that `name` is an alias of.
fn alias(response: &DnsResponse, name: &Name) -> Option<(Name, u32)> {
    response.answers.iter().filter(|record| record.name == *name).find_map(|record| match &record.data {
        RData::CNAME(target) => Some((target.0.clone(), record.ttl)),
        _ => None,
    })
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    }
}

/// The error codes of servers without EDNS (RFC 6891 §7).
fn may_refuse_edns(error: &NetError) -> bool {
    use ResponseCode::{BADVERS, FormErr, NotImp};
    matches!(error, NetError::Dns(DnsError::ResponseCode(FormErr | NotImp | BADVERS)))
}
