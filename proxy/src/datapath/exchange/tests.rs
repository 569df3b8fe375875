//! Exchanges over streams in memory, in paused time: every split, every stall, every end, every
//! cancellation.

use std::future::pending;
use std::num::NonZeroU64;
use std::pin::pin;
use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until};

use super::*;
use crate::http::Version;
use crate::http::chunked::Step;
use crate::http::framing::Framing;
use crate::net::{Buffers, Limits};

const HEAD: &[u8] = b"POST /x HTTP/1.1\r\nHost: up.example\r\n\r\n";
const RESPONSE_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
const RESPONSE_BODY: &[u8] = b"ok ok";
/// Room for everything that a test sends.
const AMPLE: usize = 4096;
const TIMEOUTS: Timeouts = Timeouts {
    request_head: Duration::from_secs(10),
    body_idle: Duration::from_secs(30),
    connect: Duration::from_secs(5),
    response: Duration::from_secs(20),
    keepalive: Duration::from_secs(60),
    upstream_idle: Duration::from_secs(60),
    drain: Duration::from_secs(30),
};

/// A request's body as a client sends it, and its content.
struct Body {
    framing: Framing,
    sent: &'static [u8],
    content: &'static [u8],
}

fn bodies() -> [Body; 3] {
    let length = |bytes: &'static [u8]| Framing::Length(NonZeroU64::new(bytes.len() as u64).unwrap());
    [
        Body { framing: Framing::Empty, sent: b"", content: b"" },
        Body { framing: length(b"hello world"), sent: b"hello world", content: b"hello world" },
        Body {
            framing: Framing::Chunked,
            sent: b"5;ext=\"1\"\r\nhello\r\n06\r\n world\r\n0\r\n\r\n",
            content: b"hello world",
        },
    ]
}

fn whole_response() -> Vec<u8> {
    [RESPONSE_HEAD, RESPONSE_BODY].concat()
}

/// What an exchange needs besides its streams.
struct Surroundings {
    lifecycle: Lifecycle,
    _stage: watch::Sender<Stage>,
    buffers: Rc<Buffers>,
}

impl Surroundings {
    fn new() -> Self {
        let (stage, lifecycle) = watch::channel(Stage::Serving);
        let buffers = Buffers::new(Limits { free: 4, large: 1, pipes: 1 });
        Self { lifecycle: Lifecycle::new(lifecycle), _stage: stage, buffers }
    }

    /// Runs an exchange to its end, and closes its streams.
    async fn exchange(
        &self,
        framing: Framing,
        expects_continue: bool,
        client: DuplexStream,
        upstream: DuplexStream,
    ) -> Result<Relayed, ExchangeError> {
        let traits = Traits {
            framing,
            version: Version::Http11,
            is_head: false,
            persists: true,
            expects_continue,
            idempotent: false,
        };
        let now = Instant::now();
        let pump = Pump::new(HEAD.to_vec(), Decoder::new(framing, 1000), framing == Framing::Chunked, now);
        let relay = Relay::new(traits, AMPLE, TIMEOUTS.upstream_idle, Vec::new());
        let mut exchange = Exchange::new(pump, relay, &TIMEOUTS, &self.lifecycle, &traits, false, false);
        exchange.begin_on(None);
        let [mut client, mut upstream] =
            [client, upstream].map(|stream| Socket::new(Stream::Memory(stream), &self.buffers));
        let (timer, drain) = (pin!(sleep_until(now)), pin!(pending()));
        let mut wait = Wait { timer, drain };
        exchange.run(&mut client, &mut upstream, &mut wait).await
    }
}

/// Sends `bytes` in two pieces, one some time after the other.
async fn send_split(stream: &mut DuplexStream, bytes: &[u8], at: usize) {
    stream.write_all(&bytes[..at]).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    stream.write_all(&bytes[at..]).await.unwrap();
}

/// All that comes until the other end is closed.
async fn read_all(mut stream: DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    bytes
}

/// Reads a request, and returns its content: chunks may have other sizes than the client's.
async fn read_request(stream: &mut (impl AsyncRead + Unpin), framing: Framing) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD.len()];
    stream.read_exact(&mut head).await?;
    assert_eq!(head, HEAD);
    let (mut decoder, mut unread, mut content) = (Decoder::new(framing, 1000), Vec::new(), Vec::new());
    loop {
        match decoder.step(&unread).unwrap() {
            Step::Data { skip, length } => {
                content.extend(&unread[skip..skip + length]);
                unread.drain(..skip + length);
            }
            Step::End { skip, .. } => {
                assert_eq!(unread.len(), skip, "nothing may come behind it");
                return Ok(content);
            }
            Step::More { skip } => {
                unread.drain(..skip);
                unread.push(stream.read_u8().await?);
            }
        }
    }
}

/// What the client and the upstream have got of an exchange whose request and response come in two
/// pieces each.
async fn split(body: &Body, request_at: usize, response_at: usize) -> (Vec<u8>, Vec<u8>) {
    let surroundings = Surroundings::new();
    let ((mut client, client_inside), (mut upstream, upstream_inside)) = (duplex(AMPLE), duplex(AMPLE));
    let exchange = surroundings.exchange(body.framing, false, client_inside, upstream_inside);
    let client = async {
        send_split(&mut client, body.sent, request_at).await;
        read_all(client).await
    };
    let upstream = async {
        let content = read_request(&mut upstream, body.framing).await.unwrap();
        send_split(&mut upstream, &whole_response(), response_at).await;
        assert_eq!(read_all(upstream).await, b"", "nothing may come behind the request");
        content
    };
    let (outcome, response, request) = tokio::join!(exchange, client, upstream);
    let Relayed { head, request_complete } = outcome.unwrap();
    assert_eq!((head.status, request_complete), (200, true));
    (request, response)
}

#[tokio::test(start_paused = true)]
async fn pieces_make_no_difference() {
    for body in bodies() {
        let (_, whole) = split(&body, 0, 0).await;
        assert!(whole.starts_with(b"HTTP/1.1 200 OK\r\n") && whole.ends_with(RESPONSE_BODY), "{whole:?}");
        let expected = (body.content.to_vec(), whole);
        for request_at in 0..=body.sent.len() {
            for response_at in 0..=whole_response().len() {
                let got = split(&body, request_at, response_at).await;
                assert_eq!(got, expected, "{request_at} {response_at}");
            }
        }
    }
}

/// How an exchange ends, and after which time, whose client sends so much of its request and whose
/// upstream so much of its response. Both keep their streams open if `stays`, and take as much as
/// `room`.
async fn stalled(
    body: &Body,
    request_bytes: usize,
    response_bytes: usize,
    stays: bool,
    [client_room, upstream_room]: [usize; 2],
) -> (Result<Relayed, ExchangeError>, Duration) {
    let surroundings = Surroundings::new();
    let (mut client, client_inside) = duplex(client_room.max(request_bytes));
    let (mut upstream, upstream_inside) = duplex(upstream_room.max(response_bytes));
    let begun = Instant::now();
    client.write_all(&body.sent[..request_bytes]).await.unwrap();
    upstream.write_all(&whole_response()[..response_bytes]).await.unwrap();
    if !stays && request_bytes < body.sent.len() {
        client.shutdown().await.unwrap();
    }
    if !stays && response_bytes < whole_response().len() {
        upstream.shutdown().await.unwrap();
    }
    let outcome = surroundings.exchange(body.framing, false, client_inside, upstream_inside).await;
    drop((client, upstream));
    (outcome, begun.elapsed())
}

/// Timers have a resolution of a millisecond.
fn is_about(elapsed: Duration, expected: Duration) -> bool {
    (expected..expected + Duration::from_millis(2)).contains(&elapsed)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stalls_within_its_body_is_told_after_body_idle() {
    for body in bodies() {
        for sent in 0..body.sent.len() {
            let (outcome, elapsed) = stalled(&body, sent, 0, true, [AMPLE; 2]).await;
            assert!(
                matches!(outcome, Err(ExchangeError::BeforeResponse(Failure::ClientTimeout))),
                "{sent}: {outcome:?}"
            );
            assert!(is_about(elapsed, TIMEOUTS.body_idle), "{sent}: {elapsed:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_stalls_is_given_up_in_its_head_and_cut_in_its_body() {
    for body in bodies() {
        for sent in 0..whole_response().len() {
            let (outcome, elapsed) = stalled(&body, body.sent.len(), sent, true, [AMPLE; 2]).await;
            let limit = if sent < RESPONSE_HEAD.len() {
                assert!(
                    matches!(outcome, Err(ExchangeError::BeforeResponse(Failure::ResponseTimeout))),
                    "{sent}: {outcome:?}"
                );
                TIMEOUTS.response
            } else {
                assert!(
                    matches!(outcome, Err(ExchangeError::Cut { failure: Failure::ResponseTimeout, .. })),
                    "{sent}: {outcome:?}"
                );
                TIMEOUTS.body_idle
            };
            assert!(is_about(elapsed, limit), "{sent}: {elapsed:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_left_after_body_idle() {
    for body in bodies() {
        let (outcome, elapsed) =
            stalled(&body, body.sent.len(), whole_response().len(), true, [8, AMPLE]).await;
        assert!(matches!(outcome, Err(ExchangeError::ClientGone(_))), "{outcome:?}");
        assert!(is_about(elapsed, TIMEOUTS.body_idle), "{elapsed:?}");

        let (outcome, elapsed) = stalled(&body, body.sent.len(), 0, true, [AMPLE, 8]).await;
        let failure = Failure::ResponseTimeout;
        assert!(matches!(outcome, Err(ExchangeError::BeforeResponse(why)) if why == failure), "{outcome:?}");
        assert!(is_about(elapsed, TIMEOUTS.body_idle), "{elapsed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_ends_early_is_told_apart_by_how_far_it_came() {
    for body in bodies() {
        for sent in 0..body.sent.len() {
            let (outcome, elapsed) = stalled(&body, sent, whole_response().len(), false, [AMPLE; 2]).await;
            // The response is there already; what matters is that the request does not count as
            // complete.
            let is_right = match outcome {
                Ok(Relayed { request_complete, .. }) => !request_complete,
                Err(ExchangeError::ClientGone(_)) => true,
                Err(_) => false,
            };
            assert!(is_right && elapsed < Duration::from_millis(5), "{sent}: {elapsed:?}");
        }
        for sent in 0..whole_response().len() {
            let (outcome, elapsed) = stalled(&body, body.sent.len(), sent, false, [AMPLE; 2]).await;
            let is_right = match &outcome {
                Err(ExchangeError::UpstreamGone(Failure::ConnectionTerminated)) => sent == 0,
                Err(ExchangeError::BeforeResponse(Failure::ResponseIncomplete)) => {
                    // With a head alone, nothing was written yet that would have to be cut.
                    (1..=RESPONSE_HEAD.len()).contains(&sent)
                }
                Err(ExchangeError::Cut { failure: Failure::ResponseIncomplete, .. }) => {
                    sent > RESPONSE_HEAD.len()
                }
                _ => false,
            };
            assert!(is_right && elapsed < Duration::from_millis(5), "{sent}: {outcome:?} {elapsed:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_expects_it_gets_a_continue() {
    let surroundings = Surroundings::new();
    let body = &bodies()[1];
    let ((mut client, client_inside), (mut upstream, upstream_inside)) = (duplex(AMPLE), duplex(AMPLE));
    let exchange = surroundings.exchange(body.framing, true, client_inside, upstream_inside);
    let client = async {
        let begun = Instant::now();
        let mut interim = [0; 25];
        client.read_exact(&mut interim).await.unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        assert!(is_about(begun.elapsed(), CONTINUE_DELAY), "{:?}", begun.elapsed());
        client.write_all(body.sent).await.unwrap();
        read_all(client).await
    };
    let upstream = async {
        assert_eq!(read_request(&mut upstream, body.framing).await.unwrap(), body.content);
        upstream.write_all(&whole_response()).await.unwrap();
        read_all(upstream).await
    };
    let (outcome, response, _) = tokio::join!(exchange, client, upstream);
    assert!(outcome.is_ok() && response.ends_with(RESPONSE_BODY), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn as_many_interim_responses_pass_as_may_and_no_more() {
    const INTERIM: &[u8] = b"HTTP/1.1 102 Processing\r\n\r\n";
    for (count, pass) in [(16, true), (17, false)] {
        let surroundings = Surroundings::new();
        let ((client, client_inside), (mut upstream, upstream_inside)) = (duplex(AMPLE), duplex(AMPLE));
        upstream.write_all(&[&INTERIM.repeat(count), &whole_response()[..]].concat()).await.unwrap();
        let exchange = surroundings.exchange(Framing::Empty, false, client_inside, upstream_inside);
        let (outcome, response) = tokio::join!(exchange, read_all(client));
        match outcome {
            Ok(_) => assert!(pass && response.starts_with(&INTERIM.repeat(count)), "{count}"),
            Err(ExchangeError::BeforeResponse(Failure::BadResponse(_))) => assert!(!pass, "{count}"),
            Err(error) => panic!("{count}: {error:?}"),
        }
    }
}

/// A future that is dropped after `polls` polls.
async fn cancelled_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut count) = (pin!(future), 0);
    poll_fn(|cx| {
        if count == polls {
            return Poll::Ready(None);
        }
        count += 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn an_exchange_that_is_dropped_at_any_point_gives_its_buffers_back() {
    for body in bodies() {
        for polls in 0.. {
            let surroundings = Surroundings::new();
            let ((mut client, client_inside), (mut upstream, upstream_inside)) = (duplex(7), duplex(7));
            let exchange = surroundings.exchange(body.framing, false, client_inside, upstream_inside);
            let peers = async {
                let (mut client_reads, mut client_writes) = tokio::io::split(&mut client);
                let (mut upstream_reads, mut upstream_writes) = tokio::io::split(&mut upstream);
                // Ends of a cancelled exchange are errors here.
                let (mut response, mut rest) = (Vec::new(), Vec::new());
                let _ = tokio::join!(
                    client_writes.write_all(body.sent),
                    client_reads.read_to_end(&mut response),
                    async {
                        read_request(&mut upstream_reads, body.framing).await?;
                        upstream_writes.write_all(&whole_response()).await?;
                        upstream_reads.read_to_end(&mut rest).await
                    },
                );
            };
            let (outcome, ()) = tokio::join!(cancelled_after(polls, exchange), peers);
            assert_eq!(Rc::strong_count(&surroundings.buffers), 1, "after {polls} polls");
            if let Some(outcome) = outcome {
                assert!(outcome.is_ok(), "{outcome:?}");
                break;
            }
        }
    }
}
