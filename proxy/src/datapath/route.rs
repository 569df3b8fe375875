//! From a head to where it goes, in one synchronous call: nothing borrowed from the buffer outlives
//! it.

use super::client::Client;
use super::context::Context;
use super::observed::Observed;
use crate::http::Version;
use crate::http::answer::Failure;
use crate::http::encode::{self, Added};
use crate::http::fields::via_names;
use crate::http::framing::Framing;
use crate::http::head::{HeadError, RequestHead, slots};
use crate::http::target::{self, Target};
use crate::observe::{BodyProgress, Request};
use crate::upstream::InFlightSlot;

/// A request that will be forwarded.
pub(super) struct Plan {
    pub(super) slot: InFlightSlot,
    pub(super) most_body_bytes: u64,
    pub(super) traits: Traits,
    /// The head for the upstream, whole.
    pub(super) head_out: Vec<u8>,
    /// Whether its body is looked at, and what belongs to that.
    pub(super) observed: Option<Box<Observed>>,
}

/// What of a valid head the answer to it depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traits {
    pub(super) framing: Framing,
    pub(super) version: Version,
    pub(super) is_head: bool,
    /// The client allows another request on its connection, and so do we.
    pub(super) persists: bool,
    pub(super) expects_continue: bool,
    /// Sending it twice is as good as once (RFC 9110 §9.2.2).
    pub(super) idempotent: bool,
}

/// A client's certificate, as it stands when a request comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientCertificate {
    NotShown,
    Valid,
    /// It was verified, and would not be any more: on another connection, another can be shown.
    Lapsed,
}

/// A request that will not be forwarded.
pub(super) enum NotForwarded {
    /// `traits` where its head was valid.
    Refused { failure: Failure, traits: Option<Traits> },
    /// OPTIONS for the last recipient, which is this proxy.
    Options(Traits),
}

/// Why there is no route.
enum NoRoute {
    Refused(Failure),
    Options,
}

impl From<Failure> for NoRoute {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

/// Reads one whole head and decides. What is known of the request for the log goes into `request`;
/// `scratch` is memory for the head that goes out, `observed` for a look at the body.
pub(super) fn plan(
    head: &[u8],
    client: &Client,
    certificate: ClientCertificate,
    context: &Context,
    request: &mut Request<'_>,
    mut scratch: Vec<u8>,
    observed: &mut Option<Box<Observed>>,
) -> Result<Plan, (NotForwarded, Vec<u8>)> {
    let mut slots = slots();
    let head = match RequestHead::parse(head, &mut slots, &context.head_limits()) {
        Ok(head) => head,
        Err(error) => {
            return Err((NotForwarded::Refused { failure: error.into(), traits: None }, scratch));
        }
    };
    let traits = Traits {
        framing: head.framing,
        version: head.version,
        is_head: head.method == "HEAD",
        persists: head.persists() && certificate != ClientCertificate::Lapsed,
        expects_continue: head.expects_continue() && head.framing != Framing::Empty,
        idempotent: matches!(head.method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE"),
    };
    if client.is_private_stranger && head.fields.values("x-hub-signature-256").next().is_some() {
        note_hidden_source(client, context);
    }
    if traits.framing != Framing::Empty {
        request.has_body();
    }
    request.body(BodyProgress { length: traits.framing.length(), acknowledged: 0 });
    match route(&head, client, certificate, context, request) {
        Ok(Route { slot, path, most_body_bytes }) => {
            let added = Added {
                host: &slot.upstream().name,
                client: &client.text,
                scheme: client.scheme.name(),
                via: &context.name,
                request_id: request.id(),
            };
            encode::request_head(&head, path, &added, &mut scratch);
            let observed = request.messages().map(|messages| {
                let mut observed = observed.take().unwrap_or_default();
                observed.begin(messages, &slot.upstream().name, path, &head.fields);
                observed
            });
            Ok(Plan { slot, most_body_bytes, traits, head_out: scratch, observed })
        }
        Err(NoRoute::Refused(failure)) => {
            Err((NotForwarded::Refused { failure, traits: Some(traits) }, scratch))
        }
        Err(NoRoute::Options) => Err((NotForwarded::Options(traits), scratch)),
    }
}

/// A request that looks like Meta's comes from an address that Meta can't have.
#[cold]
fn note_hidden_source(client: &Client, context: &Context) {
    if context.metrics.hidden_sources.count(client.address) {
        context.log.note(&format!(
            "WARNING: requests that look like Meta's come from {source}: a NAT before hookgate hides their source, so that \
             they count as a stranger's, and have a stranger's limits; keep the source (Docker: network_mode \"host\"), have \
             what lies before hookgate send PROXY headers ([listen] proxy_protocol_from), or put {source} into [guard] allow",
            source = client.text
        ));
    }
}

/// Where a request goes.
struct Route<'b> {
    slot: InFlightSlot,
    /// The path and query that travel on.
    path: &'b [u8],
    most_body_bytes: u64,
}

/// Finds the way, or refuses; refusals in the contract's order.
fn route<'b>(
    head: &RequestHead<'b>,
    client: &Client,
    certificate: ClientCertificate,
    context: &Context,
    request: &mut Request<'_>,
) -> Result<Route<'b>, NoRoute> {
    let path_and_query = match head.target {
        Target::Path(path_and_query) => path_and_query,
        Target::Asterisk => b"*",
        Target::Authority => b"",
    };
    request.head(head.method, path_and_query, head.fields.values("x-request-id").next());
    if matches!(head.method, "CONNECT" | "TRACE") {
        return Err(Failure::MethodNotAllowed.into());
    }
    let (segment, path) = target::split(path_and_query).ok_or(Failure::NoUpstreamInPath)?;
    let upstream = context.directory.find(segment).ok_or(Failure::NotAllowed)?;
    request.upstream(upstream.metrics());
    if upstream.settings().require_client_cert && certificate != ClientCertificate::Valid {
        return Err(Failure::NoClientCertificate.into());
    }
    if head.fields.values("via").any(|via| via_names(via, &context.name)) {
        return Err(Failure::Loop.into());
    }
    if head.max_forwards() == Some(0) {
        return Err(NoRoute::Options);
    }
    let most_body_bytes = upstream.settings().body_bytes.unwrap_or(context.limits.body_bytes).most();
    if matches!(head.framing, Framing::Length(length) if length.get() > most_body_bytes) {
        return Err(Failure::BodyTooLarge.into());
    }
    let slot = InFlightSlot::take(upstream, client.stranger, context.limits.reserved_for_meta);
    let slot = slot.ok_or(Failure::TooManyInFlight)?;
    Ok(Route { slot, path, most_body_bytes })
}

impl From<HeadError> for Failure {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::Malformed(why) => Self::BadRequest(why),
            HeadError::Version => Self::VersionNotSupported,
            HeadError::TargetTooLong => Self::TargetTooLong,
            HeadError::TooLarge => Self::HeadTooLarge,
        }
    }
}
