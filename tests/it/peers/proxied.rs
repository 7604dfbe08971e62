//! Through a proxy: who is talked to, and who is only on the way.

use opentelemetry::Value;
use opentelemetry_sdk::trace::SpanData;

use super::{hello, lives::series};
use crate::{
    proxies::{KINDS, relaying, through},
    spans::{metrics, scene::Scene},
    support::origin::Origin,
};

fn attribute(span: &SpanData, key: &str) -> Option<Value> {
    span.attributes.iter().find(|attribute| attribute.key.as_str() == key).map(|attribute| attribute.value.clone())
}

// 15: reactor-netty's metrics and the client's own attributes took the proxy's address for the target's.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxys_address_is_never_shown_as_the_servers() {
    for (speaks, scheme) in KINDS {
        for origin in [Origin::plain().serve(hello), Origin::tls().serve(hello)] {
            let what = format!("{scheme}, https: {}", origin.is_tls());
            let proxy = relaying(speaks, false);
            let (provider, exporter) = metrics::provider();
            let (builder, _) = through(&origin, proxy.client_side(scheme, ""));
            let scene = Scene::new(builder.meter_provider(&provider));
            for _ in 0..2 {
                scene.traced.read(origin.url_at("origin.test", "/")).await.expect("an answer");
                scene.traced.log.settled().await;
            }
            let spans = scene.spans(2, 2).await;
            let (server, way) = (Value::I64(origin.addr().port().into()), Value::I64(proxy.addr().port().into()));
            let requests = spans.named("GET");
            assert_eq!(requests.len(), 2, "{what}");
            for request in requests {
                let [name, port, peer] =
                    ["server.address", "server.port", "network.peer.port"].map(|key| attribute(request, key));
                assert_eq!((name, port), (Some("origin.test".into()), Some(server.clone())), "{what}");
                assert_eq!(peer, Some(way.clone()), "{what}");
                let told = attribute(request, "httptrace.connection.proxy");
                assert_eq!(told, Some(proxy.url(scheme, "").into()), "{what}");
            }
            assert_eq!(attribute(spans.only("connect"), "network.peer.port"), Some(way), "{what}");
            // Told at the end of the connection too.
            drop(scene);
            provider.force_flush().expect("an exporter that was not shut down");
            let all = exporter.get_finished_metrics().expect("an exporter that was not shut down");
            let mut seen = 0;
            for metric in all.iter().flat_map(|resource| resource.scope_metrics()).flat_map(|scope| scope.metrics()) {
                for labels in series(metric) {
                    for label in labels.iter().filter(|label| label.key.as_str().starts_with("server.")) {
                        let wanted = match label.key.as_str() {
                            "server.address" => Value::from("origin.test"),
                            _ => server.clone(),
                        };
                        assert_eq!(label.value, wanted, "{what}: {}", metric.name());
                        seen += 1;
                    }
                }
            }
            assert!(seen > 10, "{what}: the labels were not found");
        }
    }
}
