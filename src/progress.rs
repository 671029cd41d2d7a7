//! How far a command is: a bar on the terminal, nothing anywhere else.
//!
//! ```text
//! ━━━━━━━━━━━━━╸───────────  54%  2.31M events/s  12.4M events  3 rejected  1,204 late  2017-11-26 08:13:20  ETA 5s
//! ```

use dataflows::event::Time;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the line is made anew; the eye needs no more.
const INTERVAL: Duration = Duration::from_millis(100);
/// Over about how long the rate is averaged.
const RATE_SECONDS: f64 = 2.0;
/// Resolution of the bar.
const STEPS: u64 = 1_000;

/// How far a command is. All counts are of the whole run so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// What is done of `total`, in its unit: for a replay, bytes of input read, as they are on disk.
    pub done: u64,
    /// What there is to do; `None` if that is not known, as for standard input.
    pub total: Option<u64>,
    /// Events so far, late ones among them.
    pub events: u64,
    /// Records rejected, if any could be.
    pub rejected: Option<u64>,
    /// Late events, if any could be.
    pub late: Option<u64>,
    /// Up to where time has come.
    pub event_time: Option<Time>,
}

/// How far a training is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingUpdate {
    /// Batches done, those of earlier runs of the same training too.
    pub done: u64,
    /// Batches there are to do.
    pub total: u64,
    /// Batches that were done before this process began.
    pub done_before: u64,
    /// Samples of this process.
    pub samples: u64,
    /// The epoch that is under way, from 1.
    pub epoch: u32,
    /// Epochs in all.
    pub epochs: u32,
    /// What the last batch told.
    pub losses: Vec<(&'static str, f64)>,
}

/// Where progress is shown. Clones show the same.
#[derive(Clone, Debug)]
pub struct Progress {
    screen: MultiProgress,
    bar: Option<Arc<Mutex<Bar>>>,
    color: bool,
}

#[derive(Debug)]
struct Bar {
    bar: ProgressBar,
    started: Instant,
    shown: Option<Instant>,
    rate: Rate,
}

impl Progress {
    /// A bar on standard error, if that is a terminal.
    pub fn on_terminal(color: bool) -> Progress {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let bar = (!screen.is_hidden()).then(|| Arc::new(Mutex::new(Bar::new(&screen))));
        Progress { screen, bar, color }
    }

    /// No bar.
    pub fn hidden() -> Progress {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        Progress { screen, bar: None, color: false }
    }

    /// Shows `update`; cheap enough for every batch of events, and not for every event.
    pub fn update(&self, update: &Update) {
        if let Some(bar) = &self.bar {
            bar.lock().unwrap_or_else(PoisonError::into_inner).update(update, self.color);
        }
    }

    /// Shows how far a training is; cheap enough for every batch.
    pub fn training(&self, update: &TrainingUpdate) {
        if let Some(bar) = &self.bar {
            bar.lock().unwrap_or_else(PoisonError::into_inner).training(update, self.color);
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.lock().unwrap_or_else(PoisonError::into_inner).bar.finish_and_clear();
        }
    }

    /// Runs `write`, which writes to the terminal, while the bar is away.
    pub fn suspend<R>(&self, write: impl FnOnce() -> R) -> R {
        self.screen.suspend(write)
    }
}

impl Bar {
    fn new(screen: &MultiProgress) -> Bar {
        Bar { bar: screen.add(ProgressBar::no_length()), started: Instant::now(), shown: None, rate: Rate::default() }
    }

    fn update(&mut self, update: &Update, color: bool) {
        let Some(elapsed) = self.due(update.total.is_some(), color) else { return };
        let rate = self.rate.observe(elapsed, update.events);
        let done = update.total.map(|total| share(update.done, total));
        self.show(done, line(update, rate, done, elapsed));
    }

    fn training(&mut self, update: &TrainingUpdate, color: bool) {
        let Some(elapsed) = self.due(true, color) else { return };
        let rate = self.rate.observe(elapsed, update.samples);
        self.show(Some(share(update.done, update.total)), training_line(update, rate, elapsed));
    }

    /// Since when the bar is there, if it is time to make it anew.
    fn due(&mut self, is_bounded: bool, color: bool) -> Option<Duration> {
        let now = Instant::now();
        if self.shown.is_some_and(|shown| now < shown + INTERVAL) {
            return None;
        }
        if self.shown.is_none() {
            self.bar.set_style(style(is_bounded, color));
        }
        self.shown = Some(now);
        Some(now - self.started)
    }

    fn show(&mut self, done: Option<f64>, line: String) {
        if let Some(done) = done {
            self.bar.set_length(STEPS);
            self.bar.set_position((done * STEPS as f64) as u64);
        }
        self.bar.set_message(line);
        self.bar.tick();
    }
}

fn style(is_bounded: bool, color: bool) -> ProgressStyle {
    let template = match (is_bounded, color) {
        (true, true) => "{bar:24.cyan/dim} {wide_msg}",
        (true, false) => "{bar:24} {wide_msg}",
        (false, _) => "{spinner} {wide_msg}",
    };
    ProgressStyle::with_template(template).expect("the templates above are right").progress_chars("━╸─")
}

/// Events per second, averaged with weights that fade.
#[derive(Debug, Default)]
struct Rate {
    at: Duration,
    events: u64,
    per_second: Option<f64>,
}

impl Rate {
    fn observe(&mut self, at: Duration, events: u64) -> f64 {
        let seconds = at.saturating_sub(self.at).as_secs_f64();
        if seconds > 0.0 {
            let now = events.saturating_sub(self.events) as f64 / seconds;
            let weight = 1.0 - (-seconds / RATE_SECONDS).exp();
            self.per_second = Some(self.per_second.map_or(now, |before| before + weight * (now - before)));
            (self.at, self.events) = (at, events);
        }
        self.per_second.unwrap_or_default()
    }
}

/// `part` of `total`, 0 to 1; all of nothing.
fn share(part: u64, total: u64) -> f64 {
    if total == 0 { 1.0 } else { (part as f64 / total as f64).min(1.0) }
}

fn line(update: &Update, rate: f64, done: Option<f64>, elapsed: Duration) -> String {
    let mut parts = Vec::new();
    parts.extend(done.map(|done| format!("{:3.0}%", (done * 100.0).floor())));
    parts.push(format!("{} events/s", short(rate)));
    parts.push(format!("{} events", short(update.events as f64)));
    parts.extend(update.rejected.map(|rejected| format!("{} rejected", grouped(rejected))));
    parts.extend(update.late.map(|late| format!("{} late", grouped(late))));
    parts.extend(update.event_time.and_then(date));
    parts.extend(done.and_then(|done| remaining(done, elapsed)).map(|left| format!("ETA {}", clock(left))));
    parts.join("  ")
}

/// ` 12%  epoch 3/10  loss 0.4321  410k samples/s  ETA 2m05s`
fn training_line(update: &TrainingUpdate, rate: f64, elapsed: Duration) -> String {
    let mut parts = vec![format!("{:3.0}%", (share(update.done, update.total) * 100.0).floor())];
    parts.push(format!("epoch {}/{}", update.epoch, update.epochs));
    parts.extend(update.losses.iter().map(|(name, loss)| format!("{name} {loss:.4}")));
    parts.push(format!("{} samples/s", short(rate)));
    let own = share(update.done - update.done_before, update.total - update.done_before);
    parts.extend(remaining(own, elapsed).map(|left| format!("ETA {}", clock(left))));
    parts.join("  ")
}

/// How long the rest takes, if it goes on as so far.
fn remaining(done: f64, elapsed: Duration) -> Option<Duration> {
    let seconds = elapsed.as_secs_f64() * (1.0 - done) / done;
    (seconds < 1e8).then(|| Duration::from_secs_f64(seconds))
}

/// `12s`, `3m05s`, `2h10m`.
fn clock(left: Duration) -> String {
    match left.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        seconds => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// Three digits and a unit.
fn short(number: f64) -> String {
    let (scaled, unit) = match number {
        0.0..1e3 => return format!("{number:.0}"),
        1e3..1e6 => (number / 1e3, "k"),
        1e6..1e9 => (number / 1e6, "M"),
        _ => (number / 1e9, "G"),
    };
    let decimals = if scaled < 10.0 {
        2
    } else if scaled < 100.0 {
        1
    } else {
        0
    };
    format!("{scaled:.decimals$}{unit}")
}

/// With a comma every three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// In UTC, to the second.
fn date(time: Time) -> Option<String> {
    let date = jiff::Timestamp::from_millisecond(i64::try_from(time).ok()?).ok()?;
    Some(date.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_it_all() {
        let update = Update {
            done: 540,
            total: Some(1_000),
            events: 12_400_000,
            rejected: Some(3),
            late: Some(1_204),
            event_time: Some(1_511_684_000_000),
        };
        let shown = line(&update, 2_310_000.0, Some(0.54), Duration::from_secs(6));
        let expected = " 54%  2.31M events/s  12.4M events  3 rejected  1,204 late  2017-11-26 08:13:20  ETA 5s";
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_training_tells_its_loss_and_when_it_ends() {
        let update = TrainingUpdate {
            done: 60,
            total: 100,
            done_before: 20,
            samples: 81_920,
            epoch: 3,
            epochs: 5,
            losses: vec![("loss", 0.43219)],
        };
        let shown = training_line(&update, 8_192.0, Duration::from_secs(10));
        assert_eq!(shown, " 60%  epoch 3/5  loss 0.4322  8.19k samples/s  ETA 10s");
    }

    #[test]
    fn unknown_lengths_have_no_share_and_no_end() {
        let shown = line(&Update::default(), 0.0, None, Duration::from_secs(1));
        assert_eq!(shown, "0 events/s  0 events");
        assert_eq!(remaining(0.0, Duration::from_secs(1)), None);
        assert_eq!(remaining(0.0, Duration::ZERO), None);
        assert_eq!(share(0, 0), 1.0);
        assert_eq!(share(7, 5), 1.0);
    }

    #[test]
    fn the_rate_follows() {
        let mut rate = Rate::default();
        assert_eq!(rate.observe(Duration::ZERO, 0), 0.0);
        assert_eq!(rate.observe(Duration::from_secs(1), 1_000), 1_000.0);
        let faster = rate.observe(Duration::from_secs(2), 3_000);
        assert!(faster > 1_000.0 && faster < 2_000.0, "{faster}");
        let settled = (3..60).map(|second| rate.observe(Duration::from_secs(second), second * 2_000 - 1_000)).last();
        assert!(settled.is_some_and(|rate| (rate - 2_000.0).abs() < 1.0));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(short(0.0), "0");
        assert_eq!(short(999.0), "999");
        assert_eq!(short(1_000.0), "1.00k");
        assert_eq!(short(45_600.0), "45.6k");
        assert_eq!(short(789_000_000.0), "789M");
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(clock(Duration::from_secs(185)), "3m05s");
        assert_eq!(clock(Duration::from_secs(7_800)), "2h10m");
    }

    #[test]
    fn hidden_progress_takes_everything() {
        let progress = Progress::hidden();
        progress.update(&Update::default());
        assert_eq!(progress.suspend(|| 7), 7);
        progress.finish();
    }
}
