//! `eddyline train`: flags → a [`Plan`]; training itself is another program's ([`crate::train::launch`]).

use super::configuration::ConfigArgs;
use super::failure::usage;
use super::{Terminal, Trainer, parse, signals, stdout};
use crate::config::{Config, Duration};
use crate::learn::LogFormat;
use crate::model::algorithm::Algorithm;
use crate::train::options::{
    BcqParameters, DdpgParameters, Device, EmbeddingLoss, EmbeddingParameters, HELD_OUT, Hyperparameters, Own, Plan,
    PolicyParameters, ReinforceParameters, SpectralParameters, Subject, default_epochs,
};
use crate::train::{Summary, launch};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Train embeddings of users and items, and policies over them, on libtorch
#[derive(Debug, Args)]
#[command(after_help = "A training that was stopped goes on when it is started again with the same flags.\n\n\
                        Example: eddyline train embeddings log.csv --model-dir model && \
                        eddyline train ddpg log.csv --model-dir model\n\nDocumentation: docs/train.md.")]
pub(super) struct TrainArgs {
    #[command(subcommand)]
    subject: SubjectArgs,
}

#[derive(Debug, Subcommand)]
enum SubjectArgs {
    /// Tables of users and items by a two-tower network (DSSM): the first step
    Embeddings(EmbeddingsArgs),
    /// Top-k off-policy REINFORCE
    Reinforce(ReinforceArgs),
    /// Deep deterministic policy gradient
    Ddpg(DdpgArgs),
    /// Batch-constrained deep Q-learning
    Bcq(BcqArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The log: CSV, as eddyline prepare writes it, or any that the configuration describes
    #[arg(value_name = "DATA")]
    data: PathBuf,
    #[command(flatten)]
    config: ConfigArgs,
    /// Times through the training parts [default: 10 for embeddings, else 100]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    epochs: Option<u32>,
    /// Step size of Adam [default: 5e-4 for embeddings, else 1e-5]
    #[arg(long, value_name = "NUMBER", value_parser = positive)]
    lr: Option<f64>,
    /// Samples a step [default: 128 for reinforce, else 2048]
    #[arg(long, value_name = "COUNT", value_parser = parse::count_small)]
    batch: Option<u32>,
    /// Everything random follows from it
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Hold out a twentieth of the samples, and stop after so many epochs without a better metric on them
    #[arg(long, value_name = "EPOCHS", value_parser = clap::value_parser!(u32).range(1..))]
    patience: Option<u32>,
    /// Where tensors are: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: Device,
    /// Threads of libtorch [default: one a core]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Time between checkpoints; there is one after every epoch, too
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    checkpoint: Duration,
    /// Begin anew where there is a checkpoint; new embeddings remove the directory's policies. Given once: what it began goes on
    /// without it
    #[arg(long)]
    restart: bool,
    /// Where TensorBoard's event files go, or none [default: tensorboard in the model directory]
    #[arg(long, value_name = "DIR")]
    tensorboard: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct EmbeddingsArgs {
    #[command(flatten)]
    run: RunArgs,
    /// d, the embedding size
    #[arg(long, value_name = "NUMBER", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    dim: u16,
    /// Two towers (dssm), or vectors of items alone, of what follows what, in which DDPG and BCQ can rank (spectral)
    #[arg(long, value_name = "METHOD", value_parser = ["dssm", "spectral"], default_value = "dssm")]
    method: String,
    /// What dssm minimises [default: cosine]
    #[arg(long, value_name = "LOSS", value_parser = ["cosine", "bce"])]
    loss: Option<String>,
}

#[derive(Debug, Args)]
struct PolicyArgs {
    /// H: items of a history
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    history: u16,
    /// h: width of the hidden layers
    #[arg(long, value_name = "NUMBER", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    hidden: u16,
    /// γ, the discount of later rewards, 0 to 1
    #[arg(long, value_name = "NUMBER", value_parser = share, default_value_t = PolicyParameters::default().gamma)]
    gamma: f64,
}

#[derive(Debug, Args)]
struct ReinforceArgs {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    /// K of the top-K correction: the length of the lists that the policy is for; 1 turns it off
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    top_k: u32,
    /// The most that an importance weight counts
    #[arg(long, value_name = "NUMBER", value_parser = positive, default_value_t = ReinforceParameters::default().weight_clip)]
    weight_clip: f64,
    /// The gap between events that ends a session
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    session_gap: Duration,
}

#[derive(Debug, Args)]
struct DdpgArgs {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    /// τ, how far the target networks follow at each step, 0 to 1
    #[arg(long, value_name = "NUMBER", value_parser = share, default_value_t = DdpgParameters::default().tau)]
    tau: f64,
    /// How much the actor is kept to the log's actions, as in TD3+BC, whose α is 1 through this; 0 is DDPG
    #[arg(long, value_name = "NUMBER", value_parser = not_negative, default_value_t = DdpgParameters::default().behavior_weight)]
    behavior_weight: f64,
}

#[derive(Debug, Args)]
struct BcqArgs {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    /// τ, how far the target networks follow at each step, 0 to 1
    #[arg(long, value_name = "NUMBER", value_parser = share, default_value_t = BcqParameters::default().tau)]
    tau: f64,
    /// λ, how much the lesser of the two critics counts, 0 to 1
    #[arg(long, value_name = "NUMBER", value_parser = share, default_value_t = BcqParameters::default().lambda)]
    lambda: f64,
    /// n: actions sampled for a target
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    actions: u16,
    /// Weight of the KL term in the generator's loss
    #[arg(long, value_name = "NUMBER", value_parser = not_negative, default_value_t = BcqParameters::default().kl_weight)]
    kl_weight: f64,
}

pub(super) fn run(args: &TrainArgs, terminal: &Terminal, trainer: Option<Trainer>) -> Result<()> {
    let plan = plan(args)?;
    let Some(Trainer(train)) = trainer else {
        return Err(launch::launch(std::env::args_os().skip(1)).into());
    };
    let stop = signals::stop_flag()?;
    let summary = train(&plan, &terminal.progress, &stop);
    terminal.progress.finish();
    tell(&summary?, args.run().json)
}

impl TrainArgs {
    fn run(&self) -> &RunArgs {
        match &self.subject {
            SubjectArgs::Embeddings(args) => &args.run,
            SubjectArgs::Reinforce(args) => &args.run,
            SubjectArgs::Ddpg(args) => &args.run,
            SubjectArgs::Bcq(args) => &args.run,
        }
    }

    fn own(&self, rewards: &[i64]) -> Own {
        let policy = |args: &PolicyArgs| PolicyParameters {
            history: args.history.into(),
            hidden: args.hidden.into(),
            gamma: args.gamma,
            rewards: rewards.to_vec(),
        };
        match &self.subject {
            SubjectArgs::Embeddings(args) => {
                if args.method == "spectral" {
                    return Own::Spectral(SpectralParameters { dim: args.dim.into() });
                }
                let loss = if args.loss.as_deref() == Some("bce") { EmbeddingLoss::Bce } else { EmbeddingLoss::Cosine };
                Own::Embeddings(EmbeddingParameters { dim: args.dim.into(), loss })
            }
            SubjectArgs::Reinforce(args) => Own::Reinforce(
                policy(&args.policy),
                ReinforceParameters {
                    top_k: args.top_k,
                    weight_clip: args.weight_clip,
                    session_gap_ms: i64::try_from(args.session_gap.ms()).unwrap_or(i64::MAX),
                },
            ),
            SubjectArgs::Ddpg(args) => {
                Own::Ddpg(policy(&args.policy), DdpgParameters { tau: args.tau, behavior_weight: args.behavior_weight })
            }
            SubjectArgs::Bcq(args) => Own::Bcq(
                policy(&args.policy),
                BcqParameters {
                    tau: args.tau,
                    lambda: args.lambda,
                    actions: args.actions.into(),
                    kl_weight: args.kl_weight,
                    ..BcqParameters::default()
                },
            ),
        }
    }
}

fn plan(args: &TrainArgs) -> Result<Plan> {
    let run = args.run();
    let config = run.config.load()?.config;
    let own = args.own(&config.behaviors.rewards);
    let subject = match &args.subject {
        SubjectArgs::Embeddings(_) => Subject::Embeddings,
        SubjectArgs::Reinforce(_) => Subject::Policy(Algorithm::Reinforce),
        SubjectArgs::Ddpg(_) => Subject::Policy(Algorithm::Ddpg),
        SubjectArgs::Bcq(_) => Subject::Policy(Algorithm::Bcq),
    };
    if let SubjectArgs::Embeddings(EmbeddingsArgs { method, loss, .. }) = &args.subject
        && method == "spectral"
    {
        let given = [
            ("--epochs", run.epochs.is_some()),
            ("--lr", run.lr.is_some()),
            ("--batch", run.batch.is_some()),
            ("--patience", run.patience.is_some()),
            ("--loss", loss.is_some()),
        ];
        if let Some((flag, _)) = given.iter().find(|(_, given)| *given) {
            return Err(usage!(
                "{flag} is of --method dssm; spectral vectors are computed, not trained in steps: leave it out"
            ));
        }
    }
    let defaults = Hyperparameters::new(subject);
    let batch = run.batch.map_or(defaults.batch, |batch| batch as usize);
    if batch < 4 {
        return Err(usage!("--batch {batch}: at least 4 samples make a batch"));
    }
    let parameters = Hyperparameters {
        seed: run.seed,
        batch,
        lr: run.lr.unwrap_or(defaults.lr),
        held_out: if run.patience.is_some() { HELD_OUT } else { 0.0 },
        own,
    };
    let dir = model_dir(&config)?;
    let tensorboard = match &run.tensorboard {
        Some(dir) if dir.as_os_str() == "none" => None,
        Some(dir) => Some(dir.clone()),
        None => Some(dir.join("tensorboard")),
    };
    Ok(Plan {
        data: run.data.clone(),
        format: LogFormat::of(&config).with_context(|| run.data.display().to_string())?,
        dir,
        parameters,
        epochs: run.epochs.unwrap_or_else(|| default_epochs(subject)),
        patience: run.patience,
        device: run.device,
        threads: run.threads.map(|threads| threads as usize),
        checkpoint: std::time::Duration::from_millis(run.checkpoint.ms()),
        restart: run.restart,
        tensorboard,
    })
}

fn model_dir(config: &Config) -> Result<PathBuf> {
    config.model.dir.clone().ok_or_else(|| usage!("--model-dir DIR is missing: where embeddings and policies go"))
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|&number: &f64| number.is_finite() && number > 0.0);
    number.ok_or_else(|| "expected a number above 0".to_owned())
}

fn not_negative(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| "expected a number from 0 on".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

fn tell(summary: &Summary, json: bool) -> Result<()> {
    if json {
        return stdout::write(format!("{}\n", serde_json::to_string(summary)?).as_bytes());
    }
    let mut text = format!("{:<19}{}\n", "trained", summary.subject);
    let mut row = |name: &str, value: String| text.push_str(&format!("{name:<19}{value}\n"));
    row("directory", summary.dir.clone());
    let early = if summary.stopped_early { ", stopped early" } else { "" };
    row("epochs", format!("{}{early}", summary.epochs));
    if let Some(metrics) = summary.metrics.as_object() {
        if let Some(epoch) = metrics.get("epoch").filter(|&epoch| *epoch != summary.epochs) {
            row("written", format!("epoch {epoch}, the best"));
        }
        let told = metrics.iter().filter(|(name, _)| !matches!(name.as_str(), "epoch" | "steps" | "samples"));
        told.for_each(|(name, value)| {
            row(name, value.as_f64().map_or_else(|| value.to_string(), |v| format!("{v:.6}")))
        });
    }
    if summary.batches > 0 {
        row("elapsed", format!("{:.2} s, {:.0} samples/s", summary.elapsed_s, summary.samples_per_s));
    } else {
        row("elapsed", "nothing was left to train; give more --epochs, or --restart to begin anew".into());
    }
    if let Some(hash) = &summary.content_hash {
        row("content hash", hash.clone());
    }
    stdout::write(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, FromArgMatches};

    fn parsed(flags: &[&str]) -> Plan {
        let command = TrainArgs::augment_args(clap::Command::new("train"));
        let arguments = ["train"].iter().chain(flags).chain(&["log.csv", "--model-dir", "m"]);
        let matches = command.try_get_matches_from(arguments).expect("it is right");
        plan(&TrainArgs::from_arg_matches(&matches).expect("clap checked it")).expect("it is right")
    }

    #[test]
    fn without_flags_the_hyperparameters_are_the_contracts() {
        for (name, subject) in [
            ("embeddings", Subject::Embeddings),
            ("reinforce", Subject::Policy(Algorithm::Reinforce)),
            ("ddpg", Subject::Policy(Algorithm::Ddpg)),
            ("bcq", Subject::Policy(Algorithm::Bcq)),
        ] {
            let plan = parsed(&[name]);
            assert_eq!(plan.parameters, Hyperparameters::new(subject), "{name}");
            assert_eq!(plan.parameters.subject(), subject);
            assert_eq!(plan.epochs, if name == "embeddings" { 10 } else { 100 });
            assert_eq!(plan.parameters.batch, if name == "reinforce" { 128 } else { 2048 });
            assert_eq!(plan.parameters.lr, if name == "embeddings" { 5e-4 } else { 1e-5 });
        }
    }

    #[test]
    fn flags_are_heard() {
        let plan =
            parsed(&["bcq", "--lambda", "0.5", "--patience", "3", "--device", "cuda:1", "--tensorboard", "none"]);
        let Own::Bcq(_, own) = &plan.parameters.own else { panic!("{plan:?}") };
        assert_eq!((own.lambda, plan.patience, plan.parameters.held_out), (0.5, Some(3), HELD_OUT));
        assert_eq!((plan.device, plan.tensorboard), (Device::Cuda(1), None));
        let plan = parsed(&["embeddings", "--method", "spectral", "--dim", "8"]);
        assert_eq!(plan.parameters.own, Own::Spectral(SpectralParameters { dim: 8 }));
        let plan = parsed(&["ddpg", "--checkpoint", "500ms", "--behavior-weight", "4"]);
        assert!(
            matches!(&plan.parameters.own, Own::Ddpg(_, own) if own.behavior_weight.to_bits() == 4.0_f64.to_bits())
        );
        assert_eq!(plan.checkpoint, std::time::Duration::from_millis(500));
    }
}
