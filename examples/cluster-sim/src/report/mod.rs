//! What people and programs get to read.

pub mod grid;
mod json;
pub mod plot;
pub mod table;

pub use json::{Report, Row, Size, Whole};
