//! Which keys are there, and what does each mean? The printed default and the environment's names come from here.

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The section.
    pub section: &'static str,
    /// The key in it.
    pub name: &'static str,
    /// An example in TOML where the default is that nothing is set.
    pub example: Option<&'static str>,
    /// What it means, in lines.
    pub meaning: &'static [&'static str],
}

const fn key(section: &'static str, name: &'static str, meaning: &'static [&'static str]) -> Key {
    Key { section, name, example: None, meaning }
}

const fn unset(
    section: &'static str,
    name: &'static str,
    example: &'static str,
    meaning: &'static [&'static str],
) -> Key {
    Key { section, name, example: Some(example), meaning }
}

/// Sections in their order, with what each is for.
pub const SECTIONS: &[(&str, &str)] = &[
    ("data", "Where the data is."),
    ("durability", "When something counts as durable."),
    ("limits", "What the server may use."),
    ("http", "The HTTP door."),
    ("amqp", "The AMQP 0-9-1 door, for RabbitMQ's clients."),
    (
        "webhooks",
        "Where webhooks may go. This machine, its networks and metadata services are out of reach unless allowed.",
    ),
    (
        "upstreams",
        "Where the upstreams of operations may be. This machine, its networks and metadata services are out of reach unless allowed.",
    ),
    ("otlp", "OpenTelemetry: spans of what becomes of messages, sent to a collector by OTLP over HTTP."),
    ("tls", "The certificate of the doors; without one they speak plainly. SIGHUP reads it anew."),
    ("auth", "Who may do what. Without tokens only this machine is let in, and may do everything."),
    ("audit", "Records of who changed what: the topic $audit."),
    ("record", "The record: what became of each message, for `waystation trace` and GET /v1/journeys."),
    ("log", "What is logged, to standard error."),
];

/// All keys, section by section.
pub const KEYS: &[Key] = &[
    key("data", "dir", &["The folder of the data; made if it is not there. One process uses it at a time."]),
    key(
        "durability",
        "mode",
        &[
            "sync: what is acknowledged is on disk, and no crash or power cut loses it.",
            "interval: it is on disk at the latest interval_ms later; a power cut may lose that much.",
            "os: it is on disk when the system likes; a killed process loses nothing, a power cut may.",
        ],
    ),
    key("durability", "interval_ms", &["Milliseconds at risk in the mode interval."]),
    key(
        "limits",
        "cache_bytes",
        &["Bytes of memory for messages that were just published or are about to go out."],
    ),
    key("limits", "journal_file_bytes", &["Bytes of one journal file."]),
    key(
        "limits",
        "hot_bytes",
        &[
            "Bytes of journal above which the oldest messages move to settled files. Must hold several journal files.",
        ],
    ),
    key(
        "limits",
        "snapshot_bytes",
        &["Bytes of journal from one snapshot to the next: what a restart reads again."],
    ),
    key(
        "limits",
        "requests_max",
        &["Requests that wait for the shard at a time; further ones wait at their connections."],
    ),
    key(
        "limits",
        "disk_reserve_bytes",
        &["With less disk space than this publishing is refused; consuming goes on."],
    ),
    unset(
        "limits",
        "memory_high_bytes",
        "4294967296",
        &[
            "From so many bytes of the server's memory (resident) on publishing is refused, until it is 5 % below; consuming goes on.",
            "0: never. If left out: 60 % of what the machine has, or of what its control group may use. SIGHUP reads it anew.",
        ],
    ),
    key(
        "http",
        "address",
        &["Address and port; port 0 takes a free one. Other machines are let in only with tokens."],
    ),
    key("http", "connections_max", &["Connections at a time; further ones are turned away."]),
    key("http", "requests_max", &["Requests being worked on at a time."]),
    key("http", "waits_max", &["Long polls and followers at a time."]),
    key("http", "buffered_bytes_max", &["Bytes of request bodies held in memory, over all connections."]),
    key("http", "idle_ms", &["Milliseconds for which a connection may stay open between requests."]),
    key("http", "head_ms", &["Milliseconds for a request's head."]),
    key("http", "body_ms", &["Milliseconds for the next part of a body."]),
    key("http", "write_ms", &["Milliseconds for which a client may leave an answer untaken."]),
    key("http", "handshake_ms", &["Milliseconds for a TLS handshake."]),
    key("http", "drain_ms", &["Milliseconds that requests under way have to end after SIGTERM or SIGINT."]),
    key(
        "amqp",
        "address",
        &[
            "Address and port, or off. If the default one is taken, the server runs without this door and says so.",
        ],
    ),
    key("amqp", "tls_address", &["The same inside TLS, with the certificate below; or off."]),
    key(
        "amqp",
        "management",
        &[
            "RabbitMQ's management interface over HTTP; or off. With a certificate it speaks TLS to other machines.",
        ],
    ),
    key("amqp", "connections_max", &["Connections at a time; further ones are turned away."]),
    key("amqp", "channels_max", &["Channels of one connection."]),
    key("amqp", "frame_bytes_max", &["Bytes of one frame that clients may agree to."]),
    key("amqp", "message_bytes_max", &["Bytes of one message's body."]),
    key("amqp", "heartbeat_seconds", &["Seconds between heartbeats that are proposed to clients; 0: none."]),
    key(
        "amqp",
        "handshake_ms",
        &["Milliseconds from a connection's first byte until it is open, TLS included."],
    ),
    key("amqp", "write_ms", &["Milliseconds for which a client may leave untaken what is written to it."]),
    key("amqp", "drain_ms", &["Milliseconds for connections to say goodbye after SIGTERM or SIGINT."]),
    key(
        "webhooks",
        "allow",
        &[
            "Networks, hosts and domains that may be reached besides the outside: \"10.1.0.0/16\", \"hooks.internal\",",
            "\"*.svc.local\". In the environment parted by commas.",
        ],
    ),
    key(
        "webhooks",
        "plain_http",
        &["Whether http:// is fine everywhere; else only for what is allowed by host or address."],
    ),
    key(
        "webhooks",
        "callback_secrets",
        &[
            "Secrets that sign the callbacks of calls (whsec_, whsk_), several while one replaces another. Without any",
            "callbacks wait in their queue.",
        ],
    ),
    unset(
        "webhooks",
        "ca",
        "\"/etc/waystation/receivers.pem\"",
        &["PEM file with authorities of receivers' certificates, besides the system's."],
    ),
    key(
        "upstreams",
        "allow",
        &[
            "Networks, hosts and domains that upstreams may be at besides the outside: \"10.1.0.0/16\", \"billing.internal\",",
            "\"*.svc.local\". In the environment parted by commas.",
        ],
    ),
    key(
        "upstreams",
        "plain_http",
        &["Whether http:// is fine everywhere; else only for what is allowed by host or address."],
    ),
    key(
        "upstreams",
        "buffer_bytes_max",
        &["Bytes of requests to upstreams and the largest answers to them, together; further requests wait."],
    ),
    unset(
        "upstreams",
        "ca",
        "\"/etc/waystation/upstreams.pem\"",
        &["PEM file with authorities of upstreams' certificates, besides the system's."],
    ),
    unset(
        "otlp",
        "endpoint",
        "\"http://127.0.0.1:4318\"",
        &["The collector, without the path of the signal; where it is not set nothing is sent."],
    ),
    key(
        "otlp",
        "headers",
        &[
            "What each request carries, such as \"authorization=Bearer …\". In the environment parted by commas.",
        ],
    ),
    key("otlp", "service_name", &["What this server is called in traces."]),
    key("otlp", "timeout_ms", &["Milliseconds for one request to the collector."]),
    unset(
        "otlp",
        "ca",
        "\"/etc/waystation/collector.pem\"",
        &["PEM file with authorities of the collector's certificate, besides the system's."],
    ),
    unset(
        "tls",
        "certificate",
        "\"/etc/waystation/cert.pem\"",
        &["PEM file with the certificate and those above it."],
    ),
    unset("tls", "key", "\"/etc/waystation/key.pem\"", &["PEM file with its private key."]),
    unset(
        "tls",
        "client_ca",
        "\"/etc/waystation/clients.pem\"",
        &[
            "PEM file with those who may sign a client's certificate; with it a client without one is refused.",
        ],
    ),
    key("auth", "loopback_needs_token", &["Whether callers on this machine need a token too."]),
    unset(
        "auth",
        "tokens",
        "[{ name = \"shop\", hash = \"$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$Zm9vYmFyZm9vYmFyZm9vYmFy\", publish = [\"orders.#\"], consume = [], configure = [] }]",
        &[
            "One entry for each token: a name for the logs, the hash that `waystation token new` prints,",
            "and the names it may publish to, consume from and configure: `*` is one word, `#` any number.",
        ],
    ),
    key("audit", "retention_ms", &["Milliseconds for which records of changes are kept."]),
    key("audit", "retention_bytes", &["Bytes of them past which the oldest go."]),
    key("record", "enabled", &["Whether it is kept."]),
    key("record", "retention_ms", &["Milliseconds for which it is kept."]),
    key("record", "retention_bytes", &["Bytes of record files past which the oldest go."]),
    key(
        "record",
        "lag_bytes",
        &[
            "Bytes of journal that are kept for the recorder when it is behind; past that the record has a gap, and says so.",
        ],
    ),
    unset(
        "record",
        "rules",
        "[{ address = \"telemetry.#\", sample = 0.01 }, { address = \"orders\", business = { order = { jq = \".order.id\" }, customer = { header = \"customer-id\" } } }]",
        &[
            "By address (`*` is one word, `#` any number; the first one that fits holds): which part of the messages is recorded, from",
            "0 to 1, and business keys by which they are found, from a header or a path in a JSON body. Failures are always recorded,",
            "unless the part is 0.",
        ],
    ),
    key(
        "log",
        "filter",
        &["error, warn, info, debug or trace; or by part, like \"info,waystation_http=debug\"."],
    ),
    key("log", "format", &["human: lines for people. json: one object a line."]),
];

/// The name of a key in the environment; a list has none.
pub fn variable(key: &Key) -> Option<String> {
    let is_list = key.example.is_some_and(|example| example.starts_with('['));
    let name = format!("WAYSTATION_{}_{}", key.section, key.name).to_uppercase();
    (!is_list).then_some(name)
}
