//! `eddyline produce`: flags and configuration → [`Produce`].

use super::configuration::ConfigArgs;
use super::failure::usage;
use super::{Terminal, parse, signals, stdout};
use crate::config::Format;
use crate::produce::{self, Pace, PartitionBy, Produce, Summary, Timestamps};
use crate::replay::source_options;
use crate::secret::Secret;
use anyhow::Result;
use clap::{ArgGroup, Args};
use std::path::PathBuf;

/// Feed logs of behaviour into Kafka, a message a row: as fast as it goes, at a rate, or as they happened
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("pace")))]
#[command(after_help = "Example: eddyline produce day1.csv.gz day2.csv.gz --topic events --partitions 4 --speedup 60")]
pub(super) struct ProduceArgs {
    /// CSV files, plain, gzip or zstd; - is standard input. Several are merged by event time
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Where the cluster is: host:port, several divided by commas [default: kafka.brokers]
    #[arg(long, value_name = "BROKERS")]
    brokers: Option<String>,
    /// The topic [default: kafka.topic]
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// Create the topic with so many partitions if it is missing
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    partitions: Option<u32>,
    /// Which partition a row goes to: that of its user, that of its file's number, or each in turn
    #[arg(long, value_name = "WHAT", value_parser = ["user", "file", "round-robin"], default_value = "user")]
    partition_by: String,
    /// Rows a second, such as 500 or 10k
    #[arg(long, value_name = "COUNT", value_parser = parse::count, group = "pace")]
    rate: Option<u64>,
    /// As the events happened, so many times as fast; 1 is real time
    #[arg(long, value_name = "FACTOR", group = "pace")]
    speedup: Option<f64>,
    /// The messages' timestamps: now, or the event's time, with which a broker that dies may double messages
    #[arg(long, value_name = "WHICH", value_parser = ["now", "event"], default_value = "now")]
    timestamps: String,
    /// A property of librdkafka, over kafka.properties: -X linger.ms=5; a value file:PATH is read from there
    #[arg(short = 'X', long = "property", value_name = "NAME=VALUE", value_parser = property)]
    properties: Vec<(String, Secret)>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

fn property(text: &str) -> Result<(String, Secret), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, such as linger.ms=5")?;
    Ok((name.trim().to_owned(), Secret::new(value)))
}

pub(super) fn run(args: ProduceArgs, terminal: &Terminal) -> Result<()> {
    let json = args.json;
    let produce = plan(args)?;
    let stop = signals::stop_flag()?;
    let outcome = produce::run(&produce, &stop, &mut |update| terminal.progress.update(update));
    terminal.progress.finish();
    let summary = outcome?;
    if summary.cut > 0 {
        tracing::warn!("{} rows are over 64 KiB; of each the first 65544 bytes were sent", summary.cut);
    }
    match json {
        true => stdout::write(format!("{}\n", serde_json::to_string(&summary)?).as_bytes()),
        false => stdout::write(table(&summary).as_bytes()),
    }
}

fn plan(args: ProduceArgs) -> Result<Produce> {
    let pace = match (args.rate, args.speedup) {
        (Some(0), _) => return Err(usage!("--rate 0 never sends anything; give at least 1")),
        (Some(rate), _) => Pace::Rate(rate as f64),
        (None, Some(factor)) if factor > 0.0 && factor.is_finite() => Pace::Speedup(factor),
        (None, Some(factor)) => return Err(usage!("--speedup {factor}: give a number above 0, such as 60")),
        (None, None) => Pace::Fastest,
    };
    let config = args.config.load()?.config;
    if config.source.format == Format::Json {
        return Err(usage!("eddyline produce sends rows of CSV as they are; set source.format to \"csv\""));
    }
    let mut properties = config.kafka.properties.clone();
    properties.extend(args.properties);
    Ok(Produce {
        reading: source_options(&config, None, args.files.len())?,
        files: args.files,
        brokers: args.brokers.unwrap_or(config.kafka.brokers),
        topic: args.topic.unwrap_or(config.kafka.topic),
        properties,
        partitions: args.partitions,
        partition_by: match args.partition_by.as_str() {
            "file" => PartitionBy::File,
            "round-robin" => PartitionBy::RoundRobin,
            _ => PartitionBy::User,
        },
        pace,
        timestamps: if args.timestamps == "now" { Timestamps::Now } else { Timestamps::Event },
    })
}

fn table(summary: &Summary) -> String {
    let Summary { topic, messages, acknowledged, seconds, .. } = summary;
    let rate = *acknowledged as f64 / seconds.max(1e-9);
    let created = if summary.created { ", created" } else { "" };
    let mut text = format!("topic         {topic} ({} partitions{created})\n", summary.partitions.len());
    text.push_str(&format!("messages      {messages}, {acknowledged} acknowledged, {} bytes\n", summary.bytes));
    text.push_str(&format!("took          {seconds:.1} s, {rate:.0} messages/s\n"));
    text.push_str(&format!(
        "no events     {}\nleft out      {} (headers, blank lines)\n",
        summary.no_events, summary.left_out
    ));
    let partitions: Vec<String> = summary.partitions.iter().map(u64::to_string).collect();
    text.push_str(&format!("by partition  {}\n", partitions.join(" ")));
    for file in &summary.files {
        let end = if file.complete { "all lines" } else { "stopped" };
        text.push_str(&format!("file          {}: {} lines, {end}\n", file.input, file.lines));
    }
    text
}
