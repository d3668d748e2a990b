//! Which decoders are there? One file each; a new one is a file and a line in the table.

mod amqp_frame;
mod amqp_message;
mod amqp_method;
mod amqp_table;
mod batch;
mod call_page;
mod content;
mod dead_letter;
mod filter;
mod journal_file_header;
mod journal_frame;
mod jq_frame;
mod name;
mod record_block;
mod record_footer;
mod route;
mod selector;
mod settled_batch;
mod settled_footer;
mod snapshot_header;
mod topology;
mod value;
mod varint;

use crate::Target;

/// Every decoder that reads what others wrote.
pub const ALL: &[Target] = &[
    amqp_frame::TARGET,
    amqp_message::TARGET,
    amqp_method::TARGET,
    amqp_table::TARGET,
    batch::TARGET,
    call_page::TARGET,
    content::TARGET,
    dead_letter::TARGET,
    filter::TARGET,
    jq_frame::TARGET,
    journal_file_header::TARGET,
    journal_frame::TARGET,
    name::TARGET,
    record_block::TARGET,
    record_footer::TARGET,
    route::TARGET,
    selector::TARGET,
    settled_batch::TARGET,
    settled_footer::TARGET,
    snapshot_header::TARGET,
    topology::TARGET,
    value::TARGET,
    varint::TARGET,
];
