use std::fmt::{Display, Write};

use super::counter::Counter;

/// Text in the Prometheus exposition format, version 0.0.4.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    family: String,
}

impl Exposition {
    /// What the format is called in Content-Type.
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// Begins a family; the samples that follow are its own. `kind`: counter, gauge or histogram.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.family.replace_range(.., name);
        self.push(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.suffixed_sample("", labels, value);
    }

    /// A sample only if something was counted.
    pub fn used_sample(&mut self, labels: &[(&str, &str)], count: &Counter) {
        if count.value() > 0 {
            self.sample(labels, count.value());
        }
    }

    /// A sample of the family's name with `suffix`, as histograms have them.
    pub fn suffixed_sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(&self.family);
        self.text.push_str(suffix);
        for (index, (name, value)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            for character in value.chars() {
                match character {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
        }
        let end = if labels.is_empty() { "" } else { "}" };
        self.push(format_args!("{end} {value}\n"));
    }

    pub fn into_text(self) -> String {
        self.text
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String does not fail.
        let _ = self.text.write_fmt(text);
    }
}
