//! What does the server do when the file system takes no more, or a write fails?

mod common;

use std::{ffi::OsStr, fs::File, process::Command};

use common::{Setup, program, until};

/// Lines of one publish: few, because the server learns that a next file cannot be had only while it prepares it.
const LINES: usize = 100;

/// A server whose files may grow to so many KiB at most; it hears of it as an error, not as a signal.
fn bounded(setup: &Setup, kib: u64) -> Command {
    let mut command = program();
    let program = command.get_program().to_owned();
    let mut shell = Command::new("bash");
    for (name, value) in command.get_envs().filter(|(_, value)| value.is_none()) {
        assert_eq!(value, None);
        shell.env_remove(name);
    }
    command = shell;
    let script = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" \"$@\"");
    command.args([
        OsStr::new("-c"),
        OsStr::new(&script),
        &program,
        OsStr::new("serve"),
        OsStr::new("--data"),
    ]);
    command.arg(setup.data()).args(&setup.arguments);
    command
}

fn lines() -> Vec<u8> {
    let line = format!("{}\n", "x".repeat(1_000));
    line.repeat(LINES).into_bytes()
}

#[test]
fn a_full_journal_refuses_what_fills_it_and_goes_on_with_what_empties_it() {
    let setup = Setup::new();
    let server = setup.start_command(bounded(&setup, 24_576));
    server.ok("queue create orders");
    let mut refusal = None;
    for _ in 0..500 {
        let ran = server.cli_with(&["publish", "orders", "--lines", "-", "--rate", "3000"], &lines());
        if ran.code != Some(0) {
            refusal = Some(ran);
            break;
        }
    }
    let refusal = refusal.expect("24 MiB do not hold 50 MB");
    assert_eq!(refusal.code, Some(8), "{refusal:?}");
    assert!(refusal.stderr.contains("disk"), "{refusal:?}");
    // Whoever asks is answered, and what was accepted can be had.
    let status = server.cli(&["status"]);
    assert_eq!(status.code, Some(0), "{status:?}\n{}", server.log());
    let ready = server.json("queue show orders")["ready"].as_u64().expect("a count");
    assert!(ready >= LINES as u64, "{ready}");
    let consumed = server.cli(&["consume", "orders", "--count", "3"]);
    assert_eq!(consumed.code, Some(0), "{}\n{}", consumed.stderr, server.log());
    assert_eq!(consumed.stdout.lines().count(), 3);
    assert_eq!(server.json("queue show orders")["ready"], ready - 3);
    let (status, log) = server.terminate();
    assert!(status.success(), "{status}: {log}");
    // With room again it goes on where it was.
    let server = setup.start();
    assert_eq!(server.json("queue show orders")["ready"], ready - 3);
    server.ok("publish orders again");
}

#[test]
fn a_declaration_that_cannot_be_written_down_leaves_the_one_before_at_work() {
    let setup = Setup::new();
    let server = setup.start_command(bounded(&setup, 24_576));
    let apply = |more: &str| {
        let queues = "[queues]\nin = {}\nout = {}\n";
        let route = format!("[routes.r]\nfrom = {{ queue = 'in' }}\nsteps = [{more}{{ to = 'out' }}]\n");
        server.cli(&["apply", &setup.file("topology.toml", format!("{queues}{route}"))])
    };
    apply("").good();
    let works = || server.json("queue show in")["consumers"] == 1;
    until("the route works", works);
    let long = |n: usize| {
        let filter = format!("{{ filter = 'true # {n} {}' }}, ", "x".repeat(60 << 10));
        apply(&filter.repeat(14))
    };
    let refused = (0..40).map(long).find(|ran| ran.code != Some(0)).expect("24 MiB do not hold 40 of them");
    assert!(refused.stderr.contains("disk"), "{}", refused.stderr);
    assert!(works(), "{}", server.log());
}

#[test]
fn a_failed_write_stops_the_server_with_its_own_exit_code_and_loses_nothing() {
    let setup = Setup::new();
    let server = setup.start_command(bounded(&setup, 1 << 30));
    server.ok("queue create orders");
    server.ok("publish orders kept");
    // From now on no file may have more than 64 KiB: a write in the middle of a prepared file fails.
    let pid = server.pid().to_string();
    let limited = Command::new("prlimit").args(["--pid", &pid, "--fsize=65536:65536"]).status();
    assert!(limited.expect("prlimit is part of util-linux").success());
    let mut refused = false;
    until("a publish fails", || {
        refused = server.cli_with(&["publish", "orders", "--lines", "-"], &lines()).code != Some(0);
        refused
    });
    let (status, log) = server.end();
    assert_eq!(status.code(), Some(8), "{log}");
    assert!(log.contains("mend the disk"), "{log}");
    let server = setup.start();
    let kept = server.ok("consume orders");
    assert!(kept.starts_with("kept\n"), "{kept}");
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let setup = Setup::new();
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    let server = setup.start_logging(setup.command(), full);
    server.ok("queue create orders");
    server.ok("publish orders kept");
    assert_eq!(server.ok("consume orders"), "kept\n");
    assert!(server.terminate().0.success());
}
