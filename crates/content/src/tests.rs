//! Does each form become the JSON that is promised, and come back?

use proptest::prelude::*;

use super::*;

fn json(content_type: &str, body: impl AsRef<[u8]>) -> Result<String, Error> {
    to_json(Some(content_type), body.as_ref()).map(|json| String::from_utf8_lossy(&json).into_owned())
}

fn body(content_type: &str, json: &str) -> Result<String, Error> {
    from_json(Some(content_type), json.as_bytes()).map(|body| String::from_utf8_lossy(&body).into_owned())
}

#[track_caller]
fn check(content_type: &str, text: &str, expected: &str) {
    assert_eq!(json(content_type, text).as_deref(), Ok(expected), "{text}");
}

#[track_caller]
fn refused(result: Result<String, Error>, expected: &str) {
    let error = result.expect_err("refused").to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn json_stays_as_it_is() {
    for content_type in
        ["application/json", "application/JSON; charset=utf-8", "text/json", "application/vnd.x+json", ""]
    {
        check(content_type, "{ \"a\" : 1.10 }", "{ \"a\" : 1.10 }");
        assert_eq!(body(content_type, "[1]").as_deref(), Ok("[1]"));
        refused(json(content_type, "{\"a\":}"), "the body is not JSON: expected value at line 1 column 6");
    }
    assert_eq!(to_json(None, b"1"), Ok(Bytes::from_static(b"1")));
}

#[test]
fn a_table_becomes_objects_by_its_first_line() {
    check(
        "text/csv",
        "sku,n\r\na,1\r\n\"b,\"\"c\"\"\",2\r\n",
        r#"[{"sku":"a","n":"1"},{"sku":"b,\"c\"","n":"2"}]"#,
    );
    check("text/csv; header=absent", "a,1\nb,2\n", r#"[["a","1"],["b","2"]]"#);
    check("text/tab-separated-values", "a\tb\n1\t2\n", r#"[{"a":"1","b":"2"}]"#);
    check("text/csv", "", "[]");
    check("text/csv", "a,b\n", "[]");
    check("text/csv", "a\n\"two\nlines\"\n", r#"[{"a":"two\nlines"}]"#);
    refused(json("text/csv", "a,b\n1\n"), "found record with 1 fields");
    refused(json("text/csv", "a,a\n1,2\n"), "columns 1 and 2 are both called \"a\"");
}

#[test]
fn json_becomes_a_table_with_the_names_in_the_order_in_which_they_come() {
    assert_eq!(
        body("text/csv", r#"[{"z":1.10,"a":"x,y"},{"b":null,"a":true}]"#).as_deref(),
        Ok("z,a,b\r\n1.10,\"x,y\",\r\n,true,\r\n")
    );
    assert_eq!(body("text/csv; header=absent", r#"[{"a":1}]"#).as_deref(), Ok("1\r\n"));
    assert_eq!(body("text/csv", r#"[["a","b"],[1,2]]"#).as_deref(), Ok("a,b\r\n1,2\r\n"));
    assert_eq!(body("text/csv", r#"{"a":1}"#).as_deref(), Ok("a\r\n1\r\n"));
    refused(body("text/csv", r#"[{"a":[1]}]"#), "column \"a\" of row 1 cannot hold a list");
    refused(body("text/csv", r#"[{"a":1},[2]]"#), "row 2 is not like the others");
    refused(body("text/csv", "5"), "row 1 is not like the others");
}

#[test]
fn columns_are_bounded_at_columns_max() {
    let head = |columns: usize| (0..columns).map(|at| format!("c{at}")).collect::<Vec<_>>().join(",") + "\n";
    assert!(json("text/csv", head(COLUMNS_MAX)).is_ok());
    refused(json("text/csv", head(COLUMNS_MAX + 1)), "more than 4096 columns");
    refused(json("text/csv; header=absent", head(COLUMNS_MAX + 1)), "more than 4096 columns");
    let object = |columns: usize| {
        let items: Vec<_> = (0..columns).map(|at| format!("\"c{at}\":1")).collect();
        body("text/csv", &format!("{{{}}}", items.join(",")))
    };
    assert!(object(COLUMNS_MAX).is_ok());
    refused(object(COLUMNS_MAX + 1), "more than 4096 columns");
}

#[test]
fn a_short_body_cannot_become_a_long_one_past_output_bytes_max() {
    // A long name that comes again in each row.
    let table = |rows: usize| json("text/csv", "n".repeat(1 << 20) + "\n" + &"1\n".repeat(rows));
    assert!(table(OUTPUT_BYTES_MAX / (1 << 20) - 1).is_ok());
    assert_eq!(table(OUTPUT_BYTES_MAX / (1 << 20)), Err(Error::Size));
    // Each row with a column of its own: the others are empty in it.
    let rows: Vec<_> = (0..COLUMNS_MAX).map(|at| format!("{{\"c{at}\":1}}")).collect();
    assert!(body("text/csv", &format!("[{}]", rows.join(","))).is_ok());
    let many: Vec<_> = (0..OUTPUT_BYTES_MAX / COLUMNS_MAX + 1)
        .map(|at| format!("{{\"c{}\":1}}", at % COLUMNS_MAX))
        .collect();
    assert_eq!(body("text/csv", &format!("[{}]", many.join(","))), Err(Error::Size));
}

#[test]
fn xml_becomes_an_object_with_its_root() {
    let xml = "application/xml";
    check(xml, "<a/>", r#"{"a":null}"#);
    check(xml, "<?xml version=\"1.0\"?>\n<!-- c --><a>t</a>\n", r#"{"a":"t"}"#);
    check(
        xml,
        "<o id=\"7\"><l>1</l><l>2</l><n x='y'>3</n></o>",
        r##"{"o":{"@id":"7","l":["1","2"],"n":{"@x":"y","#text":"3"}}}"##,
    );
    check(xml, "<a>\n  <b>1</b>\n</a>", r#"{"a":{"b":"1"}}"#);
    check(xml, "<a>x<b/>y</a>", r##"{"a":{"b":null,"#text":"xy"}}"##);
    check(xml, "<a>&lt;&#228;&#x1F600;&amp;<![CDATA[<raw>&]]></a>", r#"{"a":"<ä😀&<raw>&"}"#);
    check(xml, "<n:a xmlns:n=\"u\"><n:b/></n:a>", r#"{"n:a":{"@xmlns:n":"u","n:b":null}}"#);
    check("application/soap+xml", "<a> </a>", r#"{"a":" "}"#);
    check(xml, "<!DOCTYPE a [<!ENTITY x \"y\">]><a>1</a>", r#"{"a":"1"}"#);
    for (text, expected) in [
        ("", "there is no element"),
        ("<a>", "the element a has no end"),
        ("<a></b>", "not valid"),
        ("<a/><b/>", "more than one root"),
        ("<a/>x", "text outside"),
        ("<a>&nosuch;</a>", "the entity &nosuch; is not known"),
        ("<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>", "the entity &x; is not known"),
        ("<a b=\"1\" b=\"2\"/>", "not valid"),
        ("<a b=&/>", "not valid"),
        ("{}", "text outside"),
    ] {
        refused(json(xml, text), expected);
    }
}

#[test]
fn json_becomes_xml_with_one_root() {
    let xml = |json: &str| body("application/xml", json);
    let head = "<?xml version=\"1.0\" encoding=\"utf-8\"?>";
    for (json, expected) in [
        (r#"{"a":null}"#, "<a/>"),
        (r#"{"a":1.50}"#, "<a>1.50</a>"),
        (
            r##"{"o":{"@id":7,"l":["x<y",true],"#text":"t&"}}"##,
            "<o id=\"7\"><l>x&lt;y</l><l>true</l>t&amp;</o>",
        ),
    ] {
        assert_eq!(xml(json), Ok(format!("{head}{expected}")), "{json}");
    }
    refused(xml("[1]"), "one name: that of the root");
    refused(xml(r#"{"a":1,"b":2}"#), "one name: that of the root");
    refused(xml(r#"{"a":[1,2]}"#), "one name: that of the root");
    refused(xml(r#"{"a b":1}"#), "cannot be the name");
    refused(xml(r#"{"a":{"1":1}}"#), "cannot be the name");
    refused(xml(r#"{"a":"\u0000"}"#), "U+0000");
    refused(xml(r#"{"a":{"b":[[1]]}}"#), "cannot hold a list");
    refused(xml(r#"{"a":{"@b":{}}}"#), "the attribute b cannot hold an object");
}

#[test]
fn nesting_is_bounded_at_depth_max() {
    let xml = |levels: usize| json("application/xml", "<a>".repeat(levels) + &"</a>".repeat(levels));
    assert!(xml(DEPTH_MAX).is_ok());
    refused(xml(DEPTH_MAX + 1), "deeper than 128");
    let nested =
        |levels: usize| body("application/xml", &("{\"a\":".repeat(levels) + "1" + &"}".repeat(levels)));
    assert!(nested(DEPTH_MAX).is_ok());
    refused(nested(DEPTH_MAX + 1), "deeper than 128");
}

#[test]
fn a_form_becomes_an_object() {
    let form = "application/x-www-form-urlencoded";
    check(form, "a=1&b=x+y%C3%A4&a=2&c", r#"{"a":["1","2"],"b":"x yä","c":""}"#);
    check(form, "", "{}");
    assert_eq!(body(form, r#"{"a":["1",2],"b":"x y&","c":null}"#).as_deref(), Ok("a=1&a=2&b=x+y%26&c="));
    refused(body(form, "[]"), "made of an object");
    refused(body(form, r#"{"a":{}}"#), "the field \"a\" of a form cannot hold an object");
}

#[test]
fn plain_text_is_a_text() {
    check("text/plain", "a \"b\"\n", r#""a \"b\"\n""#);
    assert_eq!(body("text/plain", "\"x\"").as_deref(), Ok("x"));
    assert_eq!(body("text/plain", "5").as_deref(), Ok("5"));
    refused(body("text/plain", "[]"), "cannot hold a list");
}

#[test]
fn a_charset_is_obeyed_both_ways() {
    assert_eq!(json("text/plain; charset=ISO-8859-1", [0xe4]).as_deref(), Ok("\"ä\""));
    assert_eq!(
        from_json(Some("text/plain; charset=\"iso-8859-1\""), "\"ä\"".as_bytes()),
        Ok(Bytes::from_static(&[0xe4]))
    );
    let declared = b"<?xml version='1.0' encoding='ISO-8859-1'?><a>\xe4</a>";
    assert_eq!(json("application/xml", declared).as_deref(), Ok(r#"{"a":"ä"}"#));
    let sixteen: Vec<u8> = "\u{feff}a,b\n1,2\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(json("text/csv; charset=utf-16", sixteen).as_deref(), Ok(r#"[{"a":"1","b":"2"}]"#));
    check("text/csv", "\u{feff}a\n1\n", r#"[{"a":"1"}]"#);
    refused(json("text/plain", [0xe4]), "the body is not UTF-8");
    refused(json("text/plain; charset=klingon", "x"), "the charset klingon is not known");
    refused(body("text/plain; charset=iso-8859-1", "\"Ω\""), "does not exist in");
    refused(body("text/plain; charset=utf-16", "\"x\""), "cannot be written");
    assert!(check_type("text/csv; charset=utf-16").is_err());
    assert!(check_type("text/csv; charset=utf-8").is_ok());
}

fn check_type(content_type: &str) -> Result<(), Error> {
    super::check(Some(content_type))
}

#[test]
fn other_types_are_refused_by_name() {
    refused(json("application/octet-stream", "x"), "application/octet-stream cannot be read as JSON");
    refused(body("image/png", "1"), "image/png");
}

/// JSON that XML can hold and give back: texts that are not empty, names that are valid, no list of one.
fn any_element() -> impl Strategy<Value = Json> {
    let text = "[ -~äß€\\n\\t\\r]{0,10}[!-~]".prop_map(Json::Text);
    let leaf = prop_oneof![Just(Json::Null), text.clone()];
    leaf.prop_recursive(3, 20, 4, move |inner| {
        let children = proptest::collection::btree_map("[a-z]{1,3}", inner.clone(), 1..4);
        let list = proptest::collection::vec(inner, 2..4);
        (
            proptest::collection::btree_map("@[a-z]{1,3}", text.clone(), 0..3),
            children,
            proptest::option::of(list),
        )
            .prop_map(|(attributes, children, list)| {
                let list = list.map(|list| ("zzzz".to_owned(), Json::List(list)));
                Json::Object(attributes.into_iter().chain(children).chain(list).collect())
            })
    })
}

proptest! {
    #[test]
    fn json_keeps_its_order_and_its_digits(root in any_element()) {
        let written = root.write().expect("short");
        prop_assert_eq!(Json::read(&written), Ok(root));
    }

    #[test]
    fn xml_comes_back(root in any_element()) {
        let document = Json::Object(vec![("root".into(), root)]);
        let text = xml::write(&document, None).expect("valid");
        prop_assert_eq!(xml::read(&text), Ok(document));
    }

    #[test]
    fn a_table_comes_back(cells in proptest::collection::vec(proptest::collection::vec("[ -~ä\\r\\n]{0,6}", 3..=3), 0..5)) {
        let names = ["z", "a", "m"];
        let row = |cells: Vec<String>| Json::Object(names.iter().map(|name| (*name).to_owned()).zip(cells.into_iter().map(Json::Text)).collect());
        let table = Json::List(cells.into_iter().map(row).collect());
        for separator in [b',', b'\t'] {
            let text = table::write(&table, separator, true).expect("valid");
            prop_assert_eq!(table::read(&text, separator, true), Ok(table.clone()));
        }
    }

    #[test]
    fn a_form_comes_back(fields in proptest::collection::btree_map(".{0,6}", ".{0,6}", 0..5)) {
        let form = Json::Object(fields.into_iter().map(|(name, value)| (name, Json::Text(value))).collect());
        prop_assert_eq!(form::read(&form::write(&form).expect("valid")), form);
    }

    #[test]
    fn any_bytes_are_a_body_or_an_error(bytes: Vec<u8>, text in ".{0,40}") {
        for content_type in ["application/json", "text/csv", "text/csv;header=absent", "application/xml", "application/x-www-form-urlencoded", "text/plain;charset=utf-16", &text] {
            for input in [&bytes[..], text.as_bytes()] {
                if let Ok(json) = to_json(Some(content_type), input) {
                    prop_assert!(serde_json::from_slice::<serde_json::Value>(&json).is_ok());
                }
                let _ = from_json(Some(content_type), input);
            }
        }
    }
}
