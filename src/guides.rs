//! For those who come from elsewhere: what they know, by its name here.

#[doc = include_str!("../docs/from-go.md")]
pub mod from_go {}

#[doc = include_str!("../docs/from-hyper-util.md")]
pub mod from_hyper_util {}

#[doc = include_str!("../docs/from-reqwest.md")]
pub mod from_reqwest {}
