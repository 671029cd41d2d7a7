//! Log messages: to standard error, as text for people or as JSON for machines.

use crate::progress::Progress;
use clap::ValueEnum;
use std::io::{self, Write};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line of text each.
    Text,
    /// A JSON object each, on a line of its own.
    Json,
}

/// What is shown: −1 errors, 0 what a user should know, 1 details, 2 and more everything.
pub fn default_filter(verbosity: i8) -> &'static str {
    match verbosity {
        ..=-1 => "error",
        0 => "warn,eddyline=info",
        1 => "info,eddyline=debug",
        2.. => "debug,eddyline=trace",
    }
}

/// Sends all messages that pass `filter` to standard error, above the bar of `progress`. Only the first call counts.
pub fn init(format: LogFormat, filter: EnvFilter, color: bool, progress: &Progress) {
    let writer = AboveBar { progress: progress.clone() };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let outcome = match format {
        LogFormat::Text => builder.with_ansi(color).with_target(false).finish().try_init(),
        LogFormat::Json => builder.json().finish().try_init(),
    };
    // A program that embeds Eddyline may have a subscriber of its own.
    drop(outcome);
}

/// Writes to standard error while the bar is away.
#[derive(Clone)]
struct AboveBar {
    progress: Progress,
}

impl<'a> MakeWriter<'a> for AboveBar {
    type Writer = AboveBar;

    fn make_writer(&'a self) -> AboveBar {
        self.clone()
    }
}

impl Write for AboveBar {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        self.progress.suspend(|| io::stderr().write(message))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// What is in the way, as it was last logged: so that it is logged once, and not at every attempt.
#[derive(Debug, Default)]
pub(crate) struct Hindrance(Option<String>);

impl Hindrance {
    /// Whether `text` is news.
    pub(crate) fn is_news(&mut self, text: &str) -> bool {
        let is_news = self.0.as_deref() != Some(text);
        self.0 = Some(text.to_owned());
        is_news
    }

    /// Whether something was in the way, which is over with this.
    pub(crate) fn is_over(&mut self) -> bool {
        self.0.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_hindrance_is_news_once() {
        let mut hindrance = Hindrance::default();
        assert!(!hindrance.is_over(), "nothing was in the way");
        assert_eq!(["full", "full", "gone", "full"].map(|text| hindrance.is_news(text)), [true, false, true, true]);
        assert!(hindrance.is_over() && !hindrance.is_over());
        assert!(hindrance.is_news("full"));
    }
}
