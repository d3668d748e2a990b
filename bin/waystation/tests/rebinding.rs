//! Does a name that changes its answer (DNS rebinding) gain anything? The real program with the system's resolver, which asks a name server
//! of this test: the name leads to the outside first, and to this machine from then on.
//!
//! The system's resolver takes its name server from `/etc/resolv.conf` and asks at port 53. So the test runs itself again in name spaces of
//! its own (`unshare`), where it may put a file there, listen at that port, and have an address of the outside.

mod common;
#[path = "common/service.rs"]
mod service;

use std::{
    net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use common::{Server, Setup, until};
use serde_json::Value;
use service::Service;

/// Set where the test runs in its own name spaces.
const INSIDE: &str = "REBINDING_INSIDE";
/// An address that is not denied; in the name spaces it is this machine's.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 1, 113, 7);
const HOST: &str = "rebind.example";

/// A name server that gives these answers for addresses of version 4, the last one for ever.
struct NameServer {
    answers: Arc<Mutex<Vec<Vec<Ipv4Addr>>>>,
    given: Arc<Mutex<Vec<Vec<Ipv4Addr>>>>,
}

impl NameServer {
    fn start() -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:53").expect("the port of name servers");
        let (answers, given) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        thread::spawn({
            let (answers, given) = (answers.clone(), given.clone());
            move || {
                let mut query = [0; 512];
                while let Ok((length, from)) = socket.recv_from(&mut query) {
                    let next = || next(&mut answers.lock().expect("not poisoned"));
                    let (answer, said) = answer(&query[..length], next);
                    given.lock().expect("not poisoned").extend(said);
                    // Who asks again is answered then.
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        NameServer { answers, given }
    }

    /// What it says from now on, and what it has said by then is forgotten.
    fn say(&self, answers: &[&[Ipv4Addr]]) {
        *self.answers.lock().expect("not poisoned") = answers.iter().map(|it| it.to_vec()).collect();
        self.given.lock().expect("not poisoned").clear();
    }

    fn said(&self) -> Vec<Vec<Ipv4Addr>> {
        self.given.lock().expect("not poisoned").clone()
    }
}

fn next(answers: &mut Vec<Vec<Ipv4Addr>>) -> Vec<Ipv4Addr> {
    if answers.len() > 1 { answers.remove(0) } else { answers.first().cloned().unwrap_or_default() }
}

/// An answer to a query of one question (RFC 1035 §4): addresses if it asks for such, nothing else. They may not be kept.
fn answer(query: &[u8], next: impl FnOnce() -> Vec<Ipv4Addr>) -> (Vec<u8>, Option<Vec<Ipv4Addr>>) {
    let name_end = 12 + query[12..].iter().position(|byte| *byte == 0).expect("a name") + 1;
    let question = &query[12..name_end + 4];
    let said = (query[name_end + 1] == 1).then(next);
    let addresses = said.clone().unwrap_or_default();
    let mut out = query[..2].to_vec();
    // An answer, recursion available, no error; one question, so many answers.
    out.extend([0x81, 0x80, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0]);
    out.extend(question);
    for address in addresses {
        // The question's name, type A, class IN, for no time, four bytes.
        out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        out.extend(address.octets());
    }
    (out, said)
}

#[test]
fn a_name_that_leads_elsewhere_at_the_second_look_gains_nothing() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let setup = Setup::new();
    let resolv = setup.file("resolv.conf", "nameserver 127.0.0.1\noptions timeout:5 attempts:2\n");
    let test = std::env::current_exe().expect("this program");
    let name = "a_name_that_leads_elsewhere_at_the_second_look_gains_nothing";
    let script = format!(
        "ip link set lo up && ip address add {OUTSIDE}/32 dev lo && mount --bind {resolv} /etc/resolv.conf && exec {} --exact --nocapture {name}",
        test.display()
    );
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "--mount", "sh", "-c", script]);
        command.env(INSIDE, "1").output()
    };
    if !unshare("ip link set lo up").is_ok_and(|output| output.status.success()) {
        println!("skipped: `unshare` or `ip` is missing, or name spaces are not permitted here");
        return;
    }
    let output = unshare(&script).expect("it ran before");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{}", said.join("\n"));
}

/// Listens inside and notes whether anybody ever came.
fn lure(port: u16) -> Arc<AtomicBool> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the same port");
    let is_reached = Arc::new(AtomicBool::new(false));
    thread::spawn({
        let is_reached = is_reached.clone();
        move || listener.accept().map(|_| is_reached.store(true, Ordering::SeqCst))
    });
    is_reached
}

/// The call, when it has its outcome.
fn outcome(server: &Server) -> Value {
    let id = server.ok("call op x --detach").trim().to_owned();
    let mut call = Value::Null;
    until("the call ends", || {
        call = server.json(&format!("calls show {id}"));
        !matches!(call["state"].as_str(), Some("queued" | "working"))
    });
    call
}

fn inside() {
    let names = NameServer::start();
    let asked = |_: &service::Asked| service::Do::Answer(200, "connection: close\r\n", "outside".to_owned());
    let service = Service::at(IpAddr::V4(OUTSIDE), asked);
    let port = service.address.port();
    let is_reached = lure(port);
    let mut setup = Setup::new();
    let config = "[upstreams]\nplain_http = true\n";
    let config = setup.file("waystation.toml", config);
    let more = ["--amqp", "off", "--amqp-management", "off", "--config", &config];
    setup.arguments.extend(more.map(str::to_owned));
    let server = setup.start();
    let (outside, loopback) = (&[OUTSIDE][..], &[Ipv4Addr::LOCALHOST][..]);

    // It leads to the outside when it is declared.
    names.say(&[outside]);
    let url = format!("http://{HOST}:{port}/do");
    let options = "--upstream-retry first=10ms,most=10ms --upstream-breaker-failures 1000 --max-attempts 2";
    server.ok(&format!("operation create op --upstream {url} {options}"));

    // One look for one connection: had it been resolved to be checked and again to be connected, it would lead inside by then.
    names.say(&[outside, loopback]);
    assert_eq!(outcome(&server)["state"], "succeeded");
    assert_eq!((names.said(), service.asked().len()), (vec![outside.to_vec()], 1));

    // The next connection is looked up anew, and denied.
    let denied = outcome(&server);
    assert_eq!((&denied["state"], &denied["problem"]["status"]), (&"failed".into(), &502.into()), "{denied}");
    let detail = denied["problem"]["detail"].as_str().expect("a reason");
    assert!(detail.contains("127.0.0.1") && detail.contains("upstreams.allow"), "{detail}");

    // One address inside among those of the outside is enough.
    names.say(&[&[OUTSIDE, Ipv4Addr::LOCALHOST]]);
    assert_eq!(outcome(&server)["state"], "failed");

    // A change that leads inside by now is refused at once.
    names.say(&[loopback]);
    server.cli(&["operation", "create", "other", "--upstream", &url]).bad(4, "127.0.0.1");
    assert_eq!(service.asked().len(), 1);
    assert!(!is_reached.load(Ordering::SeqCst), "somebody came in");
}
