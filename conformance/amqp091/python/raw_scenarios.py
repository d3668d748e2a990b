"""Does the server keep to the specification where a client does not, and does every type come back as it was sent?"""
import socket
import struct
import time

from harness import Skip, equal, fresh, scenario
from raw import BODY, HEADER, HEARTBEAT, METHOD, Peer, frame, long_text, method, publish, short_text, table

EVERY_TYPE = table(
    ("boolean", b"t", b"\x01"),
    ("signed 8", b"b", b"\x85"),
    ("unsigned 8", b"B", b"\xfe"),
    ("signed 16", b"s", b"\x80\x01"),
    ("unsigned 16", b"u", b"\xff\xfe"),
    ("signed 32", b"I", b"\x80\x00\x00\x01"),
    ("unsigned 32", b"i", b"\xff\xff\xff\xfe"),
    ("signed 64", b"l", b"\x80\x00\x00\x00\x00\x00\x00\x01"),
    ("float", b"f", struct.pack(">f", 0.1)),
    ("double", b"d", struct.pack(">d", 0.1)),
    ("decimal", b"D", b"\x02" + struct.pack(">I", 31415)),
    ("text", b"S", long_text("zażółć")),
    ("text that is not UTF-8", b"S", long_text(b"\x00\xff")),
    ("bytes", b"x", long_text(b"\x00\xff")),
    ("text within", b"A", long_text(b"S" + long_text(b"\xfe") + b"x" + long_text(b"\xfe"))),
    ("time", b"T", struct.pack(">Q", 1_700_000_000)),
    ("list", b"A", long_text(b"I\x00\x00\x00\x01" + b"S" + long_text("two") + b"A" + long_text(b"t\x00"))),
    ("table", b"F", table(("inner", b"F", table(("deep", b"V", b""))))),
    ("nothing", b"V", b""),
    ("", b"S", long_text("a name of no letters")),
)
EVERY_PROPERTY = 0xFFFC


def every_property(user):
    texts = [short_text(text) for text in ("correlation", "reply", "60000", "message")]
    return b"".join([
        short_text("text/plain"), short_text("identity"), EVERY_TYPE, b"\x02\x07", *texts,
        struct.pack(">Q", 1_700_000_001), short_text("type"), short_text(user), short_text("app"),
        short_text("cluster")])


def get(peer, queue):
    """basic.get, acknowledged; gives the properties as bytes and the body."""
    peer.send(method(1, 60, 70, b"\x00\x00" + short_text(queue) + b"\x01"))
    peer.method(60, 71)
    kind, _, head = peer.frame()
    equal(kind, HEADER)
    size = struct.unpack(">Q", head[4:12])[0]
    body = b""
    while len(body) < size:
        kind, _, part = peer.frame()
        equal(kind, BODY)
        body += part
    return head[12:], body


def confirm(peer, *published):
    """Publishes on a channel with confirms and waits for them, so that the messages are there."""
    peer.send(method(1, 85, 10, b"\x00"))
    peer.method(85, 11)
    done = 0
    for data in published:
        peer.send(data)
    while done < len(published):
        tag, several = struct.unpack(">QB", peer.method(60, 80))
        done = tag if several else done + 1


def publish_large(queue, size):
    """A message of zeros in frames of the usual size."""
    whole = publish(queue, b"\x00\x00", b"").replace(
        struct.pack(">HHQ", 60, 0, 0), struct.pack(">HHQ", 60, 0, size))
    parts = [min(131_064, size - at) for at in range(0, size, 131_064)]
    return whole + b"".join(frame(BODY, 1, bytes(part)) for part in parts)


@scenario
def every_type_and_every_property_comes_back_byte_by_byte(server):
    with Peer(server) as peer:
        peer.log_in()
        peer.open_channel()
        queue = peer.declare()
        full = struct.pack(">H", EVERY_PROPERTY) + every_property(server.user)
        empty = b"\x00\x00"
        only_headers = struct.pack(">H", 0x2000) + table()
        confirm(peer, *[publish(queue, properties, b"x") for properties in (full, empty, only_headers)])
        equal(get(peer, queue)[0], full)
        equal(get(peer, queue)[0], empty)
        equal(get(peer, queue)[0], only_headers)


@scenario
def bodies_of_every_size_are_cut_to_the_negotiated_frame(server):
    with Peer(server) as peer:
        peer.log_in(frame_max=4096)
        peer.open_channel()
        queue = peer.declare()
        for size in (0, 1, 4087, 4088, 4089, 8176, 8177, 100_000):
            body = bytes(n % 251 for n in range(size))
            head = struct.pack(">HHQ", 60, 0, size) + b"\x00\x00"
            parts = [body[at : at + 4088] for at in range(0, size, 4088)]
            peer.send(method(1, 60, 40, b"\x00\x00" + short_text("") + short_text(queue) + b"\x00"),
                      frame(HEADER, 1, head), *[frame(BODY, 1, part) for part in parts])
            time.sleep(0.02)
            equal(get(peer, queue), (b"\x00\x00", body), f"{size} bytes")


@scenario
def a_wrong_greeting_is_answered_with_the_right_one(server):
    for greeting in (b"AMQP\x00\x00\x08\x00", b"AMQP\x00\x00\x09\x02", b"GET / HTTP/1.1\r\n\r\n"):
        with Peer(server, greeting) as peer:
            equal(peer.exactly(8), b"AMQP\x00\x00\x09\x01", repr(greeting))
            peer.ended()


@scenario
def the_server_introduces_itself_and_proposes_limits(server):
    with Peer(server) as peer:
        start = peer.method(10, 10)
        equal(start[:2], b"\x00\x09")
        for word in (b"product", b"version", b"platform", b"capabilities", b"publisher_confirms", b"basic.nack",
                     b"exchange_exchange_bindings", b"consumer_cancel_notify", b"connection.blocked",
                     b"consumer_priorities", b"authentication_failure_close", b"per_consumer_qos", b"direct_reply_to",
                     b"cluster_name"):
            assert word in start, word
        assert b"PLAIN" in start[-60:] and b"AMQPLAIN" in start[-60:] and start.endswith(b"en_US"), start[-60:]
    with Peer(server) as peer:
        channel_max, frame_max, heartbeat = peer.log_in()
        equal((channel_max, frame_max, heartbeat), (2047, 131072, 60))


@scenario
def amqplain_logs_in_too(server):
    fields = table(("LOGIN", b"S", long_text(server.user)), ("PASSWORD", b"S", long_text(server.password)))
    with Peer(server) as peer:
        peer.log_in(mechanism="AMQPLAIN", response=fields[4:])
        peer.open_channel()


def begun_publish(*more):
    return b"".join([method(1, 60, 40, b"\x00\x00" + short_text("") + short_text("q") + b"\x00"), *more])


def offences():
    """What is sent, and how the connection is closed: code, how its text begins, the method that is blamed."""
    declare = b"\x00\x00" + short_text("x") + b"\x00" + table()
    yield method(9, 50, 10, declare), 504, "CHANNEL_ERROR - expected 'channel.open'", (50, 10)
    yield method(1, 20, 10, b"\x00"), 504, "CHANNEL_ERROR - second 'channel.open' seen", (20, 10)
    yield method(0, 50, 10, declare), 504, "CHANNEL_ERROR - unexpected method in connection state running", (50, 10)
    yield b"\x01\x00\x01\x00\x00\x00\x04\x00\x3c\x00\x0a\x00", 501, "FRAME_ERROR - ", (0, 0)
    yield struct.pack(">BHI", 1, 1, 131073), 501, "FRAME_ERROR - ", (0, 0)
    yield method(1, 50, 10, b"\x00\x00\xffshort"), 501, "FRAME_ERROR - ", (50, 10)
    yield frame(7, 1, b"\x00\x00"), 501, "FRAME_ERROR - ", (0, 0)
    alone = "UNEXPECTED_FRAME - expected method frame, got non method frame instead"
    yield frame(BODY, 1, b"without a head"), 505, alone, (0, 0)
    yield frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 0, 0)), 505, alone, (0, 0)
    text = "UNEXPECTED_FRAME - expected content header for class 60, got "
    yield begun_publish(method(1, 50, 10, declare)), 505, text + "non content header frame instead", (60, 40)
    other = frame(HEADER, 1, struct.pack(">HHQH", 50, 0, 3, 0))
    yield begun_publish(other), 505, text + "one for class 50 instead", (60, 40)


@scenario
def a_client_that_leaves_closes_the_socket_itself(server):
    """One that finds it closed while it still reads the answer may take that for a broken connection."""
    with Peer(server) as peer:
        peer.log_in()
        peer.send(method(0, 10, 50, struct.pack(">H", 200) + short_text("bye") + struct.pack(">HH", 0, 0)))
        peer.method(10, 51)
        peer.socket.settimeout(0.4)
        try:
            raise AssertionError(f"after close-ok came {peer.socket.recv(100)!r}")
        except TimeoutError:
            pass
        peer.socket.settimeout(5)
        peer.socket.shutdown(socket.SHUT_WR)
        peer.ended()


@scenario
def bad_frames_close_the_connection_with_their_code(server):
    for number, (sent, code, text, blamed) in enumerate(offences()):
        with Peer(server) as peer:
            peer.log_in()
            peer.open_channel()
            peer.send(sent)
            got = peer.closed()
            equal((got[0], got[1][: len(text)], got[2]), (code, text, blamed), f"offence {number}")
            peer.send(method(0, 10, 51))
            peer.ended()


@scenario
def what_the_specification_does_not_know_closes_the_connection(server):
    for ids in ((99, 1), (60, 99), (10, 99)):
        with Peer(server) as peer:
            peer.log_in()
            peer.open_channel()
            peer.send(frame(METHOD, 1, struct.pack(">HH", *ids)))
            try:
                code, text, _ = peer.closed()
                assert code in (503, 540), (ids, code, text)
            except (EOFError, ConnectionError):
                # RabbitMQ drops such a peer without a word.
                assert server.is_reference, "dropped without connection.close"


@scenario
def a_channel_past_the_agreed_number_is_refused(server):
    with Peer(server) as peer:
        peer.log_in(channel_max=2)
        peer.open_channel(1)
        peer.open_channel(2)
        peer.send(method(3, 20, 10, b"\x00"))
        code, text, _ = peer.closed()
        equal(code, 530, text)


@scenario
def a_frame_size_below_the_specification_s_least_is_refused(server):
    with Peer(server) as peer:
        peer.method(10, 10)
        login = f"\x00{server.user}\x00{server.password}"
        peer.send(method(0, 10, 11, table() + short_text("PLAIN") + long_text(login) + short_text("en_US")))
        peer.method(10, 30)
        peer.send(method(0, 10, 31, struct.pack(">HIH", 10, 1000, 0)))
        try:
            code, text, _ = peer.closed()
            equal(code, 530, text)
        except (EOFError, ConnectionError):
            # RabbitMQ waits for three seconds and drops such a peer without a word.
            assert server.is_reference, "dropped without connection.close"


@scenario
def heartbeats_are_sent_and_a_silent_peer_is_dropped(server):
    with Peer(server) as peer:
        peer.log_in(heartbeat=1)
        begun = time.monotonic()
        kinds = set()
        try:
            while True:
                kinds.add(peer.frame()[0])
                assert time.monotonic() - begun < 15, "a peer that says nothing is kept"
        except (EOFError, ConnectionError):
            pass
        took = time.monotonic() - begun
        equal(kinds, {HEARTBEAT})
        assert took > 1.5, f"dropped after {took:.1f} s, before two heartbeats were missed"


@scenario
def a_peer_that_sends_heartbeats_lives(server):
    with Peer(server) as peer:
        peer.log_in(heartbeat=1)
        for _ in range(8):
            time.sleep(0.5)
            peer.send(frame(HEARTBEAT, 0, b""))
        peer.open_channel()
        queue = peer.declare()
        assert queue.startswith("amq.gen-"), queue


@scenario
def a_client_that_reads_nothing_is_held_back_alone(server):
    """64 MiB are published to a consumer that does not read; others go on meanwhile."""
    with Peer(server) as lazy, Peer(server) as other:
        for peer in (lazy, other):
            peer.log_in()
            peer.open_channel()
        name = fresh("lazy")
        other.send(method(1, 50, 10, b"\x00\x00" + short_text(name) + b"\x00" + table()))
        other.method(50, 11)
        lazy.send(method(1, 60, 20, b"\x00\x00" + short_text(name) + short_text("t") + b"\x02" + table()))
        lazy.method(60, 21)
        body = b"x" * 65_536
        confirm(other, *[publish(name, b"\x00\x00", body) for _ in range(1024)])
        queue = other.declare()
        confirm_more = publish(queue, b"\x00\x00", b"alive")
        other.send(confirm_more)
        other.method(60, 80)
        equal(get(other, queue)[1], b"alive")
        received = 0
        while received < 1024 * 65_536:
            kind, _, payload = lazy.frame()
            received += len(payload) if kind == BODY else 0
        equal(received, 1024 * 65_536)
        other.send(method(1, 50, 40, b"\x00\x00" + short_text(name) + b"\x00"))
        other.method(50, 41)


@scenario
def a_slow_reader_over_tls_gets_the_last_bytes_too(server):
    """TLS holds some of them while the socket is full, and no heartbeat comes to push them out. Whatever the socket takes while nobody
    reads, one of the sizes ends just past it."""
    if not server.tls_port or not server.certificate:
        raise Skip("no TLS port was given")
    with Peer(server, tls=True, receive_bytes=8_192) as slow:
        slow.log_in()
        slow.open_channel()
        queue = slow.declare()
        slow.send(method(1, 85, 10, b"\x00"))
        slow.method(85, 11)
        for size in range(65_536, 6_000_000, 32_768):
            slow.send(publish_large(queue, size))
            slow.method(60, 80)
            slow.send(method(1, 60, 70, b"\x00\x00" + short_text(queue) + b"\x01"))
            time.sleep(0.02)
            slow.method(60, 71)
            slow.frame()
            received = 0
            while received < size:
                received += len(slow.frame()[2])
            equal(received, size)


@scenario
def secrets_can_be_renewed_while_connected(server):
    with Peer(server) as peer:
        peer.log_in()
        peer.send(method(0, 10, 70, long_text(server.password) + short_text("renewed")))
        peer.method(10, 71)
        peer.open_channel()


@scenario
def a_consumer_that_deletes_its_own_queue_hears_the_answer_before_the_notice(server):
    notify = table(("capabilities", b"F", table(("consumer_cancel_notify", b"t", b"\x01"))))
    with Peer(server) as peer:
        peer.log_in(client_properties=notify)
        peer.open_channel()
        queue = peer.declare()
        peer.send(method(1, 60, 20, b"\x00\x00" + short_text(queue) + short_text("t") + b"\x00" + table()))
        peer.method(60, 21)
        peer.send(method(1, 50, 40, b"\x00\x00" + short_text(queue) + b"\x00"))
        peer.method(50, 41)
        equal(peer.method(60, 30)[:2], short_text("t"))


@scenario
def what_is_acknowledged_in_one_breath_with_closing_does_not_come_again(server):
    with Peer(server) as peer:
        peer.log_in()
        for _ in range(5):
            peer.open_channel()
            queue = peer.declare()
            confirm(peer, *[publish(queue, b"\x00\x00", b"x") for _ in range(3)])
            peer.send(method(1, 60, 20, b"\x00\x00" + short_text(queue) + short_text("tag") + b"\x00" + table()))
            peer.method(60, 21)
            for _ in range(3):
                peer.method(60, 60)
                equal([peer.frame()[0] for _ in range(2)], [HEADER, BODY])
            last = struct.pack(">QB", 3, 1)
            peer.send(method(1, 60, 80, last) + method(1, 20, 40, b"\x00\xc8" + short_text("") + b"\x00" * 4))
            peer.method(20, 41)
            peer.open_channel()
            peer.send(method(1, 60, 70, b"\x00\x00" + short_text(queue) + b"\x01"))
            peer.method(60, 72)
            peer.send(method(1, 20, 40, b"\x00\xc8" + short_text("") + b"\x00" * 4))
            peer.method(20, 41)
