//! An expression as words, signs and quoted text.

use super::{Problem, Relation, field::suggestions, value::quote};

/// A part of an expression, and its first character, counted from 1.
#[derive(Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind<'a>,
    pub(super) column: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind<'a> {
    Word(&'a str),
    Quoted(String),
    Relation(Relation),
    And,
    Or,
    Not,
    Open,
    Close,
    Comma,
    End,
}

/// What people write who know other grammars, and what it is here.
const FOREIGN: &[(&str, &str)] = &[
    ("=~", "~"),
    ("~=", "~"),
    ("!~", "not FIELD ~ TEXT"),
    ("=>", ">="),
    ("=<", "<="),
    ("<>", "!="),
    ("===", "=="),
    ("!==", "!="),
    ("&", "&&"),
    ("|", "||"),
];

/// Reads all parts; the last is `End`.
pub(super) fn read(expression: &str) -> Result<Vec<Token<'_>>, Problem> {
    let mut tokens = Vec::new();
    let mut rest = expression;
    let mut column = 1;
    loop {
        let blank = rest.len() - rest.trim_start().len();
        column += rest[..blank].chars().count();
        rest = &rest[blank..];
        let Some(first) = rest.chars().next() else {
            tokens.push(Token { kind: Kind::End, column });
            return Ok(tokens);
        };
        let (kind, length) = match first {
            '"' | '\'' => quoted(rest, first).ok_or_else(|| {
                Problem::new(
                    column,
                    format!("the text that begins with this {first} has no {first} at its end"),
                )
            })?,
            _ if is_sign(first) => sign(rest).map_err(|message| Problem::new(column, message))?,
            _ => word(rest),
        };
        tokens.push(Token { kind, column });
        column += rest[..length].chars().count();
        rest = &rest[length..];
    }
}

/// Whether a word ends before this character.
pub(super) fn ends_word(character: char) -> bool {
    is_sign(character) || character.is_whitespace() || matches!(character, '"' | '\'')
}

fn is_sign(character: char) -> bool {
    matches!(character, '(' | ')' | ',' | '=' | '!' | '<' | '>' | '~' | '&' | '|')
}

fn word(rest: &str) -> (Kind<'_>, usize) {
    let length = rest.find(ends_word).unwrap_or(rest.len());
    let word = &rest[..length];
    (keyword(word).unwrap_or(Kind::Word(word)), length)
}

/// What a word means that is no value unless it is quoted.
pub(super) fn keyword(word: &str) -> Option<Kind<'static>> {
    let is = |keyword| word.eq_ignore_ascii_case(keyword);
    if is("and") {
        Some(Kind::And)
    } else if is("or") {
        Some(Kind::Or)
    } else if is("not") {
        Some(Kind::Not)
    } else {
        None
    }
}

/// Text up to the quotation mark that is not doubled.
fn quoted(rest: &str, mark: char) -> Option<(Kind<'_>, usize)> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character != mark {
            text.push(character);
        } else if characters.next_if(|(_, next)| *next == mark).is_some() {
            text.push(mark);
        } else {
            return Some((Kind::Quoted(text), at + mark.len_utf8()));
        }
    }
    None
}

fn sign(rest: &str) -> Result<(Kind<'_>, usize), String> {
    let alone = match rest.as_bytes()[0] {
        b'(' => Some(Kind::Open),
        b')' => Some(Kind::Close),
        b',' => Some(Kind::Comma),
        _ => None,
    };
    if let Some(kind) = alone {
        return Ok((kind, 1));
    }
    // A `!` after another sign begins a condition of its own, as in `&&!failed`.
    let is_joined = |character| matches!(character, '=' | '<' | '>' | '~' | '&' | '|');
    let run = &rest[..rest[1..].find(|character| !is_joined(character)).map_or(rest.len(), |end| end + 1)];
    let kind = match run {
        "&&" => Kind::And,
        "||" => Kind::Or,
        "!" => Kind::Not,
        _ => Kind::Relation(Relation::signed(run).ok_or_else(|| unknown_sign(run))?),
    };
    Ok((kind, run.len()))
}

fn unknown_sign(run: &str) -> String {
    let meant = FOREIGN.iter().find(|(foreign, _)| *foreign == run).map(|(_, meant)| *meant);
    let known = Relation::ALL.iter().map(|relation| relation.sign()).chain(["&&", "||", "!"]);
    let suggestion = meant.map_or_else(
        || suggestions(run, known.clone().map(|sign| (sign, sign))),
        |meant| format!("; did you mean {}?", quote(meant)),
    );
    let known: Vec<_> = known.collect();
    format!("{} is no operator{suggestion} (there are {})", quote(run), known.join(" "))
}
