//! `httptrace`: sends requests as curl would and shows where their time went.
//!
//! In: the command line ([`args`] makes a [`plan::Plan`] of it, or a refusal with nothing sent). Out: a report of each
//! attempt on stdout ([`output`]), at most one line per failure on stderr, and curl's exit code ([`exit`]). Uses the
//! public API of the library only, as any program could.

mod args;
mod calls;
mod charts;
// The library writes dates into spans with it.
#[path = "../../date.rs"]
mod date;
mod exit;
#[cfg(test)]
mod fuzzing;
mod generate;
mod given;
mod har;
mod headers;
mod json;
mod mark;
mod output;
mod plan;
mod progress;
mod proxies;
// The library redacts the URLs and the header fields of its records by these rules.
#[path = "../../redact.rs"]
#[allow(dead_code, unreachable_pub, reason = "written for the library, of which the command needs a part")]
mod redact;
mod redirect;
mod run;
mod telemetry;
mod url;
mod verbose;
// The charts of the library show the text of others by these rules; so do the lines on stderr.
#[path = "../../views/waterfall/visible.rs"]
mod visible;

use std::process::ExitCode;

use self::{args::Parsed, exit::Failure};

fn main() -> ExitCode {
    let args = match args::parse(std::env::args_os()) {
        Ok(Parsed::Run(args)) => args,
        Ok(Parsed::Show(text)) => return output::show(&text),
        Err(failure) => return failure.refuse(false),
    };
    let silent = args.silent;
    let plan = match plan::Plan::new(*args) {
        Ok(plan) => plan,
        Err(failure) => return failure.refuse(silent),
    };
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(run::run(plan));
            // A lookup can't be stopped (getaddrinfo blocks): its thread is not worth waiting for.
            runtime.shutdown_background();
            ExitCode::from(code)
        }
        Err(error) => Failure::new(2, format!("no threads to run on: {error}")).refuse(silent),
    }
}
