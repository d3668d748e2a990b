//! Is each field of a declaration held to its bounds, and does an error say where it is?

use waystation_broker::spec::{Start, retry::ATTEMPTS_MAX};

use super::*;
use crate::{
    Program,
    limits::{
        CASES_MAX, CONDITION_DEPTH_MAX, CONDITION_PARTS_MAX, NESTING_MAX, PROGRAM_BYTES_MAX, STEPS_MAX,
        TARGETS_MAX,
    },
};

fn route() -> Name {
    Name::new("r").expect("a name")
}

fn read(json: serde_json::Value) -> Result<RouteSteps, serde_json::Error> {
    serde_json::from_value(json)
}

fn good() -> RouteSteps {
    read(serde_json::json!({"from": {"queue": "in"}, "steps": [{"to": "out"}]})).expect("a route")
}

#[track_caller]
fn check(change: impl FnOnce(&mut RouteSteps), field: Option<&str>) {
    let mut spec = good();
    change(&mut spec);
    let error = Program::compile(&route(), &spec).err();
    assert_eq!(error.as_ref().map(|error| error.field.as_str()), field, "{error:?}");
}

fn steps(json: serde_json::Value) -> Vec<Step> {
    serde_json::from_value(json).expect("steps")
}

#[test]
fn each_number_is_checked_at_its_bound_and_past_it() {
    check(|_| (), None);
    check(|it| it.retry.attempts_max = Some(ATTEMPTS_MAX), None);
    check(|it| it.retry.attempts_max = Some(ATTEMPTS_MAX + 1), Some("retry.attempts_max"));
    check(|it| it.retry.first_ms = it.retry.most_ms + 1, Some("retry.first_ms"));
    check(|it| it.limits.time_ms = TIME_MS_MAX, None);
    check(|it| it.limits.time_ms = TIME_MS_MAX + 1, Some("limits.time_ms"));
    check(|it| it.limits.output_bytes = OUTPUT_BYTES_MAX, None);
    check(|it| it.limits.output_bytes = OUTPUT_BYTES_MAX + 1, Some("limits.output_bytes"));
    check(|it| it.limits.outputs = OUTPUTS_MAX, None);
    check(|it| it.limits.outputs = OUTPUTS_MAX + 1, Some("limits.outputs"));
    check(|it| it.limits.held_bytes = HELD_BYTES_MAX, None);
    check(|it| it.limits.held_bytes = HELD_BYTES_MAX + 1, Some("limits.held_bytes"));
    check(|it| it.limits.held_bytes = 0, Some("limits.held_bytes"));
    check(|it| it.limits.hops = HOPS_MAX, None);
    check(|it| it.limits.hops = HOPS_MAX + 1, Some("limits.hops"));
}

#[test]
fn the_source_is_exactly_one_and_has_a_good_name() {
    check(|it| it.from.topic = Some("t".into()), Some("from"));
    check(|it| it.from = From::default(), Some("from"));
    check(|it| it.from.queue = Some("a b".into()), Some("from.queue"));
    check(|it| it.from.start = Some(Start::Earliest), Some("from.start"));
    let pattern = |text: &str| From { pattern: Some(text.into()), ..From::default() };
    check(|it| it.from = pattern("a.#"), None);
    check(|it| it.from = pattern("a.b"), Some("from.pattern"));
    check(|it| it.from = pattern("$a.*"), Some("from.pattern"));
    check(|it| it.dead_letter = Some("in".into()), Some("dead_letter"));
    let taken = pattern("a.#").taken(&route()).expect("a source");
    assert_eq!(taken.source().name().as_str(), "$routes.r");
}

#[test]
fn lists_are_bounded() {
    let to = |count| Targets(vec![Target::Address("out".into()); count]);
    check(|it| it.steps[0].to = Some(to(TARGETS_MAX)), None);
    check(|it| it.steps[0].to = Some(to(TARGETS_MAX + 1)), Some("steps[0].to"));
    let taps = |count| vec![serde_json::json!({"tap": "t"}); count];
    let with_taps = |count| steps([taps(count), vec![serde_json::json!({"to": "out"})]].concat().into());
    check(|it| it.steps = with_taps(STEPS_MAX - 1), None);
    check(|it| it.steps = with_taps(STEPS_MAX), Some("steps"));
    let cases = |count| vec![serde_json::json!({"when": {"address": "a"}, "to": "x"}); count];
    let choose = |count| steps(serde_json::json!([{"choose": cases(count), "otherwise": "y"}]));
    check(|it| it.steps = choose(CASES_MAX), None);
    check(|it| it.steps = choose(CASES_MAX + 1), Some("steps[0].choose"));
    check(|it| it.steps = choose(0), Some("steps[0].choose"));
    let parts = |count| vec![serde_json::json!({"address": "a"}); count];
    let all = |count| steps(serde_json::json!([{"filter": {"all": parts(count)}}, {"to": "x"}]));
    check(|it| it.steps = all(CONDITION_PARTS_MAX), None);
    check(|it| it.steps = all(CONDITION_PARTS_MAX + 1), Some("steps[0].filter.all"));
}

#[test]
fn nesting_is_bounded() {
    let nest = |depth| {
        let leaf = serde_json::json!([{"to": "x"}]);
        let within = |inner: serde_json::Value, _| serde_json::json!([{"choose": [{"when": {"address": "a"}, "steps": inner}], "otherwise": "y"}]);
        steps((1..depth).fold(leaf, within))
    };
    check(|it| it.steps = nest(NESTING_MAX), None);
    let deep = format!("steps{}", "[0].choose[0].steps".repeat(NESTING_MAX));
    check(|it| it.steps = nest(NESTING_MAX + 1), Some(&deep));
    let not = |depth| {
        let condition = (1..depth)
            .fold(serde_json::json!({"address": "a"}), |inner, _| serde_json::json!({"not": inner}));
        steps(serde_json::json!([{"filter": condition}, {"to": "x"}]))
    };
    check(|it| it.steps = not(CONDITION_DEPTH_MAX), None);
    let deep = format!("steps[0].filter{}", ".not".repeat(CONDITION_DEPTH_MAX));
    check(|it| it.steps = not(CONDITION_DEPTH_MAX + 1), Some(&deep));
}

#[test]
fn programs_are_bounded_and_their_errors_have_a_column() {
    let filter = |text: String| steps(serde_json::json!([{"filter": text}, {"to": "x"}]));
    let long = |bytes: usize| filter(format!(".{}", " ".repeat(bytes - 1)));
    check(|it| it.steps = long(PROGRAM_BYTES_MAX), None);
    check(|it| it.steps = long(PROGRAM_BYTES_MAX + 1), Some("steps[0].filter.jq"));
    let spec = RouteSteps { steps: filter(".a |\n  nothing_of_this_name".into()), ..good() };
    let error = Program::compile(&route(), &spec).expect_err("unknown function");
    assert!(error.reason.starts_with("line 2, column 3: "), "{error}");
}

#[test]
fn what_is_written_reads_back_the_same() {
    let spec = read(serde_json::json!({
        "from": {"pattern": "a.*", "start": {"offset": 3}},
        "steps": [
            {"filter": ".a", "else": ["x", {"route": "y"}]},
            {"validate": {"any": [{"selector": "a = 1"}, {"not": {"routing_key": "k.#"}}]}},
            {"transform": {"body": ".b", "content_type": "text/csv"}},
            {"choose": [{"when": {"filter": {"exact": {"type": "t"}}}, "steps": [{"tap": "z"}]}], "otherwise": {"steps": []}},
            {"split": ".[]"},
            {"choose": [{"when": {"address": "a.b"}, "to": []}], "otherwise": "q"},
        ],
        "order": "key",
    }))
    .expect("a route");
    let written = serde_json::to_value(&spec).expect("JSON");
    assert_eq!(read(written).expect("a route"), spec);
    let sends = spec.sends();
    let names: Vec<String> = sends.targets.iter().map(Destination::to_string).collect();
    assert_eq!(names, ["q", "x", "z", "route y"]);
    assert!(Program::compile(&route(), &spec).is_ok());
    for unknown in [
        r#"{"from": {"queue": "q"}, "steps": [], "stepz": 1}"#,
        r#"{"from": {"queue": "q"}, "steps": [{"tu": "x"}]}"#,
    ] {
        assert!(serde_json::from_str::<RouteSteps>(unknown).is_err(), "{unknown}");
    }
}
