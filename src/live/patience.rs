//! Work on the state directory that something may be in the way of for a while: a full disk.

use crate::checkpoint::CheckpointError;
use crate::telemetry::Hindrance;
use std::thread;
use std::time::Duration;

/// Between two attempts.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Tries again what may pass, as long as it takes. `what`: the name, in messages, of what is written.
pub(super) fn patiently<T>(
    what: &str,
    mut attempt: impl FnMut() -> Result<T, CheckpointError>,
) -> Result<T, CheckpointError> {
    let mut hindrance = Hindrance::default();
    loop {
        match attempt() {
            Err(error) if error.is_retryable() => {
                let text = error.to_string();
                if hindrance.is_news(&text) {
                    tracing::warn!("{text}; trying again until it works");
                }
            }
            done => {
                if done.is_ok() && hindrance.is_over() {
                    tracing::info!("{what} is written again");
                }
                return done;
            }
        }
        thread::sleep(TRY_AGAIN);
    }
}
