//! Facts that are not marks: of the certificate, of the socket, of the server's own word, of who kept whom waiting. Each is
//! provoked by an origin, and looked for on the spans, in the record and in the waterfall.

mod connections;
mod keep_alive;
mod server;
#[cfg(target_os = "linux")]
mod tcp;
mod waiting;

use super::scene;
