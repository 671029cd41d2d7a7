//! The way to the server: connecting, and what its errors mean.

use super::MySqlOptions;
use super::error::MySqlError;
use crate::sinks::address::{Address, AddressError, Form};
use crate::sinks::disk;
use crate::sinks::runtime::{ClientRuntime, Halt, TimeLimits, network_reason};
use crate::sinks::stop::Stop;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Error, IoError, Opts, OptsBuilder, Row, SslOpts, Value};
use std::fs;
use std::io;
use std::time::{Duration, Instant};

/// What the address looks like. Options are named as those of MySQL's own programs.
const FORM: Form = Form {
    schemes: &["mysql"],
    example: "mysql://user:password@host:3306/database",
    port: 3306,
    options: &["ssl-mode", "ssl-ca"],
};

/// Values of `ssl-mode`. Without it: `disabled` on this machine, `verify_identity` elsewhere.
const MODES: &[&str] = &["disabled", "required", "verify_ca", "verify_identity"];

/// A connection that has been idle for longer is asked whether it is still there before it is used.
const TRUSTED: Duration = Duration::from_secs(20);

/// What every session begins with. A value that does not fit is an error and not cut; times are in UTC. A lock is waited for
/// less long than a call; and a client that has vanished without a word does not hold its locks for hours.
const SESSION: &str = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,\
                       NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', innodb_lock_wait_timeout = 20, lock_wait_timeout = 50, \
                       wait_timeout = 120";

/// A server, connected to when need be.
pub(super) struct Server {
    runtime: ClientRuntime,
    options: Opts,
    limits: TimeLimits,
    connection: Option<Conn>,
    used: Instant,
    server: String,
    user: String,
    database: String,
}

impl Server {
    pub(super) fn new(options: &MySqlOptions, stop: &Stop) -> Result<Server, MySqlError> {
        let address = Address::parse(&options.url, &FORM)?;
        let database = address.path.clone().ok_or(AddressError::Form { example: FORM.example })?;
        let user = address.user.clone().unwrap_or_default();
        let builder = OptsBuilder::default()
            .ip_or_hostname(address.host.clone())
            .tcp_port(address.port)
            .user(Some(user.clone()))
            .pass(address.password.as_ref().map(|password| password.reveal()))
            .db_name(Some(database.clone()))
            .ssl_opts(tls(&address)?)
            .prefer_socket(false)
            .stmt_cache_size(0)
            .tcp_keepalive(Some(Duration::from_secs(30)))
            .setup(vec![SESSION]);
        Ok(Server {
            runtime: ClientRuntime::new(stop).map_err(MySqlError::Runtime)?,
            options: builder.into(),
            limits: options.limits,
            connection: None,
            used: Instant::now(),
            server: address.server(),
            user,
            database,
        })
    }

    /// The database, as messages name it.
    pub(super) fn place(&self) -> String {
        format!("the MySQL database {} at {}", self.database, self.server)
    }

    /// Makes sure that there is a connection that works.
    pub(super) fn connect(&mut self) -> Result<(), MySqlError> {
        if self.connection.is_some()
            && self.used.elapsed() > TRUSTED
            && self.call("", async |conn| conn.ping().await).is_err()
        {
            self.disconnect();
        }
        if self.connection.is_none() {
            match self.runtime.run(self.limits.connect, Conn::new(self.options.clone())) {
                Err(Halt::Stopped) => return Err(MySqlError::Stopped),
                Err(Halt::TimedOut(limit)) => {
                    return Err(self.unreachable(format!("no answer within {} s", limit.as_secs())));
                }
                Ok(Err(error)) => return Err(self.refusal(error)),
                Ok(Ok(connection)) => self.connection = Some(connection),
            }
            self.used = Instant::now();
        }
        Ok(())
    }

    /// Gives the connection up, and with it a transaction that is open and locks that are held.
    pub(super) fn disconnect(&mut self) {
        self.connection = None;
    }

    /// Runs a statement. `table`: what it is about, for messages.
    pub(super) fn execute(&mut self, table: &str, statement: impl AsRef<[u8]>) -> Result<(), MySqlError> {
        self.call(table, async |conn| conn.query_drop(statement.as_ref()).await)
    }

    /// Runs a query; its rows as text.
    pub(super) fn query(
        &mut self,
        table: &str,
        query: impl AsRef<[u8]>,
    ) -> Result<Vec<Vec<Option<String>>>, MySqlError> {
        let text = |value| match value {
            Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            // A query without parameters is answered in text only.
            _ => None,
        };
        let rows: Vec<Row> = self.call(table, async |conn| conn.query(query.as_ref()).await)?;
        Ok(rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect())
    }

    fn call<T>(&mut self, table: &str, call: impl AsyncFnOnce(&mut Conn) -> Result<T, Error>) -> Result<T, MySqlError> {
        let Some(connection) = self.connection.as_mut() else {
            return Err(MySqlError::Broken { database: self.place(), reason: "it has been given up".into() });
        };
        let outcome = self.runtime.run(self.limits.call, call(connection));
        self.used = Instant::now();
        match outcome {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(self.failure(table, error)),
            Err(Halt::Stopped) => Err(MySqlError::Stopped),
            Err(Halt::TimedOut(limit)) => Err(MySqlError::Silent { database: self.place(), limit }),
        }
    }

    fn unreachable(&self, reason: String) -> MySqlError {
        MySqlError::Unreachable { server: self.server.clone(), reason }
    }

    /// Why there is no connection.
    fn refusal(&self, error: Error) -> MySqlError {
        let (server, user) = (self.server.clone(), self.user.clone());
        let tls = |reason| MySqlError::Tls { server: self.server.clone(), reason };
        match error {
            Error::Server(error) => match error.code {
                1045 | 1130 | 1698 => MySqlError::Refused { server, user },
                1044 | 1049 => MySqlError::NoDatabase { server, user, database: self.database.clone() },
                3159 => tls("the server wants TLS; say ?ssl-mode=required".into()),
                _ => self.failure("", Error::Server(error)),
            },
            Error::Io(IoError::Tls(error)) => tls(error.to_string()),
            Error::Io(IoError::Io(error)) if is_of_tls(&error) => tls(error.to_string()),
            Error::Io(IoError::Io(error)) => self.unreachable(network_reason(&error)),
            Error::Driver(DriverError::NoClientSslFlagFromServer) => tls("the server has none".into()),
            error => self.unreachable(error.to_string()),
        }
    }

    /// A right is missing.
    pub(super) fn lacks(&self, message: String) -> MySqlError {
        let (name, user) = (self.database.clone(), self.user.clone());
        MySqlError::Rights { database: self.place(), name, user, message }
    }

    /// Why a call failed.
    fn failure(&self, table: &str, error: Error) -> MySqlError {
        let database = self.place();
        match error {
            Error::Server(error) => match error.code {
                1044 | 1142 | 1143 | 1227 | 1370 | 1410 => self.lacks(one_line(&error.message)),
                code => {
                    let table = if table.is_empty() { "tables" } else { table }.to_owned();
                    MySqlError::Server { database, table, code, message: one_line(&error.message) }
                }
            },
            Error::Io(IoError::Io(error)) => MySqlError::Broken { database, reason: network_reason(&error) },
            error => MySqlError::Broken { database, reason: one_line(&error.to_string()) },
        }
    }
}

fn is_of_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

/// A server's message may quote what it was sent.
fn one_line(message: &str) -> String {
    const LONGEST: usize = 200;
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}

/// How to secure the connection, if at all.
fn tls(address: &Address) -> Result<Option<SslOpts>, MySqlError> {
    let usual = if address.is_loopback() { "disabled" } else { "verify_identity" };
    let mode = address.option("ssl-mode").unwrap_or(usual).to_ascii_lowercase();
    let mut options = SslOpts::default();
    if let Some(path) = address.option("ssl-ca") {
        let certificates = fs::read(path).map_err(|error| AddressError::File {
            name: "ssl-ca",
            path: path.into(),
            reason: disk::reason(&error),
        })?;
        options = options.with_root_certs(vec![certificates.into()]).with_disable_built_in_roots(true);
    }
    match mode.as_str() {
        "disabled" => Ok(None),
        "required" => Ok(Some(options.with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true))),
        "verify_ca" => Ok(Some(options.with_danger_skip_domain_validation(true))),
        "verify_identity" => Ok(Some(options)),
        _ => Err(AddressError::Value { name: "ssl-mode", known: MODES }.into()),
    }
}
