//! As much of S3 as the tests of its clients need, in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

/// The objects by their keys, and the parts of uploads by theirs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Store(Arc<Mutex<BTreeMap<String, Bytes>>>);

impl Store {
    pub(crate) async fn answer(self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let key = head.uri.path().trim_start_matches("/bucket").trim_matches('/').to_owned();
        let query = head.uri.query().unwrap_or_default();
        let asks = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name));
        let mut objects = self.0.lock().expect("no panic while it is held");
        match (&head.method, asks("partNumber="), asks("uploads").is_some()) {
            (&Method::PUT, Some(part), _) => {
                objects.insert(format!("{key}#{part:0>5}"), body);
                whole(Bytes::new())
            }
            (&Method::PUT, None, _) => {
                objects.insert(key, body);
                whole(Bytes::new())
            }
            (&Method::POST, _, true) => {
                xml("<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>")
            }
            (&Method::POST, ..) => {
                let prefix = format!("{key}#");
                let parts: Vec<_> = objects.keys().filter(|part| part.starts_with(&prefix)).cloned().collect();
                let joined: Vec<Bytes> = parts.iter().filter_map(|part| objects.remove(part)).collect();
                objects.insert(key, joined.concat().into());
                xml("<CompleteMultipartUploadResult><ETag>\"1\"</ETag></CompleteMultipartUploadResult>")
            }
            (&Method::GET, ..) if key.is_empty() => {
                let entry = |(key, object): (&String, &Bytes)| {
                    let (size, when) = (object.len(), "2026-01-01T00:00:00.000Z");
                    format!(
                        "<Contents><Key>{key}</Key><LastModified>{when}</LastModified><ETag>\"1\"</ETag><Size>{size}</Size></Contents>"
                    )
                };
                let entries: String = objects.iter().map(entry).collect();
                xml(&format!(
                    "<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
                ))
            }
            (&Method::DELETE, ..) => {
                objects.remove(&key);
                status(StatusCode::NO_CONTENT)
            }
            _ => match objects.get(&key) {
                Some(object) => whole(object.clone()),
                None => status(StatusCode::NOT_FOUND),
            },
        }
    }
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn whole(object: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(object));
    let fields = response.headers_mut();
    fields.insert(header::ETAG, HeaderValue::from_static("\"1\""));
    fields.insert(header::LAST_MODIFIED, HeaderValue::from_static("Thu, 01 Jan 2026 00:00:00 GMT"));
    response
}

fn xml(text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("<?xml version=\"1.0\"?>{text}")));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response
}
