//! The verification request as Meta sends it, and answers of every kind to it.

use std::io::Write;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use harness::{End, Origin};

use super::{Sent, url};

/// Makes a response of a challenge.
type Respond = fn(&str) -> Vec<u8>;

fn response(fields: &str, content: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n", content.len());
    [head.as_bytes(), content].concat()
}

fn chunked(fields: &str, content: &[u8]) -> Vec<u8> {
    let mut response = format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for byte in content {
        response.extend_from_slice(&[b'1', b'\r', b'\n', *byte, b'\r', b'\n']);
    }
    [&response[..], b"0\r\n\r\n"].concat()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    compressed(GzEncoder::new(Vec::new(), Compression::default()), content, GzEncoder::finish)
}

fn zlib(content: &[u8]) -> Vec<u8> {
    compressed(ZlibEncoder::new(Vec::new(), Compression::default()), content, ZlibEncoder::finish)
}

fn raw_deflate(content: &[u8]) -> Vec<u8> {
    compressed(DeflateEncoder::new(Vec::new(), Compression::default()), content, DeflateEncoder::finish)
}

fn compressed<E: Write>(
    mut to: E,
    content: &[u8],
    finish: impl FnOnce(E) -> std::io::Result<Vec<u8>>,
) -> Vec<u8> {
    // Writing to a Vec does not fail.
    let _ = to.write_all(content);
    finish(to).unwrap_or_default()
}

/// A receiver that answers the verification as `respond` says, and deliveries with 200.
fn receiver(respond: Respond) -> Result<Origin> {
    Origin::plain(move |connection| {
        while let Some(request) = connection.request()? {
            let challenge = request.start.split_once("hub.challenge=").map(|(_, rest)| rest);
            match challenge.and_then(|rest| rest.split('&').next()) {
                Some(challenge) => connection.send(respond(challenge))?,
                None => connection.send(super::OK)?,
            }
        }
        Ok(End::Close)
    })
}

fn verify(respond: Respond) -> Result<Sent> {
    let receiver = receiver(respond)?;
    Sent::new(&[&url(receiver.address()), "--verify-token", "t", "--count", "0"])
}

#[test]
fn a_challenge_that_was_compressed_comes_back() -> Result<()> {
    let ways: [(&str, Respond); 8] = [
        ("plain", |challenge| response("", challenge.as_bytes())),
        ("gzip", |challenge| response("Content-Encoding: gzip\r\n", &gzip(challenge.as_bytes()))),
        ("X-GZIP", |challenge| response("content-encoding: X-GZIP\r\n", &gzip(challenge.as_bytes()))),
        ("deflate", |challenge| response("Content-Encoding: deflate\r\n", &zlib(challenge.as_bytes()))),
        ("deflate", |challenge| {
            response("Content-Encoding: deflate\r\n", &raw_deflate(challenge.as_bytes()))
        }),
        ("gzip", |challenge| chunked("Content-Encoding: gzip\r\n", &gzip(challenge.as_bytes()))),
        ("deflate", |challenge| chunked("Content-Encoding: deflate\r\n", &raw_deflate(challenge.as_bytes()))),
        ("identity", |challenge| response("Content-Encoding: identity\r\n", challenge.as_bytes())),
    ];
    for (coding, respond) in ways {
        let sent = verify(respond)?;
        let verification = sent.stdout.lines().next().context("no line")?;
        assert!(verification.contains("the challenge came back"), "{coding}: {verification}");
        assert_eq!(sent.code, Some(0), "{coding}: {}", sent.stdout);
    }
    let receiver = receiver(|challenge| response("", challenge.as_bytes()))?;
    Sent::new(&[&url(receiver.address()), "--verify-token", "t"])?;
    let heard = String::from_utf8_lossy(&receiver.heard().concat()).into_owned();
    assert_eq!(heard.matches("Accept-Encoding: deflate, gzip\r\n").count(), 2, "{heard}");
    Ok(())
}

#[test]
fn what_came_instead_of_the_challenge_is_shown() -> Result<()> {
    let ways: [(Respond, &[&str]); 12] = [
        (
            |challenge| response("", format!("\"{challenge}\"").as_bytes()),
            &["in quotes", "instead came \"\\\""],
        ),
        (|challenge| response("", format!("\u{feff}{challenge}").as_bytes()), &["BOM", "\"\\u{feff}"]),
        (
            |challenge| response("", format!("{{\"hub.challenge\": \"{challenge}\"}}").as_bytes()),
            &["other text around it", "{\\\"hub.challenge\\\": \\\""],
        ),
        (
            |challenge| response("Content-Encoding: gzip\r\n", &gzip(format!("<b>{challenge}").as_bytes())),
            &["other text around it", "instead came \"<b>"],
        ),
        (|challenge| response("", format!("\r\n{challenge}").as_bytes()), &["white space", "\"\\r\\n"]),
        (|_| response("", b"Ok\x1b[2J\x00"), &["something else", "instead came \"Ok\\u{1b}[2J\\0\""]),
        (|_| response("", b""), &["the answer is empty"]),
        (|_| response("Content-Encoding: br\r\n", b"\x8b"), &["content coding \"br\" was not offered"]),
        (|challenge| response("Content-Encoding: gzip\r\n", challenge.as_bytes()), &["gzip, and is not"]),
        (
            |_| b"HTTP/1.1 403 Forbidden\r\nContent-Length: 11\r\n\r\nwrong token".to_vec(),
            &["403", "Meta would refuse", "instead came \"wrong token\""],
        ),
        (
            |_| {
                b"HTTP/1.1 301 Moved\r\nLocation: https://www.example/hook\r\nContent-Length: 0\r\n\r\n"
                    .to_vec()
            },
            &["301", "redirects to https://www.example/hook: Meta does not follow", "Meta would refuse"],
        ),
        (
            |challenge| {
                let head = format!("HTTP/1.1 201 Created\r\nContent-Length: {}\r\n\r\n", challenge.len());
                [head.as_bytes(), challenge.as_bytes()].concat()
            },
            &["201", "Meta would refuse this callback URL: it takes only 200"],
        ),
    ];
    for (respond, expected) in ways {
        let sent = verify(respond)?;
        let verification = sent.stdout.lines().next().context("no line")?;
        let is_right = expected.iter().all(|text| verification.contains(text));
        assert!(is_right && sent.code == Some(1), "{expected:?}: {verification:?}");
        assert!(!verification.contains("the challenge came back ("), "{verification}");
    }
    Ok(())
}

#[test]
fn a_newline_behind_the_challenge_is_named() -> Result<()> {
    for respond in
        [(|challenge: &str| response("", format!("{challenge}\n").as_bytes())) as Respond, |challenge| {
            response("", format!("{challenge}\r\n").as_bytes())
        }]
    {
        let sent = verify(respond)?;
        assert!(sent.stdout.contains("came back with a newline behind it"), "{}", sent.stdout);
        assert_eq!(sent.code, Some(1), "{}", sent.stdout);
    }
    Ok(())
}

#[test]
fn a_bomb_is_cut_and_long_answers_are_shown_in_part() -> Result<()> {
    // 64 MiB of spaces.
    let sent = verify(|_| response("Content-Encoding: gzip\r\n", &gzip(&vec![b' '; 64 << 20])))?;
    assert!(sent.stdout.contains("did not come back"), "{}", sent.stdout);
    let sent = verify(|_| response("Content-Encoding: gzip, gzip\r\n", &gzip(&gzip(&vec![b' '; 64 << 20]))))?;
    assert!(sent.stdout.contains("did not come back"), "{}", sent.stdout);
    let sent = verify(|_| response("", &[b'x'; 5000]))?;
    assert!(sent.stdout.contains(&format!("instead came {:?}", "x".repeat(60))), "{}", sent.stdout);
    Ok(())
}

#[test]
fn a_refused_delivery_shows_what_was_answered() -> Result<()> {
    let receiver = Origin::plain(|connection| {
        while connection.request()?.is_some() {
            let answer = gzip(b"signature does not match");
            let head = "HTTP/1.1 401 Unauthorized\r\nContent-Encoding: gzip\r\n";
            let head = format!("{head}Content-Length: {}\r\n\r\n", answer.len());
            connection.send([head.as_bytes(), &answer].concat())?;
        }
        Ok(End::Close)
    })?;
    let sent = Sent::new(&[&url(receiver.address())])?;
    let delivery = sent.stdout.lines().nth(1).context("no line")?;
    assert!(delivery.starts_with("delivery 1    401 "), "{delivery}");
    assert!(delivery.ends_with("  \"signature does not match\""), "{delivery}");
    let sent = Sent::new(&[&url(receiver.address()), "--json"])?;
    assert_eq!(sent.document()?["deliveries"][0]["body"], "signature does not match");
    Ok(())
}

#[test]
fn a_plus_in_the_path_is_sent_as_meta_sends_it() -> Result<()> {
    let receiver = receiver(|challenge| response("", challenge.as_bytes()))?;
    let callback = format!("http://{}/up.example/webhooks/whatsapp/", receiver.address());
    let plus = Sent::new(&[&format!("{callback}+5511999999999?a=+b"), "--verify-token", "t"])?;
    assert!(plus.stderr.contains("%20") && plus.stderr.contains("enter %2B"), "{}", plus.stderr);
    let escaped = Sent::new(&[&format!("{callback}%2B5511999999999"), "--verify-token", "t"])?;
    assert_eq!(escaped.stderr, "");
    let heard = receiver.heard();
    for (heard, number) in heard.iter().zip(["%205511999999999?a=+b", "%2B5511999999999"]) {
        let heard = String::from_utf8_lossy(heard);
        assert_eq!(heard.matches(&format!("/webhooks/whatsapp/{number}")).count(), 2, "{heard}");
    }
    Ok(())
}
