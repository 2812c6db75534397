//! From text to syntax tree, with the bytes of every token.

use std::ops::Range;

use datafusion_sql::sqlparser::ast::{Expr, Function, FunctionArguments, Spanned};
use datafusion_sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};

use super::ExpressionError;
use super::dialect::Postgres;

/// Tokens other than literals and commas. Each may add a level to the tree, which is dropped and
/// walked recursively; lists of literals may be as long as they like.
const MAX_TOKENS: usize = 1_000;

/// Levels of parentheses and prefixes that the parser follows.
const MAX_NESTING: usize = 50;

/// A text and where its tokens stand.
#[derive(Clone, Debug)]
pub(super) struct Source {
    text: String,
    tokens: Vec<(Range<usize>, Paren)>,
    /// The byte at which each character begins, and the end.
    characters: Vec<usize>,
    /// The place in `characters` at which each line begins.
    lines: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Paren {
    Open,
    Close,
    Neither,
}

/// Reads `text` as exactly one expression.
pub(super) fn parse(text: &str) -> Result<(Expr, Source), ExpressionError> {
    let mut source = Source::new(text);
    let tokens = tokenize(text, &source)?;
    source.tokens = tokens
        .iter()
        .filter(|token| !is_blank(&token.token))
        .filter_map(|token| {
            let paren = match token.token {
                Token::LParen => Paren::Open,
                Token::RParen => Paren::Close,
                _ => Paren::Neither,
            };
            Some((source.range(token.span)?, paren))
        })
        .collect();
    if source.tokens.is_empty() {
        return Err(ExpressionError::new(
            "the expression is empty",
            "there is nothing to compute",
            "write a column, a constant or a formula",
        ));
    }
    statement(text, &tokens, &source)?;
    let mut parser =
        Parser::new(&Postgres).with_recursion_limit(MAX_NESTING).with_tokens_with_locations(tokens);
    let expr = parser.parse_expr().map_err(|error| syntax(error, &source))?;
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        return Err(trailing(&rest, &source));
    }
    Ok((expr, source))
}

fn is_blank(token: &Token) -> bool {
    matches!(token, Token::Whitespace(_) | Token::EOF)
}

fn tokenize(text: &str, source: &Source) -> Result<Vec<TokenWithSpan>, ExpressionError> {
    let tokens =
        Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location().map_err(|error| {
            let at = source.byte(error.location).unwrap_or(text.len()).min(text.len());
            ExpressionError::new(
                "cannot read the expression",
                lower_first(&error.message),
                "check quotes: 'text' in single ones, \"column\" in double ones",
            )
            .at(at..text.len())
        })?;
    let steps = tokens.iter().filter(|t| !is_blank(&t.token) && !is_literal(&t.token)).count();
    if steps > MAX_TOKENS {
        return Err(ExpressionError::new(
            "the expression is too long",
            format!("it has {steps} names and operators; {MAX_TOKENS} are allowed"),
            "split it into several columns",
        ));
    }
    Ok(tokens)
}

fn is_literal(token: &Token) -> bool {
    matches!(token, Token::Number(..) | Token::SingleQuotedString(_) | Token::Comma)
}

/// Whole statements get an answer of their own.
fn statement(text: &str, tokens: &[TokenWithSpan], source: &Source) -> Result<(), ExpressionError> {
    const STATEMENTS: [&str; 9] =
        ["select", "with", "insert", "update", "delete", "create", "drop", "alter", "set"];
    let mut words = tokens.iter().filter(|token| !is_blank(&token.token));
    let (Some(first), Some(second)) = (words.next(), words.next()) else { return Ok(()) };
    let range = source.range(first.span).unwrap_or(0..0);
    let word = text.get(range.clone()).unwrap_or_default().to_lowercase();
    let starts = STATEMENTS.contains(&word.as_str())
        && matches!(second.token, Token::Word(_) | Token::Number(..) | Token::Mul);
    if !starts {
        return Ok(());
    }
    Err(ExpressionError::new(
        format!("`{word}` begins a statement"),
        "an expression is expected: it computes one value of one row",
        "write only the expression, such as `price * 2`",
    )
    .at(range))
}

fn trailing(rest: &TokenWithSpan, source: &Source) -> ExpressionError {
    let from = source.byte(rest.span.start).unwrap_or(source.text.len());
    let span = from..source.text.trim_end().len().max(from);
    let help = match &rest.token {
        Token::Word(word) if word.value.eq_ignore_ascii_case("as") => {
            "a name stands on the left of the equals sign, not in the expression"
        }
        Token::Word(word) if word.value.eq_ignore_ascii_case("over") => {
            "only an aggregate takes `over`: `avg(x) over w`"
        }
        Token::Comma => "one expression gives one value; write another column for the second",
        Token::SemiColon => "leave the semicolon out",
        _ => "remove it, or join it with an operator",
    };
    ExpressionError::new(
        format!("unexpected `{}`", rest.token),
        "the expression has ended before it",
        help,
    )
    .at(span)
}

fn syntax(error: ParserError, source: &Source) -> ExpressionError {
    let text = match error {
        ParserError::RecursionLimitExceeded => {
            return too_deep();
        }
        ParserError::ParserError(text) | ParserError::TokenizerError(text) => text,
    };
    let (what, place) = match text.rfind(" at Line: ") {
        Some(at) => (&text[..at], location(&text[at..])),
        None => (text.as_str(), None),
    };
    let end = source.text.len();
    let from = place.and_then(|place| source.byte(place));
    let span = match from {
        Some(from) => source
            .tokens
            .iter()
            .map(|(range, _)| range.clone())
            .find(|range| range.start == from)
            .unwrap_or(from..end),
        None => end..end,
    };
    let reason = what
        .trim_start_matches("sql parser error: ")
        .replace("Expected: ", "expected ")
        .replace("found: EOF", "found the end of the text")
        .replace("found: ", "found ");
    ExpressionError::new(
        "cannot read the expression",
        lower_first(&reason),
        "check commas and parentheses; a name that is also an SQL keyword stands in double quotes",
    )
    .at(span)
}

pub(super) fn too_deep() -> ExpressionError {
    ExpressionError::new(
        "the expression is nested too deeply",
        "its parts stand too many levels inside each other",
        "split it into several columns",
    )
}

/// Reads ` at Line: 1, Column: 5`.
fn location(text: &str) -> Option<Location> {
    let (line, column) = text.strip_prefix(" at Line: ")?.split_once(", Column: ")?;
    Some(Location { line: line.parse().ok()?, column: column.parse().ok()? })
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |c| c.to_lowercase().chain(chars).collect())
}

impl Source {
    /// A text whose tokens are not known yet.
    fn new(text: &str) -> Source {
        let mut characters: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        let ends = characters.iter().enumerate().filter(|(_, at)| text.as_bytes()[**at] == b'\n');
        let lines = std::iter::once(0).chain(ends.map(|(n, _)| n + 1)).collect();
        characters.push(text.len());
        Source { text: text.to_owned(), tokens: Vec::new(), characters, lines }
    }

    /// The byte at which a line and column (both from 1, columns in characters) stand; the end for
    /// what is behind it. In constant time: a list of literals may have a place for each.
    fn byte(&self, place: Location) -> Option<usize> {
        let line = usize::try_from(place.line).ok()?.checked_sub(1)?;
        let column = usize::try_from(place.column).ok()?.checked_sub(1)?;
        let first = self.lines.get(line).copied().unwrap_or(self.characters.len());
        Some(self.characters.get(first.saturating_add(column)).copied().unwrap_or(self.text.len()))
    }

    /// The bytes of a parser's span; none where the parser knows none.
    pub(super) fn range(&self, span: Span) -> Option<Range<usize>> {
        let (start, end) = (self.byte(span.start)?, self.byte(span.end)?);
        (start < end).then_some(start..end)
    }

    /// The bytes of a part, with the parentheses that the parser's span forgets.
    pub(super) fn range_of(&self, part: &Expr) -> Option<Range<usize>> {
        let mut range = self.range(part.span())?;
        if let Expr::Function(Function { args: FunctionArguments::List(_), .. }) = part {
            range.end = self.with_open(range.end);
        }
        Some(self.balanced(range))
    }

    /// Past the next token if that one opens a parenthesis.
    fn with_open(&self, end: usize) -> usize {
        match self.tokens.iter().find(|(token, _)| token.start >= end) {
            Some((token, Paren::Open)) => token.end,
            _ => end,
        }
    }

    /// The range widened until every parenthesis in it has its partner.
    pub(super) fn balanced(&self, mut range: Range<usize>) -> Range<usize> {
        let (mut open, mut missing) = (0usize, 0usize);
        for (token, paren) in &self.tokens {
            if token.start < range.start || token.end > range.end {
                continue;
            }
            match paren {
                Paren::Open => open += 1,
                Paren::Close if open > 0 => open -= 1,
                Paren::Close => missing += 1,
                Paren::Neither => {}
            }
        }
        let to = range.end;
        for (token, paren) in self.tokens.iter().filter(|(t, _)| t.start >= to) {
            match paren {
                _ if open == 0 => break,
                Paren::Open => open += 1,
                Paren::Close => open -= 1,
                Paren::Neither => {}
            }
            if open == 0 {
                range.end = token.end;
            }
        }
        let from = range.start;
        for (token, paren) in self.tokens.iter().rev().filter(|(t, _)| t.end <= from) {
            match paren {
                _ if missing == 0 => break,
                Paren::Close => missing += 1,
                Paren::Open => missing -= 1,
                Paren::Neither => {}
            }
            if missing == 0 {
                range.start = token.start;
            }
        }
        range
    }
}
