/// What a value is made of, by the names of [`MEMBERS`], or a text of [`TEXTS`]. `[`: an array.
type Shape = &'static str;

/// Members of each object, more often used ones more often.
const MEMBERS: [(Shape, &[(&str, Shape)]); 13] = [
    ("body", &[("object", "object"), ("entry", "[entry")]),
    (
        "entry",
        &[
            ("id", "number"),
            ("time", "time"),
            ("changes", "[change"),
            ("messaging", "[item"),
            ("standby", "[item"),
        ],
    ),
    ("change", &[("field", "field"), ("value", "value")]),
    (
        "value",
        &[
            ("id", "id"),
            ("metadata", "metadata"),
            ("messages", "[message"),
            ("statuses", "[status"),
            ("message_echoes", "[message"),
        ],
    ),
    ("metadata", &[("phone_number_id", "number")]),
    ("message", &[("id", "id"), ("from", "id"), ("timestamp", "time"), ("errors", "[errors")]),
    (
        "status",
        &[
            ("id", "id"),
            ("status", "status"),
            ("recipient_id", "id"),
            ("recipient_user_id", "id"),
            ("timestamp", "time"),
            ("errors", "[errors"),
        ],
    ),
    ("errors", &[("title", "error"), ("error_data", "errors"), ("errors", "[errors")]),
    (
        "item",
        &[
            ("sender", "part"),
            ("timestamp", "time"),
            ("message", "part"),
            ("message_edit", "part"),
            ("reaction", "part"),
            ("postback", "part"),
            ("read", "part"),
            ("delivery", "delivery"),
        ],
    ),
    (
        "part",
        &[("mid", "id"), ("id", "id"), ("watermark", "time"), ("num_edit", "id"), ("is_deleted", "bool")],
    ),
    ("delivery", &[("mids", "[id"), ("watermark", "time")]),
    ("any", &[("id", "any"), ("entry", "[any"), ("", "any"), ("é\u{1}\"", "any"), ("mid", "id")]),
    ("empty", &[("a", "empty")]),
];

const TEXTS: [(Shape, &[&str]); 9] = [
    ("object", &["whatsapp_business_account", "whatsapp_business_account", "page", "instagram", "user"]),
    ("field", &["messages", "messages", "messages", "standby", "x_standby_y", "history", "Messages", ""]),
    ("status", &["sent", "delivered", "read", "played", "failed", "sen", "sent "]),
    ("number", &["106540998877661", "17", "1 7", "é", "", "#7", "#184467440737095516160"]),
    (
        "time",
        &["1795539600", "#1795539600", "#1795539700210", "0", "#-1", "#1.5", "99999999999", "100000000000"],
    ),
    ("id", &["wamid.A==", "m_b", "m_b", "", "7", "#7", "\u{1f33b}", "a\"}],\"id\":\"b", "#-0", "#1e2", "\\"]),
    ("error", &["fwdproxy", "ratelimit by ffwdproxy.", "fwdprox", "fwd\u{0}proxy", "FWDPROXY"]),
    ("bool", &["#true", "#true", "#false", "true", "#null"]),
    ("any", &["", "x", "\u{e9}", "{\"entry\":[", "#null", "#1e10", "[", "\u{7f}"]),
];

/// Bounds of what UTF-8 sequences are made of.
const SEQUENCE_BYTES: [u8; 16] =
    [0x20, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1, 0xc2, 0xdf, 0xe0, 0xed, 0xef, 0xf0, 0xf4, 0xf5];

const MAX_DEPTH: usize = 70;

/// A document made as the bytes choose, as they are used up.
pub fn document(choices: &[u8]) -> Vec<u8> {
    let mut writer = Writer { choices, out: Vec::new() };
    writer.value("body", 0);
    writer.out
}

struct Writer<'c> {
    choices: &'c [u8],
    out: Vec<u8>,
}

impl Writer<'_> {
    /// Less than `count`; 0 when all bytes are used up.
    fn choose(&mut self, count: usize) -> usize {
        let Some((byte, rest)) = self.choices.split_first() else { return 0 };
        self.choices = rest;
        usize::from(*byte) % count
    }

    fn value(&mut self, shape: Shape, depth: usize) {
        let is_other = self.choose(32) == 31;
        let shape = if is_other { self.other_shape() } else { shape };
        if let Some(item) = shape.strip_prefix('[') {
            return self.list(b"[]", depth, |writer| writer.value(item, depth + 1));
        }
        let members = MEMBERS.iter().find(|(name, _)| *name == shape).map(|(_, members)| *members);
        let texts = TEXTS.iter().find(|(name, _)| *name == shape).map(|(_, texts)| *texts);
        let is_object = texts.is_none() || members.is_some() && self.choose(2) == 1;
        match (members, texts) {
            (Some(members), _) if is_object => self.list(b"{}", depth, |writer| {
                let (name, shape) = members[writer.choose(members.len())];
                writer.string(name);
                writer.out.push(b':');
                writer.value(shape, depth + 1);
            }),
            (_, Some(texts)) => {
                let text = texts[self.choose(texts.len())];
                match text.strip_prefix('#') {
                    Some(bare) => self.out.extend_from_slice(bare.as_bytes()),
                    None => self.string(text),
                }
            }
            _ => self.out.extend_from_slice(b"null"),
        }
    }

    fn other_shape(&mut self) -> Shape {
        let arrays = ["[any", "[id", "[message", "[empty"];
        match self.choose(3) {
            0 => arrays[self.choose(arrays.len())],
            1 => MEMBERS[self.choose(MEMBERS.len())].0,
            _ => TEXTS[self.choose(TEXTS.len())].0,
        }
    }

    fn list(&mut self, brackets: &[u8; 2], depth: usize, mut item: impl FnMut(&mut Self)) {
        self.out.push(brackets[0]);
        let count = if depth < MAX_DEPTH { self.choose(8) } else { 0 };
        for index in 0..count {
            if index > 0 {
                self.out.push(b',');
            }
            if self.choose(16) == 15 {
                self.out.extend_from_slice(b" \n\t\r");
            }
            item(self);
        }
        self.out.push(brackets[1]);
    }

    /// Characters are escaped as one byte chooses for all.
    fn string(&mut self, text: &str) {
        let escapes = self.choose(16);
        self.out.push(b'"');
        if !text.is_ascii() && self.choose(4) == 3 {
            let raw = [0; 3].map(|_| SEQUENCE_BYTES[self.choose(SEQUENCE_BYTES.len())]);
            self.out.extend_from_slice(&raw);
        }
        // Longer than any buffer, from time to time.
        let repeat = if escapes == 14 && text.starts_with("m_") { 100 + self.choose(200) } else { 1 };
        for (index, character) in text.repeat(repeat).chars().enumerate() {
            let is_special = character < ' ' || "\"\\".contains(character);
            if is_special || escapes == 15 && index % 3 == 0 {
                let units = &mut [0; 2];
                for unit in character.encode_utf16(units) {
                    self.out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                }
            } else {
                self.out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        self.out.push(b'"');
    }
}
