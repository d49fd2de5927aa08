//! Filters over models, in the manner of AIP-160: `type = lora AND base = sdxl AND size_bytes < 2e9 AND tags:portrait`.
//!
//! Comparisons with `= != < <= > >= :`, joined by AND, OR (which binds closer) and NOT or `-`, grouped by parentheses.
//! A word without a field is looked for in names, tags, title, description and path. Text compares without regard to
//! case; `*` at an end of a value stands for anything. Bounded in length and depth; parsed once, judged often.

mod field;
mod text;
mod token;

use std::path::PathBuf;

use hoist_domain::{Error, Model, Result, excerpt};

use field::{Field, Held};
pub(super) use text::Needle;
use token::{Token, tokens};

const MAX_BYTES: usize = 4_096;
const MAX_DEPTH: usize = 32;

#[derive(Clone, Debug, Default)]
pub(super) struct Filter(Option<Node>);

#[derive(Clone, Debug)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Word(Needle),
    Compare { field: Field, operator: Operator, value: Value },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Has,
}

#[derive(Clone, Debug)]
struct Value {
    /// Lower case.
    text: String,
    needle: Needle,
    /// `*` before, `*` after.
    open: (bool, bool),
    number: Option<f64>,
}

impl Filter {
    /// # Errors
    /// FIELD_INVALID, with what was expected and where.
    pub(super) fn parse(text: &str) -> Result<Self> {
        if text.len() > MAX_BYTES {
            return Err(Error::invalid_field(
                "filter",
                format!("has {} bytes, at most {MAX_BYTES}", text.len()),
            ));
        }
        let mut parser = Parser { tokens: tokens(text)?, at: 0 };
        if parser.tokens.is_empty() {
            return Ok(Self(None));
        }
        let node = parser.all(0)?;
        match parser.peek() {
            None => Ok(Self(Some(node))),
            Some(token) => Err(wrong(&format!("`{}` is one too many", excerpt(token.text())))),
        }
    }

    pub(super) fn passes(&self, model: &Model, roots: &[PathBuf]) -> bool {
        self.0.as_ref().is_none_or(|node| node.passes(model, roots))
    }
}

fn wrong(what: &str) -> Error {
    Error::invalid_field(
        "filter",
        format!("{what}; for instance: type = lora AND size_bytes < 2e9 AND tags:portrait"),
    )
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn take_word(&mut self, word: &str) -> bool {
        let is = matches!(self.peek(), Some(Token::Word(found)) if found == word);
        self.at += usize::from(is);
        is
    }

    /// Factors joined by AND, or by nothing.
    fn all(&mut self, depth: usize) -> Result<Node> {
        if depth > MAX_DEPTH {
            return Err(wrong(&format!("more than {MAX_DEPTH} parentheses in each other")));
        }
        let mut nodes = vec![self.any(depth)?];
        while !matches!(self.peek(), None | Some(Token::Close)) {
            self.take_word("AND");
            nodes.push(self.any(depth)?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::All(nodes) })
    }

    /// Terms joined by OR, which binds closer than AND: so says AIP-160.
    fn any(&mut self, depth: usize) -> Result<Node> {
        let mut nodes = vec![self.term(depth)?];
        while self.take_word("OR") {
            nodes.push(self.term(depth)?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Any(nodes) })
    }

    fn term(&mut self, depth: usize) -> Result<Node> {
        if self.take_word("NOT") || self.peek() == Some(&Token::Minus) && self.take().is_some() {
            if depth > MAX_DEPTH {
                return Err(wrong("too many negations"));
            }
            return Ok(Node::Not(Box::new(self.term(depth + 1)?)));
        }
        match self.take() {
            Some(Token::Open) => {
                let node = self.all(depth + 1)?;
                match self.take() {
                    Some(Token::Close) => Ok(node),
                    _ => Err(wrong("a parenthesis is not closed")),
                }
            }
            Some(Token::Quoted(text)) => Ok(Node::Word(Needle::new(&text))),
            Some(Token::Word(word)) => {
                if let Some(Token::Operator(operator)) = self.peek().cloned() {
                    self.at += 1;
                    return self.comparison(&word, operator);
                }
                Ok(Node::Word(Needle::new(&word)))
            }
            Some(token) => Err(wrong(&format!("`{}` where a field or a word should be", token.text()))),
            None => Err(wrong("it ends where a field or a word should be")),
        }
    }

    /// `2 GB` is one value, though it is two words.
    fn with_unit(&mut self, text: String, field: Field) -> String {
        match self.peek() {
            Some(Token::Word(unit)) if field.is_number() && number(&format!("1{unit}")).is_some() => {
                let whole = format!("{text}{unit}");
                self.at += 1;
                whole
            }
            _ => text,
        }
    }

    fn comparison(&mut self, name: &str, operator: Operator) -> Result<Node> {
        let field = Field::of(name).ok_or_else(|| {
            wrong(&format!("`{}` is not a field; use one of {}", excerpt(name), Field::NAMES.join(", ")))
        })?;
        let (text, is_open) = match self.take() {
            Some(Token::Word(text)) => (text, true),
            Some(Token::Quoted(text)) => (text, false),
            _ => return Err(wrong(&format!("`{name}` is compared with nothing"))),
        };
        let text = self.with_unit(text, field);
        field.check(&text, is_open)?;
        let number = number(&text);
        let (rest, before) = match text.strip_prefix('*') {
            Some(rest) if is_open => (rest, true),
            _ => (text.as_str(), false),
        };
        let (rest, after) = match rest.strip_suffix('*') {
            Some(rest) if is_open => (rest, true),
            _ => (rest, false),
        };
        let value =
            Value { text: rest.to_lowercase(), needle: Needle::new(rest), open: (before, after), number };
        if field.is_number() && value.number.is_none() {
            return Err(wrong(&format!("`{name}` is compared with a number, not with `{}`", excerpt(&text))));
        }
        if !field.is_number() && !matches!(operator, Operator::Equal | Operator::NotEqual | Operator::Has) {
            return Err(wrong(&format!("`{name}` is not a number: use =, != or :")));
        }
        Ok(Node::Compare { field, operator, value })
    }
}

/// `2e9`, `1.5GiB`, `300MB`.
fn number(text: &str) -> Option<f64> {
    if let Ok(number) = text.parse::<f64>() {
        return Some(number).filter(|number| number.is_finite());
    }
    text.parse::<hoist_domain::Bytes>().ok().map(|bytes| bytes.0 as f64)
}

impl Node {
    fn passes(&self, model: &Model, roots: &[PathBuf]) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.passes(model, roots)),
            Self::Any(nodes) => nodes.iter().any(|node| node.passes(model, roots)),
            Self::Not(node) => !node.passes(model, roots),
            Self::Word(word) => word.is_about(model, roots),
            Self::Compare { field, operator, value } => compare(&field.of_model(model), *operator, value),
        }
    }
}

fn compare(held: &Held<'_>, operator: Operator, value: &Value) -> bool {
    match held {
        Held::Number(number) => {
            let Some(wanted) = value.number else { return false };
            match operator {
                Operator::Equal | Operator::Has => (number - wanted).abs() < f64::EPSILON,
                Operator::NotEqual => (number - wanted).abs() >= f64::EPSILON,
                Operator::Less => *number < wanted,
                Operator::LessEqual => *number <= wanted,
                Operator::Greater => *number > wanted,
                Operator::GreaterEqual => *number >= wanted,
            }
        }
        Held::Text(text) => match operator {
            Operator::NotEqual => !value.is(text),
            // `:` on text is "contains"; `:*` is "is set".
            Operator::Has if value.text.is_empty() => !text.is_empty(),
            Operator::Has => value.needle.is_in(text),
            _ => value.is(text),
        },
        Held::Texts(texts) => {
            let any = texts.iter().any(|text| value.is(text));
            match operator {
                Operator::NotEqual => !any,
                Operator::Has if value.text.is_empty() && value.open.0 => !texts.is_empty(),
                _ => any,
            }
        }
    }
}

impl Value {
    fn is(&self, text: &str) -> bool {
        match self.open {
            (true, true) => self.needle.is_in(text),
            open if text.is_ascii() => {
                let (text, wanted) = (text.as_bytes(), self.text.as_bytes());
                let more = text.len().checked_sub(wanted.len());
                more.is_some_and(|more| match open {
                    (false, false) => more == 0 && text.eq_ignore_ascii_case(wanted),
                    (true, _) => text.get(more..).is_some_and(|end| end.eq_ignore_ascii_case(wanted)),
                    (false, true) => {
                        text.get(..wanted.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(wanted))
                    }
                })
            }
            (false, false) => text.to_lowercase() == self.text,
            (true, false) => text.to_lowercase().ends_with(&self.text),
            (false, true) => text.to_lowercase().starts_with(&self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::test_models::model;

    fn passing(filter: &str) -> Vec<String> {
        let filter = Filter::parse(filter).unwrap_or_else(|error| panic!("{filter}: {error}"));
        let models = [
            model("/m/loras/Portrait.safetensors", "lora", "sdxl", 100, &["portrait", "face"]),
            model("/m/loras/style v2.safetensors", "lora", "flux.1", 2_000_000_000, &[]),
            model("/m/base.safetensors", "checkpoint", "sdxl", 6_900_000_000, &["base"]),
        ];
        models.iter().filter(|model| filter.passes(model, &[])).map(|model| model.name().to_owned()).collect()
    }

    #[test]
    fn comparisons_select_what_they_say() {
        for (filter, expected) in [
            ("", vec!["Portrait", "style v2", "base"]),
            ("type = lora", vec!["Portrait", "style v2"]),
            ("type = LORA AND base = SDXL", vec!["Portrait"]),
            ("type = lora base != sdxl", vec!["style v2"]),
            ("size_bytes < 2e9", vec!["Portrait"]),
            ("size_bytes <= 2GB", vec!["Portrait", "style v2"]),
            ("size_bytes > 1.5 GiB type = lora", vec!["style v2"]),
            ("type = lor*", vec!["Portrait", "style v2"]),
            ("tags:\"portrait\"", vec!["Portrait"]),
            ("tags:por*", vec!["Portrait"]),
            ("tags:*", vec!["Portrait", "base"]),
            ("NOT tags:*", vec!["style v2"]),
            ("-type=lora", vec!["base"]),
            ("display_name = \"style v2\"", vec!["style v2"]),
            ("display_name:STYLE", vec!["style v2"]),
            ("path:/loras/ AND (base = flux.1 OR tags:face)", vec!["Portrait", "style v2"]),
            ("type=checkpoint OR tags:face base=sdxl", vec!["Portrait", "base"]),
            ("portrait", vec!["Portrait"]),
            ("\"style v2\"", vec!["style v2"]),
            ("base = sd*", vec!["Portrait", "base"]),
            ("verdict = ok", vec!["Portrait", "style v2", "base"]),
        ] {
            assert_eq!(passing(filter), expected, "{filter}");
        }
    }

    #[test]
    fn ascii_is_compared_as_all_text_is() {
        let texts =
            ["", "a", "Portrait", "PORTRAIT style", "style", "straße", "ÄRGER portrait", "K\u{212a}k", "rt"];
        for text in texts {
            for wanted in texts.map(str::to_lowercase) {
                let lower = text.to_lowercase();
                assert_eq!(Needle::new(&wanted).is_in(text), lower.contains(&wanted), "{text} {wanted}");
                for open in [(false, false), (true, false), (false, true), (true, true)] {
                    let value =
                        Value { text: wanted.clone(), needle: Needle::new(&wanted), open, number: None };
                    let expected = match open {
                        (false, false) => lower == wanted,
                        (true, false) => lower.ends_with(&wanted),
                        (false, true) => lower.starts_with(&wanted),
                        (true, true) => lower.contains(&wanted),
                    };
                    assert_eq!(value.is(text), expected, "{text} {wanted} {open:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (filter, says) in [
            ("colour = red", "not a field"),
            ("type =", "compared with nothing"),
            ("type = lorra", "none of"),
            ("verdict = bad OR tags:x", "none of"),
            ("type > lora", "not a number"),
            ("size_bytes < big", "compared with a number"),
            ("(type = lora", "not closed"),
            ("type = lora)", "one too many"),
            ("\"open", "not closed"),
            ("type ! lora", "only before"),
            ("AND", ""),
            ("= lora", "where a field"),
        ] {
            match Filter::parse(filter) {
                Ok(_) => assert_eq!(says, "", "{filter}"),
                Err(error) => assert!(error.message().contains(says), "{filter}: {error}"),
            }
        }
        assert!(Filter::parse(&"(".repeat(4_000)).is_err());
        assert!(Filter::parse(&"NOT ".repeat(1_000)).is_err());
        assert!(Filter::parse(&"x".repeat(5_000)).is_err());
    }
}
