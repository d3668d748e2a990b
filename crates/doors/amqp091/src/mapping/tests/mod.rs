//! Does AMQP come back as AMQP, and does it say to Waystation what it meant?

mod declarations;
mod messages;
