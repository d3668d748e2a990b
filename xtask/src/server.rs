//! How is the real server started for programs that are to use it, on free ports, and ended whatever happens?

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A server of our own, killed when it is dropped.
pub struct Server {
    child: Child,
    /// Where it listens, by scheme: `https`, `amqp`, `amqps`.
    urls: Vec<String>,
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
        let text = format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n");
        std::fs::write(&config, text).map_err(said)?;
        let mut command = Command::new(binary);
        command.args(["serve", "--http", "127.0.0.1:0", "--amqp", "127.0.0.1:0", "--amqps", "127.0.0.1:0"]);
        command.arg("--config").arg(&config).arg("--data").arg(data.join("data"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(log).map_err(said)?);
        let mut child = command.spawn().map_err(said)?;
        let ready = child.stdout.take().map(|stdout| ready_line(BufReader::new(stdout)));
        let urls: Vec<_> = ready.iter().flat_map(|line| urls(line)).collect();
        let server = Server { child, urls, certificate: certificates.join("ca.pem") };
        if ["https", "amqp", "amqps"].iter().all(|scheme| server.port(scheme).is_some()) {
            return Ok(server);
        }
        Err(std::fs::read_to_string(log).unwrap_or_default())
    }

    pub fn port(&self, scheme: &str) -> Option<u16> {
        let of_scheme = |url: &&String| url.strip_prefix(scheme).is_some_and(|rest| rest.starts_with("://"));
        self.urls.iter().find(of_scheme)?.trim_end_matches('/').rsplit(':').next()?.parse().ok()
    }

    /// What a program is told so that it finds this server.
    pub fn arguments(&self) -> Vec<String> {
        let port = |scheme| self.port(scheme).unwrap_or_default().to_string();
        let certificate = self.certificate.display().to_string();
        let http = format!("https://localhost:{}", port("https"));
        let pairs = [
            ("--host", "127.0.0.1".to_owned()),
            ("--port", port("amqp")),
            ("--tls-port", port("amqps")),
            ("--http", http),
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

/// The line in which the server says where it listens; empty if it ends before.
fn ready_line(output: impl BufRead) -> String {
    let mut lines = output.lines().map_while(Result::ok);
    lines.find(|line| line.contains(" is ready at ")).unwrap_or_default()
}

fn urls(line: &str) -> Vec<String> {
    let words = line.split([' ', ',']).filter(|word| word.contains("://"));
    words.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_are_read_from_the_line_that_says_ready() {
        let said = "starting\nwaystation 0.1.0 is ready at https://127.0.0.1:7400, amqp://127.0.0.1:5672 and amqps://[::1]:5671\n";
        let line = ready_line(said.as_bytes());
        assert_eq!(urls(&line), ["https://127.0.0.1:7400", "amqp://127.0.0.1:5672", "amqps://[::1]:5671"]);
        assert_eq!(ready_line(&b"no such line\n"[..]), "");
    }
}
