//! What people and programs get to read.

mod json;
pub mod plot;
pub mod table;

pub use json::{Report, Row, Whole};
