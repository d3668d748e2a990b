//! How many messages go through routes, and does the number of routes, bindings or cases matter?

use super::Bench;

pub const BENCH: Bench = Bench {
    name: "routes",
    about: "messages a second through 1, 100 and 10,000 bindings, cases and routes; filtered, transformed and split; with and without a record",
    package: "waystation-routes",
    example: "routes_bench",
    drives_server: false,
    needs: None,
    peer: "none: the same work with one binding, case or route is the measure for many",
    goal: "10,000 bindings, cases or routes cost less than twice what one does; 5,000 messages a second through one jq transformation",
};
