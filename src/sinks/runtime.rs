//! Where a sink's client of a database runs: a small runtime of its own, on the sink's thread, whose every call has a time limit
//! and ends at once when the run is told to stop.

use super::stop::Stop;
use crate::tls;
use std::future::Future;
use std::io;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// How long a client waits for its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimits {
    /// For a connection, with TLS and login.
    pub connect: Duration,
    /// For the answer to one request.
    pub call: Duration,
}

impl Default for TimeLimits {
    fn default() -> TimeLimits {
        TimeLimits { connect: Duration::from_secs(10), call: Duration::from_secs(60) }
    }
}

/// Why a call has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// The limit passed.
    TimedOut(Duration),
    /// The run is to stop.
    Stopped,
}

/// Runs a client's calls, one at a time.
pub(super) struct ClientRuntime {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    stopped: watch::Receiver<bool>,
}

impl ClientRuntime {
    pub(super) fn new(stop: &Stop) -> io::Result<ClientRuntime> {
        tls::choose_provider();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (raise, stopped) = watch::channel(false);
        stop.on_raise(move || {
            raise.send_replace(true);
        });
        Ok(ClientRuntime { runtime: Some(runtime), stopped })
    }

    /// The output of `call`, unless it takes longer than `limit` or the run is to stop. Then `call` is dropped where it was.
    pub(super) fn run<T>(&self, limit: Duration, call: impl Future<Output = T>) -> Result<T, Halt> {
        let mut stopped = self.stopped.clone();
        let runtime = self.runtime.as_ref().expect("there until it is dropped");
        runtime.block_on(async {
            tokio::select! {
                biased;
                // An error means that nobody can raise it any more.
                Ok(_) = stopped.wait_for(|raised| *raised) => Err(Halt::Stopped),
                outcome = tokio::time::timeout(limit, call) => outcome.map_err(|_| Halt::TimedOut(limit)),
            }
        })
    }
}

impl Drop for ClientRuntime {
    fn drop(&mut self) {
        // A host name that is still being looked up, on a thread of its own, is not waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What the network says, in plain words, as the end of a sentence.
pub(super) fn network_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            "it closed the connection".into()
        }
        io::ErrorKind::UnexpectedEof => "it closed the connection".into(),
        io::ErrorKind::TimedOut => "no answer".into(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "there is no way to it".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::thread::spawn;

    #[test]
    fn a_call_ends_by_itself_at_its_limit_or_when_told_to_stop() {
        let stop = Stop::default();
        let runtime = ClientRuntime::new(&stop).unwrap();
        assert_eq!(runtime.run(Duration::from_secs(60), async { 7 }), Ok(7));
        let limit = Duration::from_millis(1);
        assert_eq!(runtime.run(limit, pending::<()>()), Err(Halt::TimedOut(limit)));
        let waiting = spawn(move || runtime.run(Duration::from_secs(600), pending::<()>()));
        stop.raise();
        assert_eq!(waiting.join().unwrap(), Err(Halt::Stopped));
    }
}
