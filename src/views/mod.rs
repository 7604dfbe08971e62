//! Views: what is made from the records.

pub mod waterfall;
