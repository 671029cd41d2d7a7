//! What a run is told when a database can't be used: one line, before anything is written.

use super::super::replay::Replay;
use super::super::services::variable;
use super::{Scratch, content, expected, live, run, write_all};
use eddyline::secret::Secret;
use eddyline::sinks::redis::{RedisError, RedisOptions, RedisSink};
use eddyline::sinks::stop::Stop;
use std::net::TcpListener;
use url::Url;

fn refusal(scratch: &Scratch, url: &str) -> RedisError {
    let options = RedisOptions { url: Secret::new(url), ..scratch.options() };
    let error = RedisSink::open(&options, &run(), &Stop::default()).err().expect("the database is refused");
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
    let place = scratch.place();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = refusal(&scratch, &format!("redis://:hunter2@{nobody}"));
    assert_eq!(
        error.to_string(),
        format!("cannot reach Redis at {nobody}/0: connection refused; check that it runs there, and the address")
    );
    assert!(error.is_retryable());
    let advice = "set user and password in its address, as in redis://user:password@host";
    let wrong = with(&scratch, |url| url.set_password(Some("hunter2")).unwrap());
    let error = refusal(&scratch, &wrong);
    assert!(!error.is_retryable());
    assert_eq!(error.to_string(), format!("{place} refuses the login: wrong user or password; {advice}"));
    let none = with(&scratch, |url| url.set_password(None).unwrap());
    assert_eq!(
        refusal(&scratch, &none).to_string(),
        format!("{place} refuses the login: it wants a password; {advice}")
    );
    let error = refusal(&scratch, &with(&scratch, |url| url.set_path("77777"))).to_string();
    assert!(error.contains("has no database of that number (DB index is out of range)"), "{error}");
    let error = refusal(&scratch, &with(&scratch, |url| url.set_path("shop"))).to_string();
    assert!(error.starts_with("cannot use the address of Redis: it is not of the form redis://"), "{error}");
}

#[test]
fn a_missing_right_comes_with_what_grants_it() {
    let Some(scratch) = Scratch::new() else { return };
    let user = format!("reader_{}", std::process::id());
    let url = with(&scratch, |url| {
        url.set_username(&user).unwrap();
        url.set_password(Some("hunter2")).unwrap();
    });
    let place = scratch.place();
    scratch.cli(&["ACL", "SETUSER", &user, "on", ">hunter2", "~shop:*", "+@read", "+@connection"]);
    let error = refusal(&scratch, &url).to_string();
    assert!(error.starts_with(&format!("{place} does not allow the user what is needed (")), "{error}");
    let advice = format!("ACL SETUSER {user} ~shop:* +@read +@write +@scripting +@connection");
    assert!(error.ends_with(&format!("; grant it with: {advice}")), "{error}");
    // What is advised suffices.
    scratch.cli(&advice.split(' ').collect::<Vec<_>>());
    let options = RedisOptions { url: Secret::new(url), ..scratch.options() };
    write_all(&mut RedisSink::open(&options, &run(), &Stop::default()).unwrap(), &Replay::large(1), 1);
    assert_eq!(content(&scratch), expected(&Replay::large(1)));
    scratch.cli(&["ACL", "DELUSER", &user]);
}

#[test]
fn keys_of_other_types_are_refused_before_anything_is_written() {
    for (key, command, found, wanted) in [
        ("shop:eddyline_meta", "SET", "string", "hash"),
        ("shop:popular", "SET", "string", "list"),
        ("shop:1", "RPUSH", "list", "string"),
        ("shop:hist_7", "SET", "string", "list"),
        ("shop:rec_7", "RPUSH", "list", "string"),
    ] {
        let Some(scratch) = Scratch::new() else { return };
        scratch.cli(&[command, key, "mine"]);
        let error = refusal(&scratch, scratch.url.as_str());
        assert_eq!(
            error.to_string(),
            format!(
                "the key {key} of {} is a {found} and not a {wanted}, so it is not Eddyline's; rename or delete it, or use \
                 another output.redis_prefix",
                scratch.place()
            )
        );
        assert_eq!(scratch.cli(&["DBSIZE"]), "1");
    }
}

#[test]
fn a_key_of_another_type_that_comes_later_is_left_alone() {
    let Some(scratch) = Scratch::new() else { return };
    let mut sink = scratch.open(&live(1));
    scratch.cli(&["SET", "shop:popular", "mine"]);
    let error = Replay::large(1)
        .batches(1)
        .iter()
        .find_map(|batch| {
            eddyline::sinks::Sink::write(&mut sink, batch).unwrap();
            eddyline::sinks::Sink::flush(&mut sink).err()
        })
        .unwrap();
    assert_eq!(
        error.to_string(),
        format!(
            "the key shop:popular of {} is a string and not a list, so it is not Eddyline's; rename or delete it, or use \
             another output.redis_prefix",
            scratch.place()
        )
    );
    assert_eq!(scratch.cli(&["GET", "shop:popular"]), "mine");
}

#[test]
fn keys_of_others_are_left_alone() {
    let Some(scratch) = Scratch::new() else { return };
    scratch.cli(&["SET", "shop:rec_123", "mine"]);
    assert_eq!(
        refusal(&scratch, scratch.url.as_str()).to_string(),
        format!(
            "the key shop:rec_123 of {} is there, and is not Eddyline's; run with --purge to delete all keys of such names, \
             or use another output.redis_prefix",
            scratch.place()
        )
    );
    assert_eq!(scratch.cli(&["DBSIZE"]), "1");
}

#[test]
fn newer_keys_are_refused() {
    let Some(scratch) = Scratch::new() else { return };
    drop(scratch.open(&run()));
    scratch.cli(&["HSET", "shop:eddyline_meta", "version", "7"]);
    assert_eq!(
        refusal(&scratch, scratch.url.as_str()).to_string(),
        format!(
            "cannot write {}: its keys have version 7, and this program knows versions up to 1; use the program that wrote \
             them, or another output.redis_prefix",
            scratch.place()
        )
    );
}

#[test]
fn tls_is_verified_by_the_ca_that_the_address_names() {
    let Some(scratch) = Scratch::new() else { return };
    let (Some(address), Some(ca)) = (variable("EDDYLINE_TEST_REDIS_TLS"), variable("EDDYLINE_TEST_REDIS_CA")) else {
        return;
    };
    let mut url = Url::parse(&address).unwrap();
    url.set_path(scratch.url.path());
    let error = refusal(&scratch, url.as_str()).to_string();
    let place = format!("Redis at {}:{}{}", url.host_str().unwrap(), url.port().unwrap(), url.path());
    assert!(error.starts_with(&format!("cannot connect to {place} by TLS: ")), "{error}");
    assert!(error.contains("UnknownIssuer"), "{error}");
    url.set_query(Some("ca=/nowhere.pem"));
    assert_eq!(
        refusal(&scratch, url.as_str()).to_string(),
        "cannot use the address of Redis: cannot read the file of its option ca, /nowhere.pem: there is no such file or \
         directory"
    );
    url.set_query(Some(&format!("ca={ca}")));
    let options = RedisOptions { url: Secret::new(url.as_str()), ..scratch.options() };
    write_all(&mut RedisSink::open(&options, &run(), &Stop::default()).unwrap(), &Replay::large(1), 1);
    assert_eq!(content(&scratch), expected(&Replay::large(1)));
    // A server that speaks TLS to one that does not, and the other way round.
    let plain = with(&scratch, |url| url.set_query(None)).replace("redis://", "rediss://");
    assert!(!refusal(&scratch, &plain).to_string().is_empty());
}
