//! Servers that a run can't use: `check` and `run` say so in one line, before any event is taken.

use crate::cluster::unused_name;
use crate::pipeline::eddyline;
use crate::services::variable;
use crate::stores::{redis, sql};
use crate::world::{World, mysql_database};
use std::process::Output;
use url::Url;

/// The lines that begin with `error`.
fn errors(output: &Output) -> Vec<String> {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!told.contains("panicked") && !told.contains("hunter2"), "{told}");
    told.lines().filter(|line| line.starts_with("error")).map(str::to_owned).collect()
}

/// Both verbs refuse `settings`, in a line that has `words`, and have taken nothing.
fn refused(world: &World, settings: &[String], words: &str) {
    for verb in ["check", "run"] {
        let mut command = eddyline();
        command.arg(verb);
        let topic = [format!("kafka.brokers={}", world.brokers), format!("kafka.topic={}", world.topic)];
        for setting in topic.iter().chain(settings) {
            command.args(["--set", setting]);
        }
        let (store, state) = (world.path("refused.db"), world.path("refused.state"));
        if verb == "run" {
            command.arg("--store").arg(&store).arg("--state").arg(&state).arg("--until-end");
        }
        let output = command.output().unwrap();
        let errors = errors(&output);
        assert!(!output.status.success(), "{verb} {settings:?}");
        assert!(errors.len() == 1 && errors[0].contains(words), "{verb} {settings:?}: {errors:?}, not {words:?}");
        let stores = crate::stores::Stores { embedded: Some(store.clone()), ..Default::default() };
        assert_eq!(stores.records(), 0, "{verb} {settings:?}");
        let _ = std::fs::remove_dir_all(&state);
        let _ = std::fs::remove_file(&store);
    }
}

#[test]
fn a_broker_or_topic_that_is_not_there() {
    let Some(world) = World::new(1_000, 1) else { return };
    refused(&world, &[format!("kafka.topic={}", unused_name())], "has no topic");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    refused(&world, &[format!("kafka.brokers={nobody}")], &nobody.to_string());
}

#[test]
fn a_database_that_cannot_be_used() {
    let Some(world) = World::new(1_000, 1) else { return };
    let Some(address) = variable("EDDYLINE_TEST_MYSQL") else { return };
    let changed = |change: &dyn Fn(&mut Url)| {
        let mut url = Url::parse(&address).unwrap();
        change(&mut url);
        vec![format!("mysql.url={url}")]
    };
    refused(&world, &changed(&|url| url.set_password(Some("hunter2")).unwrap()), "refuses the user");
    refused(&world, &changed(&|url| url.set_path("no_such_database")), "has no database");
    refused(&world, &changed(&|url| url.set_query(Some("ssl-mode=verify_identity"))), "TLS");
    let shaped = mysql_database(&address);
    let name = shaped.path().trim_start_matches('/');
    sql(&shaped, &format!("CREATE TABLE `{name}`.`record` (`user` INT, `item` INT, PRIMARY KEY (`user`, `item`))"));
    refused(&world, &[format!("mysql.url={shaped}")], "has another shape");
    sql(&shaped, &format!("DROP DATABASE `{name}`"));
}

#[test]
fn a_user_of_mysql_without_rights() {
    let Some(world) = World::new(1_000, 1) else { return };
    let Some(address) = variable("EDDYLINE_TEST_MYSQL") else { return };
    for (granted, words) in [
        ("SELECT", "command denied"),
        // One is missing, and a run would want it only in the middle.
        ("SELECT, INSERT, UPDATE, CREATE, DROP, ALTER, INDEX", "DELETE command denied"),
    ] {
        let root = mysql_database(&address);
        let (database, name) = (root.path().trim_start_matches('/'), unused_name());
        let user = format!("'{}'@'%'", &name[..name.len().min(32)]);
        sql(&root, &format!("CREATE USER {user} IDENTIFIED BY 'hunter2'; GRANT {granted} ON `{database}`.* TO {user}"));
        let mut limited = root.clone();
        limited.set_username(&name[..name.len().min(32)]).unwrap();
        limited.set_password(Some("hunter2")).unwrap();
        refused(&world, &[format!("mysql.url={limited}")], words);
        sql(&root, &format!("DROP DATABASE `{database}`; DROP USER {user}"));
    }
}

#[test]
fn a_redis_that_cannot_be_used() {
    let Some(world) = World::new(1_000, 1) else { return };
    let Some(address) = variable("EDDYLINE_TEST_REDIS") else { return };
    let mut url = Url::parse(&address).unwrap();
    url.set_password(Some("hunter2")).unwrap();
    refused(&world, &[format!("redis.url={url}")], "refuses the login");
    let url = Url::parse(&address).unwrap();
    let prefix = format!("{}:", unused_name());
    let settings = [format!("redis.url={url}"), format!("output.redis_prefix={prefix}")];
    redis(&url, &format!("SET {prefix}popular 7"));
    refused(&world, &settings, "is a string and not a list");
    redis(&url, &format!("DEL {prefix}popular"));
    redis(&url, &format!("RPUSH {prefix}hist_1 7"));
    refused(&world, &settings, "is there, and is not Eddyline's");
    redis(&url, &format!("DEL {prefix}hist_1"));
    let user = unused_name();
    redis(&url, &format!("ACL SETUSER {user} on >hunter2 ~{prefix}* +@read +@scripting +@connection"));
    let mut reader = url.clone();
    reader.set_username(&user).unwrap();
    reader.set_password(Some("hunter2")).unwrap();
    let settings = [format!("redis.url={reader}"), format!("output.redis_prefix={prefix}")];
    refused(&world, &settings, "grant it with: ACL SETUSER");
    redis(&url, &format!("ACL DELUSER {user}"));
}

#[test]
fn a_mongodb_that_cannot_be_used() {
    let Some(world) = World::new(1_000, 1) else { return };
    if variable("EDDYLINE_TEST_MONGODB").is_none() {
        return;
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    refused(&world, &[format!("mongodb.uri=mongodb://{nobody}")], &nobody.to_string());
}
