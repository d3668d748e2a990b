"""What does a peer see that speaks AMQP 0-9-1 by hand? For bytes that no client library would send or show.

Just enough of a codec for the scenarios, written from the specification.
"""
import socket
import struct

METHOD, HEADER, BODY, HEARTBEAT, END = 1, 2, 3, 8, 0xCE
GREETING = b"AMQP\x00\x00\x09\x01"


def short_text(text):
    data = text.encode() if isinstance(text, str) else text
    return bytes([len(data)]) + data


def long_text(data):
    data = data.encode() if isinstance(data, str) else data
    return struct.pack(">I", len(data)) + data


def table(*entries):
    """A field table from (name, type letter, encoded value)."""
    return long_text(b"".join(short_text(name) + kind + value for name, kind, value in entries))


def frame(kind, channel, payload):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes([END])


def method(channel, class_id, method_id, arguments=b""):
    return frame(METHOD, channel, struct.pack(">HH", class_id, method_id) + arguments)


class Peer:
    """A connection by hand: frames in, frames out."""

    def __init__(self, server, greeting=GREETING, tls=False, receive_bytes=None):
        self.server = server
        self.socket = socket.socket()
        self.socket.settimeout(10)
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.connect((server.host, server.tls_port if tls else server.port))
        if tls:
            self.socket = server.tls_context().wrap_socket(self.socket, server_hostname="localhost")
        self.buffer = b""
        if greeting:
            self.send(greeting)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *data):
        self.socket.sendall(b"".join(data))

    def exactly(self, count):
        while len(self.buffer) < count:
            more = self.socket.recv(65536)
            if not more:
                raise EOFError
            self.buffer += more
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def frame(self):
        kind, channel, size = struct.unpack(">BHI", self.exactly(7))
        payload = self.exactly(size)
        assert self.exactly(1)[0] == END, "a frame without its end"
        return kind, channel, payload

    def method(self, class_id, method_id):
        """The next frame but for heartbeats, which must be this method; gives its arguments."""
        while True:
            kind, _, payload = self.frame()
            if kind != HEARTBEAT:
                break
        got = struct.unpack(">HH", payload[:4])
        assert (kind, got) == (METHOD, (class_id, method_id)), (kind, got, payload[4:])
        return payload[4:]

    def log_in(self, mechanism="PLAIN", response=None, channel_max=2047, frame_max=131072, heartbeat=0, vhost="/",
               client_properties=table()):
        """The whole handshake; gives what connection.tune proposed."""
        self.method(10, 10)
        if response is None:
            response = f"\x00{self.server.user}\x00{self.server.password}"
        self.send(method(0, 10, 11, client_properties + short_text(mechanism) + long_text(response) + short_text("en_US")))
        proposed = struct.unpack(">HIH", self.method(10, 30))
        self.send(method(0, 10, 31, struct.pack(">HIH", channel_max, frame_max, heartbeat)))
        self.send(method(0, 10, 40, short_text(vhost) + b"\x00\x00"))
        self.method(10, 41)
        return proposed

    def open_channel(self, channel=1):
        self.send(method(channel, 20, 10, b"\x00"))
        self.method(20, 11)

    def declare(self, name="", channel=1, flags=4):
        """A queue, exclusive if nothing else is said; gives its name."""
        self.send(method(channel, 50, 10, b"\x00\x00" + short_text(name) + bytes([flags]) + table()))
        told = self.method(50, 11)
        return told[1 : 1 + told[0]].decode()

    def closed(self):
        """Waits for connection.close; gives code, text and the method that is blamed."""
        arguments = self.method(10, 50)
        (code,) = struct.unpack(">H", arguments[:2])
        size = arguments[2]
        blamed = struct.unpack(">HH", arguments[3 + size : 7 + size])
        return code, arguments[3 : 3 + size].decode(), blamed

    def ended(self):
        """Whether the other side has closed the socket; what still comes is dropped."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionError:
            pass
        return True


def publish(queue, properties, body, channel=1, flags=0):
    """basic.publish to a queue; `properties` is the encoded flags word and list."""
    head = struct.pack(">HHQ", 60, 0, len(body)) + properties
    arguments = b"\x00\x00" + short_text("") + short_text(queue) + bytes([flags])
    frames = [method(channel, 60, 40, arguments), frame(HEADER, channel, head)]
    return b"".join(frames + ([frame(BODY, channel, body)] if body else []))
