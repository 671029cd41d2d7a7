//! An address → a database that answers.

use super::MongoOptions;
use super::command::Store;
use super::error::{MongoError, Place};
use crate::sinks::stop::Stop;
use mongodb::ClientSession;
use mongodb::bson::{Binary, Bson, rawdoc};
use mongodb::options::{ClientOptions, ServerAddress, Tls, TlsOptions};
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::watch;

/// How long to look for a server before that counts as a failure, which is tried again; where the address does not say.
const SERVER_WAIT: Duration = Duration::from_secs(5);
/// What the server calls us in its log.
const APPLICATION: &str = "eddyline";
/// What a name may not have.
const FORBIDDEN: [char; 12] = ['/', '\\', '.', ' ', '"', '$', '*', '<', '>', ':', '|', '?'];
const NAME_BYTES_MAX: usize = 63;

/// Prepares to talk to a database. Nothing is sent yet.
pub(super) async fn connect(options: &MongoOptions, stop: &Stop) -> Result<Store, MongoError> {
    let name = &options.database;
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(FORBIDDEN) || name.contains('\0') {
        return Err(MongoError::DatabaseName(name.clone()));
    }
    let mut parsed = parse(&options.uri.reveal()?).await?;
    parsed.app_name.get_or_insert_with(|| APPLICATION.to_owned());
    parsed.server_selection_timeout.get_or_insert(SERVER_WAIT);
    parsed.connect_timeout.get_or_insert(SERVER_WAIT);
    let hosts: Vec<String> = parsed.hosts.iter().map(ToString::to_string).collect();
    let place = Place { hosts: hosts.join(","), database: name.clone() };
    let assumes_tls = parsed.tls.is_none() && !parsed.hosts.iter().all(is_on_this_machine);
    if assumes_tls {
        parsed.tls = Some(Tls::Enabled(TlsOptions::default()));
    }
    let client = mongodb::Client::with_options(parsed).map_err(|error| MongoError::new(&place, &error))?;
    let (raise, stopped) = watch::channel(false);
    stop.on_raise(move || {
        raise.send_replace(true);
    });
    Ok(Store { database: client.database(name), client, place, assumes_tls, stopped })
}

fn is_on_this_machine(server: &ServerAddress) -> bool {
    match server {
        ServerAddress::Tcp { host, .. } => {
            host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        }
        // A socket in the file system.
        _ => true,
    }
}

/// The driver's words may quote the address, and a piece of a password with it; so they are passed on only where there can be
/// none.
async fn parse(address: &str) -> Result<ClientOptions, MongoError> {
    let rest = address.strip_prefix("mongodb://").or_else(|| address.strip_prefix("mongodb+srv://"));
    let Some(rest) = rest else {
        return Err(MongoError::Address("it does not begin with mongodb:// or mongodb+srv://".into()));
    };
    let after_hosts = rest.find(['/', '?']).map_or("", |end| &rest[end..]);
    if after_hosts.contains('@') {
        // What the driver would take for hosts is user and password.
        return Err(MongoError::Address("user and password must be percent-encoded (/ is %2F, @ is %40)".into()));
    }
    let is_secret = rest.contains('@') || rest.to_ascii_lowercase().contains("password");
    ClientOptions::parse(address).await.map_err(|error| match &*error.kind {
        mongodb::error::ErrorKind::DnsResolve { .. } if !is_secret => {
            MongoError::Unreachable { hosts: rest.to_owned(), reason: error.kind.to_string() }
        }
        mongodb::error::ErrorKind::DnsResolve { .. } => {
            MongoError::Unreachable { hosts: "its address".into(), reason: "its name cannot be resolved".into() }
        }
        kind if !is_secret => MongoError::Address(kind.to_string()),
        _ => MongoError::Address("the driver does not understand it".into()),
    })
}

/// A session for transactions, if the server has them: a replica set or a sharded cluster does, one that stands alone does
/// not.
pub(super) async fn session(store: &Store) -> Result<Option<ClientSession>, MongoError> {
    let hello = store.run(None, rawdoc! { "hello": 1 }).await?;
    if !hello.contains_key("setName") && !hello.get_str("msg").is_ok_and(|message| message == "isdbgrid") {
        return Ok(None);
    }
    store.answer(store.client.start_session().into_future()).await.map(Some)
}

/// What the server calls a session.
pub(super) fn session_id(session: &ClientSession) -> Option<Binary> {
    match session.id().get("id") {
        Some(Bson::Binary(id)) => Some(id.clone()),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_cannot_be_read_do_not_show_their_password() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let told = |address: &str| runtime.block_on(parse(address)).unwrap_err().to_string();
        for address in [
            "mongodb://shop:hun/ter2@db/",
            "mongodb://shop:hun@ter2@db:x/",
            "mongodb://shop:hunter2@db:hunter2",
            "mongodb://shop:hun:ter2@",
            "mongodb://db:x/?tlsCertificateKeyFilePassword=hunter2",
            "hunter2",
        ] {
            let told = told(address);
            assert!(!told.contains("hun") && !told.contains("ter2"), "{told}");
        }
        assert!(is_on_this_machine(&ServerAddress::parse("[::1]:5").unwrap()));
        assert!(is_on_this_machine(&ServerAddress::parse("127.0.0.1").unwrap()));
        assert!(!is_on_this_machine(&ServerAddress::parse("10.0.0.1").unwrap()));
        assert!(told("mongodb://db:x/").contains('x'), "{}", told("mongodb://db:x/"));
    }
}
