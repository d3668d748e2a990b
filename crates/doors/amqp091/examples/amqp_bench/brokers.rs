//! Which brokers are measured, and how are they started alike: one core, data in the given folder, a port of their own?

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use waystation_amqp091::wire::{Table, methods::queue};

use crate::connection::Connection;

/// Where Debian's package has it. The program in the path would change to another user first.
pub const RABBITMQ: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// How long a broker may take to start.
const START_MAX: Duration = Duration::from_secs(90);

/// A running broker.
pub struct Broker {
    pub name: &'static str,
    /// None of a broker that runs already.
    child: Option<Child>,
    /// The process whose time and memory count; 0 if unknown.
    pid: u32,
    pub address: SocketAddr,
    epmd_port: Option<u16>,
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A command that runs on one core only.
fn on_core(core: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(core.to_string()).arg(program).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

impl Broker {
    pub fn waystation(binary: &Path, dir: &Path, core: usize) -> io::Result<Broker> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let mut command = on_core(core, binary);
        command.arg("serve").arg("--data").arg(dir.join("waystation"));
        command.args(["--http", "127.0.0.1:0", "--log", "warn", "--amqp"]).arg(address.to_string());
        let child = command.spawn()?;
        let pid = child.id();
        Broker { name: "Waystation", child: Some(child), pid, address, epmd_port: None }.ready()
    }

    /// One that runs already, wherever.
    pub fn running(address: SocketAddr) -> io::Result<Broker> {
        Broker { name: "the broker", child: None, pid: 0, address, epmd_port: None }.ready()
    }

    pub fn rabbitmq(dir: &Path, core: usize) -> io::Result<Broker> {
        let (port, distribution_port, epmd_port) = (free_port()?, free_port()?, free_port()?);
        let dir = dir.join("rabbitmq");
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("plugins"), "[].\n")?;
        let pid_file = dir.join("pid");
        let child = on_core(core, Path::new(RABBITMQ))
            .env("HOME", &dir)
            .env("RABBITMQ_NODENAME", format!("bench{port}@localhost"))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", port.to_string())
            .env("RABBITMQ_DIST_PORT", distribution_port.to_string())
            .env("ERL_EPMD_PORT", epmd_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", dir.join("data"))
            .env("RABBITMQ_LOG_BASE", dir.join("log"))
            .env("RABBITMQ_PID_FILE", &pid_file)
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("plugins"))
            .env("RABBITMQ_CONFIG_FILE", dir.join("none"))
            .env("RABBITMQ_CONF_ENV_FILE", dir.join("none"))
            .stderr(Stdio::null())
            .spawn()?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let broker =
            Broker { name: "RabbitMQ", child: Some(child), pid: 0, address, epmd_port: Some(epmd_port) };
        let mut broker = broker.ready()?;
        broker.pid = fs::read_to_string(pid_file)?.trim().parse().map_err(io::Error::other)?;
        Ok(broker)
    }

    /// Waits until a client can open a channel.
    fn ready(mut self) -> io::Result<Broker> {
        let begun = Instant::now();
        loop {
            match Connection::open(self.address) {
                Ok(_) => return Ok(self),
                Err(error) if begun.elapsed() > START_MAX => return Err(error),
                Err(_) => {}
            }
            if let Some(status) = self.child.as_mut().map_or(Ok(None), Child::try_wait)? {
                return Err(io::Error::other(format!("{} ended: {status}", self.name)));
            }
            #[allow(clippy::disallowed_methods, reason = "waits for a foreign program")]
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Declares durable queues, empty ones.
    pub fn declare(&self, names: &[String], kind: &str) -> io::Result<()> {
        let mut connection = Connection::open(self.address)?;
        let arguments: Table = [("x-queue-type".into(), kind.into())].into_iter().collect();
        for name in names {
            let arguments = if kind == "classic" { Table::default() } else { arguments.clone() };
            let declare = queue::Declare {
                queue: name.as_str().into(),
                durable: true,
                arguments,
                ..Default::default()
            };
            connection.call(&declare, "queue.declare-ok")?;
        }
        Ok(())
    }

    pub fn delete(&self, names: &[String]) -> io::Result<()> {
        let mut connection = Connection::open(self.address)?;
        for name in names {
            let delete = queue::Delete { queue: name.as_str().into(), ..Default::default() };
            connection.call(&delete, "queue.delete-ok")?;
        }
        Ok(())
    }

    /// Seconds of processor of all its threads (fields 14 and 15 of proc(5), in hundredths of a second).
    pub fn cpu_s(&self) -> f64 {
        if self.pid == 0 {
            return f64::NAN;
        }
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("a process");
        let (_, rest) = stat.rsplit_once(')').expect("a name in brackets");
        let ticks = |field: usize| rest.split_whitespace().nth(field).and_then(|n| n.parse::<u64>().ok());
        (ticks(11).expect("ticks") + ticks(12).expect("ticks")) as f64 / 100.0
    }

    /// Resident memory in MiB.
    pub fn resident_mib(&self) -> f64 {
        if self.pid == 0 {
            return f64::NAN;
        }
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("a process");
        let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("a number") / 1024.0
    }
}

impl Drop for Broker {
    /// Ends it, and what it started beside it.
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        // RabbitMQ's is the child of a script. One of no known number has not come up.
        let pid = if self.pid > 0 { self.pid } else { child.id() };
        let _ = Command::new("kill").arg(pid.to_string()).stderr(Stdio::null()).status();
        let _ = child.wait();
        if let Some(port) = self.epmd_port {
            let mut command = Command::new("epmd");
            let _ = command.args(["-port", &port.to_string(), "-kill"]).stdout(Stdio::null()).status();
        }
    }
}

/// A fresh folder for the brokers' data.
pub fn fresh(dir: PathBuf) -> io::Result<PathBuf> {
    match fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::create_dir_all(&dir)?,
    }
    dir.canonicalize()
}
