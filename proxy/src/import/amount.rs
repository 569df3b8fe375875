//! Values of settings, as hookgate's configuration has them.

use std::path::Path;

use toml_edit::{Array, Value};

use crate::config::Config;

/// A section and a key in it.
pub type Key = (&'static str, &'static str);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Amount {
    Milliseconds(u64),
    Number(u64),
    Texts(Vec<String>),
    File(String),
    Flag(bool),
}

pub const BODY_BYTES: Key = ("limits", "body_bytes");
/// Of an upstream alone.
pub const CA: Key = ("upstreams", "ca");

/// Why the configuration does not take a value.
pub fn refusal((section, key): Key, value: &Amount) -> Option<String> {
    if section == "upstreams" {
        return None;
    }
    let text = format!("[{section}]\n{key} = {}\n", value.toml());
    let problems = Config::parse(Path::new("hookgate.toml"), &text).err()?.0;
    let name = format!("{section}.{key}");
    problems.into_iter().find(|problem| problem.key.as_deref() == Some(&name)).map(|problem| problem.message)
}

impl Amount {
    pub fn toml(&self) -> Value {
        match self {
            Self::Milliseconds(milliseconds) if milliseconds % 1000 == 0 => {
                format!("{}s", milliseconds / 1000).into()
            }
            Self::Milliseconds(milliseconds) => format!("{milliseconds}ms").into(),
            Self::Number(number) => i64::try_from(*number).unwrap_or(i64::MAX).into(),
            Self::Texts(texts) => texts.iter().collect::<Array>().into(),
            Self::File(path) => path.as_str().into(),
            Self::Flag(flag) => (*flag).into(),
        }
    }
}
