//! Bytes to frames and methods, and back: pure, without input or output (AMQP 0-9-1 §2.3.5, §4.2).
//!
//! ```text
//! frame: type u8 (1 method, 2 header, 3 body, 8 heartbeat) | channel u16 | size u32 | payload | 0xCE
//! method payload: class u16 | method u16 | arguments
//! header payload: class u16 | weight u16 = 0 | body size u64 | property flags u16 | properties
//! ```
//! All numbers are big-endian.

mod assemble;
mod error;
mod frame;
mod greeting;
pub mod limits;
mod method;
pub mod methods;
mod output;
mod properties;
mod read;
mod table;
#[cfg(test)]
mod tests;
mod whole;
mod write;

pub use assemble::{Assembler, Command, Content};
pub use error::{Error, ReplyCode};
pub use frame::{ChannelId, ContentHeader, Decoder, Frame};
pub use greeting::{GREETING, Greeting};
pub use method::Arguments;
pub use methods::Method;
pub use output::Output;
pub use properties::{Flags, Properties, Text};
pub use read::Reader;
pub use table::Table;
pub(crate) use table::{sized, write_entry};
pub use whole::Whole;
pub use write::Put;
