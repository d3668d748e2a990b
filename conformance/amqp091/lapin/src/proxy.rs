//! How does a scenario break a connection? A proxy between client and server that cuts, and lets new ones through.

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub struct Proxy {
    pub port: u16,
    cuts: watch::Sender<u32>,
}

impl Proxy {
    pub async fn new(host: String, port: u16) -> std::io::Result<Proxy> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let own = listener.local_addr()?.port();
        let (cuts, watched) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (host, mut watched) = (host.clone(), watched.clone());
                watched.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect((host, port)).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = watched.changed() => {}
                    }
                });
            }
        });
        Ok(Proxy { port: own, cuts })
    }

    /// Breaks what is connected now, without a goodbye to either side.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}
