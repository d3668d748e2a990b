//! How do RabbitMQ's clients fare here, and how with RabbitMQ?

use super::Bench;
use crate::tool::RABBITMQ;

pub const BENCH: Bench = Bench {
    name: "amqp",
    about: "publish with confirms, consume, latency, memory, over AMQP 0-9-1 with a raw client",
    package: "waystation-amqp091",
    example: "amqp_bench",
    drives_server: true,
    needs: Some(RABBITMQ),
    peer: "RabbitMQ of Debian's packages, classic and quorum queues, same run, in turn, a core for the broker and one for the client",
    goal: "1 KiB durable: 10 times the throughput, a tenth of the processor time, lower latency at every percentile, a third of the \
           memory; a thousand queues in turn at 70 % of one",
};
