"""Are errors told with the codes and words that RabbitMQ's clients know, and how much does each close?"""
import contextlib

import pika

from harness import equal, eventually, fresh, scenario
from with_pika import Consumer, channel_of, connected, put, refused


@contextlib.contextmanager
def two_channels(server):
    """A channel that is broken, and one beside it that must live on."""
    with connected(server) as connection:
        witness = connection.channel()
        yield connection, witness
        equal(witness.is_open, True, "the channel beside the broken one")
        witness.queue_declare("", exclusive=True)


@scenario
def what_is_not_there_is_not_found(server):
    name = fresh("absent")
    with two_channels(server) as (connection, _):
        def on_channel(action):
            return lambda: action(connection.channel())

        no_queue = f"NOT_FOUND - no queue '{name}' in vhost '/'"
        no_exchange = f"NOT_FOUND - no exchange '{name}' in vhost '/'"
        refused(404, no_queue, on_channel(lambda c: c.queue_declare(name, passive=True)))
        refused(404, no_queue, on_channel(lambda c: c.queue_purge(name)))
        refused(404, no_queue, on_channel(lambda c: c.basic_get(name)))
        refused(404, no_queue, on_channel(lambda c: c.basic_consume(name, lambda *_: None)))
        refused(404, no_queue, on_channel(lambda c: c.queue_bind(name, "amq.direct", "k")))
        refused(404, no_exchange, on_channel(lambda c: c.exchange_declare(name, passive=True)))
        refused(404, no_exchange, on_channel(lambda c: c.exchange_bind("amq.direct", name, "k")))

        def publish(channel):
            put(channel, "k", "lost", exchange=name)
            channel.queue_declare("", exclusive=True)

        refused(404, no_exchange, on_channel(publish))


@scenario
def deleting_and_unbinding_what_is_not_there_is_no_error(server):
    with channel_of(server) as channel:
        equal(channel.queue_delete(fresh("absent")).method.message_count, 0)
        channel.exchange_delete(fresh("absent"))
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_unbind(queue, "amq.direct", "never bound")
        channel.queue_unbind(queue, fresh("absent"), "k")
        channel.queue_unbind(fresh("absent"), "amq.direct", "k")
        channel.exchange_unbind("amq.direct", fresh("absent"), "k")
        channel.exchange_unbind(fresh("absent"), "amq.direct", "k")


@scenario
def a_queue_declared_again_must_be_the_same(server):
    name = fresh("same")
    with two_channels(server) as (connection, witness):
        witness.queue_declare(name, durable=True, arguments={"x-message-ttl": 60000})
        witness.queue_declare(name, durable=True, arguments={"x-message-ttl": 60000})

        def again(part, received, current, **settings):
            wanted = dict(durable=True, arguments={"x-message-ttl": 60000}) | settings
            text = f"PRECONDITION_FAILED - inequivalent arg '{part}' for queue '{name}' in vhost '/': "
            refused(406, f"{text}received {received} but current is {current}",
                    lambda: connection.channel().queue_declare(name, **wanted))

        again("durable", "'false'", "'true'", durable=False)
        again("auto_delete", "'true'", "'false'", auto_delete=True)
        again("x-message-ttl", "'5'", "'60000'", arguments={"x-message-ttl": 5})
        again("x-message-ttl", "none", "the value '60000' of type 'signedint'", arguments={})
        again("x-max-length", "the value '5' of type 'signedint'", "none",
              arguments={"x-message-ttl": 60000, "x-max-length": 5})
        witness.queue_declare(name, passive=True, durable=False)
        witness.queue_delete(name)


@scenario
def an_exchange_declared_again_must_be_the_same(server):
    name = fresh("same")
    with two_channels(server) as (connection, witness):
        witness.exchange_declare(name, "topic", durable=True)
        witness.exchange_declare(name, "topic", durable=True)

        def again(part, received, current, kind="topic", **settings):
            text = f"PRECONDITION_FAILED - inequivalent arg '{part}' for exchange '{name}' in vhost '/': "
            refused(406, f"{text}received {received} but current is {current}",
                    lambda: connection.channel().exchange_declare(name, kind, **(dict(durable=True) | settings)))

        again("type", "'direct'", "'topic'", kind="direct")
        again("durable", "'false'", "'true'", durable=False)
        again("auto_delete", "'true'", "'false'", auto_delete=True)
        again("internal", "'true'", "'false'", internal=True)
        again("alternate-exchange", "the value 'x' of type 'longstr'", "none", arguments={"alternate-exchange": "x"})
        witness.exchange_delete(name)


@scenario
def an_exclusive_queue_is_locked_for_other_connections(server):
    name = fresh("mine")
    text = (f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in vhost '/'. It could be "
            "originally declared on another connection or the exclusive property value does not match that of the "
            "original declaration.")
    with channel_of(server) as owner, two_channels(server) as (stranger, _):
        owner.queue_declare(name, exclusive=True)
        for action in (
            lambda c: c.queue_declare(name, exclusive=True),
            lambda c: c.queue_declare(name, passive=True),
            lambda c: c.queue_declare(name),
            lambda c: c.basic_consume(name, lambda *_: None),
            lambda c: c.basic_get(name),
            lambda c: c.queue_bind(name, "amq.direct", "k"),
            lambda c: c.queue_purge(name),
            lambda c: c.queue_delete(name),
        ):
            refused(405, text, lambda: action(stranger.channel()))
        # Anybody may publish into it.
        put(stranger.channel(), name, "let in")
        equal(Consumer(owner, name).wait(1), [b"let in"])
    with channel_of(server) as later:
        refused(404, f"NOT_FOUND - no queue '{name}' in vhost '/'", lambda: later.queue_declare(name, passive=True))


@scenario
def an_exclusive_consumer_is_alone(server):
    name = fresh("alone")
    with channel_of(server) as owner, two_channels(server) as (stranger, _):
        owner.queue_declare(name)
        consumer = Consumer(owner, name, exclusive=True)
        text = f"ACCESS_REFUSED - queue '{name}' in vhost '/' in exclusive use"
        refused(403, text, lambda: stranger.channel().basic_consume(name, lambda *_: None))
        refused(403, text, lambda: stranger.channel().basic_consume(name, lambda *_: None, exclusive=True))
        owner.basic_cancel(consumer.tag)
        ordinary = Consumer(owner, name)
        refused(403, text, lambda: stranger.channel().basic_consume(name, lambda *_: None, exclusive=True))
        owner.basic_cancel(ordinary.tag)
        owner.queue_delete(name)


@scenario
def names_with_the_reserved_prefix_are_refused(server):
    with two_channels(server) as (connection, _):
        refused(403, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'",
                lambda: connection.channel().queue_declare("amq.mine"))
        refused(403, "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'",
                lambda: connection.channel().exchange_declare("amq.mine", "direct"))
        connection.channel().exchange_declare("amq.topic", passive=True)
        connection.channel().exchange_declare("amq.topic", "topic", durable=True)


@scenario
def the_default_exchange_is_not_to_be_touched(server):
    with two_channels(server) as (connection, _):
        text = "ACCESS_REFUSED - operation not permitted on the default exchange"
        queue = connection.channel().queue_declare("", exclusive=True).method.queue
        refused(403, text, lambda: connection.channel().queue_bind(queue, "", "k"))
        refused(403, text, lambda: connection.channel().queue_unbind(queue, "", queue))
        refused(403, text, lambda: connection.channel().exchange_declare("", "direct", durable=True))
        refused(403, text, lambda: connection.channel().exchange_delete(""))
        refused(403, text, lambda: connection.channel().exchange_bind("amq.direct", "", "k"))


@scenario
def delivery_tags_that_were_not_given_are_refused(server):
    with two_channels(server) as (connection, witness):
        queue = witness.queue_declare("", exclusive=True).method.queue
        put(witness, queue, "one")

        def wrong(settle):
            channel = connection.channel()
            settle(channel)
            channel.queue_declare("", exclusive=True)

        text = "PRECONDITION_FAILED - unknown delivery tag "
        refused(406, text + "42", lambda: wrong(lambda c: c.basic_ack(42)))
        refused(406, text + "42", lambda: wrong(lambda c: c.basic_ack(42, multiple=True)))
        refused(406, text + "7", lambda: wrong(lambda c: c.basic_reject(7)))
        refused(406, text + "7", lambda: wrong(lambda c: c.basic_nack(7)))

        def twice(channel):
            method, _, _ = channel.basic_get(queue)
            channel.basic_ack(method.delivery_tag)
            channel.basic_ack(method.delivery_tag)

        refused(406, text + "1", lambda: wrong(twice))


@scenario
def conditional_deletes_are_refused_while_the_condition_fails(server):
    queue, exchange = fresh("kept"), fresh("kept")
    with two_channels(server) as (connection, witness):
        witness.queue_declare(queue)
        witness.exchange_declare(exchange, "direct")
        witness.queue_bind(queue, exchange, "k")
        refused(406, f"PRECONDITION_FAILED - exchange '{exchange}' in vhost '/' in use",
                lambda: connection.channel().exchange_delete(exchange, if_unused=True))
        put(witness, queue, "one")
        refused(406, f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' not empty",
                lambda: connection.channel().queue_delete(queue, if_empty=True))
        consumer = Consumer(witness, queue, auto_ack=True)
        equal(consumer.wait(1), [b"one"])
        refused(406, f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' in use",
                lambda: connection.channel().queue_delete(queue, if_unused=True))
        witness.basic_cancel(consumer.tag)
        # What somebody holds does not stand in the way, though it has not been acknowledged.
        put(witness, queue, "held")
        eventually(lambda: witness.basic_get(queue)[0])
        witness.queue_delete(queue, if_unused=True, if_empty=True)
        witness.exchange_delete(exchange, if_unused=True)


@scenario
def arguments_with_wrong_values_are_refused(server):
    with two_channels(server) as (connection, _):
        name = fresh("bad")

        def wrong(argument, value, reason):
            text = f"PRECONDITION_FAILED - invalid arg '{argument}' for queue '{name}' in vhost '/': {reason}"
            refused(406, text, lambda: connection.channel().queue_declare(name, arguments={argument: value}))

        wrong("x-message-ttl", -1, "{value_negative,-1}")
        wrong("x-message-ttl", 2**40, "{value_too_large,1099511627776}")
        wrong("x-message-ttl", "soon", '"expected integer, got longstr"')
        wrong("x-expires", 0, "{value_zero,0}")
        wrong("x-max-length", -5, "{value_negative,-5}")
        wrong("x-max-length", "many", '"expected integer, got longstr"')
        wrong("x-max-priority", 256, "{max_value_exceeded,256}")
        wrong("x-max-priority", -1, "{value_negative,-1}")
        wrong("x-overflow", "explode", "invalid_overflow")
        wrong("x-overflow", 5, "{unacceptable_type,signedint}")
        wrong("x-dead-letter-routing-key", "k", "routing_key_but_no_dlx_defined")
        wrong("x-queue-mode", "warp", "\"unsupported queue mode 'warp'\"")
        wrong("x-queue-type", "weird", "\"unsupported queue type 'weird'\"")
        wrong("x-single-active-consumer", "yes", "{unacceptable_type,longstr}")
        text = f"PRECONDITION_FAILED - invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue '{name}' in "
        refused(406, text + "vhost '/'",
                lambda: connection.channel().queue_declare(name, arguments={"x-dead-letter-exchange": 5}))


@scenario
def quorum_queues_and_streams_refuse_what_they_cannot_be(server):
    name = fresh("typed")
    where = f"for queue '{name}' in vhost '/'"
    with two_channels(server) as (connection, _):
        def wrong(text, kind, durable=True, more=(), **settings):
            arguments = {"x-queue-type": kind, **dict(more)}
            refused(406, f"PRECONDITION_FAILED - {text}",
                    lambda: connection.channel().queue_declare(name, durable=durable, arguments=arguments, **settings))

        for kind in ("quorum", "stream"):
            wrong(f"invalid property 'non-durable' {where}", kind, durable=False)
            wrong(f"invalid property 'exclusive-owner' {where}", kind, exclusive=True)
            wrong(f"invalid property 'auto-delete' {where}", kind, auto_delete=True)
            wrong(f"invalid arg 'x-max-priority' {where} of queue type rabbit_{kind}_queue", kind,
                  more={"x-max-priority": 5})
        wrong(f"invalid arg 'x-message-ttl' {where} of queue type rabbit_stream_queue", "stream",
              more={"x-message-ttl": 5})
        wrong(f"invalid arg 'x-delivery-limit' {where} of queue type rabbit_classic_queue", "classic",
              more={"x-delivery-limit": 5})


@scenario
def a_quorum_queue_with_a_single_active_consumer_is_not_got_from(server):
    for kind in ("quorum", "classic"):
        queue = fresh(kind)
        with two_channels(server) as (connection, witness):
            witness.queue_declare(
                queue, durable=True, arguments={"x-queue-type": kind, "x-single-active-consumer": True})
            put(witness, queue, "1")
            if kind == "quorum":
                refused(405, f"RESOURCE_LOCKED - cannot obtain access to locked queue '{queue}' in vhost '/'. "
                             "basic.get operations are not supported by quorum queues with single active consumer",
                        lambda: connection.channel().basic_get(queue))
            else:
                equal(eventually(lambda: connection.channel().basic_get(queue)[2]), b"1")
            witness.queue_delete(queue)


@scenario
def modes_of_a_channel_do_not_mix(server):
    with two_channels(server) as (connection, _):
        def both(first, second):
            channel = connection.channel()
            getattr(channel, first)()
            getattr(channel, second)()

        refused(406, "PRECONDITION_FAILED - cannot switch from confirm to tx mode",
                lambda: both("confirm_delivery", "tx_select"))
        refused(406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode",
                lambda: both("tx_select", "confirm_delivery"))
        refused(406, "PRECONDITION_FAILED - channel is not transactional", lambda: connection.channel().tx_commit())


@scenario
def cc_must_be_a_list_and_a_consumer_s_priority_a_number(server):
    with two_channels(server) as (connection, witness):
        queue = witness.queue_declare("", exclusive=True).method.queue

        def publish():
            channel = connection.channel()
            put(channel, queue, "x", headers={"CC": "not a list"})
            channel.queue_declare("", exclusive=True)

        refused(406, 'PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,"CC",longstr}', publish)
        text = f"PRECONDITION_FAILED - invalid arg 'x-priority' for queue '{queue}' in vhost '/': "
        refused(406, text + '"expected integer, got longstr"', lambda: connection.channel().basic_consume(
            queue, lambda *_: None, arguments={"x-priority": "high"}))


@scenario
def a_bad_expiration_closes_the_channel(server):
    with two_channels(server) as (connection, _):
        def publish(expiration):
            channel = connection.channel()
            channel.basic_publish("", "nowhere", "x", pika.BasicProperties(expiration=expiration))
            channel.queue_declare("", exclusive=True)

        refused(406, "PRECONDITION_FAILED - invalid expiration 'soon': no_integer", lambda: publish("soon"))
        refused(406, "PRECONDITION_FAILED - invalid expiration '-5': {value_negative,-5}", lambda: publish("-5"))


@scenario
def a_user_id_must_be_the_one_logged_in(server):
    with two_channels(server) as (connection, witness):
        queue = witness.queue_declare("", exclusive=True).method.queue
        put(witness, queue, "mine", user_id=server.user)
        consumer = Consumer(witness, queue)
        equal(consumer.wait(1), [b"mine"])
        equal(consumer.got[0][1].user_id, server.user)

        def forge():
            channel = connection.channel()
            put(channel, queue, "forged", user_id="somebody")
            channel.queue_declare("", exclusive=True)

        text = "PRECONDITION_FAILED - user_id property set to 'somebody' but authenticated user was "
        refused(406, f"{text}'{server.user}'", forge)


@scenario
def publishing_to_an_internal_exchange_is_refused(server):
    inner, outer = fresh("inner"), fresh("outer")
    with two_channels(server) as (connection, witness):
        witness.exchange_declare(inner, "fanout", internal=True)
        witness.exchange_declare(outer, "fanout")
        witness.exchange_bind(inner, outer)
        queue = witness.queue_declare("", exclusive=True).method.queue
        witness.queue_bind(queue, inner)
        put(witness, "k", "through", exchange=outer)
        equal(Consumer(witness, queue).wait(1), [b"through"])

        def publish():
            channel = connection.channel()
            put(channel, "k", "in", exchange=inner)
            channel.queue_declare("", exclusive=True)

        refused(403, f"ACCESS_REFUSED - cannot publish to internal exchange '{inner}' in vhost '/'", publish)
        witness.exchange_delete(inner)
        witness.exchange_delete(outer)


@scenario
def errors_of_the_connection_close_the_connection(server):
    with connected(server) as connection:
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.basic_consume(queue, lambda *_: None, consumer_tag="twice")

        def reuse():
            # Past pika, which would refuse it itself.
            channel._impl._consumers.pop("twice", None)
            channel._consumer_infos.pop("twice", None)
            channel.basic_consume(queue, lambda *_: None, consumer_tag="twice")

        refused(530, "NOT_ALLOWED - attempt to reuse consumer tag 'twice'", reuse, connection=True)
    with connected(server) as connection:
        refused(503, "COMMAND_INVALID - unknown exchange type 'nonsense'",
                lambda: connection.channel().exchange_declare(fresh("x"), "nonsense"), connection=True)


@scenario
def a_basic_qos_with_a_prefetch_size_is_not_implemented(server):
    with connected(server) as connection:
        refused(540, "NOT_IMPLEMENTED - prefetch_size!=0 (1)",
                lambda: connection.channel().basic_qos(prefetch_size=1), connection=True)


@scenario
def a_wrong_password_is_refused_and_so_is_an_unknown_virtual_host(server):
    login = pika.PlainCredentials(server.user, "wrong")
    try:
        with connected(server, credentials=login):
            raise AssertionError("let in with a wrong password")
    except pika.exceptions.ProbableAuthenticationError as error:
        assert "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN" in str(error), error
    try:
        with connected(server, virtual_host="nowhere"):
            raise AssertionError("let into a virtual host that is not there")
    except pika.exceptions.ProbableAccessDeniedError as error:
        equal(str(error), "ConnectionClosedByBroker: (530) 'NOT_ALLOWED - vhost nowhere not found'")
