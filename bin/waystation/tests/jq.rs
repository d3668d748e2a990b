//! What can a hostile jq program do to the server? Its children, run by the real binary, against everything that we could think of.

use std::{
    fs,
    io::{Read, Write},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::task::JoinSet;
use waystation_jq::{
    Command, Failure, Limits, Pool, Program,
    fuzzing::request::{self, Request},
};

/// What the children of these tests may use: little memory, and a time that ordinary programs keep on a busy machine.
fn limits() -> Limits {
    Limits {
        time: Duration::from_secs(2),
        memory_bytes: 64 << 20,
        output_bytes: 1 << 20,
        outputs: 1000,
        workers: 1,
    }
}

fn pool(limits: Limits) -> Pool {
    let program = env!("CARGO_BIN_EXE_waystation").into();
    Pool::new(Command { program, arguments: vec!["jq-worker".into()] }, limits)
}

async fn run(pool: &Pool, text: &str, input: &str) -> Result<Vec<String>, Failure> {
    let program = Program::compile(text, &[]).unwrap_or_else(|error| panic!("{text}: {error}"));
    let results = pool.run(&program, Bytes::copy_from_slice(input.as_bytes()), Vec::new()).await?;
    Ok(results.iter().map(|result| String::from_utf8_lossy(result).into_owned()).collect())
}

#[tokio::test]
async fn programs_give_their_results_in_order() {
    let pool = pool(limits());
    for (text, input, expected) in [
        (".a", r#"{"a":1}"#, vec!["1"]),
        (".[]", "[1,\"zwei\",null]", vec!["1", "\"zwei\"", "null"]),
        ("empty", "1", vec![]),
        ("{id, n: (.lines | length)}", r#"{"id":7,"lines":[1,2]}"#, vec![r#"{"id":7,"n":2}"#]),
        // Numbers keep what JSON says of them.
        (".", "12345678901234567890123", vec!["12345678901234567890123"]),
        (".", "1.10", vec!["1.10"]),
        (". + 1", "9007199254740993", vec!["9007199254740994"]),
        (".", r#""\u0000\"\\\n\u00e4""#, vec![r#""\u0000\"\\\nä""#]),
        ("now > 0", "1", vec!["true"]),
    ] {
        assert_eq!(
            run(&pool, text, input).await,
            Ok(expected.iter().map(|it| (*it).to_owned()).collect()),
            "{text}"
        );
    }
}

#[tokio::test]
async fn variables_come_in_the_order_in_which_they_were_declared() {
    let pool = pool(limits());
    let program = Program::compile("[$headers.region, $key, .]", &["headers", "key"]).expect("compiles");
    let given = vec![Bytes::from_static(b"{\"region\":\"eu\"}"), Bytes::from_static(b"\"k\"")];
    let results = pool.run(&program, Bytes::from_static(b"1"), given).await;
    assert_eq!(results, Ok(vec![Bytes::from_static(b"[\"eu\",\"k\",1]")]));
    let too_few = pool.run(&program, Bytes::from_static(b"1"), Vec::new()).await;
    assert_eq!(too_few, Err(Failure::Error("0 variables given to a program with 2".into())));
}

#[tokio::test]
async fn an_error_of_the_program_or_of_its_input_is_told() {
    let pool = pool(limits());
    for (text, input, expected) in [
        (".a", "1", "cannot index 1 with \"a\""),
        ("error(\"no such customer\")", "1", "no such customer"),
        (".", "{", "the input is not JSON"),
        (".", "1 2", "the input is not JSON"),
        ("1 / 0", "1", "infinite or not a number"),
        ("{(1|tostring): 1} | {([1]): 2}", "1", "a key of an object is not text"),
        ("tobytes", "\"x\"", "bytes cannot be written as JSON"),
    ] {
        match run(&pool, text, input).await {
            Err(Failure::Error(message)) => assert!(message.contains(expected), "{text}: {message}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    let long = run(&pool, "error(\"x\" * 100000)", "1").await;
    assert!(matches!(long, Err(Failure::Error(message)) if message.len() < 2000));
}

#[tokio::test]
async fn a_program_without_end_fails_by_time() {
    let pool = pool(Limits { time: Duration::from_millis(200), ..limits() });
    for text in [
        "def f: f; f",
        "last(repeat(1))",
        "last(range(infinite))",
        "until(false; . + 1)",
        "[limit(1; range(infinite) | select(. < 0))]",
    ] {
        assert_eq!(run(&pool, text, "1").await, Err(Failure::Time(Duration::from_millis(200))), "{text}");
    }
}

#[tokio::test]
async fn a_program_that_fills_the_memory_fails_by_memory() {
    let pool = pool(Limits { time: Duration::from_secs(30), ..limits() });
    for text in [
        "[range(1e9)]",
        "\"x\" * 1000000000",
        "def f: 1 + f; f",
        "def f: [f]; f",
        "[limit(1e9; repeat(\"x\"))] | length",
        "reduce range(1e9) as $i (\"\"; . + \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\")",
        "reduce range(1e7) as $i (null; [.])",
        "[.[] as $a | .[] as $b | .[] as $c | .[] as $d | .[] as $e | .[] as $f | .[] as $g | .[] as $h | [$a,$b,$c,$d,$e,$f,$g,$h]]",
    ] {
        let failure = run(&pool, text, "[1,2,3,4,5,6,7,8,9,10]").await;
        assert_eq!(failure, Err(Failure::Memory(64 << 20)), "{text}");
    }
    let deep = "[".repeat(1 << 20) + &"]".repeat(1 << 20);
    assert_eq!(run(&pool, ".", &deep).await, Err(Failure::Memory(64 << 20)));
}

#[tokio::test]
async fn a_flood_of_results_stops_at_its_bounds() {
    let pool = pool(limits());
    assert_eq!(run(&pool, "range(1000)", "1").await.map(|results| results.len()), Ok(1000));
    assert_eq!(run(&pool, "range(1001)", "1").await, Err(Failure::Outputs(1000)));
    assert_eq!(run(&pool, "repeat(1)", "1").await, Err(Failure::Outputs(1000)));
    let quoted = |bytes: usize| format!("\"x\" * {}", bytes - 2);
    assert_eq!(run(&pool, &quoted(1 << 20), "1").await.map(|it| it[0].len()), Ok(1 << 20));
    assert_eq!(run(&pool, &quoted((1 << 20) + 1), "1").await, Err(Failure::Size(1 << 20)));
    assert_eq!(run(&pool, "repeat(\"x\" * 10000)", "1").await, Err(Failure::Size(1 << 20)));
}

#[tokio::test]
async fn only_the_guilty_document_fails() {
    let pool = pool(Limits { time: Duration::from_millis(500), ..limits() });
    let program = Program::compile(
        "if . % 9 == 4 then last(repeat(1)) elif . == 17 then [range(1e9)] else . * 2 end",
        &[],
    );
    let program = program.expect("compiles");
    let runs = (0..40).map(|number: u32| {
        let (pool, program) = (pool.clone(), program.clone());
        tokio::spawn(async move { pool.run(&program, number.to_string().into(), Vec::new()).await })
    });
    for (number, run) in runs.collect::<Vec<_>>().into_iter().enumerate() {
        let result = run.await.expect("no panic");
        match number {
            4 | 13 | 22 | 31 => assert_eq!(result, Err(Failure::Time(Duration::from_millis(500)))),
            // How far it comes before its time is up depends on the machine.
            17 => assert!(matches!(result, Err(Failure::Memory(_) | Failure::Time(_))), "{result:?}"),
            _ => assert_eq!(result, Ok(vec![(number * 2).to_string().into()]), "{number}"),
        }
    }
}

#[tokio::test]
async fn the_next_document_is_not_blamed_when_an_answer_is_read_late() {
    let pool = pool(Limits { time: Duration::from_secs(20), ..limits() });
    let count = |to: u32| {
        let program = Program::compile(&format!("reduce range({to}) as $i (0; $i)"), &[]).expect("compiles");
        let pool = pool.clone();
        move |time| {
            let (pool, program) = (pool.clone(), program.clone());
            tokio::spawn(async move { pool.run_within(&program, "1".into(), Vec::new(), time, 100, 1).await })
        }
    };
    let (brief, long) = (count(250_000), count(4_000_000));
    for _ in 0..8 {
        // Shorter than what processor time can be told for: only the clock decides.
        let first = brief(Duration::from_millis(190));
        let second = long(Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(10)).await;
        // The whole runtime stands, as on a machine that is overloaded; the child goes on, and answers the first.
        #[expect(clippy::disallowed_methods, reason = "standing still is what is tested")]
        std::thread::sleep(Duration::from_millis(250));
        // On a slow machine its own time may be up.
        assert!(matches!(first.await.expect("no panic"), Ok(_) | Err(Failure::Time(_))));
        assert_eq!(second.await.expect("no panic"), Ok(vec![Bytes::from_static(b"3999999")]));
    }
}

#[tokio::test]
async fn a_program_that_overruns_does_not_hold_up_others() {
    let pool = pool(Limits { time: Duration::from_secs(20), ..limits() });
    let endless = Program::compile("last(repeat(1))", &[]).expect("compiles");
    let brief = Duration::from_millis(200);
    let hang = |program: Program, time| {
        let pool = pool.clone();
        tokio::spawn(async move { pool.run_within(&program, "1".into(), Vec::new(), time, 100, 1).await })
    };
    assert_eq!(hang(endless.clone(), brief).await.expect("no panic"), Err(Failure::Time(brief)));
    // From now on it runs apart: these take their twenty seconds each, and the others are answered before.
    let hanging: Vec<_> = (0..8).map(|_| hang(endless.clone(), Duration::from_secs(20))).collect();
    for number in 0..100 {
        assert_eq!(run(&pool, ". + 1", &number.to_string()).await, Ok(vec![(number + 1).to_string()]));
    }
    assert!(hanging.iter().all(|it| !it.is_finished()));
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_program_with_many_documents_does_not_hold_up_others() {
    const MANY: usize = 200;
    let pool = pool(limits());
    let slow = Program::compile("reduce range(5000) as $i (.; .i = $i) | .n", &[]).expect("a program");
    let done = Arc::new(AtomicUsize::new(0));
    let mut many = JoinSet::new();
    for n in 0..MANY {
        let (pool, slow, done) = (pool.clone(), slow.clone(), done.clone());
        many.spawn(async move {
            let result = pool.run(&slow, Bytes::from(format!("{{\"n\":{n}}}")), Vec::new()).await;
            done.fetch_add(1, Ordering::Relaxed);
            result.map(|results| results == [n.to_string()])
        });
    }
    while done.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..5 {
        assert_eq!(run(&pool, ".a", r#"{"a":1}"#).await, Ok(vec!["1".to_owned()]));
    }
    let before = done.load(Ordering::Relaxed);
    assert!(before < MANY / 2, "{before} of {MANY} went before five others");
    while let Some(result) = many.join_next().await {
        assert_eq!(result.expect("no panic"), Ok(true));
    }
}

#[tokio::test]
async fn a_child_sees_no_environment_and_can_open_no_files() {
    // Programs that ask are refused when they are declared; this asks the system about the process itself.
    // Other tests of this process have children too, some just being started: these are known by their memory.
    let memory_bytes = limits().memory_bytes + 1;
    let pool = pool(Limits { memory_bytes, ..limits() });
    assert!(run(&pool, ".", "1").await.is_ok());
    let workers = workers(memory_bytes);
    assert!(!workers.is_empty());
    for worker in workers {
        let read = |name: &str| fs::read_to_string(format!("/proc/{worker}/{name}")).expect("it lives");
        let (environment, limits) = (read("environ"), read("limits"));
        assert_eq!(environment, "MIMALLOC_ARENA_RESERVE=0\0", "nothing of the server's");
        let files = limits.lines().find(|line| line.starts_with("Max open files"));
        assert!(files.is_some_and(|line| line.contains(" 3 ")), "{files:?}");
    }
}

/// Children of this process that have become workers with so much memory.
fn workers(memory_bytes: usize) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("a proc file system");
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let is_worker = |id: &u32| {
        let command = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let parent = format!("PPid:\t{}\n", std::process::id());
        command.contains(&format!("jq-worker\0{memory_bytes}")) && status.contains(&parent)
    };
    ids.filter(is_worker).collect()
}

#[test]
fn a_child_ends_with_its_parent_even_in_a_program_without_end() {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_waystation"))
        .args(["jq-worker", "67108864"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut frames = Vec::new();
    request::encode(&Request::Define { id: 1, variables: vec![], text: "last(repeat(1))" }, &mut frames);
    let run = Request::Run { id: 1, output_bytes: 9, outputs: 9, input: b"1", variables: vec![] };
    request::encode(&run, &mut frames);
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(&frames).expect("it reads");
    let mut ready = [0; 5];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut ready).expect("it is ready");
    assert!(child.try_wait().expect("a status").is_none(), "it is in the program");
    // What the system does when the server is killed.
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
}
