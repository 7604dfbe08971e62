//! The Grafana dashboard of `deploy/`, read: its panels and their expressions, with the variables filled in as Grafana does.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::{
    process::project,
    prometheus::{Prometheus, Sample},
};

/// One panel.
pub(crate) struct Panel {
    /// The title of the row that it is in: a question.
    pub(crate) row: String,
    pub(crate) title: String,
    pub(crate) targets: Vec<Target>,
    json: Value,
}

/// One expression of a panel.
pub(crate) struct Target {
    pub(crate) expression: String,
    pub(crate) legend: String,
}

/// What an expression is asked for: a stretch of time between two scrapes, in seconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) from: f64,
    pub(crate) to: f64,
}

impl Window {
    pub(crate) fn seconds(self) -> f64 {
        self.to - self.from
    }
}

impl Target {
    /// The expression's values at the end of the window, by their legends.
    pub(crate) async fn values(&self, prometheus: &Prometheus, window: Window) -> Vec<(String, f64)> {
        let expression = self.filled_in(window);
        let samples = prometheus.query_at(&expression, window.to).await;
        let samples = samples.unwrap_or_else(|error| panic!("{expression}: {error}"));
        samples.iter().map(|sample| (self.legend_of(sample), sample.value)).collect()
    }

    /// All services, processes, hosts and ports. The interval reaches from one scrape to another: then the rate is what
    /// was counted between them, divided by their distance. (The millisecond is for Prometheus 3, which leaves out a
    /// sample at the very beginning.)
    fn filled_in(&self, window: Window) -> String {
        let mut filled = self.expression.clone();
        for name in ["job", "instance", "host", "port"] {
            filled = filled.replace(&format!("${name}\""), ".+\"");
        }
        let milliseconds = (window.seconds() * 1000.0).round() + 1.0;
        filled = filled.replace("$__rate_interval", &format!("{milliseconds}ms"));
        assert!(!filled.contains('$'), "an unknown variable: {filled}");
        filled
    }

    fn legend_of(&self, sample: &Sample) -> String {
        let mut legend = self.legend.clone();
        for (name, value) in &sample.labels {
            legend = legend.replace(&format!("{{{{{name}}}}}"), value);
        }
        assert!(!legend.contains("{{"), "{} has no label for it: {:?}", self.legend, sample.labels);
        legend
    }
}

fn json() -> Value {
    let text = fs::read_to_string(project("deploy/grafana/dashboards/httptrace.json")).expect("the dashboard");
    serde_json::from_str(&text).expect("JSON")
}

/// All panels, in their order.
pub(crate) fn panels() -> Vec<Panel> {
    let (mut row, mut panels) = (String::new(), Vec::new());
    for panel in json()["panels"].as_array().expect("panels") {
        let title = text(&panel["title"]);
        if panel["type"] == "row" {
            row = title;
            continue;
        }
        let target =
            |target: &Value| Target { expression: text(&target["expr"]), legend: text(&target["legendFormat"]) };
        let targets: Vec<_> = panel["targets"].as_array().expect("targets").iter().map(target).collect();
        assert!(!targets.is_empty(), "{title} shows nothing");
        panels.push(Panel { row: row.clone(), title, targets, json: panel.clone() });
    }
    panels
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The metrics in an expression, by their names in Prometheus.
fn metrics(expression: &str) -> BTreeSet<&str> {
    let before_filters = expression.split('{').filter_map(|part| part.rsplit(['(', ' ']).next());
    let is_name = |word: &&str| word.contains('_') && word.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
    before_filters.filter(is_name).collect()
}

#[test]
fn every_panel_says_what_it_means_in_which_unit_and_honours_the_variables() {
    let panels = panels();
    assert!(panels.len() > 20, "the panels were not found");
    let mut titles = BTreeSet::new();
    for Panel { row, title, targets, json } in &panels {
        assert!(row.ends_with('?'), "{title} is in a row that is no question: {row}");
        assert!(titles.insert(title), "two panels are called {title}");
        assert!(text(&json["description"]).len() > 20, "{title} has no description");
        assert!(!text(&json["fieldConfig"]["defaults"]["unit"]).is_empty(), "{title} has no unit");
        assert_eq!(json["datasource"]["uid"], "${datasource}", "{title}");
        for Target { expression, legend } in targets {
            assert!(!legend.is_empty(), "{title} has a line without a name");
            let count = |part: &str| expression.matches(part).count();
            assert_eq!(count("job=~\"$job\""), count("{"), "{title}: {expression}");
            assert_eq!(count("instance=~\"$instance\""), count("{"), "{title}: {expression}");
            // Lookups have no port, and their name is the host.
            let hosts =
                count("server_address=~\"$host\",server_port=~\"$port\"") + count("dns_question_name=~\"$host\"");
            assert_eq!(hosts, count("{"), "{title}: {expression}");
            assert_eq!(count("rate("), count("[$__rate_interval]"), "{title}: {expression}");
            assert_eq!(count(" / ("), count("> 0)"), "{title} divides by what may be zero: {expression}");
        }
    }
}

#[test]
fn every_metric_is_on_the_dashboard_and_the_dashboard_has_no_other() {
    let panels = panels();
    let shown: BTreeSet<_> =
        panels.iter().flat_map(|panel| &panel.targets).flat_map(|t| metrics(&t.expression)).collect();
    let page = fs::read_to_string(project("src/views/metrics.rs")).expect("the page of metrics");
    let rows = page.lines().filter_map(|line| line.strip_prefix("//! | `"));
    let mut known = BTreeSet::new();
    for row in rows {
        let (name, rest) = row.split_once('`').expect("a name");
        let unit = if rest.contains("histogram, s") {
            "_seconds"
        } else if rest.contains(", By") {
            "_bytes"
        } else {
            ""
        };
        let prometheus = format!("{}{unit}", name.replace('.', "_"));
        let there = shown.iter().filter(|shown| shown.starts_with(&prometheus)).copied().collect::<Vec<_>>();
        assert!(!there.is_empty(), "{name} is on no panel");
        known.extend(there);
    }
    assert!(known.len() > 10, "the metrics were not found");
    assert_eq!(shown, known);
}

#[test]
fn every_variable_of_the_expressions_is_declared_and_offers_all_and_several() {
    let json = json();
    let list = json["templating"]["list"].as_array().expect("variables");
    let names: Vec<_> = list.iter().map(|variable| text(&variable["name"])).collect();
    assert_eq!(names, ["datasource", "job", "instance", "host", "port"]);
    for variable in &list[1..] {
        assert_eq!((&variable["multi"], &variable["includeAll"]), (&Value::Bool(true), &Value::Bool(true)));
    }
}
