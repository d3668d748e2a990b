//! Do RabbitMQ's tutorials one to seven run with lapin as they are written?

use lapin::{BasicProperties, Confirmation, ExchangeKind, options::*, types::FieldTable};

use crate::{
    Ended,
    client::{Server, bind, body, consume, exchange, exclusive, fresh, next, publish, put, quiet, ready},
    scenarios,
};

scenarios![
    tutorial_1_hello_world,
    tutorial_2_work_queues_share_by_prefetch_and_redo_what_a_closed_worker_held,
    tutorial_3_publish_subscribe,
    tutorial_4_routing,
    tutorial_5_topics,
    tutorial_6_remote_procedure_call,
    tutorial_7_publisher_confirms_and_returns,
];

async fn tutorial_1_hello_world(server: Server) -> Ended {
    let (_connection, channel) = server.channel().await?;
    let queue = exclusive(&channel, &fresh("hello"), FieldTable::default()).await?;
    put(&channel, &queue, "Hello World!").await?;
    let delivery = next(&mut consume(&channel, &queue, true).await?).await?;
    assert_eq!(body(&delivery), "Hello World!");
    assert_eq!((delivery.exchange.as_str(), delivery.routing_key.as_str()), ("", queue.as_str()));
    assert_eq!((delivery.redelivered, delivery.delivery_tag), (false, 1));
    assert_eq!(delivery.properties, BasicProperties::default());
    Ok(())
}

async fn tutorial_2_work_queues_share_by_prefetch_and_redo_what_a_closed_worker_held(
    server: Server,
) -> Ended {
    let (connection, publisher) = server.channel().await?;
    let queue = exclusive(&publisher, &fresh("tasks"), FieldTable::default()).await?;
    let (one, two) = (connection.create_channel().await?, connection.create_channel().await?);
    for channel in [&one, &two] {
        channel.basic_qos(1, BasicQosOptions::default()).await?;
    }
    let (mut first, mut second) = (consume(&one, &queue, false).await?, consume(&two, &queue, false).await?);
    for text in ["a", "b", "c", "d"] {
        put(&publisher, &queue, text).await?;
    }
    let (a, b) = (next(&mut first).await?, next(&mut second).await?);
    assert_eq!((body(&a), body(&b)), ("a".into(), "b".into()));
    assert!(quiet(&mut first).await, "a second message came before the first was acknowledged");
    a.acker.ack(BasicAckOptions::default()).await?;
    assert_eq!(body(&next(&mut first).await?), "c");
    one.close(200, "done".into()).await?;
    b.acker.ack(BasicAckOptions::default()).await?;
    let again = next(&mut second).await?;
    assert_eq!((body(&again), again.redelivered), ("c".into(), true));
    Ok(())
}

async fn tutorial_3_publish_subscribe(server: Server) -> Ended {
    let (_connection, channel) = server.channel().await?;
    let logs = exchange(&channel, ExchangeKind::Fanout).await?;
    let mut consumers = Vec::new();
    for _ in 0..2 {
        let queue = exclusive(&channel, "", FieldTable::default()).await?;
        assert!(queue.starts_with("amq.gen-"), "{queue}");
        bind(&channel, &queue, &logs, "").await?;
        consumers.push(consume(&channel, &queue, true).await?);
    }
    publish(&channel, &logs, "ignored", "info", BasicProperties::default()).await?;
    for consumer in &mut consumers {
        assert_eq!(body(&next(consumer).await?), "info");
    }
    Ok(())
}

async fn tutorial_4_routing(server: Server) -> Ended {
    let (_connection, channel) = server.channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let logs = exchange(&channel, ExchangeKind::Direct).await?;
    let errors = exclusive(&channel, "", FieldTable::default()).await?;
    let rest = exclusive(&channel, "", FieldTable::default()).await?;
    bind(&channel, &errors, &logs, "error").await?;
    bind(&channel, &rest, &logs, "info").await?;
    bind(&channel, &rest, &logs, "warning").await?;
    for severity in ["info", "error", "warning", "debug"] {
        publish(&channel, &logs, severity, severity, BasicProperties::default()).await?;
    }
    assert_eq!(ready(&channel, &errors).await?, ["error"]);
    assert_eq!(ready(&channel, &rest).await?, ["info", "warning"]);
    Ok(())
}

async fn tutorial_5_topics(server: Server) -> Ended {
    let (_connection, channel) = server.channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let logs = exchange(&channel, ExchangeKind::Topic).await?;
    let keys = ["kern.critical", "kern.info", "cron.critical", "cron.info.more"];
    let wanted: [(&str, &[usize]); 4] =
        [("kern.*", &[0, 1]), ("*.critical", &[0, 2]), ("#", &[0, 1, 2, 3]), ("cron.#", &[2, 3])];
    let mut queues = Vec::new();
    for (pattern, _) in wanted {
        let queue = exclusive(&channel, "", FieldTable::default()).await?;
        bind(&channel, &queue, &logs, pattern).await?;
        queues.push(queue);
    }
    for key in keys {
        publish(&channel, &logs, key, key, BasicProperties::default()).await?;
    }
    for (queue, (pattern, numbers)) in queues.iter().zip(wanted) {
        let wanted: Vec<_> = numbers.iter().map(|number| keys[*number]).collect();
        assert_eq!(ready(&channel, queue).await?, wanted, "{pattern}");
    }
    Ok(())
}

async fn tutorial_6_remote_procedure_call(server: Server) -> Ended {
    let (_service_connection, service) = server.channel().await?;
    let (_client_connection, client) = server.channel().await?;
    let queue = exclusive(&service, &fresh("rpc"), FieldTable::default()).await?;
    let mut requests = consume(&service, &queue, false).await?;
    let serving = tokio::spawn(async move {
        while let Ok(request) = next(&mut requests).await {
            let number: u64 = body(&request).parse().unwrap_or(0);
            let reply_to = request.properties.reply_to().clone().unwrap_or_default();
            let correlation = request.properties.correlation_id().clone().unwrap_or_default();
            let properties = BasicProperties::default().with_correlation_id(correlation);
            let answer = (number * 2).to_string();
            publish(&service, "", reply_to.as_str(), &answer, properties).await?;
            request.acker.ack(BasicAckOptions::default()).await?;
        }
        Ended::Ok(())
    });
    let reply_to = exclusive(&client, "", FieldTable::default()).await?;
    let mut answers = consume(&client, &reply_to, true).await?;
    for number in 0..10_u64 {
        let properties = BasicProperties::default()
            .with_reply_to(reply_to.as_str().into())
            .with_correlation_id(number.to_string().into());
        publish(&client, "", &queue, &number.to_string(), properties).await?;
        let answer = next(&mut answers).await?;
        assert_eq!(body(&answer), (number * 2).to_string());
        let correlation = answer.properties.correlation_id().clone().unwrap_or_default();
        assert_eq!(correlation.as_str(), number.to_string());
    }
    serving.abort();
    Ok(())
}

async fn tutorial_7_publisher_confirms_and_returns(server: Server) -> Ended {
    let (_connection, channel) = server.channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let queue = exclusive(&channel, "", FieldTable::default()).await?;
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let properties = BasicProperties::default().with_delivery_mode(2);
    let mut waiting = Vec::new();
    for number in 0..100 {
        let text = number.to_string();
        let key = queue.as_str().into();
        let sent =
            channel.basic_publish("".into(), key, options, text.as_bytes(), properties.clone()).await?;
        waiting.push(sent);
    }
    for confirm in waiting {
        assert_eq!(confirm.await?, Confirmation::Ack(None));
    }
    assert_eq!(ready(&channel, &queue).await?.len(), 100);
    let nowhere = fresh("nowhere");
    let sent =
        channel.basic_publish("".into(), nowhere.as_str().into(), options, b"back", properties).await?;
    let returned = sent.await?.take_message().ok_or("what nothing takes was not returned")?;
    assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
    assert_eq!(returned.delivery.data, b"back");
    Ok(())
}
