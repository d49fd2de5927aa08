//! Filters over models, in the manner of AIP-160: `type = lora AND base = sdxl AND size_bytes < 2e9 AND tags:portrait`.
//!
//! Comparisons with `= != < <= > >= :`, joined by AND, OR (which binds closer) and NOT or `-`, grouped by parentheses.
//! A word without a field is looked for in names, tags, title, description and path. Text compares without regard to
//! case; `*` at an end of a value stands for anything. Times are RFC 3339, or so long ago: `modify_time > now-7d`.
//! Bounded in length and depth; parsed once, judged often.

mod field;
mod text;
mod token;
mod value;

use std::path::PathBuf;

use hoist_domain::{Error, Model, Result, WallTime, excerpt};

use field::Field;
pub(super) use text::Needle;
use token::{Token, tokens};
use value::{Unit, Value};

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

impl Filter {
    /// Reads a filter; `now` is what times so long ago are counted from.
    ///
    /// # Errors
    /// FIELD_INVALID, with what was expected and where.
    pub(super) fn parse(text: &str, now: WallTime) -> Result<Self> {
        if text.len() > MAX_BYTES {
            return Err(Error::invalid_field(
                "filter",
                format!("has {} bytes, at most {MAX_BYTES}", text.len()),
            ));
        }
        let mut parser = Parser { tokens: tokens(text)?, at: 0, now };
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

/// What is wrong with how it is written.
fn wrong(what: &str) -> Error {
    refused(&format!("{what}; for instance: type = lora AND size_bytes < 2e9 AND tags:portrait"))
}

/// What is wrong with a word in it, which says itself what would be right.
fn refused(what: &str) -> Error {
    Error::invalid_field("filter", what)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    now: WallTime,
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
            Some(Token::Word(unit)) if field.is_number() && Unit::is_one(unit) => {
                let whole = format!("{text}{unit}");
                self.at += 1;
                whole
            }
            _ => text,
        }
    }

    fn comparison(&mut self, name: &str, operator: Operator) -> Result<Node> {
        let field = Field::of(name).ok_or_else(|| field::no_field(name))?;
        let (text, is_open) = match self.take() {
            Some(Token::Word(text)) => (text, true),
            Some(Token::Quoted(text)) => (text, false),
            _ => return Err(wrong(&format!("`{name}` is compared with nothing"))),
        };
        let text = self.with_unit(text, field);
        field.check(&text, is_open)?;
        let value = Value::new(&text, is_open, field.unit(), self.now);
        // `:*` is "is set", whatever the field holds.
        let asks_if_set = operator == Operator::Has && value.is_anything();
        if field.unit() == Unit::Count && !value.is_number() && Unit::Bytes.number(&text).is_some() {
            return Err(refused(&format!(
                "`{name}` is a count, and `{}` a size: write K, M, B or T for thousands to trillions (7B), or size_bytes \
                 for the size",
                excerpt(&text)
            )));
        }
        if field.is_number() && !value.is_number() {
            return Err(wrong(&format!("`{name}` is compared with a number, not with `{}`", excerpt(&text))));
        }
        if field.is_time() && !value.is_time() && !asks_if_set {
            return Err(refused(&format!(
                "`{name}` is compared with a time, not with `{}`: write 2026-11-01, 2026-11-01T12:00:00Z or now-7d",
                excerpt(&text)
            )));
        }
        let has_order = field.is_number() || field.is_time();
        if !has_order && !matches!(operator, Operator::Equal | Operator::NotEqual | Operator::Has) {
            return Err(wrong(&format!("`{name}` is not a number: use =, != or :")));
        }
        Ok(Node::Compare { field, operator, value })
    }
}

impl Node {
    fn passes(&self, model: &Model, roots: &[PathBuf]) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.passes(model, roots)),
            Self::Any(nodes) => nodes.iter().any(|node| node.passes(model, roots)),
            Self::Not(node) => !node.passes(model, roots),
            Self::Word(word) => word.is_about(model, roots),
            Self::Compare { field, operator, value } => value.compares(&field.of_model(model), *operator),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::test_models::model;

    fn passing(filter: &str) -> Vec<String> {
        let now = WallTime::parse("2026-11-21T10:00:00Z").unwrap();
        let filter = Filter::parse(filter, now).unwrap_or_else(|error| panic!("{filter}: {error}"));
        let found_at = |at: &str, model: std::sync::Arc<Model>| Model {
            discovered_at: WallTime::parse(at).unwrap(),
            ..Model::clone(&model)
        };
        let models = [
            found_at(
                "2026-11-01T00:00:00Z",
                model("/m/loras/Portrait.safetensors", "lora", "sdxl", 100, &["portrait", "face"]),
            ),
            found_at(
                "2026-11-20T00:00:00Z",
                model("/m/loras/style v2.safetensors", "lora", "flux.1", 2_000_000_000, &[]),
            ),
            found_at(
                "2026-10-01T12:30:00Z",
                model("/m/base.safetensors", "checkpoint", "sdxl", 6_900_000_000, &["base"]),
            ),
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
            ("parameter_count > 1B", vec!["base"]),
            ("parameter_count >= 1 B", vec!["style v2", "base"]),
            ("parameter_count < 1K", vec!["Portrait"]),
            ("tensor_count < 1k type = checkpoint", vec!["base"]),
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
            ("discover_time > \"2026-11-01T00:00:00Z\"", vec!["style v2"]),
            ("discover_time >= 2026-11-01T00:00:00Z", vec!["Portrait", "style v2"]),
            ("discover_time<2026-11-01 AND type=checkpoint", vec!["base"]),
            ("discover_time = 2026-10-01T14:30:00+02:00", vec!["base"]),
            ("discover_time != 2026-11-01", vec!["style v2", "base"]),
            ("discover_time > now-7d", vec!["style v2"]),
            ("discover_time <= now-30d OR tags:face", vec!["Portrait", "base"]),
            ("modify_time = 1970-01-01", vec!["Portrait", "style v2", "base"]),
            ("validate_time:*", vec![]),
            ("NOT validate_time:* AND type = checkpoint", vec!["base"]),
            ("validate_time < now OR validate_time >= now", vec![]),
            ("name = models/*", vec!["Portrait", "style v2", "base"]),
        ] {
            assert_eq!(passing(filter), expected, "{filter}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (filter, says) in [
            ("colour = red", "not a field"),
            ("type =", "compared with nothing"),
            ("type = banana", "none of"),
            ("verdict = naughty OR tags:x", "none of"),
            ("type > lora", "not a number"),
            ("size_bytes < big", "compared with a number"),
            ("parameter_count > 1GB", "write K, M, B or T"),
            ("tensor_count > 1 KiB", "is a count, and `1KiB` a size"),
            ("resolution > 1K", "compared with a number"),
            ("(type = lora", "not closed"),
            ("type = lora)", "one too many"),
            ("\"open", "not closed"),
            ("type ! lora", "only before"),
            ("AND", ""),
            ("= lora", "where a field"),
            ("sise_bytes > 1", "did you mean `size_bytes`?"),
            ("Size > 1", "did you mean `size_bytes`?"),
            ("modified > 2026-01-01", "did you mean `modify_time`?"),
            ("type = lorra", "did you mean `lora`?"),
            ("name = portrait", "write display_name"),
            ("discover_time > 7d", "now-7d"),
            ("discover_time > yesterday", "compared with a time"),
            ("discover_time > *", "compared with a time"),
        ] {
            match Filter::parse(filter, WallTime(0)) {
                Ok(_) => assert_eq!(says, "", "{filter}"),
                Err(error) => assert!(error.message().contains(says), "{filter}: {error}"),
            }
        }
        assert!(Filter::parse(&"(".repeat(4_000), WallTime(0)).is_err());
        assert!(Filter::parse(&"NOT ".repeat(1_000), WallTime(0)).is_err());
        assert!(Filter::parse(&"x".repeat(5_000), WallTime(0)).is_err());
    }
}
