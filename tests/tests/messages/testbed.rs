use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use harness::{Client, End, Metrics, NetNs, Origin, Proxy, TempDir, free_port, signature};
use serde_json::Value;

pub const UPSTREAM: &str = "up.example";
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// A proxy in front of an upstream that answers what a request asks it to.
pub struct Testbed {
    pub proxy: Proxy,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub dir: TempDir,
    config: String,
    _origin: Origin,
}

/// Asks the upstream for a status.
pub const ANSWER: &str = "X-Answer";

impl Testbed {
    pub fn start() -> Result<Self> {
        Self::with("")
    }

    /// `insight` is what else stands in that section.
    pub fn with(insight: &str) -> Result<Self> {
        let dir = TempDir::new("messages")?;
        let origin = Origin::plain_at(SocketAddr::from(([127, 0, 0, 1], 0)), |connection| {
            while let Some(request) = connection.request()? {
                match request.field(ANSWER).unwrap_or("200") {
                    "never" => {
                        connection.request()?;
                        return Ok(End::Close);
                    }
                    // Less than it promises.
                    "cut" => {
                        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok")?;
                        return Ok(End::Close);
                    }
                    "slow" => {
                        harness::pace(Duration::from_secs(2));
                        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
                    }
                    status => {
                        connection.send(format!("HTTP/1.1 {status} Said\r\nContent-Length: 2\r\n\r\nok"))?;
                    }
                }
            }
            Ok(End::Close)
        })?;
        let [address, admin] =
            [free_port()?, free_port()?].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let closed = free_port()?;
        let config = format!(
            "[listen]\nplain = [\"{address}\"]\n[admin]\nlisten = \"{admin}\"\nsocket = {:?}\n[log]\naccess = false\n[timeouts]\nresponse = \"3s\"\n\
             drain = \"5s\"\n[limits]\nbody_bytes = 67108864\n[insight]\nstate = {:?}\n{insight}\n[upstreams]\n\
             \"{UPSTREAM}\" = {{ address = \"{}\", tls = false }}\n\
             \"down.example\" = {{ address = \"127.0.0.1:{closed}\", tls = false }}\n",
            dir.path().join("admin.sock"),
            dir.path().join("insight"),
            origin.address()
        );
        let proxy = Proxy::start(&config)?;
        Ok(Self { proxy, address, admin, dir, config, _origin: origin })
    }

    /// Another process on the same files.
    pub fn start_again(&mut self) -> Result<()> {
        self.proxy = Proxy::start(&self.config)?;
        Ok(())
    }

    /// Changes the ledger's size in the configuration.
    pub fn resize(&mut self, before: usize, after: usize) -> Result<()> {
        let (before, after) = (format!("ledger = {before}"), format!("ledger = {after}"));
        ensure!(self.config.contains(&before), "{}", self.config);
        self.config = self.config.replace(&before, &after);
        Ok(())
    }

    pub fn ledger(&self) -> PathBuf {
        self.dir.path().join("insight/ledger")
    }

    pub fn client(&self) -> Result<Client> {
        Client::plain(self.address)
    }

    /// Sends a body on a connection of its own, and returns the status.
    pub fn send(&self, body: &Value, answer: &str) -> Result<u16> {
        Ok(self.client()?.ask(post(UPSTREAM, &body.to_string(), answer))?.status())
    }

    /// What `hookgate messages --json` says.
    pub fn messages(&self) -> Result<Value> {
        let text = self.proxy.command(&NetNs::here(), &["messages", "--json"])?;
        Ok(serde_json::from_str(&text)?)
    }

    /// The one row of a product.
    pub fn row(&self, product: &str) -> Result<Value> {
        let document = self.messages()?;
        let rows = document["upstreams"].as_array().context("no upstreams")?;
        let mut of_product =
            rows.iter().filter(|row| row["product"] == product && row["upstream"] == UPSTREAM);
        let row = of_product.next().with_context(|| format!("no {product} in {document}"))?;
        ensure!(of_product.next().is_none(), "two rows: {document}");
        Ok(row.clone())
    }

    pub fn metrics(&self) -> Result<Metrics> {
        Metrics::read(self.admin)
    }

    /// All bytes in the folder of figures.
    pub fn state(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for entry in std::fs::read_dir(self.dir.path().join("insight"))? {
            bytes.extend(std::fs::read(entry?.path())?);
        }
        Ok(bytes)
    }
}

pub fn post(upstream: &str, body: &str, answer: &str) -> String {
    let length = body.len();
    let signature = signature(body.as_bytes());
    format!(
        "POST /{upstream}/webhooks/whatsapp HTTP/1.1\r\nHost: proxy.example\r\nContent-Type: application/json\r\n\
         X-Hub-Signature-256: {signature}\r\n{ANSWER}: {answer}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// Milliseconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(0)
}

/// A WhatsApp body with messages and statuses, whose times are seconds.
pub fn whatsapp(messages: &[Value], statuses: &[Value]) -> Value {
    let mut value = serde_json::json!({
        "messaging_product": "whatsapp",
        "metadata": { "display_phone_number": "15550100200", "phone_number_id": "106540352242922" },
    });
    for (name, list) in [("messages", messages), ("statuses", statuses)] {
        if !list.is_empty() {
            value[name] = list.into();
        }
    }
    serde_json::json!({
        "object": "whatsapp_business_account",
        "entry": [{ "id": "102290129340398", "changes": [{ "value": value, "field": "messages" }] }],
    })
}

pub fn message(id: &str, seconds: i64) -> Value {
    serde_json::json!({
        "from": "16505551234", "id": id, "timestamp": seconds.to_string(), "type": "text",
        "text": { "body": "Does it come in another color? \"id\": \"wamid.no\"" },
    })
}

pub fn status(id: &str, status: &str, seconds: i64) -> Value {
    serde_json::json!({ "id": id, "status": status, "timestamp": seconds.to_string(), "recipient_id": "16505551234" })
}

/// A Messenger or Instagram body with one message, whose times are milliseconds.
pub fn messaging(object: &str, mid: &str, happened: i64, sent: i64) -> Value {
    serde_json::json!({
        "object": object,
        "entry": [{ "id": "1234567890", "time": sent, "messaging": [{
            "sender": { "id": "111" }, "recipient": { "id": "1234567890" }, "timestamp": happened,
            "message": { "mid": mid, "text": "hello" },
        }] }],
    })
}
