//! Where random numbers come from.

use std::io;

/// Draws random numbers.
pub trait Chance: Send + Sync + 'static {
    /// Sixteen random bytes as a number.
    fn draw(&self) -> io::Result<u128>;
}
