//! A TOML document as sections and keys with their places, so that every fault of a file is found in one
//! reading: a value that cannot be read is reported and the reading goes on.
//!
//! Never stops at the first fault, and never lets a key pass that the schema does not name.

use std::fmt::Display;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{FaultCode, Faults, Place, Problem};
use super::schema::{SECTIONS, SectionSchema, nearest, section};

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub place: Place,
}

/// A value of the document that is still to be read.
#[derive(Clone, Debug)]
pub struct Item<'a> {
    /// As TOML has it.
    pub value: &'a DeValue<'a>,
    /// Its place.
    pub place: Place,
}

impl<'a> Item<'a> {
    fn new(key: String, value: &'a Spanned<DeValue<'a>>) -> Self {
        Self { value: value.get_ref(), place: Place { key, span: value.span() } }
    }

    /// The elements of an array; none where it is something else.
    fn elements(&self) -> Option<Vec<Item<'a>>> {
        let array = self.value.as_array()?;
        Some(array.iter().map(|element| Item::new(self.place.key.clone(), element)).collect())
    }

    /// The entries of a table; none where it is something else.
    pub fn entries(&self) -> Option<Vec<(&'a str, Item<'a>)>> {
        let table = self.value.as_table()?;
        let entry = |(key, value): (&'a Spanned<_>, &'a Spanned<DeValue<'a>>)| {
            let name: &'a std::borrow::Cow<'a, str> = key.get_ref();
            (name.as_ref(), Item::new(format!("{}.{name}", self.place.key), value))
        };
        Some(table.iter().map(entry).collect())
    }

    /// The problem of a value of a wrong type.
    pub fn wrong_type(&self, wanted: &str, help: impl Into<String>) -> Problem {
        let message = format!("{} must be {wanted}", quoted_key(&self.place.key));
        Problem::new(FaultCode::WrongType, message, format!("found {}", type_in_words(self.value)), help)
    }

    /// The problem of a value that is of the right type and says nothing we know.
    pub fn bad_value(&self, wanted: &str, found: impl Display, help: impl Into<String>) -> Problem {
        let message = format!("{} must be {wanted}", quoted_key(&self.place.key));
        Problem::new(FaultCode::BadValue, message, format!("found `{found}`"), help)
    }
}

/// `outside.tls` as `` `tls` in [outside] ``.
pub fn quoted_key(path: &str) -> String {
    match path.split_once('.') {
        None => format!("`{path}`"),
        Some((name, key)) => format!("`{key}` in {}", header(name)),
    }
}

/// A section's name with its brackets.
pub fn header(name: &str) -> String {
    match section(name) {
        Some(schema) if schema.repeated => format!("[[{name}]]"),
        _ => format!("[{name}]"),
    }
}

fn type_in_words(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// How one value is read.
pub type Parse<'a, T> = fn(&Item<'a>) -> Result<T, Problem>;

/// One `[section]`, or one of several `[[section]]`.
#[derive(Debug)]
pub struct Section<'a> {
    schema: &'static SectionSchema,
    /// Where its header stands.
    pub place: Place,
    entries: Vec<(&'a str, Item<'a>)>,
    /// Keys that are there under a wrong name, and so are not missing.
    misspelt: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// A section of the document; its unknown keys are reported at once.
    fn open(
        schema: &'static SectionSchema,
        item: &Item<'a>,
        table: &'a DeTable<'a>,
        faults: &mut Faults,
    ) -> Self {
        let (mut entries, mut misspelt) = (Vec::new(), Vec::new());
        for (key, value) in table {
            let name: &'a str = key.get_ref().as_ref();
            let place = Place { key: format!("{}.{name}", schema.name), span: key.span() };
            if schema.keys.contains(&name) {
                entries.push((name, Item::new(place.key, value)));
            } else {
                faults.error(&place, unknown_key(schema, name));
                misspelt.extend(nearest(name, schema.keys.iter().copied()));
            }
        }
        Self { schema, place: item.place.clone(), entries, misspelt }
    }

    fn item(&self, key: &str) -> Option<&Item<'a>> {
        debug_assert!(self.schema.keys.contains(&key), "{key} is not in the schema of {}", self.schema.name);
        self.entries.iter().find(|(name, _)| *name == key).map(|(_, item)| item)
    }

    /// Whether the key is there, read or not.
    pub fn has(&self, key: &str) -> bool {
        self.item(key).is_some()
    }

    /// Whether the key is left out, and was not meant by one that is misspelt.
    pub fn lacks(&self, key: &str) -> bool {
        !self.has(key) && !self.misspelt.contains(&key)
    }

    /// Whether the key is there with a list that has nothing in it.
    pub fn is_empty_list(&self, key: &str) -> bool {
        self.item(key).and_then(Item::elements).is_some_and(|elements| elements.is_empty())
    }

    /// The place of a key; that of the header, where the key is left out.
    pub fn place_of(&self, key: &str) -> Place {
        let key_name = || format!("{}.{key}", self.schema.name);
        self.item(key).map_or_else(
            || Place { key: key_name(), span: self.place.span.clone() },
            |item| item.place.clone(),
        )
    }

    /// A value that may be left out.
    pub fn optional<T>(&self, key: &str, parse: Parse<'a, T>, faults: &mut Faults) -> Option<At<T>> {
        let item = self.item(key)?;
        match parse(item) {
            Ok(value) => Some(At { value, place: item.place.clone() }),
            Err(problem) => {
                faults.error(&item.place, problem);
                None
            }
        }
    }

    /// A value that must be there.
    pub fn required<T>(
        &self,
        key: &str,
        parse: Parse<'a, T>,
        example: &str,
        faults: &mut Faults,
    ) -> Option<At<T>> {
        if self.lacks(key) {
            let message = format!("{} needs `{key}`", header(self.schema.name));
            let problem = Problem::new(
                FaultCode::MissingKey,
                message,
                "it is left out",
                format!("add `{key} = {example}`"),
            );
            faults.error(&self.place_of(key), problem);
        }
        self.optional(key, parse, faults)
    }

    /// A value that has a default. Where it cannot be read, the fault is reported and the default is used to
    /// look for further faults.
    pub fn with_default<T>(&self, key: &str, parse: Parse<'a, T>, default: T, faults: &mut Faults) -> At<T> {
        let place = self.place_of(key);
        self.optional(key, parse, faults).unwrap_or(At { value: default, place })
    }

    /// A list, of which every bad element is reported.
    pub fn list<T>(&self, key: &str, parse: Parse<'a, T>, help: &str, faults: &mut Faults) -> Vec<At<T>> {
        let Some(item) = self.item(key) else { return Vec::new() };
        match item.elements() {
            Some(elements) => read_all(&elements, parse, faults),
            None => {
                faults.error(&item.place, item.wrong_type("a list", help));
                Vec::new()
            }
        }
    }

    /// One value or a list of them.
    pub fn one_or_more<T>(&self, key: &str, parse: Parse<'a, T>, faults: &mut Faults) -> Vec<At<T>> {
        let Some(item) = self.item(key) else { return Vec::new() };
        let elements = item.elements().unwrap_or_else(|| vec![item.clone()]);
        read_all(&elements, parse, faults)
    }
}

fn read_all<'a, T>(elements: &[Item<'a>], parse: Parse<'a, T>, faults: &mut Faults) -> Vec<At<T>> {
    let mut values = Vec::new();
    for element in elements {
        match parse(element) {
            Ok(value) => values.push(At { value, place: element.place.clone() }),
            Err(problem) => faults.error(&element.place, problem),
        }
    }
    values
}

fn unknown_key(schema: &SectionSchema, name: &str) -> Problem {
    let message = format!("{} has no key `{name}`", header(schema.name));
    let help = match nearest(name, schema.keys.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => match SECTIONS.iter().find(|other| other.keys.contains(&name)) {
            Some(other) => format!("`{name}` belongs to {}", header(other.name)),
            None => format!("{} takes {}", header(schema.name), schema.keys.join(", ")),
        },
    };
    Problem::new(FaultCode::UnknownKey, message, "unknown key", help)
}

/// The whole file.
#[derive(Debug)]
pub struct Document<'a> {
    table: &'a DeTable<'a>,
}

impl<'a> Document<'a> {
    /// A parsed file; sections that do not exist are reported at once.
    pub fn open(table: &'a DeTable<'a>, faults: &mut Faults) -> Self {
        for (key, _) in table {
            let name: &str = key.get_ref().as_ref();
            if section(name).is_none() {
                let place = Place { key: name.to_owned(), span: key.span() };
                faults.error(&place, unknown_section(name));
            }
        }
        Self { table }
    }

    /// Every section of that name; one that is written with the wrong brackets is reported.
    pub fn sections(&self, name: &str, faults: &mut Faults) -> Vec<Section<'a>> {
        let Some(schema) = section(name) else { return Vec::new() };
        let Some((key, value)) = self.table.iter().find(|(key, _)| key.get_ref().as_ref() == name) else {
            return Vec::new();
        };
        let item = Item { value: value.get_ref(), place: Place { key: name.to_owned(), span: key.span() } };
        match (value.get_ref(), schema.repeated) {
            (DeValue::Table(table), false) => vec![Section::open(schema, &item, table, faults)],
            (DeValue::Array(array), true) => {
                let items = array.iter().map(|element| Item::new(name.to_owned(), element));
                items.filter_map(|item| open_table(schema, &item, faults)).collect()
            }
            _ => {
                let wanted = if schema.repeated { "written with double brackets" } else { "written once" };
                let problem = Problem::new(
                    FaultCode::WrongType,
                    format!("`{name}` must be {wanted}"),
                    format!("found {}", type_in_words(value.get_ref())),
                    format!("write `{}`", header(name)),
                );
                faults.error(&item.place, problem);
                Vec::new()
            }
        }
    }

    /// Whether the section is left out, and was not meant by one that is misspelt.
    pub fn lacks(&self, name: &str) -> bool {
        let meant = |written: &str| match section(written) {
            Some(schema) => schema.name == name,
            None => nearest_section(written) == Some(name),
        };
        !self.table.iter().any(|(key, _)| meant(key.get_ref()))
    }
}

fn open_table<'a>(
    schema: &'static SectionSchema,
    item: &Item<'a>,
    faults: &mut Faults,
) -> Option<Section<'a>> {
    let Some(table) = item.value.as_table() else {
        let help = format!("write `{}`", header(schema.name));
        faults.error(&item.place, item.wrong_type("a section", help));
        return None;
    };
    Some(Section::open(schema, item, table, faults))
}

fn nearest_section(name: &str) -> Option<&'static str> {
    nearest(name, SECTIONS.iter().map(|section| section.name))
}

fn unknown_section(name: &str) -> Problem {
    let help = match nearest_section(name) {
        Some(near) => format!("did you mean {}?", header(near)),
        None => match SECTIONS.iter().find(|section| section.keys.contains(&name)) {
            Some(section) => format!("`{name}` belongs under {}", header(section.name)),
            None => "see the example configuration for every section".to_owned(),
        },
    };
    Problem::new(FaultCode::UnknownSection, format!("there is no section `{name}`"), "unknown section", help)
}
