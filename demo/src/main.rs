//! An origin that misbehaves on purpose, for the demo of `docker-compose.yml`.
//!
//! In: the command line, `httptrace-demo [--name NAME] [--certificates FOLDER] [--listen ADDRESS] [--first-port PORT]`.
//! Out: five doors on ports that follow each other (`doors.rs`); the certificate to trust, `ca.pem` in the folder, which is
//! kept from start to start; and one line of JSON on stdout with the doors' ports once all are open. What the doors answer
//! is in `answers.rs`; what came through them is counted (`counts.rs`), so that pictures can be held against it.

mod answers;
mod counts;
mod doors;
mod idle;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

/// What goes wrong here ends the process with its text.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    doors::open(Options::parse(std::env::args().skip(1))?).await
}

/// The command line.
struct Options {
    /// The host name that the certificate is for.
    name: String,
    certificates: PathBuf,
    listen: IpAddr,
    /// The first door's port, the others follow it; 0: each gets a free one.
    first_port: u16,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut options = Self {
            name: "localhost".to_owned(),
            certificates: PathBuf::from("."),
            listen: Ipv4Addr::LOCALHOST.into(),
            first_port: 8443,
        };
        while let Some(option) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{option} needs a value"))?;
            match option.as_str() {
                "--name" => options.name = value,
                "--certificates" => options.certificates = value.into(),
                "--listen" => options.listen = value.parse()?,
                "--first-port" => options.first_port = value.parse()?,
                _ => return Err(format!("unknown option {option}").into()),
            }
        }
        Ok(options)
    }

    /// Where the n-th door is.
    fn door(&self, number: u16) -> SocketAddr {
        let port = if self.first_port == 0 { 0 } else { self.first_port + number };
        SocketAddr::new(self.listen, port)
    }
}
