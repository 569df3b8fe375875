use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::report::{Failure, Request};
use crate::config::Upstream;
use crate::net::{Stream, http_client};

/// `GET /`.
pub async fn get(
    upstream: &Upstream,
    stream: &mut Stream,
    limit: Duration,
    report: &mut Option<Request>,
) -> Result<(), Failure> {
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nUser-Agent: hookgate/{}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        upstream.name,
        env!("CARGO_PKG_VERSION")
    );
    let begun = Instant::now();
    let failed = |error, next: &str| Failure { step: "HTTP", error, next: next.into() };
    match timeout(limit, http_client::request(stream, request.as_bytes())).await {
        Ok(Ok(answer)) => {
            *report = Some(Request { took: begun.elapsed(), status: answer.status });
            Ok(())
        }
        Ok(Err(error)) => {
            Err(failed(error.to_string(), "does this port speak HTTP/1.1? the upstream's log says more"))
        }
        Err(_) => Err(failed(format!("no answer within {} s", limit.as_secs_f64()), "is the upstream well?")),
    }
}
