//! A selector as a tree.

use crate::pattern::Pattern;

/// A part of a selector.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// A literal.
    Bool(bool),
    /// A literal.
    Exact(i64),
    /// A literal.
    Approximate(f64),
    /// A literal.
    Text(String),
    /// A header or property.
    Name(String),
    /// `-x`.
    Negative(Box<Expression>),
    /// `+x`.
    Positive(Box<Expression>),
    /// `NOT x`.
    Not(Box<Expression>),
    /// `x OR y OR …`: one list, so that a long chain is not deep.
    Any(Vec<Expression>),
    /// `x AND y AND …`.
    All(Vec<Expression>),
    /// A comparison, or arithmetic.
    Binary(Box<Expression>, Operator, Box<Expression>),
    /// `x BETWEEN low AND high`.
    Between { value: Box<Expression>, low: Box<Expression>, high: Box<Expression>, negated: bool },
    /// `name IN ('a', 'b')`.
    In { name: String, items: Vec<String>, negated: bool },
    /// `name LIKE pattern ESCAPE escape`.
    Like { name: String, pattern: Pattern, negated: bool },
    /// `name IS NULL`.
    IsNull { name: String, negated: bool },
}

/// An operator between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
}

impl Expression {
    /// Calls `visit` with each name.
    pub fn visit_names<'a>(&'a self, visit: &mut impl FnMut(&'a str)) {
        match self {
            Expression::Bool(_) | Expression::Exact(_) | Expression::Approximate(_) | Expression::Text(_) => {
            }
            Expression::Name(name)
            | Expression::In { name, .. }
            | Expression::Like { name, .. }
            | Expression::IsNull { name, .. } => visit(name),
            Expression::Negative(inner) | Expression::Positive(inner) | Expression::Not(inner) => {
                inner.visit_names(visit);
            }
            Expression::Any(parts) | Expression::All(parts) => {
                parts.iter().for_each(|part| part.visit_names(visit));
            }
            Expression::Binary(left, _, right) => {
                left.visit_names(visit);
                right.visit_names(visit);
            }
            Expression::Between { value, low, high, .. } => {
                [value, low, high].into_iter().for_each(|part| part.visit_names(visit));
            }
        }
    }

    /// What it gives, where that can be seen from its form.
    pub fn kind(&self) -> Kind {
        match self {
            Expression::Name(_) => Kind::Any,
            Expression::Text(_) => Kind::Text,
            Expression::Exact(_)
            | Expression::Approximate(_)
            | Expression::Negative(_)
            | Expression::Positive(_) => Kind::Number,
            Expression::Binary(_, operator, _) if operator.is_arithmetic() => Kind::Number,
            _ => Kind::Truth,
        }
    }
}

impl Operator {
    /// Whether it computes a number.
    pub fn is_arithmetic(self) -> bool {
        matches!(self, Operator::Add | Operator::Subtract | Operator::Multiply | Operator::Divide)
    }

    /// Whether it puts values in order, which only numbers have (JMS 2.0 §3.8.1.2).
    pub fn is_order(self) -> bool {
        use Operator::{Greater, GreaterOrEqual, Less, LessOrEqual};
        matches!(self, Less | LessOrEqual | Greater | GreaterOrEqual)
    }
}

/// What an expression gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A name: known when a message comes.
    Any,
    Truth,
    Number,
    Text,
}

impl Kind {
    /// Whether it can be one of `other`.
    pub fn may_be(self, other: Kind) -> bool {
        self == Kind::Any || self == other
    }

    /// For messages.
    pub fn describe(self) -> &'static str {
        match self {
            Kind::Any => "a value",
            Kind::Truth => "a condition",
            Kind::Number => "a number",
            Kind::Text => "text",
        }
    }
}
