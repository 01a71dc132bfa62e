//! The columns that the objects of NDJSON files have: which, in which order, of which types.
//!
//! The rule: names in the order in which they first appear, over all files. Integers of 64 bits make
//! an int64 column; numbers a float64 column, unless an integer among them is too large for it;
//! true and false a boolean one. Everything else is a column of strings, in which values that are no
//! strings stand as their JSON text. A name that an object lacks is null.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field, Schema};

use super::InputError;
use super::csv_table::is_canonical_integer;
use super::json_line::{BadEscape, Value, unescaped};
use super::reader::MAX_COLUMNS;
use crate::domain::reading::IdType;

/// Integers from -2^53 to 2^53 are float64 numbers, all of them.
const EXACT_IN_FLOAT: u64 = 1 << 53;

/// What a value is, as far as types go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An integer that float64 holds.
    Integer,
    /// Another one of 64 bits.
    WideInteger,
    Number,
    /// A number that is neither int64 nor float64.
    OtherNumber,
    Bool,
    String,
    Nested,
}

const KINDS: usize = 7;

impl Kind {
    fn of(value: Value<'_>) -> Option<Kind> {
        Some(match value {
            Value::Null => return None,
            Value::Bool(_) => Kind::Bool,
            Value::String(_) => Kind::String,
            Value::Nested(_) => Kind::Nested,
            Value::Number(text) if is_canonical_integer(text) => match text.parse::<i64>() {
                Ok(number) if number.unsigned_abs() <= EXACT_IN_FLOAT => Kind::Integer,
                _ => Kind::WideInteger,
            },
            Value::Number(text) => {
                let is_integer = text != "-0" && !text.contains(['.', 'e', 'E']);
                let is_finite = text.parse::<f64>().is_ok_and(f64::is_finite);
                if is_finite && !is_integer { Kind::Number } else { Kind::OtherNumber }
            }
        })
    }

    /// What an id of this kind is, in words; ids of one column are of one of these.
    fn in_words(self) -> &'static str {
        match self {
            Kind::Integer | Kind::WideInteger | Kind::OtherNumber => "an integer",
            Kind::Number => "a number",
            Kind::Bool => "true or false",
            Kind::String => "a string",
            Kind::Nested => "an object or array",
        }
    }
}

/// Where a value stands: the file's number, and the line from 1.
type Spot = (usize, u64);

/// A column, as far as it was seen.
#[derive(Debug)]
struct Seen {
    name: Box<str>,
    /// Where a value of each kind stands first.
    first: [Option<Spot>; KINDS],
    /// The object in which it was seen last, by number.
    last_object: u64,
}

/// The columns of all objects that were seen.
#[derive(Debug)]
pub(super) struct JsonColumns {
    columns: Vec<Seen>,
    places: HashMap<Box<str>, usize>,
    id: Option<(Box<str>, IdType)>,
    name_bytes: usize,
    /// Objects seen.
    objects: u64,
}

/// Most bytes that the names of all columns may take: a name in which a value stands is met in a
/// file of a few megabytes, and each is kept several times.
pub(super) const MOST_NAME_BYTES: usize = 4 << 20;

/// What is wrong with an object.
#[derive(Debug)]
pub(super) enum ObjectFault {
    /// A name or a string can't be read.
    Escape,
    /// The names take more than [`MOST_NAME_BYTES`].
    LongNames,
    /// A name stands twice.
    Repeated(String),
    /// It has a column too many.
    TooMany,
    /// Its id is no integer.
    NoInteger,
}

impl From<BadEscape> for ObjectFault {
    fn from(_: BadEscape) -> ObjectFault {
        ObjectFault::Escape
    }
}

impl JsonColumns {
    /// No columns yet; the one with the id, if one has it, and what its ids are to be.
    pub(super) fn new(id: Option<(&str, IdType)>) -> JsonColumns {
        let id = id.map(|(name, id_type)| (name.into(), id_type));
        JsonColumns { columns: Vec::new(), places: HashMap::new(), id, name_bytes: 0, objects: 0 }
    }

    /// Takes in an object that stands at `spot`.
    pub(super) fn see<'a>(
        &mut self,
        members: impl Iterator<Item = (&'a str, Value<'a>)>,
        spot: Spot,
    ) -> Result<(), ObjectFault> {
        self.objects += 1;
        for (at, (name, value)) in members.enumerate() {
            let name = unescaped(name)?;
            let place = match self.columns.get(at).filter(|seen| *seen.name == *name) {
                Some(_) => at,
                None => match self.places.get(&*name) {
                    Some(place) => *place,
                    None => self.add(&name)?,
                },
            };
            let kind = match &self.id {
                Some((id, IdType::Integer)) if **id == *name => integer_kind(value)?,
                _ => Kind::of(value),
            };
            if let Value::String(quoted) = value {
                // Nothing that is malformed is left for the time when rows are asked.
                unescaped(quoted)?;
            }
            let seen = &mut self.columns[place];
            if std::mem::replace(&mut seen.last_object, self.objects) == self.objects {
                return Err(ObjectFault::Repeated(name.into_owned()));
            }
            if let Some(kind) = kind {
                seen.first[kind as usize].get_or_insert(spot);
            }
        }
        Ok(())
    }

    fn add(&mut self, name: &str) -> Result<usize, ObjectFault> {
        let place = self.columns.len();
        if place == MAX_COLUMNS {
            return Err(ObjectFault::TooMany);
        }
        self.name_bytes += name.len();
        if self.name_bytes > MOST_NAME_BYTES {
            return Err(ObjectFault::LongNames);
        }
        self.places.insert(name.into(), place);
        self.columns.push(Seen { name: name.into(), first: [None; KINDS], last_object: 0 });
        Ok(place)
    }

    /// The columns and their types; `place_of` says in words where a value stands.
    ///
    /// # Errors
    /// If ids are of different kinds.
    pub(super) fn schema(&self, place_of: impl Fn(Spot) -> String) -> Result<Schema, InputError> {
        let fields = self.columns.iter().map(|seen| {
            let id = self.id.as_ref().filter(|(name, _)| *name == seen.name);
            let data_type = match id {
                None | Some((_, IdType::Integer)) => seen.data_type(),
                Some((_, IdType::String)) => DataType::Utf8,
                Some((_, IdType::Auto)) => {
                    if let Some([first, second]) = seen.two_kinds() {
                        return Err(InputError::MixedIds {
                            first: place_of(first.1),
                            first_kind: first.0.in_words(),
                            second: place_of(second.1),
                            second_kind: second.0.in_words(),
                        });
                    }
                    seen.data_type()
                }
            };
            Ok(Field::new(&*seen.name, data_type, true))
        });
        Ok(Schema::new(fields.collect::<Result<Vec<_>, _>>()?))
    }
}

impl Seen {
    fn kinds(&self) -> impl Iterator<Item = (Kind, Spot)> {
        const ALL: [Kind; KINDS] = [
            Kind::Integer,
            Kind::WideInteger,
            Kind::Number,
            Kind::OtherNumber,
            Kind::Bool,
            Kind::String,
            Kind::Nested,
        ];
        ALL.into_iter().zip(self.first).filter_map(|(kind, spot)| Some((kind, spot?)))
    }

    fn data_type(&self) -> DataType {
        let are = |allowed: &[Kind]| self.kinds().all(|(kind, _)| allowed.contains(&kind));
        if self.kinds().next().is_none() {
            DataType::Utf8
        } else if are(&[Kind::Integer, Kind::WideInteger]) {
            DataType::Int64
        } else if are(&[Kind::Integer, Kind::Number]) {
            DataType::Float64
        } else if are(&[Kind::Bool]) {
            DataType::Boolean
        } else {
            DataType::Utf8
        }
    }

    /// The first ids of the first two kinds of id that are not the same, in the order of the input.
    fn two_kinds(&self) -> Option<[(Kind, Spot); 2]> {
        let mut kinds: Vec<_> = self.kinds().collect();
        kinds.sort_by_key(|(_, spot)| *spot);
        let first = *kinds.first()?;
        let other = kinds.iter().find(|(kind, _)| kind.in_words() != first.0.in_words())?;
        Some([first, *other])
    }
}

/// The kind of an id that has to be an integer, also one in quotes.
fn integer_kind(id: Value<'_>) -> Result<Option<Kind>, ObjectFault> {
    let Some(text) = id.text()? else { return Ok(None) };
    match id {
        Value::String(_) | Value::Number(_) if is_canonical_integer(&text) => {
            Ok(Some(Kind::WideInteger))
        }
        _ => Err(ObjectFault::NoInteger),
    }
}

#[cfg(test)]
mod tests {
    use super::super::json_line::members;
    use super::*;

    fn types(lines: &[&str]) -> Vec<(String, DataType)> {
        let mut columns = JsonColumns::new(None);
        for line in lines {
            columns.see(members(line), (0, 1)).unwrap();
        }
        let schema = columns.schema(|_| String::new()).unwrap();
        let fields = schema.fields().iter();
        fields.map(|field| (field.name().clone(), field.data_type().clone())).collect()
    }

    fn type_of(values: &[&str]) -> DataType {
        let lines: Vec<_> = values.iter().map(|value| format!("{{\"a\":{value}}}")).collect();
        types(&lines.iter().map(String::as_str).collect::<Vec<_>>())[0].1.clone()
    }

    #[test]
    fn columns_stand_in_the_order_in_which_they_appear() {
        let found = types(&[r#"{"b":1}"#, r#"{"a":null,"b":2,"c":[]}"#]);
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["b", "a", "c"]);
    }

    #[test]
    fn a_type_holds_every_value_as_it_is() {
        assert_eq!(type_of(&["1", "null", "-9223372036854775808"]), DataType::Int64);
        assert_eq!(type_of(&["1", "2.5", "1e3", "-0"]), DataType::Float64);
        assert_eq!(type_of(&["true", "false"]), DataType::Boolean);
        for mixed in [
            &["\"x\"", "1"][..],
            &["null"],
            &["true", "1"],
            &["{}"],
            &["9223372036854775808"],
            &["9007199254740993", "0.5"],
            &["1e999"],
        ] {
            assert_eq!(type_of(mixed), DataType::Utf8, "{mixed:?}");
        }
    }

    #[test]
    fn a_name_stands_once_in_an_object_and_names_are_not_without_number() {
        let mut columns = JsonColumns::new(None);
        let twice = columns.see(members(r#"{"a":1,"\u0061":2}"#), (0, 1));
        assert!(matches!(twice, Err(ObjectFault::Repeated(name)) if name == "a"));
        let names: Vec<String> = (0..MAX_COLUMNS).map(|at| format!("\"k{at}\":0")).collect();
        let many = columns.see(members(&format!("{{{}}}", names.join(","))), (0, 2));
        assert!(matches!(many, Err(ObjectFault::TooMany)));
    }
}
