use std::collections::HashSet;
use std::fmt;

/// Which setting is meant: the way to it from the top of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    /// A host of `[upstreams]`, in lower case, however it is written.
    Host(String),
    /// An element of a list, from 0.
    Element(usize),
}

impl Key {
    /// One that is known when this is compiled, such as `tls.cert`.
    pub fn new(path: &'static str) -> Self {
        Self(path.split('.').map(|key| Step::Key(key.to_owned())).collect())
    }

    /// An upstream's entry.
    pub fn upstream(host: &str) -> Self {
        Self(vec![Step::Key("upstreams".into()), Step::Host(host.to_owned())])
    }

    /// A key of the table that this one leads to.
    pub fn key(mut self, key: &'static str) -> Self {
        self.0.push(Step::Key(key.to_owned()));
        self
    }

    /// An element of the list that this one leads to, from 0.
    pub fn element(mut self, number: usize) -> Self {
        self.0.push(Step::Element(number));
        self
    }

    /// Whether it is one of `keys`, spelled as messages do, or stands below one.
    pub fn is_in(&self, keys: &HashSet<String>) -> bool {
        (1..=self.0.len()).any(|steps| keys.contains(&Self(self.0[..steps].to_vec()).to_string()))
    }

    /// Whether it is an upstream's, or of one.
    pub fn names_host(&self) -> bool {
        self.0.iter().any(|step| matches!(step, Step::Host(_)))
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }
}

/// As messages spell it: a value in a list is told from the others by its place alone.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.0.len() - 1;
        for (n, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if n == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Host(host) => write!(f, ".\"{host}\"")?,
                Step::Element(number) if n < last => write!(f, "[{number}]")?,
                Step::Element(_) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_as_they_are_written() {
        for (key, expected) in [
            (Key::new("tls.cert"), "tls.cert"),
            (Key::new("tls.certs").element(1).key("key"), "tls.certs[1].key"),
            (Key::new("listen.https").element(1), "listen.https"),
            (Key::upstream("a.example").key("ca"), "upstreams.\"a.example\".ca"),
        ] {
            assert_eq!(key.to_string(), expected);
        }
    }

    #[test]
    fn keys_stand_below_others() {
        let told = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        let key = || Key::new("tls.certs").element(1).key("key");
        for above in ["tls", "tls.certs", "tls.certs[1].key"] {
            assert!(key().is_in(&told(&["listen", above])), "{above}");
        }
        assert!(!key().is_in(&told(&["tls.cert", "tls.certs[0].key", "tls.certs[1].key.more"])));
    }
}
