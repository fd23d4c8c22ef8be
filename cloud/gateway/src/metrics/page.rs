//! The counters as text, in the format that Prometheus reads (version 0.0.4). Some twenty lines of it, which is why no
//! library writes them (docs/adr/0024).

use std::fmt::Write as _;
use std::time::Duration;

use synesis_mesh::gateway::{Counter, Histogram};

use super::{Counters, Family};

const PREFIX: &str = "synesis_gateway";

/// What is not counted but looked at.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gauges {
    pub(crate) sessions: usize,
    pub(crate) connections: usize,
    pub(crate) ready: bool,
    pub(crate) draining: bool,
}

/// All of it.
pub(crate) fn page(counters: &Counters, gauges: Gauges) -> String {
    let mut page = Page(String::with_capacity(8 * 1024));
    let Gauges { sessions, connections, ready, draining } = gauges;
    page.gauge("sessions", "Devices that are connected", sessions as u64);
    page.gauge("connections", "QUIC connections, handshakes under way among them", connections as u64);
    page.gauge("ready", "Whether newcomers are served", ready.into());
    page.gauge("draining", "Whether the gateway is on its way out", draining.into());
    page.family("handshakes", "Handshakes by how they ended", "outcome", &counters.handshakes);
    page.counter("retries", "Newcomers who were asked to prove their address", &counters.retries);
    page.family("refused", "Who was turned away, by reason", "reason", &counters.refused);
    page.family("streams", "Work streams that were begun, by kind", "kind", &counters.streams);
    page.head("streams_running", "Work streams that are served now, by kind", "gauge");
    for (kind, begun) in counters.streams.values() {
        let running = begun.saturating_sub(counters.streams_ended.value(kind));
        page.line("streams_running", Some(("kind", kind)), running);
    }
    page.family("streams_refused", "Work streams that were refused", "reason", &counters.streams_refused);
    let tally = &counters.tally;
    page.counter("frames_refused", "Streams without a good header", &tally.streams_refused);
    page.counter("control_faults", "Sessions that broke the protocol", &tally.control_faults);
    page.counter("floods", "Sessions that were ended for nothing but bad streams", &tally.floods);
    page.histogram("heartbeat_lag", "How late heartbeats came", &tally.heartbeat_lag);
    page.counter("sent_bytes", "Bytes to devices, up to their last heartbeats", &tally.sent_bytes);
    page.counter("received_bytes", "Bytes from devices, up to their last heartbeats", &tally.received_bytes);
    let store = &counters.store;
    page.histogram("store_latency", "How long the store took, waiting included", &store.latency);
    page.counter("store_failures", "What the store could not do", &store.failures);
    page.counter("holds", "Requests whose worst case was held", &store.holds);
    page.counter("settled", "Requests that were charged", &store.settled);
    page.counter("released", "Requests whose hold was given back", &store.released);
    page.counter("input_tokens", "Tokens of charged prompts", &store.tokens_in);
    page.counter("output_tokens", "Tokens of charged answers", &store.tokens_out);
    page.family(
        "provider_errors",
        "Calls of providers that failed, by class",
        "class",
        &counters.provider_errors,
    );
    page.0
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        // Writing to a string does not fail.
        let _ = write!(self.0, "# HELP {PREFIX}_{name} {help}.\n# TYPE {PREFIX}_{name} {kind}\n");
    }

    /// Labels are our own words, in which nothing has to be escaped.
    fn line(&mut self, name: &str, label: Option<(&str, &str)>, value: u64) {
        let _ = match label {
            Some((label, word)) => writeln!(self.0, "{PREFIX}_{name}{{{label}=\"{word}\"}} {value}"),
            None => writeln!(self.0, "{PREFIX}_{name} {value}"),
        };
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "gauge");
        self.line(name, None, value);
    }

    fn counter(&mut self, name: &str, help: &str, counter: &Counter) {
        let name = format!("{name}_total");
        self.head(&name, help, "counter");
        self.line(&name, None, counter.value());
    }

    fn family(&mut self, name: &str, help: &str, label: &str, family: &Family) {
        let name = format!("{name}_total");
        self.head(&name, help, "counter");
        for (word, value) in family.values() {
            self.line(&name, Some((label, word)), value);
        }
    }

    fn histogram<const N: usize>(&mut self, name: &str, help: &str, histogram: &Histogram<N>) {
        let name = format!("{name}_seconds");
        self.head(&name, help, "histogram");
        let bucket = format!("{name}_bucket");
        // The buckets first: a duration that comes in meanwhile is then at most missing in them.
        let ends: Vec<(u64, u64)> = histogram.cumulative().collect();
        for (end, below) in ends {
            let end = Duration::from_millis(end).as_secs_f64().to_string();
            self.line(&bucket, Some(("le", &end)), below);
        }
        let count = histogram.count();
        self.line(&bucket, Some(("le", "+Inf")), count);
        let _ = writeln!(self.0, "{PREFIX}_{name}_sum {}", histogram.sum().as_secs_f64());
        self.line(&format!("{name}_count"), None, count);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::Metrics;
    use super::*;

    #[test]
    fn the_page_is_what_prometheus_reads() {
        let metrics = Metrics::default();
        metrics.handshakes.count("device");
        metrics.streams.count("ask");
        metrics.store.latency.observe(Duration::from_millis(2));
        let text = page(&metrics, Gauges { sessions: 3, ..Gauges::default() });
        for line in [
            "# TYPE synesis_gateway_sessions gauge",
            "synesis_gateway_sessions 3",
            "synesis_gateway_handshakes_total{outcome=\"device\"} 1",
            "synesis_gateway_streams_running{kind=\"ask\"} 1",
            "synesis_gateway_store_latency_seconds_bucket{le=\"0.001\"} 0",
            "synesis_gateway_store_latency_seconds_bucket{le=\"0.003\"} 1",
            "synesis_gateway_store_latency_seconds_bucket{le=\"+Inf\"} 1",
            "synesis_gateway_store_latency_seconds_sum 0.002",
            "synesis_gateway_store_latency_seconds_count 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn every_line_is_a_comment_or_a_number_and_every_name_is_introduced_once() {
        let text = page(&Metrics::default(), Gauges::default());
        let mut introduced = BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                assert!(introduced.insert(rest.split(' ').next().unwrap()), "{line} twice");
            } else if !line.starts_with("# HELP ") {
                let (series, value) = line.rsplit_once(' ').unwrap();
                value.parse::<f64>().unwrap();
                let name = series.split('{').next().unwrap();
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                let known = introduced.contains(name) || base.is_some_and(|base| introduced.contains(base));
                assert!(known, "{line} is not introduced");
            }
        }
        assert!(introduced.len() > 20, "{}", introduced.len());
    }
}
