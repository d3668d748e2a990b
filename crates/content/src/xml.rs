//! XML as JSON: an element is an object with its attributes as `@name`, its elements by name and its text as `#text`; one with
//! nothing but text is that text, one with nothing is null; elements of one name in one parent are a list.
//!
//! Names keep their prefixes. Comments and processing instructions go; the order of elements of different names goes too.
//! Entities are the five of XML and characters by number: a document type definition is not read, so it can expand to nothing.

use quick_xml::{
    Reader, XmlVersion,
    escape::{escape, resolve_predefined_entity},
    events::{BytesRef, BytesStart, Event},
};

use crate::{
    DEPTH_MAX, Error,
    json::{Json, Names},
    write::put,
};

fn invalid(cause: impl std::fmt::Display) -> Error {
    Error::Invalid(format!("the XML is not valid: {cause}"))
}

/// An element that is being read.
#[derive(Default)]
struct Element {
    name: String,
    items: Vec<(String, Json)>,
    names: Names,
    text: String,
}

impl Element {
    fn start(tag: &BytesStart<'_>) -> Result<Element, Error> {
        let mut element = Element { name: tag.name().0.to_owned(), ..Element::default() };
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(invalid)?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(invalid)?;
            element.items.push((format!("@{}", attribute.key.0), Json::Text(value.into_owned())));
        }
        Ok(element)
    }

    fn add(&mut self, name: String, value: Json) {
        Json::add(&mut self.items, &mut self.names, name, value);
    }

    fn end(mut self) -> (String, Json) {
        if self.items.is_empty() {
            return (self.name, if self.text.is_empty() { Json::Null } else { Json::Text(self.text) });
        }
        // Between elements blanks are there to be read by people.
        let text = if self.names.is_empty() { &self.text } else { self.text.trim() };
        if !text.is_empty() {
            self.items.push(("#text".into(), Json::Text(text.to_owned())));
        }
        (self.name, Json::Object(self.items))
    }
}

/// An object with the root element.
pub fn read(text: &str) -> Result<Json, Error> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().enable_all_checks(true);
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    loop {
        let position = reader.buffer_position();
        let event = reader.read_event().map_err(|cause| invalid(format!("{cause}, at byte {position}")))?;
        let ended = match event {
            Event::Start(tag) => {
                if open.len() >= DEPTH_MAX {
                    return Err(invalid(format!("nested deeper than {DEPTH_MAX}")));
                }
                open.push(Element::start(&tag)?);
                continue;
            }
            Event::Empty(tag) => Element::start(&tag)?,
            Event::End(_) => open.pop().ok_or_else(|| invalid("an end without a start"))?,
            Event::Text(text) => {
                add_text(&mut open, &text.xml10_content())?;
                continue;
            }
            Event::CData(text) => {
                add_text(&mut open, &text.xml10_content())?;
                continue;
            }
            Event::GeneralRef(reference) => {
                add_text(&mut open, &resolve(&reference)?)?;
                continue;
            }
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => continue,
            Event::Eof => break,
        };
        let (name, value) = ended.end();
        match open.last_mut() {
            Some(parent) => parent.add(name, value),
            None if root.is_some() => return Err(invalid("there is more than one root")),
            None => root = Some(Json::Object(vec![(name, value)])),
        }
    }
    if let Some(element) = open.last() {
        return Err(invalid(format!("the element {} has no end", element.name)));
    }
    root.ok_or_else(|| invalid("there is no element"))
}

fn add_text(open: &mut [Element], text: &str) -> Result<(), Error> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err(invalid("there is text outside of the root")),
    }
    Ok(())
}

fn resolve(reference: &BytesRef<'_>) -> Result<String, Error> {
    if let Some(character) = reference.resolve_char_ref().map_err(invalid)? {
        return Ok(character.into());
    }
    let name = reference.xml10_content();
    resolve_predefined_entity(&name).map(str::to_owned).ok_or_else(|| {
        invalid(format!("the entity &{name}; is not known: document type definitions are not read"))
    })
}

/// A document of an object with one name, the root's.
pub fn write(json: &Json, charset: Option<&str>) -> Result<String, Error> {
    let root = match json {
        Json::Object(items) if items.len() == 1 && !matches!(items[0].1, Json::List(_)) => &items[0],
        _ => {
            return Err(Error::Invalid(
                "XML is made of an object with one name: that of the root element".into(),
            ));
        }
    };
    let mut out = String::new();
    put(&mut out, &format!("<?xml version=\"1.0\" encoding=\"{}\"?>", charset.unwrap_or("utf-8")))?;
    put_element(&root.0, &root.1, &mut out, 0)?;
    Ok(out)
}

fn put_element(name: &str, value: &Json, out: &mut String, depth: usize) -> Result<(), Error> {
    check_name(name)?;
    if depth >= DEPTH_MAX {
        return Err(Error::Invalid(format!("nested deeper than {DEPTH_MAX}")));
    }
    put(out, "<")?;
    put(out, name)?;
    let items = match value {
        Json::Null => return put(out, "/>"),
        Json::Object(items) => items,
        plain => {
            put(out, ">")?;
            put_text(&plain.plain(&format!("the element {name}"))?, out)?;
            return put_end(name, out);
        }
    };
    for (name, value) in items {
        let Some(name) = name.strip_prefix('@') else { continue };
        check_name(name)?;
        put(out, " ")?;
        put(out, name)?;
        put(out, "=\"")?;
        put_text(&value.plain(&format!("the attribute {name}"))?, out)?;
        put(out, "\"")?;
    }
    put(out, ">")?;
    for (name, value) in items.iter().filter(|(name, _)| !name.starts_with('@')) {
        match value {
            plain if name == "#text" => put_text(&plain.plain("the text of an element")?, out)?,
            Json::List(values) => {
                for value in values {
                    put_element(name, value, out, depth + 1)?;
                }
            }
            one => put_element(name, one, out, depth + 1)?,
        }
    }
    put_end(name, out)
}

fn put_end(name: &str, out: &mut String) -> Result<(), Error> {
    put(out, "</")?;
    put(out, name)?;
    put(out, ">")
}

fn put_text(text: &str, out: &mut String) -> Result<(), Error> {
    // XML 1.0 §2.2: these characters do not exist in a document, not even by number.
    let outside =
        |it: char| (it < ' ' && !matches!(it, '\t' | '\n' | '\r')) || matches!(it, '\u{fffe}' | '\u{ffff}');
    if let Some(found) = text.chars().find(|it| outside(*it)) {
        return Err(Error::Invalid(format!("XML cannot hold the character U+{:04X}", found as u32)));
    }
    // A reader makes line feeds of carriage returns (§2.11), and blanks of both and of tabs in attributes (§3.3.3).
    let escaped = escape(text).replace('\r', "&#13;").replace('\n', "&#10;").replace('\t', "&#9;");
    put(out, &escaped)
}

/// XML 1.0 §2.3, `Name`.
fn check_name(name: &str) -> Result<(), Error> {
    let starts = |it: char| it.is_alphabetic() || matches!(it, '_' | ':');
    let continues = |it: char| starts(it) || it.is_numeric() || matches!(it, '-' | '.' | '·');
    let valid = name.starts_with(starts) && name.chars().all(continues);
    let shown: String = name.chars().take(40).collect();
    if valid {
        Ok(())
    } else {
        Err(Error::Invalid(format!("{shown:?} cannot be the name of an element or attribute")))
    }
}
