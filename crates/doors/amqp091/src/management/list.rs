//! How is a list shortened for who asks: pages, a filter by name, an order, columns?

use std::{cmp::Ordering, collections::BTreeMap};

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use regex::RegexBuilder;
use serde_json::{Map, Value, json};

use super::failure::Failure;

/// Things on one page, unless asked for fewer or more.
const PAGE_SIZE: usize = 100;
/// Most things on one page.
pub const PAGE_SIZE_MAX: usize = 500;
/// Bytes that a filter by regular expression may take when compiled.
const COMPILED_BYTES_MAX: usize = 256 << 10;

/// The parameters of a request; of a name that is given twice the last counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Ask(pub BTreeMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Ask {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Ask, Failure> {
        let query: Result<Query<Vec<(String, String)>>, _> = Query::try_from_uri(&parts.uri);
        let Query(pairs) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
        Ok(Ask(pairs.into_iter().collect()))
    }
}

impl Ask {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn is_true(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    /// Columns, order, and where asked for a page, of things with names.
    pub fn apply(&self, mut items: Vec<Value>) -> Result<Value, Failure> {
        if let Some(key) = self.get("sort") {
            items.sort_by(|a, b| compare(pick(a, key), pick(b, key)));
            if self.is_true("sort_reverse") {
                items.reverse();
            }
        }
        if self.get("page").is_none() {
            return Ok(self.columns(items).into());
        }
        let wrong = || Failure::bad_request("Pagination parameters are invalid");
        let number = |name: &str, default: usize| -> Result<usize, Failure> {
            let text = self.get(name);
            text.map_or(Ok(default), |text| text.parse().ok().filter(|number| *number > 0).ok_or_else(wrong))
        };
        let (page, size) = (number("page", 1)?, number("page_size", PAGE_SIZE)?);
        if size > PAGE_SIZE_MAX {
            return Err(wrong());
        }
        let total = items.len();
        let items = self.filtered(items)?;
        let filtered = items.len();
        let pages = filtered.div_ceil(size);
        if page > pages.max(1) {
            let reason = format!("Page out of range, page: {page} page size: {size}, len: {filtered}");
            return Err(Failure::page_out_of_range(reason));
        }
        let items: Vec<Value> = items.into_iter().skip((page - 1) * size).take(size).collect();
        let items = self.columns(items);
        Ok(json!({
            "filtered_count": filtered,
            "item_count": items.len(),
            "items": items,
            "page": page,
            "page_count": pages,
            "page_size": size,
            "total_count": total,
        }))
    }

    fn filtered(&self, items: Vec<Value>) -> Result<Vec<Value>, Failure> {
        let Some(name) = self.get("name").filter(|name| !name.is_empty()) else { return Ok(items) };
        let of = |item: &Value| item["name"].as_str().unwrap_or_default().to_owned();
        if !self.is_true("use_regex") {
            let name = name.to_lowercase();
            return Ok(items.into_iter().filter(|item| of(item).to_lowercase().contains(&name)).collect());
        }
        let built = RegexBuilder::new(name).case_insensitive(true).size_limit(COMPILED_BYTES_MAX).build();
        let regex = built.map_err(|error| Failure::bad_request(format!("name: {error}")))?;
        Ok(items.into_iter().filter(|item| regex.is_match(&of(item))).collect())
    }

    /// Only the columns that are asked for; `a.b` is the member `b` of `a`.
    fn columns(&self, items: Vec<Value>) -> Vec<Value> {
        let Some(columns) = self.get("columns").filter(|columns| !columns.is_empty()) else { return items };
        let columns: Vec<&str> = columns.split(',').collect();
        items.into_iter().map(|item| Value::Object(only(&item, &columns))).collect()
    }

    /// The same for a single thing.
    pub fn one(&self, item: Value) -> Value {
        self.columns(vec![item]).pop().unwrap_or_default()
    }
}

fn only(item: &Value, columns: &[&str]) -> Map<String, Value> {
    let mut chosen = Map::new();
    for column in columns {
        let Some(value) = pick(item, column) else { continue };
        let mut place = &mut chosen;
        let mut words = column.split('.').peekable();
        while let Some(word) = words.next() {
            if words.peek().is_none() {
                place.insert(word.to_owned(), value.clone());
                break;
            }
            let inner = place.entry(word).or_insert_with(|| json!({}));
            let Value::Object(inner) = inner else { break };
            place = inner;
        }
    }
    chosen
}

fn pick<'a>(item: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(item, |value, word| value.get(word))
}

fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (Some(Value::Number(a)), Some(Value::Number(b))) => {
            a.as_f64().unwrap_or_default().total_cmp(&b.as_f64().unwrap_or_default())
        }
        (Some(Value::String(a)), Some(Value::String(b))) => a.cmp(b),
        (Some(Value::Bool(a)), Some(Value::Bool(b))) => a.cmp(b),
        (Some(a), Some(b)) => a.to_string().cmp(&b.to_string()),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> Vec<Value> {
        let item =
            |name: &str, count: u64| json!({"name": name, "n": count, "arguments": {"x": count, "y": 1}});
        vec![item("Qb", 2), item("qa", 10), item("other", 1)]
    }

    fn check(query: &[(&str, &str)], expected: Value) {
        let ask = Ask(query.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect());
        let answer = ask.apply(items()).unwrap_or_else(|failure| failure.reason);
        assert_eq!(answer, expected, "{query:?}");
    }

    #[test]
    fn lists_are_sorted_and_cut_to_columns() {
        check(&[("columns", "name")], json!([{"name": "Qb"}, {"name": "qa"}, {"name": "other"}]));
        check(&[("columns", "n"), ("sort", "n")], json!([{"n": 1}, {"n": 2}, {"n": 10}]));
        check(
            &[("columns", "arguments.x,none"), ("sort", "n"), ("sort_reverse", "true")],
            json!([{"arguments": {"x": 10}}, {"arguments": {"x": 2}}, {"arguments": {"x": 1}}]),
        );
    }

    #[test]
    fn pages_count_what_is_filtered() {
        let page = |filtered: usize, items: Value, page: usize, pages: usize, size: usize| {
            json!({
                "filtered_count": filtered, "item_count": items.as_array().map_or(0, Vec::len), "items": items,
                "page": page, "page_count": pages, "page_size": size, "total_count": 3
            })
        };
        let query =
            [("page", "2"), ("page_size", "1"), ("name", "^q"), ("use_regex", "true"), ("columns", "n")];
        check(&query, page(2, json!([{"n": 10}]), 2, 2, 1));
        check(&[("page", "1"), ("name", "B"), ("columns", "n")], page(1, json!([{"n": 2}]), 1, 1, 100));
        check(&[("page", "9"), ("page_size", "2")], json!("Page out of range, page: 9 page size: 2, len: 3"));
        check(&[("page", "x")], json!("Pagination parameters are invalid"));
        let past = (PAGE_SIZE_MAX + 1).to_string();
        check(&[("page", "1"), ("page_size", &past)], json!("Pagination parameters are invalid"));
        let most = PAGE_SIZE_MAX.to_string();
        check(
            &[("page", "1"), ("page_size", &most), ("name", "zz")],
            page(0, json!([]), 1, 0, PAGE_SIZE_MAX),
        );
    }
}
