//! From an expression to its parts.

use super::{
    Comparison, DEEPEST_NESTING, Expression, Field, LONGEST_EXPRESSION, Problem, Relation,
    field::{FLAGS, suggestions, unknown_field},
    token::{self, Kind, Token},
    value::{Values, quote},
};

/// What people write for operators in other grammars.
const FOREIGN_WORDS: &[(&str, &str)] = &[
    ("is", "=="),
    ("eq", "=="),
    ("equals", "=="),
    ("matches", "=="),
    ("ne", "!="),
    ("lt", "<"),
    ("le", "<="),
    ("gt", ">"),
    ("ge", ">="),
    ("contains", "~"),
    ("like", "~"),
    ("has", "~"),
    ("within", "in"),
];

pub(super) fn parse(expression: &str) -> Result<Expression, Problem> {
    if expression.chars().nth(LONGEST_EXPRESSION).is_some() {
        let message = format!("the expression is too long: it may have {LONGEST_EXPRESSION} characters");
        return Err(Problem::new(LONGEST_EXPRESSION + 1, message));
    }
    let mut parser = Parser { tokens: token::read(expression)?, next: 0, depth: 0 };
    if parser.peek().kind == Kind::End {
        return Ok(Expression::default());
    }
    let expression = parser.any()?;
    match parser.peek() {
        Token { kind: Kind::End, .. } => Ok(expression),
        Token { kind: Kind::Close, column } => {
            Err(Problem::new(*column, "no parenthesis was opened that this one could close"))
        }
        other => Err(not_joined(other)),
    }
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    next: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> &Token<'a> {
        // `End` is never taken, so there is always one more.
        &self.tokens[self.next]
    }

    /// Takes the next one if it is this.
    fn take(&mut self, kind: &Kind<'_>) -> bool {
        let is_next = self.peek().kind == *kind;
        if is_next {
            self.next += 1;
        }
        is_next
    }

    fn any(&mut self) -> Result<Expression, Problem> {
        let mut parts = vec![self.all()?];
        while self.take(&Kind::Or) {
            parts.push(self.all()?);
        }
        Ok(Expression::any(parts))
    }

    fn all(&mut self) -> Result<Expression, Problem> {
        let mut parts = vec![self.one()?];
        while self.take(&Kind::And) {
            parts.push(self.one()?);
        }
        Ok(Expression::all(parts))
    }

    fn one(&mut self) -> Result<Expression, Problem> {
        let column = self.peek().column;
        let nested = |parser: &mut Self, inner: fn(&mut Self) -> Result<Expression, Problem>| {
            if parser.depth == DEEPEST_NESTING {
                let message =
                    format!("parentheses and \"not\" may be nested {DEEPEST_NESTING} deep, and no deeper");
                return Err(Problem::new(column, message));
            }
            parser.depth += 1;
            let expression = inner(parser)?;
            parser.depth -= 1;
            Ok(expression)
        };
        if self.take(&Kind::Not) {
            return Ok(Expression::Not(Box::new(nested(self, Self::one)?)));
        }
        if !self.take(&Kind::Open) {
            return self.condition();
        }
        let expression = nested(self, Self::any)?;
        if self.take(&Kind::Close) {
            return Ok(expression);
        }
        Err(match self.peek() {
            Token { kind: Kind::End, .. } => Problem::new(column, "this parenthesis is not closed"),
            other => not_joined(other),
        })
    }

    fn condition(&mut self) -> Result<Expression, Problem> {
        let Token { kind, column } = self.peek();
        let column = *column;
        let Kind::Word(word) = *kind else {
            let begins = "a condition belongs here, such as port == 443 or failed";
            return Err(match kind {
                Kind::Quoted(_) => Problem::new(
                    column,
                    format!("{begins}; it begins with the name of a field, without quotes"),
                ),
                _ => Problem::new(column, begins),
            });
        };
        self.next += 1;
        if let Some(field) = Field::named(word) {
            return self.comparison(field);
        }
        let Some((name, field)) = FLAGS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)) else {
            return Err(Problem::new(column, unknown_field(word)));
        };
        if let Token { kind: Kind::Relation(_), column } = self.peek() {
            let message = format!(
                "\"{name}\" is a condition by itself and cannot be compared; it is short for {} == {name}",
                field.name()
            );
            return Err(Problem::new(*column, message));
        }
        let values = Values::read(*field, Relation::Equal, &[name]);
        let values = values.map_err(|(_, message)| Problem::new(column, message))?;
        Ok(Expression::Comparison(Comparison { field: *field, relation: Relation::Equal, values }))
    }

    /// What follows the name of a field.
    fn comparison(&mut self, field: Field) -> Result<Expression, Problem> {
        let relation = self.relation(field)?;
        let mut values = Vec::new();
        if relation == Relation::In && self.peek().kind == Kind::Open {
            let opened = self.peek().column;
            self.next += 1;
            loop {
                values.push(self.value(relation)?);
                if self.take(&Kind::Close) {
                    break;
                }
                let column = self.peek().column;
                if self.peek().kind == Kind::End {
                    return Err(Problem::new(opened, "this list is not closed by a parenthesis"));
                }
                if !self.take(&Kind::Comma) {
                    return Err(Problem::new(column, "between two values of a list comes a comma"));
                }
            }
        } else {
            values.push(self.value(relation)?);
        }
        let texts: Vec<_> = values.iter().map(|(text, _)| text.as_str()).collect();
        let values = Values::read(field, relation, &texts)
            .map_err(|(index, message)| Problem::new(values[index].1, message))?;
        Ok(Expression::Comparison(Comparison { field, relation, values }))
    }

    fn relation(&mut self, field: Field) -> Result<Relation, Problem> {
        let Token { kind, column } = self.peek();
        let known = field.kind().relations();
        let choices = known.iter().map(|relation| relation.sign()).collect::<Vec<_>>().join(" ");
        let name = field.name();
        let message = match kind {
            Kind::Relation(relation) if known.contains(relation) => {
                let relation = *relation;
                self.next += 1;
                return Ok(relation);
            }
            Kind::Word(word) if word.eq_ignore_ascii_case(Relation::In.sign()) => {
                self.next += 1;
                return Ok(Relation::In);
            }
            Kind::Relation(relation) => {
                format!("\"{name}\" cannot be compared with {relation}; its operators are {choices}")
            }
            Kind::Word(word) => {
                let foreign = FOREIGN_WORDS.iter().find(|(foreign, _)| foreign.eq_ignore_ascii_case(word));
                let suggestion = foreign.map_or_else(
                    || suggestions(word, known.iter().map(|relation| (relation.sign(), relation.sign()))),
                    |(_, meant)| format!("; did you mean {}?", quote(meant)),
                );
                format!("{} is no operator{suggestion} (\"{name}\" has {choices})", quote(word))
            }
            Kind::Not => format!(
                "after \"{name}\" comes an operator: {choices}; \"not\" belongs before the field, as in not {name} in (...)"
            ),
            _ => format!("after \"{name}\" comes an operator: {choices}"),
        };
        Err(Problem::new(*column, message))
    }

    /// A value and its place.
    fn value(&mut self, relation: Relation) -> Result<(String, usize), Problem> {
        let Token { kind, column } = self.peek();
        let message = match kind {
            Kind::Word(word) => {
                let value = ((*word).to_owned(), *column);
                self.next += 1;
                return Ok(value);
            }
            Kind::Quoted(text) => {
                let value = (text.clone(), *column);
                self.next += 1;
                return Ok(value);
            }
            Kind::Open => format!("after {relation} comes one value; a list in parentheses comes after in"),
            Kind::And | Kind::Or | Kind::Not => {
                format!(
                    "a value is missing after {relation}; the words and, or and not are values in quotes only"
                )
            }
            _ if relation == Relation::In => "a value is missing here, as in (80, 443)".to_owned(),
            _ => {
                format!("a value is missing after {relation}; text with signs or blanks in it goes in quotes")
            }
        };
        Err(Problem::new(*column, message))
    }
}

/// What is wrong where a condition is complete and another thing follows.
fn not_joined(token: &Token<'_>) -> Problem {
    let suggestion = match token.kind {
        Kind::Word(word) => suggestions(word, ["and", "or"].map(|word| (word, word)).into_iter()),
        _ => String::new(),
    };
    let hint = if suggestion.is_empty() { "; text with blanks in it goes in quotes" } else { &suggestion };
    let message = format!("between two conditions comes \"and\" or \"or\"{hint}");
    Problem::new(token.column, message)
}
