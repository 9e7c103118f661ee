//! Metrics of the process, in the text format of Prometheus.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Bounds of histograms of durations, seconds: from one fsync of a fast disk to a request that is given up.
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Bounds of histograms of sizes, bytes.
const BYTES: &[f64] =
    &[256.0, 1024.0, 8192.0, 65_536.0, 1_048_576.0, 4_194_304.0, 67_108_864.0, 1_073_741_824.0];
/// How long a histogram of neither keeps its samples.
const UPKEEP: Duration = Duration::from_secs(5);

/// Installs the recorder for the whole process; again is the same as once.
pub(crate) fn install() -> Result<()> {
    if RECORDER.get().is_some() {
        return Ok(());
    }
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_bytes".into()), BYTES))
        .context("the bounds of histograms are refused")?
        .upkeep_timeout(UPKEEP);
    let handle = builder.install_recorder().context("metrics cannot be installed")?;
    // Lost only to another thread that has just done the same.
    let _ = RECORDER.set(handle);
    describe();
    Ok(())
}

/// What the metrics of this crate and of the HTTP door mean; each other crate describes its own.
fn describe() {
    metrics::describe_counter!("benteng_panics_total", "Panics since the process started.");
    metrics::describe_counter!("benteng_http_requests_total", "Requests of the HTTP door by status.");
    metrics::describe_counter!("benteng_http_panics_total", "Requests of the HTTP door that met a defect.");
    metrics::describe_counter!(
        "benteng_http_logins_refused_total",
        "Credentials that the HTTP door refused."
    );
    metrics::describe_gauge!("benteng_build_info", "1, with the version as its label.");
    metrics::gauge!("benteng_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// Renders all metrics; empty before [`install`].
pub(crate) fn render() -> Arc<dyn Fn() -> String + Send + Sync> {
    Arc::new(|| RECORDER.get().map(PrometheusHandle::render).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn metrics_are_rendered_by_prometheus_conventions() {
        install().expect("the first in this process");
        install().expect("again is the same as once");
        metrics::counter!("benteng_panics_total").increment(2);
        metrics::histogram!("benteng_trial_seconds").record(0.003);
        let text = render()();
        assert!(
            text.contains("# TYPE benteng_panics_total counter") && text.contains("benteng_panics_total 2"),
            "{text}"
        );
        assert!(text.contains("benteng_trial_seconds_bucket{le=\"0.005\"} 1"), "{text}");
    }
}
