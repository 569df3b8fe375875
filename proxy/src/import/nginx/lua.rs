//! Lua within nginx's configuration: where a block of it ends.

/// Skips Lua up to the bracket that closes the block; its strings and comments may hold brackets.
/// `next` takes a character. False: the block is never closed.
pub fn skip_block(next: &mut dyn FnMut() -> Option<char>) -> bool {
    let mut depth = 1_usize;
    let mut pending = None;
    loop {
        let Some(c) = pending.take().or_else(&mut *next) else { return false };
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return true;
                }
            }
            '"' | '\'' => skip_string(c, next),
            '[' => pending = skip_long_bracket(next),
            '-' => {
                pending = next();
                if pending == Some('-') {
                    pending = skip_comment(next);
                }
            }
            _ => {}
        }
    }
}

fn skip_string(quote: char, next: &mut dyn FnMut() -> Option<char>) {
    while let Some(c) = next() {
        match c {
            '\\' => drop(next()),
            end if end == quote => return,
            _ => {}
        }
    }
}

/// What follows `--`; the character after it, if it was read.
fn skip_comment(next: &mut dyn FnMut() -> Option<char>) -> Option<char> {
    let mut c = next();
    if c == Some('[') {
        // A long comment, or one that begins with a bracket.
        c = skip_long_bracket(next)?.into();
    }
    while c.is_some_and(|c| c != '\n') {
        c = next();
    }
    c
}

/// What follows `[`: the rest of a long string such as `[==[ … ]==]`; else the character after it.
fn skip_long_bracket(next: &mut dyn FnMut() -> Option<char>) -> Option<char> {
    let mut level = 0;
    let mut c = next();
    while c == Some('=') {
        level += 1;
        c = next();
    }
    if c != Some('[') {
        return c;
    }
    let mut ending = None;
    while let Some(c) = next() {
        ending = match (c, ending) {
            (']', Some(signs)) if signs == level => return None,
            (']', _) => Some(0),
            ('=', Some(signs)) => Some(signs + 1),
            _ => None,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_end_where_lua_says() {
        for (text, rest) in [
            ("a = {1, {2}} } x", " x"),
            ("s = '}' .. \"\\\"}\" } x", " x"),
            ("-- }\n} x", " x"),
            ("--[[ } ]] } x", " x"),
            ("--[==[ ]] } ]=] ]==] } x", " x"),
            ("t[1] = [[ } ]] } x", " x"),
            ("a = b[c[1]] - { } } x", " x"),
            ("a - -1 } x", " x"),
            ("--} \n } x", " x"),
            ("--[} \n } x", " x"),
        ] {
            let mut chars = text.chars();
            assert!(skip_block(&mut || chars.next()), "{text}");
            assert_eq!(chars.as_str(), rest, "{text}");
        }
        let mut chars = "a = '}' {}".chars();
        assert!(!skip_block(&mut || chars.next()));
    }
}
