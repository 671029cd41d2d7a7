//! From values as they were given to the typed [`Config`].

use super::columns::{Columns, Header};
use super::duration::Duration;
use super::error::ConfigError;
use super::given::Given;
use super::sections::{
    BehaviorSection, Config, KafkaSection, ModelSection, OutputSection, PopularSection, RecentSection,
    RecommendSection, ServeSection, SourceSection, StateSection, StoreSections, TimeSection, TrainSection,
};
use super::settings::Settings;
use super::time_format::{TimeFormat, time_zone};
use super::training::TensorBoard;
use super::words::{Algorithm, EmbeddingLoss, EmbeddingMethod, Exclude, Format, Ids, Late, Reward, TimeUnit, Word};
use crate::secret::Secret;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// Bounds on weights, so that no sum of them can overflow.
const WEIGHT_MAX: u32 = 1_000_000;
const REWARD_BOUNDS: RangeInclusive<i64> = -1_000_000..=1_000_000;
/// A behaviour is one byte inside the program.
const BEHAVIORS_MAX: usize = 256;
/// As MySQL's `record.behavior` has room for.
const BEHAVIOR_LENGTH_MAX: usize = 16;

const DURATION: &str = "a duration such as \"250ms\", \"10s\" or \"60m\"";
const DURATION_POSITIVE: &str = "a duration such as \"250ms\", \"10s\" or \"60m\", and not zero";
const TRUTH: &str = "true or false";

/// Takes settings out one by one; what cannot be read is an error, and its default goes on in its place, so that one run
/// finds every error.
pub(super) struct Reader<'a> {
    pub(super) settings: &'a mut Settings,
    pub(super) errors: &'a mut Vec<ConfigError>,
}

impl Reader<'_> {
    pub(super) fn config(&mut self) -> Config {
        Config {
            time: self.time(),
            popular: self.popular(),
            recent: self.recent(),
            recommend: self.recommend(),
            model: self.model(),
            source: self.source(),
            behaviors: self.behaviors(),
            output: self.output(),
            train: self.train(),
            state: self.state(),
            kafka: self.kafka(),
            stores: self.stores(),
            serve: self.serve(),
        }
    }

    fn time(&mut self) -> TimeSection {
        TimeSection {
            lateness: self.get("time.lateness", DURATION, duration),
            late: self.word("time.late", Late::ALL),
            tick: self.get("time.tick", DURATION_POSITIVE, duration_positive),
            idle: self.get("time.idle", DURATION_POSITIVE, duration_positive),
        }
    }

    fn popular(&mut self) -> PopularSection {
        let weights = format!("a list of whole numbers from 0 to {WEIGHT_MAX}, such as [1, 2, 2, 3]");
        PopularSection {
            window: self.get("popular.window", DURATION_POSITIVE, duration_positive),
            slide: self.get("popular.slide", DURATION_POSITIVE, duration_positive),
            top: self.count("popular.top", 1..=10_000),
            weights: self.get("popular.weights", &weights, |given| {
                let weight =
                    |given: &Given| u32::try_from(given.integer()?).ok().filter(|weight| *weight <= WEIGHT_MAX);
                given.list()?.iter().map(weight).collect()
            }),
            arrange: self.get("popular.arrange", TRUTH, Given::boolean),
        }
    }

    fn recent(&mut self) -> RecentSection {
        RecentSection {
            length: self.get("recent.length", "\"auto\" or a whole number from 1 to 1000", |given| {
                word_or("auto", given, |given| whole(given, &(1..=1_000)))
            }),
            arrange: self.get("recent.arrange", TRUTH, Given::boolean),
        }
    }

    fn recommend(&mut self) -> RecommendSection {
        RecommendSection {
            n: self.count("recommend.n", 1..=1_000),
            min_history: self.count("recommend.min_history", 1..=1_000),
            exclude: self.word("recommend.exclude", Exclude::ALL),
            reward: self.word("recommend.reward", Reward::ALL),
        }
    }

    fn model(&mut self) -> ModelSection {
        ModelSection {
            dir: self.get("model.dir", "\"none\" or the path of a directory", |given| {
                let path = given.string().filter(|path| !path.is_empty())?;
                Some((path != "none").then(|| PathBuf::from(path)))
            }),
            algorithm: self.word("model.algorithm", Algorithm::ALL),
            seed: self.get("model.seed", "\"none\" or a whole number from 0 to 2^63-1", |given| {
                word_or("none", given, |given| u64::try_from(given.integer()?).ok())
            }),
        }
    }

    fn source(&mut self) -> SourceSection {
        const COLUMNS: &str = "\"events\", \"flinkrl\", \"tianchi\", a list such as \"user,item,behavior,time\", or \
                               names of the header such as \"user=userId,item=movieId,time=timestamp\"";
        const DELIMITER: &str = "one ASCII character that is no letter, digit, quote or line end";
        SourceSection {
            format: self.word("source.format", Format::ALL),
            columns: self.get("source.columns", COLUMNS, Columns::read),
            delimiter: self.get("source.delimiter", DELIMITER, delimiter) as u8,
            header: self.get("source.header", "\"auto\", true or false", Header::read),
            time_unit: self.word("source.time_unit", TimeUnit::ALL),
            max_jump: self.get("source.max_jump", "\"off\" or a duration such as \"1d\", and not zero", |given| {
                word_or("off", given, duration_positive)
            }),
        }
    }

    fn behaviors(&mut self) -> BehaviorSection {
        const NAMES: &str = "a list of 1 to 256 different names of at most 16 characters each, without blanks, commas and \
                             quotes, such as [\"pv\", \"buy\"]";
        const REWARDS: &str = "a list of whole numbers from -1000000 to 1000000, such as [1, 2, 2, 3]";
        BehaviorSection {
            names: self.get("behaviors.names", NAMES, behavior_names),
            rewards: self.get("behaviors.rewards", REWARDS, |given| {
                let reward = |given: &Given| given.integer().filter(|reward| REWARD_BOUNDS.contains(reward));
                given.list()?.iter().map(reward).collect()
            }),
        }
    }

    fn output(&mut self) -> OutputSection {
        const TIME_FORMAT: &str =
            "\"date\" or a pattern of yyyy, MM, dd, HH, mm, ss and SSS, such as \"yyyy-MM-dd HH:mm:ss\"";
        const TIME_ZONE: &str = "an IANA time zone such as \"UTC\" or \"Asia/Shanghai\"";
        OutputSection {
            ids: self.word("output.ids", Ids::ALL),
            time_format: self.get("output.time_format", TIME_FORMAT, TimeFormat::read),
            time_zone: self
                .get("output.time_zone", TIME_ZONE, |given| given.string().filter(|name| time_zone(name).is_some())),
            int32: self.get("output.int32", TRUTH, Given::boolean),
            consumed_max: self.count("output.consumed_max", 1..=1_000_000),
            redis_prefix: self.get("output.redis_prefix", "text", Given::string),
        }
    }

    fn train(&mut self) -> TrainSection {
        const POSITIVE: &str = "a number above 0";
        const NOT_NEGATIVE: &str = "a number from 0 on";
        const SHARE: &str = "a number from 0 to 1";
        const DEVICE: &str = "\"cpu\", \"cuda\" or \"cuda:N\"";
        const TENSORBOARD: &str = "\"auto\", \"none\" or the path of a directory";
        TrainSection {
            epochs: self.count_or("auto", "train.epochs", 1..=u32::MAX),
            lr: self.get("train.lr", &format!("\"auto\" or {POSITIVE}"), |given| word_or("auto", given, positive)),
            batch: self.count_or("auto", "train.batch", 4..=1 << 24),
            seed: self.get("train.seed", "a whole number from 0 to 2^63-1", |given| given.integer()?.try_into().ok()),
            patience: self.count_or("off", "train.patience", 1..=u32::MAX),
            device: self.get("train.device", DEVICE, |given| given.string()?.parse().ok()),
            threads: self.count_or("auto", "train.threads", 1..=1024),
            checkpoint: self.get("train.checkpoint", DURATION, duration),
            tensorboard: self.get("train.tensorboard", TENSORBOARD, |given| TensorBoard::read(given.string()?)),
            method: self.word("train.method", EmbeddingMethod::ALL),
            dim: self.count("train.dim", 1..=1024),
            loss: self.word("train.loss", EmbeddingLoss::ALL),
            history: self.count("train.history", 1..=1000),
            hidden: self.count("train.hidden", 1..=4096),
            gamma: self.get("train.gamma", SHARE, share),
            top_k: self.count("train.top_k", 1..=10_000),
            weight_clip: self.get("train.weight_clip", POSITIVE, positive),
            session_gap: self.get("train.session_gap", DURATION, duration),
            tau: self.get("train.tau", &format!("\"auto\" or {SHARE}"), |given| word_or("auto", given, share)),
            behavior_weight: self.get("train.behavior_weight", NOT_NEGATIVE, not_negative),
            lambda: self.get("train.lambda", SHARE, share),
            actions: self.count("train.actions", 1..=1000),
            kl_weight: self.get("train.kl_weight", NOT_NEGATIVE, not_negative),
        }
    }

    fn state(&mut self) -> StateSection {
        const REMOTE: &str = "\"none\", or an object store's address such as \"s3://bucket/prefix\"";
        const REMOTE_OPTIONS: &str =
            "a table of settings of the client, such as { endpoint = \"http://127.0.0.1:9000\" }";
        StateSection {
            dir: self.get("state.dir", "the path of a directory", path),
            remote: self.get("state.remote", REMOTE, |given| word_or("none", given, remote)),
            remote_options: self.get("state.remote_options", REMOTE_OPTIONS, properties),
            snapshot_interval: self.get("state.snapshot_interval", DURATION_POSITIVE, duration_positive),
        }
    }

    fn kafka(&mut self) -> KafkaSection {
        const BROKERS: &str = "host:port, several divided by commas";
        const TOPIC: &str = "the name of a topic: 1 to 249 of A-Z, a-z, 0-9, \".\", \"_\" and \"-\"";
        const PROPERTIES: &str = "a table of librdkafka's properties, such as { \"security.protocol\" = \"ssl\" }";
        KafkaSection {
            brokers: self.get("kafka.brokers", BROKERS, filled),
            topic: self.get("kafka.topic", TOPIC, |given| given.string().filter(|name| is_topic(name))),
            group: self.get("kafka.group", "the name of a consumer group", filled),
            properties: self.get("kafka.properties", PROPERTIES, properties),
        }
    }

    fn stores(&mut self) -> StoreSections {
        const MONGODB: &str = "\"none\", \"file:PATH\", or an address such as \"mongodb://user:password@host:27017\"";
        const MYSQL: &str =
            "\"none\", \"file:PATH\", or an address such as \"mysql://user:password@host:3306/database\"";
        const REDIS: &str = "\"none\", \"file:PATH\", or an address such as \"redis://:password@host:6379/0\"";
        StoreSections {
            embedded: self.get("embedded.path", "\"none\" or the path of a file", |given| word_or("none", given, path)),
            mongodb_uri: self.address("mongodb.uri", MONGODB, &["mongodb://", "mongodb+srv://"]),
            mongodb_database: self.get("mongodb.database", "the name of a database", filled),
            mysql_url: self.address("mysql.url", MYSQL, &["mysql://"]),
            redis_url: self.address("redis.url", REDIS, &["redis://", "rediss://"]),
            redis_legacy_keys: self.get("redis.legacy_keys", TRUTH, Given::boolean),
        }
    }

    fn address(&mut self, key: &str, expected: &str, schemes: &[&str]) -> Option<Secret> {
        self.get(key, expected, |given| {
            word_or("none", given, |given| {
                let text = given.string()?;
                let fits = text.starts_with("file:") || schemes.iter().any(|scheme| text.starts_with(scheme));
                fits.then(|| Secret::new(text))
            })
        })
    }

    fn serve(&mut self) -> ServeSection {
        ServeSection {
            listen: self.get("serve.listen", "\"none\" or host:port", |given| {
                word_or("none", given, |given| given.string().filter(|text| text.contains(':')))
            }),
        }
    }

    /// Reads one key. Its setting then holds the value as the program understood it.
    ///
    /// # Panics
    /// If `config/default.toml` lacks the key or holds a wrong value for it; a test reads all of it.
    fn get<T: Serialize>(&mut self, key: &str, expected: &str, read: impl Fn(&Given) -> Option<T>) -> T {
        let setting = self.settings.get_mut(key).expect("every key has a default");
        if let Some(value) = read(&setting.given) {
            setting.understand(&value);
            return value;
        }
        self.errors.push(ConfigError::Value {
            origin: setting.origin.clone(),
            key: key.to_owned(),
            value: setting.given.to_string(),
            expected: expected.to_owned(),
        });
        read(&setting.default).expect("defaults are right")
    }

    fn word<T: Word + Serialize + std::fmt::Display>(&mut self, key: &str, all: &[T]) -> T {
        let words: Vec<String> = all.iter().map(|word| format!("\"{word}\"")).collect();
        self.get(key, &words.join(" or "), T::read)
    }

    fn count<T: Count>(&mut self, key: &str, bounds: RangeInclusive<T>) -> T {
        self.get(key, &expected(&bounds), |given| whole(given, &bounds))
    }

    /// `None` for `word`.
    fn count_or<T: Count>(&mut self, word: &str, key: &str, bounds: RangeInclusive<T>) -> Option<T> {
        let expected = format!("\"{word}\" or {}", expected(&bounds));
        self.get(key, &expected, |given| word_or(word, given, |given| whole(given, &bounds)))
    }
}

/// A whole number of some width.
trait Count: TryFrom<i64> + PartialOrd + std::fmt::Display + Serialize {}

impl<T: TryFrom<i64> + PartialOrd + std::fmt::Display + Serialize> Count for T {}

fn expected<T: Count>(bounds: &RangeInclusive<T>) -> String {
    format!("a whole number from {} to {}", bounds.start(), bounds.end())
}

fn whole<T: Count>(given: &Given, bounds: &RangeInclusive<T>) -> Option<T> {
    T::try_from(given.integer()?).ok().filter(|number| bounds.contains(number))
}

fn positive(given: &Given) -> Option<f64> {
    given.number().filter(|number| *number > 0.0)
}

fn not_negative(given: &Given) -> Option<f64> {
    given.number().filter(|number| *number >= 0.0)
}

fn share(given: &Given) -> Option<f64> {
    given.number().filter(|number| (0.0..=1.0).contains(number))
}

/// `None` for `word`, else what `read` makes of it.
fn word_or<T>(word: &str, given: &Given, read: impl Fn(&Given) -> Option<T>) -> Option<Option<T>> {
    match given.string() {
        Some(text) if text == word => Some(None),
        _ => read(given).map(Some),
    }
}

/// A bare 0 needs no unit.
fn duration(given: &Given) -> Option<Duration> {
    match given.integer() {
        Some(0) => Some(Duration::default()),
        Some(_) => None,
        None => given.string()?.parse().ok(),
    }
}

fn duration_positive(given: &Given) -> Option<Duration> {
    duration(given).filter(|duration| duration.ms() > 0)
}

fn delimiter(given: &Given) -> Option<char> {
    let text = match given.string()?.as_str() {
        "\\t" | "tab" => return Some('\t'),
        text => text.to_owned(),
    };
    let mut characters = text.chars();
    let delimiter = characters.next()?;
    let fits = delimiter == '\t' || (delimiter.is_ascii() && !delimiter.is_ascii_control());
    (characters.next().is_none() && fits && !delimiter.is_ascii_alphanumeric() && delimiter != '"').then_some(delimiter)
}

fn behavior_names(given: &Given) -> Option<Vec<String>> {
    let names = given.list()?.iter().map(Given::string).collect::<Option<Vec<String>>>()?;
    let fits = |name: &String| {
        let wrong = |character: char| character.is_whitespace() || character.is_control() || ",\"'".contains(character);
        !name.is_empty() && name.chars().count() <= BEHAVIOR_LENGTH_MAX && !name.contains(wrong)
    };
    let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
    let right = (1..=BEHAVIORS_MAX).contains(&names.len()) && distinct.len() == names.len() && names.iter().all(fits);
    right.then_some(names)
}

fn filled(given: &Given) -> Option<String> {
    given.string().filter(|text| !text.trim().is_empty())
}

fn path(given: &Given) -> Option<PathBuf> {
    filled(given).map(PathBuf::from)
}

/// As Kafka has it.
fn is_topic(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(fits)
}

fn remote(given: &Given) -> Option<String> {
    filled(given)
        .filter(|text| text.strip_prefix("s3://").is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')))
}

fn properties(given: &Given) -> Option<BTreeMap<String, Secret>> {
    let text = |value: &toml::Value| match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(_) | toml::Value::Boolean(_) | toml::Value::Float(_) => Some(value.to_string()),
        _ => None,
    };
    given.table()?.iter().map(|(name, value)| Some((name.clone(), Secret::new(text(value)?)))).collect()
}
