//! How does the load client talk? One socket and one channel, frames encoded ahead, replies told apart by their numbers alone.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use waystation_amqp091::wire::{
    Arguments, ChannelId, Decoder, Frame, GREETING, Method, Output,
    limits::FRAME_BYTES_DEFAULT,
    methods::{channel, connection},
};

/// Room for what is read at once.
const INPUT_BYTES: usize = 1 << 20;
/// The one channel of a connection.
pub const CHANNEL: ChannelId = ChannelId(1);
/// A broker that says nothing for so long is stuck.
const REPLY_TIMEOUT: Duration = Duration::from_secs(120);

/// A connection with channel 1 open.
pub struct Connection {
    pub stream: TcpStream,
    /// What waits to be written; the front may have gone already.
    pub out: Vec<u8>,
    out_done: usize,
    input: Vec<u8>,
    input_at: usize,
    input_end: usize,
}

/// What the broker said.
pub enum Heard<'a> {
    /// Confirmed up to or at this number.
    Ack { tag: u64, multiple: bool },
    /// Not stored.
    Nack,
    /// A message begins.
    Deliver { tag: u64 },
    /// A body, or a piece of it.
    Body(&'a [u8]),
    /// The connection or channel ends.
    Closed(String),
}

impl Connection {
    /// Connects as `guest`, virtual host `/`, without heartbeats.
    pub fn open(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        let input = vec![0; INPUT_BYTES];
        let mut connection =
            Connection { stream, out: Vec::new(), out_done: 0, input, input_at: 0, input_end: 0 };
        connection.stream.write_all(&GREETING)?;
        connection.expect("connection.start")?;
        connection.send(
            ChannelId(0),
            &connection::StartOk {
                mechanism: "PLAIN".into(),
                response: bytes::Bytes::from_static(b"\0guest\0guest"),
                locale: "en_US".into(),
                ..connection::StartOk::default()
            },
        )?;
        connection.expect("connection.tune")?;
        let tune = connection::TuneOk { channel_max: 16, frame_max: FRAME_BYTES_DEFAULT, heartbeat: 0 };
        connection.send(ChannelId(0), &tune)?;
        let open = connection::Open { virtual_host: "/".into(), ..connection::Open::default() };
        connection.send(ChannelId(0), &open)?;
        connection.expect("connection.open-ok")?;
        connection.call(&channel::Open::default(), "channel.open-ok")?;
        Ok(connection)
    }

    fn send(&mut self, channel: ChannelId, arguments: &impl Arguments) -> io::Result<()> {
        let mut output = Output::default();
        output.put(channel, arguments);
        self.stream.write_all(output.chunk())
    }

    /// Sends a method and waits for its answer. Only before the load begins.
    pub fn call(&mut self, arguments: &impl Arguments, answer: &str) -> io::Result<Method> {
        self.send(CHANNEL, arguments)?;
        self.expect(answer)
    }

    fn expect(&mut self, answer: &str) -> io::Result<Method> {
        let mut bytes = BytesMut::new();
        let mut decoder = Decoder::default();
        decoder.set_frame_max(FRAME_BYTES_DEFAULT);
        let mut byte = [0];
        loop {
            match decoder.decode(&mut bytes).map_err(io::Error::other)? {
                Some(Frame::Method(_, method)) if method.name() == answer => return Ok(method),
                Some(other) => return Err(io::Error::other(format!("{answer} expected, got {other:?}"))),
                None => {
                    // Byte by byte, so that nothing of what follows is taken.
                    self.stream.read_exact(&mut byte)?;
                    bytes.extend_from_slice(&byte);
                }
            }
        }
    }

    /// Writes as much as the socket takes.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.out_done < self.out.len() {
            match self.stream.write(&self.out[self.out_done..]) {
                Ok(written) => self.out_done += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.out_done = 0;
        Ok(())
    }

    /// Bytes that wait to be written.
    pub fn pending(&self) -> usize {
        self.out.len() - self.out_done
    }

    /// Reads what is there, once. False if there was nothing.
    pub fn fill(&mut self) -> io::Result<bool> {
        if self.input_at > 0 {
            self.input.copy_within(self.input_at..self.input_end, 0);
            self.input_end -= self.input_at;
            self.input_at = 0;
        }
        match self.stream.read(&mut self.input[self.input_end..]) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                self.input_end += read;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Hands over each whole frame that was read.
    pub fn hear(&mut self, mut heard: impl FnMut(Heard<'_>)) {
        loop {
            let rest = &self.input[self.input_at..self.input_end];
            if rest.len() < 8 {
                return;
            }
            let size = u32::from_be_bytes([rest[3], rest[4], rest[5], rest[6]]) as usize;
            if rest.len() < size + 8 {
                return;
            }
            let payload = &rest[7..7 + size];
            match (rest[0], payload) {
                (1, [0, 60, 0, 80, ..]) => {
                    heard(Heard::Ack { tag: number(&payload[4..12]), multiple: payload[12] & 1 == 1 });
                }
                (1, [0, 60, 0, 120, ..]) => heard(Heard::Nack),
                (1, [0, 60, 0, 60, ..]) => {
                    let at = 5 + usize::from(payload[4]);
                    heard(Heard::Deliver { tag: number(&payload[at..at + 8]) });
                }
                (1, [0, 10 | 20, 0, 40 | 50, ..]) => {
                    heard(Heard::Closed(String::from_utf8_lossy(&payload[4..]).into_owned()));
                }
                (3, body) => heard(Heard::Body(body)),
                _ => {}
            }
            self.input_at += size + 8;
        }
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
