//! HTTP beside a live run (contract, section 7; so far `/livez`, `/readyz` and `/metrics`).
//!
//! It reads numbers that others keep, and never waits for the pipeline.

use crate::live::Metrics;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};

/// OpenMetrics' text format.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why there is no HTTP.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} (serve.listen): {error}")]
pub struct ServeError {
    /// As configured.
    pub address: String,
    /// What the system says.
    pub error: std::io::Error,
}

/// The server; dropped, it is gone.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    /// Aborts its tasks when it is dropped.
    _runtime: Runtime,
}

impl Server {
    /// Listens on `address`, and answers until dropped.
    ///
    /// # Errors
    /// If it can't listen there.
    pub fn start(address: &str, metrics: Arc<Metrics>) -> Result<Server, ServeError> {
        let fail = |error| ServeError { address: address.to_owned(), error };
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("serve").enable_all().build().map_err(fail)?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).map_err(fail)?;
        let bound = listener.local_addr().map_err(fail)?;
        let routes = Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics_text))
            .with_state(metrics);
        runtime.spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::error!("HTTP has ended: {error}");
            }
        });
        Ok(Server { address: bound, _runtime: runtime })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn livez(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    match metrics.is_alive() {
        true => (StatusCode::OK, "alive\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "no worker has turned for a minute\n"),
    }
}

async fn readyz(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    match metrics.is_ready() {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "starting, stopping, or a sink is down\n"),
    }
}

async fn metrics_text(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], metrics.render())
}
