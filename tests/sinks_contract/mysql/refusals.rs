//! What a run is told when a database can't be used: one line, before anything is written.

use super::super::replay::Replay;
use super::super::services::variable;
use super::{Scratch, VARIABLE, content, live, run, write_all};
use eddyline::secret::Secret;
use eddyline::sinks::identity::OtherPipeline;
use eddyline::sinks::mysql::{MySqlError, MySqlOptions, MySqlSink, TimeLimits};
use eddyline::sinks::stop::Stop;
use std::net::TcpListener;
use url::Url;

fn refusal(url: &str) -> MySqlError {
    let options = MySqlOptions { url: Secret::new(url), limits: TimeLimits::default() };
    let error = MySqlSink::open(&options, &run(), &Stop::default()).err().expect("the database is refused");
    let text = format!("{error} {error:?}");
    assert!(!text.contains("hunter2") && !error.to_string().contains('\n'), "{text}");
    error
}

fn with(scratch: &Scratch, change: impl FnOnce(&mut Url)) -> String {
    let mut url = scratch.url.clone();
    change(&mut url);
    url.into()
}

#[test]
fn a_wrong_address_a_wrong_login_and_a_missing_database_are_told_apart() {
    let Some(scratch) = Scratch::new() else { return };
    let (server, user) = (scratch.server(), scratch.url.username().to_owned());
    let nobody = { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    let error = refusal(&format!("mysql://shop:hunter2@{nobody}/flink"));
    assert_eq!(
        error.to_string(),
        format!("cannot reach MySQL at {nobody}: connection refused; check that it runs there, and the address")
    );
    assert!(error.is_retryable());
    let wrong = with(&scratch, |url| url.set_password(Some("hunter2")).unwrap());
    assert_eq!(
        refusal(&wrong).to_string(),
        format!("MySQL at {server} refuses the user {user}: wrong user or password, or not allowed from this machine")
    );
    let missing = with(&scratch, |url| url.set_path("eddyline_nowhere"));
    assert_eq!(
        refusal(&missing).to_string(),
        format!(
            "MySQL at {server} has no database eddyline_nowhere, or hides it from the user {user}; make it with: CREATE \
             DATABASE `eddyline_nowhere` CHARACTER SET utf8mb4"
        )
    );
    assert!(refusal(&with(&scratch, |url| url.set_path(""))).to_string().contains("it is not of the form mysql://"));
    let unknown = with(&scratch, |url| url.set_query(Some("ssl-mode=maybe")));
    assert_eq!(
        refusal(&unknown).to_string(),
        "cannot use the address of MySQL: its option ssl-mode can be: disabled, required, verify_ca, verify_identity"
    );
}

#[test]
fn a_missing_right_comes_with_what_grants_it() {
    let Some(scratch) = Scratch::new() else { return };
    let (name, place) = (scratch.name(), scratch.place());
    let reader = format!("reader_{}", std::process::id());
    scratch.sql(&format!(
        "CREATE OR REPLACE USER '{reader}'@'%' IDENTIFIED BY 'hunter2'; GRANT SELECT ON `{name}`.* TO '{reader}'@'%'"
    ));
    let url = with(&scratch, |url| {
        url.set_username(&reader).unwrap();
        url.set_password(Some("hunter2")).unwrap();
    });
    let error = refusal(&url).to_string();
    scratch.sql(&format!("DROP USER '{reader}'@'%'"));
    assert!(
        error.starts_with(&format!("the user {reader} lacks a right in {place} (CREATE command denied")),
        "{error}"
    );
    assert!(
        error.ends_with(&format!(
            "; grant it with: GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX ON `{name}`.* TO `{reader}`"
        )),
        "{error}"
    );
}

/// The tables of the deployment that this program replaces.
#[test]
fn a_table_of_another_shape_comes_with_what_migrates_it() {
    let Some(scratch) = Scratch::new() else { return };
    let place = scratch.place();
    scratch.sql("CREATE TABLE `record` (`user` INT, `item` INT, `time` DATETIME, PRIMARY KEY (`user`, `item`))");
    assert_eq!(
        refusal(scratch.url.as_str()).to_string(),
        format!(
            "the table record of {place} has another shape (it has another key); migrate it with: RENAME TABLE `record` TO \
             `record_before_eddyline`"
        )
    );
    scratch.sql("RENAME TABLE `record` TO `record_before_eddyline`");
    scratch.sql("CREATE TABLE `top` (`rank` INT PRIMARY KEY, `item` INT NOT NULL, `count` BIGINT NOT NULL)");
    let error = refusal(scratch.url.as_str()).to_string();
    let statements =
        "ALTER TABLE `top` MODIFY COLUMN `item` BIGINT NOT NULL, ADD COLUMN `window_end` DATETIME(3) NOT NULL";
    assert_eq!(
        error,
        format!(
            "the table top of {place} has another shape (item is int(11); it has no column window_end); migrate it with: \
             {statements}"
        )
    );
    // What is advised works.
    scratch.sql(statements);
    write_all(&mut scratch.open(&run()), &Replay::large(1), 1);
}

#[test]
fn rows_of_others_are_left_alone_unless_they_may_be_purged() {
    let Some(scratch) = Scratch::new() else { return };
    write_all(&mut scratch.open(&run()), &Replay::large(1), 1);
    scratch.sql("DROP TABLE `eddyline_meta`");
    let before = content(&scratch);
    assert_eq!(
        refusal(scratch.url.as_str()).to_string(),
        format!(
            "the table record of {} holds rows that are not Eddyline's; run with --purge to delete them, or name another \
             database",
            scratch.place()
        )
    );
    assert_eq!(content(&scratch), before);
    let mut purge = live(1);
    purge.other_pipeline = OtherPipeline::Purge;
    drop(scratch.open(&purge));
    assert!(content(&scratch).values().all(Vec::is_empty));
}

#[test]
fn newer_tables_are_refused() {
    let Some(scratch) = Scratch::new() else { return };
    drop(scratch.open(&run()));
    scratch.sql("UPDATE `eddyline_meta` SET `schema_version` = 7");
    assert_eq!(
        refusal(scratch.url.as_str()).to_string(),
        format!(
            "cannot write {}: its tables have version 7, and this program knows versions up to 1; use the program that wrote \
             them, or name another database",
            scratch.place()
        )
    );
}

#[test]
fn a_behaviour_that_the_column_has_no_room_for_is_refused() {
    let mut run = run();
    run.behaviors.push("a".repeat(17));
    let options = MySqlOptions { url: Secret::new("mysql://db/flink"), limits: TimeLimits::default() };
    let error = MySqlSink::open(&options, &run, &Stop::default()).err().unwrap();
    assert_eq!(
        error.to_string(),
        "cannot keep the behaviour \"aaaaaaaaaaaaaaaaa\" in MySQL: its column holds 16 characters; give it a shorter name"
    );
}

#[test]
fn tls_is_verified_by_the_ca_that_the_address_names() {
    let (Some(scratch), Some(ca)) = (Scratch::new(), variable("EDDYLINE_TEST_MYSQL_CA")) else { return };
    let user = format!("secure_{}", std::process::id());
    scratch.sql(&format!(
        "CREATE OR REPLACE USER '{user}'@'%' IDENTIFIED BY 'hunter2' REQUIRE SSL; GRANT ALL ON `{}`.* TO '{user}'@'%'",
        scratch.name()
    ));
    let url = |query: &str| {
        with(&scratch, |url| {
            url.set_username(&user).unwrap();
            url.set_password(Some("hunter2")).unwrap();
            url.set_query(Some(query));
        })
    };
    let options = |query: &str| MySqlOptions { url: Secret::new(url(query)), limits: TimeLimits::default() };
    for query in [
        format!("ssl-mode=verify_identity&ssl-ca={ca}"),
        format!("ssl-mode=verify_ca&ssl-ca={ca}"),
        "ssl-mode=required".into(),
    ] {
        MySqlSink::open(&options(&query), &run(), &Stop::default()).unwrap();
    }
    assert!(refusal(&url("ssl-mode=disabled")).to_string().contains("refuses the user"));
    let error = refusal(&url("ssl-mode=verify_identity")).to_string();
    assert!(error.starts_with(&format!("cannot connect to MySQL at {} by TLS: ", scratch.server())), "{error}");
    assert!(error.contains("UnknownIssuer"), "{error}");
    assert_eq!(
        refusal(&url("ssl-mode=verify_ca&ssl-ca=/nowhere.pem")).to_string(),
        "cannot use the address of MySQL: cannot read the file of its option ssl-ca, /nowhere.pem: there is no such file or \
         directory"
    );
    scratch.sql(&format!("DROP USER '{user}'@'%'"));
    drop(variable(VARIABLE));
}
