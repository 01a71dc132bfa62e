//! How a row's text is made from its columns: `text`, or `{address}, {city}`.

use serde::{Deserialize, Serialize};

/// A parsed template. A plain column name is a template of that column alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Template {
    source: String,
    pieces: Vec<Piece>,
}

/// A stretch of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text that stands as it is.
    Literal(String),
    /// The value of this column; a null renders as nothing.
    Column(String),
}

/// Why a template can't be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Nothing to render.
    #[error("the text template is empty; name a column, or write one like `{{title}}: {{body}}`")]
    Empty,
    /// An opening brace that never closes.
    #[error("the text template has `{{` without `}}`; write `{{{{` for a brace in the text")]
    Unclosed,
    /// A closing brace that nothing opened.
    #[error("the text template has `}}` without `{{`; write `}}}}` for a brace in the text")]
    Unopened,
    /// `{}`.
    #[error("the text template has `{{}}` without a column name in it")]
    NoName,
}

impl Template {
    /// Reads `source`: a column name, or text with `{column}` in it; `{{` and `}}` are braces.
    ///
    /// # Errors
    /// If it is empty, a brace stands alone, or a column has no name.
    pub fn parse(source: &str) -> Result<Template, TemplateError> {
        if source.trim().is_empty() {
            return Err(TemplateError::Empty);
        }
        if !source.contains(['{', '}']) {
            let pieces = vec![Piece::Column(source.to_owned())];
            return Ok(Template { source: source.to_owned(), pieces });
        }
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut chars = source.chars().peekable();
        while let Some(char) = chars.next() {
            match char {
                '{' if chars.next_if_eq(&'{').is_some() => literal.push('{'),
                '}' if chars.next_if_eq(&'}').is_some() => literal.push('}'),
                '}' => return Err(TemplateError::Unopened),
                '{' => {
                    let mut name = String::new();
                    loop {
                        match chars.next() {
                            Some('}') => break,
                            Some(char) => name.push(char),
                            None => return Err(TemplateError::Unclosed),
                        }
                    }
                    if name.is_empty() {
                        return Err(TemplateError::NoName);
                    }
                    if !literal.is_empty() {
                        pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                    }
                    pieces.push(Piece::Column(name));
                }
                char => literal.push(char),
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Template { source: source.to_owned(), pieces })
    }

    /// The template of one column alone.
    pub fn column(name: &str) -> Template {
        Template { source: name.to_owned(), pieces: vec![Piece::Column(name.to_owned())] }
    }

    /// The template as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Its pieces, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The columns that it names, in order, repeated ones too.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Column(name) => Some(name.as_str()),
            Piece::Literal(_) => None,
        })
    }
}

impl From<Template> for String {
    fn from(template: Template) -> String {
        template.source
    }
}

impl TryFrom<String> for Template {
    type Error = TemplateError;

    fn try_from(source: String) -> Result<Self, TemplateError> {
        Template::parse(&source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_is_a_column() {
        let template = Template::parse("postal address").unwrap();
        assert_eq!(template.pieces(), [Piece::Column("postal address".into())]);
    }

    #[test]
    fn braces_name_columns_and_double_braces_are_text() {
        let template = Template::parse("{a}, {{{b}}}").unwrap();
        assert_eq!(
            template.pieces(),
            [
                Piece::Column("a".into()),
                Piece::Literal(", {".into()),
                Piece::Column("b".into()),
                Piece::Literal("}".into()),
            ]
        );
    }

    #[test]
    fn stray_braces_are_refused() {
        assert_eq!(Template::parse("{a"), Err(TemplateError::Unclosed));
        assert_eq!(Template::parse("a}"), Err(TemplateError::Unopened));
        assert_eq!(Template::parse("{}"), Err(TemplateError::NoName));
        assert_eq!(Template::parse("  "), Err(TemplateError::Empty));
    }
}
