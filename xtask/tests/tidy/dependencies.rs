//! Do dependencies run one way? Who may know whom, checked over what cargo says.

use cargo_metadata::{DependencyKind, MetadataCommand};

use crate::repository::{assert_none, root};

/// Each crate with the workspace crates it may use in what is shipped. What is missing here is refused.
const MAY_USE: &[(&str, &[&str])] = &[
    ("waystation-base", &[]),
    ("waystation-journal", &["waystation-base"]),
    ("waystation-broker", &["waystation-base"]),
    ("waystation-net", &["waystation-base"]),
    ("waystation-record", &["waystation-base", "waystation-journal", "waystation-broker"]),
    ("waystation-host", &["waystation-base", "waystation-journal", "waystation-broker", "waystation-record"]),
    ("waystation-admin", &["waystation-base", "waystation-broker", "waystation-host"]),
    ("waystation-events", &["waystation-base", "waystation-host"]),
    ("waystation-outbound", &["waystation-base"]),
    // What routes are written in: languages and forms, each a leaf.
    ("waystation-jq", &[]),
    ("waystation-selector", &["waystation-base"]),
    ("waystation-content", &[]),
    // Features: above the host, below the doors that offer them. They do not know each other.
    (
        "waystation-webhooks",
        &[
            "waystation-base",
            "waystation-broker",
            "waystation-host",
            "waystation-events",
            "waystation-outbound",
            "waystation-record",
        ],
    ),
    (
        "waystation-routes",
        &[
            "waystation-base",
            "waystation-broker",
            "waystation-host",
            "waystation-events",
            "waystation-outbound",
            "waystation-jq",
            "waystation-selector",
            "waystation-content",
        ],
    ),
    (
        "waystation-redrive",
        &["waystation-base", "waystation-broker", "waystation-content", "waystation-host", "waystation-jq"],
    ),
    (
        "waystation-otlp",
        &["waystation-base", "waystation-broker", "waystation-outbound", "waystation-record"],
    ),
    ("waystation-alerts", &["waystation-base", "waystation-broker", "waystation-host"]),
    ("waystation-access", &["waystation-base", "waystation-broker", "waystation-host", "waystation-net"]),
    ("waystation-catalog", &["waystation-base", "waystation-broker", "waystation-host", "waystation-access"]),
    ("waystation-calls", &["waystation-base", "waystation-broker", "waystation-host", "waystation-outbound"]),
    (
        "waystation-journeys",
        &[
            "waystation-base",
            "waystation-broker",
            "waystation-events",
            "waystation-host",
            "waystation-record",
        ],
    ),
    (
        "waystation-http",
        &[
            "waystation-calls",
            "waystation-journeys",
            "waystation-base",
            "waystation-broker",
            "waystation-host",
            "waystation-net",
            "waystation-admin",
            "waystation-access",
            "waystation-catalog",
            "waystation-events",
            "waystation-redrive",
            "waystation-routes",
            "waystation-webhooks",
            "waystation-alerts",
        ],
    ),
    (
        "waystation-amqp091",
        &[
            "waystation-base",
            "waystation-broker",
            "waystation-host",
            "waystation-net",
            "waystation-access",
            "waystation-catalog",
        ],
    ),
    (
        "waystation",
        &[
            "waystation-base",
            "waystation-journal",
            "waystation-broker",
            "waystation-host",
            "waystation-net",
            "waystation-admin",
            "waystation-access",
            "waystation-catalog",
            "waystation-calls",
            "waystation-http",
            "waystation-amqp091",
            "waystation-jq",
            "waystation-otlp",
            "waystation-outbound",
            "waystation-redrive",
            "waystation-routes",
            "waystation-webhooks",
            "waystation-journeys",
            "waystation-record",
            "waystation-alerts",
        ],
    ),
    (
        "waystation-testkit",
        &["waystation-base", "waystation-journal", "waystation-broker", "waystation-host"],
    ),
    (
        "waystation-fuzz",
        &[
            "waystation-base",
            "waystation-redrive",
            "waystation-journal",
            "waystation-broker",
            "waystation-record",
            "waystation-admin",
            "waystation-amqp091",
            "waystation-calls",
            "waystation-content",
            "waystation-jq",
            "waystation-routes",
            "waystation-selector",
        ],
    ),
    ("xtask", &[]),
];

/// Never part of what is shipped.
const DEVELOPMENT_ONLY: &[&str] = &["waystation-testkit", "waystation-fuzz"];

/// Whether `package` may depend on `dependency`.
fn allowed(package: &str, dependency: &str, kind: DependencyKind) -> bool {
    if kind == DependencyKind::Development {
        // Tests may reach further, as long as the chores stay apart.
        return package != "xtask";
    }
    let row = MAY_USE.iter().find(|(name, _)| *name == package);
    row.is_some_and(|(_, may)| may.contains(&dependency)) && !DEVELOPMENT_ONLY.contains(&dependency)
}

#[test]
fn dependencies_run_one_way() {
    let metadata = MetadataCommand::new().current_dir(root()).no_deps().exec().expect("cargo metadata");
    let ours = |name: &str| metadata.packages.iter().any(|package| package.name.as_str() == name);
    let mut offences = Vec::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        if !MAY_USE.iter().any(|(known, _)| *known == name) {
            offences.push(format!("{name} is not in the table: say what it may know"));
        }
        for dependency in package.dependencies.iter().filter(|dependency| ours(&dependency.name)) {
            if !allowed(name, &dependency.name, dependency.kind) {
                offences.push(format!("{name} may not know {} ({:?})", dependency.name, dependency.kind));
            }
        }
    }
    assert_none(&offences, "a dependency runs against the architecture");
}

#[test]
fn a_forbidden_direction_is_seen() {
    assert!(!allowed("waystation-broker", "waystation-journal", DependencyKind::Normal));
    assert!(!allowed("waystation-base", "waystation-broker", DependencyKind::Build));
    assert!(!allowed("waystation-host", "waystation-testkit", DependencyKind::Normal));
    assert!(!allowed("a-new-crate", "waystation-base", DependencyKind::Normal));
    assert!(allowed("waystation-host", "waystation-testkit", DependencyKind::Development));
}

#[test]
fn the_broker_has_no_runtime_and_the_base_no_protocol() {
    let metadata = MetadataCommand::new().current_dir(root()).no_deps().exec().expect("cargo metadata");
    let refused: &[(&str, &[&str])] = &[
        ("waystation-base", &["tokio", "axum", "hyper", "rustls"]),
        ("waystation-broker", &["tokio", "tracing", "axum", "hyper", "getrandom", "rustix"]),
        ("waystation-journal", &["tokio", "axum", "hyper"]),
        ("waystation-events", &["tokio", "axum", "hyper"]),
        ("waystation-webhooks", &["axum", "hyper"]),
    ];
    let mut offences = Vec::new();
    for (name, names) in refused {
        let package = metadata.packages.iter().find(|package| package.name.as_str() == *name);
        let package = package.unwrap_or_else(|| panic!("there is no package {name}"));
        for dependency in package.dependencies.iter().filter(|it| it.kind != DependencyKind::Development) {
            if names.contains(&dependency.name.as_str()) {
                offences.push(format!("{name} uses {}", dependency.name));
            }
        }
    }
    assert_none(&offences, "a crate knows a library that it refuses to know");
}
