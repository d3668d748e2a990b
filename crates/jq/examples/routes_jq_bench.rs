//! How many documents a second go through a jq program: in this process, and through the children that protect the server?

#![allow(clippy::disallowed_methods, reason = "measures; nothing is decided by the clock")]
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that measures")]

use std::{path::PathBuf, time::Instant};

use bytes::Bytes;
use waystation_jq::{Command, Limits, Pool, Program, fuzzing::evaluate_here};

const DOCUMENTS: usize = 100_000;
/// How many documents are on their way at once.
const AT_ONCE: usize = 128;
const RUNS: usize = 5;

/// Some 360 bytes, as an order looks.
const DOCUMENT: &str = r#"{"id":4711,"customer":{"name":"Erika Mustermann","email":"erika@example.org","country":"DE"},"lines":[{"sku":"A-1","quantity":2,"price":19.99,"text":"a bottle of ink, blue"},{"sku":"B-7","quantity":1,"price":249.5,"text":"a fountain pen with a gold nib"}],"total":289.48,"currency":"EUR","placed":"2026-11-27T10:15:30Z","notes":"please ring twice","gift":false}"#;
const PROGRAMS: &[(&str, &str)] = &[
    ("filter", ".total > 100 and .customer.country == \"DE\""),
    (
        "reshape",
        "{order: .id, who: .customer.name, sum: (.lines | map(.quantity * .price) | add), skus: [.lines[].sku]}",
    ),
];

fn rate(documents: usize, begin: Instant) -> f64 {
    documents as f64 / begin.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

async fn through_children(pool: &Pool, program: &Program) -> f64 {
    let begin = Instant::now();
    let tasks: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (pool, program) = (pool.clone(), program.clone());
            tokio::spawn(async move {
                for _ in 0..DOCUMENTS / AT_ONCE {
                    pool.run(&program, Bytes::from_static(DOCUMENT.as_bytes()), Vec::new()).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    rate(DOCUMENTS / AT_ONCE * AT_ONCE, begin)
}

fn main() {
    let arguments: Vec<_> = std::env::args_os().collect();
    let server = arguments.iter().position(|it| it == "--server-binary").and_then(|at| arguments.get(at + 1));
    let server = PathBuf::from(
        server.expect("--server-binary with the path of waystation; `cargo xtask bench jq` gives it"),
    );
    println!(
        "a document of {} bytes, {DOCUMENTS} documents, {AT_ONCE} at once, median of {RUNS} runs",
        DOCUMENT.len()
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (name, text) in PROGRAMS {
        let here = median(
            (0..RUNS)
                .map(|_| {
                    let begin = Instant::now();
                    evaluate_here(text, DOCUMENT.as_bytes(), DOCUMENTS);
                    rate(DOCUMENTS, begin)
                })
                .collect(),
        );
        println!("{name:8} in this process            {here:9.0} documents/s");
        for workers in [1, 2] {
            let through = runtime.block_on(async {
                let command = Command { program: server.clone(), arguments: vec!["jq-worker".into()] };
                let pool = Pool::new(command, Limits { workers, ..Limits::default() });
                let program = Program::compile(text, &[]).unwrap();
                let mut rates = Vec::new();
                for _ in 0..RUNS {
                    rates.push(through_children(&pool, &program).await);
                }
                median(rates)
            });
            println!(
                "{name:8} through {workers} child{:4}           {through:9.0} documents/s",
                if workers == 1 { "" } else { "ren" }
            );
        }
    }
}
