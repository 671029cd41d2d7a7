//! The loop that all trainings share: epochs of shuffled batches, filled ahead by a thread of their own; progress, history,
//! TensorBoard; checkpoints, and going on from them; early stopping.
//!
//! What a step sees depends on (seed, epoch, place in the epoch) alone, so a run that goes on from a checkpoint does what the
//! undisturbed run would have done, bit by bit on one machine with one number of threads. Memory is the log's and the
//! model's; an order of the samples is computed and never held ([`super::random::Shuffle`]).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use serde_json::json;
use tch::{Kind, TchError, Tensor};

use super::checkpoint::{self, Position};
use super::error::TrainError;
use super::network::duplicate;
use super::random::{Draws, Shuffle, Stream};
use super::tensorboard::EventFile;
use eddyline::progress::{Progress, TrainingUpdate};
use eddyline::train::options::{Hyperparameters, Plan};

/// Batches that are filled ahead.
const AHEAD: usize = 3;
/// How often TensorBoard is told of the losses.
const TOLD_EVERY: Duration = Duration::from_secs(1);
/// Of the held-out samples so many at most are looked at.
const HELD_OUT_MAX: u64 = 10_000;

/// What makes batches of samples.
pub(super) trait Feed: Sync {
    type Batch: Send;

    /// Samples of the log.
    fn samples(&self) -> u64;

    /// Samples of a batch, where `--batch` says this: the embeddings' negatives are no samples of the log.
    fn per_batch(&self, batch: usize) -> u64 {
        batch as u64
    }

    /// The batch of these samples, the first of which is at `place` of the epoch. Epoch 0 is the held-out samples'.
    fn batch(&self, epoch: u32, place: u64, samples: &[usize]) -> Self::Batch;
}

/// What learns from batches.
pub(super) trait Learner {
    type Batch;

    /// Names of what a step reports.
    fn losses(&self) -> &'static [&'static str];

    /// The step of this number, from 1.
    fn step(&mut self, batch: &Self::Batch, step: i64) -> Result<Vec<f64>, TchError>;

    /// Before an epoch's first batch.
    fn start_epoch(&mut self) {}

    /// What an epoch tells besides its losses.
    fn metrics(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }

    /// The metric of early stopping, larger being better, and its value on the held-out samples.
    fn held_out(&self, batch: &Self::Batch) -> Result<(&'static str, f64), TchError>;

    /// All tensors that the next step depends on.
    fn tensors(&self) -> Vec<(String, Tensor)>;

    /// Counts of the epoch so far, if there are any.
    fn counts(&mut self) -> Option<&mut Vec<u64>> {
        None
    }
}

/// How it ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) position: Position,
    /// Batches of this process, and how long they took.
    pub(super) batches: u64,
    pub(super) samples: u64,
    pub(super) elapsed: Duration,
}

/// A training under way.
pub(super) struct Trainer<'a, L, F> {
    pub(super) plan: &'a Plan,
    pub(super) learner: &'a mut L,
    pub(super) feed: &'a F,
    pub(super) progress: &'a Progress,
    pub(super) stop: &'a AtomicBool,
    pub(super) checkpoint: PathBuf,
}

/// Which samples train, and how an epoch goes through them.
#[derive(Clone, Debug)]
struct Course {
    seed: u64,
    batch: u64,
    held_out: u64,
    trained: u64,
    /// The held-out samples are this permutation's first.
    parts: Option<Shuffle>,
}

impl Course {
    fn new<F: Feed>(feed: &F, plan: &Plan) -> Course {
        let (samples, seed) = (feed.samples(), plan.parameters.seed);
        let held_out = held_out(samples, &plan.parameters);
        let parts = (held_out > 0).then(|| Shuffle::new(samples, Draws::new(seed, Stream::HeldOut, 0)));
        Course { seed, batch: feed.per_batch(plan.parameters.batch), held_out, trained: samples - held_out, parts }
    }

    /// Batches of an epoch. One sample is no batch: it has no variance.
    fn batches(&self) -> u64 {
        self.trained / self.batch + u64::from(self.trained % self.batch > 1)
    }

    /// Batches that are done, of all epochs.
    fn done(&self, position: &Position) -> u64 {
        u64::from(position.epoch - 1) * self.batches() + position.batches
    }

    fn sample(&self, place: u64) -> usize {
        self.parts.as_ref().map_or(place, |parts| parts.at(self.held_out + place)) as usize
    }

    fn of_batch(&self, order: &Shuffle, batch: u64) -> Vec<usize> {
        let until = ((batch + 1) * self.batch).min(self.trained);
        (batch * self.batch..until).map(|place| self.sample(order.at(place))).collect()
    }

    fn held_out(&self) -> Vec<usize> {
        let Some(parts) = &self.parts else { return Vec::new() };
        (0..self.held_out.min(HELD_OUT_MAX)).map(|place| parts.at(place) as usize).collect()
    }
}

/// How many of so many samples are held out.
pub(super) fn held_out(samples: u64, parameters: &Hyperparameters) -> u64 {
    (samples as f64 * parameters.held_out) as u64
}

/// What came of the best epoch so far.
struct Best(Vec<(String, Tensor)>);

impl<L: Learner<Batch = F::Batch>, F: Feed> Trainer<'_, L, F> {
    /// Trains to the end, from `position`, or from what a checkpoint of the same run has.
    pub(super) fn run(&mut self, position: Position) -> Result<Ended, TrainError> {
        let course = Course::new(self.feed, self.plan);
        let mut position = position;
        let mut best = self.go_on(&mut position)?;
        let started = Instant::now();
        let before = position.steps;
        let mut samples = 0;
        if !position.stopped && position.epoch <= self.plan.epochs {
            let mut told = Told::new(self.plan, course.done(&position))?;
            let (sender, receiver) = sync_channel(AHEAD);
            let feeding = (position.epoch, position.batches);
            let (feed, epochs) = (self.feed, self.plan.epochs);
            let loading = course.clone();
            std::thread::scope(|scope| {
                std::thread::Builder::new()
                    .name("batches".into())
                    .spawn_scoped(scope, move || load(feed, &loading, feeding, epochs, &sender))
                    .map_err(TrainError::io(Path::new("batches"), "start the thread"))?;
                // Owned here, so that the thread hears of it when this returns early.
                let receiver = receiver;
                self.epochs(&course, &mut position, &mut best, &receiver, &mut told, &mut samples)
            })?;
        }
        if let Some(Best(tensors)) = &best {
            let into = self.learner.tensors();
            let _guard = tch::no_grad_guard();
            for ((_, from), (_, into)) in tensors.iter().zip(into) {
                into.shallow_clone().f_copy_(from)?;
            }
        }
        let batches = (position.steps - before) as u64;
        Ok(Ended { position, batches, samples, elapsed: started.elapsed() })
    }

    fn epochs(
        &mut self,
        course: &Course,
        position: &mut Position,
        best: &mut Option<Best>,
        batches: &Receiver<F::Batch>,
        told: &mut Told,
        samples: &mut u64,
    ) -> Result<(), TrainError> {
        let mut saved = Instant::now();
        while position.epoch <= self.plan.epochs && !position.stopped {
            if position.batches == 0 {
                self.learner.start_epoch();
                position.sums = vec![0; self.learner.losses().len()];
                position.samples = 0;
            }
            while position.batches < course.batches() {
                let batch = batches.recv().map_err(|_| TrainError::Loader)?;
                let size = course.batch.min(course.trained - position.batches * course.batch);
                let losses = self.learner.step(&batch, position.steps + 1)?;
                self.check(&losses, position)?;
                position.steps += 1;
                position.batches += 1;
                position.samples += size;
                *samples += size;
                for (sum, loss) in position.sums.iter_mut().zip(&losses) {
                    *sum = (f64::from_bits(*sum) + loss * size as f64).to_bits();
                }
                told.batch(self.plan, self.learner.losses(), course, position, &losses, *samples, self.progress)?;
                let asked = self.stop.load(Ordering::Relaxed);
                if asked || saved.elapsed() >= self.plan.checkpoint {
                    self.save(position, best.as_ref())?;
                    saved = Instant::now();
                }
                if asked && (position.batches < course.batches() || position.epoch < self.plan.epochs) {
                    return Err(TrainError::Stopped { epoch: position.epoch, batch: position.batches });
                }
            }
            self.end_epoch(course, position, best, told)?;
            self.save(position, best.as_ref())?;
            saved = Instant::now();
        }
        Ok(())
    }

    fn end_epoch(
        &mut self,
        course: &Course,
        position: &mut Position,
        best: &mut Option<Best>,
        told: &mut Told,
    ) -> Result<(), TrainError> {
        let mean = |sum: &u64| f64::from_bits(*sum) / position.samples as f64;
        let names = self.learner.losses().iter();
        let mut values: Vec<(&str, f64)> = names.copied().zip(position.sums.iter().map(mean)).collect();
        values.extend(self.learner.metrics());
        if let Some(patience) = self.plan.patience {
            let (name, metric) = self.learner.held_out(&self.feed.batch(0, 0, &course.held_out()))?;
            values.push((name, metric));
            if position.best.is_none_or(|(best, _)| metric > f64::from_bits(best)) {
                position.best = Some((metric.to_bits(), position.epoch));
                let copy = |(name, tensor): (String, Tensor)| Ok((name, duplicate(&tensor)?));
                *best = Some(Best(self.learner.tensors().into_iter().map(copy).collect::<Result<_, TchError>>()?));
            }
            position.stopped = position.best.is_some_and(|(_, epoch)| position.epoch >= epoch + patience);
        }
        let mut line = json!({ "epoch": position.epoch, "steps": position.steps, "samples": position.samples });
        values.iter().for_each(|(name, value)| line[name] = json!(value));
        position.history.push(line.to_string());
        told.epoch(position, &values)?;
        position.epoch += 1;
        position.batches = 0;
        Ok(())
    }

    fn check(&self, losses: &[f64], position: &Position) -> Result<(), TrainError> {
        let Some((name, &value)) = self.learner.losses().iter().zip(losses).find(|(_, loss)| !loss.is_finite()) else {
            return Ok(());
        };
        Err(TrainError::NotFinite {
            subject: self.plan.parameters.subject(),
            name,
            value,
            epoch: position.epoch,
            batch: position.batches + 1,
            lr: self.plan.parameters.lr,
            kept: self.checkpoint.exists().then(|| self.checkpoint.clone()),
        })
    }

    /// Losses can be numbers when weights no longer are: those of the last step, and those that a relu hides. A checkpoint that
    /// held them would be the end of the training.
    fn check_tensors(&self, tensors: &[(String, Tensor)]) -> Result<(), TrainError> {
        for (key, tensor) in tensors {
            // A sum of finite 32-bit numbers is finite in 64 bits, and any that are not make it so.
            if !tensor.f_sum(Kind::Double)?.f_double_value(&[])?.is_finite() {
                return Err(TrainError::Diverged { subject: self.plan.parameters.subject(), key: key.clone() });
            }
        }
        Ok(())
    }

    /// Takes up a checkpoint of the same run.
    fn go_on(&mut self, position: &mut Position) -> Result<Option<Best>, TrainError> {
        let path = &self.checkpoint;
        let Some(found) = checkpoint::read(path)? else { return Ok(None) };
        if let Some(difference) = found.position.difference(position) {
            return Err(TrainError::OtherRun { path: path.clone(), difference });
        }
        let tensors = self.learner.tensors();
        checkpoint::restore(path, &found.tensors, &tensors)?;
        if let Some(counts) = self.learner.counts()
            && counts.len() == found.counts.len()
        {
            counts.copy_from_slice(&found.counts);
        }
        let mut best = None;
        if found.position.best.is_some() {
            let copies: Vec<(String, Tensor)> = tensors
                .iter()
                .map(|(name, tensor)| Ok((format!("best.{name}"), duplicate(tensor)?)))
                .collect::<Result<_, TchError>>()?;
            checkpoint::restore(path, &found.tensors, &copies)?;
            best = Some(Best(copies));
        }
        let Position { epoch, batches, .. } = found.position;
        *position = found.position;
        // More patience than it was stopped for lets it go on.
        let waited = position.best.map(|(_, best)| epoch.saturating_sub(1).saturating_sub(best));
        position.stopped &= waited >= self.plan.patience;
        tracing::info!(checkpoint = %path.display(), epoch, batches, "going on");
        Ok(best)
    }

    fn save(&mut self, position: &Position, best: Option<&Best>) -> Result<(), TrainError> {
        let mut tensors = self.learner.tensors();
        self.check_tensors(&tensors)?;
        if let Some(Best(copies)) = best {
            tensors.extend(copies.iter().map(|(name, tensor)| {
                let name = if name.starts_with("best.") { name.clone() } else { format!("best.{name}") };
                (name, tensor.shallow_clone())
            }));
        }
        let counts = self.learner.counts().map(|counts| counts.clone()).unwrap_or_default();
        checkpoint::write(&self.checkpoint, position, &tensors, &counts)
    }
}

/// Fills batches until the last, or until nobody wants them.
fn load<F: Feed>(feed: &F, course: &Course, from: (u32, u64), epochs: u32, batches: &SyncSender<F::Batch>) {
    for epoch in from.0..=epochs {
        let order = Shuffle::new(course.trained, Draws::new(course.seed, Stream::Order, epoch));
        let first = if epoch == from.0 { from.1 } else { 0 };
        for batch in first..course.batches() {
            let filled = feed.batch(epoch, batch * course.batch, &course.of_batch(&order, batch));
            if batches.send(filled).is_err() {
                return;
            }
        }
    }
}

/// What watches a training.
struct Told {
    events: Option<EventFile>,
    started: Instant,
    last: Option<Instant>,
    /// Batches of earlier runs.
    done_before: u64,
}

impl Told {
    fn new(plan: &Plan, done_before: u64) -> Result<Told, TrainError> {
        let dir = plan.tensorboard.as_ref().map(|dir| dir.join(plan.parameters.subject().name()));
        let events = dir.map(|dir| EventFile::create(&dir)).transpose()?;
        Ok(Told { events, started: Instant::now(), last: None, done_before })
    }

    #[expect(clippy::too_many_arguments, reason = "it is told everything")]
    fn batch(
        &mut self,
        plan: &Plan,
        names: &'static [&'static str],
        course: &Course,
        position: &Position,
        losses: &[f64],
        samples: u64,
        progress: &Progress,
    ) -> Result<(), TrainError> {
        let losses_by_name = names.iter().copied().zip(losses.iter().copied()).collect();
        progress.training(&self.update(plan, course, position, samples, losses_by_name));
        let Some(events) = &mut self.events else { return Ok(()) };
        if self.last.is_some_and(|last| last.elapsed() < TOLD_EVERY) {
            return Ok(());
        }
        self.last = Some(Instant::now());
        let mut scalars: Vec<(String, f64)> =
            names.iter().zip(losses).map(|(name, loss)| (format!("batch/{name}"), *loss)).collect();
        scalars.push(("samples_per_s".into(), samples as f64 / self.started.elapsed().as_secs_f64()));
        events.scalars(position.steps as u64, &scalars)
    }

    fn update(
        &self,
        plan: &Plan,
        course: &Course,
        position: &Position,
        samples: u64,
        losses: Vec<(&'static str, f64)>,
    ) -> TrainingUpdate {
        TrainingUpdate {
            done: course.done(position),
            total: u64::from(plan.epochs) * course.batches(),
            done_before: self.done_before,
            samples,
            epoch: position.epoch,
            epochs: plan.epochs,
            losses,
        }
    }

    fn epoch(&mut self, position: &Position, values: &[(&str, f64)]) -> Result<(), TrainError> {
        let text: Vec<String> = values.iter().map(|(name, value)| format!("{name} {value:.6}")).collect();
        tracing::info!(epoch = position.epoch, "{}", text.join("  "));
        let Some(events) = &mut self.events else { return Ok(()) };
        let scalars: Vec<(String, f64)> =
            values.iter().map(|(name, value)| (format!("epoch/{name}"), *value)).collect();
        events.scalars(u64::from(position.epoch), &scalars)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use eddyline::config::Config;
    use eddyline::learn::LogFormat;
    use eddyline::train::options::{Device, Hyperparameters, Subject};

    const BATCHES: u64 = 5;

    /// Batches without anything in them.
    struct Nothing;

    impl Feed for Nothing {
        type Batch = ();

        fn samples(&self) -> u64 {
            4 * BATCHES
        }

        fn batch(&self, _: u32, _: u64, _: &[usize]) {}
    }

    fn plan(dir: &Path, epochs: u32) -> Plan {
        Plan {
            data: dir.join("log.csv"),
            format: LogFormat::of(&Config::default()).unwrap(),
            dir: dir.to_owned(),
            parameters: Hyperparameters { batch: 4, ..Hyperparameters::of(Subject::Embeddings, &Config::default()) },
            epochs,
            patience: None,
            device: Device::Cpu,
            threads: None,
            checkpoint: Duration::from_secs(300),
            restart: false,
            tensorboard: None,
        }
    }

    /// Its losses are numbers; after the step of this number its weight is none.
    struct Broken(Tensor, i64);

    impl Learner for Broken {
        type Batch = ();

        fn losses(&self) -> &'static [&'static str] {
            &["loss"]
        }

        fn step(&mut self, (): &(), step: i64) -> Result<Vec<f64>, TchError> {
            let value = if step < self.1 { step as f64 } else { f64::NAN };
            drop(self.0.f_fill_(value)?);
            Ok(vec![0.5])
        }

        fn held_out(&self, (): &()) -> Result<(&'static str, f64), TchError> {
            Ok(("metric", 0.0))
        }

        fn tensors(&self) -> Vec<(String, Tensor)> {
            vec![("weight".into(), self.0.shallow_clone())]
        }
    }

    #[test]
    fn weights_that_are_no_numbers_do_not_reach_a_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let plan = plan(dir.path(), 3);
        let checkpoint = dir.path().join("checkpoint");
        let mut learner = Broken(Tensor::zeros([3], (Kind::Float, tch::Device::Cpu)), 2 * BATCHES as i64);
        let ended = Trainer {
            plan: &plan,
            learner: &mut learner,
            feed: &Nothing,
            progress: &Progress::hidden(),
            stop: &AtomicBool::new(false),
            checkpoint: checkpoint.clone(),
        }
        .run(Position::new("", "", String::new()));
        let error = ended.unwrap_err().to_string();
        assert!(error.starts_with("embeddings: \"weight\" has a value that is no finite number"), "{error}");
        let kept = checkpoint::read(&checkpoint).unwrap().unwrap();
        assert_eq!((kept.position.epoch, &kept.tensors[0].1), (2, &vec![BATCHES as f32; 3]));
    }

    #[test]
    fn what_earlier_runs_did_is_not_taken_for_this_ones_speed() {
        let dir = tempfile::tempdir().unwrap();
        let plan = plan(dir.path(), 10);
        let course = Course::new(&Nothing, &plan);
        let mut position = Position { epoch: 8, batches: 2, ..Position::default() };
        let told = Told::new(&plan, course.done(&position)).unwrap();
        position.batches += 1;
        let update = told.update(&plan, &course, &position, 4, Vec::new());
        assert_eq!((update.done, update.done_before, update.total), (38, 37, 50));
    }
}
