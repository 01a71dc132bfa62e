//! A table of the config, declared once: every field is a flag, a variable and a key.

use toml::de::DeValue;

/// A table of the config.
pub trait Section: Default {
    /// The table's name; empty for the top of the file.
    const TABLE: &'static str;
    /// Its keys, in the order of the documentation.
    const KEYS: &'static [&'static str];

    /// Sets `key` to a value of the config.
    ///
    /// # Errors
    /// If the section has no such key, or the value is not what it wants.
    fn set(&mut self, key: &str, value: &DeValue<'_>) -> Result<(), Refusal>;

    /// These settings, and `lower`'s where nothing is set here.
    fn over(self, lower: Self) -> Self;
}

/// Why a section takes no such entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It has no such key.
    UnknownKey,
    /// The key wants something else.
    Unfit {
        /// What it wants.
        wanted: String,
    },
}

/// Declares a section: its flags, variables and keys are the fields.
macro_rules! section {
    (
        $(#[$attribute:meta])*
        $name:ident [$table:literal, $heading:literal] {
            $($(#[$field_attribute:meta])* $field:ident: $type:ty,)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(clap::Args, Clone, Debug, Default)]
        #[command(next_help_heading = $heading)]
        pub struct $name {
            $(
                #[arg(long, hide_env = true, value_parser = $crate::cli::values::parse::<$type>)]
                $(#[$field_attribute])*
                pub $field: Option<$type>,
            )+
        }

        impl $crate::cli::section::Section for $name {
            const TABLE: &'static str = $table;
            const KEYS: &'static [&'static str] = &[$(stringify!($field)),+];

            fn set(
                &mut self,
                key: &str,
                value: &toml::de::DeValue<'_>,
            ) -> Result<(), $crate::cli::section::Refusal> {
                use $crate::cli::section::Refusal;
                use $crate::cli::values::Setting;
                match key {
                    $(stringify!($field) => {
                        let unfit = || Refusal::Unfit { wanted: <$type>::wanted() };
                        self.$field = Some(<$type>::from_toml(value).ok_or_else(unfit)?);
                    })+
                    _ => return Err(Refusal::UnknownKey),
                }
                Ok(())
            }

            fn over(self, lower: Self) -> Self {
                $name { $($field: self.$field.or(lower.$field),)+ }
            }
        }
    };
}

pub(super) use section;
