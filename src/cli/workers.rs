//! `criadero workers`: what goes on at a NATS server.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use criadero::cluster::{Connection, NumericClass, Overview, Standing, Status, Watch};
use criadero::prometheus::CONTENT_TYPE;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::nats::NatsArgs;
use super::seconds::said;

/// How often the table is made anew.
const EVERY: Duration = Duration::from_secs(1);

/// Show who works at a NATS server, for which runs, and how fast
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  criadero workers --nats nats://HOST\n  criadero workers --nats nats://HOST --metrics 127.0.0.1:9100"
)]
pub struct Workers {
    /// NATS server with JetStream: `nats://HOST[:4222]` or `tls://HOST`; several of one cluster with commas between them
    #[arg(long, value_name = "URL")]
    nats: String,
    /// Print one table and end; without a terminal that is what happens anyway
    #[arg(long)]
    once: bool,
    /// Print one JSON object and end
    #[arg(long)]
    json: bool,
    /// Serve the numbers to Prometheus at an address, until Ctrl-C
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["once", "json"])]
    metrics: Option<SocketAddr>,
    #[command(flatten, next_help_heading = "Server")]
    server: NatsArgs,
}

impl Workers {
    /// Shows it.
    ///
    /// # Errors
    /// No server; an address that is in use.
    pub fn run(self) -> anyhow::Result<()> {
        let connection = Arc::new(Connection::open(&self.server.server(&self.nats))?);
        let watch = Watch::begin(connection)?;
        if let Some(address) = self.metrics {
            return serve(watch, address);
        }
        std::thread::sleep(Watch::SOON);
        if self.json {
            println!("{}", serde_json::to_string_pretty(&watch.look()?)?);
            return Ok(());
        }
        if self.once || !std::io::stdout().is_terminal() {
            print!("{}", table(&watch.look()?));
            return Ok(());
        }
        let screen = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
        screen.set_style(ProgressStyle::with_template("{msg}").expect("the template is well formed"));
        loop {
            let shown = watch.look().map_or_else(|error| error.to_string(), |overview| table(&overview));
            screen.set_message(visible(&shown));
            screen.tick();
            std::thread::sleep(EVERY);
        }
    }
}

/// Answers whoever asks at an address.
fn serve(watch: Watch, address: SocketAddr) -> anyhow::Result<()> {
    let failed = |error| anyhow!("{address}: {error}; give another --metrics");
    let watch = Arc::new(watch);
    let metrics = get(move || async move {
        // What waits for the server has a thread of its own.
        let looked = tokio::task::spawn_blocking(move || watch.look()).await;
        let answer = match looked {
            Ok(Ok(overview)) => (StatusCode::OK, overview.for_prometheus()),
            Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        };
        (answer.0, [(header::CONTENT_TYPE, CONTENT_TYPE)], answer.1)
    });
    let elsewhere = || async { (StatusCode::NOT_FOUND, "see /metrics\n") };
    let router = Router::new().route("/metrics", metrics).fallback(elsewhere);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
        eprintln!("metrics at http://{address}/metrics; Ctrl-C ends it");
        axum::serve(listener, router).await.map_err(failed)
    })
}

/// Two tables: the runs, and the workers.
fn table(overview: &Overview) -> String {
    let count = |count: Option<u64>| count.map_or("?".to_string(), |count| count.to_string());
    let run = |Standing { run, model, objectives, waiting, taken }: &Standing| {
        let taken = taken.map(|taken| taken as u64);
        vec![run.to_string(), count(*waiting), count(taken), objectives.join(", "), model.clone()]
    };
    let worker = |status: &Status| {
        let Status { name, device, slots, busy, tasks, scores, classes, refused, .. } = status;
        let longest = if busy.is_empty() { "-".to_string() } else { said(status.longest()) };
        let rate = status.tokens_per_second().filter(|&rate| rate > 0.0);
        let rate = rate.map_or("-".to_string(), |rate| format!("{rate:.0}"));
        let busy = format!("{} of {slots}", busy.len());
        let refused = refused.iter().map(|(run, why)| format!("{run}: {why}")).collect::<Vec<_>>().join("; ");
        let of_runs: BTreeSet<String> = classes.values().map(NumericClass::to_string).collect();
        let class = if of_runs.is_empty() { device.clone() } else { Vec::from_iter(of_runs).join("; ") };
        vec![name.clone(), busy, longest, tasks.to_string(), scores.to_string(), rate, class, refused]
    };
    let runs = overview.runs.iter().map(run).collect();
    let workers = overview.workers.iter().map(worker).collect();
    let of_runs = aligned(["run", "waiting", "taken", "objectives", "model"].map(String::from).to_vec(), runs);
    let heads = ["worker", "busy", "longest", "tasks", "scores", "tokens/s", "class", "refuses"].map(String::from);
    format!("{of_runs}\n{}", aligned(heads.to_vec(), workers))
}

/// Columns as wide as their widest cell; a table without rows says so.
fn aligned(heads: Vec<String>, rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return format!("no {}s\n", heads[0]);
    }
    let all: Vec<Vec<String>> = std::iter::once(heads).chain(rows).collect();
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..all[0].len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string() + "\n"
    };
    all.iter().map(line).collect()
}

/// Without what would move the cursor: names are of strangers.
fn visible(text: &str) -> String {
    text.chars().filter(|letter| *letter == '\n' || !letter.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_server_says_so_and_columns_are_aligned() {
        assert_eq!(table(&Overview::default()), "no runs\n\nno workers\n");
        let rows = vec![vec!["a".into(), "long cell".into()], vec!["bcd".into(), String::new()]];
        assert_eq!(aligned(vec!["x".into(), "y".into()], rows), "x    y\na    long cell\nbcd\n");
        assert_eq!(visible("a\u{1b}[2Jb\nc"), "a[2Jb\nc");
    }
}
