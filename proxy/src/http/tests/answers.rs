use std::collections::BTreeSet;

use super::cases::{self, same};
use crate::http::answer::{self, ErrorType, Failure};
use crate::http::encode::Persistence;

/// All failures and their names; one that is missing here does not compile.
macro_rules! failures {
    ($($name:ident $(($text:literal))?),* $(,)?) => {
        const ALL: &[Failure] = &[$(Failure::$name $(($text))?),*];

        fn name(failure: Failure) -> &'static str {
            match failure { $(Failure::$name { .. } => stringify!($name)),* }
        }
    };
}

failures!(
    BadRequest("no Host"),
    VersionNotSupported,
    TargetTooLong,
    HeadTooLarge,
    ClientTimeout,
    BodyTooLarge,
    MethodNotAllowed,
    NoUpstreamInPath,
    NotAllowed,
    NoClientCertificate,
    Loop,
    TooManyInFlight,
    DnsError,
    DnsTimeout,
    DestinationProhibited,
    ConnectionRefused,
    ConnectionTerminated,
    ConnectionTimeout,
    Unacknowledged,
    TlsTimeout,
    TlsCertificate,
    TlsProtocol,
    TlsAlert,
    BadResponse("a line ends without CR"),
    ResponseIncomplete,
    ResponseHeadTooLarge,
    ResponseTimeout,
);

/// The contract's table, row by row.
#[test]
fn every_failure_has_the_contracts_answer() {
    let rows = std::cell::RefCell::new(Vec::new());
    cases::for_each("answers.toml", &["name", "status", "error", "closes"], |case| {
        rows.borrow_mut().push(case.name().to_owned());
        let failure = ALL.iter().find(|failure| name(**failure) == case.name()).ok_or("  no such failure")?;
        let actual = (failure.status(), failure.error(), failure.ends_connection());
        let expected = (case.number("status"), case.text("error"), case.flag("closes"));
        same(
            "is",
            &format!("{actual:?}"),
            &format!("({}, {:?}, {})", expected.0.unwrap(), expected.1.unwrap(), expected.2),
        )
    });
    for failure in ALL {
        assert_eq!(ErrorType::NAMES[failure.error_type() as usize], failure.error());
    }
    let named: Vec<&str> = ALL.iter().map(|failure| name(*failure)).collect();
    assert_eq!(rows.into_inner(), named, "a row for every failure, in the order of the code");
}

/// What operators look answers up in.
#[test]
fn the_page_has_a_row_for_every_answer_and_no_other() {
    let page = include_str!("../../../../docs/failures.md");
    let table = page.split("\n## Answers\n").nth(1).and_then(|text| text.split("\n## ").next()).unwrap();
    let cells = table.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let told = cells.flat_map(|(statuses, rest)| {
        let errors =
            rest.split(" | ").next().unwrap_or_default().split(' ').map(|error| error.trim_matches('`'));
        let errors = errors.collect::<Vec<_>>();
        let statuses = statuses.split(' ').filter_map(|status| status.parse::<u16>().ok());
        statuses.flat_map(move |status| errors.clone().into_iter().map(move |error| (status, error)))
    });
    let told: BTreeSet<_> = told.collect();
    assert_eq!(told, ALL.iter().map(|failure| (failure.status(), failure.error())).collect());
}

#[test]
fn an_answer_is_a_whole_response() {
    let mut out = Vec::new();
    answer::write(
        Failure::NotAllowed,
        "hookgate",
        "Tue, 24 Nov 2026 19:00:00 GMT",
        Persistence::Implied,
        true,
        &mut out,
    );
    let expected = "HTTP/1.1 403 Forbidden\r\nDate: Tue, 24 Nov 2026 19:00:00 GMT\r\n\
        Content-Type: text/plain; charset=utf-8\r\nContent-Length: 34\r\n\
        Proxy-Status: hookgate; error=http_request_denied\r\n\r\nthis upstream is not allowed here\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn an_answer_to_head_has_no_body_and_405_says_what_is_allowed() {
    let mut out = Vec::new();
    answer::write(Failure::MethodNotAllowed, "hookgate", "now", Persistence::Ended, false, &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("\r\nContent-Length: 29\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    assert!(text.contains("\r\nAllow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"), "{text}");
    assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
}

/// RFC 9209 takes a token or a string, and a token of RFC 8941 begins with a letter or `*`.
#[test]
fn a_name_that_begins_with_a_digit_is_quoted_in_proxy_status() {
    for (name, written) in [("hookgate", "hookgate"), ("*x", "*x"), ("2nd", "\"2nd\""), ("-a", "\"-a\"")] {
        let mut out = Vec::new();
        answer::write(Failure::Loop, name, "now", Persistence::Promised, true, &mut out);
        let line = format!("\r\nProxy-Status: {written}; error=proxy_loop_detected\r\n");
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(&line), "{text}");
    }
}

/// Nothing that a peer sends may get into an answer; a control character in a sentence would break
/// its head.
#[test]
fn sentences_are_printable_ascii() {
    for failure in ALL {
        assert!(failure.reason().bytes().all(|b| matches!(b, b' '..=b'~')), "{failure:?}");
    }
}
