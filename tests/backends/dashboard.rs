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

/// The metrics as the library's page of metrics has them, beside their names in Prometheus without what it adds.
fn known() -> Vec<(String, String)> {
    let page = fs::read_to_string(project("src/views/metrics.rs")).expect("the page of metrics");
    let rows = page.lines().filter_map(|line| line.strip_prefix("//! | `"));
    let name = |row: &str| row.split('`').next().expect("a name").to_owned();
    rows.map(name).map(|name| (name.clone(), name.replace('.', "_"))).collect()
}

/// The metric that is meant by a name in Prometheus: what is behind it is a unit or a part of a histogram.
fn meant<'a>(known: &'a [(String, String)], in_prometheus: &str) -> &'a str {
    let parts = ["", "_total", "_seconds_bucket", "_seconds_count", "_bytes_sum", "_count", "_sum"];
    let is = |plain: &str| parts.iter().any(|part| in_prometheus.strip_prefix(plain) == Some(part));
    let found = known.iter().find(|(_, plain)| is(plain));
    &found.unwrap_or_else(|| panic!("{in_prometheus} is no metric of the library's")).0
}

#[test]
fn every_metric_is_on_the_dashboard_and_the_dashboard_has_no_other() {
    let (panels, known) = (panels(), known());
    let shown = panels.iter().flat_map(|panel| &panel.targets).flat_map(|target| metrics(&target.expression));
    let shown: BTreeSet<_> = shown.map(|name| meant(&known, name)).collect();
    let all: BTreeSet<_> = known.iter().map(|(name, _)| name.as_str()).collect();
    assert!(all.len() > 10, "the metrics were not found");
    assert_eq!(shown, all);
}

#[test]
fn the_readme_says_which_panel_answers_which_question_by_which_metric() {
    let known = known();
    let mut shown = BTreeSet::new();
    for Panel { row, title, targets, .. } in &panels() {
        for metric in targets.iter().flat_map(|target| metrics(&target.expression)) {
            shown.insert((row.clone(), title.clone(), meant(&known, metric).to_owned()));
        }
    }
    let readme = fs::read_to_string(project("README.md")).expect("README.md");
    let (_, table) = readme.split_once("| question | panel | metric |\n|---|---|---|\n").expect("the table");
    let (mut question, mut told) = (String::new(), BTreeSet::new());
    for line in table.lines().take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [asked, titles, metric] = &cells[..] else { panic!("three cells: {line}") };
        if !asked.is_empty() {
            question = (*asked).to_owned();
        }
        for title in titles.split(", ") {
            told.insert((question.clone(), title.to_owned(), metric.trim_matches('`').to_owned()));
        }
    }
    assert_eq!(told, shown);
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
