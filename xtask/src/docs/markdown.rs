//! What a page says that can be checked: blocks, code within the text, links, headings.

use std::collections::HashMap;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// A Markdown file of ours. Lines count from 1.
pub struct Page {
    /// From the repository's root on.
    pub path: String,
    pub blocks: Vec<Block>,
    /// Code within the text, a line break in it being a space.
    pub code: Vec<Piece>,
    /// Where links lead to.
    pub links: Vec<Piece>,
    /// As GitHub makes them of headings.
    pub anchors: Vec<String>,
}

/// Code by itself.
pub struct Block {
    /// Of the fence.
    pub line: usize,
    pub language: String,
    /// What follows the language on the fence's line.
    pub marks: Vec<String>,
    /// The heading above it.
    pub heading: String,
    pub text: String,
}

pub struct Piece {
    pub line: usize,
    pub text: String,
}

impl Page {
    pub fn parse(path: &str, text: &str) -> Self {
        let mut page = Self {
            path: path.to_owned(),
            blocks: Vec::new(),
            code: Vec::new(),
            links: Vec::new(),
            anchors: Vec::new(),
        };
        let line = |at: usize| text[..at].matches('\n').count() + 1;
        let (mut heading, mut seen) = (String::new(), HashMap::new());
        let mut block: Option<Block> = None;
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            let line = line(range.start);
            match event {
                Event::Start(Tag::Heading { .. }) => {
                    heading = text[range].trim_start_matches('#').trim().to_owned();
                    page.anchors.push(anchor(&heading, &mut seen));
                }
                Event::Start(Tag::CodeBlock(kind)) => block = Some(Block::new(line, &kind, &heading)),
                Event::End(TagEnd::CodeBlock) => page.blocks.extend(block.take()),
                Event::Text(inside) => {
                    if let Some(block) = &mut block {
                        block.text += &inside;
                    }
                }
                Event::Code(inside) => page.code.push(Piece { line, text: inside.trim().to_owned() }),
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(Piece { line, text: dest_url.into_string() });
                }
                _ => {}
            }
        }
        page
    }
}

impl Block {
    fn new(line: usize, kind: &CodeBlockKind<'_>, heading: &str) -> Self {
        let info = if let CodeBlockKind::Fenced(info) = kind { &**info } else { "" };
        let mut words = info.split_whitespace().map(str::to_owned);
        let language = words.next().unwrap_or_default();
        Self { line, language, marks: words.collect(), heading: heading.to_owned(), text: String::new() }
    }
}

/// GitHub's: lower case, of signs only hyphens and underscores, hyphens for spaces, a number at
/// what is there already.
fn anchor(title: &str, seen: &mut HashMap<String, usize>) -> String {
    let kept = title.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
    let before = seen.entry(anchor.clone()).or_insert(0);
    *before += 1;
    if *before == 1 { anchor } else { format!("{anchor}-{}", *before - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_taken_apart() {
        let text = "# A `b`: c\n\nText `code over\ntwo lines` and [a link](x.md#y).\n`[no](link)`\n\n\
                    ```sh needs=live\n# no heading\nls `x`\n```\n\n## Same\n## Same\n| `cell` | [z](#same-1) |\n";
        let page = Page::parse("x.md", text);
        assert_eq!(page.anchors, ["a-b-c", "same", "same-1"]);
        let pieces = |pieces: &[Piece]| pieces.iter().map(|p| (p.line, p.text.clone())).collect::<Vec<_>>();
        let code = [(1, "b"), (3, "code over two lines"), (5, "[no](link)"), (14, "cell")];
        assert_eq!(pieces(&page.code), code.map(|(line, text)| (line, text.to_owned())));
        let links = [(4, "x.md#y"), (14, "#same-1")];
        assert_eq!(pieces(&page.links), links.map(|(line, text)| (line, text.to_owned())));
        let [block] = &page.blocks[..] else { panic!("{} blocks", page.blocks.len()) };
        assert_eq!(
            (block.line, &*block.language, &*block.marks, &*block.text),
            (7, "sh", &["needs=live".to_owned()][..], "# no heading\nls `x`\n")
        );
    }
}
