//! Work on the state directory that something may be in the way of for a while: a full disk.

use crate::checkpoint::CheckpointError;
use std::thread;
use std::time::Duration;

/// Between two attempts.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What has been told of, so that it is told once and not at every attempt.
#[derive(Default)]
pub(super) struct Told(String);

impl Told {
    /// Whether `text` is news.
    pub(super) fn is_news(&mut self, text: &str) -> bool {
        let is_news = self.0 != text;
        text.clone_into(&mut self.0);
        is_news
    }
}

/// Tries again what may pass, as long as it takes. `what`: the name, in messages, of what is written.
pub(super) fn patiently<T>(
    what: &str,
    mut attempt: impl FnMut() -> Result<T, CheckpointError>,
) -> Result<T, CheckpointError> {
    let mut told = Told::default();
    loop {
        match attempt() {
            Err(error) if error.is_retryable() => {
                let text = error.to_string();
                if told.is_news(&text) {
                    tracing::warn!("{text}; trying again until it works");
                }
            }
            done => {
                if done.is_ok() && told.is_news("") {
                    tracing::info!("{what} is written again");
                }
                return done;
            }
        }
        thread::sleep(TRY_AGAIN);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once() {
        let mut told = Told::default();
        assert!(!told.is_news(""), "nothing was in the way");
        let news = ["full", "full", "gone", "full", ""].map(|text| told.is_news(text));
        assert_eq!(news, [true, false, true, true, true]);
    }
}
