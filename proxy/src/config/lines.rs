use std::fmt;

/// A line and a column, from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Where the lines of a text begin: found once, however many places are asked for.
pub(super) struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        let newlines = memchr::memchr_iter(b'\n', text.as_bytes());
        Self { starts: std::iter::once(0).chain(newlines.map(|at| at + 1)).collect() }
    }

    /// The place of a byte of the same text; the end of the text, if that is nearer or it is none
    /// that a character begins with.
    pub(super) fn place(&self, text: &str, offset: usize) -> Place {
        let before = text.get(..offset).unwrap_or(text);
        let line = self.starts.partition_point(|start| *start <= before.len());
        let column = before[self.starts[line - 1]..].chars().count() + 1;
        Place { line, column }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters() {
        let text = "é=1\r\n\nb = 2";
        let lines = Lines::of(text);
        for (offset, line, column) in [(0, 1, 1), (2, 1, 2), (6, 2, 1), (7, 3, 1), (12, 3, 6), (99, 3, 6)] {
            assert_eq!(lines.place(text, offset), Place { line, column }, "{offset}");
        }
        assert_eq!(Lines::of("").place("", 0), Place { line: 1, column: 1 });
    }
}
