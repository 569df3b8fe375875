//! The OCI's image layout: blobs by their digest, and an index that leads to them
//! (image-spec 1.0, image-layout.md).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::arch::Arch;
use crate::ebpf::sha256;
use crate::folder;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What all images of a layout have in common.
pub struct Release<'r> {
    pub version: &'r str,
    /// RFC 3339.
    pub created: &'r str,
}

pub struct Layout {
    path: PathBuf,
}

/// An image that is in the layout.
pub struct Image {
    manifest: Value,
    /// All of its blobs, as they are downloaded.
    pub compressed_bytes: usize,
}

impl Layout {
    /// In `path`, which is emptied before.
    ///
    /// # Errors
    /// It can't be written.
    pub fn new(path: &Path) -> Result<Self> {
        folder::empty(path)?;
        fs::create_dir_all(path.join("blobs/sha256"))?;
        let layout = Self { path: path.to_owned() };
        layout.write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(layout)
    }

    /// Adds an image of one layer, a tar archive.
    ///
    /// # Errors
    /// It can't be written.
    pub fn add(&self, arch: Arch, layer: &[u8], release: &Release<'_>) -> Result<Image> {
        let compressed = gzip(layer)?;
        let config = serde_json::to_vec(&config(arch, &digest(layer)?, release))?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(CONFIG, &config)?,
            "layers": [self.blob(LAYER, &compressed)?],
            "annotations": labels(release),
        });
        let manifest = serde_json::to_vec(&manifest)?;
        let compressed_bytes = compressed.len() + config.len() + manifest.len();
        let mut manifest = self.blob(MANIFEST, &manifest)?;
        manifest["platform"] = json!({ "architecture": arch.name(), "os": "linux" });
        Ok(Image { manifest, compressed_bytes })
    }

    /// Makes one name lead to all images: each runtime takes its own.
    ///
    /// # Errors
    /// It can't be written.
    pub fn finish(&self, images: &[Image], release: &Release<'_>) -> Result<()> {
        let manifests: Vec<&Value> = images.iter().map(|image| &image.manifest).collect();
        let index = json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": manifests,
            "annotations": labels(release),
        });
        let mut index = self.blob(INDEX, &serde_json::to_vec(&index)?)?;
        index["annotations"] = json!({ "org.opencontainers.image.ref.name": release.version });
        let entry = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [index] });
        self.write("index.json", &serde_json::to_vec(&entry)?)
    }

    /// Writes a blob, and returns its descriptor.
    fn blob(&self, media_type: &str, content: &[u8]) -> Result<Value> {
        let hash = sha256(content)?;
        self.write(&format!("blobs/sha256/{hash}"), content)?;
        Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{hash}"), "size": content.len() }))
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))
    }
}

fn config(arch: Arch, layer: &str, release: &Release<'_>) -> Value {
    const SECOND: u64 = 1_000_000_000;
    json!({
        "architecture": arch.name(),
        "os": "linux",
        "created": release.created,
        "config": {
            "User": "0:0",
            "Env": ["PATH=/usr/bin"],
            "Entrypoint": ["hookgate"],
            "Cmd": ["run"],
            "WorkingDir": "/",
            "ExposedPorts": { "80/tcp": {}, "443/tcp": {} },
            "StopSignal": "SIGTERM",
            "Labels": labels(release),
            // Docker's own; others take it from the compose file.
            "Healthcheck": {
                "Test": ["CMD", "hookgate", "health"],
                "Interval": 30 * SECOND,
                "Timeout": 10 * SECOND,
                "StartPeriod": 60 * SECOND,
                "Retries": 3,
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [layer] },
        "history": [{ "created": release.created, "created_by": "cargo xtask image" }],
    })
}

fn labels(release: &Release<'_>) -> Value {
    json!({
        "org.opencontainers.image.created": release.created,
        "org.opencontainers.image.description": "relay for Meta's webhooks that says where a message was lost",
        "org.opencontainers.image.licenses": "(MIT OR Apache-2.0) AND LGPL-2.1-or-later AND \
            GPL-3.0-or-later WITH GCC-exception-3.1 AND CDLA-Permissive-2.0",
        "org.opencontainers.image.title": "hookgate",
        "org.opencontainers.image.version": release.version,
    })
}

fn digest(content: &[u8]) -> Result<String> {
    Ok(format!("sha256:{}", sha256(content)?))
}

/// Without a name and a date inside.
fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = Command::new("gzip");
    gzip.arg("-9n");
    harness_core::run_with_input(gzip, content)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use harness_core::TempDir;

    use super::*;

    const RELEASE: Release<'_> = Release { version: "1.2.3", created: "2026-11-24T16:00:00Z" };
    const ARCHIVE: &[u8] = b"a layer, as far as this is concerned";

    fn make(folder: &Path) -> Vec<usize> {
        let layout = Layout::new(folder).unwrap();
        let images: Vec<Image> = [Arch::Amd64, Arch::Arm64]
            .iter()
            .map(|arch| layout.add(*arch, ARCHIVE, &RELEASE).unwrap())
            .collect();
        layout.finish(&images, &RELEASE).unwrap();
        images.iter().map(|image| image.compressed_bytes).collect()
    }

    fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
        let of = |folder: &Path| {
            let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            entries.filter(|path| path.is_file()).collect::<Vec<_>>()
        };
        let all = [of(folder), of(&folder.join("blobs/sha256"))].concat();
        all.into_iter().map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect()
    }

    /// The blob that a descriptor names, which must be as it says.
    fn follow(folder: &Path, descriptor: &Value) -> Vec<u8> {
        let hash = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let blob = fs::read(folder.join("blobs/sha256").join(hash)).unwrap();
        assert_eq!(sha256(&blob).unwrap(), hash);
        assert_eq!(descriptor["size"], blob.len());
        blob
    }

    fn parse(blob: &[u8]) -> Value {
        serde_json::from_slice(blob).unwrap()
    }

    #[test]
    fn digests_and_sizes_lead_from_the_name_to_each_layer() {
        let dir = TempDir::new("layout").unwrap();
        let folder = dir.path().join("image");
        let sizes = make(&folder);
        let entry = parse(&fs::read(folder.join("index.json")).unwrap());
        let named = &entry["manifests"][0];
        assert_eq!(named["annotations"]["org.opencontainers.image.ref.name"], "1.2.3");
        let index = parse(&follow(&folder, named));
        for (number, name) in ["amd64", "arm64"].iter().enumerate() {
            let descriptor = &index["manifests"][number];
            assert_eq!(descriptor["platform"]["architecture"], *name);
            let manifest_bytes = follow(&folder, descriptor);
            let manifest = parse(&manifest_bytes);
            let config_bytes = follow(&folder, &manifest["config"]);
            let layer = follow(&folder, &manifest["layers"][0]);
            assert_eq!(sizes[number], manifest_bytes.len() + config_bytes.len() + layer.len());
            let config = parse(&config_bytes);
            assert_eq!(config["architecture"], *name);
            assert_eq!(config["rootfs"]["diff_ids"][0], digest(ARCHIVE).unwrap());
            let mut gunzip = Command::new("gzip");
            gunzip.arg("-d");
            assert_eq!(harness_core::run_with_input(gunzip, &layer).unwrap(), ARCHIVE);
        }
    }

    #[test]
    fn the_same_layers_make_the_same_bytes() {
        let dir = TempDir::new("layout").unwrap();
        let folder = dir.path().join("image");
        make(&folder);
        let first = files(&folder);
        make(&folder);
        // oci-layout, index.json, the index; and of each image manifest, config and the one layer.
        assert_eq!(first.len(), 3 + 2 * 2 + 1);
        assert!(first == files(&folder));
    }
}
