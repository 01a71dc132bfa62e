//! A label, as it is given by a flag or a `[[labels]]` table.

/// A label, as it was typed. Its code may still have to be assigned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSetting {
    /// The name that stands in the output.
    pub name: String,
    /// The code, if one was given.
    pub code: Option<String>,
    /// What the label covers; may be empty.
    pub description: String,
    /// Texts that carry it; may be empty.
    pub examples: Vec<String>,
}

impl LabelSetting {
    /// The keys of a `[[labels]]` table.
    pub const KEYS: &'static [&'static str] = &["name", "code", "description", "examples"];

    /// Reads `NAME` or `NAME=DESCRIPTION`.
    ///
    /// # Errors
    /// If there is no name.
    pub fn parse(text: &str) -> Result<LabelSetting, &'static str> {
        let (name, description) = text.split_once('=').unwrap_or((text, ""));
        if name.trim().is_empty() {
            return Err("it wants NAME or NAME=DESCRIPTION");
        }
        Ok(LabelSetting {
            name: name.trim().into(),
            description: description.trim().into(),
            ..LabelSetting::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_first_equals_sign_describes_the_label() {
        let label = LabelSetting::parse("Rural Fringe = farms; a=b").unwrap();
        assert_eq!((&*label.name, &*label.description), ("Rural Fringe", "farms; a=b"));
        assert_eq!(LabelSetting::parse("City Flats").unwrap().description, "");
        assert!(LabelSetting::parse(" =x").is_err());
    }
}
