//! The pattern of LIKE: `_` is one character, `%` any number of them (JMS 2.0 §3.8.1.1).

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Part>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Just(char),
    One,
    Many,
}

impl Pattern {
    /// Reads it. A character behind `escape` stands for itself.
    pub fn parse(text: &str, escape: Option<char>) -> Result<Pattern, &'static str> {
        let (mut parts, mut characters) = (Vec::new(), text.chars());
        while let Some(next) = characters.next() {
            parts.push(match next {
                _ if Some(next) == escape => {
                    Part::Just(characters.next().ok_or("the pattern ends in its escape character")?)
                }
                '_' => Part::One,
                // Several in a row say no more than one.
                '%' if parts.last() == Some(&Part::Many) => continue,
                '%' => Part::Many,
                other => Part::Just(other),
            });
        }
        Ok(Pattern(parts))
    }

    /// Whether `text` as a whole matches. Steps back to the last `%` only, so it takes no more than pattern times text.
    pub fn matches(&self, text: &str) -> bool {
        let mut rest = text.chars();
        let (mut part, mut back) = (0, None);
        loop {
            match (self.0.get(part), rest.clone().next()) {
                (Some(Part::Many), _) => {
                    part += 1;
                    back = Some((part, rest.clone()));
                }
                (Some(Part::One), Some(_)) => {
                    rest.next();
                    part += 1;
                }
                (Some(Part::Just(wanted)), Some(found)) if *wanted == found => {
                    rest.next();
                    part += 1;
                }
                (None, None) => return true,
                _ => {
                    let Some((again, from)) = &mut back else { return false };
                    if from.next().is_none() {
                        return false;
                    }
                    (part, rest) = (*again, from.clone());
                }
            }
        }
    }
}
