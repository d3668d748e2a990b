//! The shipping: sends a parcel for each order whose lines are all there, with a client of RabbitMQ that knows nothing of Waystation.

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(16, BasicQosOptions::default()).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut parcels = channel.basic_consume("shipping".into(), "shipping".into(), options, arguments).await?;
    println!("shipping is ready");
    while let Some(parcel) = parcels.next().await {
        let parcel = parcel?;
        tell(&channel, &parcel).await?;
        parcel.acker.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}

/// Tells everybody who subscribed that an order is on its way; what it came from goes on with the event.
async fn tell(channel: &Channel, parcel: &Delivery) -> Result<(), Failure> {
    let properties = &parcel.properties;
    let mut headers = FieldTable::default();
    for name in ["traceparent", "ws-business-order"] {
        if let Some(value) = properties.headers().as_ref().and_then(|headers| headers.inner().get(name)) {
            headers.insert(name.into(), value.clone());
        }
    }
    if let Some(id) = properties.message_id() {
        headers.insert("ws-cause".into(), AMQPValue::LongString(id.as_str().into()));
    }
    let mut event = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_type("order.shipped".into())
        .with_app_id("shipping".into())
        .with_delivery_mode(2)
        .with_headers(headers);
    if let Some(correlation) = properties.correlation_id() {
        event = event.with_correlation_id(ShortString::from(correlation.as_str()));
    }
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish("shop".into(), "order.shipped".into(), options, &parcel.data, event);
    sent.await?.await?;
    Ok(())
}
