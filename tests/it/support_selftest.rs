//! The kit tests itself: an expectation that can't fail and a server that does something else than its script would make
//! every other test worthless.

mod expectations;
mod servers;
