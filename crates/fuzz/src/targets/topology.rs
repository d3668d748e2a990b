//! Topology files: any bytes give a topology or an error with its place; one that was read is written so that it reads
//! the same, and has nothing left to do when it is applied to itself.

use waystation_admin::{document::Format, export, plan, render, topology::Topology};

use crate::Target;

pub const TARGET: Target = Target { name: "topology", seeds, run };

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "[queues.q]\n[routes.r]\nkind = \"topic\"\nbindings = [{ to = \"q\", key = \"a.#\" }, { to_route = \"r\", arguments = { n = 1 } }]\n",
        "[queues.orders]\nmax_attempts = 5\ndead_letter = \"dead\"\n\n[queues.dead]\noverflow = \"drop_head\"\nmax_messages = 10\n",
        "[topics.flights]\npartitions = 4\nretention_ms = 86400000\n\n[subscriptions.board]\ntopic = \"flights\"\nmode = \"ordered\"\nfilter = { exact = { type = \"late\" } }\nstart = { offset = 7 }\n",
        r#"{"queues":{"a":{"order":"key","deduplication_ms":60000}},"subscriptions":{"s":{"topic":"eu.#","filter":{"not":{"prefix":{"key":"N"}}}}}}"#,
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn run(data: &[u8]) -> bool {
    let topology = match Topology::read(data) {
        Ok(topology) => topology,
        Err(error) => {
            assert!(error.line >= 1 && error.column >= 1, "an error has a place");
            return false;
        }
    };
    for format in [Format::Toml, Format::Json] {
        let Ok(text) = export::write(&topology, format) else {
            assert!(matches!(format, Format::Toml), "JSON can say all");
            continue;
        };
        assert_eq!(Topology::read(text.as_bytes()).as_ref(), Ok(&topology), "{text}");
    }
    let again = plan::plan(&topology, &topology, true);
    // Against itself there is nothing to do; what cannot be as it is declared (a subscription without its topic) is said.
    let declared = topology.specs().len();
    // A route is there as it is declared, whatever its bindings lead to.
    let stuck = again.conflicts.iter().filter(|note| note.target.kind.to_string() != "route").count();
    assert!(again.steps.is_empty() && again.unchanged.len() + stuck == declared, "{again:?}");
    render::plan(&plan::plan(&Topology::default(), &topology, false));
    true
}
