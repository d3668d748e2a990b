//! The topology file as the command line has it: what the broker holds, the operations, pushes and routes of the features above it, and
//! virtual hosts and users with their limits.
//! The features do not know each other, and `waystation-admin` does not know them: here they meet.

mod declaration;
mod fields;
pub mod file;
pub mod plan;
mod room;
mod route;
pub mod subjects;

pub use declaration::{Declaration, Feature};
pub use file::File;
pub use plan::Plan;
