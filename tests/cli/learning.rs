//! Commands that prepare, train and measure models.

use super::*;
use std::collections::HashSet;

/// A log of 40 users with 8 events each, by time.
fn small_log() -> String {
    (0..8_u64)
        .flat_map(|at| {
            (0..40_u64).map(move |user| format!("{},{},pv,{}\n", user + 1, (user * at) % 15, at * 100 + user))
        })
        .collect()
}

#[test]
fn what_prepare_is_given_must_make_sense() {
    let dir = files(&[("log.csv", "1,2,pv,3\n1,3,pv,4\n"), ("rubbish.csv", "a,b\n"), ("user.csv", "1,0,20,1\n")]);
    let (out, at) = (within(&dir, "out"), |name| within(&dir, name));
    let usage = usage_error(&["prepare", &at("log.csv"), "--out", &out, "--light-events", "6-60"]);
    assert_eq!(usage, "--light-events must end before --heavy-events start: a user is in one group only");
    let range = usage_error(&["prepare", &at("log.csv"), "--out", &out, "--light-events", "9-8"]);
    assert!(range.contains("expected a range of at least 1 event, such as 6-50"), "{range}");
    let failure = |input: &str| one_error(&run(&["prepare", input, "--out", &out, "-q"]), 1);
    assert!(failure(&at("nowhere.csv")).ends_with("nowhere.csv: no such file; check the path"));
    let directory = dir.path().to_str().unwrap();
    assert!(failure(directory).contains("no user_behavior.csv in it"));
    let few = failure(&at("log.csv"));
    assert!(few.contains("no user is left: of 1 users 1 have fewer than 6 events"), "{few}");
    let rubbish = failure(&at("rubbish.csv"));
    assert!(rubbish.contains("none of its 1 lines is an event (") && rubbish.contains("rubbish.csv"), "{rubbish}");
    assert!(fs::read_dir(&out).map_or(0, |entries| entries.count()) == 0);
}

#[test]
fn a_log_is_prepared_and_evaluated_the_same_every_time() {
    let dir = files(&[("log.csv", &small_log())]);
    let (log, out) = (within(&dir, "log.csv"), within(&dir, "out"));
    let prepared = run(&["prepare", &log, "--out", &out, "--json"]);
    assert!(prepared.status.success(), "{}", stderr(&prepared));
    let summary: serde_json::Value = serde_json::from_str(stdout(&prepared)).unwrap();
    assert_eq!(
        (summary["read"]["events"].as_u64(), summary["selection"]["users_light"].as_u64()),
        (Some(320), Some(21))
    );
    let events = within(&dir, "out/events.csv");
    let first = fs::read(&events).unwrap();
    assert!(run(&["prepare", &log, "--out", &out]).status.success());
    assert_eq!(fs::read(&events).unwrap(), first);

    let (page, lists) = (within(&dir, "report.html"), within(&dir, "lists.jsonl"));
    let settings = ["--set", "time.tick=1s", "--set", "popular.slide=80s"];
    let evaluated = run(&[&["evaluate", &events, "--report", &page, "--lists", &lists], &settings[..]].concat());
    assert!(evaluated.status.success(), "{}", stderr(&evaluated));
    let one = usage_error(&["evaluate", &events, "--report", &page, "--lists", &page]);
    assert_eq!(one, "--lists and --report name one file; each needs one of its own");
    check_lists(&fs::read_to_string(&lists).unwrap());
    let text = stdout(&evaluated);
    for word in ["item-kNN", "recent popularity", "all items, k = 10", "skew check", "all as in training", "Report: "] {
        assert!(text.contains(word), "{word} is missing in\n{text}");
    }
    assert!(fs::read_to_string(&page).unwrap().contains("Methods side by side"));
    let json = || stdout(&run(&["evaluate", &events, "--json"])).to_owned();
    assert_eq!(json(), json());
    let value: serde_json::Value = serde_json::from_str(&json()).unwrap();
    assert_eq!(value["skew"]["different"], 0);
    assert_eq!(value["evaluation"]["methods"].as_array().unwrap().len(), 4);
}

/// A list for each of four baselines and 21 users, none longer than ten and none with an item twice.
fn check_lists(lists: &str) {
    let lists: Vec<serde_json::Value> = lists.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lists.len(), 4 * 21);
    for list in &lists {
        let items: HashSet<u64> = list["items"].as_array().unwrap().iter().map(|item| item.as_u64().unwrap()).collect();
        assert!((1..=10).contains(&items.len()) && items.len() == list["items"].as_array().unwrap().len(), "{list}");
        assert!(!list["history"].as_array().unwrap().is_empty(), "{list}");
    }
    // All users are shown the same popular items.
    let popular = lists.iter().filter(|list| list["method"] == "popularity");
    assert_eq!(popular.map(|list| list["items"].to_string()).collect::<HashSet<_>>().len(), 1);
}

#[test]
fn a_log_without_events_is_told_in_one_line() {
    let twenty = "a,b,c\n".repeat(20);
    let [empty, header, rubbish, cut] = [
        ("empty.csv", ""),
        ("header.csv", "user,item,behavior,time\n\n"),
        ("rubbish.csv", "1,x,pv,3\n1,y,pv,4\n1,2,pv,z\n1,z,pv,5\n1,2,q,5\n"),
        ("cut.csv", twenty.as_str()),
    ]
    .map(|file| (files(&[file]), file.0));
    let told = |logs: &[&(tempfile::TempDir, &str)]| {
        let paths: Vec<String> = logs.iter().map(|(dir, name)| within(dir, name)).collect();
        let output = run(&[vec!["replay", "--json"], paths.iter().map(String::as_str).collect()].concat());
        assert!(output.status.success());
        let warnings: Vec<&str> = stderr(&output).lines().filter(|line| line.contains("WARN")).collect();
        assert_eq!(warnings.len(), 1, "{}", stderr(&output));
        paths.iter().zip(logs).fold(warnings[0].to_owned(), |line, (path, (_, name))| line.replace(path, name))
    };
    assert!(told(&[&empty]).ends_with("empty.csv is empty"));
    assert!(told(&[&empty, &empty]).ends_with("empty.csv, empty.csv are empty"));
    assert!(
        told(&[&header]).ends_with("header.csv: none of 2 lines is an event (there is only a header, or blanks)"),
        "{}",
        told(&[&header])
    );
    assert!(
        told(&[&rubbish, &empty, &header, &empty]).ends_with(
            "rubbish.csv, empty.csv, header.csv and 1 more: none of 7 lines is an event (most were rejected as item; check \
             source.delimiter, source.columns, source.format)"
        ),
        "{}",
        told(&[&rubbish, &empty, &header, &empty])
    );
    // What the settings tell is more, and enough.
    assert!(told(&[&cut]).contains("cut.csv: rows have 3 columns where 4 are needed"), "{}", told(&[&cut]));
}

#[test]
fn what_evaluate_is_given_must_make_sense() {
    let dir = files(&[("log.csv", &small_log())]);
    let (log, empty) = (within(&dir, "log.csv"), dir.path().to_str().unwrap());
    assert_eq!(usage_error(&["evaluate", &log, "--k", "0"]), "--k must be at least 1");
    assert_eq!(
        usage_error(&["evaluate", &log, "--algorithm", "ddpg"]),
        "--algorithm is about a model: add --model-dir DIR"
    );
    let unknown = usage_error(&["evaluate", &log, "--algorithm", "dqn"]);
    assert!(unknown.contains("\"dqn\" is not an algorithm; choose reinforce, ddpg or bcq"), "{unknown}");
    let missing = one_error(&run(&["evaluate", &log, "--model-dir", empty]), 1);
    assert!(missing.contains("none of model_reinforce.pt, model_ddpg.pt, model_bcq.pt is there"), "{missing}");
    let nowhere = one_error(&run(&["evaluate", &within(&dir, "nowhere.csv")]), 1);
    assert!(nowhere.ends_with("nowhere.csv: no such file; check the path"), "{nowhere}");
}

/// A directory in which `eddyline` stands alone, and what its `train` does there.
fn train_alone() -> (tempfile::TempDir, impl Fn() -> Output) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let program = dir.path().join("eddyline");
    fs::hard_link(env!("CARGO_BIN_EXE_eddyline"), &program).unwrap();
    let train = move || {
        let arguments = ["train", "ddpg", "log.csv", "--model-dir", "model"];
        // Where another libtorch may be.
        Command::new(&program).args(arguments).env_remove("LD_LIBRARY_PATH").output().unwrap()
    };
    (dir, train)
}

#[test]
fn train_says_how_to_get_it() {
    let (_dir, train) = train_alone();
    let told = one_error(&train(), 1);
    assert!(told.starts_with("this eddyline was built without training"), "{told}");
    let hint = "build it with: scripts/with-libtorch cargo build --release --workspace --features train";
    assert!(told.ends_with(hint), "{told}");
}

/// The loader is asked about a small program whose library is first as it was, then another one, then gone.
#[test]
fn train_says_what_is_wrong_with_libtorch() {
    let (dir, train) = train_alone();
    let compile = |source: &str, arguments: &[&str]| {
        fs::write(dir.path().join("source.c"), source).unwrap();
        let cc = Command::new("cc").arg("source.c").args(arguments).current_dir(&dir).output().unwrap();
        assert!(cc.status.success(), "{}", stderr(&cc));
    };
    let library = ["-shared", "-fPIC", "-o", "libtorch_cpu.so"];
    compile("int at_version_two(void) { return 3; }", &library);
    let rpath = format!("-Wl,-rpath,{}", dir.path().display());
    compile(
        "int at_version_two(void); int main(void) { return at_version_two(); }",
        &["-o", "eddyline-train", "-L.", "-ltorch_cpu", &rpath],
    );
    let output = train();
    assert_eq!((output.status.code(), stderr(&output)), (Some(3), ""), "it is started");
    compile("int at_version_three(void) { return 3; }", &library);
    let told = one_error(&train(), 1);
    assert!(told.starts_with("libtorch cannot be loaded (undefined symbol: at_version_two ("), "{told}");
    fs::remove_file(dir.path().join("libtorch_cpu.so")).unwrap();
    let told = one_error(&train(), 1);
    assert!(
        told.starts_with("libtorch cannot be loaded (libtorch_cpu.so is not found); run it as scripts/with-libtorch"),
        "{told}"
    );
}
