//! Where the log of every partition ends, asked again and again: one thread and one connection a process.
//!
//! librdkafka says once that a partition's end is reached and then says nothing, whether the broker goes on answering or
//! is gone. So the ends are asked for (ListOffsets, read committed, one request for all partitions): while the answers are
//! the offset at which reading stands, the partition is at its end, and while there are none, nothing is known. The same
//! thread looks for new partitions, and whether the topic is still the one that was opened.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::AdminClient;
use rdkafka::error::RDKafkaErrorCode;

use super::super::live::LiveError;
use super::config::Context;
use super::native::{self, End, Failure, Topic};

/// How often the ends are asked for, at most and at least.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
const INTERVAL_MAX: Duration = Duration::from_secs(1);
/// How often new partitions are looked for.
const DESCRIBE_INTERVAL: Duration = Duration::from_secs(10);
/// How long an answer may take; later ones count as none.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Answers that are further apart than this, or four intervals, do not belong together.
const GAP_MAX: Duration = Duration::from_secs(1);
/// A topic is gone when all descriptions have said so for this long: a broker that starts may not know it yet.
const GONE_AFTER: Duration = Duration::from_secs(30);

/// What the latest answer said of a partition, and since when all answers have said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) end: u64,
    /// When the first of them had come.
    pub(super) since: Instant,
    /// When the latest was asked for.
    pub(super) seen: Instant,
}

impl Answer {
    /// Takes in an answer that was asked for at `asked` and had come at `came`.
    pub(super) fn after(before: Option<Answer>, end: u64, asked: Instant, came: Instant, gap_max: Duration) -> Answer {
        match before {
            Some(before) if before.end == end && asked.saturating_duration_since(before.seen) <= gap_max => {
                Answer { seen: asked, ..before }
            }
            _ => Answer { end, since: came, seen: asked },
        }
    }
}

/// What the monitor knows.
#[derive(Debug)]
struct State {
    answers: Vec<Option<Answer>>,
    /// The last known ends, whatever happened since.
    ends: Vec<Option<u64>>,
    problem: Option<Problem>,
    stop: bool,
}

/// Why reading must not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    Recreated,
    Gone,
}

/// Watches a topic until it is dropped.
#[derive(Debug)]
pub(super) struct Monitor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    brokers: String,
    topic: String,
    /// As it was opened.
    described: Topic,
    interval: Duration,
    state: Mutex<State>,
    stop: Condvar,
}

impl Monitor {
    /// Starts to watch. `idle` is how long a partition must be at its end to count as idle: answers come several times
    /// in it.
    pub(super) fn start(
        client: AdminClient<Context>,
        brokers: &str,
        topic: &str,
        described: Topic,
        idle: Duration,
    ) -> Result<Monitor, LiveError> {
        let count = described.partitions as usize;
        let state = State { answers: vec![None; count], ends: vec![None; count], problem: None, stop: false };
        let shared = Arc::new(Shared {
            brokers: brokers.to_owned(),
            topic: topic.to_owned(),
            described,
            interval: (idle / 4).clamp(INTERVAL_MIN, INTERVAL_MAX),
            state: Mutex::new(state),
            stop: Condvar::new(),
        });
        let watched = Arc::clone(&shared);
        let thread = thread::Builder::new().name("kafka-ends".to_owned()).spawn(move || watched.watch(&client));
        thread.map_err(LiveError::Thread)?;
        Ok(Monitor { shared })
    }

    /// The latest answer about `partition`; `None` after an outage, and before the first one.
    pub(super) fn answer(&self, partition: u32) -> Option<Answer> {
        self.shared.state().answers.get(partition as usize).copied().flatten()
    }

    /// The end of `partition` when it was last known.
    pub(super) fn end(&self, partition: u32) -> Option<u64> {
        self.shared.state().ends.get(partition as usize).copied().flatten()
    }

    /// How many partitions there are now.
    pub(super) fn partitions(&self) -> u32 {
        self.shared.state().answers.len() as u32
    }

    /// Whether the log is still the one that was opened.
    pub(super) fn check(&self) -> Result<(), LiveError> {
        let topic = self.shared.topic.clone();
        match self.shared.state().problem {
            None => Ok(()),
            Some(Problem::Recreated) => Err(LiveError::Recreated { topic }),
            Some(Problem::Gone) => Err(LiveError::NoTopic { brokers: self.shared.brokers.clone(), topic }),
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // The thread may wait for an answer, and ends by itself after that.
        self.shared.state().stop = true;
        self.shared.stop.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, client: &AdminClient<Context>) {
        let mut described = Instant::now();
        let mut unknown = None;
        let mut outage: Option<Instant> = None;
        loop {
            let started = Instant::now();
            native::drain(client.inner());
            if started.saturating_duration_since(described) >= DESCRIBE_INTERVAL.min(10 * self.interval) {
                described = started;
                self.describe(client, &mut unknown);
            }
            let failure = self.ask(client).err();
            self.tell(failure.as_ref(), client.inner().context(), &mut outage);
            let state = self.state();
            let pause = self.interval.saturating_sub(started.elapsed());
            let wait = self.stop.wait_timeout_while(state, pause, |state| !state.stop);
            if wait.unwrap_or_else(PoisonError::into_inner).0.stop {
                return;
            }
        }
    }

    /// Asks for all ends, and gives the first failure.
    fn ask(&self, client: &AdminClient<Context>) -> Result<(), Failure> {
        let count = self.state().answers.len();
        let asked = Instant::now();
        let answers = native::ends(client.inner(), &self.topic, 0..count as u32, End::Stable, ANSWER_TIMEOUT);
        let came = Instant::now();
        let mut state = self.state();
        let answers = match answers {
            Ok(answers) => answers,
            Err(failure) => {
                state.answers.fill(None);
                return Err(failure);
            }
        };
        let gap_max = GAP_MAX.max(4 * self.interval);
        let mut outcome = Ok(());
        for (partition, answer) in answers.into_iter().enumerate() {
            state.answers[partition] = match answer {
                Ok(end) => {
                    // A log never gets shorter while it is the same one; who reads beyond will find out how.
                    state.ends[partition] = Some(end);
                    Some(Answer::after(state.answers[partition], end, asked, came, gap_max))
                }
                Err(failure) => {
                    outcome = outcome.and(Err(failure));
                    None
                }
            };
        }
        outcome
    }

    /// `unknown`: since when the brokers say that there is no such topic.
    fn describe(&self, client: &AdminClient<Context>, unknown: &mut Option<Instant>) {
        let described = native::describe(client.inner(), &self.topic, ANSWER_TIMEOUT);
        let mut state = self.state();
        match described {
            Ok(topic) if topic.id != self.described.id => state.problem = Some(Problem::Recreated),
            Ok(topic) => {
                *unknown = None;
                let count = state.answers.len().max(topic.partitions as usize);
                state.answers.resize(count, None);
                state.ends.resize(count, None);
            }
            Err(Failure { code: RDKafkaErrorCode::UnknownTopicOrPartition, .. }) => {
                if unknown.get_or_insert_with(Instant::now).elapsed() >= GONE_AFTER {
                    state.problem = Some(Problem::Gone);
                }
            }
            // Then nothing is known.
            Err(_) => *unknown = None,
        }
    }

    /// Logs the start and the end of an outage.
    fn tell(&self, failure: Option<&Failure>, context: &Context, outage: &mut Option<Instant>) {
        let brokers = &self.brokers;
        match (failure, *outage) {
            (Some(failure), None) => {
                *outage = Some(Instant::now());
                let reason = context.login_error().or_else(|| context.reach_error());
                let reason = reason.unwrap_or_else(|| failure.text.clone());
                tracing::warn!("Kafka at {brokers} does not answer for topic `{}` ({reason}); input waits", self.topic);
            }
            (None, Some(since)) => {
                *outage = None;
                let seconds = since.elapsed().as_secs_f64();
                tracing::info!("Kafka at {brokers} answers again after {seconds:.1} s");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_belong_together_while_they_say_the_same_without_a_gap() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let gap = Duration::from_secs(1);
        let first = Answer::after(None, 7, at(0), at(5), gap);
        assert_eq!(first, Answer { end: 7, since: at(5), seen: at(0) });
        let second = Answer::after(Some(first), 7, at(900), at(905), gap);
        assert_eq!(second, Answer { end: 7, since: at(5), seen: at(900) });
        let grown = Answer::after(Some(second), 8, at(1000), at(1010), gap);
        assert_eq!(grown, Answer { end: 8, since: at(1010), seen: at(1000) });
        let late = Answer::after(Some(grown), 8, at(2001), at(2002), gap);
        assert_eq!(late, Answer { end: 8, since: at(2002), seen: at(2001) });
    }
}
