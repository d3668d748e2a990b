//! What do services written with lapin rely on beyond the tutorials?

use std::time::Duration;

use lapin::{
    BasicProperties, Connection, ConnectionProperties, ExchangeKind,
    options::*,
    types::{AMQPValue, DecimalValue, FieldArray, FieldTable},
};

use crate::{
    Ended,
    client::{
        Server, arguments, body, consume, exclusive, fresh, next, publish, put, quiet, ready, refused, take,
        text,
    },
    proxy::Proxy,
    scenarios,
};

scenarios![
    a_connection_with_recovery_goes_on_after_it_was_cut,
    a_broken_connection_gives_back_what_it_held,
    confirms_under_load_come_for_every_message,
    a_dead_letter_cycle_counts_its_rounds,
    priorities_and_times_to_live_hold,
    direct_reply_to_answers_without_a_queue,
    prefetch_is_fair_between_consumers,
    exclusive_and_passive_errors_close_the_channel_with_their_words,
    headers_of_every_type_come_back,
    a_transaction_commits_as_one_or_not_at_all,
];

async fn a_connection_with_recovery_goes_on_after_it_was_cut(server: Server) -> Ended {
    let proxy = Proxy::new(server.host.clone(), server.port).await?;
    let properties = ConnectionProperties::default().enable_auto_recover();
    let connection = Connection::connect(&server.url(proxy.port), properties).await?;
    let (publisher, worker) = (connection.create_channel().await?, connection.create_channel().await?);
    publisher.confirm_select(ConfirmSelectOptions::default()).await?;
    let queue = fresh("recovered");
    worker
        .queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), FieldTable::default())
        .await?;
    let mut consumer = consume(&worker, &queue, true).await?;
    put(&publisher, &queue, "before").await?;
    assert_eq!(body(&next(&mut consumer).await?), "before");
    proxy.cut();
    let mut attempts = 0;
    // The first publish after the cut may be what notices it.
    while let Err(error) = put(&publisher, &queue, "after").await {
        attempts += 1;
        assert!(attempts < 20, "{error}");
        match error.downcast::<lapin::Error>() {
            Ok(error) => publisher.wait_for_recovery(*error).await?,
            Err(other) => return Err(other),
        }
    }
    let again = loop {
        match futures_util::StreamExt::next(&mut consumer).await {
            Some(Ok(delivery)) => break delivery,
            Some(Err(error)) => worker.wait_for_recovery(error).await?,
            None => return Err("the consumer has ended".into()),
        }
    };
    assert_eq!(body(&again), "after");
    worker.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
    Ok(())
}

async fn a_broken_connection_gives_back_what_it_held(server: Server) -> Ended {
    let proxy = Proxy::new(server.host.clone(), server.port).await?;
    let (_connection, witness) = server.channel().await?;
    let queue = fresh("broken");
    witness
        .queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), FieldTable::default())
        .await?;
    let doomed = Connection::connect(&server.url(proxy.port), ConnectionProperties::default()).await?;
    let channel = doomed.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    for text in ["a", "b", "c"] {
        put(&channel, &queue, text).await?;
    }
    let mut consumer = consume(&channel, &queue, false).await?;
    next(&mut consumer).await?.acker.ack(BasicAckOptions::default()).await?;
    next(&mut consumer).await?;
    // What is asked on the same channel is answered after the acknowledgement was taken.
    channel
        .queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), FieldTable::default())
        .await?;
    proxy.cut();
    for wanted in ["b", "c"] {
        let again = take(&witness, &queue).await?;
        assert_eq!((body(&again).as_str(), again.redelivered), (wanted, true));
    }
    witness.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
    Ok(())
}

async fn confirms_under_load_come_for_every_message(server: Server) -> Ended {
    const COUNT: usize = 10_000;
    let (_connection, channel) = server.channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let queue = fresh("load");
    channel
        .queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), FieldTable::default())
        .await?;
    let mut waiting = Vec::with_capacity(COUNT);
    for number in 0..COUNT {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let (options, text) = (BasicPublishOptions::default(), number.to_string());
        let key = queue.as_str().into();
        waiting.push(channel.basic_publish("".into(), key, options, text.as_bytes(), properties).await?);
    }
    for confirm in waiting {
        assert!(confirm.await?.is_ack());
    }
    let mut consumer = consume(&channel, &queue, true).await?;
    for number in 0..COUNT {
        assert_eq!(body(&next(&mut consumer).await?), number.to_string());
    }
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
    Ok(())
}

async fn a_dead_letter_cycle_counts_its_rounds(server: Server) -> Ended {
    let (_connection, channel) = server.channel().await?;
    let (work, wait) = (fresh("work"), fresh("wait"));
    let to = |name: &str| [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text(name))];
    exclusive(&channel, &work, arguments(to(&wait))).await?;
    let mut waiting = arguments(to(&work));
    waiting.insert("x-message-ttl".into(), AMQPValue::LongInt(50));
    exclusive(&channel, &wait, waiting).await?;
    put(&channel, &work, "stubborn").await?;
    let mut consumer = consume(&channel, &work, false).await?;
    for _ in 0..3 {
        next(&mut consumer).await?.acker.reject(BasicRejectOptions { requeue: false }).await?;
    }
    let last = next(&mut consumer).await?;
    let headers = last.properties.headers().clone().ok_or("no headers")?;
    let Some(AMQPValue::FieldArray(deaths)) = headers.inner().get("x-death") else {
        return Err(format!("{headers:?}").into());
    };
    let told: Vec<_> = deaths.as_slice().iter().map(summary).collect();
    assert_eq!(told, [(wait, "expired".to_owned(), 3), (work, "rejected".to_owned(), 3)]);
    Ok(())
}

/// Queue, reason and count of one entry of x-death.
fn summary(death: &AMQPValue) -> (String, String, i64) {
    let AMQPValue::FieldTable(death) = death else { panic!("{death:?}") };
    let field = |name: &str| match death.inner().get(name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        other => panic!("{name}: {other:?}"),
    };
    let Some(AMQPValue::LongLongInt(count)) = death.inner().get("count") else { panic!("{death:?}") };
    (field("queue"), field("reason"), *count)
}

async fn priorities_and_times_to_live_hold(server: Server) -> Ended {
    let (_connection, channel) = server.channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let ranked =
        exclusive(&channel, "", arguments([("x-max-priority", AMQPValue::ShortShortInt(5))])).await?;
    for priority in [1, 5, 0, 9, 3] {
        let properties = BasicProperties::default().with_priority(priority);
        publish(&channel, "", &ranked, &priority.to_string(), properties).await?;
    }
    assert_eq!(ready(&channel, &ranked).await?, ["5", "9", "3", "1", "0"]);
    let limited = exclusive(&channel, "", arguments([("x-message-ttl", AMQPValue::LongUInt(100))])).await?;
    put(&channel, &limited, "gone soon").await?;
    let short = BasicProperties::default().with_expiration("100".into());
    publish(&channel, "", &ranked, "gone soon too", short).await?;
    put(&channel, &ranked, "lasting").await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(ready(&channel, &limited).await?, Vec::<String>::new());
    assert_eq!(ready(&channel, &ranked).await?, ["lasting"]);
    Ok(())
}

async fn direct_reply_to_answers_without_a_queue(server: Server) -> Ended {
    let (_client_connection, client) = server.channel().await?;
    let (_service_connection, service) = server.channel().await?;
    let queue = exclusive(&service, "", FieldTable::default()).await?;
    // Asked through its queue by anybody, though the queue is one connection's own.
    let mut requests = consume(&service, &queue, true).await?;
    let mut answers = consume(&client, "amq.rabbitmq.reply-to", true).await?;
    for number in 0..5 {
        let asked = BasicProperties::default().with_reply_to("amq.rabbitmq.reply-to".into());
        publish(&client, "", &queue, &number.to_string(), asked).await?;
        let request = next(&mut requests).await?;
        let reply_to = request.properties.reply_to().clone().ok_or("no reply-to")?;
        assert!(reply_to.as_str().starts_with("amq.rabbitmq.reply-to."), "{reply_to}");
        publish(&service, "", reply_to.as_str(), &format!("re {number}"), BasicProperties::default()).await?;
        assert_eq!(body(&next(&mut answers).await?), format!("re {number}"));
    }
    Ok(())
}

async fn prefetch_is_fair_between_consumers(server: Server) -> Ended {
    let (connection, one) = server.channel().await?;
    let two = connection.create_channel().await?;
    let queue = exclusive(&one, "", FieldTable::default()).await?;
    for channel in [&one, &two] {
        channel.basic_qos(2, BasicQosOptions::default()).await?;
    }
    let (mut first, mut second) = (consume(&one, &queue, false).await?, consume(&two, &queue, false).await?);
    for number in 0..8 {
        put(&one, &queue, &number.to_string()).await?;
    }
    let held = (next(&mut first).await?, next(&mut first).await?);
    next(&mut second).await?;
    next(&mut second).await?;
    assert!(quiet(&mut first).await && quiet(&mut second).await);
    held.1.acker.ack(BasicAckOptions { multiple: true }).await?;
    next(&mut first).await?;
    next(&mut first).await?;
    assert!(quiet(&mut first).await && quiet(&mut second).await);
    Ok(())
}

async fn exclusive_and_passive_errors_close_the_channel_with_their_words(server: Server) -> Ended {
    let (_connection, owner) = server.channel().await?;
    let mine = exclusive(&owner, &fresh("mine"), FieldTable::default()).await?;
    let stranger = server.connect().await?;
    let locked =
        format!("RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{mine}' in vhost '/'");
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let declare = async |name: &str, options| {
        let channel = stranger.create_channel().await?;
        channel.queue_declare(name.into(), options, FieldTable::default()).await
    };
    refused(declare(&mine, QueueDeclareOptions::default()).await, 405, &locked);
    refused(declare(&mine, passive).await, 405, &locked);
    let absent = fresh("absent");
    refused(declare(&absent, passive).await, 404, &format!("NOT_FOUND - no queue '{absent}' in vhost '/'"));
    let reserved = "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'";
    refused(declare("amq.mine", QueueDeclareOptions::default()).await, 403, reserved);
    let channel = stranger.create_channel().await?;
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let again =
        channel.exchange_declare("amq.topic".into(), ExchangeKind::Direct, options, FieldTable::default());
    refused(again.await, 406, "inequivalent arg 'type' for exchange 'amq.topic' in vhost '/'");
    Ok(())
}

async fn headers_of_every_type_come_back(server: Server) -> Ended {
    let (_connection, channel) = server.channel().await?;
    let queue = exclusive(&channel, "", FieldTable::default()).await?;
    let list = FieldArray::from(vec![AMQPValue::LongInt(1), text("two"), AMQPValue::Boolean(false)]);
    let headers = arguments([
        ("boolean", AMQPValue::Boolean(true)),
        ("signed 8", AMQPValue::ShortShortInt(-5)),
        ("unsigned 8", AMQPValue::ShortShortUInt(250)),
        ("signed 16", AMQPValue::ShortInt(-300)),
        ("unsigned 16", AMQPValue::ShortUInt(65_000)),
        ("signed 32", AMQPValue::LongInt(-70_000)),
        ("unsigned 32", AMQPValue::LongUInt(4_000_000_000)),
        ("signed 64", AMQPValue::LongLongInt(-1 << 40)),
        ("float", AMQPValue::Float(0.5)),
        ("double", AMQPValue::Double(0.1)),
        ("decimal", AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 1250 })),
        ("text", text("zażółć")),
        ("bytes", AMQPValue::ByteArray(vec![0_u8, 255].into())),
        ("list", AMQPValue::FieldArray(list)),
        (
            "table",
            AMQPValue::FieldTable(arguments([("a", AMQPValue::FieldTable(arguments([("b", text("c"))])))])),
        ),
        ("time", AMQPValue::Timestamp(1_700_000_000)),
        ("nothing", AMQPValue::Void),
    ]);
    let properties = BasicProperties::default()
        .with_headers(headers)
        .with_content_type("text/plain".into())
        .with_content_encoding("identity".into())
        .with_delivery_mode(2)
        .with_priority(3)
        .with_correlation_id("c".into())
        .with_reply_to("r".into())
        .with_expiration("60000".into())
        .with_message_id("m".into())
        .with_timestamp(1_700_000_000)
        .with_type("t".into())
        .with_user_id(server.user.as_str().into())
        .with_app_id("a".into());
    publish(&channel, "", &queue, "x", properties.clone()).await?;
    assert_eq!(take(&channel, &queue).await?.properties, properties);
    Ok(())
}

async fn a_transaction_commits_as_one_or_not_at_all(server: Server) -> Ended {
    let (connection, channel) = server.channel().await?;
    let witness = connection.create_channel().await?;
    let queue = exclusive(&witness, "", FieldTable::default()).await?;
    channel.tx_select().await?;
    put(&channel, &queue, "a").await?;
    put(&channel, &queue, "b").await?;
    assert_eq!(ready(&witness, &queue).await?, Vec::<String>::new());
    channel.tx_commit().await?;
    assert_eq!(ready(&witness, &queue).await?, ["a", "b"]);
    put(&channel, &queue, "never").await?;
    channel.tx_rollback().await?;
    assert_eq!(ready(&witness, &queue).await?, Vec::<String>::new());
    Ok(())
}
