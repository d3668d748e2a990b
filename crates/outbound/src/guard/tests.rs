//! Is everything that is not for the outside denied, in every way to write it, and does a name that changes its answer gain nothing?

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::*;
use crate::guard::resolver::Found;

/// Gives these answers one after the other, the last one forever.
struct Answers(Mutex<Vec<Vec<&'static str>>>, AtomicUsize);

impl Answers {
    fn new(answers: &[&[&'static str]]) -> Arc<Answers> {
        let answers = answers.iter().rev().map(|answer| answer.to_vec()).collect();
        Arc::new(Answers(Mutex::new(answers), AtomicUsize::new(0)))
    }
}

impl Lookup for Answers {
    fn lookup(&self, _: String) -> Found {
        self.1.fetch_add(1, Ordering::Relaxed);
        let mut answers = self.0.lock().expect("not poisoned");
        let answer = if answers.len() > 1 { answers.pop() } else { answers.last().cloned() };
        let parse = |text: &&str| SocketAddr::new(text.parse().expect("an address"), 0);
        let found: Vec<SocketAddr> = answer.iter().flatten().map(parse).collect();
        Box::pin(async move { io::Result::Ok(found) })
    }
}

fn guard(rules: &[&str]) -> Guard {
    Guard::new("webhooks", rules.iter().map(|rule| rule.parse().expect("a rule")).collect(), true)
}

fn denied(url: &str) {
    match guard(&[]).target(url) {
        Err(Refusal::Address { .. }) => {}
        other => panic!("{url} gave {other:?}"),
    }
}

#[test]
fn internal_addresses_are_denied_in_every_way_to_write_them() {
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "017700000001",
        "0177.0.0.1",
        "0x7f.0x0.0x0.0x1",
        "127.0.0.1.",
        "127.255.255.254",
        "0",
        "0.0.0.0",
        "10.0.0.1",
        "10.255.255.255",
        "012.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "3232235521",
        "100.64.0.1",
        "100.127.255.255",
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "192.0.2.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::ffff:10.0.0.1]",
        "[::127.0.0.1]",
        "[::7f00:1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b::a00:1]",
        "[64:ff9b:1::1]",
        "[2002:7f00:1::]",
        "[2002:a00:1::1]",
        "[2002:a9fe:a9fe::]",
        "[2001::1]",
        "[2001:db8::1]",
        "[3fff::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fdff:ffff::1]",
        "[fe80::1]",
        "[febf::1]",
        "[fec0::1]",
        "[ff02::1]",
        "[100::1]",
        "[4000::1]",
        "[2606:4700::5efe:a00:1]",
        "１２７.０.０.１",
        "①②⑦.⓪.⓪.①",
    ] {
        denied(&format!("https://{host}/hook"));
        denied(&format!("https://{host}:8443/hook"));
    }
    denied("HTTPS://127.0.0.1/");
    denied("https:127.0.0.1");
    denied(" https://127.0.0.1/");
    denied("https://\t127.0.0.1/");
}

#[test]
fn addresses_of_the_outside_are_not_denied() {
    for host in [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.1.1",
        "169.253.1.1",
        "198.17.1.1",
        "223.255.255.255",
        "168.63.129.15",
        "[2606:4700:4700::1111]",
        "[::ffff:1.1.1.1]",
        "[64:ff9b::101:101]",
        "[2002:101:101::1]",
        "[2001:4860:4860::8888]",
        "a.example",
        "xn--nxasmq6b.example",
    ] {
        let url = format!("https://{host}/hook?x=1");
        assert!(guard(&[]).target(&url).is_ok(), "{url}: {:?}", guard(&[]).target(&url));
    }
}

#[test]
fn a_url_is_http_without_user_and_not_too_long() {
    let refused = |url: &str| guard(&[]).target(url).expect_err(url);
    for scheme in ["ftp", "file", "gopher", "unix", "javascript", "data"] {
        assert!(matches!(refused(&format!("{scheme}://a.example/")), Refusal::Scheme(_)), "{scheme}");
    }
    for url in [
        "https://user@a.example/",
        "https://user:pw@a.example/",
        "https://a.example@127.0.0.1/",
        "https://:pw@a.example/",
    ] {
        assert_eq!(refused(url), Refusal::UserInfo, "{url}");
    }
    for url in [
        "",
        "a.example",
        "/hook",
        "https://",
        "https:///",
        "https://[::1",
        "https://1.2.3.256/",
        "https://a b/",
    ] {
        assert!(matches!(refused(url), Refusal::Url(_)), "{url}: {:?}", refused(url));
    }
    let long = |bytes: usize| format!("https://a.example/{}", "x".repeat(bytes - 18));
    assert!(guard(&[]).target(&long(URL_BYTES_MAX)).is_ok());
    assert_eq!(refused(&long(URL_BYTES_MAX + 1)), Refusal::TooLong);
    let strict = Guard::new(
        "webhooks",
        vec!["b.example".parse().expect("a rule"), "10.0.0.0/8".parse().expect("a rule")],
        false,
    );
    assert_eq!(strict.target("http://a.example/"), Err(Refusal::Plain { section: "webhooks" }));
    assert_eq!(strict.target("http://1.1.1.1/"), Err(Refusal::Plain { section: "webhooks" }));
    for allowed in ["https://a.example/", "http://b.example/", "http://10.0.0.1/"] {
        assert!(strict.target(allowed).is_ok(), "{allowed}");
    }
}

#[test]
fn the_allow_list_permits_networks_and_hosts_and_nothing_beside_them() {
    let check = |rule: &str, url: &str, expected: bool| {
        assert_eq!(guard(&[rule]).target(url).is_ok(), expected, "{rule} for {url}");
    };
    check("10.1.0.0/16", "https://10.1.255.255/", true);
    check("10.1.0.0/16", "https://[::ffff:10.1.2.3]/", true);
    check("10.1.0.0/16", "https://10.2.0.0/", false);
    check("127.0.0.1", "https://2130706433/", true);
    check("127.0.0.1", "https://127.0.0.2/", false);
    check("0.0.0.0/0", "https://192.168.1.1/", true);
    check("0.0.0.0/0", "https://[::1]/", false);
    check("::1/128", "https://[::1]/", true);
    check("::/0", "https://[fd00::1]/", true);
    for wrong in [
        "",
        "10.0.0.0/33",
        "10.0.0/8",
        "::/129",
        "1.2.3",
        "*.",
        "*",
        "a..b",
        "https://a",
        "a/b",
        "10.0.0.1/x",
    ] {
        assert!(wrong.parse::<Rule>().is_err(), "{wrong:?}");
    }
}

async fn resolved(rules: &[&str], host: &str, answers: &[&[&'static str]]) -> Result<usize, Refusal> {
    let rules = rules.iter().map(|rule| rule.parse().expect("a rule")).collect();
    let guard = Guard::with_lookup("webhooks", rules, false, Answers::new(answers));
    guard.resolve(host).await.map(|addresses| addresses.len())
}

#[tokio::test]
async fn a_name_is_judged_by_every_address_that_it_leads_to() {
    assert_eq!(resolved(&[], "a.example", &[&["1.1.1.1", "2606:4700::1"]]).await, Ok(2));
    for inside in ["127.0.0.1", "169.254.169.254", "10.0.0.1", "::1", "::ffff:10.0.0.1", "fd00::1"] {
        let refusal = resolved(&[], "a.example", &[&["1.1.1.1", inside]]).await.expect_err(inside);
        assert!(matches!(refusal, Refusal::Address { .. }), "{refusal}");
    }
    assert!(matches!(resolved(&[], "a.example", &[&[]]).await, Err(Refusal::Unresolved(..))));
    for (rule, host, expected) in [
        ("hooks.internal", "hooks.internal", true),
        ("hooks.internal", "HOOKS.internal.", true),
        ("hooks.internal", "x.hooks.internal", false),
        ("*.svc.local", "a.b.svc.local", true),
        ("*.svc.local", "svc.local", false),
        ("*.svc.local", "evilsvc.local", false),
        ("10.0.0.0/8", "anything.example", true),
    ] {
        let found = resolved(&[rule], host, &[&["10.0.0.1"]]).await;
        assert_eq!(found.is_ok(), expected, "{rule} for {host}: {found:?}");
    }
}
