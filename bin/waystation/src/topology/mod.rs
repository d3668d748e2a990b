//! The topology file as the command line has it: what the broker holds, and the operations, pushes and routes of the features above it.
//! The features do not know each other, and `waystation-admin` does not know them: here they meet.

mod declaration;
mod fields;
pub mod file;
pub mod plan;
mod route;

pub use declaration::{Declaration, Feature};
pub use file::File;
pub use plan::Plan;
