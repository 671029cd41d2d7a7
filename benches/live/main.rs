//! A live run from Kafka into stores: latency, throughput, bulk, recovery, the cost of snapshots, memory during outages.
//!
//! `scripts/with-services all -- cargo bench --bench live -- latency|throughput|bulk|recovery|snapshots|outages [NUMBER…]`; after
//! `throughput` and `latency` also groups of stores, such as `mysql embedded,redis`, and after `outages` stores. What each measures stands at its function. Runs are
//! processes of their own, as users have them; what is measured from outside is measured by this process, with clients of its own.

#![expect(clippy::print_stdout, reason = "what a benchmark finds is what it prints")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails has nothing to tell")]

mod bulk;
#[path = "../../tests/kafka/cluster.rs"]
#[expect(dead_code, reason = "a benchmark kills no broker, and has no transactions")]
mod cluster;
mod latency;
mod outages;
mod recovery;
mod services;
mod snapshots;
mod throughput;

use services::Services;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let numbers: Vec<u64> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let names: Vec<&str> =
        arguments.iter().skip(1).map(String::as_str).filter(|argument| argument.parse::<u64>().is_err()).collect();
    let Some(services) = Services::find() else { return };
    match arguments.first().map(String::as_str) {
        Some("latency") => {
            let rates = if numbers.is_empty() { vec![1_000, 10_000, 50_000] } else { numbers };
            let stores = if names.is_empty() { vec!["redis,embedded"] } else { names };
            for rate in rates {
                stores.iter().for_each(|stores| latency::latency(&services, rate, stores));
            }
        }
        Some("throughput") => {
            throughput::throughput(&services, numbers.first().copied().unwrap_or(200_000), &names);
        }
        Some("bulk") => bulk::bulk(&services, numbers.first().copied().unwrap_or(200_000)),
        Some("recovery") => recovery::recovery(&services, numbers.first().copied().unwrap_or(1_000_000)),
        Some("snapshots") => snapshots::snapshots(&services, numbers.first().copied().unwrap_or(3_000_000)),
        Some("outages") => {
            outages::outages(&services, numbers.first().copied().unwrap_or(600), &names);
        }
        _ => println!("name one of: latency, throughput, bulk, recovery, snapshots, outages"),
    }
}
