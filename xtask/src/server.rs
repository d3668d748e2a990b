//! How is the real server started for programs that are to use it, on free ports, and ended whatever happens?

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

/// An address of this machine with a port that is free.
const FREE: &str = "127.0.0.1:0";

/// A server of our own, killed when it is dropped.
pub struct Server {
    child: Child,
    /// What it said when it was ready.
    ready: Value,
    /// The authority of the certificate that it shows.
    pub certificate: PathBuf,
}

impl Server {
    /// Starts it with an empty folder at `data`; what it logs goes to `log`.
    pub fn start(binary: &Path, root: &Path, data: &Path, log: &Path) -> Result<Server, String> {
        let said = |error: std::io::Error| error.to_string();
        if data.exists() {
            std::fs::remove_dir_all(data).map_err(said)?;
        }
        std::fs::create_dir_all(data).map_err(said)?;
        let certificates = root.join("crates/net/tests/data");
        let (certificate, key) = (certificates.join("server.pem"), certificates.join("server-key.pem"));
        let config = data.join("waystation.toml");
        let text = format!(
            "[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n[webhooks]\nallow = [\"127.0.0.1\"]\n"
        );
        std::fs::write(&config, text).map_err(said)?;
        let mut command = Command::new(binary);
        command.args(["--json", "serve", "--amqp-management", FREE]);
        command.args(["--http", FREE, "--amqp", FREE, "--amqps", FREE]);
        command.arg("--config").arg(&config).arg("--data").arg(data.join("data"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(log).map_err(said)?);
        let mut child = command.spawn().map_err(said)?;
        let ready = child.stdout.take().map(|stdout| ready_line(BufReader::new(stdout))).unwrap_or_default();
        let server = Server { child, ready, certificate: certificates.join("ca.pem") };
        if ["http", "management", "amqp", "amqps"].iter().all(|what| server.port(what).is_some()) {
            return Ok(server);
        }
        Err(std::fs::read_to_string(log).unwrap_or_default())
    }

    /// The port of `http`, `management`, `amqp` or `amqps`.
    pub fn port(&self, what: &str) -> Option<u16> {
        port(&self.ready, what)
    }

    /// What a program is told so that it finds this server.
    pub fn arguments(&self) -> Vec<String> {
        let port = |scheme| self.port(scheme).unwrap_or_default().to_string();
        let certificate = self.certificate.display().to_string();
        let pairs = [
            ("--host", "127.0.0.1".to_owned()),
            ("--port", port("amqp")),
            ("--tls-port", port("amqps")),
            ("--http", format!("https://localhost:{}", port("http"))),
            ("--management", format!("http://127.0.0.1:{}", port("management"))),
            ("--certificate", certificate),
        ];
        pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that has ended by itself cannot be killed, and need not be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The line in which the server says where it listens; nothing if it ends before.
fn ready_line(output: impl BufRead) -> Value {
    let lines = output.lines().map_while(Result::ok);
    let mut told = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    told.find(|told| told["ready"].is_string()).unwrap_or_default()
}

fn port(ready: &Value, what: &str) -> Option<u16> {
    let url = match what {
        "http" => ready["ready"].as_str()?,
        "management" => ready["amqp_management"].as_str()?,
        scheme => {
            let urls = ready["amqp"].as_array()?.iter().filter_map(Value::as_str);
            urls.into_iter().find(|url| url.split("://").next() == Some(scheme))?
        }
    };
    url.rsplit(':').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_are_read_from_the_line_that_says_ready() {
        let said = concat!(
            "starting\n",
            r#"{"ready": "https://127.0.0.1:7400", "amqp": ["amqp://127.0.0.1:5672", "amqps://[::1]:5671"],"#,
            r#" "amqp_management": "http://127.0.0.1:15672"}"#,
        );
        let ready = ready_line(said.as_bytes());
        let ports = ["http", "amqp", "amqps", "management"].map(|what| port(&ready, what));
        assert_eq!(ports, [Some(7400), Some(5672), Some(5671), Some(15672)]);
        assert_eq!(port(&ready_line(&b"no such line\n"[..]), "http"), None);
    }
}
