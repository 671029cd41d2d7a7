//! From a plan to files: what is checked first, what is trained, what is left behind.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::json;

use super::checkpoint::{self, Position};
use super::embeddings::Embeddings;
use super::error::TrainError;
use super::network::Initial;
use super::policies::{Policy, Transitions};
use super::publish;
use super::spectral::{PRODUCTS, spectral};
use super::towers::Events;
use super::trainer::{Ended, Trainer, held_out};
use eddyline::learn::Interactions;
use eddyline::model::directory::{ModelDirectory, Tables};
use eddyline::model::maps::IdMap;
use eddyline::model::weights::Embedding;
use eddyline::progress::{Progress, TrainingUpdate};
use eddyline::train::Summary;
use eddyline::train::options::{Device, Hyperparameters, Own, Plan, Subject};

/// Trains as `plan` says. `stop` asks for an end with a checkpoint.
///
/// # Errors
/// Anything of [`TrainError`]; the model directory is as it was then, but for a checkpoint.
pub(super) fn run(plan: &Plan, progress: &Progress, stop: &AtomicBool) -> Result<Summary, TrainError> {
    let device = device(plan.device)?;
    if let Some(threads) = plan.threads {
        tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
    }
    keep_memory();
    let subject = plan.parameters.subject();
    let checkpoint = publish::checkpoint_path(&plan.dir, subject);
    let replaced = Replaced::of(plan);
    if subject == Subject::Embeddings && !plan.restart && !replaced.is_marked() {
        // Before the log is read, which may take minutes.
        refuse_orphans(&plan.dir)?;
    }
    let log = Interactions::read(&plan.data, &plan.format)?;
    if log.catalogue < 2 {
        let what = format!("the training parts have {} item; a model needs two to choose from", log.catalogue);
        return Err(TrainError::TooLittle { data: plan.data.clone(), what });
    }
    let trained: usize = (0..log.users.len()).map(|user| log.train(user).len()).sum();
    tracing::info!(
        users = log.users.len(),
        items = log.catalogue,
        events = log.len(),
        trained_on = trained,
        features = log.user_features.len() + log.item_features.len(),
        "read the log; only the first four fifths of each user's events are trained on"
    );
    if plan.patience.is_some() && held_out(trained as u64, &plan.parameters) == 0 {
        let least = (1.0 / plan.parameters.held_out).ceil();
        let what = format!(
            "the training parts have {trained} events; --patience holds out a twentieth of them, which takes {least} at least: \
             leave it out"
        );
        return Err(TrainError::TooLittle { data: plan.data.clone(), what });
    }
    let parameters = plan.parameters.json().to_string();
    let run = Position::new(&log.fingerprint, "", parameters.clone());
    if subject == Subject::Embeddings && !plan.restart && !replaced.is_of(&run)? {
        refuse_orphans(&plan.dir)?;
    }
    let trainer = Context { plan, log: &log, progress, stop, parameters, device, checkpoint: &checkpoint, replaced };
    let (ended, content_hash) = match subject {
        Subject::Embeddings => match &plan.parameters.own {
            Own::Spectral(options) => (trainer.spectral(options.dim)?, None),
            _ => (trainer.embeddings()?, None),
        },
        Subject::Policy(_) => trainer.policy().map(|(ended, model)| (ended, Some(model.content_hash)))?,
    };
    Ok(summary(plan, ended, content_hash))
}

struct Context<'a> {
    plan: &'a Plan,
    log: &'a Interactions,
    progress: &'a Progress,
    stop: &'a AtomicBool,
    parameters: String,
    device: tch::Device,
    checkpoint: &'a Path,
    replaced: Replaced,
}

impl Context<'_> {
    /// What is done once it is known that there is something to train. Two trainings of a kind would write one checkpoint; the
    /// file keeps the second out while it is open.
    fn begin(&self) -> Result<File, TrainError> {
        let dir = &self.plan.dir;
        fs::create_dir_all(dir).map_err(TrainError::io(dir, "create the directory"))?;
        let subject = self.plan.parameters.subject();
        let path = publish::lock_path(dir, subject);
        let lock = File::create(&path).map_err(TrainError::io(&path, "create"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(TrainError::Busy { dir: dir.clone(), subject }),
            Err(TryLockError::Error(reason)) => return Err(TrainError::io(&path, "lock")(reason)),
        }
        if self.plan.restart && self.checkpoint.exists() {
            fs::remove_file(self.checkpoint).map_err(TrainError::io(self.checkpoint, "remove"))?;
        }
        Ok(lock)
    }

    fn embeddings(self) -> Result<Ended, TrainError> {
        let Hyperparameters { seed, lr, own, .. } = &self.plan.parameters;
        let Own::Embeddings(options) = own else { unreachable!("the subject says so") };
        let mut initial = Initial::new(*seed, self.device);
        let mut learner = Embeddings::new(self.log, options.clone(), *lr, &mut initial)?;
        let feed = Events::new(self.log, *seed);
        let _alone = self.begin()?;
        let position = self.position()?;
        let ended = Trainer {
            plan: self.plan,
            learner: &mut learner,
            feed: &feed,
            progress: self.progress,
            stop: self.stop,
            checkpoint: self.checkpoint.to_owned(),
        }
        .run(position)?;
        self.progress.finish();
        let [users, items] = learner.tables(self.log)?;
        let users = publish::embedding(&users, Subject::Embeddings, "user_embeddings")?;
        let items = publish::embedding(&items, Subject::Embeddings, "item_embeddings")?;
        self.publish(users, items, &ended.position)?;
        Ok(ended)
    }

    /// Computed in one go: there is nothing to go on from, and no checkpoint.
    fn spectral(self, dim: usize) -> Result<Ended, TrainError> {
        if (0..self.log.users.len()).all(|user| self.log.train(user).len() < 2) {
            let what = "no user has two training events, so that nothing follows anything".into();
            return Err(TrainError::TooLittle { data: self.plan.data.clone(), what });
        }
        let _alone = self.begin()?;
        let mut position = self.position()?;
        if let Some(found) = checkpoint::read(self.checkpoint)? {
            let difference = found.position.difference(&position).unwrap_or_else(|| "other parameters".into());
            return Err(TrainError::OtherRun { path: self.checkpoint.to_owned(), difference });
        }
        let started = Instant::now();
        let samples: u64 = (0..self.log.users.len()).map(|user| self.log.train(user).len() as u64).sum();
        let goes_on = |product: u32| {
            let done = u64::from(product - 1);
            self.progress.training(&TrainingUpdate {
                done,
                total: PRODUCTS.into(),
                samples: samples * done,
                epoch: product,
                epochs: PRODUCTS,
                ..TrainingUpdate::default()
            });
            !self.stop.load(Ordering::Relaxed)
        };
        let found = spectral(self.log, dim, self.plan.parameters.seed, goes_on)?;
        self.progress.finish();
        let found = found.ok_or(TrainError::Interrupted)?;
        let told = json!({ "epoch": 1, "samples": samples, "mean_probability": found.probability });
        position.history = vec![told.to_string()];
        position.epoch = 2;
        let users = Embedding { rows: self.log.users.len(), dim, data: vec![0.0; self.log.users.len() * dim] };
        self.publish(users, found.items, &position)?;
        let batches = PRODUCTS.into();
        Ok(Ended { position, batches, samples: samples * batches, elapsed: started.elapsed() })
    }

    /// Where new embeddings begin. Leave to remove policies is noted where it was given.
    fn position(&self) -> Result<Position, TrainError> {
        let position = Position::new(&self.log.fingerprint, "", self.parameters.clone());
        if self.plan.restart && !publish::policies_in(&self.plan.dir).is_empty() {
            self.replaced.mark(&position)?;
        }
        Ok(position)
    }

    fn publish(&self, users: Embedding, items: Embedding, position: &Position) -> Result<(), TrainError> {
        let user_map = IdMap::from_ids(self.log.users.clone())?;
        let item_map = IdMap::from_ids(self.log.items[..self.log.catalogue].to_vec())?;
        publish::tables(&self.plan.dir, &Tables { users, items, user_map, item_map }, position)
    }

    fn policy(self) -> Result<(Ended, ModelDirectory), TrainError> {
        let plan = self.plan;
        let Subject::Policy(algorithm) = plan.parameters.subject() else { unreachable!("the subject says so") };
        let tables = Tables::load(&plan.dir)?
            .ok_or_else(|| TrainError::NoEmbeddings { dir: plan.dir.clone(), data: plan.data.clone() })?;
        self.check_tables(&tables)?;
        let mut learner = Policy::new(&tables, &plan.parameters, self.device)?;
        let feed = Transitions::new(self.log, &plan.parameters, tables.items.dim);
        let _alone = self.begin()?;
        let ended = Trainer {
            plan,
            learner: &mut learner,
            feed: &feed,
            progress: self.progress,
            stop: self.stop,
            checkpoint: self.checkpoint.to_owned(),
        }
        .run(Position::new(&self.log.fingerprint, &hash(&tables), self.parameters))?;
        self.progress.finish();
        let model = publish::policy(&plan.dir, algorithm, &learner.state_dict()?, &ended.position)?;
        Ok((ended, model))
    }

    /// The rows of the tables must be those of the log's indices.
    fn check_tables(&self, tables: &Tables) -> Result<(), TrainError> {
        let other = |what| TrainError::OtherData { dir: self.plan.dir.clone(), what, data: self.plan.data.clone() };
        let catalogue = &self.log.items[..self.log.catalogue];
        if tables.user_map.ids() != self.log.users || tables.users.rows != self.log.users.len() {
            return Err(other("users"));
        }
        if tables.item_map.ids() != catalogue
            || tables.items.rows != catalogue.len() + 1
            || tables.items.dim != tables.users.dim
        {
            return Err(other("items"));
        }
        Ok(())
    }
}

/// Which tables a policy is trained on.
fn hash(tables: &Tables) -> String {
    let mut hasher = blake3::Hasher::new();
    for value in tables.users.data.iter().chain(&tables.items.data) {
        hasher.update(&value.to_le_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// Leave to remove the directory's policies, given with `--restart` and kept in a file until the new embeddings are there: a run
/// that is killed on the way goes on without being told again, and a run after the new embeddings has no such leave.
struct Replaced(PathBuf);

impl Replaced {
    fn of(plan: &Plan) -> Replaced {
        Replaced(publish::replaced_path(&plan.dir))
    }

    fn is_marked(&self) -> bool {
        self.0.exists()
    }

    /// Whether the leave was given to this run.
    fn is_of(&self, run: &Position) -> Result<bool, TrainError> {
        match fs::read(&self.0) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            read => Ok(read.map_err(TrainError::io(&self.0, "read"))? == Replaced::text(run)),
        }
    }

    fn mark(&self, run: &Position) -> Result<(), TrainError> {
        checkpoint::replace(&self.0, &Replaced::text(run))
    }

    fn text(run: &Position) -> Vec<u8> {
        format!("{}\n{}\n", run.data, run.parameters).into_bytes()
    }
}

/// New embeddings would leave the policies of the old ones without their tables.
fn refuse_orphans(dir: &Path) -> Result<(), TrainError> {
    let policies = publish::policies_in(dir);
    if policies.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = policies.into_iter().map(|algorithm| algorithm.file_name()).collect();
    Err(TrainError::WouldOrphan { dir: dir.to_owned(), policies: names.join(" and ") })
}

fn device(device: Device) -> Result<tch::Device, TrainError> {
    let Device::Cuda(index) = device else { return Ok(tch::Device::Cpu) };
    let refuse = |reason: String| Err(TrainError::Device { device, reason });
    if !tch::Cuda::is_available() {
        return refuse("libtorch finds no GPU that it can use".into());
    }
    let count = tch::Cuda::device_count();
    if i64::try_from(index).is_ok_and(|index| index < count) {
        return Ok(tch::Device::Cuda(index));
    }
    refuse(format!("there are {count} GPUs, counted from 0"))
}

/// Tensors of a few megabytes come and go at every step. glibc would give their memory back each time, and the kernel would
/// clear it each time; so it keeps what was freed.
fn keep_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: two settings of malloc, made before other threads use it; they are without effect where they are refused.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

fn summary(plan: &Plan, ended: Ended, content_hash: Option<String>) -> Summary {
    let Ended { position, batches, samples, elapsed } = ended;
    let elapsed_s = elapsed.as_secs_f64();
    Summary {
        subject: plan.parameters.subject().name(),
        dir: plan.dir.display().to_string(),
        epochs: position.epoch - 1,
        stopped_early: position.stopped,
        batches,
        samples,
        elapsed_s,
        samples_per_s: if elapsed_s > 0.0 { samples as f64 / elapsed_s } else { 0.0 },
        metrics: position.written().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default(),
        content_hash,
    }
}
