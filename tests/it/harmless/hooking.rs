//! Hooks that use the client that calls them, and hooks that take their time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, mpsc},
};

use bytes::Bytes;
use http::{Method, Request, Response, Uri, header::EXPECT};
use http_body_util::{BodyExt, Full};
use httptrace::{Client, ClientTrace, Error, hooks::*, with_client_trace};
use tokio::task::JoinHandle;

use super::hello;
use crate::{
    every::every_hook,
    support::{PATIENCE, client::read, origin::Origin, within},
};

type Answer = JoinHandle<Result<Bytes, Error>>;

/// Sends a request of its own from every hook, on the client that called it.
struct Sends {
    client: Client,
    url: Uri,
    sent: Mutex<BTreeMap<&'static str, Answer>>,
}

every_hook! {
    for Sends, |this, hook, _| {
        let request = this.client.get(this.url.clone());
        // Read to the end: a response that lies there would keep the one connection.
        let read = async { read(request.await?).await };
        this.sent.lock().expect("no panic").entry(hook).or_insert_with(|| tokio::spawn(read));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_may_send_a_request_with_the_same_client_whatever_it_is_called_for() {
    for alpn in ["http/1.1", "h2"] {
        let origin = Origin::tls_with_alpn(&[alpn]).serve(async |request: Request<hyper::body::Incoming>| {
            request.into_body().collect().await.expect("a body");
            Response::new(Full::new(Bytes::from("hello")))
        });
        // One connection for all: whoever held a lock or waited for another would wait for ever.
        let client = origin.client_builder().max_connections_per_host(1).build().expect("settings that fit");
        let url = origin.url_at("origin.test", "/");
        let sends = Arc::new(Sends { client: client.clone(), url: url.clone(), sent: Mutex::default() });
        let mut request = Request::new(Full::new(Bytes::from("body")));
        (*request.method_mut(), *request.uri_mut()) = (Method::POST, url);
        request.headers_mut().insert(EXPECT, "100-continue".parse().expect("a value"));
        with_client_trace(&mut request, Arc::clone(&sends) as Arc<dyn ClientTrace>);
        let response = within("no deadlock", client.request(request)).await.expect("a response");
        assert_eq!(read(response).await.expect("a body"), "hello");
        let mut request = Request::new(Full::<Bytes>::default());
        *request.uri_mut() = Uri::from_static("http://nowhere.invalid/");
        with_client_trace(&mut request, Arc::clone(&sends) as Arc<dyn ClientTrace>);
        within("no deadlock", client.request(request)).await.expect_err("a name that nobody has");
        client.shutdown(PATIENCE).await;
        let sent = std::mem::take(&mut *sends.sent.lock().expect("no panic"));
        let hooks: Vec<_> = sent.keys().copied().collect();
        for (hook, answer) in sent {
            assert_eq!(within(hook, answer).await.expect("no panic").expect(hook), "hello");
        }
        // On HTTP/2 this origin sends no 100.
        assert_eq!(hooks.len(), if alpn == "h2" { 16 } else { 18 }, "{alpn}: {hooks:?}");
    }
}

/// Takes its time in one hook: until it is let go.
struct Slow {
    reached: mpsc::Sender<()>,
    go_on: Mutex<mpsc::Receiver<()>>,
}

impl ClientTrace for Slow {
    fn wrote_request(&self, _: &WroteRequestInfo<'_>) {
        let _ = self.reached.send(());
        let _ = self.go_on.lock().expect("no panic").recv_timeout(PATIENCE);
    }
}

// mutant: `hooks.emit` under the lock of `Exchange::lock` or of the pool
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hook_that_takes_its_time_holds_up_nobody_else() {
    let origin = Origin::plain().serve(hello);
    let client = origin.client_builder().build().expect("settings that fit");
    let ((reached, is_reached), (let_go, go_on)) = (mpsc::channel(), mpsc::channel());
    let mut request = Request::new(Full::<Bytes>::default());
    *request.uri_mut() = origin.url("/");
    with_client_trace(&mut request, Arc::new(Slow { reached, go_on: Mutex::new(go_on) }));
    let slow = tokio::spawn(client.request(request));
    tokio::task::spawn_blocking(move || is_reached.recv_timeout(PATIENCE)).await.expect("no panic").expect("the hook");
    for _ in 0..20 {
        let response = within("the others go on", client.get(origin.url("/"))).await.expect("a response");
        assert_eq!(read(response).await.expect("a body"), "hello");
    }
    assert!(!slow.is_finished(), "the hook was still busy");
    let_go.send(()).expect("it waits");
    let response = within("the slow one", slow).await.expect("no panic").expect("a response");
    assert_eq!(read(response).await.expect("a body"), "hello");
}
