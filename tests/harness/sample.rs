use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// A request as one of Meta's senders writes it (`data/requests`), with its body (`data/payloads`).
#[derive(Clone, Debug)]
pub struct Sample {
    pub name: String,
    pub method: String,
    pub target: String,
    /// Field lines in order, as written.
    pub fields: Vec<String>,
    /// Where its body lies; `None` for a GET.
    pub payload: Option<PathBuf>,
}

impl Sample {
    /// All of them, by name.
    ///
    /// # Errors
    /// The data is damaged.
    pub fn all() -> Result<Vec<Self>> {
        let requests = data("requests");
        let entries =
            std::fs::read_dir(&requests).with_context(|| format!("reading {}", requests.display()))?;
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "http"));
        paths.sort();
        ensure!(!paths.is_empty(), "no samples in {}", requests.display());
        paths.iter().map(|path| Self::read(path).with_context(|| path.display().to_string())).collect()
    }

    fn read(path: &Path) -> Result<Self> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path)?;
        let mut lines = text.split("\r\n");
        let mut request_line = lines.next().unwrap_or_default().split(' ');
        let method = request_line.next().context("no method")?.to_owned();
        let target = request_line.next().context("no target")?.to_owned();
        let payload = name.strip_prefix("post-").map(|body| body.strip_suffix("-expect").unwrap_or(body));
        let payload = payload.map(|body| data("payloads").join(format!("{body}.json")));
        ensure!(payload.as_ref().is_none_or(|payload| payload.is_file()), "no body for it");
        let fields = lines.take_while(|line| !line.is_empty()).map(str::to_owned).collect();
        Ok(Self { name, method, target, fields, payload })
    }

    /// Its bytes as it is sent, head and body.
    ///
    /// # Errors
    /// Its body can't be read.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let head =
            format!("{} {} HTTP/1.1\r\n{}\r\n\r\n", self.method, self.target, self.fields.join("\r\n"));
        Ok([head.into_bytes(), self.body()?].concat())
    }

    /// Its body; empty for a GET.
    ///
    /// # Errors
    /// It can't be read.
    pub fn body(&self) -> Result<Vec<u8>> {
        let Some(path) = &self.payload else { return Ok(Vec::new()) };
        std::fs::read(path).with_context(|| format!("reading {}", path.display()))
    }

    /// What makes curl send it; the URL comes besides. `Host` and `Content-Length` are left to
    /// curl.
    pub fn curl_args(&self) -> Vec<String> {
        let own = |field: &&String| !field.starts_with("Host:") && !field.starts_with("Content-Length:");
        let fields = self.fields.iter().filter(own).flat_map(|field| ["-H".to_owned(), field.clone()]);
        let body =
            self.payload.iter().flat_map(|path| ["--data-binary".to_owned(), format!("@{}", path.display())]);
        fields.chain(body).collect()
    }
}

fn data(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(folder)
}
