//! `hookgate import`, on set-ups of several shapes, each of which the other server itself takes.

mod differential;
mod peer;
mod random;
mod shapes;
mod size;
mod testbed;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use harness::{Certs, Need, NetNs, TempDir, require, run};

/// A copy of one of `data/nginx`, with the certificates that it names.
struct Shape {
    dir: TempDir,
    data: PathBuf,
}

impl Shape {
    fn new(name: &str) -> Result<Self> {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/nginx").join(name);
        let dir = TempDir::new("import")?;
        for certificate in ["proxy", "rsa"] {
            Certs::new(&["proxy.example.com"])?.write(&dir, certificate)?;
        }
        copy(&data, dir.path(), &dir.path().display().to_string())?;
        Ok(Self { dir, data })
    }

    fn import(&self) -> Result<Output> {
        let mut command = Command::new(harness::binary()?);
        Ok(command.args(["import", "nginx"]).arg(self.dir.path().join("nginx.conf")).output()?)
    }
}

/// Copies a folder; `@DIR@` in its files becomes `place`.
fn copy(from: &Path, to: &Path, place: &str) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy(&entry.path(), &target, place)?;
        } else {
            fs::write(target, fs::read_to_string(entry.path())?.replace("@DIR@", place))?;
        }
    }
    Ok(())
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_nginx_takes_becomes_what_hookgate_takes() -> Result<()> {
    // nginx binds what it is told to listen on, also when it only tests.
    let ns = if require(&[Need::Root, Need::Program("nginx")]) { Some(NetNs::new()?) } else { None };
    for name in ["map", "debian", "backends", "fixed", "pattern", "plain", "both"] {
        let shape = Shape::new(name)?;
        if let Some(ns) = &ns {
            let mut nginx = ns.command("nginx");
            nginx.args(["-t", "-e", "stderr", "-p"]).arg(shape.dir.path());
            nginx.arg("-c").arg(shape.dir.path().join("nginx.conf"));
            run(nginx).with_context(|| format!("nginx refuses {name}"))?;
        }
        let output = shape.import()?;
        let (toml, said) = (text_of(&output.stdout), text_of(&output.stderr));
        ensure!(output.status.success(), "{name}: {said}{toml}");
        assert!(!said.contains("to correct by hand"), "{name}: {said}");
        if name == "plain" {
            assert!(
                said.starts_with(
                    "1 upstream; differences: 0 open now, 1 elsewhere or left out, 1 set differently, "
                ),
                "{said}"
            );
        }
        let file = shape.data.join("hookgate.toml");
        let told = toml.replace(&shape.dir.path().display().to_string(), "@DIR@");
        let expected = fs::read_to_string(&file)?;
        assert!(told == expected, "{name}: expected {}, but:\n{told}", file.display());

        let config = shape.dir.write("imported.toml", &toml)?;
        let mut check = Command::new(harness::binary()?);
        check.arg("check").arg("--config").arg(config);
        run(check).with_context(|| format!("{name}:\n{toml}"))?;
    }
    Ok(())
}

#[test]
fn what_can_not_be_read_is_told_where() -> Result<()> {
    let dir = TempDir::new("import")?;
    let import = |file: &Path| -> Result<(Option<i32>, String)> {
        let output = Command::new(harness::binary()?).args(["import", "nginx"]).arg(file).output()?;
        Ok((output.status.code(), text_of(&output.stderr)))
    };
    for (content, expected) in [
        ("http {\n server {\n", "broken.conf:2: this block is never closed"),
        ("user a\n;}\n", "broken.conf:2: a `}` too many"),
        ("server { listen 80; location / { return 200; } }", "no host is carried over"),
    ] {
        let (code, said) = import(&dir.write("broken.conf", content)?)?;
        assert_eq!(code, Some(1), "{content}");
        assert!(said.contains(expected), "{content}: {said}");
    }
    let (code, said) = import(&dir.path().join("absent.conf"))?;
    assert_eq!((code, said.contains("absent.conf: No such file")), (Some(1), true), "{said}");
    let (code, said) = import(Path::new("/dev/zero"))?;
    assert_eq!((code, said.contains("/dev/zero: not a regular file")), (Some(1), true), "{said}");
    // Its holes take no room on the disk; and a file that includes itself twice.
    let endless = dir.write("endless.conf", "")?;
    fs::File::options().write(true).open(&endless)?.set_len(1 << 40)?;
    let again = format!("# {}\ninclude again.conf;\ninclude again.conf;\n", "x".repeat(4000));
    for file in [endless, dir.write("again.conf", again)?] {
        let (code, said) = import(&file)?;
        assert_eq!((code, said.contains("bytes are read at most")), (Some(1), true), "{said}");
    }
    assert_eq!(Command::new(harness::binary()?).args(["import", "nginx"]).output()?.status.code(), Some(2));
    Ok(())
}

#[test]
fn what_is_open_must_be_accepted() -> Result<()> {
    let dir = TempDir::new("import")?;
    let import = |text: &str, arguments: &[&str]| -> Result<(Option<i32>, String, String)> {
        let file = dir.write("nginx.conf", text)?;
        let mut command = Command::new(harness::binary()?);
        let output = command.args(["import", "nginx"]).arg(file).args(arguments).output()?;
        Ok((output.status.code(), text_of(&output.stdout), text_of(&output.stderr)))
    };
    let guarded = "server { listen 8080; location /a.example.com/ { deny 192.0.2.1; proxy_pass http://a.example.com/; } }";
    let unread = "server { listen 8080; location /a.example.com/ { include absent.conf; proxy_pass http://a.example.com/; } }";
    for (text, told) in [(guarded, "deny 192.0.2.1"), (unread, "include absent.conf")] {
        let (code, toml, said) = import(text, &[])?;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.starts_with("Closed in nginx, open here:\n  ") && said.contains(told), "{said}");
        assert!(said.contains("\n1 upstream; differences: 1 open now, "), "{said}");
        let [open, upstreams] = ["# Closed in nginx, open here:", "[upstreams]"].map(|line| toml.find(line));
        assert!(open.is_some() && open < upstreams, "{toml}");
        assert_eq!(import(text, &["--accept-open"])?.0, Some(0));
    }
    Ok(())
}

/// A file in Latin-1: the name that is not ASCII is left out, what stands beside it is not.
#[test]
fn other_encodings_are_read() -> Result<()> {
    let dir = TempDir::new("import")?;
    let text =
        b"# caf\xe9\nserver { listen 8080; location /a.example.com/ { proxy_pass http://a.example.com/; }\n\
                 location /caf\xe9.example/ { proxy_pass http://b.example.com/; } }";
    let file = dir.write("nginx.conf", text)?;
    let output = Command::new(harness::binary()?).args(["import", "nginx"]).arg(file).output()?;
    let toml = text_of(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{toml}");
    assert!(toml.contains("\"a.example.com\" = { tls = false }\n"), "{toml}");
    assert!(
        toml.contains("nginx.conf:3: location ") && toml.contains("left out: this name is not ASCII"),
        "{toml}"
    );
    Ok(())
}

#[test]
fn odd_files_of_caddy_and_haproxy_are_told() -> Result<()> {
    let dir = TempDir::new("import")?;
    let import = |server: &str, file: &Path| -> Result<(Option<i32>, String)> {
        let output = Command::new(harness::binary()?).args(["import", server]).arg(file).output()?;
        Ok((output.status.code(), text_of(&output.stderr)))
    };
    let deep = "a {\n".repeat(1 << 16);
    let again = "import again\nimport again\n".to_owned() + &"# x\n".repeat(1000);
    dir.write("again", &again)?;
    dir.write("bomb", "(a) {\nimport a\nimport a\nimport a\n}\n:80 {\nimport a\n}\n")?;
    for (server, content, expected) in [
        ("caddy", &b"\xff\x00\xfe {\n\x80\n"[..], "odd:1: this block is never closed"),
        ("caddy", b"a {\n}\n}\n", "odd:3: a `}` too many"),
        ("caddy", deep.as_bytes(), "odd:65: more than 64 blocks lie within one another"),
        ("caddy", b"import again\n", "again"),
        ("caddy", b"import bomb\n", "imports lead to too many directives"),
        ("caddy", b"", "no host is carried over"),
        ("caddy", b"http:// {\nimport absent\nrespond 404\n}\n", "no host is carried over"),
        ("haproxy", b"\xff\x00\xfe\n", "odd:1: this line belongs to no section"),
        ("haproxy", b"frontend f\n acl a 'b\n", "odd:2: this quote is never closed"),
        (
            "haproxy",
            b"frontend f\n bind\n acl\n use_backend\n server\n http-request\n",
            "no host is carried over",
        ),
        ("haproxy", b"", "no host is carried over"),
    ] {
        let (code, said) = import(server, &dir.write("odd", content)?)?;
        assert_eq!(code, Some(1), "{server}: {said}");
        ensure!(said.contains(expected), "{server}: expected {expected}: {said}");
    }
    for server in ["caddy", "haproxy"] {
        let (code, said) = import(server, dir.path())?;
        assert_eq!((code, said.contains("not a regular file")), (Some(1), true), "{said}");
        let (code, said) = import(server, &dir.path().join("absent"))?;
        assert_eq!((code, said.contains("No such file")), (Some(1), true), "{said}");
        let (code, said) = import(server, Path::new("/dev/zero"))?;
        assert_eq!((code, said.contains("not a regular file")), (Some(1), true), "{said}");
    }
    Ok(())
}

#[test]
fn what_is_open_of_caddy_and_haproxy_must_be_accepted() -> Result<()> {
    let dir = TempDir::new("import")?;
    let caddy = "http://:8080 {\n@x not remote_ip 192.0.2.0/24\nhandle_path /a.example.com/* {\nrespond @x 403\n\
                 reverse_proxy http://a.example.com {\nheader_up Host a.example.com\n}\n}\n}\n";
    let haproxy = "defaults\n mode http\nfrontend f\n bind :8080\n http-request deny if { src 192.0.2.1 }\n use_backend a if { path_beg /a.example.com/ }\n\
                   backend a\n http-request replace-path /[^/]*(/.*) \\1\n http-request set-header Host a.example.com\n server a a.example.com:80\n";
    for (server, title, text) in [("caddy", "Caddy", caddy), ("haproxy", "HAProxy", haproxy)] {
        let file = dir.write("file", text)?;
        let import = |arguments: &[&str]| -> Result<(Option<i32>, String)> {
            let mut command = Command::new(harness::binary()?);
            let output = command.args(["import", server]).arg(&file).args(arguments).output()?;
            Ok((output.status.code(), text_of(&output.stderr)))
        };
        let (code, said) = import(&[])?;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.starts_with(&format!("Closed in {title}, open here:\n  ")), "{said}");
        assert!(said.contains("\n1 upstream; differences: 1 open now, "), "{said}");
        assert_eq!(import(&["--accept-open"])?.0, Some(0));
    }
    Ok(())
}
