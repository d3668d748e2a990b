//! Does a selector say what the specification says? One table of cases, then properties.

use proptest::prelude::*;

use super::*;

/// One message: an order from the specification's examples.
fn lookup(name: &str) -> Option<Value<'static>> {
    Some(match name {
        "Country" => "UK".into(),
        "age" => Value::Exact(17),
        "weight" => Value::Approximate(2501.5),
        "color" => "blue".into(),
        "phone" => "12993".into(),
        "under" => "_foo".into(),
        "percent" => "50%".into(),
        "flag" => true.into(),
        "off" => false.into(),
        "number_text" => "3".into(),
        "long" => Value::Exact(i64::MAX),
        "x-region" => "eu".into(),
        "JMSPriority" => Value::Exact(4),
        "JMSType" => "car".into(),
        "$pay_größe" => Value::Exact(1),
        _ => return None,
    })
}

fn check(text: &str, expected: Option<bool>) {
    let selector = Selector::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(selector.evaluate(&lookup), expected, "{text}");
    assert_eq!(selector.matches(&lookup), expected == Some(true), "{text}");
}

const TRUE: Option<bool> = Some(true);
const FALSE: Option<bool> = Some(false);
const UNKNOWN: Option<bool> = None;

#[test]
fn comparisons_are_those_of_the_specification() {
    for (text, expected) in [
        ("JMSType = 'car' AND color = 'blue' AND weight > 2500", TRUE),
        ("age = 17", TRUE),
        ("age <> 17", FALSE),
        ("age < 17", FALSE),
        ("age <= 17", TRUE),
        ("age >= 18", FALSE),
        ("17 = age", TRUE),
        ("age = 17.0", TRUE),
        ("weight > age", TRUE),
        ("Country = 'UK'", TRUE),
        ("Country <> 'uk'", TRUE),
        ("country = 'UK'", UNKNOWN),
        ("flag = TRUE", TRUE),
        ("flag <> false", TRUE),
        ("flag", TRUE),
        ("NOT off", TRUE),
        ("(age > 1) = TRUE", TRUE),
        ("JMSPriority >= 4", TRUE),
        ("\"x-region\" = 'eu'", TRUE),
        ("$pay_größe = 1", TRUE),
        // Values that are not of like type.
        ("number_text = 3", FALSE),
        ("number_text <> 3", FALSE),
        ("number_text > 2", FALSE),
        ("NOT number_text = 3", TRUE),
        ("flag = Country", FALSE),
        ("color < Country", FALSE),
        // A value that is no condition.
        ("age", UNKNOWN),
        ("NOT color", UNKNOWN),
    ] {
        check(text, expected);
    }
}

#[test]
fn what_is_missing_makes_unknown_by_the_tables_of_the_specification() {
    for (text, expected) in [
        ("missing = 1", UNKNOWN),
        ("missing <> 1", UNKNOWN),
        ("NOT (missing = 1)", UNKNOWN),
        ("missing", UNKNOWN),
        ("NOT missing", UNKNOWN),
        ("missing + 1 > 0", UNKNOWN),
        ("-missing > 0", UNKNOWN),
        ("missing = missing", UNKNOWN),
        ("TRUE AND missing", UNKNOWN),
        ("FALSE AND missing", FALSE),
        ("missing AND FALSE", FALSE),
        ("missing AND missing", UNKNOWN),
        ("TRUE OR missing", TRUE),
        ("missing OR TRUE", TRUE),
        ("FALSE OR missing", UNKNOWN),
        ("missing IS NULL", TRUE),
        ("missing IS NOT NULL", FALSE),
        ("age IS NULL", FALSE),
        ("age IS NOT NULL", TRUE),
        ("missing IN ('a')", UNKNOWN),
        ("missing NOT IN ('a')", UNKNOWN),
        ("missing LIKE '%'", UNKNOWN),
        ("missing NOT LIKE '%'", UNKNOWN),
        ("missing BETWEEN 1 AND 2", UNKNOWN),
        ("age BETWEEN missing AND 20", UNKNOWN),
        ("age BETWEEN missing AND 1", FALSE),
        ("age NOT BETWEEN missing AND 1", TRUE),
    ] {
        check(text, expected);
    }
}

#[test]
fn between_in_and_like_are_those_of_the_specification() {
    for (text, expected) in [
        ("age BETWEEN 15 AND 19", TRUE),
        ("age BETWEEN 17 AND 17", TRUE),
        ("age NOT BETWEEN 15 AND 19", FALSE),
        ("age BETWEEN 19 AND 15", FALSE),
        ("age + 1 BETWEEN 9 * 2 AND 18.5", TRUE),
        ("age BETWEEN 15 AND 19 AND flag", TRUE),
        ("Country IN ('UK', 'US', 'France')", TRUE),
        ("Country NOT IN ('UK', 'US', 'France')", FALSE),
        ("Country IN ('Peru')", FALSE),
        ("age IN ('17')", FALSE),
        ("phone LIKE '12%3'", TRUE),
        ("phone NOT LIKE '12%4'", TRUE),
        ("phone LIKE '12%9'", FALSE),
        ("color LIKE 'bl_e'", TRUE),
        ("color LIKE 'bl_'", FALSE),
        ("under LIKE '\\_%' ESCAPE '\\'", TRUE),
        ("color LIKE '\\_%' ESCAPE '\\'", FALSE),
        ("percent LIKE '50!%' ESCAPE '!'", TRUE),
        ("phone LIKE ''", FALSE),
        ("phone LIKE '%'", TRUE),
        ("phone LIKE '%9%9%'", TRUE),
        ("age LIKE '17'", FALSE),
    ] {
        check(text, expected);
    }
}

#[test]
fn arithmetic_is_exact_for_whole_numbers_and_approximate_for_others() {
    for (text, expected) in [
        ("1 + 2 * 3 = 7", TRUE),
        ("(1 + 2) * 3 = 9", TRUE),
        ("7 / 2 = 3", TRUE),
        ("7 / 2.0 = 3.5", TRUE),
        ("-7 / 2 = -3", TRUE),
        ("10 - 3 - 2 = 5", TRUE),
        ("- - 5 = 5", TRUE),
        ("+age = 17", TRUE),
        ("-age = -17", TRUE),
        ("long = 9223372036854775807", TRUE),
        ("-9223372036854775808 < 0", TRUE),
        ("long + 1 > 0", UNKNOWN),
        ("1 / 0 = 1", UNKNOWN),
        ("1.0 / 0 > 1", TRUE),
        ("long + 1.0 > long", FALSE),
        ("0x10 = 16 AND 010 = 8 AND 1e1 = 10 AND 5L = 5", TRUE),
        ("color + 1 = 2", UNKNOWN),
    ] {
        check(text, expected);
    }
}

#[test]
fn precedence_and_case_of_words_are_those_of_the_specification() {
    for (text, expected) in [
        ("TRUE OR FALSE AND FALSE", TRUE),
        ("(TRUE OR FALSE) AND FALSE", FALSE),
        ("NOT FALSE AND FALSE", FALSE),
        ("NOT (FALSE AND FALSE)", TRUE),
        ("not not true", TRUE),
        ("age between 1 and 20 and Country in ('UK') or missing is null", TRUE),
        ("color LiKe 'b%'", TRUE),
        ("\tage\r\n=\x0c17 ", TRUE),
        ("color = 'it''s'", FALSE),
    ] {
        check(text, expected);
    }
}

#[test]
fn an_error_points_at_its_column() {
    for (text, column, message) in [
        ("", 1, "expected a name, a number, a text or a condition, found the end"),
        ("age =", 6, "found the end"),
        ("age = = 1", 7, "found ="),
        ("größe = ?", 9, "did not expect '?'"),
        ("color = 'blue", 9, "no closing '"),
        ("age > 'a'", 7, "expected a number, found text"),
        ("'a' < 'b'", 1, "expected a number, found text"),
        ("flag > TRUE", 8, "expected a number, found a condition"),
        ("age = 1 AND 5", 13, "expected a condition, found a number"),
        ("5", 1, "expected a condition, found a number"),
        ("'x'", 1, "expected a condition, found text"),
        ("1 = 'a'", 5, "expected a number, found text"),
        ("age + 'a' = 1", 7, "expected a number"),
        ("age NOT 5", 9, "expected BETWEEN, IN or LIKE"),
        ("5 IN ('a')", 1, "expected a name"),
        ("'a' LIKE 'a'", 1, "expected a name"),
        ("age IN (1)", 9, "expected a text in single quotes"),
        ("age IN ()", 9, "expected a text in single quotes"),
        ("age IS 5", 8, "expected NULL"),
        ("age LIKE '\\' ESCAPE '\\'", 10, "ends in its escape"),
        ("age LIKE 'a' ESCAPE 'ab'", 21, "single character"),
        ("(age = 1", 9, "expected )"),
        ("age = 1)", 8, "expected the end, found )"),
        ("age = 9223372036854775808", 7, "does not fit"),
        ("age == 1", 6, "found ="),
        ("a != 1", 3, "did not expect '!'"),
        ("JMSReplyTo = 'x'", 1, "JMSReplyTo cannot be asked for"),
        ("NULL = 1", 1, "found NULL"),
        ("a BETWEEN 1 OR 2", 13, "expected AND"),
    ] {
        let error = Selector::parse(text).expect_err(text);
        assert_eq!(error.column, column, "{text}: {error}");
        assert!(error.message.contains(message), "{text}: {error}");
    }
}

#[test]
fn length_and_depth_are_bounded() {
    let long = |bytes: usize| Selector::parse(&format!("a = 1{}", " ".repeat(bytes - 5)));
    assert!(long(SELECTOR_BYTES_MAX).is_ok());
    assert!(long(SELECTOR_BYTES_MAX + 1).is_err());
    for (open, inner, close) in
        [("(", "a = 1", ")"), ("NOT ", "a", ""), ("- ", "1", "= 1"), ("1 + ", "1", "= 1")]
    {
        let close_once = if close == ")" { SELECTOR_DEPTH_MAX } else { 1 };
        let of = |levels: usize| {
            let extra = if close == ")" { levels } else { close_once };
            Selector::parse(&format!("{}{inner} {}", open.repeat(levels), close.repeat(extra)))
        };
        assert!(of(SELECTOR_DEPTH_MAX).is_ok(), "{open}: {:?}", of(SELECTOR_DEPTH_MAX));
        assert!(of(SELECTOR_DEPTH_MAX + 1).expect_err("too deep").message.contains("deeper"), "{open}");
    }
    let chain = "a = 1 OR ".repeat(1500) + "a = 1";
    assert_eq!(Selector::parse(&chain).expect("a chain is not deep").evaluate(&lookup), UNKNOWN);
}

#[test]
fn names_are_told_once_each() {
    let selector =
        Selector::parse("a = 1 AND (b IN ('x') OR a IS NULL) AND c + d > 0 AND e LIKE 'x'").expect("valid");
    assert_eq!(selector.names(), ["a", "b", "c", "d", "e"]);
}

/// Three-valued logic again, as the tables of the specification have it.
fn any_condition() -> impl Strategy<Value = (String, Option<bool>)> {
    let leaf = prop_oneof![
        Just(("TRUE".to_owned(), TRUE)),
        Just(("off".to_owned(), FALSE)),
        Just(("missing > 1".to_owned(), UNKNOWN)),
    ];
    leaf.prop_recursive(4, 32, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            inner.prop_map(|(text, it)| (format!("NOT ({text})"), it.map(|it| !it))),
            two.clone().prop_map(|((a, x), (b, y))| {
                let both = match (x, y) {
                    (FALSE, _) | (_, FALSE) => FALSE,
                    (TRUE, TRUE) => TRUE,
                    _ => UNKNOWN,
                };
                (format!("({a}) AND ({b})"), both)
            }),
            two.prop_map(|((a, x), (b, y))| {
                let either = match (x, y) {
                    (TRUE, _) | (_, TRUE) => TRUE,
                    (FALSE, FALSE) => FALSE,
                    _ => UNKNOWN,
                };
                (format!("({a}) OR ({b})"), either)
            }),
        ]
    })
}

proptest! {
    #[test]
    fn logic_has_three_values((text, expected) in any_condition()) {
        prop_assert_eq!(Selector::parse(&text).expect("valid").evaluate(&lookup), expected);
    }

    #[test]
    fn any_text_is_a_selector_or_an_error_within_it(text in ".{0,80}") {
        if let Err(error) = Selector::parse(&text) {
            prop_assert!((1..=text.chars().count() + 1).contains(&error.column));
        }
    }

    #[test]
    fn any_words_are_a_selector_or_an_error(words in proptest::collection::vec(
        prop::sample::select(&["a", "1", "2.5", "'x'", "(", ")", "NOT", "AND", "OR", "IN", "LIKE", "IS", "NULL", "BETWEEN", "=", "<", "+", "-", "*", ",", "ESCAPE", "TRUE"][..]), 0..14,
    )) {
        let text = words.join(" ");
        if let Ok(selector) = Selector::parse(&text) {
            let _ = selector.evaluate(&lookup);
        }
    }

    #[test]
    fn like_agrees_with_a_regular_expression(pattern in "[ab%_]{0,8}", text in "[ab]{0,8}") {
        let wanted: String = pattern.chars().map(|it| match it { '%' => ".*".into(), '_' => ".".into(), it => it.to_string() }).collect();
        let wanted = regex::Regex::new(&format!("^{wanted}$")).expect("a pattern").is_match(&text);
        prop_assert_eq!(pattern::Pattern::parse(&pattern, None).expect("a pattern").matches(&text), wanted);
    }

    #[test]
    fn numbers_compare_as_numbers_do(left in -1000i64..1000, right in -1000i64..1000) {
        let holds = |text: String| Selector::parse(&text).expect("valid").matches(&lookup);
        prop_assert_eq!(holds(format!("{left} < {right}")), left < right);
        prop_assert_eq!(holds(format!("{left} + {right} = {}", left + right)), true);
        prop_assert_eq!(holds(format!("{left}.0 >= {right}")), left >= right);
    }
}
