//! Texts that a pattern matches: the names that it spells out, and samples of what it leaves open.

use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

/// Stands for any host in a [`Word`].
pub const HOST: char = '\u{e100}';
/// Invented characters are shifted up by that, so that no invented name passes for one that is
/// written.
const INVENTED: u32 = 0xe000;
/// The most words of one pattern.
const MAX_WORDS: usize = 1 << 17;
/// The longest word.
const MAX_WORD_BYTES: usize = 1024;
/// A class of more characters is open: one of them stands for all.
const MAX_CLASS_CHARS: usize = 16;
/// What is repeated more often than that is open.
const MAX_REPEATS: u32 = 8;

/// A text that a pattern matches, or the part of a text that it asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    text: String,
    /// The match begins where the text begins.
    pub is_at_start: bool,
    /// It ends where the text ends.
    pub is_at_end: bool,
}

impl Word {
    /// A text that is written as it is.
    pub fn literal(text: &str) -> Self {
        Self { text: text.to_owned(), is_at_start: true, is_at_end: true }
    }

    /// The text with its invented characters, and `host` where any would do.
    pub fn with_host(text: &str, host: &str) -> String {
        let mut all = String::with_capacity(text.len() + host.len());
        for c in text.chars() {
            match u32::from(c).checked_sub(INVENTED).and_then(|code| u8::try_from(code).ok()) {
                _ if c == HOST => all.push_str(host),
                Some(byte) => all.push(char::from(byte)),
                None => all.push(c),
            }
        }
        all
    }

    /// The text, invented characters and [`HOST`] as placeholders.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether every character of `text` is one that the pattern spells out.
    pub fn is_spelled_out(text: &str) -> bool {
        !text.chars().any(|c| (INVENTED..=u32::from(HOST)).contains(&u32::from(c)))
    }

    /// The host that it names, if that could be the first segment of a path.
    pub fn host(&self) -> Option<&str> {
        let segment = self.text.strip_prefix('/').unwrap_or(&self.text);
        let segment = segment.split(['/', '?', ' ']).next()?;
        (!segment.is_empty() && Self::is_spelled_out(segment)).then_some(segment)
    }
}

/// What a pattern matches, in words.
#[derive(Debug, Default)]
pub struct KnownWords {
    pub words: Vec<Word>,
    /// There were too many, or too long ones.
    pub is_cut: bool,
    /// A class stands for more characters than the words have.
    is_narrowed: bool,
}

impl KnownWords {
    pub fn new(hir: &Hir) -> Self {
        let mut all = Self::default();
        all.words = all.extend(vec![Word::default()], hir);
        all
    }

    /// The texts that the pattern matches, where it matches a few whole texts and nothing else.
    pub fn whole_texts(&self) -> Option<Vec<String>> {
        let is_whole = |word: &Word| word.is_at_start && word.is_at_end && Word::is_spelled_out(&word.text);
        let is_exact = !self.is_cut && !self.is_narrowed && self.words.iter().all(is_whole);
        is_exact.then(|| self.words.iter().map(|word| word.text.clone()).collect())
    }

    /// Each of `words` followed by each text that `hir` matches.
    fn extend(&mut self, words: Vec<Word>, hir: &Hir) -> Vec<Word> {
        match hir.kind() {
            HirKind::Empty => words,
            HirKind::Literal(literal) => {
                let text = String::from_utf8_lossy(&literal.0).into_owned();
                self.append(words, &[text])
            }
            HirKind::Class(class) => {
                let members = self.members(class);
                self.append(words, &members)
            }
            HirKind::Look(Look::Start | Look::StartLF) => {
                let at_start = words.into_iter().filter(|word| word.text.is_empty());
                at_start.map(|word| Word { is_at_start: true, ..word }).collect()
            }
            HirKind::Look(Look::End | Look::EndLF) => {
                words.into_iter().map(|word| Word { is_at_end: true, ..word }).collect()
            }
            HirKind::Look(_) => {
                self.is_narrowed = true;
                words
            }
            HirKind::Capture(capture) => self.extend(words, &capture.sub),
            HirKind::Concat(parts) => parts.iter().fold(words, |words, part| self.extend(words, part)),
            HirKind::Alternation(branches) => {
                let mut all = Vec::new();
                for branch in branches {
                    all.extend(self.extend(words.clone(), branch));
                    if all.len() > MAX_WORDS {
                        self.is_cut = true;
                        break;
                    }
                }
                all
            }
            HirKind::Repetition(repetition) => self.repeat(words, repetition),
        }
    }

    fn repeat(&mut self, words: Vec<Word>, repetition: &Repetition) -> Vec<Word> {
        let is_open = repetition.max.is_none_or(|max| max > MAX_REPEATS);
        self.is_narrowed |= repetition.max.is_none_or(|max| max > 1);
        let mut all = Vec::new();
        if repetition.min == 0 {
            all.extend(words.iter().cloned());
        }
        match repetition.sub.kind() {
            HirKind::Class(class) if is_open => {
                let mut texts =
                    vec![invented(class).to_string().repeat(repetition.min.clamp(1, 64) as usize)];
                if b"az09-.".iter().all(|byte| has(class, *byte)) {
                    texts.push(HOST.to_string());
                }
                all.extend(self.append(words, &texts));
            }
            _ => {
                let mut repeated = words;
                for _ in 0..repetition.min.clamp(1, MAX_REPEATS) {
                    repeated = self.extend(repeated, &repetition.sub);
                }
                all.extend(repeated);
            }
        }
        all
    }

    fn append(&mut self, words: Vec<Word>, texts: &[String]) -> Vec<Word> {
        let mut all = Vec::new();
        for word in words.into_iter().filter(|word| !word.is_at_end) {
            for text in texts {
                if all.len() >= MAX_WORDS || word.text.len() + text.len() > MAX_WORD_BYTES {
                    self.is_cut = true;
                    return all;
                }
                all.push(Word { text: [&*word.text, text].concat(), ..word.clone() });
            }
        }
        all
    }

    /// The characters of a class as texts: each of them if there are few, else one for all.
    fn members(&mut self, class: &Class) -> Vec<String> {
        let all: Vec<u8> = (0x21..0x7f).filter(|byte| has(class, *byte)).collect();
        // An unescaped dot in `a.example` means a dot.
        if all.len() > 80 && all.contains(&b'.') {
            self.is_narrowed = true;
            return vec![".".to_owned()];
        }
        let has_lower = |byte: &u8| byte.is_ascii_uppercase() && all.contains(&byte.to_ascii_lowercase());
        let bytes: Vec<u8> = all.iter().copied().filter(|byte| !has_lower(byte)).collect();
        self.is_narrowed |= bytes.len() < all.len();
        if bytes.is_empty() || bytes.len() > MAX_CLASS_CHARS {
            return vec![invented(class).to_string()];
        }
        bytes.iter().map(|byte| char::from(*byte).to_string()).collect()
    }
}

/// One character for all of a class.
fn invented(class: &Class) -> char {
    let likely = b"x0_-".iter().copied().find(|byte| has(class, *byte));
    let byte = likely.or_else(|| (0x21..0x7f).find(|byte| has(class, *byte))).unwrap_or(b'x');
    char::from_u32(INVENTED + u32::from(byte)).unwrap_or('x')
}

fn has(class: &Class, byte: u8) -> bool {
    match class {
        Class::Unicode(class) => {
            let c = char::from(byte);
            class.iter().any(|range| (range.start()..=range.end()).contains(&c))
        }
        Class::Bytes(class) => class.iter().any(|range| (range.start()..=range.end()).contains(&byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::pattern::Pattern;

    fn hosts(pattern: &str) -> Vec<String> {
        let words = KnownWords::new(Pattern::new(pattern, false).hir.as_ref().unwrap());
        let mut hosts: Vec<String> = words.words.iter().filter_map(Word::host).map(str::to_owned).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }

    #[test]
    fn names_that_patterns_spell_out() {
        for (pattern, expected) in [
            (r"^/(a\.example|b-c\.example)(/.*)$", vec!["a.example", "b-c.example"]),
            (r"^chatwoot.example.com$", vec!["chatwoot.example.com"]),
            (r"^(?<h>a\.example)(?<p>/.*)$", vec!["a.example"]),
            (r"^(a|b)\.example\.com$", vec!["a.example.com", "b.example.com"]),
            (r"^/chat-(?:a|b)\.example(?<p>/.*)$", vec!["chat-a.example", "chat-b.example"]),
            (r"^/n[1-3]\.example/", vec!["n1.example", "n2.example", "n3.example"]),
            (r"^/(?<h>[^/]+)(?<p>/.*)$", vec![]),
            (r"^[a-z]+\.example\.com$", vec![]),
            (r"\.example\.com$", vec![".example.com"]),
        ] {
            assert_eq!(hosts(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn samples_have_a_place_for_any_host() {
        let words = KnownWords::new(Pattern::new("^/[^/]+/(admin|app)(/|$)", false).hir.as_ref().unwrap());
        let texts: Vec<String> =
            words.words.iter().map(|word| Word::with_host(word.text(), "h.example")).collect();
        assert!(texts.contains(&"/h.example/admin/".to_owned()), "{texts:?}");
        assert!(texts.contains(&"/x/app".to_owned()), "{texts:?}");
        assert!(!words.is_cut);
    }
}
