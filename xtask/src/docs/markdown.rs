//! What a page says that can be checked: blocks, code within the text, links, headings.

use std::collections::HashMap;

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

/// Fenced code.
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
        let (mut heading, mut seen) = (String::new(), HashMap::new());
        let mut paragraph: Option<Piece> = None;
        let mut lines = text.lines().zip(1..);
        while let Some((line, number)) = lines.next() {
            if let Some(info) = line.trim_start().strip_prefix("```") {
                let mut words = info.split_whitespace().map(str::to_owned);
                let mut inside = String::new();
                for (line, _) in lines.by_ref().take_while(|(line, _)| line.trim() != "```") {
                    inside += line;
                    inside.push('\n');
                }
                let language = words.next().unwrap_or_default();
                let (marks, heading) = (words.collect(), heading.clone());
                page.blocks.push(Block { line: number, language, marks, heading, text: inside });
            } else if let Some(title) = heading_of(line) {
                page.anchors.push(anchor(title, &mut seen));
                title.clone_into(&mut heading);
            } else if !line.trim().is_empty() {
                // A table's row stands for itself; what wraps is one.
                let alone = line.trim_start().starts_with(['|', '-', '*']);
                match paragraph.as_mut().filter(|_| !alone) {
                    Some(piece) => piece.text += &format!("\n{line}"),
                    None => page.read(paragraph.replace(Piece { line: number, text: line.to_owned() })),
                }
                continue;
            }
            page.read(paragraph.take());
            if let Some(title) = heading_of(line) {
                page.read(Some(Piece { line: number, text: title.to_owned() }));
            }
        }
        page.read(paragraph);
        page
    }

    /// Finds code and links in a paragraph.
    fn read(&mut self, paragraph: Option<Piece>) {
        let Some(Piece { line, text }) = paragraph else { return };
        let at = |offset: usize| line + text[..offset].matches('\n').count();
        let mut prose = text.clone();
        let mut from = 0;
        while let Some((start, end)) = code(&prose, from) {
            let inside = prose[start..end].trim_matches('`').trim().replace('\n', " ");
            self.code.push(Piece { line: at(start), text: inside });
            // Whatever looks like a link in there is none.
            let blank = prose[start..end].replace(|c: char| c != '\n' && c != '`', "_");
            let blank: String = blank.chars().chain(std::iter::repeat(' ')).take(end - start).collect();
            prose.replace_range(start..end, &blank);
            from = end;
        }
        for (offset, _) in prose.match_indices("](") {
            let target = &text[offset + 2..];
            if let Some(end) = target.find(')') {
                self.links.push(Piece { line: at(offset), text: target[..end].replace('\n', "") });
            }
        }
    }
}

/// The next code from `from` on, backticks included.
fn code(text: &str, from: usize) -> Option<(usize, usize)> {
    let start = from + text.get(from..)?.find('`')?;
    let ticks = text[start..].bytes().take_while(|b| *b == b'`').count();
    let fence = &text[start..start + ticks];
    let end = start + ticks + text[start + ticks..].find(fence)? + ticks;
    Some((start, end))
}

fn heading_of(line: &str) -> Option<&str> {
    let title = line.trim_start_matches('#');
    (title.len() < line.len()).then(|| title.strip_prefix(' ')).flatten()
}

/// GitHub's: lower case, of signs only hyphens and underscores, hyphens for spaces, a number at what is there already.
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
