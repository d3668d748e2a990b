//! What happens when stored bytes are not what was written: told, checked, mended, and started again?

mod common;

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
};

use common::{Setup, journal_files, run};

/// A folder with twenty messages, each published on its own; the server was killed, so that no snapshot hides the journal.
fn filled() -> Setup {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("queue create orders");
    for number in 0..20 {
        server.cli(&["publish", "orders", &format!("message-{number:02}-{}", "x".repeat(200))]).good();
    }
    server.kill();
    setup
}

/// Turns over a bit of a message in the middle, and gives the file and the place.
fn damage(setup: &Setup) -> (String, u64) {
    let files = journal_files(&setup.data());
    let content = files.iter().map(|path| fs::read(path).expect("a file"));
    let needle = b"message-10";
    let found = content.enumerate().find_map(|(at, bytes)| {
        bytes
            .windows(needle.len())
            .position(|window| window == needle)
            .map(|place| (at, bytes[place], place as u64))
    });
    let (at, byte, place) = found.expect("the message is in the journal");
    let file = File::options().write(true).open(&files[at]).expect("a file");
    file.write_all_at(&[byte ^ 1], place).expect("it can be written");
    (files[at].display().to_string(), place)
}

#[test]
fn damage_in_the_middle_is_refused_with_file_and_offset_and_can_be_salvaged() {
    let setup = filled();
    let (file, _) = damage(&setup);
    let data = setup.data().display().to_string();
    let told = setup.refused().bad(6, &file);
    assert!(told.contains("offset") && told.contains("journal salvage"), "{told}");
    let verified = run(&["journal", "verify", &data]);
    assert!(verified.stdout.contains("DAMAGED"), "{verified:?}");
    verified.bad(6, "1 places are damaged");

    let before = fs::read(&file).expect("a file");
    let shown = run(&["journal", "salvage", &data]).good();
    assert!(shown.contains("nothing was changed") && shown.contains("--execute"), "{shown}");
    assert_eq!(fs::read(&file).expect("a file"), before);
    setup.refused().bad(6, &file);

    let done = run(&["journal", "salvage", &data, "--execute", "--json"]).json();
    assert_eq!(done["executed"], true);
    run(&["journal", "verify", &data]).good();
    let server = setup.start();
    let consumed = server.ok("consume orders");
    let numbers: Vec<&str> = consumed.lines().map(|line| &line[8..10]).collect();
    let expected: Vec<String> = (0..20).filter(|n| *n != 10).map(|n| format!("{n:02}")).collect();
    assert_eq!(numbers, expected, "only the damaged message is lost");
}

#[test]
fn a_torn_end_is_cut_and_counted() {
    let setup = filled();
    let data = setup.data().display().to_string();
    let whole = run(&["journal", "verify", &data, "--json"]).json();
    let last = &whole["journal"].as_array().expect("files").last().expect("one")["to"];
    // What the last group left behind had it been torn: something that is no frame.
    let dump = run(&["journal", "dump", &data]).good();
    assert!(dump.lines().count() >= 21, "{dump}");
    let file = journal_files(&setup.data()).pop().expect("a file");
    let end = whole["journal"].as_array().and_then(|files| files.last()).expect("a file")["bytes"].as_u64();
    let place = fs::metadata(&file).expect("a file").len().min(end.expect("bytes") + 4096 + 64);
    File::options().write(true).open(&file).expect("a file").write_all_at(&[7; 40], place).expect("written");
    let server = setup.start();
    assert_eq!(server.ok("consume orders").lines().count(), 20, "{last}");
}

#[test]
fn the_journal_can_be_listed() {
    let setup = filled();
    let data = setup.data().display().to_string();
    let some = run(&["journal", "dump", &data, "--count", "3", "--json"]).good();
    assert_eq!(some.lines().count(), 3);
    let first: serde_json::Value = serde_json::from_str(some.lines().next().expect("a line")).expect("json");
    assert!(first["position"].is_u64() && first["bytes"].is_u64() && first["name"] == "moment", "{first}");
    assert!(some.contains("\"declare\""), "{some}");
    let bytes = run(&["journal", "dump", &data, "--bytes"]).good();
    assert!(bytes.contains("orders"), "{bytes}");
    run(&["journal", "dump", &setup.path("nothing").display().to_string()]).bad(3, "no data directory");
    let nothing = run(&["journal", "salvage", &data]).good();
    assert!(nothing.contains("nothing is damaged"), "{nothing}");
}

#[test]
fn a_disk_that_cannot_be_written_is_told_at_the_start() {
    let setup = Setup::new();
    fs::write(setup.data(), b"a file, not a folder").expect("a file");
    setup.refused().bad(1, "data");
}
