//! Which classes, methods and arguments are there? AMQP 0-9-1 with RabbitMQ's extensions, in one table.
//!
//! Arguments have the specification's names; `type` is `kind` here. Every `ticket` is ignored, as it has been since 0-9-1.

use bytes::{Bytes, BytesMut};
use smol_str::SmolStr;

use super::{
    Error, Reader, Table,
    method::{Arguments, classes},
    read::Take,
    write::{Field, Writer},
};

classes! {
    /// The connection itself (channel 0).
    connection 10 "connection" {
        /// The server begins: what it is and which logins it takes.
        ConnectionStart = Start 10 "start" {
            version_major: u8, version_minor: u8, server_properties: Table, mechanisms: Bytes, locales: Bytes,
        }
        /// The client chooses a login.
        ConnectionStartOk = StartOk 11 "start-ok" {
            client_properties: Table, mechanism: SmolStr, response: Bytes, locale: SmolStr,
        }
        /// The server asks on in a login of several steps.
        ConnectionSecure = Secure 20 "secure" { challenge: Bytes }
        /// The client answers.
        ConnectionSecureOk = SecureOk 21 "secure-ok" { response: Bytes }
        /// What the server would allow; 0: no limit, no heartbeat.
        ConnectionTune = Tune 30 "tune" { channel_max: u16, frame_max: u32, heartbeat: u16 }
        /// What the client settles on.
        ConnectionTuneOk = TuneOk 31 "tune-ok" { channel_max: u16, frame_max: u32, heartbeat: u16 }
        /// The client chooses a virtual host.
        ConnectionOpen = Open 40 "open" { virtual_host: SmolStr, capabilities: SmolStr, insist: bool }
        /// It is open.
        ConnectionOpenOk = OpenOk 41 "open-ok" { known_hosts: SmolStr }
        /// Either side ends it and says why.
        ConnectionClose = Close 50 "close" {
            reply_code: u16, reply_text: SmolStr, class_id: u16, method_id: u16,
        }
        /// It has ended.
        ConnectionCloseOk = CloseOk 51 "close-ok" {}
        /// The server takes no messages for now (RabbitMQ).
        ConnectionBlocked = Blocked 60 "blocked" { reason: SmolStr }
        /// It takes them again (RabbitMQ).
        ConnectionUnblocked = Unblocked 61 "unblocked" {}
        /// A login token in place of one that expires (RabbitMQ).
        ConnectionUpdateSecret = UpdateSecret 70 "update-secret" { new_secret: Bytes, reason: SmolStr }
        /// It is accepted (RabbitMQ).
        ConnectionUpdateSecretOk = UpdateSecretOk 71 "update-secret-ok" {}
    }

    /// A channel: one of many conversations on a connection.
    channel 20 "channel" {
        /// Open this channel.
        ChannelOpen = Open 10 "open" { out_of_band: SmolStr }
        /// It is open.
        ChannelOpenOk = OpenOk 11 "open-ok" { channel_id: Bytes }
        /// Stop or go on sending messages.
        ChannelFlow = Flow 20 "flow" { active: bool }
        /// It is done.
        ChannelFlowOk = FlowOk 21 "flow-ok" { active: bool }
        /// Either side ends it and says why.
        ChannelClose = Close 40 "close" {
            reply_code: u16, reply_text: SmolStr, class_id: u16, method_id: u16,
        }
        /// It has ended.
        ChannelCloseOk = CloseOk 41 "close-ok" {}
    }

    /// Tickets of AMQP 0-8, which clients still ask for.
    access 30 "access" {
        /// Ask for a ticket.
        AccessRequest = Request 10 "request" {
            realm: SmolStr, exclusive: bool, passive: bool, active: bool, write: bool, read: bool,
        }
        /// The ticket, which nothing checks.
        AccessRequestOk = RequestOk 11 "request-ok" { ticket: u16 }
    }

    /// Exchanges and the bindings between them.
    exchange 40 "exchange" {
        /// Make an exchange, or check that it is as said.
        ExchangeDeclare = Declare 10 "declare" {
            ticket: u16, exchange: SmolStr, kind: SmolStr, passive: bool, durable: bool,
            auto_delete: bool, internal: bool, no_wait: bool, arguments: Table,
        }
        /// It is there.
        ExchangeDeclareOk = DeclareOk 11 "declare-ok" {}
        /// Delete an exchange.
        ExchangeDelete = Delete 20 "delete" { ticket: u16, exchange: SmolStr, if_unused: bool, no_wait: bool }
        /// It is gone.
        ExchangeDeleteOk = DeleteOk 21 "delete-ok" {}
        /// Bind an exchange to another (RabbitMQ).
        ExchangeBind = Bind 30 "bind" {
            ticket: u16, destination: SmolStr, source: SmolStr, routing_key: SmolStr, no_wait:
            bool, arguments: Table,
        }
        /// It is bound.
        ExchangeBindOk = BindOk 31 "bind-ok" {}
        /// Take that binding away (RabbitMQ).
        ExchangeUnbind = Unbind 40 "unbind" {
            ticket: u16, destination: SmolStr, source: SmolStr, routing_key: SmolStr, no_wait:
            bool, arguments: Table,
        }
        /// It is gone.
        ExchangeUnbindOk = UnbindOk 51 "unbind-ok" {}
    }

    /// Queues and their bindings.
    queue 50 "queue" {
        /// Make a queue, or check that it is as said.
        QueueDeclare = Declare 10 "declare" {
            ticket: u16, queue: SmolStr, passive: bool, durable: bool, exclusive: bool,
            auto_delete: bool, no_wait: bool, arguments: Table,
        }
        /// It is there, with so many messages ready and so many consumers.
        QueueDeclareOk = DeclareOk 11 "declare-ok" { queue: SmolStr, message_count: u32, consumer_count: u32 }
        /// Bind a queue to an exchange.
        QueueBind = Bind 20 "bind" {
            ticket: u16, queue: SmolStr, exchange: SmolStr, routing_key: SmolStr, no_wait: bool,
            arguments: Table,
        }
        /// It is bound.
        QueueBindOk = BindOk 21 "bind-ok" {}
        /// Throw away all messages that stand ready.
        QueuePurge = Purge 30 "purge" { ticket: u16, queue: SmolStr, no_wait: bool }
        /// So many were.
        QueuePurgeOk = PurgeOk 31 "purge-ok" { message_count: u32 }
        /// Delete a queue.
        QueueDelete = Delete 40 "delete" {
            ticket: u16, queue: SmolStr, if_unused: bool, if_empty: bool, no_wait: bool,
        }
        /// It is gone, with so many messages.
        QueueDeleteOk = DeleteOk 41 "delete-ok" { message_count: u32 }
        /// Take a binding away.
        QueueUnbind = Unbind 50 "unbind" {
            ticket: u16, queue: SmolStr, exchange: SmolStr, routing_key: SmolStr, arguments: Table,
        }
        /// It is gone.
        QueueUnbindOk = UnbindOk 51 "unbind-ok" {}
    }

    /// Messages: sent, delivered, settled.
    basic 60 "basic" {
        /// How many unsettled deliveries a consumer or channel may hold.
        BasicQos = Qos 10 "qos" { prefetch_size: u32, prefetch_count: u16, global: bool }
        /// It holds from now on.
        BasicQosOk = QosOk 11 "qos-ok" {}
        /// Send what comes to a queue.
        BasicConsume = Consume 20 "consume" {
            ticket: u16, queue: SmolStr, consumer_tag: SmolStr, no_local: bool, no_ack: bool,
            exclusive: bool, no_wait: bool, arguments: Table,
        }
        /// The consumer has this tag.
        BasicConsumeOk = ConsumeOk 21 "consume-ok" { consumer_tag: SmolStr }
        /// A consumer ends: by the client, or by the server when its queue is gone (RabbitMQ).
        BasicCancel = Cancel 30 "cancel" { consumer_tag: SmolStr, no_wait: bool }
        /// It has ended.
        BasicCancelOk = CancelOk 31 "cancel-ok" { consumer_tag: SmolStr }
        /// A message for an exchange.
        BasicPublish = Publish 40 "publish" content {
            ticket: u16, exchange: SmolStr, routing_key: SmolStr, mandatory: bool, immediate: bool,
        }
        /// A mandatory message that no queue took comes back.
        BasicReturn = Return 50 "return" content {
            reply_code: u16, reply_text: SmolStr, exchange: SmolStr, routing_key: SmolStr,
        }
        /// A message for a consumer.
        BasicDeliver = Deliver 60 "deliver" content {
            consumer_tag: SmolStr, delivery_tag: u64, redelivered: bool, exchange: SmolStr,
            routing_key: SmolStr,
        }
        /// One message, if there is one.
        BasicGet = Get 70 "get" { ticket: u16, queue: SmolStr, no_ack: bool }
        /// Here it is.
        BasicGetOk = GetOk 71 "get-ok" content {
            delivery_tag: u64, redelivered: bool, exchange: SmolStr, routing_key: SmolStr, message_count: u32,
        }
        /// There is none.
        BasicGetEmpty = GetEmpty 72 "get-empty" { cluster_id: SmolStr }
        /// Settled, by the client; or a confirm, by the server (RabbitMQ).
        BasicAck = Ack 80 "ack" { delivery_tag: u64, multiple: bool }
        /// Not taken.
        BasicReject = Reject 90 "reject" { delivery_tag: u64, requeue: bool }
        /// Deliver again what is unsettled, without an answer.
        BasicRecoverAsync = RecoverAsync 100 "recover-async" { requeue: bool }
        /// Deliver again what is unsettled.
        BasicRecover = Recover 110 "recover" { requeue: bool }
        /// It will be.
        BasicRecoverOk = RecoverOk 111 "recover-ok" {}
        /// Not taken, many at once; or not stored, by the server (RabbitMQ).
        BasicNack = Nack 120 "nack" { delivery_tag: u64, multiple: bool, requeue: bool }
    }

    /// Publisher confirms (RabbitMQ).
    confirm 85 "confirm" {
        /// Confirm what is published on this channel.
        ConfirmSelect = Select 10 "select" { no_wait: bool }
        /// It will be.
        ConfirmSelectOk = SelectOk 11 "select-ok" {}
    }

    /// Transactions of one channel.
    tx 90 "tx" {
        /// Make this channel transactional.
        TxSelect = Select 10 "select" {}
        /// It is.
        TxSelectOk = SelectOk 11 "select-ok" {}
        /// Carry out what was published and settled since.
        TxCommit = Commit 20 "commit" {}
        /// It is done.
        TxCommitOk = CommitOk 21 "commit-ok" {}
        /// Drop it.
        TxRollback = Rollback 30 "rollback" {}
        /// It is dropped.
        TxRollbackOk = RollbackOk 31 "rollback-ok" {}
    }

}

/// Classes whose methods carry a content.
pub const BASIC_CLASS: u16 = basic::Publish::CLASS;
