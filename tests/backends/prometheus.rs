//! Prometheus with the configuration of `deploy/`, scraping one [`Jaeger`], and the answers to PromQL.
//!
//! Of the file only the target is replaced: `jaeger:8889` is a name of the compose file's network.

use std::{collections::BTreeMap, fs, process::Command, time::Duration};

use serde_json::Value;

use crate::{
    jaeger::Jaeger,
    process::{Process, folder, free_port, project},
    query,
};

/// A running Prometheus; killed on drop.
pub(crate) struct Prometheus {
    process: Process,
    port: u16,
}

/// One line of an answer: the labels, and the value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Sample {
    /// The value of a label; empty if it has none, as in PromQL.
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

impl Prometheus {
    /// A Prometheus that has scraped this Jaeger at least once.
    pub(crate) async fn start(jaeger: &Jaeger) -> Self {
        let mut said = String::new();
        for _ in 0..3 {
            match Self::try_start(jaeger).await {
                Ok(prometheus) => return prometheus,
                Err(error) => said = error,
            }
        }
        panic!("Prometheus does not start:\n{said}");
    }

    async fn try_start(jaeger: &Jaeger) -> Result<Self, String> {
        let (folder, port) = (folder("prometheus"), free_port());
        let config = fs::read_to_string(project("deploy/prometheus.yml")).expect("deploy/prometheus.yml");
        assert_eq!(config.matches(TARGET).count(), 1, "one target in deploy/prometheus.yml");
        fs::write(folder.join("prometheus.yml"), config.replace(TARGET, &jaeger.scrape_target())).unwrap();
        let mut command = Command::new("prometheus");
        command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"]);
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let process = Process::start(command, &folder, "prometheus.log");
        let prometheus = Self { process, port };
        let scraped = async || prometheus.query("up == 1").await.is_ok_and(|samples| !samples.is_empty());
        if prometheus.process.until_ready(scraped).await { Ok(prometheus) } else { Err(prometheus.process.said()) }
    }

    /// What an expression is now, or what is wrong with it.
    pub(crate) async fn query(&self, expression: &str) -> Result<Vec<Sample>, String> {
        self.ask(&[("query", expression)]).await
    }

    /// What an expression was at this moment, in seconds since 1970.
    pub(crate) async fn query_at(&self, expression: &str, moment: f64) -> Result<Vec<Sample>, String> {
        self.ask(&[("query", expression), ("time", &format!("{moment:.3}"))]).await
    }

    async fn ask(&self, parameters: &[(&str, &str)]) -> Result<Vec<Sample>, String> {
        let url = format!("http://127.0.0.1:{}/api/v1/query", self.port);
        let answer = query::get(&url, parameters).await?;
        let result = &answer["data"]["result"];
        if answer["data"]["resultType"] == "scalar" {
            return Ok(vec![Sample { labels: BTreeMap::new(), value: number(&result[1]) }]);
        }
        Ok(result.as_array().ok_or_else(|| answer.to_string())?.iter().map(sample).collect())
    }

    /// The same for an expression that has to be right.
    pub(crate) async fn prom_query(&self, expression: &str) -> Vec<Sample> {
        self.query(expression).await.unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// What an expression is as soon as that is as wanted; scrapes take their time.
    pub(crate) async fn until(&self, expression: &str, wanted: impl Fn(&[Sample]) -> bool) -> Vec<Sample> {
        let mut last = Vec::new();
        for _ in 0..600 {
            last = self.prom_query(expression).await;
            if wanted(&last) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("after a minute {expression} still is {last:#?}");
    }
}

fn sample(sample: &Value) -> Sample {
    let labels = sample["metric"].as_object().expect("labels");
    let labels = labels.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
    Sample { labels, value: number(&sample["value"][1]) }
}

/// Prometheus writes numbers as text, for the sake of NaN.
fn number(value: &Value) -> f64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("not a number: {value}"))
}

/// What the compose file's Prometheus scrapes.
const TARGET: &str = "jaeger:8889";
