//! From tokens to a tree, by precedence: OR, AND, NOT, comparisons, `+ -`, `* /`, signs.

use crate::{
    Error, SELECTOR_BYTES_MAX, SELECTOR_DEPTH_MAX, headers,
    lexer::{Token, Word, tokens},
    number::{EXACT_MAX, Number},
    pattern::Pattern,
    tree::{Expression, Kind, Operator},
};

type Parsed = Result<Expression, Error>;

/// Parses a selector.
pub fn parse(text: &str) -> Parsed {
    if text.len() > SELECTOR_BYTES_MAX {
        return Err(Error { column: 1, message: format!("longer than {SELECTOR_BYTES_MAX} bytes") });
    }
    let end = text.chars().count() + 1;
    let mut parser = Parser { tokens: tokens(text)?, at: 0, end, depth: 0 };
    let expression = parser.any()?;
    if parser.peek().is_some() {
        return Err(parser.unexpected("the end"));
    }
    parser.require(&expression, Kind::Truth, 1)?;
    Ok(expression)
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    at: usize,
    /// The column behind the last character.
    end: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    fn column(&self) -> usize {
        self.tokens.get(self.at).map_or(self.end, |(_, column)| *column)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.at += 1;
        token
    }

    fn eat(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        self.at += usize::from(found);
        found
    }

    fn eat_word(&mut self, word: Word) -> bool {
        self.eat(&Token::Word(word))
    }

    fn expect(&mut self, token: &Token) -> Result<(), Error> {
        if self.eat(token) { Ok(()) } else { Err(self.unexpected(&token.describe())) }
    }

    fn error(&self, column: usize, message: impl Into<String>) -> Error {
        Error { column, message: message.into() }
    }

    fn unexpected(&self, expected: &str) -> Error {
        let found = self.peek().map_or("the end".into(), Token::describe);
        self.error(self.column(), format!("expected {expected}, found {found}"))
    }

    /// One level further in.
    fn deeper(&mut self) -> Result<(), Error> {
        self.depth += 1;
        let fits = self.depth <= SELECTOR_DEPTH_MAX;
        let message = || format!("nested deeper than {SELECTOR_DEPTH_MAX}");
        if fits { Ok(()) } else { Err(self.error(self.column(), message())) }
    }

    fn require(&self, expression: &Expression, wanted: Kind, column: usize) -> Result<(), Error> {
        let kind = expression.kind();
        let message = || format!("expected {}, found {}", wanted.describe(), kind.describe());
        if kind.may_be(wanted) { Ok(()) } else { Err(self.error(column, message())) }
    }

    fn any(&mut self) -> Parsed {
        self.chain(Word::Or, Parser::all, Expression::Any)
    }

    fn all(&mut self) -> Parsed {
        self.chain(Word::And, Parser::not, Expression::All)
    }

    fn chain(
        &mut self,
        word: Word,
        part: fn(&mut Parser) -> Parsed,
        of: fn(Vec<Expression>) -> Expression,
    ) -> Parsed {
        let mut column = self.column();
        let mut parts = vec![part(self)?];
        while self.eat_word(word) {
            self.require(&parts[parts.len() - 1], Kind::Truth, column)?;
            column = self.column();
            parts.push(part(self)?);
        }
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        self.require(&parts[parts.len() - 1], Kind::Truth, column)?;
        Ok(of(parts))
    }

    fn not(&mut self) -> Parsed {
        if !self.eat_word(Word::Not) {
            return self.predicate();
        }
        self.deeper()?;
        let column = self.column();
        let inner = self.not()?;
        self.depth -= 1;
        self.require(&inner, Kind::Truth, column)?;
        Ok(Expression::Not(Box::new(inner)))
    }

    /// A comparison, BETWEEN, IN, LIKE, IS NULL, or the value alone.
    fn predicate(&mut self) -> Parsed {
        let column = self.column();
        let left = self.sum()?;
        if let Some(operator) = self.comparison() {
            return self.compare(left, operator, column);
        }
        if self.eat_word(Word::Is) {
            let negated = self.eat_word(Word::Not);
            self.expect(&Token::Word(Word::Null))?;
            return Ok(Expression::IsNull { name: self.name(left, column)?, negated });
        }
        let negated = self.eat_word(Word::Not);
        if self.eat_word(Word::Between) {
            return self.between(left, negated, column);
        }
        if self.eat_word(Word::In) {
            return self.list(left, negated, column);
        }
        if self.eat_word(Word::Like) {
            return self.like(left, negated, column);
        }
        if negated { Err(self.unexpected("BETWEEN, IN or LIKE")) } else { Ok(left) }
    }

    fn comparison(&mut self) -> Option<Operator> {
        let Some(Token::Sign(sign)) = self.peek() else { return None };
        let operator = match *sign {
            "=" => Operator::Equal,
            "<>" => Operator::NotEqual,
            "<" => Operator::Less,
            "<=" => Operator::LessOrEqual,
            ">" => Operator::Greater,
            ">=" => Operator::GreaterOrEqual,
            _ => return None,
        };
        self.at += 1;
        Some(operator)
    }

    fn compare(&mut self, left: Expression, operator: Operator, left_column: usize) -> Parsed {
        let column = self.column();
        let right = self.sum()?;
        if operator.is_order() {
            self.require(&left, Kind::Number, left_column)?;
            self.require(&right, Kind::Number, column)?;
        } else if !left.kind().may_be(right.kind()) && right.kind() != Kind::Any {
            self.require(&right, left.kind(), column)?;
        }
        Ok(Expression::Binary(Box::new(left), operator, Box::new(right)))
    }

    fn between(&mut self, value: Expression, negated: bool, column: usize) -> Parsed {
        self.require(&value, Kind::Number, column)?;
        let low = self.number_sum()?;
        self.expect(&Token::Word(Word::And))?;
        let high = self.number_sum()?;
        Ok(Expression::Between { value: Box::new(value), low: Box::new(low), high: Box::new(high), negated })
    }

    fn number_sum(&mut self) -> Parsed {
        let column = self.column();
        let sum = self.sum()?;
        self.require(&sum, Kind::Number, column)?;
        Ok(sum)
    }

    fn list(&mut self, value: Expression, negated: bool, column: usize) -> Parsed {
        let name = self.name(value, column)?;
        self.expect(&Token::Sign("("))?;
        let mut items = vec![self.text()?];
        while self.eat(&Token::Sign(",")) {
            items.push(self.text()?);
        }
        self.expect(&Token::Sign(")"))?;
        Ok(Expression::In { name, items, negated })
    }

    fn like(&mut self, value: Expression, negated: bool, column: usize) -> Parsed {
        let name = self.name(value, column)?;
        let column = self.column();
        let text = self.text()?;
        let escape = if self.eat_word(Word::Escape) { Some(self.character()?) } else { None };
        let pattern = Pattern::parse(&text, escape).map_err(|message| self.error(column, message))?;
        Ok(Expression::Like { name, pattern, negated })
    }

    fn character(&mut self) -> Result<char, Error> {
        let column = self.column();
        let text = self.text()?;
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            (Some(one), None) => Ok(one),
            _ => Err(self.error(column, "ESCAPE takes a single character")),
        }
    }

    fn text(&mut self) -> Result<String, Error> {
        match self.peek() {
            Some(Token::Text(text)) => {
                let text = text.clone();
                self.at += 1;
                Ok(text)
            }
            _ => Err(self.unexpected("a text in single quotes")),
        }
    }

    /// What stands before IN, LIKE and IS must be a name.
    fn name(&self, value: Expression, column: usize) -> Result<String, Error> {
        match value {
            Expression::Name(name) => Ok(name),
            other => Err(self.error(column, format!("expected a name, found {}", other.kind().describe()))),
        }
    }

    fn sum(&mut self) -> Parsed {
        self.arithmetic(&[("+", Operator::Add), ("-", Operator::Subtract)], Parser::product)
    }

    fn product(&mut self) -> Parsed {
        self.arithmetic(&[("*", Operator::Multiply), ("/", Operator::Divide)], Parser::signed)
    }

    fn arithmetic(
        &mut self,
        operators: &[(&'static str, Operator)],
        part: fn(&mut Parser) -> Parsed,
    ) -> Parsed {
        let left_column = self.column();
        let mut left = part(self)?;
        let mut levels = 0;
        while let Some((_, operator)) = operators.iter().find(|(sign, _)| self.eat(&Token::Sign(sign))) {
            self.deeper()?;
            levels += 1;
            self.require(&left, Kind::Number, left_column)?;
            let column = self.column();
            let right = part(self)?;
            self.require(&right, Kind::Number, column)?;
            left = Expression::Binary(Box::new(left), *operator, Box::new(right));
        }
        self.depth -= levels;
        Ok(left)
    }

    fn signed(&mut self) -> Parsed {
        let of: fn(Box<Expression>) -> Expression = match self.peek() {
            Some(Token::Sign("-")) => Expression::Negative,
            Some(Token::Sign("+")) => Expression::Positive,
            _ => return self.primary(),
        };
        let negative = self.eat(&Token::Sign("-")) || !self.eat(&Token::Sign("+"));
        if negative && self.eat(&Token::Number(Number::Exact(EXACT_MAX))) {
            return Ok(Expression::Exact(i64::MIN));
        }
        self.deeper()?;
        let column = self.column();
        let inner = self.signed()?;
        self.depth -= 1;
        self.require(&inner, Kind::Number, column)?;
        Ok(of(Box::new(inner)))
    }

    fn primary(&mut self) -> Parsed {
        let column = self.column();
        if self.eat(&Token::Sign("(")) {
            self.deeper()?;
            let inner = self.any()?;
            self.depth -= 1;
            self.expect(&Token::Sign(")"))?;
            return Ok(inner);
        }
        let expected = "a name, a number, a text or a condition";
        match self.peek() {
            Some(
                Token::Name(_) | Token::Number(_) | Token::Text(_) | Token::Word(Word::True | Word::False),
            ) => {}
            _ => return Err(self.unexpected(expected)),
        }
        match self.next() {
            Some(Token::Name(name)) => {
                headers::check(&name).map_err(|message| self.error(column, message))?;
                Ok(Expression::Name(name))
            }
            Some(Token::Number(Number::Exact(number))) => match i64::try_from(number) {
                Ok(number) => Ok(Expression::Exact(number)),
                Err(_) => Err(self.error(column, format!("{number} does not fit into 64 bits"))),
            },
            Some(Token::Number(Number::Approximate(number))) => Ok(Expression::Approximate(number)),
            Some(Token::Text(text)) => Ok(Expression::Text(text)),
            Some(Token::Word(Word::True)) => Ok(Expression::Bool(true)),
            Some(Token::Word(Word::False)) => Ok(Expression::Bool(false)),
            _ => Err(self.unexpected(expected)),
        }
    }
}
