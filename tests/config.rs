//! The configuration: its defaults, its layers, and every way in which it can be wrong.

#![allow(clippy::unwrap_used)]

use eddyline::config::{
    Algorithm, Columns, Config, ConfigErrors, DEFAULT_TOML, Exclude, Format, Header, Ids, Late, Layers, Reward,
    TimeFormat, TimeUnit,
};
use proptest::prelude::*;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Layers of one file with this content.
fn file(content: &str) -> (tempfile::TempDir, Layers) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.toml");
    std::fs::write(&path, content).unwrap();
    let layers = Layers { files: vec![path], ..Layers::default() };
    (dir, layers)
}

fn sets(sets: &[(&str, &str)]) -> Layers {
    let sets = sets.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Layers { sets, ..Layers::default() }
}

fn variables(variables: &[(&str, &str)]) -> Layers {
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
    Layers { variables, ..Layers::default() }
}

fn loaded(layers: &Layers) -> Config {
    Config::load(layers).unwrap().config
}

/// The errors, one a line, with the file's directory left out.
fn refused(layers: &Layers) -> String {
    let ConfigErrors(errors) = Config::load(layers).map(|loaded| loaded.to_toml()).expect_err("it is wrong");
    let dir = layers.files.first().and_then(|file| file.parent()).map(|dir| format!("{}/", dir.display()));
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n").replace(dir.as_deref().unwrap_or("\0"), "")
}

fn preset(name: &str) -> Layers {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
    Layers { files: vec![path], ..Layers::default() }
}

#[test]
fn defaults_are_those_of_the_contract() {
    let config = Config::default();
    assert_eq!(config.time.lateness.ms(), 10_000);
    assert_eq!(config.time.late, Late::Drop);
    assert_eq!(config.time.tick.ms(), 20_000);
    assert_eq!(config.time.idle.ms(), 30_000);
    assert_eq!(config.popular.window.ms(), 3_600_000);
    assert_eq!(config.popular.slide.ms(), 80_000);
    assert_eq!(config.popular.top, 10);
    assert_eq!(config.popular.weights, [1, 1, 1, 1]);
    assert_eq!(config.recent.length, None);
    assert_eq!(config.sequence_length(None).unwrap(), 10);
    assert!(!config.popular.arrange && !config.recent.arrange);
    assert_eq!(config.recommend.n, 8);
    assert_eq!(config.recommend.min_history, 1);
    assert_eq!(config.recommend.exclude, Exclude::None);
    assert_eq!(config.recommend.reward, Reward::Count);
    assert_eq!(config.model.dir, None);
    assert_eq!(config.model.algorithm, Algorithm::Ddpg);
    assert_eq!(config.model.seed, None);
    assert_eq!(config.source.format, Format::Csv);
    assert_eq!(config.source.columns, Columns::Events);
    assert_eq!(config.source.delimiter, b',');
    assert_eq!(config.source.header, Header::Auto);
    assert_eq!(config.source.time_unit, TimeUnit::Seconds);
    assert_eq!(config.source.max_jump, None);
    assert_eq!(config.behaviors.names, ["pv", "cart", "fav", "buy"]);
    assert_eq!(config.behaviors.rewards, [1, 2, 2, 3]);
    assert_eq!(config.output.ids, Ids::Raw);
    assert_eq!(config.output.time_format, TimeFormat::Date);
    assert_eq!(config.output.time_zone, "UTC");
    assert!(!config.output.int32);
    assert_eq!(config.output.consumed_max, 10_000);
    assert_eq!(config.output.redis_prefix, "eddyline:");
}

#[test]
fn every_key_is_commented_and_documented() {
    let documentation =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md")).unwrap();
    let mut section = "";
    let mut before = "";
    let mut keys = 0;
    for line in DEFAULT_TOML.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            assert!(before.starts_with("# "), "{section}.{key} has no comment");
            assert!(documentation.contains(&format!("`{section}.{key}`")), "{section}.{key} is not documented");
            keys += 1;
        }
        before = line;
    }
    assert_eq!(keys, 70);
}

#[test]
fn the_flinkrl_preset_has_the_old_values() {
    let config = loaded(&preset("flinkrl.toml"));
    assert_eq!(config.time.lateness.ms(), 10_000);
    assert_eq!(config.time.tick.ms(), 20_000);
    assert_eq!(config.popular.window.ms(), 3_600_000);
    assert_eq!(config.popular.slide.ms(), 80_000);
    assert_eq!(config.popular.top, 17);
    assert_eq!(config.recommend.n, 8);
    assert_eq!(config.recommend.min_history, 10);
    assert_eq!(config.model.algorithm, Algorithm::Ddpg);
    assert_eq!(config.source.columns, Columns::Flinkrl);
    assert_eq!(config.source.time_unit, TimeUnit::Seconds);
    assert_eq!(config.output.ids, Ids::Model);
    assert_eq!(config.output.time_format, TimeFormat::Pattern("yyyy-MM-dd HH:mm:ss".into()));
    assert!(config.output.int32);
    assert_eq!(config.output.redis_prefix, "");
}

#[test]
fn the_low_latency_preset_has_the_contracts_values() {
    let config = loaded(&preset("low-latency.toml"));
    assert_eq!(config.time.tick.ms(), 100);
    assert_eq!(config.time.lateness.ms(), 0);
    assert_eq!(config.time.late, Late::Admit);
}

#[test]
fn each_layer_lies_over_the_one_below() {
    let (_dir, mut layers) = file("[recommend]\nn = 2\n");
    assert_eq!(loaded(&layers).recommend.n, 2);
    let second = layers.files[0].with_file_name("second.toml");
    std::fs::write(&second, "recommend.n = 3").unwrap();
    layers.files.push(second);
    assert_eq!(loaded(&layers).recommend.n, 3);
    layers.variables = variables(&[("EDDYLINE_RECOMMEND__N", "4")]).variables;
    assert_eq!(loaded(&layers).recommend.n, 4);
    layers.sets = sets(&[("recommend.n", "5"), ("recommend.n", "6")]).sets;
    assert_eq!(loaded(&layers).recommend.n, 6);
    layers.flags = vec![("--n", "recommend.n", "7".into())];
    let config = Config::load(&layers).unwrap();
    assert_eq!(config.config.recommend.n, 7);
    assert!(config.to_toml().contains("n = 7  # --n\n"));
}

#[test]
fn text_takes_the_type_of_its_key() {
    let config = loaded(&variables(&[
        ("EDDYLINE_POPULAR__WEIGHTS", "1,2, 2,3"),
        ("EDDYLINE_OUTPUT__REDIS_PREFIX", "5"),
        ("EDDYLINE_SOURCE__HEADER", "true"),
        ("EDDYLINE_SOURCE__DELIMITER", "\\t"),
        ("EDDYLINE_SOURCE__COLUMNS", "time,user,-,item"),
        ("EDDYLINE_MODEL__SEED", "7"),
        ("EDDYLINE_MODEL__DIR", "models/new"),
        ("EDDYLINE_RECENT__LENGTH", "5"),
        ("EDDYLINE_SOURCE__MAX_JUMP", "1d"),
        ("EDDYLINE_TIME__LATENESS", "0"),
    ]));
    assert_eq!(config.popular.weights, [1, 2, 2, 3]);
    assert_eq!(config.output.redis_prefix, "5");
    assert_eq!(config.source.header, Header::Present);
    assert_eq!(config.source.delimiter, b'\t');
    assert_eq!(config.source.columns.to_string(), "time,user,-,item");
    assert_eq!(config.model.seed, Some(7));
    assert_eq!(config.model.dir, Some(PathBuf::from("models/new")));
    assert_eq!(config.recent.length, Some(5));
    assert_eq!(config.source.max_jump.unwrap().ms(), 86_400_000);
    assert_eq!(config.time.lateness.ms(), 0);
}

#[test]
fn variables_of_others_are_left_alone() {
    let others =
        [("EDDYLINE_PORT_8000_TCP_ADDR", "10.0.0.1"), ("EDDYLINE_LOG", "debug"), ("PATH", "/bin"), ("EDDYLINE", "")];
    assert_eq!(loaded(&variables(&others)), Config::default());
}

#[test]
fn unknown_keys_name_their_place_and_the_likeliest_key() {
    let (_dir, layers) = file("[time]\ntick = \"20s\"\n\n[popular]\nwindw = \"60m\"\n");
    assert_eq!(refused(&layers), "shop.toml:5: unknown key popular.windw; did you mean popular.window?");
    let (_dir, layers) = file("[time]\nslide = \"80s\"\n");
    assert_eq!(refused(&layers), "shop.toml:2: unknown key time.slide; did you mean popular.slide?");
    let (_dir, layers) = file("lateness = \"10s\"\n");
    assert_eq!(refused(&layers), "shop.toml:1: unknown key lateness; did you mean time.lateness?");
    let (_dir, layers) = file("[kafka]\nzzzzzzzz = 1\n");
    assert_eq!(refused(&layers), "shop.toml:2: unknown key kafka.zzzzzzzz");
    let layers = sets(&[("recomend.n", "3")]);
    assert_eq!(refused(&layers), "--set: unknown key recomend.n; did you mean recommend.n?");
    for (name, right) in [
        ("EDDYLINE_TIME__LATENES", "EDDYLINE_TIME__LATENESS"),
        ("EDDYLINE_TIME_LATENESS", "EDDYLINE_TIME__LATENESS"),
        ("EDDYLINE_OUTPUT__TIME__ZONE", "EDDYLINE_OUTPUT__TIME_ZONE"),
        ("EDDYLINE_time__lateness", "EDDYLINE_TIME__LATENESS"),
    ] {
        let expected = format!("environment variable {name}: unknown key {name}; did you mean {right}?");
        assert_eq!(refused(&variables(&[(name, "10s")])), expected);
    }
}

#[test]
fn sections_are_tables() {
    for content in ["time = 5\n", "[[time]]\ntick = \"20s\"\n"] {
        let (_dir, layers) = file(content);
        assert!(refused(&layers).starts_with("shop.toml:1: unknown key time"), "{}", refused(&layers));
    }
}

#[test]
fn files_that_cannot_be_read_or_parsed_are_named() {
    let missing = Layers { files: vec!["/nowhere/shop.toml".into()], ..Layers::default() };
    assert!(refused(&missing).starts_with("can't read the configuration shop.toml: No such file"));
    let (_dir, layers) = file("[time]\ntick = 20s\n");
    assert!(refused(&layers).starts_with("shop.toml:2: not TOML: "), "{}", refused(&layers));
    let (_dir, layers) = file("[time]\ntick = \"20s\"\ntick = \"10s\"\n");
    assert!(refused(&layers).starts_with("shop.toml:3: not TOML: duplicate key"), "{}", refused(&layers));
    let (dir, layers) = file("");
    std::fs::write(dir.path().join("shop.toml"), b"\xff\xfe").unwrap();
    assert!(refused(&layers).contains("UTF-8"), "{}", refused(&layers));
    let (_dir, layers) = file("\u{feff}[recommend]\r\nn = 3\r\n");
    assert_eq!(loaded(&layers).recommend.n, 3);
}

#[test]
fn wrong_values_name_key_value_and_what_is_allowed() {
    let duration = "expected a duration such as \"250ms\", \"10s\" or \"60m\"";
    for (content, expected) in [
        ("time.tick = 20", format!("time.tick = 20: {duration}, and not zero")),
        ("time.tick = \"0s\"", format!("time.tick = \"0s\": {duration}, and not zero")),
        ("time.tick = \"20 s\"", format!("time.tick = \"20 s\": {duration}, and not zero")),
        ("time.lateness = -1", format!("time.lateness = -1: {duration}")),
        ("time.lateness = 1e400", format!("time.lateness = inf: {duration}")),
        ("time.late = \"keep\"", "time.late = \"keep\": expected \"drop\" or \"admit\"".into()),
        ("popular.slide = 0", format!("popular.slide = 0: {duration}, and not zero")),
        ("popular.top = 0", "popular.top = 0: expected a whole number from 1 to 10000".into()),
        ("popular.top = 10001", "popular.top = 10001: expected a whole number from 1 to 10000".into()),
        ("popular.top = \"10\"", "popular.top = \"10\": expected a whole number from 1 to 10000".into()),
        (
            "popular.top = 99999999999999999999",
            "popular.top = \"99999999999999999999\": expected a whole number from 1 to 10000".into(),
        ),
        (
            "popular.weights = [1, -2, 2, 3]",
            "popular.weights = [1, -2, 2, 3]: expected a list of whole numbers from 0 to 1000000, such as [1, 2, 2, 3]"
                .into(),
        ),
        ("recent.length = 0", "recent.length = 0: expected \"auto\" or a whole number from 1 to 1000".into()),
        ("train.epochs = 0", "train.epochs = 0: expected \"auto\" or a whole number from 1 to 4294967295".into()),
        ("train.lr = 0", "train.lr = 0: expected \"auto\" or a number above 0".into()),
        ("train.lr = \"1e-3\"", "train.lr = \"1e-3\": expected \"auto\" or a number above 0".into()),
        ("train.weight_clip = nan", "train.weight_clip = nan: expected a number above 0".into()),
        ("train.batch = 3", "train.batch = 3: expected \"auto\" or a whole number from 4 to 16777216".into()),
        ("train.seed = -1", "train.seed = -1: expected a whole number from 0 to 2^63-1".into()),
        ("train.gamma = 1.5", "train.gamma = 1.5: expected a number from 0 to 1".into()),
        ("train.kl_weight = -0.5", "train.kl_weight = -0.5: expected a number from 0 on".into()),
        ("train.device = \"gpu\"", "train.device = \"gpu\": expected \"cpu\", \"cuda\" or \"cuda:N\"".into()),
        ("train.method = \"svd\"", "train.method = \"svd\": expected \"dssm\" or \"spectral\"".into()),
        ("popular.arrange = 1", "popular.arrange = 1: expected true or false".into()),
        ("recent.arrange = 1", "recent.arrange = 1: expected true or false".into()),
        ("recommend.n = 1001", "recommend.n = 1001: expected a whole number from 1 to 1000".into()),
        ("recommend.min_history = 0", "recommend.min_history = 0: expected a whole number from 1 to 1000".into()),
        ("recommend.exclude = \"all\"", "recommend.exclude = \"all\": expected \"none\" or \"recent\"".into()),
        ("model.dir = \"\"", "model.dir = \"\": expected \"none\" or the path of a directory".into()),
        (
            "model.algorithm = \"dqn\"",
            "model.algorithm = \"dqn\": expected \"reinforce\" or \"ddpg\" or \"bcq\"".into(),
        ),
        ("model.seed = -1", "model.seed = -1: expected \"none\" or a whole number from 0 to 2^63-1".into()),
        ("source.format = \"xml\"", "source.format = \"xml\": expected \"csv\" or \"json\"".into()),
        ("source.header = \"yes\"", "source.header = \"yes\": expected \"auto\", true or false".into()),
        ("source.time_unit = \"us\"", "source.time_unit = \"us\": expected \"s\" or \"ms\"".into()),
        (
            "source.delimiter = \"::\"",
            "source.delimiter = \"::\": expected one ASCII character that is no letter, digit, quote or line end"
                .into(),
        ),
        (
            "source.max_jump = \"0s\"",
            "source.max_jump = \"0s\": expected \"off\" or a duration such as \"1d\", and not zero".into(),
        ),
        (
            "output.time_zone = \"Mars/Olympus\"",
            "output.time_zone = \"Mars/Olympus\": expected an IANA time zone such as \"UTC\" or \"Asia/Shanghai\""
                .into(),
        ),
        ("output.consumed_max = 0", "output.consumed_max = 0: expected a whole number from 1 to 1000000".into()),
        (
            "mysql.url = \"postgres://db\"",
            "mysql.url = \"postgres://db\": expected \"none\", \"file:PATH\", or an address such as \
             \"mysql://user:password@host:3306/database\""
                .into(),
        ),
    ] {
        let (_dir, layers) = file(content);
        assert_eq!(refused(&layers), format!("shop.toml:1: {expected}"));
    }
    for content in ["source.columns = \"user,item\"", "behaviors.names = []", "behaviors.names = [\"pv\", \"pv\"]"] {
        let (_dir, layers) = file(content);
        assert!(refused(&layers).starts_with(&format!("shop.toml:1: {content}: expected ")), "{}", refused(&layers));
    }
}

#[test]
fn values_that_do_not_fit_each_other_name_both() {
    for (wrong, expected) in [
        (
            vec![("popular.window", "61m")],
            "popular.window = \"61m\" (--set) is not a multiple of popular.slide = \"80s\" (the default); the nearest: \
             1h, 3680s",
        ),
        (
            vec![("time.tick", "30s")],
            "popular.slide = \"80s\" (the default) is not a multiple of time.tick = \"30s\" (--set); the nearest: 1m, 90s",
        ),
        (
            vec![("popular.window", "10s")],
            "popular.window = \"10s\" (--set) is not a multiple of popular.slide = \"80s\" (the default); the nearest: 80s",
        ),
        (
            vec![("popular.weights", "1,2")],
            "popular.weights = [1, 2] (--set) has 2 numbers for 4 behaviours (behaviors.names: pv, cart, fav, buy)",
        ),
        (
            vec![("popular.weights", "0,0,0,0")],
            "popular.weights = [0, 0, 0, 0] (--set) counts nothing; give at least one behaviour a weight over 0",
        ),
        (
            vec![("behaviors.names", "click")],
            "behaviors.rewards = [1, 2, 2, 3] (the default) has 4 numbers for 1 behaviour (behaviors.names: click)",
        ),
        (
            vec![("recommend.min_history", "11")],
            "recommend.min_history = 11 (--set) is more than a sequence can have, so nobody would get a recommendation: \
             recent.length = \"auto\" (the default), which is 10 without a model",
        ),
        (
            vec![("source.header", "false"), ("source.columns", "user=u,item=i,time=t")],
            "source.header = false (--set) leaves no header in which to find the column \"u\" of source.columns",
        ),
        (
            vec![("source.columns", "flinkrl"), ("behaviors.names", "click"), ("behaviors.rewards", "1")],
            "source.columns = \"flinkrl\" (--set) has no behavior, so each event is a \"pv\", which behaviors.names lacks",
        ),
        (
            vec![("source.delimiter", "-"), ("behaviors.names", "add-to-cart"), ("behaviors.rewards", "1")],
            "source.delimiter = \"-\" (--set) stands within the behaviour \"add-to-cart\", which could then never be read",
        ),
    ] {
        assert_eq!(refused(&sets(&wrong)), expected);
    }
}

#[test]
fn one_run_finds_every_error() {
    let (_dir, mut layers) = file("[time]\ntick = 20\nlatenes = 1\n[recommend]\nn = 0\n");
    layers.variables = variables(&[("EDDYLINE_MODEL__ALGORITHM", "dqn")]).variables;
    assert_eq!(refused(&layers).lines().count(), 4, "{}", refused(&layers));
    let shown = Config::load(&layers).map(|loaded| loaded.to_toml()).unwrap_err().to_string();
    assert!(shown.ends_with("(and 3 more; `eddyline check` lists them all)"), "{shown}");
    assert!(!shown.contains('\n'));
}

#[test]
fn what_is_shown_is_a_configuration_again() {
    let changed = sets(&[
        ("time.lateness", "90s"),
        ("popular.weights", "[1, 2, 2, 3]"),
        ("source.columns", "{ user = \"u\", item = \"i\", time = \"t\" }"),
        ("source.delimiter", "\t"),
        ("source.max_jump", "1d"),
        ("recent.length", "12"),
        ("model.dir", "a \"b\""),
        ("model.seed", "3"),
        ("output.time_format", "yyyy"),
        ("output.redis_prefix", "5"),
    ]);
    let first = Config::load(&changed).unwrap();
    let (_dir, again) = file(&first.to_toml());
    assert_eq!(loaded(&again), first.config);
    assert!(first.to_toml().contains("lateness = \"90s\"  # --set\n"));
    let (_dir, defaults) = file(DEFAULT_TOML);
    assert_eq!(loaded(&defaults), Config::default());
}

#[test]
fn secrets_do_not_show() {
    let layers = sets(&[
        ("mongodb.uri", "mongodb://shop:hunter2@db/?authSource=hunter2"),
        ("mysql.url", "mysql://shop:hunter2@db:3306/shop"),
        ("redis.url", "rediss://:hunter2@cache/1"),
        ("kafka.properties", "{ \"sasl.username\" = \"shop\", \"sasl.password\" = \"hunter2\" }"),
    ]);
    let loaded = Config::load(&layers).unwrap();
    assert_eq!(loaded.config.kafka.properties["sasl.password"].reveal().unwrap(), "hunter2");
    let shown = format!("{}{loaded:?}{}", loaded.to_toml(), serde_json::to_string(&loaded.config).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(loaded.to_toml().contains("url = \"mysql://shop:***@db:3306/shop\"  # --set\n"), "{shown}");
}

#[test]
fn the_fingerprint_tells_results_apart_and_nothing_else() {
    let fingerprint = |pairs: &[(&str, &str)]| loaded(&sets(pairs)).fingerprint(10);
    let default = fingerprint(&[]);
    assert_eq!(default.len(), 64);
    let same: [&[(&str, &str)]; 13] = [
        &[("time.lateness", "10000ms")],
        &[("popular.weights", "1,1,1,1")],
        &[("time.idle", "1s")],
        &[("popular.arrange", "true")],
        &[("recent.arrange", "true")],
        &[("recent.length", "10")],
        &[("model.dir", "elsewhere")],
        &[("output.redis_prefix", "")],
        &[("source.columns", "events")],
        &[("kafka.topic", "other")],
        &[("state.dir", "elsewhere")],
        &[("train.lr", "0.5")],
        &[("mysql.url", "mysql://root@localhost/other")],
    ];
    for pairs in same {
        assert_eq!(fingerprint(pairs), default, "{pairs:?}");
    }
    let other: [&[(&str, &str)]; 23] = [
        &[("time.lateness", "11s")],
        &[("time.late", "admit")],
        &[("time.tick", "40s")],
        &[("popular.window", "80s")],
        &[("popular.slide", "40s")],
        &[("popular.top", "9")],
        &[("popular.weights", "1,1,1,2")],
        &[("recommend.n", "9")],
        &[("recommend.min_history", "2")],
        &[("recommend.exclude", "recent")],
        &[("recommend.reward", "weighted")],
        &[("model.algorithm", "bcq")],
        &[("model.seed", "0")],
        &[("source.columns", "time,user,item")],
        &[("source.delimiter", ";")],
        &[("source.header", "true")],
        &[("source.time_unit", "ms")],
        &[("source.max_jump", "1d")],
        &[("behaviors.names", "pv,cart,fav,purchase")],
        &[("behaviors.rewards", "1,2,2,4")],
        &[("output.ids", "model")],
        &[("output.time_format", "yyyy")],
        &[("output.consumed_max", "9")],
    ];
    let mut seen = vec![default];
    for pairs in other {
        let fingerprint = fingerprint(pairs);
        assert!(!seen.contains(&fingerprint), "{pairs:?}");
        seen.push(fingerprint);
    }
    assert!(!seen.contains(&Config::default().fingerprint(11)));
}

#[test]
fn a_models_history_sets_the_length_and_must_agree_with_it() {
    let auto = Config::default();
    assert_eq!(auto.sequence_length(Some(5)).unwrap(), 5);
    let set = loaded(&sets(&[("recent.length", "7")]));
    assert_eq!(set.sequence_length(None).unwrap(), 7);
    assert_eq!(set.sequence_length(Some(7)).unwrap(), 7);
    let message = set.sequence_length(Some(10)).unwrap_err().to_string();
    assert!(message.starts_with("recent.length = 7, but the model was trained with sequences of 10"), "{message}");
    let late = loaded(&sets(&[("recommend.min_history", "11"), ("model.dir", "model")]));
    assert_eq!(late.sequence_length(Some(11)).unwrap(), 11);
    let message = late.sequence_length(Some(10)).unwrap_err().to_string();
    assert!(message.starts_with("recommend.min_history = 11 is more than a sequence can have (10)"), "{message}");
}

proptest! {
    /// Whatever stands in a file or a variable, loading ends with a configuration or with errors of one line each.
    #[test]
    fn nothing_makes_it_panic(content in "(\\[time\\]\n)?\\PC{0,40}(\n\\PC{0,40}){0,3}", value in "\\PC{0,20}", key in 0usize..70) {
        let keys: Vec<String> = keys();
        prop_assert_eq!(keys.len(), 70);
        let (_dir, mut layers) = file(&content);
        layers.sets = vec![(keys[key].clone(), value)];
        if let Err(ConfigErrors(errors)) = Config::load(&layers) {
            prop_assert!(!errors.is_empty());
            for error in errors {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}

fn keys() -> Vec<String> {
    let table: toml::Table = DEFAULT_TOML.parse().unwrap();
    let of = |(section, keys): (&String, &toml::Value)| -> Vec<String> {
        keys.as_table().unwrap().keys().map(|key| format!("{section}.{key}")).collect()
    };
    table.iter().flat_map(of).collect()
}
