//! Forms: `name=value&name=value` (the URL Standard's application/x-www-form-urlencoded).

use url::form_urlencoded;

use crate::{
    Error, OUTPUT_BYTES_MAX,
    json::{Json, Names},
};

/// An object of texts; a name that comes again makes a list.
pub fn read(text: &str) -> Json {
    let (mut items, mut names) = (Vec::new(), Names::new());
    for (name, value) in form_urlencoded::parse(text.trim_end_matches(['\r', '\n']).as_bytes()) {
        Json::add(&mut items, &mut names, name.into_owned(), Json::Text(value.into_owned()));
    }
    Json::Object(items)
}

/// A form of an object of plain values and lists of them.
pub fn write(json: &Json) -> Result<String, Error> {
    let Json::Object(items) = json else {
        return Err(Error::Invalid("a form is made of an object".into()));
    };
    let mut form = form_urlencoded::Serializer::new(String::new());
    let mut bytes = 0;
    for (name, value) in items {
        let values =
            if let Json::List(values) = value { values.as_slice() } else { std::slice::from_ref(value) };
        for value in values {
            let value = value.plain(&format!("the field {name:?} of a form"))?;
            bytes += name.len() + value.len() + 2;
            // Each byte may take three.
            if bytes * 3 > OUTPUT_BYTES_MAX {
                return Err(Error::Size);
            }
            form.append_pair(name, &value);
        }
    }
    Ok(form.finish())
}
