//! A filter's text as its words and signs.

use hoist_domain::Result;

use super::{Operator, wrong};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Open,
    Close,
    Minus,
    Operator(Operator),
    Word(String),
    Quoted(String),
}

impl Token {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Open => "(",
            Self::Close => ")",
            Self::Minus => "-",
            Self::Operator(_) => "an operator",
            Self::Word(text) | Self::Quoted(text) => text,
        }
    }
}

pub(super) fn tokens(text: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(&c) = chars.peek() {
        let operator = match c {
            c if c.is_whitespace() => {
                chars.next();
                continue;
            }
            '(' => Token::Open,
            ')' => Token::Close,
            ':' => Token::Operator(Operator::Has),
            '=' => Token::Operator(Operator::Equal),
            '!' | '<' | '>' => {
                chars.next();
                let with_equal = chars.next_if_eq(&'=').is_some();
                tokens.push(Token::Operator(match (c, with_equal) {
                    ('!', true) => Operator::NotEqual,
                    ('<', false) => Operator::Less,
                    ('<', true) => Operator::LessEqual,
                    ('>', false) => Operator::Greater,
                    ('>', true) => Operator::GreaterEqual,
                    _ => return Err(wrong("`!` stands only before `=`; use NOT")),
                }));
                continue;
            }
            '"' | '\'' => {
                chars.next();
                tokens.push(Token::Quoted(quoted(&mut chars, c)?));
                continue;
            }
            '-' if !matches!(tokens.last(), Some(Token::Operator(_))) => Token::Minus,
            _ => {
                let mut word = String::new();
                let ends = |c: char, word: &str| {
                    c.is_whitespace() || "()=!<>\"'".contains(c) || c == ':' && !is_time(word)
                };
                while let Some(c) = chars.next_if(|c| !ends(*c, &word)) {
                    word.push(c);
                }
                tokens.push(Token::Word(word));
                continue;
            }
        };
        chars.next();
        // `==` is what programmers write.
        if operator == Token::Operator(Operator::Equal) {
            chars.next_if_eq(&'=');
        }
        tokens.push(operator);
    }
    Ok(tokens)
}

/// Whether a word begins as `2026-11-01T12`: then a colon is part of it, and people need no quotation marks.
fn is_time(word: &str) -> bool {
    word.len() >= "2026-11-01T12".len()
        && word.bytes().zip("0000-00-00T00".bytes()).all(|(byte, pattern)| {
            if pattern == b'0' { byte.is_ascii_digit() } else { byte.eq_ignore_ascii_case(&pattern) }
        })
}

fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, quote: char) -> Result<String> {
    let mut text = String::new();
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.push(chars.next().ok_or_else(|| wrong("a backslash at the end"))?),
            c if c == quote => return Ok(text),
            c => text.push(c),
        }
    }
    Err(wrong("a quotation mark is not closed"))
}
