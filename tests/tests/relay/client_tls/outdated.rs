//! Client certificates that held once: their authority is no longer configured, or they have
//! expired.

use rustix::process::Signal;

use super::*;

const MAX_WAIT: Duration = Duration::from_secs(10);

fn reload(edge: &mut Edge, said: &str) -> Result<()> {
    edge.relay.proxy.signal(Signal::HUP)?;
    edge.relay.proxy.wait_for_stderr(said, MAX_WAIT)
}

fn status(client: &mut Client) -> Result<u16> {
    Ok(client.ask(get("/closed.example/"))?.status())
}

#[test]
fn a_certificate_counts_while_its_authority_is_in_force() -> Result<()> {
    let dir = TempDir::new("outdated")?;
    let server = Certs::new(&[NAME])?;
    let (ca, other) = (Ca::new("Meta's own")?, Ca::new("another")?);
    let origin = Origin::answering(OK)?;
    let sender = ca.issue_to_client(SENDER, &[], 4096)?;
    for version in [&TLS12, &TLS13] {
        let mut edge = mutual(&dir, &server, &sender, &origin)?;
        let config = showing(&server, Some(&sender), version)?;
        let mut kept = edge.client(&config, NAME)?;
        let mut idle = edge.client(&config, NAME)?;
        assert_eq!((status(&mut kept)?, status(&mut idle)?), (200, 200));

        // Other upstreams, and other TLS with the same authority.
        let path = edge.relay.proxy.config().to_owned();
        let text = std::fs::read_to_string(&path)?;
        std::fs::write(&path, text.replace("[upstreams]\n", "[upstreams]\n\"third.example\" = {}\n"))?;
        reload(&mut edge, "reloaded: [upstreams]")?;
        assert_eq!(status(&mut kept)?, 200);
        let [_, cert, key] = server.write(&dir, "copy")?;
        let more = format!("[tls]\ncerts = [{{ cert = {cert:?}, key = {key:?} }}]\n");
        std::fs::write(&path, text.replace("[tls]\n", &more))?;
        reload(&mut edge, "reloaded: [tls]")?;
        assert_eq!(status(&mut kept)?, 200);

        other.issue(&["x"])?.write(&dir, "client")?;
        reload(&mut edge, "reloaded: [tls] client_ca")?;
        for client in [&mut kept, &mut idle] {
            assert_eq!(status(client)?, 403);
            assert!(status(client).is_err(), "another connection may show another certificate");
        }
        let refused =
            edge.client(&config, NAME)?.ask(get("/open.example/")).expect_err("an unknown authority");
        assert!(format!("{refused:?}").contains("UnknownCA"), "{refused:?}");
    }
    Ok(())
}

#[test]
fn neither_a_kept_connection_nor_a_ticket_outlives_a_certificate() -> Result<()> {
    let dir = TempDir::new("expired")?;
    let server = Certs::new(&[NAME])?;
    let ca = Ca::new("Meta's own")?;
    let origin = Origin::answering(OK)?;
    for version in [&TLS12, &TLS13] {
        let edge = mutual(&dir, &server, &ca.issue_to_client(SENDER, &[], 4096)?, &origin)?;
        // From now on: however long the start took, the first request comes in time.
        let sender = ca.issue_to_client_for_seconds(SENDER, 5)?;
        let config = showing(&server, Some(&sender), version)?;
        let mut kept = edge.client(&config, NAME)?;
        assert_eq!(status(&mut kept)?, 200);
        let condition = format!("{version:?}: the connection is refused when the certificate has expired");
        let (_, last) = wait_until(condition, MAX_WAIT, || {
            let response = kept.ask(get("/closed.example/"))?;
            Ok((response.status() == 403, response))
        })?;
        assert_eq!(last.field("connection"), Some("close"), "{version:?}");
        // No connection is closed whose client was not told so.
        for (target, expected) in [("/closed.example/", 403), ("/open.example/", 200)] {
            let mut resumed = edge.client(&config, NAME)?;
            let response = resumed.ask(get(target))?;
            let (status, connection) = (response.status(), response.field("connection"));
            assert_eq!((status, connection), (expected, Some("close")), "{version:?}, {target}");
            let kind = resumed.session().and_then(|session| session.handshake_kind());
            assert_eq!(kind, Some(HandshakeKind::Resumed), "{version:?}, {target}");
        }
    }
    Ok(())
}
