//! CSV and TSV: a table whose first line may have the names of its columns (RFC 4180).

use std::collections::HashMap;

use crate::{COLUMNS_MAX, Error, OUTPUT_BYTES_MAX, json::Json};

fn invalid(cause: impl std::fmt::Display) -> Error {
    Error::Invalid(format!("the table is not valid: {cause}"))
}

/// A list of objects, or of lists where there are no names.
pub fn read(text: &str, separator: u8, header: bool) -> Result<Json, Error> {
    let mut reader =
        csv::ReaderBuilder::new().delimiter(separator).has_headers(header).from_reader(text.as_bytes());
    let names: Vec<String> = if header {
        reader.headers().map_err(invalid)?.iter().map(str::to_owned).collect()
    } else {
        Vec::new()
    };
    check_names(&names)?;
    // The names come again in each row: the bound is kept while reading, not after.
    let names_bytes: usize = names.iter().map(String::len).sum();
    let (mut rows, mut bytes) = (Vec::new(), 0);
    for record in reader.records() {
        let record = record.map_err(invalid)?;
        if record.len() > COLUMNS_MAX {
            return Err(invalid(format!("more than {COLUMNS_MAX} columns")));
        }
        bytes += record.as_slice().len() + names_bytes;
        if bytes > OUTPUT_BYTES_MAX {
            return Err(Error::Size);
        }
        let cells = record.iter().map(|cell| Json::Text(cell.to_owned()));
        rows.push(match header {
            true => Json::Object(names.iter().cloned().zip(cells).collect()),
            false => Json::List(cells.collect()),
        });
    }
    Ok(Json::List(rows))
}

fn check_names(names: &[String]) -> Result<(), Error> {
    if names.len() > COLUMNS_MAX {
        return Err(invalid(format!("more than {COLUMNS_MAX} columns")));
    }
    let mut seen = HashMap::new();
    for (at, name) in names.iter().enumerate() {
        if let Some(before) = seen.insert(name, at) {
            return Err(invalid(format!("columns {} and {} are both called {name:?}", before + 1, at + 1)));
        }
    }
    Ok(())
}

/// A table of a list of objects or of lists; of a single object, one row.
pub fn write(json: &Json, separator: u8, header: bool) -> Result<String, Error> {
    let one = [json.clone()];
    let rows: &[Json] = match json {
        Json::List(rows) => rows,
        _ => &one,
    };
    let mut table = Table::new(separator);
    let columns = columns(rows)?;
    if header && !columns.is_empty() {
        table.put(columns.iter().map(|name| Ok((*name).into())))?;
    }
    for (at, row) in rows.iter().enumerate() {
        match row {
            Json::Object(items) => {
                let cells: HashMap<_, _> = items.iter().map(|(name, cell)| (name.as_str(), cell)).collect();
                table.put(columns.iter().map(|name| {
                    let cell = cells.get(name).copied().unwrap_or(&Json::Null);
                    cell.plain(&format!("column {name:?} of row {}", at + 1))
                }))?;
            }
            Json::List(cells) if columns.is_empty() => {
                table.put(cells.iter().map(|cell| cell.plain(&format!("a cell of row {}", at + 1))))?;
            }
            _ => {
                return Err(Error::Invalid(format!(
                    "row {} is not like the others: a table is a list of objects, or of lists",
                    at + 1
                )));
            }
        }
    }
    table.end()
}

/// The names of all objects, in the order in which they first come.
fn columns(rows: &[Json]) -> Result<Vec<&str>, Error> {
    let (mut columns, mut seen) = (Vec::new(), std::collections::HashSet::new());
    for row in rows {
        let Json::Object(items) = row else { continue };
        for (name, _) in items {
            if seen.insert(name.as_str()) {
                columns.push(name.as_str());
            }
        }
        if columns.len() > COLUMNS_MAX {
            return Err(Error::Invalid(format!("the table would have more than {COLUMNS_MAX} columns")));
        }
    }
    Ok(columns)
}

/// A table that is being written.
struct Table {
    writer: csv::Writer<Vec<u8>>,
    bytes: usize,
}

impl Table {
    fn new(separator: u8) -> Table {
        let mut builder = csv::WriterBuilder::new();
        builder.delimiter(separator).flexible(true).terminator(csv::Terminator::CRLF);
        Table { writer: builder.from_writer(Vec::new()), bytes: 0 }
    }

    fn put<'a>(
        &mut self,
        cells: impl Iterator<Item = Result<std::borrow::Cow<'a, str>, Error>>,
    ) -> Result<(), Error> {
        for cell in cells {
            let cell = cell?;
            self.bytes += cell.len() + 1;
            if self.bytes > OUTPUT_BYTES_MAX {
                return Err(Error::Size);
            }
            self.writer.write_field(cell.as_bytes()).map_err(invalid)?;
        }
        self.writer.write_record(None::<&[u8]>).map_err(invalid)
    }

    fn end(self) -> Result<String, Error> {
        let bytes = self.writer.into_inner().map_err(invalid)?;
        String::from_utf8(bytes).map_err(invalid)
    }
}
