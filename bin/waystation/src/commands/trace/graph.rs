//! A journey as a graph: messages and their places, with what led to what (Graphviz' DOT language; Mermaid's flowcharts).

use waystation_journeys::{Journey, Stay};

/// The places of all messages with the name of each node, and which leads to which.
struct Graph<'a> {
    nodes: Vec<(String, &'a Stay)>,
    edges: Vec<(String, String)>,
}

fn graph(journey: &Journey) -> Graph<'_> {
    let name = |message: usize, stay: usize| format!("m{message}_{stay}");
    let (mut nodes, mut edges) = (Vec::new(), Vec::new());
    for (number, message) in journey.messages.iter().enumerate() {
        for (at, stay) in message.stays.iter().enumerate() {
            nodes.push((name(number, at), stay));
            if at > 0 && stay.how == "dead_lettered" {
                edges.push((name(number, at - 1), name(number, at)));
            }
        }
        let parent = message.parent.as_ref();
        let parent = parent.and_then(|id| journey.messages.iter().position(|other| other.id == *id));
        let parent = parent.filter(|parent| !journey.messages[*parent].stays.is_empty());
        if let (Some(parent), false) = (parent, message.stays.is_empty()) {
            let last = journey.messages[parent].stays.len() - 1;
            edges.push((name(parent, last), name(number, 0)));
        }
    }
    Graph { nodes, edges }
}

fn label(stay: &Stay) -> Vec<String> {
    let copies = stay.copies.iter().map(|copy| match copy.kind.as_str() {
        "subscription" => format!("{}: {}", copy.name, copy.now.state),
        _ => copy.now.state.clone(),
    });
    let unrouted = stay.told.map(|_| "matched none".to_owned());
    std::iter::once(format!("{} {}", stay.kind, stay.address)).chain(unrouted).chain(copies).collect()
}

/// For Graphviz.
pub fn dot(journey: &Journey) -> String {
    let Graph { nodes, edges } = graph(journey);
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace(char::is_control, " ");
    let mut lines = vec!["digraph journey {".to_owned(), "  node [shape=box];".to_owned()];
    for (name, stay) in nodes {
        let label: Vec<String> = label(stay).iter().map(|line| quoted(line)).collect();
        lines.push(format!("  {name} [label=\"{}\"];", label.join("\\n")));
    }
    lines.extend(edges.iter().map(|(from, to)| format!("  {from} -> {to};")));
    lines.push("}".to_owned());
    lines.join("\n")
}

/// For Mermaid.
pub fn mermaid(journey: &Journey) -> String {
    let Graph { nodes, edges } = graph(journey);
    let quoted = |text: &str| {
        text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace(char::is_control, " ")
    };
    let mut lines = vec!["flowchart LR".to_owned()];
    for (name, stay) in nodes {
        let label: Vec<String> = label(stay).iter().map(|line| quoted(line)).collect();
        lines.push(format!("  {name}[\"{}\"]", label.join("<br/>")));
    }
    lines.extend(edges.iter().map(|(from, to)| format!("  {from} --> {to}")));
    lines.join("\n")
}
