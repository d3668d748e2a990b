//! Do errors point at their place, and is what looks outside refused?

use super::*;

fn check(text: &str, line: usize, column: usize, message: &str) {
    let error = Program::compile(text, &["headers"]).expect_err(text);
    assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
    assert!(error.message.contains(message), "{text}: {error}");
}

#[test]
fn an_error_points_at_its_line_and_column() {
    check(".a | ", 1, 6, "expected term, found the end");
    check(".a\n| .b\n| )", 3, 3, "expected");
    check(".a | nosuch(1)", 1, 6, "there is no function nosuch/1");
    check("ä | nosuch", 1, 1, "expected token");
    check("\"ä\" | nosuch", 1, 7, "there is no function nosuch/0");
    check("$header", 1, 1, "there is no variable $header (there are: $headers)");
    check("{a: [1, 2}", 1, 10, "expected closing bracket");
    check(".a b", 1, 4, "did not expect \"b\"");
    check("", 1, 1, "expected term");
    check("\"\\q\"", 1, 3, "escape");
}

#[test]
fn what_looks_outside_is_refused_by_name() {
    for name in ["env", "input", "inputs", "input_filename", "input_line_number", "halt", "debug", "stderr"] {
        check(name, 1, 1, "is not available");
    }
    check("halt_error(1)", 1, 1, "is not available");
    check("debug(\"x\")", 1, 1, "is not available");
    check("$ENV.HOME", 1, 1, "the environment is not available");
    check("import \"a\" as a; .", 1, 9, "no modules or files");
    check("include \"a\"; .", 1, 10, "no modules or files");
    check("import \"/etc/passwd\" as $x; $x", 1, 9, "no modules or files");
}

#[test]
fn usual_programs_compile() {
    for text in [
        ".total > 0",
        "{id, total}",
        ".lines[] | select(.price > 10) | .sku",
        "map(.x) | add",
        "$headers.region // \"none\"",
        "now | todate",
        "test(\"^a\"; \"i\")",
        "@base64 \"x\\(.)\"",
        "def f(x): x * 2; f(.a)",
        "try error(\"x\") catch .",
        "limit(3; repeat(1))",
        "reduce .[] as [$a, $b] (0; . + $a * $b)",
        "input_line_number? // 1",
    ] {
        let compiled = Program::compile(text, &["headers"]);
        assert_eq!(compiled.is_ok(), !text.contains("input_line"), "{text}: {compiled:?}");
    }
}

#[test]
fn a_program_is_bounded_at_program_bytes_max() {
    let of = |bytes: usize| Program::compile(&format!("1{}", " ".repeat(bytes - 1)), &[]);
    assert!(of(PROGRAM_BYTES_MAX).is_ok());
    assert!(of(PROGRAM_BYTES_MAX + 1).expect_err("too long").message.contains("65536"));
}

#[test]
fn variables_are_bounded_at_variables_max() {
    let names: Vec<_> = (0..=VARIABLES_MAX).map(|number| format!("v{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    assert!(Program::compile(".", &names[..VARIABLES_MAX]).is_ok());
    assert!(Program::compile(".", &names).is_err());
}

#[test]
fn nesting_as_deep_as_a_program_can_be_does_not_harm_the_compiler() {
    let repeated = |part: &str| part.repeat(PROGRAM_BYTES_MAX / part.len());
    for part in [
        "(",
        "[",
        "{a:",
        "-",
        "\"\\(",
        "if ",
        "try ",
        "def f: ",
        ". as $x | ",
        "1|",
        "1,",
        ".[",
        "..",
        "?",
        "reduce ",
    ] {
        let _ = Program::compile(&repeated(part), &[]);
    }
    let half = (PROGRAM_BYTES_MAX - 1) / 2;
    for (open, inner, close) in [("(", "1", ")"), ("[", "1", "]"), ("-", "1", "")] {
        let text = format!("{}{inner}{}", open.repeat(half), close.repeat(half));
        assert!(Program::compile(&text, &[]).is_ok(), "{open} {close}");
    }
}
